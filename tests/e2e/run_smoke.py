#!/usr/bin/env python3
"""Runs docker/smoke.sh against a t5serve with the bundled model, and its --help without one. Usage: run_smoke.py T5SERVE SMOKE_SH"""
import subprocess
import sys

from server import Server

usage = subprocess.run([sys.argv[2], "--help"], capture_output=True, text=True, timeout=20)
assert usage.returncode == 0 and "smoke.sh [URL]" in usage.stdout, usage
assert subprocess.run([sys.argv[2], "--wait"], capture_output=True, timeout=20).returncode == 1
with Server(sys.argv[1]) as server:
    sys.exit(subprocess.call([sys.argv[2], f"http://127.0.0.1:{server.port}/"]))  # as browsers write it
