#!/usr/bin/env python3
"""What `cmake --install` leaves is whole. Usage: test_install.py CMAKE BUILD_FOLDER"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

from server import Server

CMAKE, BUILD = sys.argv[1:3]
del sys.argv[1:]


class Install(unittest.TestCase):
    def test_installed_programs(self):
        """Claim: both programs run from where they were installed, with the model that came with them."""
        with tempfile.TemporaryDirectory() as folder:
            prefix = pathlib.Path(folder, "usr local")
            subprocess.run([CMAKE, "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL, timeout=120)
            with Server(str(prefix / "bin/t5serve")) as server:
                self.assertIn(f'dir="{prefix}/share/t5serve/models/t5-tatoeba"', server.log_text())
                self.assertEqual(server.translate("How are you?").status, 200)
            done = subprocess.run([prefix / "bin/t5", "translate", "--source", "en", "--target", "de", "--verbose"], input="Hello.\n",
                                  capture_output=True, text=True, check=True, timeout=120)
            self.assertEqual(done.stdout.count("\n"), 1)


unittest.main(verbosity=2)
