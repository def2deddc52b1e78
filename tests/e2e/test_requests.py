#!/usr/bin/env python3
"""What every request has besides its answer: an id, a line in the log, a time limit of its client's. Method: the fake
translator. Usage: test_requests.py T5SERVE_FAKE"""
import json
import re
import sys
import threading
import time
import unittest

from load import percentile, scaled
from server import STOP_S, Gate, Reply, Server, post, read_reply, wait_until

PROGRAM = sys.argv.pop(1)
BODY = b'{"q":"%s","source":"en","target":"de"}'
SECRET = "nobody may read this"


class Requests(unittest.TestCase):
    def test_ids(self):
        """Claim: a plain id of the client's comes back, on every kind of reply; in place of another comes one of ours, each
        time a new one. Method: a table of ids; replies of all kinds."""
        with Server(PROGRAM) as server:
            for given in ("a", "9f1d2c3b-7a6e-4f5d-8c9b-0a1b2c3d4e5f", "Root=1-67891233-abcdef", "x" * 64):
                reply = server.post("/translate", BODY % b"a", headers=[f"X-Request-Id: {given}"])
                self.assertEqual(reply.headers["x-request-id"], given)
            made = set()
            for given in ("", "x" * 65, "a b", 'a"b', "a\tb", "ü", "a;b", "<b>"):
                reply = server.post("/translate", BODY % b"a", headers=[f"X-Request-Id: {given}"])
                self.assertRegex(reply.headers["x-request-id"], r"^[0-9a-f]{16}$")
                made.add(reply.headers["x-request-id"])
            self.assertEqual(len(made), 8)
            header = ["X-Request-Id: my-id"]
            for path, body, status in (("/translate", b"{", 400), ("/nothing", b"", 404), ("/languages", b"", 405),
                                       ("/translate", BODY % b"fail=io", 500), ("/translate", BODY % b"busy", 503)):
                reply = server.post(path, body, headers=header)
                self.assertEqual((reply.status, reply.headers["x-request-id"]), (status, "my-id"))
            reply = server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\nX-Request-Id: my-id\r\n\r\n")
            self.assertEqual((reply.status, reply.headers["x-request-id"]), (400, "my-id"))
            self.assertIn('id="my-id"', server.wait_for_log(" request_failed ")[0])

    def test_access_log(self):
        """Claim: a request leaves one line with its id, route, status and sizes, and nothing that a client wrote. Method: texts,
        queries, paths and methods with a secret in them, all in the log's text afterwards."""
        with Server(PROGRAM) as server:
            body = BODY % SECRET.encode()
            with server.connect() as sock:  # one, so that the lines are in order
                reply = server.post("/translate", body, headers=["X-Request-Id: one"], sock=sock)
                secret = SECRET.replace(" ", "%20")
                server.raw(f"POST /translate?q={secret}&source=en&target=de HTTP/1.1\r\nHost: x\r\n\r\n".encode(), sock)
                server.get("/" + secret, sock)
                server.raw(f"{SECRET.split()[0].upper()} /health HTTP/1.1\r\nHost: x\r\n\r\n".encode(), sock)
                server.post("/translate", b'{"q":"fail=arg","source":"en","target":"de","x":"' + SECRET.encode() + b'"}', sock=sock)
            server.stop()
            got = server.log_lines(" request ")
            self.assertEqual(len(got), 5, got)
            self.assertRegex(got[0], r'Z info request id="one" method=POST route=/translate status=200 ms=\d+\.\d{3} '
                             rf"bytes_in={len(body)} bytes_out={len(reply.body)} .*client=127\.0\.0\.1$")
            self.assertIn(f" texts=1 source_tokens={len(SECRET)} target_tokens={len(SECRET) + 3} ", got[0])
            self.assertIn("method=GET route=- status=404", got[2])
            self.assertIn("method=other route=/health status=405", got[3])
            for word in SECRET.split():
                self.assertNotIn(word, server.log_text().lower())

    def test_log_formats(self):
        """Claim: JSON lines have the same fields; the line and the client's address can be left out. Method: settings."""
        with Server(PROGRAM, "--log-format", "json", "--access-log-client=false") as server:
            server.translate("a")
            server.stop()
            got = {line["event"]: line for line in map(json.loads, server.log_text().splitlines())}
            self.assertTrue({"listening", "request"} <= got.keys(), got)
            request = got["request"]
            self.assertEqual((request["level"], request["method"], request["route"], request["status"], request["texts"]),
                             ("info", "POST", "/translate", 200, 1))
            self.assertIsInstance(request["ms"], float)
            self.assertRegex(request["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertNotIn("client", request)
        with Server(PROGRAM, "--access-log=false") as server:
            server.translate("a")
            server.stop()
            self.assertEqual(server.log_lines(" request "), [])

    def test_deadline_of_the_client(self):
        """Claim: X-Request-Timeout-Ms bounds the request, but never beyond the server's own limit; nonsense is named. Method: work
        of two minutes with several limits, far apart; how long the answer took."""
        with Server(PROGRAM, "--request-timeout-ms", "60000") as server:
            self.check_deadline(server, "300", 300)
        with Server(PROGRAM, "--request-timeout-ms", "1000") as server:
            self.check_deadline(server, "86400000", 1000)
            self.check_deadline(server, None, 1000)
            for given in ("0", "-1", "1.5", "x", "", "86400001", "99999999999999999999", "1 "):
                reply = server.post("/translate", BODY % b"a", headers=[f"X-Request-Timeout-Ms: {given}x"])
                self.assertEqual(reply.status, 400)
                self.assertIn("X-Request-Timeout-Ms", reply.error)
            self.assertEqual(server.post("/translate", BODY % b"a", headers=["X-Request-Timeout-Ms: 1000"]).status, 200)
        with Server(PROGRAM, "--request-timeout-ms", "0") as server:
            reply = server.post("/translate", BODY % b"sleep=60000", headers=["X-Request-Timeout-Ms: 100"])
            self.assertEqual(reply.status, 503)

    def check_deadline(self, server, given, ms):
        headers = [f"X-Request-Timeout-Ms: {given}"] if given else []
        begin = time.monotonic()
        reply = server.post("/translate", BODY % b"sleep=120000", headers=headers)
        took_ms = (time.monotonic() - begin) * 1000
        self.assertEqual((reply.status, reply.error), (503, "the request took too long"))
        self.assertTrue(ms - 5 <= took_ms < 30000, took_ms)

    def test_retry_after(self):
        """Claim: a full queue tells when to come back, as the engine reckons. Method: the fake engine says 7 seconds."""
        with Server(PROGRAM) as server:
            self.assertEqual(server.translate("busy").headers["retry-after"], "7")

    def test_ready(self):
        """Claim: /ready is /health/ready."""
        with Server(PROGRAM) as server:
            self.assertEqual(server.get("/ready").json(), {"status": "ok"})

    def test_large_requests(self):
        """Claim: large requests get their answers, errors and cancellations like small ones. Method: 64 kB texts that translate,
        fail in every way, wait, and whose clients leave."""
        pad = "x" * 65536
        with Server(PROGRAM, "--metrics", "--char-limit", "100000") as server, server.connect() as sock:
            for _ in range(20):
                self.assertEqual(server.translate(["a", pad], sock).json(), {"translatedText": ["de:a", "de:" + pad]})
                self.assertEqual(server.translate(["sleep=20", pad], sock).status, 200)
                self.assertEqual(server.translate([pad, 1], sock).status, 400)
                self.assertEqual(server.translate(["busy", pad], sock).headers["retry-after"], "7")
                self.assertEqual(server.translate(["fail=arg", pad], sock).status, 400)
                self.assertEqual(server.translate(["fail=io", pad], sock).status, 500)
                self.assertEqual(server.post("/translate", b"{" * 20000, sock=sock).status, 400)
            body = json.dumps({"q": ["sleep=60000", pad], "source": "en", "target": "de"}).encode()
            begin = time.monotonic()
            reply = server.post("/translate", body, headers=["X-Request-Timeout-Ms: 200"])
            self.assertEqual(reply.status, 503)
            self.assertLess(time.monotonic() - begin, 20)
            leavers = [server.connect() for _ in range(20)]
            for leaver in leavers:
                leaver.sendall(post("/translate", body))
                leaver.close()
            wait_until(lambda: server.metric("t5serve_requests_pending") == 1, seconds=40)

    def test_large_requests_at_sigterm(self):
        """Claim: large requests that were accepted are answered after SIGTERM too; a second one gives up what waits. Method: ten
        of each, in flight."""
        pad = "x" * 65536
        for is_hurried, status in ((False, 200), (True, 503)):
            with Gate() as gate, Server(PROGRAM, "--metrics") as server:
                body = json.dumps({"q": [gate.text, pad], "source": "en", "target": "de"}).encode()
                socks = [server.connect() for _ in range(10)]
                for sock in socks:
                    sock.sendall(post("/translate", body))
                wait_until(lambda: server.metric("t5serve_sequences_total") == 20)
                server.process.terminate()
                server.wait_for_log(" draining ")
                if is_hurried:
                    server.process.terminate()
                else:
                    gate.open()
                self.assertEqual([Reply(read_reply(sock, b"")).status for sock in socks], [status] * 10)
                self.assertEqual(server.process.wait(STOP_S), 0)

    def test_small_requests_do_not_wait_for_large_ones(self):
        """Claim: a body that takes long to read holds up no small request, whatever its method. Method: 6 MB bodies, one after
        the other, which take the parser tens of milliseconds each; the time of small requests on 4 connections beside them."""
        texts = ["x" * 99] * scaled(60000)
        bodies = {"POST": post("/translate", json.dumps({"q": texts, "source": "en", "target": "de"}).encode()),
                  "GET": b"GET" + post("/v2/translate", json.dumps({"text": texts, "target_lang": "DE"}).encode())[4:]}
        for method, big in bodies.items():
            with self.subTest(method), Server(PROGRAM, "--max-request-bytes", "10000000", "--http-threads", "1") as server:
                self.small_beside(server, method, big)

    def small_beside(self, server, method, big):
        is_over = threading.Event()
        taken, times = [], []

        def send_large():
            with server.connect() as sock:
                while not is_over.is_set():
                    begin = time.monotonic()
                    self.assertEqual(server.raw(big, sock).status, 200)
                    taken.append((time.monotonic() - begin) * 1000)

        thread = threading.Thread(target=send_large)
        thread.start()
        socks = [server.connect() for _ in range(4)]
        try:
            while len(times) < 600 or (len(taken) < 3 and thread.is_alive()):
                begin = time.monotonic()
                self.assertEqual(server.translate("a", socks[len(times) % 4]).status, 200)
                times.append((time.monotonic() - begin) * 1000)
                time.sleep(0.002)
        finally:
            is_over.set()
            thread.join()
        self.assertGreaterEqual(len(taken), 3)
        print(f"{len(times)} small requests beside {len(taken)} of {len(big) / 1e6:.1f} MB by {method} ({percentile(taken, 0.5):.0f} ms each): "
              f"p50 {percentile(times, 0.5):.2f} ms, p99 {percentile(times, 0.99):.2f} ms, longest {max(times):.0f} ms")
        self.assertLess(percentile(times, 0.5), percentile(taken, 0.5) / 4)
        self.assertLess(percentile(times, 0.99), percentile(taken, 0.5) / 2)


unittest.main(verbosity=2, warnings="ignore")
