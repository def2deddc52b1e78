#!/usr/bin/env python3
"""Requests and processes that end in other ways than by an answer: clients that leave or dawdle, deadlines, SIGTERM.
Method: the fake translator, whose texts say how long they take; what must still be running when something happens ends when the
test says so, and nothing happens before the server has taken it. Usage: test_lifetime.py T5SERVE_FAKE"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from server import STOP_S, Gate, Reply, Server, is_open, leave_early, post, read_reply, wait_until

PROGRAM = sys.argv.pop(1)
QUIET_S = 0.25  # a server that stops waits longer than this for another request


def blocks(pid, number):
    """The process takes this signal when it has the time for it."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"SigBlk:\s+(\w+)", file.read()).group(1), 16) >> (number - 1) & 1


def start(server, *texts):
    """A request for each, which the server, with --metrics and without others, has taken: their sockets."""
    socks = [server.connect() for _ in texts]
    for sock, text in zip(socks, texts):
        sock.sendall(post("/translate", json.dumps({"q": text, "source": "en", "target": "de"}).encode()))
    wait_until(lambda: server.metric("t5serve_sequences_total") == len(texts))
    return socks


def begin_to_drain(server, signal_number=signal.SIGTERM):
    """Sends the signal; the server has closed its door when this returns."""
    server.process.send_signal(signal_number)
    server.wait_for_log(" draining ")
    wait_until(lambda: not is_open(server))


def ask(text, sock):
    """The reply, and when its request was sent."""
    try:
        sock.sendall(post("/translate", json.dumps({"q": text, "source": "en", "target": "de"}).encode()))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the reply may be there all the same
    sent = time.monotonic()
    return Reply(read_reply(sock, b"")), sent


class Lifetime(unittest.TestCase):
    def test_client_that_leaves_cancels_its_work(self):
        """Claim: work ends soon after its client has gone, and nobody else's does. Method: close, half-close and reset
        connections whose work would take a minute; the counter of cancelled work tells."""
        with Gate() as gate, Server(PROGRAM, "--metrics") as server:
            neighbour, *leavers = start(server, gate.text, *["sleep=60000"] * 9)
            for i, sock in enumerate(leavers):
                if i % 3 == 0:
                    sock.close()
                elif i % 3 == 1:
                    sock.shutdown(socket.SHUT_WR)
                else:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.close()
            begin = time.monotonic()
            wait_until(lambda: server.metric("t5serve_cancelled_total") == 9)
            self.assertLess(time.monotonic() - begin, 10)
            gate.open()
            self.assertEqual(Reply(read_reply(neighbour, b"")).json(), {"translatedText": "de:" + gate.text})
            self.assertEqual(server.metric("t5serve_cancelled_total"), 9)

    def test_client_that_leaves_at_any_moment(self):
        """Claim: a client may leave just as its answer comes, when libmicrohttpd sees its end before the answer. Method:
        close and reset a few milliseconds before and after work of 5 ms; the server lives and nothing stays behind."""
        with Server(PROGRAM, "--metrics") as server:
            leave_early(server, post("/translate", b'{"q":"sleep=5","source":"en","target":"de"}'))
            wait_until(lambda: server.metric("t5serve_requests_pending") == 1)  # the one that asks
            self.assertEqual(server.translate("still here").json(), {"translatedText": "de:still here"})

    def test_deadline(self):
        """Claim: a translation that takes too long is given up with 503. Method: a limit below the text's time."""
        with Server(PROGRAM, "--request-timeout-ms", "200") as server:
            reply = server.translate("sleep=60000")
            self.assertEqual((reply.status, reply.error), (503, "the request took too long"))
            self.assertEqual(reply.headers["retry-after"], "1")

    def test_slow_senders_are_cut(self):
        """Claim: heads and bodies that trickle in are cut at the deadline, and others are served meanwhile. Method: a byte
        each 50 ms, which an inactivity timeout never ends."""
        with Server(PROGRAM, "--receive-timeout-ms", "1000") as server:
            for request in (b"GET /health HTTP/1.1\r\nX: " + b"a" * 1000, post("/translate", b"x" * 1000)):
                begin, sock = time.monotonic(), server.connect()
                # Send the body test's head at once, so that the body is what trickles.
                n_at_once = request.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in request else 0
                sock.sendall(request[:n_at_once])
                try:
                    for i in range(n_at_once, len(request)):
                        sock.sendall(request[i:i + 1])
                        time.sleep(0.05)
                        self.assertLess(time.monotonic() - begin, 30)  # all of it would take 50 s
                        if i % 10 == 0:
                            self.assertEqual(server.get("/health").status, 200)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                self.assertGreater(time.monotonic() - begin, 0.9)

    def test_early_refusal_reaches_a_client_that_sends_on(self):
        """Claim: a client that sends all of a body that is far too large before it reads still gets the 413. Method: 40 MB
        against a limit of 1 kB, sent whole; no reset may take the reply away."""
        with Server(PROGRAM, "--max-request-bytes", "1000") as server, server.connect() as sock:
            sock.sendall(post("/translate", b"x" * 40_000_000))
            reply = Reply(read_reply(sock, b""))
            self.assertEqual((reply.status, reply.headers["connection"]), (413, "close"))

    def test_keep_alive_serves_many(self):
        """Claim: one connection carries many requests of all kinds. Method: errors, empty bodies and answers in turn."""
        with Server(PROGRAM) as server, server.connect() as sock:
            for i in range(50):
                self.assertEqual(server.translate(f"text {i}", sock).json(), {"translatedText": f"de:text {i}"})
                self.assertEqual(server.post("/translate", b"{", sock=sock).status, 400)
                self.assertEqual(server.get("/nothing", sock).status, 404)
                self.assertEqual(server.post("/languages", b"x=1", sock=sock).status, 405)
                self.assertEqual(server.post("/translate?q=a&source=en&target=fr", b"", None, sock=sock).status, 200)

    def test_pipelined_requests_are_answered_in_order(self):
        """Claim: requests sent without waiting get their own answers in order. Method: three in one packet."""
        with Server(PROGRAM) as server, server.connect() as sock:
            body = b'{"q":"%s","source":"en","target":"de"}'
            sock.sendall(b"".join(post("/translate", body % t) for t in (b"sleep=100", b"b", b"c")))
            raw = b""
            while raw.count(b"translatedText") < 3:
                raw += sock.recv(65536)
            self.assertEqual(re.findall(rb'"de:([^"]*)"', raw), [b"sleep=100", b"b", b"c"])

    def test_sigterm_finishes_what_was_accepted(self):
        """Claim: after SIGTERM accepted work is answered, new work refused, exit code 0. Method: slow requests in flight, an
        idle connection that asks for more, a new connection."""
        with Gate() as gate, Server(PROGRAM, "--metrics") as server:
            idle, busy = server.connect(), start(server, *[gate.text] * 20)
            self.assertEqual(server.get("/health/ready", idle).status, 200)
            begin_to_drain(server)
            reply = server.get("/health/ready", idle)
            self.assertEqual((reply.status, reply.error), (503, "the server is stopping"))
            self.assertEqual((reply.headers["connection"], reply.headers["retry-after"]), ("close", "5"))
            gate.open()
            for sock in busy:
                reply = Reply(read_reply(sock, b""))
                self.assertEqual(reply.json(), {"translatedText": "de:" + gate.text})
                self.assertEqual(reply.headers["connection"].lower(), "close")
            self.assertEqual(server.process.wait(STOP_S), 0)
            self.assertRegex(server.log_text(), r" stopped ms=\d+ opening=false")

    def test_signals_while_a_model_is_opened(self):
        """Claim: SIGTERM and SIGINT end a start at once, with 0, however long the models still take; SIGHUP does not. Method: a
        model that takes two minutes, one that takes a second."""
        def open_model(ms, log):
            process = subprocess.Popen([PROGRAM, "--port", "0", "--model", f"sleep={ms}"], stderr=log)
            wait_until(lambda: blocks(process.pid, signal.SIGTERM))
            return process

        for number in (signal.SIGTERM, signal.SIGINT):
            with tempfile.TemporaryFile("w+") as log:
                process = open_model(120000, log)
                process.send_signal(number)
                self.assertEqual(process.wait(60), 0)
                self.assertIn(" stopped ms=0 opening=true", os.pread(log.fileno(), 65536, 0).decode())
        with tempfile.TemporaryFile("w+") as log:
            process = open_model(1000, log)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: " reloaded " in os.pread(log.fileno(), 65536, 0).decode())
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(60), 0)

    def test_new_work_is_refused_while_draining(self):
        """Claim: a request on an open connection gets 503 while draining. Method: as it says."""
        with Gate() as gate, Server(PROGRAM, "--metrics") as server:
            idle, (busy,) = server.connect(), start(server, gate.text)
            self.assertEqual(server.get("/health", idle).status, 200)
            begin_to_drain(server, signal.SIGINT)
            reply = server.translate("late", idle)
            self.assertEqual((reply.status, reply.error), (503, "the server is stopping"))
            gate.open()
            self.assertEqual(Reply(read_reply(busy, b"")).status, 200)
            self.assertEqual(server.process.wait(STOP_S), 0)

    def test_second_signal_hurries(self):
        """Claim: a second SIGTERM gives up what runs: 503, exit code 0. Method: work of a minute."""
        with Server(PROGRAM, "--metrics", "--drain-timeout-ms=120000") as server:
            busy, begin = start(server, *["sleep=60000"] * 5), time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log(" draining ")
            server.process.send_signal(signal.SIGTERM)
            for sock in busy:
                self.assertEqual(Reply(read_reply(sock, b"")).status, 503)
            self.assertEqual(server.process.wait(STOP_S), 0)
            self.assertLess(time.monotonic() - begin, 30)

    def test_drain_timeout(self):
        """Claim: the drain ends at its limit; a client that stops half-way through its body does not hold it. Method: a
        limit of 300 ms."""
        with Server(PROGRAM, "--metrics", "--drain-timeout-ms", "300") as server:
            half = server.connect()
            half.sendall(post("/translate", b"x" * 100)[:-50])
            (busy,), begin = start(server, "sleep=60000"), time.monotonic()
            wait_until(lambda: server.metric("t5serve_requests_pending") == 3)  # and that of the metrics
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(Reply(read_reply(busy, b"")).status, 503)
            self.assertEqual(server.process.wait(STOP_S), 0)
            self.assertLess(time.monotonic() - begin, 25)  # half is cut after 30 s anyway

    def test_drain_in_a_moment_without_a_processor(self):
        """Claim: requests that come while a draining server gets no processor get a 503. Method: it is stopped right after its last
        answer and goes on when 500 idle connections have asked and its quiet moment is over by the clock. A try counts if it was
        stopped before that moment could end, by the clock of the test."""
        for _ in range(20):
            with Gate() as gate, Server(PROGRAM, "--metrics") as server:
                idle, (busy,) = [server.connect() for _ in range(500)], start(server, gate.text)
                self.assertEqual({server.get("/health", sock).status for sock in idle}, {200})
                begin_to_drain(server)
                begin = time.monotonic()
                gate.open()
                self.assertEqual(Reply(read_reply(busy, b"")).status, 200)
                server.process.send_signal(signal.SIGSTOP)
                was_in_time = time.monotonic() - begin < QUIET_S
                try:
                    if was_in_time:
                        for sock in idle:
                            sock.sendall(post("/translate", b"{}"))
                        time.sleep(2 * QUIET_S)
                finally:
                    server.process.send_signal(signal.SIGCONT)
                if was_in_time:
                    self.assertEqual({Reply(read_reply(sock, b"")).status for sock in idle}, {503})
                self.assertEqual(server.process.wait(STOP_S), 0)
                if was_in_time:
                    return
        self.skipTest("the machine is too busy to stop the server in time")

    def test_sigterm_under_load(self):
        """Claim: whatever the moment of SIGTERM, each request gets an answer, a 503, or was never taken. Method: 16 clients
        without pause; a request that got no reply counts as lost if it was sent on a connection that was opened, or whose
        request before was sent, less than the server's quiet moment ago: HTTP lets a server close what is idle for longer."""
        for round in range(5):
            counts, lost = {}, []
            with Server(PROGRAM) as server:
                def client(name):
                    try:
                        for i in range(100000):
                            since = time.monotonic()
                            with server.connect() as sock:
                                for k in range(20):
                                    begin = time.monotonic()
                                    reply, sent = ask(f"{name} {i} {k}", sock)
                                    counts[reply.status] = counts.get(reply.status, 0) + 1
                                    if reply.status == 0 and sent - since < QUIET_S:
                                        lost.append((name, i, k))
                                    since = begin
                                    if reply.status == 200 and reply.json() != {"translatedText": f"de:{name} {i} {k}"}:
                                        lost.append((name, i, k, "wrong answer"))
                                    if reply.headers.get("connection") == "close" or reply.status != 200:
                                        break
                    except ConnectionRefusedError:
                        pass
                    except ConnectionResetError:
                        counts["reset"] = counts.get("reset", 0) + 1

                threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
                for thread in threads:
                    thread.start()
                time.sleep(0.3 + 0.05 * round)
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.process.wait(STOP_S), 0)
                for thread in threads:
                    thread.join()
            print(f"round {round}: {counts}, lost {len(lost)}")
            self.assertEqual(lost, [])

    def test_lost_device(self):
        """Claim: when the device fails, health says so and the process ends with 3, for a supervisor. Method: a text that
        fails the fake device."""
        with Gate() as gate, Server(PROGRAM, "--metrics") as server:
            (busy,), idle = start(server, gate.text), server.connect()
            self.assertEqual(server.get("/health/ready", idle).status, 200)
            self.assertEqual(server.translate("lost").status, 200)
            self.assertEqual(server.get("/health", idle).error, "the device failed")
            wait_until(lambda: not is_open(server))
            gate.open()
            self.assertEqual(Reply(read_reply(busy, b"")).status, 200)
            self.assertEqual(server.process.wait(STOP_S), 3)
            self.assertIn("the device failed", server.log_text())

    def test_more_connections_than_allowed(self):
        """Claim: more connections than connections_max wait and are served when others leave; the log says so once. Method: 40
        on a limit of 16."""
        with Server(PROGRAM, "--connections-max", "16") as server:
            socks = [server.connect() for _ in range(40)]
            for sock in socks:
                sock.sendall(post("/translate", b'{"q":"a","source":"en","target":"de"}', headers=["Connection: close"]))
            self.assertEqual([Reply(read_reply(sock, b"")).status for sock in socks], [200] * 40)
            server.stop()
            self.assertEqual(len(server.log_lines(" warn connections_full connections_max=16 ")), 1)


unittest.main(verbosity=2, warnings="ignore")
