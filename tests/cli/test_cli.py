#!/usr/bin/env python3
"""Usage: test_cli.py T5_PROGRAM SOURCE_FOLDER [CLASS ...]

Claim: each subcommand of `t5` answers as its --help says: replies in order, exit codes 0, 1 and 2, and errors on stderr
that name what is wrong. Method: runs the program on the bundled model and on small fixtures.
"""
import json
import os
import pty
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PROGRAM = ""
SOURCE = Path()
COMMANDS = ["translate", "generate", "score", "tokenize", "inspect", "quantize", "shortlist", "bench"]


def t5(*arguments, stdin="", expect=0):
    done = subprocess.run([PROGRAM, *arguments], input=stdin if isinstance(stdin, bytes) else stdin.encode(),
                          capture_output=True, timeout=300)
    stdout, stderr = done.stdout.decode("utf-8", "strict"), done.stderr.decode("utf-8", "replace")
    assert done.returncode == expect, f"{arguments}: exit code {done.returncode}, not {expect}: {stderr}"
    assert (stderr == "") == (expect == 0), f"{arguments}: stderr: {stderr}"
    return stdout if expect == 0 else (stdout, stderr)


def redirected(redirection, *arguments):
    """The program as a shell starts it: with "<&-", without a stdin."""
    return subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", PROGRAM, *arguments], capture_output=True, input=b"a\n",
                          timeout=300)


def fixture(name):
    return str(SOURCE / "tests" / "fixtures" / name)


class UsageTest(unittest.TestCase):
    def test_help(self):
        self.assertIn("usage: t5 COMMAND", t5("--help"))
        for command in COMMANDS:
            self.assertIn(f"usage: t5 {command}", t5(command, "--help"))
            self.assertIn("--model DIR", t5(command, "--help"))
        self.assertIn("--num-beams", t5("generate", "--help"))
        self.assertIn("--num-return-sequences", t5("generate", "--help"))
        for command, option in (("translate", "num-return-sequences"), ("bench", "max-new-tokens"),
                                ("bench", "min-new-tokens"), ("bench", "num-return-sequences")):
            self.assertIn(f"not --{option}", " ".join(t5(command, "--help").split()))
        for command in ("translate", "generate", "score"):
            self.assertIn("ends the run", " ".join(t5(command, "--help").split()))

    def test_wrong_use(self):
        for arguments, named in [
                ([], "usage"),
                (["fly"], "fly"),
                (["translate", "--target", "de", "--wings", "2"], "--wings"),
                (["translate"], "--target"),
                (["translate", "--target"], "--target needs a value"),
                (["translate", "--target", "tlh"], "tlh"),
                (["translate", "--target", "de", "a", "b"], "b"),
                (["generate", "--num-beams", "0"], "num_beams"),
                (["generate", "--num-beams", "many"], "num_beams"),
                (["generate", "--num-beams", "2", "--num-return-sequences", "3"], "num_return_sequences"),
                (["generate", "--threads", "-1"], "--threads"),
                (["generate", "--compute-type", "float8"], "--compute-type"),
                (["generate", "--device", "abacus"], "--device"),
                (["generate", "--device", "cuda:1,cuda:1"], "--device: cuda:1 is in the list twice"),
                (["generate", "--max-running-rows", "31"], "--max-running-rows"),
                (["generate", "--max-target-tokens", "0"], "--max-target-tokens"),
                (["generate", "--early-stopping", "maybe"], "early_stopping"),
                (["generate", "--early-stopping"], "--early-stopping needs a value"),
                (["translate", "--target", "de", "--num-return-sequences", "2"], "--num-return-sequences"),
                (["bench", "--max-new-tokens", "4"], "--max-new-tokens"),
                (["bench", "--min-new-tokens=4"], "--min-new-tokens"),
                (["bench", "--num-return-sequences", "1"], "--num-return-sequences"),
                (["inspect", "--model", "a", "b"], "--model"),
                (["inspect", "--model", ""], "--model"),
                (["inspect", ""], "empty"),
                (["translate", "--target", "de", "--source", ""], "--source"),
                (["translate", "--target="], "--target"),
                (["generate", "--json=1"], "--json"),
                (["quantize", "out"], "--to is missing"),
                (["shortlist"], "--target is missing"),
                (["shortlist", "--target", "de", "--count-min", "0"], "--count-min"),
                (["shortlist", "--target", "de", "a", "b"], "b"),
                (["quantize", "--to", "int8"], "OUT is missing"),
                (["quantize", "--to", "int3", "out"], "--to"),
                (["bench", "--batch", "x"], "--batch")]:
            self.assertIn(named, t5(*arguments, expect=2)[1])

    def test_failures(self):
        self.assertIn("no-such", t5("inspect", "--model", "no-such", expect=1)[1])
        self.assertIn("no-such", t5("translate", "--target", "de", "no-such", expect=1)[1])
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("config.json", t5("generate", "--model", folder, expect=1)[1])

    def test_no_gpu(self):
        """A plug-in that is not there stands for every way in which a GPU cannot be used."""
        done = subprocess.run([PROGRAM, "generate", "--device", "cuda"], capture_output=True, timeout=300,
                              env={**os.environ, "T5_CUDA_PLUGIN": "/no-such-plugin"})
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), "device cuda: no usable GPU .*no-such-plugin.*; --device cpu needs none")

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "generate", "--model", fixture("t5-v1.0")], input=b"a\n", stdout=full,
                                  stderr=subprocess.PIPE, timeout=300)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left", done.stderr)

    def test_input_without_lines(self):
        """Claim: input that is no text ends with an error before it takes the memory. Method: zeros without end."""
        for command in (["tokenize"], ["generate", "--json"], ["translate", "--target", "de"]):
            with open("/dev/zero", "rb") as zeros:
                done = subprocess.run([PROGRAM, *command], stdin=zeros, capture_output=True, timeout=300)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertRegex(done.stderr, b"stdin: a line of over 67108864 bytes")

    def test_output_that_is_lost(self):
        """Claim: what cannot be printed is a failure, whatever command prints it. Method: a full disk, a closed stdout."""
        model = fixture("t5-v1.0")
        for words in (["--help"], ["--version"], ["inspect", model], ["inspect", "--json", model], ["generate", "--help"],
                      ["tokenize", "--model", model], ["generate", "--model", model]):
            for redirection, wanted in ((">/dev/full", b"No space left on device"), (">&-", b"Bad file descriptor")):
                done = redirected(redirection, *words)
                self.assertEqual(done.returncode, 1, (words, redirection))
                self.assertIn(b"stdout: " + wanted, done.stderr)

    def test_closed_stdin(self):
        """Claim: a closed stdin is an error, and its number goes to no file that is opened afterwards. Method: as a shell
        closes it; before, the commands waited for ever."""
        for command in ("translate", "generate", "score", "tokenize"):
            done = redirected("<&-", command, *(["--target", "de"] if command == "translate" else []))
            self.assertEqual((done.returncode, done.stdout), (1, b""), command)
            self.assertIn(b"stdin: Bad file descriptor", done.stderr)

    def test_closed_stderr(self):
        """Claim: messages go nowhere then, least of all into a file that is being written. Method: t5 quantize with all closed."""
        with tempfile.TemporaryDirectory() as folder:
            for name, redirection in (("open", ""), ("closed", "<&- >&- 2>&-")):
                redirected(redirection, "quantize", "--to", "int8", "--model", fixture("t5-v1.0"), f"{folder}/{name}")
            for file in os.listdir(f"{folder}/open"):
                self.assertEqual(Path(folder, "open", file).read_bytes(), Path(folder, "closed", file).read_bytes(), file)


class TranslateTest(unittest.TestCase):
    def test_lines_in_order(self):
        lines = [f"I have {i} books." for i in range(40)]
        together = t5("translate", "--source", "en", "--target", "de", stdin="\n".join(lines) + "\n").splitlines()
        self.assertEqual(len(together), len(lines))
        for i in (0, 17, 39):
            alone = t5("translate", "--source", "en", "--target", "de", stdin=lines[i]).splitlines()
            self.assertEqual(alone, [together[i]])

    def test_empty_lines(self):
        self.assertEqual(t5("translate", "--source", "en", "--target", "de"), "")
        self.assertEqual(t5("translate", "--source", "en", "--target", "de", stdin="\n\n"), "\n\n")

    def test_file_and_languages(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("How are you?\n")
            file.flush()
            german = t5("translate", "--source", "en", "--target", "de", file.name)
            french = t5("translate", "--source", "en", "--target", "fr", "--num-beams", "1", file.name)
        self.assertTrue(german.strip() and french.strip() and german != french)

    def test_sampling_has_one_beam(self):
        """The bundled model's folder says num_beams 4, with which sampling cannot go."""
        flags = ["translate", "--source", "en", "--target", "de", "--do-sample"]
        self.assertTrue(t5(*flags, stdin="Thank you.\n").strip())
        self.assertIn("num_beams", t5(*flags, "--num-beams", "2", expect=2)[1])

    def test_invalid_line_is_named(self):
        stdout, stderr = t5("translate", "--source", "en", "--target", "de", stdin=b"Good morning.\nbad \xff\nNo.\n",
                            expect=1)
        self.assertIn("stdin:2", stderr)
        self.assertEqual(len(stdout.splitlines()), 1)

    def test_reply_before_the_next_line(self):
        """A program that sends a line and waits gets its reply: nothing is held back until the input ends."""
        process = subprocess.Popen([PROGRAM, "translate", "--source", "en", "--target", "de"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        for _ in range(2):
            process.stdin.write(b"Thank you.\n")
            process.stdin.flush()
            self.assertTrue(process.stdout.readline().strip())
        process.stdin.close()
        self.assertEqual(process.wait(60), 0)
        process.stdout.close()

    def test_progress_on_a_terminal(self):
        """Two lines, over two seconds apart, so that the run is long enough for a progress line."""
        terminal, stderr = pty.openpty()
        with tempfile.TemporaryFile() as stdout:
            process = subprocess.Popen([PROGRAM, "translate", "--source", "en", "--target", "de"], stdin=subprocess.PIPE,
                                       stdout=stdout, stderr=stderr)
            process.stdin.write(b"Thank you.\n")
            process.stdin.flush()
            deadline = time.monotonic() + 60
            while os.fstat(stdout.fileno()).st_size == 0 and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(2.1)
            process.stdin.write(b"Thank you.\n")
            process.stdin.close()
            self.assertEqual(process.wait(60), 0)
        os.set_blocking(terminal, False)
        self.assertRegex(os.read(terminal, 4096).decode(), r"2 lines, [0-9.]+ lines/s")
        os.close(stderr)
        os.close(terminal)


class GenerateTest(unittest.TestCase):
    def setUp(self):
        self.model = ["--model", fixture("t5-v1.0")]
        self.case = json.loads((SOURCE / "tests/fixtures/t5-v1.0/expected.json").read_text())["cases"][0]

    def generate(self, *requests, expect=0, flags=()):
        stdin = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)
        result = t5("generate", "--json", *self.model, *flags, stdin=stdin, expect=expect)
        return [json.loads(line) for line in (result if expect == 0 else result[0]).splitlines()]

    def test_plain_lines(self):
        text = t5("generate", *self.model, "--max-new-tokens", "24", stdin=self.case["text"] + "\n")
        reply, = self.generate({"text": self.case["text"], "max_new_tokens": 24})
        self.assertEqual(text.splitlines(), reply["texts"])
        three = t5("generate", *self.model, "--num-beams=3", "--num-return-sequences", "3", stdin="a\n")
        self.assertEqual(len(three.splitlines()), 3)

    def test_flags_are_defaults(self):
        request = {"text": self.case["text"]}
        by_flag = self.generate(request, flags=["--num-beams", "4", "--max-new-tokens", "7"])
        by_key = self.generate({**request, "num_beams": 4, "max_new_tokens": 7})
        over = self.generate({**request, "num_beams": 4, "max_new_tokens": 7}, flags=["--num-beams", "2"])
        self.assertEqual(by_flag, by_key)
        self.assertEqual(over, by_key)

    def test_bad_requests_get_an_error_each(self):
        bad = ["{", "[]", "7", {}, {"text": "a", "input_ids": [1]}, {"text": 7}, {"input_ids": "a"},
               {"input_ids": [1.5]}, {"input_ids": [-1]}, {"input_ids": [10 ** 12]}, {"input_ids": [10 ** 6]},
               {"input_ids": []}, {"text": "a", "num_beams": 0}, {"text": "a", "num_beams": "2"},
               {"text": "a", "num_beams": 2.5}, {"text": "a", "num_beams": 99}, {"text": "a", "wings": 2},
               {"text": "a", "do_sample": 1}, {"text": "a", "num_return_sequences": 2},
               {"text": "a", "decoder_input_ids": [10 ** 6]}, {"text": "a", "decoder_input_ids": 3},
               {"text": "a", "max_new_tokens": 10 ** 6}, {"text": "a", "early_stopping": "maybe"},
               {"text": "a", "token_logprobs": 1}, '{"text": "\\ud800"}', '{"text": "a", "text": "b"}',
               {"text": "a", "alignment": "yes"}, {"text": "a", "temperature": "hot"}, {"text": "a", "suppress_tokens": [10 ** 6]},
               {"text": "a", "top_p": 1e999}, {"text": "word " * 100000}]
        good = {"text": self.case["text"], "max_new_tokens": 5}
        replies = self.generate(good, *bad, good, expect=1)
        self.assertEqual(len(replies), len(bad) + 2)
        self.assertEqual(replies[0], replies[-1])
        self.assertIn("sequences", replies[0])
        for request, reply in zip(bad, replies[1:-1]):
            self.assertEqual(list(reply), ["error"], request)

    def test_invalid_utf8(self):
        stdout, _ = t5("generate", "--json", *self.model, stdin=b'{"text": "\xff"}\n{"\xff": 1}\n', expect=1)
        self.assertEqual([list(json.loads(line)) for line in stdout.splitlines()], [["error"], ["error"]])
        self.assertIn("stdin:1", t5("generate", *self.model, stdin=b"\xff\n", expect=1)[1])

    def test_long_texts(self):
        """Beyond the 512 tokens that T5 was trained on, and up to a limit that is told."""
        reply, = self.generate({"input_ids": [5] * 2000 + [1], "max_new_tokens": 3})
        self.assertEqual(len(reply["sequences"]), 1)
        for ids_max in ("7", "3000"):
            reply, = self.generate({"input_ids": [5] * int(ids_max) + [1]}, expect=1,
                                   flags=["--max-source-tokens", ids_max])
            self.assertIn(ids_max, reply["error"])

    def test_max_target_tokens_is_the_longest_result(self):
        """Without the start token and whatever stands in the model's folder."""
        flags = ["--max-target-tokens", "6"]
        first = self.generate({"text": self.case["text"], "max_new_tokens": 6, "min_new_tokens": 6}, flags=flags)[0]
        self.assertEqual(len(first["sequences"][0]), 6)
        reply, = self.generate({"text": self.case["text"], "max_new_tokens": 7}, flags=flags, expect=1)
        self.assertIn("max_new_tokens", reply["error"])
        ids = t5("tokenize", *self.model, stdin="ein Haus").split("\t")[0].split()
        scored = t5("score", *self.model, "--max-target-tokens", str(len(ids)), stdin="a house\tein Haus\n")
        self.assertLess(float(scored), 0.0)

    def test_null_is_absent(self):
        with_null = {"text": self.case["text"], "input_ids": None, "decoder_input_ids": None, "token_logprobs": None,
                     "num_beams": None}
        replies = self.generate({"text": self.case["text"]}, with_null)
        self.assertEqual(replies[0], replies[1])
        reply, = self.generate({"text": None, "input_ids": None}, expect=1)
        self.assertIn("exactly one of text and input_ids", reply["error"])

    def test_ids_outside_the_vocabulary(self):
        for request in ({"input_ids": [99999999]}, {"input_ids": [-1]}, {"input_ids": [10 ** 12]},
                        {"text": "a", "decoder_input_ids": [0, 10 ** 6]}):
            reply, = self.generate(request, expect=1)
            self.assertIn("outside the vocabulary", reply["error"])

    def test_byte_order_mark(self):
        """Some editors put one at the start of a file; anywhere else it is text."""
        request = json.dumps({"text": self.case["text"]}).encode() + b"\n"
        stdout = t5("generate", "--json", *self.model, stdin=b"\xef\xbb\xbf" + request + request).splitlines()
        self.assertEqual(stdout[0], stdout[1])
        self.assertEqual(t5("generate", *self.model, stdin=b"\xef\xbb\xbf"), "")
        plain = t5("tokenize", "--model", fixture("byt5"), stdin=b"\xef\xbb\xbfa\n\xef\xbb\xbfa\n").splitlines()
        self.assertEqual([len(line.split("\t")[0].split()) for line in plain], [2, 5])

    def test_failed_requests_are_counted(self):
        _, stderr = t5("generate", "--json", *self.model, stdin="{}\n", expect=1)
        self.assertIn("requests answered by an error: 1", stderr)

    def test_sampling_has_one_beam(self):
        sample = {"text": self.case["text"], "do_sample": True, "seed": 7, "max_new_tokens": 5}
        replies = self.generate(sample, {**sample, "num_beams": 1}, {**sample, "num_beams": None},
                                flags=["--num-beams", "4"])
        self.assertEqual(replies[0], replies[1])
        self.assertEqual(replies[0], replies[2])
        reply, = self.generate({**sample, "num_beams": 2}, expect=1)
        self.assertIn("num_beams", reply["error"])

    def test_odd_texts(self):
        for text in ("", " ", "\u0000", "a\u0000b", "</s>", "<extra_id_0>", "\U0001f600", "\ufffd"):
            reply, = self.generate({"text": text, "max_new_tokens": 3})
            self.assertEqual(len(reply["sequences"]), 1)

    def test_sampling_depends_on_the_seed_alone(self):
        request = {"text": self.case["text"], "do_sample": True, "top_k": 0, "temperature": 2.0, "max_new_tokens": 12,
                   "num_return_sequences": 3, "seed": 42}
        alone, = self.generate(request)
        other = {**request, "seed": 43}
        among = self.generate(other, request, {"text": "b", "num_beams": 3}, request)
        self.assertEqual(alone, among[1])
        self.assertEqual(alone, among[3])
        self.assertNotEqual(alone["sequences"], among[0]["sequences"])

    def test_token_logprobs(self):
        reply, = self.generate({"text": self.case["text"], "max_new_tokens": 8, "token_logprobs": True})
        self.assertEqual(len(reply["token_logprobs"][0]), len(reply["sequences"][0]))
        self.assertAlmostEqual(sum(reply["token_logprobs"][0]) / len(reply["sequences"][0]), reply["scores"][0], 4)

    def test_alignment(self):
        """Each token but eos and the forced start belongs to a token of the input, eos left out; nothing else changes."""
        request = {"text": self.case["text"], "max_new_tokens": 8, "num_beams": 3, "num_return_sequences": 2,
                   "decoder_input_ids": self.case["generate"][0]["sequences"][0][:2]}
        plain, reply = self.generate(request, {**request, "alignment": True})
        ids, eos = reply.pop("input_ids"), 1
        self.assertEqual(ids, self.case["input_ids"])
        for sequence, alignment in zip(plain["sequences"], reply.pop("alignment"), strict=True):
            self.assertEqual(len(alignment), len(sequence))
            for i, (token, at) in enumerate(zip(sequence, alignment)):
                if i < 2 or token == eos:
                    self.assertEqual(at, -1)
                else:
                    self.assertIn(at, range(len(ids) - 1))
        self.assertEqual(reply, plain)

    def test_suppressed_tokens(self):
        first = self.generate({"text": self.case["text"], "max_new_tokens": 3})[0]["sequences"][0][0]
        reply, = self.generate({"text": self.case["text"], "max_new_tokens": 3, "suppress_tokens": [first]})
        self.assertNotIn(first, reply["sequences"][0])


class ScoreTest(unittest.TestCase):
    def test_text_and_ids_agree(self):
        model = ["--model", fixture("mt5")]
        ids = [int(i) for i in t5("tokenize", *model, stdin="ein Haus").split("\t")[0].split()]
        requests = [{"text": "a house", "target": "ein Haus"}, {"text": "a house", "target_ids": ids}]
        replies = [json.loads(line) for line in t5("score", "--json", *model, stdin="".join(
            json.dumps(r) + "\n" for r in requests)).splitlines()]
        self.assertEqual(replies[0], replies[1])
        self.assertEqual(len(replies[0]["token_logprobs"]), len(ids))
        plain = float(t5("score", *model, stdin="a house\tein Haus\n"))
        self.assertAlmostEqual(plain, replies[0]["score"], 4)

    def test_errors(self):
        requests = [{}, {"text": "a"}, {"text": "a", "target": 1}, {"text": "a", "target_ids": []},
                    {"text": "a", "target": "b", "num_beams": 2}]
        stdout, _ = t5("score", "--json", "--model", fixture("mt5"),
                       stdin="".join(json.dumps(r) + "\n" for r in requests), expect=1)
        self.assertEqual([list(json.loads(line)) for line in stdout.splitlines()], [["error"]] * len(requests))
        self.assertIn("stdin:1", t5("score", "--model", fixture("mt5"), stdin="no tab\n", expect=1)[1])


class TokenizeTest(unittest.TestCase):
    def test_round_trip(self):
        for name, text in (("t5-v1.0", "a house"), ("byt5", "naïve 😀"), ("madlad", "<2de> two  spaces")):
            line = t5("tokenize", "--model", fixture(name), stdin=text + "\n").rstrip("\n")
            ids, pieces = line.split("\t")
            self.assertEqual(len(ids.split(" ")), len(pieces.split(" ")), line)
            decoded = t5("tokenize", "--decode", "--model", fixture(name), stdin=ids + "\n")
            self.assertTrue(decoded.strip() in text or text in decoded.strip(), (decoded, text))

    def test_json_and_errors(self):
        model = ["--model", fixture("byt5")]
        self.assertEqual(json.loads(t5("tokenize", "--json", *model, stdin="a")),
                         {"ids": [100, 1], "pieces": ["<0x61>", "</s>"]})
        self.assertEqual(json.loads(t5("tokenize", "--decode", "--json", *model, stdin="100,101")), {"text": "ab"})
        for ids in ("-1", "99999", "x", "1 2 x"):
            self.assertIn("stdin:1", t5("tokenize", "--decode", *model, stdin=ids, expect=1)[1])
        self.assertIn("stdin:2", t5("tokenize", *model, stdin=b"a\n\xff\n", expect=1)[1])


class InspectTest(unittest.TestCase):
    def test_families(self):
        families = {"t5-v1.0": "T5 v1.0", "t5-v1.1": "T5 v1.1 or FLAN-T5", "flan-small-shape": "T5 v1.1 or FLAN-T5",
                    "mt5": "mT5", "umt5": "UMT5", "byt5": "ByT5", "madlad": "MADLAD-400"}
        for name, family in families.items():
            report = json.loads(t5("inspect", "--json", fixture(name)))
            config = json.loads((SOURCE / "tests/fixtures" / name / "config.json").read_text())
            self.assertEqual(report["family"], family)
            self.assertEqual(report["sizes"]["d_model"], config["d_model"])
            self.assertEqual(report["special_ids"]["eos"], config["eos_token_id"])
            self.assertGreater(report["n_params"], 1000)
            self.assertIn(family, t5("inspect", "--model", fixture(name)))
        self.assertEqual(json.loads(t5("inspect", "--json", fixture("flan-small-shape")))["dtype"], "bfloat16")
        self.assertEqual(json.loads(t5("inspect", "--json", fixture("mt5")))["dtype"], "float16")

    def test_files_that_cannot_be_read(self):
        """Claim: a file that a folder has and that cannot be read is an error, not a file that the folder lacks: without it other
        options or tokens would count. Method: each optional one a link to nothing, as in a copied snapshot of a Hugging Face cache, or
        a pipe."""
        bundled = SOURCE.resolve() / "models/t5-tatoeba"
        for name in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                     "tokenizer.json", "spiece.model", "t5serve.json"):
            with tempfile.TemporaryDirectory() as folder:
                for file in bundled.iterdir():
                    if file.name != name:
                        os.symlink(file, Path(folder, file.name))
                os.symlink("../../blobs/0123", Path(folder, name))
                self.assertIn(f"/{name}: No such file", t5("inspect", folder, expect=1)[1])
                os.unlink(Path(folder, name))
                os.mkfifo(Path(folder, name))
                self.assertIn(f"/{name}: not a regular file", t5("inspect", folder, expect=1)[1])

    def test_bundled_model(self):
        report = json.loads(t5("inspect", "--json"))
        self.assertIn("en", report["languages"])
        self.assertIn({"source": "en", "target": "de", "prompt": "translate English to German: "}, report["pairs"])


class QuantizeTest(unittest.TestCase):
    def test_folder_translates_as_at_load(self):
        lines = "How are you?\nI do not know what to say.\nThe train leaves at eight.\n"
        flags = ["--source", "en", "--target", "de"]
        with tempfile.TemporaryDirectory() as work:
            out = f"{work}/int8"
            said = t5("quantize", "--to", "int8", out)
            self.assertRegex(said, r"^.*/int8: \d+ weights in int8, [\d.]+ MB instead of [\d.]+ MB\n$")
            self.assertIn("instead", said)
            at_load = t5("translate", "--compute-type", "int8", *flags, stdin=lines)
            self.assertEqual(t5("translate", "--model", out, *flags, stdin=lines), at_load)
            report = json.loads(t5("inspect", "--json", out))
            self.assertEqual(report["dtype"], "int8")
            self.assertLess(report["memory"]["weight_file_bytes"],
                            json.loads(t5("inspect", "--json"))["memory"]["weight_file_bytes"])
            self.assertIn("not empty", t5("quantize", "--to", "int4", out, expect=1)[1])
            self.assertIn("already", t5("quantize", "--model", out, "--to", "int8", f"{work}/twice", expect=1)[1])

    def test_inspect_tells_int4(self):
        with tempfile.TemporaryDirectory() as work:
            t5("quantize", "--model", fixture("t5-v1.1"), "--to", "int4", f"{work}/out")
            report = json.loads(t5("inspect", "--json", f"{work}/out"))
            self.assertEqual((report["dtype"], report["quantization"]["group"]), ("int4", 32))


class ShortlistTest(unittest.TestCase):
    def test_list_is_used(self):
        """Claim: `t5 shortlist` writes a list of the pieces of a text, and `t5 translate --shortlist` chooses from it alone.
        Method: a list of the sentences' own translations changes none of them with greedy search; without the pieces of one
        word another word is said."""
        lines = "Where is the station?\nHow are you?\n"
        flags = ["--source", "en", "--target", "de", "--num-beams", "1"]
        exact = t5("translate", *flags, stdin=lines)
        word = max(exact.split("\n")[0].strip("?").split(), key=len)
        with tempfile.TemporaryDirectory() as work:
            for file in (SOURCE / "models/t5-tatoeba").resolve().iterdir():
                Path(work, file.name).symlink_to(file)
            model = ["--model", work]
            said = t5("shortlist", *model, "--target", "DE", "--out", f"{work}/list", stdin="Hallo!\n")
            self.assertRegex(said, r"^.*/list: \d+ of \d+ pieces, from \d+ tokens\n$")
            self.assertFalse(Path(work, "shortlist.de.json").exists())
            t5("shortlist", *model, "--target", "de", stdin=exact)
            self.assertEqual(t5("translate", *model, "--shortlist", *flags, stdin=lines), exact)
            t5("shortlist", *model, "--target", "de", stdin=exact.replace(word, ""))
            other = t5("translate", *model, "--shortlist", *flags, stdin=lines)
            self.assertNotEqual(other.split("\n")[0], exact.split("\n")[0])
            self.assertEqual(other.split("\n")[1], exact.split("\n")[1])
            self.assertEqual(t5("translate", *model, *flags, stdin=lines), exact)
            for weights in ("int8", "int4"):
                t5("quantize", *model, "--to", weights, f"{work}/{weights}")
                self.assertEqual(t5("translate", "--model", f"{work}/{weights}", "--shortlist", *flags, stdin=lines),
                                 t5("translate", *model, "--compute-type", weights, "--shortlist", *flags, stdin=lines))

    def test_wrong_input(self):
        self.assertIn("tlh", t5("shortlist", "--target", "tlh", stdin="a\n", expect=1)[1])
        self.assertIn("no text", t5("shortlist", "--target", "de", expect=1)[1])
        self.assertIn("stdin:2", t5("shortlist", "--target", "de", stdin=b"gut\n\xff\n", expect=1)[1])
        with tempfile.TemporaryDirectory() as folder:  # the list took the place of a device
            os.mkfifo(f"{folder}/pipe")
            wrong = t5("shortlist", "--target", "de", "--out", f"{folder}/pipe", stdin="gut\n", expect=1)[1]
            self.assertIn("/pipe: not a regular file", wrong)
            self.assertTrue(Path(folder, "pipe").is_fifo())
        self.assertIn("/nowhere/x", t5("shortlist", "--target", "de", "--out", "/nowhere/x", stdin="gut\n", expect=1)[1])


class BenchTest(unittest.TestCase):
    def test_report(self):
        report = json.loads(t5("bench", "--model", fixture("t5-v1.0"), "--batch", "3", "--src-len", "9", "--new-tokens",
                               "6", "--repeat", "2", "--num-beams", "2", "--threads", "1"))
        self.assertEqual([report[key] for key in ("batch", "src_len", "new_tokens", "num_beams", "repeat")],
                         [3, 9, 6, 2, 2])
        for key in ("tokens_per_s", "cpu_ms_per_sentence", "ms_per_step", "encoder_tokens_per_s"):
            self.assertGreater(report[key], 0.0)
        for key in ("ms_per_round", "ms_per_sentence"):
            self.assertLessEqual(report[key]["min"], report[key]["p50"])
            self.assertLessEqual(report[key]["p50"], report[key]["p99"])

    def test_sentences(self):
        """Claim: --sentences runs the file's own sentences under the model's defaults. Method: the mean lengths of source
        and result are those that t5 tokenize and t5 translate give for the same two lines; a third line is too many."""
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
            file.write("I realized Tom was right.\tsomething\n\nDo like I said, OK?\n")
            file.flush()
            run = ["bench", "--sentences", file.name, "--repeat", "1", "--threads", "1", "--batch"]
            report = json.loads(t5(*run, "2"))
            self.assertEqual((report["batch"], report["num_beams"]), (2, 4))
            lines = ["I realized Tom was right.", "Do like I said, OK?"]
            prompt = "translate English to German: "
            tokens = t5("tokenize", stdin="".join(prompt + line + "\n" for line in lines)).splitlines()
            self.assertEqual(report["src_len"], sum(len(line.split("\t")[0].split()) for line in tokens) / 2)
            results = t5("translate", "--target", "de", stdin="\n".join(lines) + "\n")
            self.assertGreater(report["new_tokens"], len(results.split()) / 2)
            alone = json.loads(t5(*run, "2", "--in-flight", "1"))
            self.assertEqual(alone["new_tokens"], report["new_tokens"])
            self.assertLess(alone["rows_per_step"], report["rows_per_step"])
            self.assertIn("2 sentences, 3 are wanted", t5(*run, "3", expect=1)[1])
            self.assertIn("does not translate en to xx", t5(*run, "2", "--target", "xx", expect=1)[1])


if __name__ == "__main__":
    PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
