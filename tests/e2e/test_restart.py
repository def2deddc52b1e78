#!/usr/bin/env python3
"""t5serve ends in the middle of load, orderly and not, again and again (T5_TEST_REPEATS). Method: clients without pause
that know what each reply must be, on the real server with the bundled model. Usage: test_restart.py T5SERVE"""
import random
import re
import signal
import sys
import threading
import time
import unittest

from load import FLAGS, REPEATS, alone, mixed_requests, percentile, scaled, told
from server import STOP_S, Reply, Server, read_reply, reserved_port, wait_until

PROGRAM = sys.argv.pop(1)
CLIENTS = 16
N_REQUESTS = 22


class Clients:
    """Threads that ask until the server is gone. A request that was sent on an open connection must be answered, right or
    with 503; a connection that the server ended before it saw a request is no loss."""

    def __init__(self, server, requests, expected):
        self.server, self.requests, self.expected = server, requests, expected
        self.counts, self.lost = {}, []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def run(self, i):
        order, sock = random.Random(i), None
        try:
            while True:
                sock = sock or self.server.connect()
                k = order.randrange(len(self.requests))
                reply = self.server.raw(self.requests[k], sock)
                self.count(reply.status)
                if reply.status != 503 and told(reply) != self.expected[k]:
                    self.lost.append((k, reply.status, reply.body))
                if reply.headers.get("connection", "").lower() == "close" or reply.status != 200 or order.random() < 0.1:
                    sock.close()
                    sock = None
        except (ConnectionRefusedError, ConnectionResetError):
            pass
        except Exception as problem:  # pylint: disable=broad-except
            self.lost.append(repr(problem))

    def join(self):
        for thread in self.threads:
            thread.join()


class Restart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.requests = mixed_requests(N_REQUESTS)
        with Server(PROGRAM, *FLAGS) as server:
            cls.expected = alone(server, cls.requests)

    def test_sigterm_under_load(self):
        """Claim: whatever the moment of SIGTERM, no request that was taken is lost or answered wrongly, and the process ends
        with 0 in time. Method: 16 clients; SIGTERM after 0 to 300 ms."""
        rng, counts = random.Random(7), {}
        for _ in range(REPEATS):
            with Server(PROGRAM, *FLAGS) as server:
                clients = Clients(server, self.requests, self.expected)
                time.sleep(rng.uniform(0, 0.3))
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.process.wait(STOP_S), 0)
                clients.join()
                self.assertEqual(clients.lost, [])
            for what, n in clients.counts.items():
                counts[what] = counts.get(what, 0) + n
        print(f"{REPEATS} stops: {counts}, none lost")

    def test_two_sigterms_under_load(self):
        """Claim: a second SIGTERM hurries: what runs is told 503 or is answered, exit code 0 within seconds. Method: work
        that would take minutes; the second signal some milliseconds after the first."""
        slow = self.requests[0].replace(b'"num_beams": 1', b'"num_beams": 8, "min_new_tokens": 60, "max_new_tokens": 64')
        self.assertNotEqual(slow, self.requests[0])
        slow = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(slow.partition(b"\r\n\r\n")[2]), slow)
        for i in range(max(2, REPEATS // 10)):
            with Server(PROGRAM, *FLAGS) as server:
                socks = [server.connect() for _ in range(scaled(200, 40))]
                for sock in socks:
                    sock.sendall(slow)
                time.sleep(0.1)
                begin = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                server.wait_for_log(" draining ")
                time.sleep(0.005 * i)
                server.process.send_signal(signal.SIGTERM)
                statuses = {Reply(read_reply(sock, b"")).status for sock in socks}
                self.assertLessEqual(statuses, {200, 503})
                self.assertEqual(server.process.wait(STOP_S), 0)
                self.assertLess(time.monotonic() - begin, 25)  # a drain alone takes 30 s

    def test_kill_and_restart(self):
        """Claim: after SIGKILL in the middle of load the same port serves again at once, and rightly. Method: the time from
        the new process's start until it listens, with the model's file in memory; the middle of all, as some meet a busy machine."""
        rng, took = random.Random(8), []
        with reserved_port() as port:
            for _ in range(max(2, REPEATS // 2)):
                begin = time.monotonic()
                with Server(PROGRAM, *FLAGS, "--port", str(port)) as server:
                    took.append(time.monotonic() - begin)
                    self.assertEqual(alone(server, self.requests[:3]), self.expected[:3])
                    clients = Clients(server, self.requests, self.expected)
                    time.sleep(rng.uniform(0, 0.2))
                    server.process.kill()
                    self.assertEqual(server.process.wait(STOP_S), -signal.SIGKILL)
                    clients.join()
        print(f"{len(took)} kills; ready again in {percentile(took, 0.5):.2f} s, {max(took):.2f} s at most")
        self.assertLess(percentile(took, 0.5), 2 if scaled(100) == 100 else 20)


unittest.main(verbosity=2, warnings="ignore")
