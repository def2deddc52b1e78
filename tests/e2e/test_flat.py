#!/usr/bin/env python3
"""Claim: memory, threads and file descriptors stay flat over 200 000 requests (T5_TEST_REQUESTS): resident memory after
the first tenth within 2 %. Method: the real server with a small model; 16 connections, most of which stay, send requests
of several kinds without waiting for each reply; each reply is compared. Usage: test_flat.py T5SERVE"""
import os
import sys
import time

from load import TOP, in_threads, translate
from server import Server, post

PROGRAM = sys.argv.pop(1)
REQUESTS = int(os.environ.get("T5_TEST_REQUESTS", "200000"))
CONNECTIONS, BURST, SHARES = 16, 50, 20
GROWTH_MAX = 1.02
FLAGS = [f"--model={TOP}/tests/fixtures/madlad", "--threads=1", "--max-running-rows=32", "--max-source-tokens=64",
         "--max-new-tokens=16", "--access-log=false", "--metrics"]
TEXT = "Nobody understands you."
# Of each ten bursts.
KINDS = [(4, translate(q=TEXT, num_beams=1, max_new_tokens=2)),
         (1, translate(q=[TEXT, "Hello"], num_beams=2, max_new_tokens=3)),
         (1, translate(q=TEXT, source="auto", max_new_tokens=2, alternatives=1)),
         (1, post("/translate", b"q=Hello&source=en&target=fr&max_new_tokens=2&num_beams=1", "application/x-www-form-urlencoded")),
         (1, translate(q=TEXT, target="xx")),
         (1, b"GET /languages HTTP/1.1\r\nHost: x\r\n\r\n"),
         (1, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")]
BURSTS = [request for share, request in KINDS for _ in range(share)]


def state(pid):
    """Resident kB, threads, file descriptors."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmRSS"].split()[0]), int(fields["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def burst(sock, request, body, n):
    """n requests at once; each reply must end with `body`, and n of them must come."""
    sock.sendall(request * n)
    mark, got, n_got = b"\r\n\r\n" + body, b"", 0
    while n_got < n:
        piece = sock.recv(1 << 20)
        assert piece, "the connection was closed"
        got += piece
        n_got = got.count(mark)
    assert got.count(b"HTTP/1.1 ") == n and got.endswith(body), got[-500:]


def main():
    with Server(PROGRAM, *FLAGS) as server:
        bodies = [server.raw(request).body for request in BURSTS]
        socks = [server.connect() for _ in range(CONNECTIONS)]
        n_bursts = -(-REQUESTS // (SHARES * CONNECTIONS * BURST))
        samples, begin = [], time.monotonic()

        def client(i):
            for k in range(n_bursts):
                if k % 50 == 49:  # and some leave
                    socks[i].close()
                    socks[i] = server.connect()
                kind = (i + k) % len(BURSTS)
                burst(socks[i], BURSTS[kind], bodies[kind], BURST)

        for _ in range(SHARES):
            in_threads(CONNECTIONS, client)
            samples.append(state(server.process.pid))
        seconds = time.monotonic() - begin
        for sock in socks:
            sock.close()
    kilobytes, threads, fds = zip(*samples[SHARES // 10 - 1:])
    n_requests = SHARES * CONNECTIONS * n_bursts * BURST
    print(f"{n_requests} requests in {seconds:.0f} s; resident kB {samples[0][0]}, then {kilobytes}; "
          f"threads {set(threads)}, fds {set(fds)}")
    assert max(kilobytes) <= GROWTH_MAX * kilobytes[0], "memory grows"
    assert len(set(threads)) == 1 and max(fds) - min(fds) <= 2, "threads or file descriptors grow"


main()
