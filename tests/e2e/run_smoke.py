#!/usr/bin/env python3
"""Runs docker/smoke.sh against a t5serve with the bundled model. Usage: run_smoke.py T5SERVE SMOKE_SH"""
import subprocess
import sys

from server import Server

with Server(sys.argv[1]) as server:
    sys.exit(subprocess.call([sys.argv[2], f"http://127.0.0.1:{server.port}"]))
