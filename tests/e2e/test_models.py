#!/usr/bin/env python3
"""Several models in one server. Method: the bundled model (English to German and French alone) beside models of the fixtures,
which say little that makes sense but always the same, under names and language pairs of the test's own.
Usage: test_models.py T5SERVE SOURCE_FOLDER"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from server import STOP_S, Reply, Server, leave_early, post, read_reply, wait_until

SOURCE = pathlib.Path(sys.argv.pop(2)).resolve()
PROGRAM = sys.argv.pop(1)
BUNDLED_NAME = "t5-tatoeba"
TEXTS = ["How are you?", "I am tired. Thank you!", "The house is small."]


def make_model(top, folder, model, pairs, **profile):
    """A folder with the files of a fixture, or of another folder, and a t5serve.json of its own."""
    path = pathlib.Path(top, folder)
    path.mkdir()
    for file in (SOURCE / "tests/fixtures" / model).iterdir():
        if not file.name.startswith("expected") and file.name != "t5serve.json":
            (path / file.name).symlink_to(file)
    (path / "t5serve.json").write_text(json.dumps({"template": "", "pairs": pairs, **profile}))
    return str(path)


def bundled_model(top):
    """The bundled model with two of its pairs."""
    model = SOURCE / "models" / BUNDLED_NAME
    profile = json.loads((model / "t5serve.json").read_text())
    return make_model(top, BUNDLED_NAME, model, **{**profile, "pairs": [["en", "de"], ["en", "fr"]]})


TOP = tempfile.TemporaryDirectory()
BUNDLED = bundled_model(TOP.name)


def models(*folders):
    return [word for folder in folders for word in ("--model", folder)]


def ask(server, path="/translate", **fields):
    reply = server.post(path, json.dumps(fields).encode())
    assert reply.status == 200, reply.body
    return reply.json()


def translate_request(q, source, target, **fields):
    return post("/translate", json.dumps({"q": q, "source": source, "target": target, **fields}).encode())


def translate(server, q, source, target, **fields):
    return ask(server, q=q, source=source, target=target, **fields)


def events(reply):
    """The pieces of a stream put together, and its last event."""
    found = [json.loads(line) for line in re.findall(r"(?m)^data: (.*)$", reply.body.decode())]
    return "".join(e["text"] for e in found if "text" in e), found[-1]


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        top = cls.folder.name
        cls.italian = make_model(top, "italian", "t5-v1.1", [["en", "it"], ["en", "de"]], defaults={"num_beams": 2})
        cls.german = make_model(top, "german", "t5-v1.0", [["de", "en"]])
        cls.servers = {folder: Server(PROGRAM, "--model", folder).__enter__() for folder in (BUNDLED, cls.italian, cls.german)}
        cls.alone = {}
        for folder, other in ((BUNDLED, "fr"), (cls.italian, "it")):
            for target in ("de", other):
                for options in ({}, {"num_beams": 3, "alternatives": 1}):
                    cls.alone[folder, target, bool(options)] = [translate(cls.servers[folder], text, "en", target, **options)
                                                                for text in TEXTS]

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers.values():
            server.__exit__(None, None, None)
        cls.folder.cleanup()

    def refusal(self, *flags, env=None):
        done = subprocess.run([PROGRAM, "--port", "0", *flags], capture_output=True, text=True, timeout=120,
                              env={**os.environ, **(env or {})})
        return done.returncode, done.stderr.splitlines()[-1]

    def check_pairs(self, server, german):
        """Each pair is served by the model that is meant, with that model's defaults."""
        for folder, target in ((german, "de"), (BUNDLED, "fr"), (self.italian, "it")):
            for options in ({}, {"num_beams": 3, "alternatives": 1}):
                wanted = self.alone[folder, target, bool(options)]
                got = [translate(server, text, "en", target, **options) for text in TEXTS]
                self.assertEqual(got, wanted, (folder, target))
                together = translate(server, TEXTS, "en", target, **options)["translatedText"]
                self.assertEqual(together, [one["translatedText"] for one in wanted])

    def test_first_model_with_the_pair_wins(self):
        """Claim: every pair gets what its model says alone, and the first model that has a pair gets it. Method: both
        orders of the command line."""
        with Server(PROGRAM, *models(BUNDLED, self.italian)) as server:
            self.check_pairs(server, BUNDLED)
            for name in (BUNDLED_NAME, "italian"):
                self.assertRegex(server.log_text(), rf'(?m)^.* info model name="{name}" dir=')
        with Server(PROGRAM, *models(self.italian, BUNDLED)) as server:
            self.check_pairs(server, self.italian)

    def test_languages_are_those_of_all(self):
        """Claim: what tells of languages tells of all models. Method: each such endpoint."""
        with Server(PROGRAM, *models(BUNDLED, self.italian)) as server:
            languages = {entry["code"]: entry["targets"] for entry in server.get("/languages").json()}
            self.assertEqual(languages, {"en": ["en", "de", "fr", "it"], "de": ["de"], "fr": ["fr"], "it": ["it"]})
            self.assertEqual([x["language"] for x in server.get("/v2/languages").json()], ["EN"])
            self.assertEqual([x["language"] for x in server.get("/v2/languages?type=target").json()], ["DE", "FR", "IT"])
            detected = server.post("/detect", b"q=La tua password non e corretta", "application/x-www-form-urlencoded").json()
            self.assertEqual(detected[0]["language"], "it")
            reply = server.post("/translate", b'{"q":"Ciao","source":"it","target":"de"}')
            self.assertEqual((reply.status, reply.error),
                             (400, "German (de) is not available as a target language from Italian (it)"))
            mixed = translate(server, ["How are you?", "Der Hund schläft gern."], "auto", "de")
            self.assertEqual(mixed["translatedText"][1], "Der Hund schläft gern.")
            self.assertEqual([d["language"] for d in mixed["detectedLanguage"]], ["en", "de"])
            deepl = ask(server, "/v2/translate", text=TEXTS[:1], target_lang="IT")["translations"][0]
            self.assertEqual(deepl["text"], self.alone[self.italian, "it", False][0]["translatedText"])

    def test_ways_of_naming_them(self):
        """Claim: a models folder, an array in the file and a variable with colons name the same models as flags do."""
        with tempfile.TemporaryDirectory() as top:
            for name, folder in (("a", self.italian), ("b", BUNDLED)):
                pathlib.Path(top, name).symlink_to(folder)
            pathlib.Path(top, "no-model").mkdir()
            pathlib.Path(top, "shut").symlink_to("shut")  # as one without the right to enter, which root has everywhere
            config = pathlib.Path(top, "config.json")
            config.write_text(json.dumps({"model": [self.italian, BUNDLED]}))
            ways = [(["--models-dir", top], None), (["--config", str(config)], None),
                    ([], {"T5_MODEL": f"{self.italian}:{BUNDLED}"}), (["--model", self.italian, "--models-dir", top + "/none"], None)]
            pathlib.Path(top, "none").mkdir()
            for flags, env in ways[:3]:
                with Server(PROGRAM, *flags, env=env) as server:
                    self.check_pairs(server, self.italian)
                    wanted = [f'passed_over="{top}/shut" error="Too many levels of symbolic links"'] if flags[:1] == ["--models-dir"] else []
                    self.assertEqual(re.findall(r"passed_over=.*", server.log_text()), wanted)
            self.assertRegex(self.refusal(*ways[3][0])[1], "models_dir: .*/none: no subfolder has a config.json")

    def test_bad_models_are_named(self):
        """Claim: what is wrong with one of several models ends the start with a line that names it. Method: no folder, a
        broken file, a name that is taken."""
        with tempfile.TemporaryDirectory() as top:
            broken = make_model(top, "broken", "t5-v1.0", [["en", "it"]])
            pathlib.Path(broken, "t5serve.json").write_text("{")
            twin = make_model(top, "twin", "t5-v1.0", [["en", "it"]], name=BUNDLED_NAME)
            for folder, code, text in ((top + "/none", 1, f"model {top}/none: "), (broken, 1, f"model {broken}: "),
                                       (twin, 2, f"two models are called {BUNDLED_NAME}: {BUNDLED} and {twin}")):
                returncode, line = self.refusal(*models(BUNDLED, folder))
                self.assertEqual(returncode, code)
                self.assertIn(text, line)

    def test_text_to_text_by_name(self):
        """Claim: /generate and /v1/completions take the model that is named, the first one without, and refuse others in
        their own form. Method: against servers with one model."""
        text = "translate English to German: How are you?"
        with Server(PROGRAM, *models(BUNDLED, self.italian)) as server:
            self.assertEqual([m["id"] for m in server.get("/v1/models").json()["data"]], [BUNDLED_NAME, "italian"])
            for folder, name in ((BUNDLED, BUNDLED_NAME), (self.italian, "italian")):
                alone = self.servers[folder]
                wanted = ask(alone, "/generate", input=text, prefix="a", num_beams=2)
                completion = ask(alone, "/v1/completions", prompt=text, logprobs=1)
                self.assertEqual(ask(server, "/generate", input=text, prefix="a", num_beams=2, model=name), wanted)
                got = ask(server, "/v1/completions", prompt=text, logprobs=1, model=name)
                self.assertEqual((got["model"], got["choices"]), (name, completion["choices"]))
                streamed = server.post("/generate", json.dumps({"input": text, "model": name, "stream": True}).encode())
                pieces, last = events(streamed)
                self.assertEqual(pieces.strip(), last["texts"][0])
            self.assertEqual(ask(server, "/generate", input=text), ask(server, "/generate", input=text, model=BUNDLED_NAME))
            reply = server.post("/generate", json.dumps({"input": "x", "model": "nobody"}).encode())
            self.assertEqual((reply.status, reply.json()), (400, {"error": "Invalid request: model nobody is not served"}))
            reply = server.post("/v1/completions", json.dumps({"prompt": "x", "model": "nobody"}).encode())
            error = reply.json()["error"]
            self.assertEqual((reply.status, error["code"], error["type"]), (404, "model_not_found", "invalid_request_error"))
            self.assertIn("nobody", error["message"])
            self.assertEqual(server.post("/v1/completions", b'{"prompt":"x","model":7}').status, 400)
            for path, message, code in (("/v1/models/nobody", "does not exist", "model_not_found"), ("/v1/nothing", "not found", None)):
                reply = server.get(path)
                error = reply.json()["error"]
                self.assertEqual((reply.status, error["code"], error["type"]), (404, code, "invalid_request_error"), path)
                self.assertIn(message, error["message"])

    def pivoted(self, texts, **options):
        """What German texts become in French by way of English: the two models' own servers, one after the other."""
        first = {name: value for name, value in options.items() if name != "alternatives"}
        english = translate(self.servers[self.german], texts, "de", "en", **first)["translatedText"]
        return translate(self.servers[BUNDLED], english, "en", "fr", **options)

    def test_pivot(self):
        """Claim: where no model has a pair, two of them translate through English, with the same words as one after the
        other, and the reply says so. Method: alone and in an array, with beams and alternatives, as a stream, over DeepL's
        API; what is direct, or needs nothing, says nothing."""
        texts = ["Wie geht es dir?", "Ich bin müde. Danke!\nBis bald.", "123"]
        with Server(PROGRAM, *models(BUNDLED, self.german)) as server:
            for options in ({}, {"num_beams": 3}, {"num_beams": 3, "alternatives": 2}, {"max_new_tokens": 4}):
                wanted = self.pivoted(texts, **options)
                got = translate(server, texts, "de", "fr", **options)
                alone = translate(server, texts[1], "de", "fr", **options)
                reasons = [reply.pop("finish_reason", None) for reply in (wanted, got, alone)]
                if "max_new_tokens" in options:
                    self.assertEqual(reasons[1], "length")
                self.assertEqual(got, {**wanted, "pivot": ["en"] * 3}, options)
                self.assertEqual(alone, {**{name: value[1] for name, value in wanted.items()}, "pivot": "en"})
            wanted = self.pivoted(texts)["translatedText"]
            streamed = server.post("/translate", json.dumps(
                {"q": texts[1], "source": "de", "target": "fr", "stream": True, "num_beams": 2}).encode())
            pieces, last = events(streamed)
            self.assertEqual((streamed.status, pieces, last["pivot"]), (200, last["translatedText"], "en"))
            self.assertEqual(pieces, self.pivoted(texts[1], num_beams=2)["translatedText"])
            both = [ask(server, "/v2/translate", text=["Wie geht es dir?"], source_lang=source, target_lang="FR")
                    ["translations"][0] for source in ("DE", "EN")]
            self.assertEqual((both[0]["text"], both[0]["pivot"]), (wanted[0], "en"))
            self.assertNotIn("pivot", both[1])
            marked = translate(server, "<p>Where is <b>Tom</b>?</p>", "auto", "fr", format="html")
            self.assertEqual(translate(self.servers[BUNDLED], "<p>Where is <b>Tom</b>?</p>", "auto", "fr", format="html"), marked)
            marked = translate(server, "<p>Wo ist <b>Tom</b>?</p>", "de", "fr", format="html")
            self.assertRegex(marked["translatedText"], "^<p>.*<b>.*</b>.*</p>$")
            self.assertEqual(marked["pivot"], "en")
            self.assertNotIn("pivot", translate(server, texts, "de", "de"))
            self.assertNotIn("pivot", translate(server, texts, "en", "fr"))
            targets = {entry["code"]: entry["targets"] for entry in server.get("/languages").json()}
            self.assertEqual(targets, {"en": ["en", "de", "fr"], "de": ["en", "de", "fr"], "fr": ["fr"]})
        with Server(PROGRAM, "--pivot=false", *models(BUNDLED, self.german)) as server:
            reply = server.post("/translate", b'{"q":"Hallo","source":"de","target":"fr"}')
            self.assertEqual((reply.status, reply.error),
                             (400, "French (fr) is not available as a target language from German (de)"))

    def test_batch_that_goes_several_ways(self):
        """Claim: the texts of one request may go different ways: direct, through English, or nowhere; each keeps its place,
        and usage and streams are of all. Method: detected languages, against each text alone."""
        texts = ["How are you?", "Der Hund schläft gern auf dem Sofa.", "Le chien dort volontiers.", "How old is the dog?",
                 "Die Katze trinkt heute keine Milch."]
        with Server(PROGRAM, *models(BUNDLED, self.german)) as server:
            alone = [translate(server, text, "auto", "fr") for text in texts]
            got = translate(server, texts, "auto", "fr")
            self.assertEqual(got["translatedText"], [one["translatedText"] for one in alone])
            self.assertEqual(got["detectedLanguage"], [one["detectedLanguage"] for one in alone])
            self.assertEqual(got["pivot"], [None, "en", None, None, "en"])
            self.assertEqual([one.get("pivot") for one in alone], got["pivot"])
            reply = server.post("/translate", json.dumps({"q": texts, "source": "auto", "target": "fr", "stream": True}).encode())
            found = [json.loads(line) for line in re.findall(r"(?m)^data: (.*)$", reply.body.decode())]
            pieces = ["".join(e["text"] for e in found if e.get("index") == i) for i in range(len(texts))]
            self.assertEqual(pieces, got["translatedText"])
            usage = found[-1].pop("usage")
            self.assertEqual(found[-1].pop("finish_reason"), got.pop("finish_reason", "stop"))
            self.assertEqual(found[-1], got)
            def logged():
                return [int(n) for n in re.findall(r"source_tokens=(\d+)", server.log_text())]
            wait_until(lambda: len(logged()) == len(texts) + 2)  # a line may come after its answer
            tokens = logged()
            self.assertEqual(tokens[-1], usage["source_tokens"])
            self.assertEqual(sum(tokens[:len(texts)]), tokens[-1])

    def test_pivot_under_limits(self):
        """Claim: a deadline and the queue's limit count for both legs, and a client that leaves takes both with it. Method: long
        texts with little time, many sentences for a short queue, clients that leave at any moment; right answers and
        nothing pending afterwards."""
        text = "\n".join(f"Die Katze {i} trinkt heute keine Milch." for i in range(300))
        with Server(PROGRAM, "--metrics", *models(BUNDLED, self.german)) as server:
            wanted = translate(server, "Wie geht es dir?", "de", "fr")
            body = json.dumps({"q": text, "source": "de", "target": "fr"}).encode()
            for ms in (1, 10, 40):
                reply = server.post("/translate", body, headers=[f"X-Request-Timeout-Ms: {ms}"])
                self.assertEqual((reply.status, "retry-after" in reply.headers), (503, True), reply.body)
            for is_streamed in (False, True):
                body = json.dumps({"q": TEXTS * 3, "source": "de", "target": "fr", "stream": is_streamed}).encode()
                leave_early(server, post("/translate", body), 60)
            self.assertEqual(translate(server, "Wie geht es dir?", "de", "fr"), wanted)
            wait_until(lambda: server.metric("t5serve_requests_pending") == 1)
        with Server(PROGRAM, "--queue-depth", "3", *models(BUNDLED, self.german)) as server:
            reply = server.post("/translate", json.dumps({"q": text, "source": "de", "target": "fr"}).encode())
            self.assertEqual((reply.status, reply.error),
                             (400, "Invalid request: the request has 300 sequences, at most 3 can wait"))
            self.assertEqual(translate(server, "Wie geht es dir?", "de", "fr"), wanted)

    def test_metrics(self):
        """Claim: each model has its own numbers, and the others are their sums."""
        with Server(PROGRAM, "--metrics", *models(BUNDLED, self.italian)) as server:
            for _ in range(3):
                translate(server, "Hello.", "en", "it")
            translate(server, "Hello.", "en", "fr")
            text = server.get("/metrics").body.decode()
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            self.assertEqual(values['t5serve_model_sequences_total{model="italian"}'], "3")
            self.assertEqual(values[f't5serve_model_sequences_total{{model="{BUNDLED_NAME}"}}'], "1")
            self.assertEqual(values["t5serve_sequences_total"], "4")
            self.assertEqual(len(re.findall(r"(?m)^t5serve_model_info\{", text)), 2)

    # --- opened when needed ---

    def value(self, server, name, model):
        found = re.search(rf'(?m)^{name}\{{model="{model}"\}} (\S+)$', server.get("/metrics").body.decode())
        return float(found.group(1))

    def test_lazy_models(self):
        """Claim: a lazy model is opened by its first request, once however many come together, and answers as ever; the others
        stay closed. Method: many clients at once; streams, text to text and pivots too; the metrics count."""
        wanted = [one["translatedText"] for one in self.alone[BUNDLED, "fr", False]]
        with Server(PROGRAM, "--metrics", "--lazy-models", *models(BUNDLED, self.german, self.italian)) as server:
            self.assertEqual(server.get("/health/ready").status, 200)
            self.assertEqual({entry["code"] for entry in server.get("/languages").json()}, {"en", "de", "fr", "it"})
            self.assertIn(' device="none"', server.log_text())
            self.assertEqual(self.value(server, "t5serve_model_open", BUNDLED_NAME), 0)
            with ThreadPoolExecutor(12) as pool:
                jobs = [pool.submit(translate, server, TEXTS, "en", "fr") for _ in range(12)]
                for job in jobs:
                    self.assertEqual(job.result()["translatedText"], wanted)
            for name, is_open in ((BUNDLED_NAME, 1), ("german", 0), ("italian", 0)):
                self.assertEqual(self.value(server, "t5serve_model_open", name), is_open)
                self.assertEqual(self.value(server, "t5serve_model_opens_total", name), is_open)
            german = self.pivoted("Wie geht es dir?", num_beams=2)["translatedText"]
            body = json.dumps({"q": "Wie geht es dir?", "source": "de", "target": "fr", "stream": True, "num_beams": 2}).encode()
            pieces, last = events(server.post("/translate", body))
            self.assertEqual((pieces, last["translatedText"]), (german, german))
            body = json.dumps({"prompt": ["How are you?", "a"], "model": "italian", "logprobs": 1}).encode()
            alone = self.servers[self.italian]
            self.assertEqual(server.post("/v1/completions", body).json()["choices"],
                             alone.post("/v1/completions", body).json()["choices"])
            prefixed = {"input": ["How are you?", "a"], "prefix": "b", "num_beams": 2}
            self.assertEqual(ask(server, "/generate", model="italian", **prefixed), ask(alone, "/generate", **prefixed))

    def test_late_refusal(self):
        """Claim: a stream that has to wait for its model is told what is wrong with its request as such, so that nobody tries
        it again. Method: a prompt that is too long, for a model that is closed and then open."""
        body = json.dumps({"prompt": "word " * 5000, "model": "german", "stream": True}).encode()
        with Server(PROGRAM, "--lazy-models", *models(BUNDLED, self.german)) as server:
            late = events(server.post("/v1/completions", body))[1]["error"]
            at_once = server.post("/v1/completions", body)
            self.assertEqual((at_once.status, at_once.json()["error"]), (400, late))
            self.assertEqual(late["type"], "invalid_request_error")

    def test_waiting_for_a_model(self):
        """Claim: who waits for a model is given up at its deadline, or when it leaves, and keeps nobody else waiting; a stop
        answers who waits. Method: requests just after the start, before a model can be open."""
        with Server(PROGRAM, "--metrics", "--lazy-models", *models(BUNDLED, self.german)) as server:
            reply = server.post("/translate", b'{"q":"Hello.","source":"en","target":"fr"}', headers=["X-Request-Timeout-Ms: 1"])
            self.assertEqual((reply.status, "retry-after" in reply.headers), (503, True), reply.body)
            body = b'{"input":"Hello.","model":"german","stream":true}'
            leave_early(server, post("/generate", body), 20)
            wait_until(lambda: server.metric("t5serve_requests_pending") == 1)
            self.assertEqual(translate(server, "Hello.", "en", "fr")["translatedText"],
                             translate(server, "Hello.", "en", "fr")["translatedText"])
        for is_streamed in (False, True):
            with Server(PROGRAM, "--lazy-models", *models(BUNDLED, self.german)) as server:
                body = json.dumps({"q": TEXTS, "source": "de", "target": "fr", "stream": is_streamed}).encode()
                socks = [server.connect() for _ in range(4)]
                for sock in socks:
                    sock.sendall(post("/translate", body))
                server.process.send_signal(signal.SIGTERM)
                replies = [Reply(read_reply(sock, b"")) for sock in socks]
                self.assertTrue(all(reply.status in (200, 503) for reply in replies), [r.body for r in replies])
                self.assertEqual(server.process.wait(STOP_S), 0)

    def test_model_that_cannot_be_opened(self):
        """Claim: a lazy model that cannot be opened is 503 with its name and no path, is not tried again at once, and is when
        the time has come; others are served meanwhile. Method: a folder whose weights come later."""
        with tempfile.TemporaryDirectory() as top:
            late = make_model(top, "late", "t5-v1.0", [["de", "en"]])
            weights = pathlib.Path(late, "model.safetensors")
            weights.unlink()
            with Server(PROGRAM, "--metrics", "--lazy-models", *models(BUNDLED, late)) as server:
                begin = time.monotonic()
                for source, target in (("de", "en"), ("de", "fr")):
                    body = json.dumps({"q": "Hallo.", "source": source, "target": target}).encode()
                    reply = server.post("/translate", body)
                    self.assertEqual((reply.status, reply.error),
                                     (503, "the model late could not be opened, try again later"))
                    retry_s = int(reply.headers["retry-after"])
                    self.assertTrue(5 - (time.monotonic() - begin) <= retry_s <= 5, retry_s)
                reply = server.post("/v1/completions", b'{"prompt":"a","model":"late"}')
                self.assertEqual((reply.status, reply.json()["error"]["type"]), (503, "server_error"))
                self.assertGreaterEqual(self.value(server, "t5serve_model_open_failures_total", "late"), 1)
                server.wait_for_log(r' error model_failed name="late" retry_s=5 error=".*late.*"$')
                self.assertEqual(translate(server, TEXTS[0], "en", "fr")["translatedText"],
                                 self.alone[BUNDLED, "fr", False][0]["translatedText"])
                self.assertEqual(server.get("/health/ready").status, 200)
                weights.symlink_to(SOURCE / "tests/fixtures/t5-v1.0/model.safetensors")
                wait_until(lambda: server.post("/translate", body).status == 200)

    def test_each_model_says_when_to_come_back(self):
        """Claim: Retry-After is about the model that was asked, not about the others. Method: a model that cannot be opened
        says what is left of five seconds, one with a full queue, which hardly anybody has left yet, a second. Two long requests fill
        it; those that a machine has stopped in between are followed by two more."""
        work = translate_request("Hello.", "en", "de", num_beams=32, max_new_tokens=2000, min_new_tokens=2000)
        socks = []

        def refusal():
            for gauge in ("t5serve_sequences_running", "t5serve_queue_depth"):
                socks.append(server.connect())
                socks[-1].sendall(work)
                end = time.monotonic() + 5
                while server.metric(gauge) == 0 and time.monotonic() < end:
                    time.sleep(0.005)
            body = b'{"q":"Hello.","source":"en","target":"de"}'
            reply = server.post("/translate", body, headers=["X-Request-Timeout-Ms: 2000"])
            return reply if "queue is full" in reply.error else None

        with tempfile.TemporaryDirectory() as top:
            late = make_model(top, "late", "t5-v1.0", [["nl", "en"]])
            pathlib.Path(late, "model.safetensors").unlink()
            limits = ["--queue-depth=1", "--max-running-rows=32", "--max-new-tokens=2000", "--kv-memory=512M"]
            with Server(PROGRAM, "--metrics", "--lazy-models", *limits, *models(BUNDLED, late)) as server:
                self.assertEqual(server.raw(translate_request("Hello.", "en", "de")).status, 200)
                begin = time.monotonic()
                failed = server.raw(translate_request("Hallo.", "nl", "en"))
                failed_s = time.monotonic() - begin
                full = wait_until(refusal)
                self.assertEqual((failed.status, full.status), (503, 503))
                self.assertIn("could not be opened", failed.error)
                self.assertTrue(5 - failed_s <= int(failed.headers["retry-after"]) <= 5, failed_s)
                self.assertIn(int(full.headers["retry-after"]), (1, 2))
                for sock in socks:
                    sock.close()

    def test_idle_models_are_closed(self):
        """Claim: a model that nobody uses is closed and gives its memory back, counts on when it is opened again, and answers
        as before. Method: the shortest time; the process's memory; twice."""
        def resident():
            return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{server.process.pid}/status").read_text()).group(1))

        def was_seen_open():
            """A translation, and the memory after it; false when the model was closed before that could be read."""
            self.assertEqual(translate(server, TEXTS[0], "en", "fr")["translatedText"],
                             self.alone[BUNDLED, "fr", False][0]["translatedText"])
            seen_kb.append(resident())
            return self.value(server, "t5serve_model_open", BUNDLED_NAME) == 1

        seen_kb = []
        with Server(PROGRAM, "--metrics", "--idle-unload-s", "1", *models(BUNDLED, self.german)) as server:
            for n in (1, 2):
                wait_until(was_seen_open)
                open_kb = seen_kb[-1]
                wait_until(lambda: self.value(server, "t5serve_model_open", BUNDLED_NAME) == 0)
                self.assertEqual(self.value(server, "t5serve_model_sequences_total", BUNDLED_NAME), len(seen_kb))
                self.assertGreaterEqual(self.value(server, "t5serve_model_opens_total", BUNDLED_NAME), n)
                if not re.search("asan|tsan|sanitize", PROGRAM):  # they keep what is freed
                    wait_until(lambda: resident() < open_kb - 30000)
            server.wait_for_log(rf' info model_closed name="{BUNDLED_NAME}" ms=\d+$')
            self.assertIn("t5serve_ready 1\n", server.get("/metrics").body.decode())

    def test_limit_of_open_models(self):
        """Claim: before more models are open than models_open_max the one that was used least recently is closed; requests that
        need more of them at once get them, and what is too much is closed when it is idle. Method: a limit of two, three models
        one after the other; a limit of one, and a translation through two models, also beside others."""
        def is_open(*names):
            return [self.value(server, "t5serve_model_open", name) == 1 for name in names]

        names = (BUNDLED_NAME, "german", "italian")
        folders = models(BUNDLED, self.german, self.italian)
        with Server(PROGRAM, "--metrics", "--lazy-models", "--models-open-max", "2", *folders) as server:
            for source, target in (("en", "fr"), ("de", "en"), ("en", "fr"), ("en", "it")):
                translate(server, "Hello.", source, target)
                wait_until(lambda: server.metric("t5serve_requests_pending") == 1)  # it uses the model until then
            self.assertEqual(is_open(*names), [True, False, True])
        with Server(PROGRAM, "--metrics", "--models-open-max", "1", *folders) as server:
            wait_until(lambda: sum(is_open(*names)) == 1)
            wanted = self.pivoted(["Wie geht es dir?"])
            self.assertEqual(translate(server, ["Wie geht es dir?"], "de", "fr")["translatedText"], wanted["translatedText"])
            wait_until(lambda: sum(is_open(*names)) == 1)
            calls = [("en", "fr"), ("de", "en"), ("en", "it"), ("de", "fr")]
            right = [translate(server, TEXTS, *call)["translatedText"] for call in calls]

            def client(i):
                for n in (i, (i + 1) % len(calls)):
                    self.assertEqual(translate(server, TEXTS, *calls[n])["translatedText"], right[n])
            with ThreadPoolExecutor(4) as pool:
                for job in [pool.submit(client, i) for i in range(4)]:
                    job.result()
            wait_until(lambda: sum(is_open(*names)) == 1)

    def test_unloading_under_load(self):
        """Claim: models that are closed and opened again while clients come and go never give a wrong answer. Method: clients
        that pause for about as long as a model may be idle, and for longer, over direct and pivoted pairs and text to text."""
        with Server(PROGRAM, "--metrics", "--idle-unload-s", "1", "--lazy-models",
                    *models(BUNDLED, self.german, self.italian)) as server:
            calls = [("/translate", {"q": TEXTS, "source": "en", "target": "fr"}),
                     ("/translate", {"q": "Wie geht es dir?", "source": "de", "target": "fr"}),
                     ("/translate", {"q": TEXTS, "source": "en", "target": "it", "num_beams": 2}),
                     ("/generate", {"input": TEXTS, "model": "german"})]
            wanted = [ask(server, path, **fields) for path, fields in calls]

            def client(i):
                for k in range(12):
                    path, fields = calls[i % len(calls)]
                    self.assertEqual(ask(server, path, **fields), wanted[i % len(calls)])
                    time.sleep((0.99, 1.01, 1.5, 0.3)[(i + k) % 4])
            with ThreadPoolExecutor(4) as pool:
                for job in [pool.submit(client, i) for i in range(4)]:
                    job.result()
            self.assertGreater(sum(self.value(server, "t5serve_model_opens_total", name)
                                   for name in (BUNDLED_NAME, "german", "italian")), 3)


unittest.main(verbosity=2, warnings="ignore")
