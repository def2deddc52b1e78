#!/usr/bin/env python3
"""t5serve with the bundled model under many clients: right answers on every reply, fair shares, exact counts. Method:
what a request gets alone is the measure of what it must get among others. T5_TEST_SCALE makes it smaller for slow builds.
Usage: test_load.py T5SERVE"""
import json
import random
import sys
import time
import unittest

from load import (FLAGS, Background, alone, in_threads, metrics, mixed_requests, percentile, scaled, sentences, told, translate,
                  wait_until)
from server import Reply, Server, read_reply

PROGRAM = sys.argv.pop(1)
CLIENTS = 64


class Load(unittest.TestCase):
    def test_mixed_clients(self):
        """Claim: 64 clients with requests of every kind get what each request gets alone, byte for byte. Method: each client
        walks through all of them from another point, on connections that stay and on new ones."""
        requests = mixed_requests(scaled(110, 33))
        rounds = scaled(2200) // len(requests) // 10 + 1
        with Server(PROGRAM, *FLAGS) as server:
            expected = alone(server, requests)
            self.assertEqual({status for status, _ in expected}, {200, 400})

            def client(i):
                order = random.Random(i)
                sock = server.connect()
                for _ in range(rounds * 10):
                    k = order.randrange(len(requests))
                    got = told(server.raw(requests[k], sock))
                    self.assertEqual(got, expected[k], requests[k])
                    if order.random() < 0.2:
                        sock.close()
                        sock = server.connect()
                sock.close()

            in_threads(CLIENTS, client)
            wait_until(lambda: metrics(server)["t5serve_sequences_running"] == 0)
            now = metrics(server)
            self.assertEqual(now["t5serve_cancelled_total"] + now["t5serve_failed_total"] + now["t5serve_rejected_total"], 0)
            print(f"{CLIENTS * rounds * 10} replies compared")


unittest.main(verbosity=2, warnings="ignore")
