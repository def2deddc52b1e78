#!/usr/bin/env python3
"""Claim: /spec is whole and true: every route is described, and whatever a client makes of the description is answered with a status, a
type and a body that it promises, never with 500. Method: the table of routes; schemathesis (Python package) with a fixed seed and a
bounded number of requests. Usage: test_spec.py T5SERVE TOP"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from server import Server

TOP = pathlib.Path(sys.argv.pop(2))
PROGRAM = sys.argv.pop(1)
HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = os.environ.get("T5_TEST_EXAMPLES", "8")
# Of the others two want a server that refuses what it could read, and one that guards every path.
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance,unsupported_method,allow_header_conformance,missing_required_header")
NOT_DESCRIBED = {"/", "/docs", "/docs/", "/spec", "/download_file/*"}


class Spec(unittest.TestCase):
    def test_routes_are_described(self):
        """Claim: the specification has each route with its method, and no other. The pages, their parts and the specification itself
        are not for clients."""
        table = (TOP / "server/routes.c").read_text(encoding="utf-8").partition("t5_server_routes[] = {")[2]
        routes = set(re.findall(r'\{"(GET|POST)", "([^"]+)"', table.partition("};")[0]))
        self.assertGreater(len(routes), 20)
        with Server(PROGRAM) as server:
            spec = server.get("/spec").json()
        described = {(method.upper(), re.sub(r"\{\w+\}", "*", path)) for path, methods in spec["paths"].items() for method in methods}
        self.assertEqual(described, {(m, p) for m, p in routes if p not in NOT_DESCRIBED and not p.startswith("/web/")})

    def test_answers_are_as_described(self):
        program = pathlib.Path(sys.executable).parent / "schemathesis"
        with Server(PROGRAM, "--metrics") as server, tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [program, "run", f"http://{server.host}:{server.port}/spec", "--phases", "examples,coverage,fuzzing", "-n", EXAMPLES,
                 "--seed", "1", "--generation-deterministic", "--checks", CHECKS, "--request-timeout", "60", "--no-color",
                 "--warnings", "off", "--suppress-health-check", "all"],
                env={**os.environ, "SCHEMATHESIS_HOOKS": "spec_hooks", "PYTHONPATH": str(HERE), "PYTHONUTF8": "1"},
                cwd=folder, capture_output=True, text=True, check=False, timeout=580)
            self.assertEqual(done.returncode, 0, done.stdout[-8000:] + done.stderr[-2000:])
            self.assertGreater(int(re.search(r"(\d+) generated", done.stdout).group(1)), 200)
            self.assertEqual(server.get("/health").status, 200)
            self.assertNotIn("request_failed", server.log_text())


if __name__ == "__main__":
    unittest.main()
