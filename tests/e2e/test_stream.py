#!/usr/bin/env python3
"""Answers as server-sent events. Usage: test_stream.py T5SERVE T5SERVE_FAKE SOURCE_DIR"""
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

from server import STOP_S, Gate, Server, post, wait_until

FIXTURES = pathlib.Path(sys.argv.pop(3)) / "tests/fixtures"
FAKE = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)


def events_of(body):
    """[(event name or None, value)] of a stream's text."""
    events = []
    for block in body.decode().split("\n\n")[:-1]:
        lines = block.split("\n")
        name = lines[0][7:] if lines[0].startswith("event: ") else None
        assert lines[-1].startswith("data: "), block
        events.append((name, json.loads(lines[-1][6:])))
    return events


def dechunk(raw):
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            return body
        body, raw = body + raw[:n], raw[n + 2:]
    return body


class Stream(unittest.TestCase):
    def events(self, server, path="/translate", headers=(), **fields):
        fields = {"stream": True, **fields}
        if path == "/translate":
            fields = {"source": "en", "target": "de", **fields}
        with server.connect() as sock:
            sock.sendall(post(path, json.dumps(fields).encode(), headers=["Connection: close", *headers]))
            raw = b"".join(iter(lambda: sock.recv(65536), b""))
        head, _, body = raw.partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", head.split(b"\r\n")[0], raw)
        self.assertIn(b"Content-Type: text/event-stream", head)
        return events_of(dechunk(body) if b"Transfer-Encoding: chunked" in head else body)

    def begin(self, server, text):
        """A stream whose first piece has come: its socket, and what came."""
        sock, raw = server.connect(), b""
        sock.sendall(post("/translate", json.dumps({"q": text, "source": "en", "target": "de", "stream": True}).encode(),
                          headers=["Connection: close"]))
        while b'"text"' not in raw:
            piece = sock.recv(65536)
            self.assertTrue(piece, raw)
            raw += piece
        return sock, raw

    def end(self, sock, raw):
        """All events of the stream."""
        with sock:
            raw += b"".join(iter(lambda: sock.recv(65536), b""))
        return events_of(dechunk(raw.partition(b"\r\n\r\n")[2]))

    def texts_of(self, events, n_texts=1):
        texts = [""] * n_texts
        for name, value in events[:-1]:
            self.assertIsNone(name)
            self.assertTrue(value["text"])
            texts[value.get("index", 0)] += value["text"]
        return texts

    def test_same_as_whole(self):
        """Claim: the pieces put together are the whole answer, and the last event has all of its fields; for beams, greedy,
        sampling, several sentences, lines, and several texts."""
        texts = ["I am very tired today. Where is the station?\n\n  Thank you!", "", "Good morning.", "12 345"]
        with Server(PROGRAM) as server:
            for options in ({}, {"num_beams": 1}, {"do_sample": True, "seed": 5}, {"alternatives": 2}, {"source": "auto"},
                            {"target": "fr", "max_new_tokens": 3}, {"target": "en"}):
                for q in (texts, texts[0], texts[2]):
                    whole = server.translate(q, **options).json()
                    events = self.events(server, q=q, **options)
                    name, last = events[-1]
                    self.assertIsNone(name)
                    usage, reason = last.pop("usage"), last.pop("finish_reason")
                    self.assertEqual(whole.pop("finish_reason", "stop"), reason)
                    self.assertEqual(last, whole, options)
                    self.assertEqual(reason, "length" if "max_new_tokens" in options else "stop")
                    self.assertEqual(set(usage), {"source_tokens", "target_tokens"})
                    is_batch = isinstance(q, list)
                    expected = whole["translatedText"] if is_batch else [whole["translatedText"]]
                    self.assertEqual(self.texts_of(events, len(expected)), expected)
                    self.assertTrue(all(("index" in value) == is_batch for _, value in events[:-1]))

    def test_characters_stay_whole(self):
        """Claim: a character that takes several tokens comes in one piece. Method: ByT5, whose tokens are bytes; every event
        is valid UTF-8 and the pieces are the text."""
        with Server(PROGRAM, "--model", str(FIXTURES / "byt5")) as server:
            for seed in range(6):
                options = {"input": "Grüße 😀", "do_sample": True, "seed": seed, "max_new_tokens": 40, "top_k": 0}
                whole = server.post("/generate", json.dumps(options).encode())
                self.assertEqual(whole.status, 200, whole.body)
                events = self.events(server, "/generate", **options)
                self.assertEqual(self.texts_of(events), whole.json()["texts"])
                self.assertEqual(events[-1][1]["texts"], whole.json()["texts"])

    def test_pieces_come_as_they_are_made(self):
        """Claim: the first piece is there long before the last. Method: an answer whose last piece comes when we have seen the first;
        one whose pieces come 200 ms after each other."""
        with Gate() as gate, Server(FAKE) as server:
            sock, raw = self.begin(server, gate.text)
            self.assertNotIn(b"translatedText", raw)
            gate.open()
            events = self.end(sock, raw)
            self.assertEqual(self.texts_of(events), ["de:" + gate.text])
            self.assertGreater(len(events), 2)
            events = self.events(server, q="drip=200 abc")
            self.assertGreater(len(events), 4)  # of 15 pieces; a busy machine brings several at once

    def test_curl(self):
        """Claim: curl -N shows the events of a stream over a connection that is kept, and the next request works."""
        with Server(FAKE) as server:
            url = f"http://127.0.0.1:{server.port}"
            body = '{"q":"hello","source":"en","target":"de","stream":true}'
            done = subprocess.run(["curl", "-sN", f"{url}/translate", "-H", "Content-Type: application/json", "-d", body,
                                   "--next", "-s", f"{url}/health"], capture_output=True, check=True, timeout=60)
            text = done.stdout.decode()
            self.assertIn('data: {"text":"de:hello"}\n\n', text)
            self.assertTrue(text.endswith('{"status":"ok"}\n'), text)

    def test_old_client(self):
        """Claim: a client of HTTP/1.0 gets the events until the connection ends."""
        with Server(FAKE) as server:
            request = post("/translate", b'{"q":"a","source":"en","target":"de","stream":true}').replace(b"HTTP/1.1", b"HTTP/1.0")
            reply = server.raw(request)
            self.assertNotIn("transfer-encoding", reply.headers)
            self.assertEqual(len(events_of(reply.body)), 2)

    def test_errors_before(self):
        """Claim: what is wrong before the first event is answered as without a stream."""
        with Server(FAKE) as server:
            for fields, status, text in (({"target": "xx"}, 400, "xx is not supported"), ({"q": "busy"}, 503, "the queue is full"),
                                         ({"stream": "maybe"}, 400, "stream must be true or false"),
                                         ({"q": "fail=arg"}, 400, "Invalid request: max_new_tokens")):
                reply = server.translate(**{"text": "a", "stream": True, **({"text": fields["q"]} if "q" in fields else fields)})
                self.assertEqual(reply.status, status)
                self.assertIn(text, reply.error)

    def test_error_after(self):
        """Claim: a failure after the first event is the last event, and tells no secret."""
        with Server(FAKE, "--request-timeout-ms", "3000") as server:
            name, value = self.events(server, q="drip=50 " + "x" * 200)[-1]
            self.assertEqual((name, value), ("error", {"error": "the request took too long"}))
            name, value = self.events(server, q="fail=io")[-1]
            self.assertEqual(name, "error")
            self.assertNotIn("secret", value["error"])

    def test_client_that_leaves(self):
        """Claim: its work is given up, before the first piece, between two, and for both APIs."""
        with Server(FAKE, "--metrics") as server:
            n_left = 0
            for wait_s in (0, 0.05, 0.2) * 7:
                with server.connect() as sock:
                    sock.sendall(post("/translate", json.dumps(
                        {"q": "drip=50 " + "x" * 400, "source": "en", "target": "de", "stream": True}).encode()))
                    time.sleep(wait_s)
                n_left += 1
            wait_until(lambda: server.metric("t5serve_cancelled_total") == n_left)
            wait_until(lambda: server.metric("t5serve_requests_pending") == 1)

    def test_slow_reader_holds_up_nobody(self):
        """Claim: a client that does not read is cut after receive_timeout_ms, and others are served meanwhile. Method: 2 MB
        of pieces into a small socket; others ask while it is held, with the default of 30 s; with a second it is cut."""
        for flags, is_cut in (([], False), (["--receive-timeout-ms", "1000"], True)):
            with Server(FAKE, "--metrics", *flags) as server, socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect((server.host, server.port))
                sock.sendall(post("/translate", json.dumps(
                    {"q": ["x" * 100000] * 20, "source": "en", "target": "de", "stream": True}).encode()))
                for _ in range(20):
                    self.assertEqual(server.translate("a").status, 200)
                if is_cut:
                    start = time.monotonic()
                    wait_until(lambda: server.metric("t5serve_requests_pending") == 1)
                    self.assertLess(time.monotonic() - start, 20)  # the default is 30 s
                else:
                    wait_until(lambda: server.metric("t5serve_requests_pending") == 2)

    def test_slow_reader_does_not_hold_up_the_end(self):
        """Claim: a client that does not read its stream does not keep the server from stopping in order. Method: 2 MB into a
        small socket, then SIGTERM; no deadline for the reader comes to help."""
        with Server(FAKE, "--drain-timeout-ms", "300") as server, socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((server.host, server.port))
            sock.sendall(post("/translate", json.dumps(
                {"q": ["x" * 100000] * 20, "source": "en", "target": "de", "stream": True}).encode()))
            self.assertTrue(sock.recv(1))
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(STOP_S), 0)
            self.assertLess(time.monotonic() - start, 20)

    def test_sigterm_lets_streams_end(self):
        """Claim: a stream that has begun is finished after SIGTERM; a second one gives it up with an error event."""
        for is_hurried in (False, True):
            with Gate() as gate, Server(FAKE) as server:
                sock, raw = self.begin(server, gate.text)
                server.process.send_signal(signal.SIGTERM)
                server.wait_for_log(" draining ")
                if is_hurried:
                    server.process.send_signal(signal.SIGTERM)
                else:
                    gate.open()
                events = self.end(sock, raw)
                self.assertEqual(events[-1][0], "error" if is_hurried else None)
                if not is_hurried:
                    self.assertEqual(self.texts_of(events), ["de:" + gate.text])
                self.assertEqual(server.process.wait(STOP_S), 0)

    def test_many_at_once(self):
        """Claim: 40 streams at once are each whole and their own."""
        with Server(FAKE) as server:
            failures = []

            def one(i):
                events = self.events(server, q=f"drip=2 client {i} " + "y" * (i % 17))
                if self.texts_of(events) != [f"de:drip=2 client {i} " + "y" * (i % 17)]:
                    failures.append(events)
            threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main()
