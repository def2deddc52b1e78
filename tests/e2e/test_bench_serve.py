#!/usr/bin/env python3
"""bench_serve counts what really happens. Method: a server of our own that answers as it is told. Usage:
test_bench_serve.py BENCH_SERVE"""
import collections
import json
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROGRAM = sys.argv.pop(1)
TEXTS = ["How are you?", "I am tired.", "Where is \"the\" station?", "Good night."]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.n_seen += 1
            is_alone = self.server.n_seen <= self.server.n_alone
            kind = "right" if is_alone else self.server.kinds[self.server.n_seen % len(self.server.kinds)]
            if not is_alone:
                self.server.counts[kind] += 1
        time.sleep(0 if is_alone else self.server.delay_s)
        q = fields["q"]
        answer = {"translatedText": [t.upper() for t in q] if isinstance(q, list) else q.upper()}
        if kind == "wrong":
            answer["translatedText"] += "!"
        if kind == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        self.send_response(503 if kind == "busy" else 200)
        if fields.get("stream"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in (b'{"text":"x"}', body):
                self.wfile.write(b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event))
                time.sleep(self.server.delay_s)
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class BenchServe(unittest.TestCase):
    def run_loads(self, *arguments, kinds=("right",), delay_s=0.0, n_alone=4):
        """The JSON lines of the loads, that of the requests alone first."""
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.NamedTemporaryFile("w") as file:
            server.kinds, server.delay_s, server.n_seen, server.n_alone = kinds, delay_s, 0, n_alone
            server.lock, server.counts = threading.Lock(), collections.Counter()
            file.write("".join(f"{t}\tsomething\n\n" for t in TEXTS))
            file.flush()
            threading.Thread(target=server.serve_forever, daemon=True).start()
            done = subprocess.run([PROGRAM, "--texts", file.name, "--port", str(server.server_port), "--seconds", "0.5",
                                   "--warm-up", "0.1", *arguments], capture_output=True, text=True, timeout=60, input="")
            server.shutdown()
            self.counts = server.counts
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_closed_loop(self):
        """Claim: N clients each have one request under way: their rate is N / latency. Method: 20 ms an answer at least; how long
        the slowest took bounds the rate from below, whatever else the machine does."""
        alone, load = self.run_loads("--seconds", "2", "closed:8", delay_s=0.02)
        self.assertEqual((alone["requests"], alone["texts_per_request"]), (4, 1))
        self.assertGreater(alone["target_tokens_mean"], 2)
        self.assertEqual((load["wrong"], load["unanswered"], set(load["statuses"])), (0, 0, {"200"}))
        self.assertGreaterEqual(load["latency_ms"]["p50"], 20)
        self.assertLessEqual(load["latency_ms"]["p50"], load["latency_ms"]["p99"])
        self.assertLess(load["finished_per_s"], 8 / 0.02 * 1.05)  # requests that begin before the measurement and end in it
        self.assertGreater(load["finished_per_s"], 8 / (load["latency_ms"]["p99"] / 1000) / 2)

    def test_open_loop_counts_from_the_due_time(self):
        """Claim: when the server keeps every connection busy, waiting for one counts as latency, and what was offered
        does not shrink. Method: 2 connections, 50 ms an answer: 40 a second of 200 that are offered."""
        load = self.run_loads("--connections", "2", "open:200", delay_s=0.05)[1]
        self.assertTrue(60 < load["offered"] < 140, load)
        self.assertEqual((load["right"], load["unanswered"]), (load["offered"], 0))
        self.assertGreater(load["latency_ms"]["p99"], 1000)
        self.assertLess(load["good_share"], 0.5)

    def test_wrong_answers_and_statuses(self):
        """Claim: each kind of reply is counted as what it is. Method: a mix, and the server's own counts of it."""
        load = self.run_loads("--warm-up", "0", "--seconds", "2", "closed:2", kinds=("right", "wrong", "busy", "cut"))[1]
        kinds = {"right": load["right"], "wrong": load["wrong"], "busy": load["statuses"]["503"], "cut": load["unanswered"]}
        self.assertEqual(kinds, self.counts)
        self.assertGreater(min(kinds.values()), 5)
        self.assertEqual(load["statuses"]["200"], load["right"] + load["wrong"])
        self.assertEqual(load["offered"], sum(kinds.values()))

    def test_streams(self):
        """Claim: the first event gives the time to the first token, the last one is compared. Method: two events apart."""
        load = self.run_loads("--stream", "--seconds", "1.5", "closed:2", delay_s=0.1)[1]
        self.assertEqual((load["wrong"], load["unanswered"], load["stream"]), (0, 0, True))
        self.assertTrue(100 <= load["first_token_ms"]["p50"] < load["latency_ms"]["p50"] - 50, load)

    def test_several_texts_and_stdin(self):
        """Claim: requests can have several texts, and loads can come on stdin: none here."""
        lines = self.run_loads("--texts-per-request", "2", "closed:1", "-", n_alone=2)
        self.assertEqual(len(lines), 2)
        self.assertEqual((lines[0]["requests"], lines[1]["wrong"]), (2, 0))
        self.assertAlmostEqual(lines[1]["sentences_per_s"], 2 * lines[1]["finished_per_s"], delta=0.01)

    def test_wrong_use(self):
        """Claim: what makes no sense is named."""
        for arguments, named in ((["closed:1"], "--texts FILE"), (["--texts", "x", "closed:1"], "x: No such file"),
                                 (["--texts", __file__, "--port", "1", "half:3"], "1 answered a request with 0"),
                                 (["--texts", __file__, "--seconds", "ten", "open:1"], "ten is not a number")):
            done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(named, done.stderr)


if __name__ == "__main__":
    unittest.main()
