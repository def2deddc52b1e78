#!/usr/bin/env python3
"""t5serve on a GPU that is lost at some call of the CUDA runtime, at the start or under load. Method: the GPU's code on the
host runtime of tests/simt, whose calls all fail from the n-th on, for n from the first to late in the work.
Usage: test_lost_gpu.py T5SERVE CUDA_PLUGIN SOURCE_DIR"""
import subprocess
import sys
import threading
import time
import unittest

from server import Server

SOURCE, PLUGIN, PROGRAM = sys.argv.pop(), sys.argv.pop(), sys.argv.pop()
FLAGS = ["--device", "cuda", "--model", f"{SOURCE}/tests/fixtures/madlad", "--max-running-rows=32", "--max-source-tokens=32",
         "--max-new-tokens=8", "--access-log=false"]
CLIENTS = 4
EXIT_DEVICE = 3
END_S = 240  # slow builds need some; a hang would last for ever


def environment(lost_at):
    return {"T5_CUDA_PLUGIN": PLUGIN, "SIMT_LOST_AT": str(lost_at)}


class Clients:
    """Threads that ask until nobody answers."""

    def __init__(self, server, expected):
        self.server, self.expected = server, expected
        self.n_right, self.n_refused, self.wrong = 0, 0, []
        self.threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self):
        try:
            while True:
                reply = self.server.translate("Hello.", num_beams=2)
                if reply.status == 200 and reply.json() == self.expected:
                    self.n_right += 1
                elif reply.status == 503 and reply.error:
                    self.n_refused += 1
                    ready = self.server.get("/ready")
                    if ready.status not in (0, 503):  # 0: the server has gone
                        self.wrong.append(("/ready", ready.status))
                elif reply.status != 0:
                    self.wrong.append((reply.status, reply.body))
        except (ConnectionRefusedError, ConnectionResetError):
            pass


class LostGpu(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Server(PROGRAM, *FLAGS, env={"T5_CUDA_PLUGIN": PLUGIN}) as server:
            cls.expected = server.translate("Hello.", num_beams=2).json()

    def test_at_the_start(self):
        """Claim: a GPU that fails before the server listens ends it with 3 and one line that says why."""
        for n in (0, 1, 5, 20, 50):
            done = subprocess.run([PROGRAM, "--port=0", *FLAGS], env=environment(n), capture_output=True, timeout=END_S, text=True)
            self.assertEqual(done.returncode, EXIT_DEVICE, done.stderr)
            self.assertIn("t5serve: ", done.stderr.splitlines()[-1])
            self.assertNotIn("listening", done.stderr)

    def test_under_load(self):
        """Claim: requests get their answer or a 503 with its reason, /ready is 503 from then on, and the process ends with 3."""
        n_lost = 0
        for n in (3000, 5000, 8000):
            with Server(PROGRAM, *FLAGS, env=environment(n)) as server:
                clients, begin = Clients(server, self.expected), time.monotonic()
                self.assertEqual(server.process.wait(END_S), EXIT_DEVICE, server.log_text())
                for thread in clients.threads:
                    thread.join()
                self.assertEqual(clients.wrong, [])
                self.assertIn("device_lost", server.log_text())
                print(f"lost at call {n}: {clients.n_right} right, {clients.n_refused} refused, ended after "
                      f"{time.monotonic() - begin:.1f} s")
                n_lost += clients.n_refused > 0
        self.assertGreater(n_lost, 0)


unittest.main(verbosity=2, warnings="ignore")
