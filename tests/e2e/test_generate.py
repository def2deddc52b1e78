#!/usr/bin/env python3
"""POST /generate. Usage: test_generate.py T5SERVE T5 SOURCE_DIR"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from server import BUNDLED, Server, unchunked

SOURCE = pathlib.Path(sys.argv.pop(3))
T5 = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)
FAMILIES = ["t5-v1.0", "t5-v1.1", "flan-small-shape", "mt5", "umt5", "byt5", "madlad"]
OPTIONS = [{}, {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.7}, {"do_sample": True, "seed": 7, "top_k": 20},
           {"num_beams": 1, "token_logprobs": True}, {"num_beams": 2, "num_return_sequences": 2, "alignment": True}]


class Generate(unittest.TestCase):
    def ask(self, server, **fields):
        reply = server.post("/generate", json.dumps(fields).encode())
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def test_same_as_the_command_line(self):
        """Claim: for every family, ids, texts, scores and log-probabilities are those of `t5 generate --json`, alone and in an
        array."""
        texts = ["translate English to German: The house is small.", "One two three", ""]
        for family in FAMILIES:
            folder = str(SOURCE / "tests/fixtures" / family)
            lines = [json.dumps({"text": text, "max_new_tokens": 12, **options}) for options in OPTIONS for text in texts]
            done = subprocess.run([T5, "generate", "--json", "--model", folder], input="\n".join(lines) + "\n", text=True,
                                  capture_output=True, check=True, timeout=120)
            wanted = [json.loads(line) for line in done.stdout.splitlines()]
            with Server(PROGRAM, "--model", folder) as server:
                for i, options in enumerate(OPTIONS):
                    expected = wanted[i * len(texts):(i + 1) * len(texts)]
                    alone = [self.ask(server, input=text, max_new_tokens=12, **options) for text in texts]
                    together = self.ask(server, input=texts, max_new_tokens=12, **options)["outputs"]
                    for one, other, reference in zip(alone, together, expected, strict=True):
                        self.assertEqual(one.pop("usage").keys(), {"source_tokens", "target_tokens"})
                        self.assertEqual(one, other)
                        for key in ("texts", "sequences"):
                            self.assertEqual(one[key], reference[key], (family, options))
                        for key in ("alignment", "input_ids"):
                            self.assertEqual(one.get(key), reference.get(key), (family, options))
                        self.assertEqual("alignment" in one, "alignment" in options)
                        for mine, theirs in zip(one["scores"], reference["scores"], strict=True):
                            self.assertAlmostEqual(mine, theirs, delta=1e-5 * (1 + abs(theirs)))
                        self.assertEqual("token_logprobs" in one, "token_logprobs" in options)
                        self.assertTrue(set(one["finish_reasons"]) <= {"stop", "length"})

    def test_prefix(self):
        """Claim: every output begins with the prefix, and goes on as the model would have gone on from there."""
        with Server(PROGRAM) as server:
            free = self.ask(server, input="translate English to German: How are you?", num_beams=1)
            forced = self.ask(server, input="translate English to German: How are you?", num_beams=1, prefix="Was")
            self.assertTrue(forced["texts"][0].startswith("Was"))
            self.assertNotEqual(free["texts"], forced["texts"])
            again = self.ask(server, input="translate English to German: How are you?", num_beams=1, prefix="")
            self.assertEqual(free, again)

    def test_errors(self):
        """Claim: what is wrong is named, with the limits of the server."""
        with Server(PROGRAM, "--char-limit", "100", "--max-texts-per-request", "2") as server:
            for fields, text in (({}, "missing input"), ({"input": []}, "missing input"), ({"input": 5}, "input must be a string"),
                                 ({"input": ["a", None]}, "input must be a string"), ({"input": "a" * 101}, "exceeds text limit (100)"),
                                 ({"input": ["a"] * 3}, "exceeds text limit (2)"), ({"input": "a", "num_beams": 99}, "num_beams"),
                                 ({"input": "a", "prefix": 1}, "prefix must be a string"),
                                 ({"input": "a", "prefix": "word " * 2000}, "prefix: "),
                                 ({"input": "a", "token_logprobs": 1}, "token_logprobs must be true or false"),
                                 ({"input": "a", "alignment": "perhaps"}, "alignment must be true or false"),
                                 ({"input": "a", "max_new_tokens": 4000}, "Invalid request: max_new_tokens")):
                reply = server.post("/generate", json.dumps(fields).encode())
                self.assertEqual(reply.status, 400, fields)
                self.assertIn(text, reply.error)
            for prompt, text in ((None, "missing prompt"), ([], "missing prompt"), (5, "prompt must be a string"),
                                 (["a", None], "prompt must be a string"), ("a" * 101, "exceeds text limit (100)"),
                                 (["a"] * 3, "exceeds text limit (2)")):
                reply = server.post("/v1/completions", json.dumps({"prompt": prompt}).encode())
                self.assertEqual(reply.status, 400, prompt)
                self.assertIn(text, reply.json()["error"]["message"])
            self.assertEqual(server.get("/generate").status, 405)
            form = server.post("/generate", b"input=Hello&num_beams=2&token_logprobs=true", "application/x-www-form-urlencoded")
            self.assertEqual((form.status, len(form.json()["token_logprobs"])), (200, 1))

    def test_openai_takes_nothing_silently(self):
        """Claim: what would change a completion and is not done is refused by name; what changes nothing is taken."""
        refused = {"stop": 1, "suffix": "x", "echo": True, "best_of": 0, "logit_bias": {"5": 1}, "presence_penalty": 1,
                   "frequency_penalty": -0.5, "temperature": -1, "stream": "yes", "max_tokens": 0, "n": 0}
        taken = {"stop": None, "suffix": "", "echo": False, "best_of": 1, "logit_bias": {}, "presence_penalty": 0,
                 "frequency_penalty": 0.0, "temperature": 0, "stream": False, "user": "somebody"}
        with Server(PROGRAM) as server:
            for name, value in refused.items():
                reply = server.post("/v1/completions", json.dumps({"prompt": "Hi", "max_tokens": 2, name: value}).encode())
                self.assertEqual((name, reply.status), (name, 400))
                self.assertIn(name, reply.json()["error"]["message"])
                if name in ("temperature", "max_tokens", "n", "best_of"):  # by that name alone
                    self.assertRegex(reply.json()["error"]["message"], rf"^{name}: -?\d+ is out of range")
            reply = server.post("/v1/completions", json.dumps({"prompt": "Hi", "max_tokens": 4000}).encode())
            self.assertRegex(reply.json()["error"]["message"], r"\bmax_tokens: 4000, at most \d+ are possible$")
            reply = server.post("/v1/completions", json.dumps({"prompt": "Hi", "max_tokens": 2, **taken}).encode())
            self.assertEqual(reply.status, 200, reply.body)

    def test_a_completion_may_be_shorter_than_the_folder_wants(self):
        """Claim: max_tokens below the folder's min_new_tokens, which a client of OpenAI cannot set, is the length."""
        with tempfile.TemporaryDirectory() as folder:
            for file in BUNDLED.iterdir():
                if file.name != "generation_config.json":
                    pathlib.Path(folder, file.name).symlink_to(file)
            pathlib.Path(folder, "generation_config.json").write_text('{"min_new_tokens": 9}')
            with Server(PROGRAM, "--model", folder) as server:
                for n_tokens in (3, 9):
                    self.assertEqual(self.complete(server, prompt="translate English to German: Hi.", max_tokens=n_tokens)[1:],
                                     ("length", n_tokens))

    def complete(self, server, **fields):
        """(text, finish reason, completion tokens) of a completion, the same whole and as a stream."""
        whole = server.post("/v1/completions", json.dumps(fields).encode())
        self.assertEqual(whole.status, 200, whole.body)
        stream = server.post("/v1/completions", json.dumps({**fields, "stream": True, "stream_options": {"include_usage": True}}).encode())
        events = [json.loads(data) for data in re.findall(rb"^data: (\{.*)$", unchunked(stream.body), re.M)]
        choice, usage = whole.json()["choices"][0], whole.json()["usage"]
        told = [event["choices"][0] for event in events[:-1]]
        self.assertEqual("".join(piece["text"] for piece in told), choice["text"])
        self.assertEqual((told[-1]["finish_reason"], events[-1]["usage"]), (choice["finish_reason"], usage))
        return choice["text"], choice["finish_reason"], usage["completion_tokens"]

    def test_stop_ends_the_work(self):
        """Claim: a completion leaves the batch when one of its stops has come: its tokens are those up to there and a few more,
        greedy and sampled, and no more than without a stop by beams; the text, whole and streamed, ends before the stop, whichever tokens that spans. Method: 400
        tokens without an end; stops of each length from the middle of their text."""
        prompt = "translate English to German: How are you today?"
        with Server(PROGRAM, "--max-new-tokens=400", "--model", str(SOURCE / "tests/fixtures/byt5")) as server:
            for options in ({"temperature": 0}, {"temperature": 1.0, "seed": 7}, {"best_of": 3, "temperature": 0}):
                fields = {"prompt": prompt, "max_tokens": 400, **options}
                text, reason, n_tokens = self.complete(server, **fields)
                self.assertGreater(len(text), 8)
                for n in (1, 2, 5):
                    stop = text[len(text) // 2:len(text) // 2 + n]
                    cut, reason, n_cut = self.complete(server, **fields, stop=["\u2603\u2603", stop])
                    self.assertEqual((cut, reason), (text.partition(stop)[0], "stop"))
                    self.assertLessEqual(n_cut, n_tokens)
                    if "best_of" not in options:  # a shorter limit leads beams elsewhere
                        short = (self.complete(server, **{**fields, "max_tokens": k}) for k in range(1, n_tokens + 1))
                        needed = next(n for text_then, _, n in short if stop in text_then)
                        self.assertLessEqual(n_cut, needed + 4)
                        print(f"{options}, stop {stop!r}: {needed} of {n_tokens} tokens are needed, {n_cut} were made")


if __name__ == "__main__":
    unittest.main()
