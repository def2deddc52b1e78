#!/usr/bin/env python3
"""./run, without its build. Usage: test_run.py"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]


class Run(unittest.TestCase):
    def test_from_another_folder(self):
        """Claim: ./run builds its own tree wherever it is called, and a relative --model is one of the caller's folders.
        Method: a tree of the scripts alone, with cmake, ninja, dpkg-query and t5serve that write down how they were called."""
        with tempfile.TemporaryDirectory() as folder:
            tree, tools, elsewhere = (pathlib.Path(folder, name) for name in ("tree", "tools", "elsewhere"))
            shutil.copytree(TOP / "scripts", tree / "scripts")
            shutil.copy(TOP / "run", tree)
            elsewhere.mkdir()
            server = tree / "build/release/server/t5serve"
            for path in (tools / "cmake", tools / "ninja", tools / "dpkg-query", server):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f'#!/bin/sh\necho "{path.name} in $PWD: $*" >>{folder}/calls\necho "$(dpkg --print-architecture) installed"\n')
                path.chmod(0o755)
            env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
            done = subprocess.run([tree / "run", "--model", "mine"], cwd=elsewhere, env=env, capture_output=True, text=True,
                                  check=False, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            calls = pathlib.Path(folder, "calls").read_text().splitlines()
            self.assertTrue(any(call.startswith(f"ninja in {tree}:") for call in calls), calls)
            self.assertEqual(calls[-1], f"t5serve in {elsewhere}: --model mine")


if __name__ == "__main__":
    unittest.main()
