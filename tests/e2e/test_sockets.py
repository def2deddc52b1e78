#!/usr/bin/env python3
"""More connections than usual: idle, slow, and more than there are file descriptors. Method: the fake translator; what
the kernel says of the process. Usage: test_sockets.py T5SERVE_FAKE"""
import os
import resource
import select
import socket
import sys
import time
import unittest

from load import percentile, scaled
from server import Reply, Server, post, read_reply

PROGRAM = sys.argv.pop(1)
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
REQUEST = post("/translate", b'{"q":"Hello","source":"en","target":"de"}')
ANSWER = {"translatedText": "de:Hello"}


def resident_kb(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


def cpu_share(server, seconds):
    """Part of one processor that the process takes."""
    def used():
        with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def latencies(server, n):
    """Seconds of n requests on a connection each."""
    took = []
    for _ in range(n):
        begin = time.monotonic()
        assert Reply(server_bytes(server)).json() == ANSWER
        took.append(time.monotonic() - begin)
    return took


def server_bytes(server):
    with server.connect() as sock:
        sock.sendall(REQUEST)
        return read_reply(sock, REQUEST)


class Sockets(unittest.TestCase):
    def test_idle_connections(self):
        """Claim: 10 000 connections that do nothing cost at most 100 MB and 1 % of a processor, and a new client is served
        in milliseconds. Method: each has asked once; then half of them ask again. A connection keeps its connection_bytes
        once it has asked. What the fake translator takes for itself is no cost of connections."""
        n = min(scaled(10000), HARD - 200)
        with Server(PROGRAM, f"--connections-max={n + 100}", "--connection-bytes=8192", "--access-log=false",
                    "--receive-timeout-ms=600000") as server:
            latencies(server, 20)
            before, share_before = resident_kb(server), cpu_share(server, 2)
            socks = []
            for _ in range(n):
                socks.append(server.connect())
                socks[-1].sendall(REQUEST)
            for sock in socks:
                self.assertEqual(Reply(read_reply(sock, REQUEST)).json(), ANSWER)
            grown, share, took = resident_kb(server) - before, cpu_share(server, 3) - share_before, latencies(server, 50)
            print(f"{n} idle connections: {grown / 1024:.0f} MB, {share * 100:.1f} % of a processor, a new request "
                  f"{percentile(took, 0.5) * 1000:.1f} ms")
            for sock in socks[::2]:
                sock.sendall(REQUEST)
            for sock in socks[::2]:
                self.assertEqual(Reply(read_reply(sock, REQUEST)).json(), ANSWER)
            for sock in socks:
                sock.close()
            if scaled(100) == 100:
                self.assertLess(grown, 100 * 1024)
                self.assertLess(share, 0.01)
                self.assertLess(percentile(took, 0.5), 0.01)

    def test_slow_senders(self):
        """Claim: 1 000 clients that send a byte a second, of heads and then of bodies, are cut at the deadline, and others
        are served as before. Method: a deadline of 4 s, within 1 s; the latency of others before and meanwhile."""
        n, deadline_s = scaled(1000), 4
        head = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        with Server(PROGRAM, f"--connections-max={n + 100}", "--access-log=false",
                    f"--receive-timeout-ms={deadline_s * 1000}") as server:
            alone = latencies(server, 100)
            for start in (b"POST /tr", head):
                lasted, busy = self.trickle(server, n, start, 3 * deadline_s)
                print(f"{n} slow senders were cut after {min(lasted):.1f} to {max(lasted):.1f} s; others: p99 "
                      f"{percentile(alone, 0.99) * 1000:.1f} ms alone, {percentile(busy, 0.99) * 1000:.1f} ms meanwhile")
                self.assertEqual(len(lasted), n)
                self.assertGreater(min(lasted), deadline_s - 1)
                self.assertLess(max(lasted), deadline_s + (1 if scaled(100) == 100 else 5))
                if scaled(100) == 100:
                    self.assertLess(percentile(busy, 0.99), 1.2 * percentile(alone, 0.99) + 0.01)

    def trickle(self, server, n, start, seconds):
        """n clients send `start` and then a byte a second, a few at a time, and others ask in between. Returns how long
        each client lasted, and the latencies."""
        socks, begun, lasted, busy, ends = {}, {}, [], [], select.epoll()
        for _ in range(n):
            sock = server.connect()
            sock.sendall(start)
            socks[sock.fileno()], begun[sock.fileno()] = sock, time.monotonic()
            ends.register(sock, select.EPOLLRDHUP)
        end = time.monotonic() + seconds
        while socks and time.monotonic() < end:
            tick, these = time.monotonic(), list(socks)
            some = max(1, n // 50)
            for i in range(0, len(these), some):
                for fd in these[i:i + some]:
                    try:
                        if fd in socks:
                            socks[fd].send(b"a")
                    except OSError:
                        pass  # its end is seen below
                busy += latencies(server, 1)
                time.sleep(max(0, tick + (i + some) / len(these) - time.monotonic()))
                for fd, _ in ends.poll(0):
                    lasted.append(time.monotonic() - begun[fd])
                    socks.pop(fd).close()
        return lasted, busy

    def test_no_file_descriptors(self):
        """Claim: without file descriptors for new clients the others are served, nothing spins, and it goes on when some
        come back. Method: a limit of 64 for a server that runs, 200 clients."""
        with Server(PROGRAM, "--access-log=false") as server:
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
            socks = [server.connect() for _ in range(200)]
            for sock in socks:
                sock.sendall(REQUEST)
            lucky = []
            for sock in socks:
                sock.settimeout(0.3 if not lucky or sock is not socks[-1] else 5)
                try:
                    if sock.recv(1, socket.MSG_PEEK):
                        lucky.append(sock)
                except TimeoutError:
                    break
            self.assertGreater(len(lucky), 20)
            self.assertLess(len(lucky), 64)
            for _ in range(3):
                for sock in lucky:
                    self.assertEqual(Reply(read_reply(sock, REQUEST)).json(), ANSWER)
                    sock.sendall(REQUEST)
            share = cpu_share(server, 2)
            print(f"{len(lucky)} of 200 clients have a descriptor; {share * 100:.1f} % of a processor while the others wait")
            self.assertLess(share, 0.05)
            waiting = [sock for sock in socks if sock not in lucky]
            for sock in lucky:
                sock.close()
            for sock in waiting:
                sock.settimeout(60)
                self.assertEqual(Reply(read_reply(sock, REQUEST)).json(), ANSWER)
                sock.close()


unittest.main(verbosity=2, warnings="ignore")
