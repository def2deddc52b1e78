#!/usr/bin/env python3
"""./run and ./check, without their builds: a tree of the scripts alone, and tools that write down how they were called.
Usage: test_run.py"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
REPORT = """\
    Start 1: one
1/3 Test #1: one ..............................   Passed    0.01 sec
2/3 Test #2: two ..............................***Skipped   0.01 sec
3/3 Test #3: three ............................***Failed    0.01 sec
2/3 Test #2: what a failed test printed .......***Skip

67% tests passed, 1 tests failed out of 3
"""


class Run(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        top = pathlib.Path(self.folder.name)
        self.tree, self.tools, self.elsewhere, self.calls = (top / name for name in ("tree", "tools", "elsewhere", "calls"))
        shutil.copytree(TOP / "scripts", self.tree / "scripts")
        self.elsewhere.mkdir()
        installed = 'echo "$(dpkg --print-architecture) installed"'
        for path, says in ((self.tools / "cmake", ":"), (self.tools / "ninja", ":"), (self.tools / "dpkg-query", installed),
                           (self.tools / "ctest", f"cat {top}/report"), (self.tree / "build/release/server/t5serve", ":")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'#!/bin/sh\necho "{path.name} in $PWD: $*" >>{self.calls}\n{says}\n')
            path.chmod(0o755)
        (top / "report").write_text(REPORT)

    def tearDown(self):
        self.folder.cleanup()

    def start(self, script, *words):
        shutil.copy(TOP / script, self.tree)
        env = {**os.environ, "PATH": f"{self.tools}:{os.environ['PATH']}"}
        return subprocess.run([self.tree / script, *words], cwd=self.elsewhere, env=env, capture_output=True, text=True,
                              check=False, timeout=60)

    def test_run_from_another_folder(self):
        """Claim: ./run builds its own tree wherever it is called, and a relative --model is one of the caller's folders."""
        done = self.start("run", "--model", "mine")
        self.assertEqual(done.returncode, 0, done.stderr)
        calls = self.calls.read_text().splitlines()
        self.assertTrue(any(call.startswith(f"ninja in {self.tree}:") for call in calls), calls)
        self.assertEqual(calls[-1], f"t5serve in {self.elsewhere}: --model mine")

    def test_first_build_is_announced(self):
        """Claim: the minutes of the first build are told before they begin; later ./run adds nothing to what t5serve prints."""
        self.assertEqual(self.start("run").stderr, "building into build/release, some minutes the first time\n")
        (self.tree / "build/release/build.ninja").touch()
        self.assertEqual(self.start("run").stderr, "")

    def test_check_counts(self):
        """Claim: the last line of ./check counts what passed and what failed; what was skipped is neither, and is told."""
        done = self.start("check", "--quick")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout.splitlines()[-2:], ["1 skipped, see above", "1 passed, 1 failed"])


if __name__ == "__main__":
    unittest.main()
