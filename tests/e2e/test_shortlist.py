#!/usr/bin/env python3
"""t5serve with shortlists: the bundled model, whose list for German is made here, by t5. Usage: test_shortlist.py T5SERVE
T5"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

from server import Server

T5 = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)
MODEL = pathlib.Path(__file__).resolve().parents[2] / "models/t5-tatoeba"
N_TEXTS = 8  # a build with sanitizers translates slowly
STATION = "Where is the station?"


def pairs(target):
    lines = (MODEL / f"data/test.en-{target}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[:2] for line in lines]


def t5(*words, stdin=""):
    done = subprocess.run([T5, *words], input=stdin.encode(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def tokens(line):
    """{"ids": [...], "pieces": [...]}"""
    return json.loads(t5("tokenize", "--json", "--model", str(MODEL), stdin=line + "\n"))


class Shortlist(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.TemporaryDirectory()
        self.model = pathlib.Path(self.work.name, "model")
        self.model.mkdir()
        for file in MODEL.iterdir():
            (self.model / file.name).symlink_to(file)
        self.file = self.model / "shortlist.de.json"
        t5("shortlist", "--model", str(self.model), "--target", "de", stdin="".join(f"{de}\n" for _, de in pairs("de")))

    def tearDown(self):
        self.work.cleanup()

    def ask(self, server, text, target="de", **fields):
        reply = server.translate(text, target=target, **fields)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def test_translations(self):
        """Claim: with the setting German is written with pieces of its list alone, also in beams' alternatives and in
        streams, beside French, which has no list, and to several clients at once; without it nothing changes. Method: a
        word that the model says is taken off the list; the same requests alone and together."""
        texts = [en for en, _ in pairs("de")[:N_TEXTS]]
        with Server(PROGRAM, "--model", str(self.model)) as server:
            self.assertNotIn("shortlist", server.log_text())
            exact = self.ask(server, STATION)["translatedText"]
            french = [self.ask(server, text, "fr")["translatedText"] for text in texts]
        listed = json.loads(self.file.read_text())
        word = max(exact.strip("?").split(), key=len)
        gone = [i for i, piece in zip(*tokens(word).values()) if len(piece) > 2 and piece != "</s>"]
        self.assertTrue(gone)
        listed["ids"] = [i for i in listed["ids"] if i not in gone]
        self.file.write_text(json.dumps(listed))
        with Server(PROGRAM, "--model", str(self.model), "--shortlist") as server:
            self.assertRegex(server.log_text(), rf"shortlist target=de pieces={len(listed['ids'])} of=\d+")
            for fields in ({}, {"num_beams": 1}, {"do_sample": True, "num_beams": 1, "seed": 3}):
                reply = self.ask(server, STATION, alternatives=2, **fields)
                for text in [reply["translatedText"], *reply["alternatives"]]:
                    self.assertNotIn(word, text)
            german = [self.ask(server, text)["translatedText"] for text in texts]
            with ThreadPoolExecutor(16) as pool:
                mixed = list(pool.map(lambda job: self.ask(server, *job)["translatedText"],
                                      [(text, target) for text in texts for target in ("de", "fr")]))
            self.assertEqual(mixed[0::2], german)
            self.assertEqual(mixed[1::2], french)
            stream = server.translate(STATION, stream=True)
            self.assertEqual(stream.status, 200)
            said = "".join(json.loads(line).get("text", "")
                           for line in re.findall(r"(?m)^data: (\{.*\})$", stream.body.decode()))
            self.assertNotIn(word, said)
            self.assertTrue(said)

    def test_wrong_file(self):
        """Claim: a list that cannot be used stops the start, with a reason; without the setting nobody reads it."""
        self.file.write_text(json.dumps({"tokenizer": "0" * 16, "ids": [1]}))
        done = subprocess.run([PROGRAM, "--port", "0", "--model", str(self.model), "--shortlist"], capture_output=True,
                              timeout=120)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"shortlist\.de\.json: tokenizer: .*another vocabulary")
        with Server(PROGRAM, "--model", str(self.model)) as server:
            self.ask(server, "How are you?")

    def test_no_file(self):
        """Claim: a folder without lists is served exactly, and the log says so."""
        self.file.unlink()
        with Server(PROGRAM, "--model", str(self.model), env={"T5_SHORTLIST": "true"}) as server:
            self.assertRegex(server.log_text(), r"warn shortlist model=\S+ text=.*whole vocabulary")
            with Server(PROGRAM, "--model", str(self.model)) as other:
                self.assertEqual(self.ask(server, STATION), self.ask(other, STATION))


if __name__ == "__main__":
    unittest.main()
