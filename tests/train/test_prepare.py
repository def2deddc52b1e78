#!/usr/bin/env python3
"""Usage: test_prepare.py T5_PROGRAM SOURCE_FOLDER

Claim: train/prepare.py leaves out what cannot be learnt from, never lets a sentence of valid or test into training,
whatever pair of languages it came with, and writes the same bytes for the same input; train/quality.py and
bench/quality.py measure what `t5 translate` says, and fail when asked to; each names what is wrong with what it was given. Method: runs both scripts
on made-up sentences and on the first lines of the bundled model's tests. Needs sentencepiece and sacrebleu, no torch.
"""
import gzip
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

T5 = ""
SOURCE = Path()
WORDS = {"en": "red blue old new small house tree dog cat river sees finds likes near under the a".split(),
         "de": "rot blau alt neu klein Haus Baum Hund Katze Fluss sieht findet mag nahe unter der ein".split(),
         "fr": "rouge bleu vieux neuf petit maison arbre chien chat fleuve voit trouve aime vers sous le un".split()}


def run(script, *arguments, expect=0, folder="train"):
    command = [sys.executable, SOURCE / folder / f"{script}.py", *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, f"{command}: exit code {done.returncode}, not {expect}: {done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if expect == 0 else done.stdout + done.stderr


def sentences(n, languages, seed=1):
    """n random sentences, each in every language. Some differ in case and punctuation alone."""
    rng = random.Random(seed)
    for _ in range(n):
        choice = [rng.randrange(len(WORDS["en"])) for _ in range(rng.randint(2, 6))]
        row = [" ".join(WORDS[code][i] for i in choice) for code in languages]
        yield [text.capitalize() + rng.choice(".!") if rng.random() < 0.5 else text for text in row]


def write_pairs(path, pairs):
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    return path


def letters(text):
    return "".join(c for c in text.lower() if c.isalnum())


class FolderTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.out = self.folder / "data"

    def prepare(self, *arguments, expect=0):
        return run("prepare", self.out, "--license", "made up", *arguments, expect=expect)

    def read(self, split, pair):
        lines = (self.out / f"{split}.{pair}.tsv").read_text(encoding="utf-8").splitlines()
        return [tuple(line.split("\t")) for line in lines]


class PrepareTest(FolderTest):
    def test_splits_share_no_sentence(self):
        pairs = [("en", "de"), ("en", "fr"), ("fr", "de")]
        arguments = []
        for n, pair in enumerate(pairs):
            path = write_pairs(self.folder / f"{n}.tsv", sentences(1500, pair, seed=n))
            arguments += ["--pair", "-".join(pair), path]
        self.prepare(*arguments, "--vocab-size", "0", "--valid", "40", "--test", "60")
        seen = {}
        for split in ("train", "valid", "test"):
            for pair in pairs:
                for row in self.read(split, "-".join(pair)):
                    for code, text in zip(pair, row, strict=True):
                        self.assertEqual(seen.setdefault((code, letters(text)), split), split, text)
        self.assertEqual(set(seen.values()), {"train", "valid", "test"})
        manifest = json.loads((self.out / "manifest.json").read_text())
        left_out = [source["left_out"] for source in manifest["sources"]]
        self.assertTrue(any("known from a later split" in reason for counts in left_out for reason in counts))
        for source, counts in zip(manifest["sources"], left_out, strict=True):
            kept = sum(manifest["files"][f"{split}.{'-'.join(source['languages'])}.tsv"]["pairs"]
                       for split in ("train", "valid", "test"))
            self.assertEqual(kept + sum(counts.values()), source["lines"])

    def test_what_is_left_out(self):
        good = list(sentences(50, ("en", "de")))
        bad = [("", "leer"), ("x" * 300, "y" * 300), ("short", "a very much longer sentence than that"),
               ("this one was never translated", "this one was never translated"), good[0]]
        path = write_pairs(self.folder / "all.tsv", good + bad + [("two  spaces\u00a0here", "hier\u0007 zwei")])
        said = self.prepare("--pair", "en-de", path, "--vocab-size", "0")
        for reason in ("1 empty", "1 too long", "1 lengths differ too much", "1 not translated"):
            self.assertIn(reason, said)
        rows = [row for split in ("train", "valid", "test") for row in self.read(split, "en-de")]
        self.assertIn(("two spaces here", "hier zwei"), rows)
        self.assertEqual(len(rows), len(set(rows)))

    def test_same_input_same_bytes(self):
        path = write_pairs(self.folder / "all.tsv", sentences(1200, ("en", "de")))
        digests = []
        for _ in range(2):
            self.prepare("--pair", "en-de", path, "--vocab-size", "360")
            digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in self.out.iterdir()})
        self.assertEqual(*digests)
        manifest = json.loads((self.out / "manifest.json").read_text())
        listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        listed["spiece.model"] = manifest["tokenizer"]["sha256"]
        self.assertEqual({**listed, "manifest.json": digests[0]["manifest.json"]}, digests[0])
        self.assertEqual(manifest["sources"][0]["license"], "made up")

    def test_every_form_of_input(self):
        pairs = list(sentences(300, ("en", "de")))
        write_pairs(self.folder / "plain.tsv", pairs)
        (self.folder / "anki.txt").write_text("".join(f"{a}\t{b}\tCC-BY {n}\r\n" for n, (a, b) in enumerate(pairs)))
        (self.folder / "moses.en").write_text("".join(a + "\n" for a, _ in pairs))
        (self.folder / "moses.de.gz").write_bytes(gzip.compress("".join(b + "\n" for _, b in pairs).encode()))
        found = []
        for files in (["plain.tsv"], ["anki.txt"], ["moses.en", "moses.de.gz"]):
            self.prepare("--pair", "en-de", *(self.folder / name for name in files), "--vocab-size", "0")
            found.append([self.read(split, "en-de") for split in ("train", "valid", "test")])
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])

    def test_tokenizer_keeps_every_character(self):
        import sentencepiece
        path = write_pairs(self.folder / "all.tsv", sentences(1200, ("en", "de")))
        self.prepare("--pair", "en-de", path, "--vocab-size", "360")
        model = sentencepiece.SentencePieceProcessor(str(self.out / "spiece.model"))
        self.assertEqual((model.pad_id(), model.eos_id(), model.unk_id(), len(model)), (0, 1, 2, 360))
        text = "translate English to German: 東京 😀"
        self.assertEqual(model.decode(model.encode(text)), text)

    def test_wrong_input_is_named(self):
        write_pairs(self.folder / "good.tsv", sentences(50, ("en", "de")))
        (self.folder / "one.tsv").write_text("a\tb\nno tab here\n")
        (self.folder / "latin1.tsv").write_bytes(b"a\tb\ncaf\xe9\tb\n")
        (self.folder / "short.en").write_text("one\ntwo\n")
        (self.folder / "short.de").write_text("eins\n")
        good = self.folder / "good.tsv"
        for arguments, named, code in [
                (["--pair", "en-de", self.folder / "missing.tsv"], "missing.tsv: No such file", 1),
                (["--pair", "en-de", self.folder / "one.tsv"], "one.tsv:2: no tab", 1),
                (["--pair", "en-de", self.folder / "latin1.tsv"], "latin1.tsv:2: not UTF-8 at byte 4", 1),
                (["--pair", "en-de", self.folder / "short.en", self.folder / "short.de"], "same number of lines", 1),
                (["--pair", "english", good], "english", 1),
                (["--pair", "en-en", good], "en-en", 1),
                (["--pair", "en-de"], "--pair en-de: one file", 1),
                (["--pair", "en-de", good, "--pair", "de-en", good], "same two languages twice", 1),
                (["--pair", "en-de", good, "--vocab-size", "5000"], "--vocab-size 5000: SentencePiece", 1),
                (["--pair", "en-de", good, "--vocab-size", "100"], "--vocab-size: 100", 2),
                (["--pair", "en-de", good, "--test", "1000"], "--test", 2),
                (["--pair", "en-de", good, "--license", "another"], "--license: 2 for 1", 2),
                ([], "--pair", 2)]:
            self.assertIn(named, self.prepare(*arguments, expect=code))


class QualityTest(FolderTest):
    def quality(self, *arguments, expect=0):
        model = SOURCE / "models/t5-tatoeba"
        return run("quality", model, "--t5", T5, "--tests", model / "data", *arguments, expect=expect)

    def test_a_run(self):
        report, plot = self.folder / "q.json", self.folder / "q.svg"
        said = self.quality("--lines", 12, "--compute-type", "float32", "int8", "--json", report, "--plot", plot)
        rows = json.loads(report.read_text())["rows"]
        self.assertIn("nrefs:1|case:mixed", said)
        self.assertEqual({(row["run"], row["lines"]) for row in rows}, {("float32", 12), ("int8", 12)})
        for row in rows:
            self.assertIn(f"| {row['run']} | {row['direction']} | 12 | {row['bleu']} | {row['chrf']} |", said)
            self.assertEqual(row["same"] if row["run"] == "float32" else 1, 1)
            self.assertTrue(0 < row["chrf"] < 100 and len(row["outputs"]) == 12)
        self.assertEqual(sum(e.tag.endswith("rect") for e in ElementTree.parse(plot).iter()), 1 + len(rows) + 2)

    def test_a_limit_fails_the_run(self):
        self.quality("--lines", 3, "--num-beams", 1, "--directions", "en-de", "--limit", "0")
        self.assertIn("loses", self.quality("--lines", 3, "--num-beams", 1, "--limit", "-1", expect=1))

    def test_smaller_weights(self):
        for limit, code in (("100", 0), ("-100", 1)):  # BLEU of two lines may jump
            said = run("quality", "--t5", T5, "--lines", 2, "--limit", limit, folder="bench", expect=code)
            self.assertIn(f"allowed are {float(limit)}", said)
        for weights in ("float32", "bfloat16", "int8", "int4"):
            self.assertEqual(said.count(f"2 lines | greedy | {weights} |"), 6)
            self.assertEqual(said.count(f"2 lines | 4 beams | {weights} |"), 6)

    def test_wrong_use_is_named(self):
        unknown = self.folder / "unknown"
        unknown.mkdir()
        (unknown / "test.en-it.tsv").write_text("Good night.\tBuona notte.\n", encoding="utf-8")
        for arguments, named, code in [
                (["--directions", "en-xx"], "test.en-xx.tsv", 1),
                (["--tests", unknown], "it is not supported", 1),
                (["--compute-type", "float8"], "float8", 1),
                (["--lines", "0"], "--lines", 2),
                (["--t5", self.folder / "none"], "--t5 names the program", 1),
                (["--tests", self.folder], "no test.SOURCE-TARGET.tsv", 1)]:
            self.assertIn(named, self.quality("--num-beams", 1, *arguments, expect=code))

    def test_plain_sentences(self):
        """The bundled model's translations of plain sentences are those that were read by eye and kept; a few may differ,
        since processors round differently."""
        sys.path.insert(0, str(SOURCE / "train"))
        from scores import is_loop
        model = SOURCE / "models/t5-tatoeba"
        for source, target in json.loads((model / "t5serve.json").read_text())["pairs"]:
            path, kept = model / f"data/plain.{source}.txt", model / f"data/plain.{source}-{target}.tsv"
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line.split("\t") for line in kept.read_text(encoding="utf-8").splitlines()]
            self.assertGreaterEqual(len(lines), 50 if source == "en" else 15)
            self.assertEqual([row[0] for row in kept], lines)
            done = subprocess.run([T5, "translate", "--source", source, "--target", target, path], capture_output=True,
                                  text=True, check=True, timeout=300)
            outputs = done.stdout.splitlines()
            self.assertFalse([text for text in outputs if is_loop(text) or not text.strip()])
            self.assertGreaterEqual(len(set(outputs)), 0.8 * len(lines))
            same = sum(map(str.__eq__, outputs, (row[1] for row in kept)))
            self.assertGreaterEqual(same, 0.85 * len(lines), f"{source}-{target}: kept outputs that are the same")

    def test_scores(self):
        sys.path.insert(0, str(SOURCE / "train"))
        from scores import Judge, agreement, is_loop
        texts = [" ".join(row) for row in sentences(30, ("en", "de"))]
        perfect = Judge().score(texts, texts)
        self.assertEqual((perfect["bleu"], perfect["chrf"], perfect["length_ratio"]), (100, 100, 1))
        self.assertEqual((perfect["loops"], perfect["empty"]), (0, 0))
        broken = Judge().score(["", "we go we go we go"] + texts[2:], texts)
        self.assertEqual((broken["loops"], broken["empty"]), (1, 1))
        self.assertLess(broken["bleu"], 100)
        self.assertEqual(agreement(["a", "b", "c", "d"], ["a", "b", "c", "x"]), 0.75)
        for text in ("no no no", "a b c a b c a b c", "so We go we go we go"):
            self.assertTrue(is_loop(text), text)
        for text in ("no no, no", "a b a b", "a a b a a b", ""):
            self.assertFalse(is_loop(text), text)


if __name__ == "__main__":
    T5, SOURCE = sys.argv[1], Path(sys.argv[2]).resolve()
    unittest.main(argv=sys.argv[:1])
