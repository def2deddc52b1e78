#!/usr/bin/env python3
"""t5serve with the bundled model: right answers, alone and together. Usage: test_translate.py T5SERVE"""
import contextlib
import json
import select
import signal
import socket
import sys
import unittest

from server import BUNDLED, STOP_S, Reply, Server, bundled_pairs, leave_early, post, read_reply, wait_until

PROGRAM = sys.argv.pop(1)
CLIENTS = 64


def sentences(n):
    lines = (BUNDLED / "data/test.en-de.tsv").read_text(encoding="utf-8").splitlines()
    texts = [line.split("\t")[0] for line in lines]
    return list(dict.fromkeys(t for t in texts if len(t) < 80))[:n]


class Translate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--metrics").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def translated(self, text, **fields):
        reply = self.server.translate(text, **fields)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()["translatedText"]

    def test_german(self):
        """Claim: the bundled model is found without a setting and gives German."""
        self.assertRegex(self.translated("How are you?"), r"^Wie .*\?$")
        self.assertRegex(self.translated("Where is the station?"), r"^Wo ist .*\?$")
        self.assertRegex(self.translated("Where is the station?", target="fr"), r"^Où .*\?$")

    def test_languages(self):
        """Claim: /languages lists what the model can, itself among the targets."""
        pairs = bundled_pairs()
        languages = {entry["code"]: entry for entry in self.server.get("/languages").json()}
        self.assertEqual(languages["en"]["name"], "English")
        self.assertEqual(set(languages["en"]["targets"]), {"en"} | {b for a, b in pairs if a == "en"})
        self.assertEqual(set(languages), {code for pair in pairs for code in pair})

    def test_clients_that_leave_at_any_moment(self):
        """Claim: clients that leave before, while or after their answer comes do no harm. Method: close and reset at varied
        moments; the server goes on and nothing stays behind."""
        texts = ["Hello.", "I am tired.", "Where is the station?"]
        body = json.dumps({"q": texts, "source": "en", "target": "de", "max_new_tokens": 4}).encode()
        leave_early(self.server, post("/translate", body))
        self.assertRegex(self.translated("Where is the station?"), r"^Wo ist .*\?$")
        wait_until(lambda: self.server.metric("t5serve_sequences_running") == 0 and self.server.metric("t5serve_requests_pending") == 1)

    def test_spaces_and_lines_stay(self):
        """Claim: white space around and between sentences and lines comes back byte for byte."""
        text = "  Good morning.\n\n\tI am tired.  It is late.\r\n"
        got = self.translated(text)
        self.assertRegex(got, r"^  \S[^\n]*\n\n\t\S[^\n]*\S  \S[^\n]*\r\n$")

    def test_batch_equals_one_by_one(self):
        """Claim: a text's answer does not depend on what else is in its request."""
        texts = sentences(12) + ["", "   ", "42"]
        together = self.translated(texts)
        self.assertEqual(together, [self.translated(t) for t in texts[:-3]] + ["", "   ", self.translated("42")])

    def test_detection(self):
        """Claim: auto tells what it found, per text; another source tells nothing."""
        reply = self.server.translate("I would like to know where you live.", source="auto").json()
        self.assertEqual(reply["detectedLanguage"]["language"], "en")
        self.assertIsInstance(reply["detectedLanguage"]["confidence"], float)
        batch = self.server.translate(["I would like to know where you live.", "Hello my friend"], source="auto").json()
        self.assertEqual(len(batch["detectedLanguage"]), 2)
        self.assertNotIn("detectedLanguage", self.server.translate("Hello").json())

    def test_alternatives(self):
        """Claim: alternatives are a list of other texts, at most as many as asked, and stand only where asked for."""
        reply = self.server.translate("I am very tired.", alternatives=3).json()
        self.assertLessEqual(len(set(reply["alternatives"])), 3)
        self.assertGreater(len(reply["alternatives"]), 0)
        self.assertNotIn(reply["translatedText"], reply["alternatives"])
        self.assertNotIn("alternatives", self.server.translate("Hello", alternatives=0).json())

    def test_options(self):
        """Claim: decoding options reach the search: a length limit cuts, a seed repeats, an impossible one is named."""
        long = "I would like to know where the nearest train station is."
        self.assertLess(len(self.translated(long, max_new_tokens=3)), len(self.translated(long)))
        sampled = [self.translated(long, do_sample=True, num_beams=1, temperature=2.0, seed=s) for s in (1, 1, 2, 3, 4)]
        self.assertEqual(sampled[0], sampled[1])
        self.assertGreater(len(set(sampled)), 1)
        reply = self.server.translate(long, do_sample=True, num_beams=4)
        self.assertEqual(reply.status, 400)
        self.assertIn("num_beams", reply.error)

    def test_refused_options(self):
        """Claim: what the translator refuses reads like every bad request. Method: one of each kind, the limit of length from
        both sides."""
        for fields, error in [
                ({"do_sample": True, "num_beams": 4}, "Invalid request: do_sample: sampling needs num_beams 1, it is 4"),
                ({"max_new_tokens": 513}, "Invalid request: max_new_tokens: 513, at most 512 are possible"),
                ({"min_new_tokens": 9, "max_new_tokens": 8}, "Invalid request: min_new_tokens: 9 is more"),
                ({"suppress_tokens": [99999]}, "Invalid request: suppress_tokens: 99999 is outside the vocabulary")]:
            reply = self.server.translate("Hello.", **fields)
            self.assertEqual(reply.status, 400)
            self.assertTrue(reply.error.startswith(error), reply.error)
        self.translated("Hello.", max_new_tokens=512)
        self.assertTrue(self.translated("Hello.", do_sample=True))  # the folder's num_beams is 4

    def test_long_text(self):
        """Claim: 100 kB in one text comes back with every line. Method: a few sentences over and over, so that it is quick."""
        lines = sentences(20) * (100000 // len(" ".join(sentences(20))) + 1)
        got = self.translated("\n".join(lines), num_beams=1).split("\n")
        self.assertEqual(len(got), len(lines))
        self.assertEqual(got[:20], got[20:40])

    def test_odd_texts(self):
        """Claim: what is no sentence is answered too: symbols, emoji, special tokens, one endless word."""
        for text in ("!!!", "😀", "</s>", "<extra_id_0> <pad>", "\u200b", "a" * 5000, "\uffff", "\t", "1" * 300):
            self.assertEqual(self.server.translate(text, num_beams=1).status, 200, text[:20])

    def test_many_clients_get_their_own_answers(self):
        """Claim: 64 clients at once each get exactly what their text gives alone, and share the steps. Method: all have asked before
        one looks for its answer; every answer is compared."""
        texts = sentences(CLIENTS)
        alone, steps = [self.translated(t) for t in texts], self.server.metric("t5serve_decode_step_rows_count")
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(self.server.connect()) for _ in texts]
            for k in range(3):
                order = [(i + k * 7) % CLIENTS for i in range(CLIENTS)]
                for sock, n in zip(socks, order):
                    sock.sendall(post("/translate", json.dumps({"q": texts[n], "source": "en", "target": "de"}).encode()))
                got = [Reply(read_reply(sock, b"")).json().get("translatedText") for sock in socks]
                self.assertEqual(got, [alone[n] for n in order])
        steps = self.server.metric("t5serve_decode_step_rows_count") - steps
        print(f"{3 * CLIENTS} requests in {steps:.0f} steps")
        self.assertLess(steps, 3 * CLIENTS * 4)  # one by one they would take some 10 steps each

    def test_leaving_cancels(self):
        """Claim: the work of a client that left is dropped. Method: long work, of which only the beginning is done when its client
        leaves, as soon as it has begun; the engine's counter tells."""
        wait_until(lambda: self.server.metric("t5serve_sequences_running") == 0)
        before = self.server.metric("t5serve_cancelled_total")
        with self.server.connect() as sock:
            sock.sendall(post("/translate", json.dumps({"q": " ".join(sentences(64)), "source": "en", "target": "de", "num_beams": 8,
                                                        "min_new_tokens": 500, "max_new_tokens": 512}).encode()))
            wait_until(lambda: self.server.metric("t5serve_sequences_running") > 0)
        wait_until(lambda: self.server.metric("t5serve_cancelled_total") > before)

    def test_full_queue(self):
        """Claim: more sentences than the queue holds give 503 at once, and others are still served. Method: a short queue, long
        work, ten clients more until one is refused while others wait; each other one gets its answer."""
        body = json.dumps({"q": " ".join(sentences(8)), "source": "en", "target": "de", "num_beams": 8, "min_new_tokens": 60}).encode()
        socks = []

        def is_refused():
            for _ in range(10):
                socks.append(server.connect())
                socks[-1].sendall(post("/translate", body))
            answered = select.select(socks, [], [], 0.05)[0]
            return any(b" 503 " in sock.recv(100, socket.MSG_PEEK) for sock in answered)

        with Server(PROGRAM, "--queue-depth", "8") as server:
            wait_until(is_refused)
            replies = [Reply(read_reply(sock, b"")) for sock in socks]
            self.assertEqual({r.status for r in replies}, {200, 503})
            self.assertTrue(all("retry-after" in r.headers for r in replies if r.status == 503))
            self.assertEqual(server.translate("Hello").status, 200)

    def test_sigterm_under_load(self):
        """Claim: nothing that was accepted is lost at SIGTERM. Method: 32 requests in flight; each is answered in full."""
        with Server(PROGRAM, "--metrics") as server:
            socks = [server.connect() for _ in range(32)]
            for sock, text in zip(socks, sentences(32)):
                sock.sendall(post("/translate", json.dumps({"q": text, "source": "en", "target": "de"}).encode()))
            wait_until(lambda: server.metric('t5serve_stage_duration_seconds_count{stage="tokenize"}') == 32)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual([Reply(read_reply(sock, b"")).status for sock in socks], [200] * 32)
            self.assertEqual(server.process.wait(STOP_S), 0)

    def test_alternatives_of_a_long_sentence(self):
        """Claim: more alternatives than the cache has room for are fewer alternatives, the same best translation, and no error;
        beams that were asked for by name are refused with what to do. Method: 31 alternatives of a sentence of 1 000
        characters and of a small one beside it, with default settings but for a patient deadline."""
        text = "I have seen the old house " + "and the small dog and the big cat in the garden " * 20 + "."
        with Server(PROGRAM, "--request-timeout-ms=300000") as server:
            few = server.translate(text, alternatives=3)
            many = server.translate(text, alternatives=31)
            self.assertEqual((few.status, many.status), (200, 200), many.body)
            self.assertGreater(len(many.json()["alternatives"]), 3)
            self.assertLess(len(many.json()["alternatives"]), 31)
            both = server.translate([text, "How are you?"], alternatives=31).json()
            self.assertEqual(both["alternatives"][0], many.json()["alternatives"])
            self.assertEqual(len(both["alternatives"][1]), len(server.translate("How are you?", alternatives=31).json()["alternatives"]))
            for options in ({"length_penalty": 1.1}, {"do_sample": True, "temperature": 0.9}):
                self.assertEqual(server.translate(text, alternatives=31, **options).status, 200, options)
            named = server.translate(text, alternatives=31, num_beams=32)
            self.assertEqual(named.status, 400)
            self.assertRegex(named.error, r"32 beams .* need \d+ positions of the key-value cache, .* shorter text")


unittest.main(verbosity=2, warnings="ignore")
