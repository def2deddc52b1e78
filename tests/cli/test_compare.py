#!/usr/bin/env python3
"""Usage: test_compare.py BUILD_FOLDER SOURCE_FOLDER

Claim: bench/compare measures both sides, pinned, and says so with its exit code when it could not: an engine that is
missing or dies, outputs of another model, nothing measured. Method: the real bench_decode beside a CTranslate2 of our
own, which gives the answers that it was told, others, or none; a valgrind of our own counts nothing, but says so much.
"""
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD, SOURCE = map(Path, sys.argv[1:])
CORES = sorted(os.sched_getaffinity(0))
SOURCES = ["13 5 27 1", "40 6 1", "7 8 9 10 11 1"] * 43
RIVAL = """
import json, os
__version__ = "of the test"
class Result:
    def __init__(self, ids):
        self.hypotheses = [[["<pad>", "</s>", "<unk>"][i] if i < 3 else f"t{i}" for i in ids]]
class Translator:
    def __init__(self, folder, **options):
        if os.environ["RIVAL"] == "cannot load":
            raise RuntimeError("no such model")
        self.n_threads = options["intra_threads"]
    def translate_batch(self, sources, **options):
        if os.environ["RIVAL"] == "dies":
            os._exit(3)
        with open(os.environ["CALLS"], "a") as calls:
            cores = sorted(os.sched_getaffinity(0))
            calls.write(f"{self.n_threads} threads on {cores}: {len(sources)} by {options['max_batch_size']}\\n")
        answers = json.load(open(os.environ["ANSWERS"]))
        lines = [" ".join(str(["<pad>", "</s>", "<unk>"].index(t) if t[0] == "<" else t[1:]) for t in s) for s in sources]
        return [Result(answers[line] if os.environ["RIVAL"] == "right" else [5, 1]) for line in lines]
"""

VALGRIND = """#!/bin/sh
for argument; do case $argument in --callgrind-out-file=*) echo "${argument#*=}" >"$CALLS.out";; esac; done
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
CALLGRIND_CONTROL = """#!/bin/sh
echo "$1" >>"$CALLS"
out=$(cat "$CALLS.out") number=1
while [ -e "$out.$number" ]; do number=$((number + 1)); done
test "$1" != --dump || echo "totals: $(grep -c -e --dump "$CALLS")000000" >"$out.$number"
"""


def cell(load, ours=None, theirs=None, **more):
    sides = {name: {"median": x, "min": x, "max": x} for name, x in (("ours", ours), ("theirs", theirs)) if x}
    return {"shape": "bundled", "type": "int8", "threads": 1, "load": load, "unit": "M instr.", **sides, **more}


class CompareTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work, self.python = Path(folder.name, "work"), Path(folder.name, "python")
        (self.work / "bundled-ct2").mkdir(parents=True)
        (self.work / "bundled-ct2/model.bin").touch()
        (self.work / "bundled.txt").write_text("".join(line + "\n" for line in SOURCES))
        for name in ("converters", "specs"):
            (self.python / "ctranslate2" / name).mkdir(parents=True)
        for name, text in (("numpy", "float32 = float16 = uint16 = None"), ("ctranslate2/__init__", RIVAL),
                           ("ctranslate2/converters/__init__", "utils = None"),
                           ("ctranslate2/specs/__init__", "common_spec = transformer_spec = None")):
            (self.python / f"{name}.py").write_text(text + "\n")

    def compare(self, *arguments, rival="right", expect=0):
        env = {**os.environ, "PYTHONPATH": str(self.python), "RIVAL": rival, "ANSWERS": str(self.work / "answers"),
               "PATH": f"{self.python}:{os.environ['PATH']}", "CALLS": str(self.work / "calls")}
        done = subprocess.run([sys.executable, SOURCE / "bench/compare", "--build", BUILD, "--work", self.work,
                               *arguments], capture_output=True, text=True, env=env, timeout=300)
        self.assertEqual(done.returncode, expect, done.stderr)
        return done.stdout, done.stderr

    def calls(self):
        return (self.work / "calls").read_text().splitlines()

    def measure(self, *arguments, loads=("1 sentence, greedy",), **options):
        """In float32, a lone sentence unless other loads are asked for."""
        command = [BUILD / "bench/bench_decode", "--model", SOURCE / "models/t5-tatoeba", "--sources",
                   self.work / "bundled.txt", "--compute-type", "float32"]
        out = subprocess.run(command, input="16 1 1 0 64\n", stdout=subprocess.PIPE, text=True, check=True).stdout
        answers = dict(zip(SOURCES, json.loads(out.splitlines()[1])["ids"]))
        (self.work / "answers").write_text(json.dumps(answers))
        return self.compare("--shapes", "bundled", "--types", "float32", "--threads", "1", "--rounds", "2", "--loads",
                            *loads, *arguments, **options)

    def test_both_sides(self):
        table, _ = self.measure()
        self.assertIn("| bundled | float32 | 1 | 1 sentence, greedy | ", table)
        self.assertIn("| 16/16 |", table)
        cells = [json.loads(line) for line in (self.work / "compare.jsonl").read_text().splitlines()]
        self.assertEqual([c["load"] for c in cells], ["1 sentence, greedy", "load the model", "peak memory"])
        self.assertEqual({line.split(":")[0] for line in self.calls()}, {f"1 threads on [{CORES[-1]}]"})
        for c in cells:
            for side in ("ours", "theirs"):
                self.assertLessEqual(c[side]["min"], c[side]["median"])
                self.assertLessEqual(c[side]["median"], c[side]["max"])
        self.assertEqual(table, self.compare("--table")[0])

    def test_instructions(self):
        """Counting is on while a load runs, and only then; theirs runs by the size that was faster without valgrind."""
        for name, text in (("valgrind", VALGRIND), ("callgrind_control", CALLGRIND_CONTROL)):
            (self.python / name).write_text(text)
            (self.python / name).chmod(0o755)
        table, _ = self.measure("--instructions", loads=["1 sentence, greedy", "128 sentences, greedy"])
        self.assertIn("| bundled | float32 | 1 | 1 sentence, greedy | 1 M instr. | 3 M instr. | **0.33** |", table)
        self.assertIn("| bundled | float32 | 1 | 128 sentences, greedy | 2 M instr. | 4 M instr. | **0.50** |", table)
        lone = f"1 threads on [{CORES[-1]}]: 1 by"
        calls = self.calls()
        self.assertEqual(calls[:6], ["--instr=on", "--dump", "--instr=off"] * 2)
        lines = calls[calls.index("--instr=off", 4) + 1:]
        tried, counted = lines[:5], lines[5:]
        self.assertEqual({line.split(" by ")[1] for line in tried}, {"32", "128"})
        size = counted[0].split(" by ")[1]
        self.assertEqual([line for line in counted if not line.startswith(lone)],
                         ["--instr=on", "--dump", "--instr=off", "--instr=on", f"1 threads on [{CORES[-1]}]: 128 by {size}",
                          "--dump", "--instr=off"])
        self.assertEqual([i for i, line in enumerate(counted) if line.startswith(lone)], [*range(16), *range(17, 33)])

    def test_scaling(self):
        if len(CORES) < 2:
            return
        table, _ = self.measure("--scaling", "--threads", "2")
        self.assertRegex(table, r"1 sentence, greedy \| [\d.]+ times.* \| [\d.]+ times.* \| as fast as one thread")
        self.assertEqual({line.split(":")[0] for line in self.calls()},
                         {f"1 threads on [{core}]" for core in CORES[-2:]} | {f"2 threads on {CORES[-2:]}"})

    def test_other_outputs(self):
        table, errors = self.measure(rival="wrong", expect=1)
        self.assertIn("OUTPUTS DIFFER", errors)
        self.assertIn("| 0/16 |", table)

    def test_engines_that_end(self):
        for rival in ("dies", "cannot load"):
            self.assertIn("theirs has ended", self.measure(rival=rival, expect=1)[1])
        (self.work / "bundled.txt").write_text("13 99999999 1\n" * 18)  # no such id
        self.assertIn("ours has ended", self.compare("--shapes", "bundled", "--loads", "1 sentence, greedy", expect=1)[1])

    def test_missing_rival(self):
        (self.python / "ctranslate2/__init__.py").write_text("raise ModuleNotFoundError('ctranslate2')\n")
        self.assertIn("ModuleNotFoundError", self.compare("--shapes", "bundled", expect=1)[1])
        (self.work / "bundled-ct2/model.bin").unlink()  # to be made
        self.assertIn("ModuleNotFoundError", self.compare("--shapes", "bundled", expect=1)[1])

    def test_old_rival_folder(self):
        """A folder older than the weights is not used."""
        os.utime(self.work / "bundled-ct2/model.bin", (0, 0))
        self.assertIn("write_ctranslate2", self.compare("--shapes", "bundled", expect=1)[1])

    def test_nothing_measured(self):
        for text in ("", json.dumps(cell("1 sentence, greedy", 10, 20)) + "\n"):  # what is there does not count
            (self.work / "compare.jsonl").write_text(text)
            self.assertIn("nothing was measured", self.compare("--scaling", "--threads", "1", expect=1)[1])
        self.compare("--table", "--out", self.work / "none", expect=1)
        self.compare("--sides", "ours", expect=2)

    def test_small_values(self):
        """What takes next to no time, or no memory, has a row and may have no ratio."""
        sys.dont_write_bytecode = True
        loader = importlib.machinery.SourceFileLoader("compare", str(SOURCE / "bench/compare"))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
        loader.exec_module(module)
        self.assertEqual(module.summary([0.00312, 0.0041, 12.344]), {"median": 0.0041, "min": 0.0031, "max": 12.34})
        self.assertEqual(module.summary([0.0]), {"median": 0.0, "min": 0.0, "max": 0.0})
        (self.work / "compare.jsonl").write_text(json.dumps(
            {**cell("peak memory", 10), "unit": "MiB", "theirs": module.summary([0.0])}) + "\n")
        self.assertIn("| bundled | int8 | 1 | peak memory | 10 MiB | 0 MiB |  |  |  |", self.compare("--table")[0])

    def test_later_lines(self):
        lines = [cell("32 sentences, greedy", 30, 60), cell("1 sentence, greedy", 10, 20),
                 cell("32 sentences, greedy", 15), cell("1 sentence, greedy", 90, 20, isa="avx2"),
                 cell("1 sentence, 4 beams", 7)]
        (self.work / "compare.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        rows = [line for line in self.compare("--table")[0].splitlines() if "bundled" in line]
        self.assertEqual(rows, [
            "| bundled | int8 | 1 | 1 sentence, greedy | 10 M instr. | 20 M instr. | **0.50** |",
            "| bundled | int8 | 1 | 1 sentence, 4 beams | 7 M instr. |  |  |",
            "| bundled | int8 | 1 | 32 sentences, greedy | 15 M instr. | 60 M instr. | **0.25** |",
            "| bundled | int8, avx2 | 1 | 1 sentence, greedy | 90 M instr. | 20 M instr. | **4.50** |"])


class RandomModelTest(unittest.TestCase):
    def test_no_two_weights_are_alike(self):
        """CTranslate2 keeps equal ones once, and would read less than a trained model makes it read."""
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, SOURCE / "bench/random_model.py", "bundled", folder], check=True)
            data = Path(folder, "model.safetensors").read_bytes()
        n_header = int.from_bytes(data[:8], "little")
        ranges = [(8 + n_header + begin, 8 + n_header + end) for begin, end in
                  (tensor["data_offsets"] for tensor in json.loads(data[8:8 + n_header]).values()
                   if len(tensor["shape"]) == 2)]
        weights = [data[begin:end] for begin, end in ranges]
        self.assertEqual(len(weights), 4 * 6 + 2 * 10 + 2 + 1)
        self.assertTrue(all(end <= len(data) for _, end in ranges))
        self.assertEqual(len(set(weights)), len(weights))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
