#!/usr/bin/env python3
"""What slow clients cost the others: the times of one client alone, and beside --slow clients that send a byte a second
(half of them in the head of a request, a quarter in its body) or take a byte a second of their answers (a quarter).

    bench/slow_clients.py --build build/release

Rounds alone and beside them take turns in one server, so that other work on the machine meets both. The client asks for
one sentence again and again, so that its times differ by what disturbs it alone. Each percentile is the median of its
rounds; those of all rounds are given too, since how much they differ among themselves is the noise. Cores are divided as
in serve_load.py. One JSON object.
"""
import argparse
import json
import os
import resource
import select
import signal
import socket
import statistics
import sys
import time

import serve_load

HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 4096
BODY = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n" + b" " * 4096
READ = b"GET /web/app.js HTTP/1.1\r\nHost: x\r\n\r\n" * 600  # more than the kernel's buffers hold
AT_ONCE = {HEAD: 30, BODY: BODY.find(b"\r\n\r\n") + 10, READ: len(READ)}
RECEIVE_BUFFER_BYTES = 4096
SETTLED_SHARE, SETTLE_S = 0.05, 20  # of a core, and the longest time: those who take slowly first fill the kernel's buffers


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serve_load.add_server_options(parser)
    parser.add_argument("--slow", type=int, default=1000, help="slow clients")
    parser.add_argument("--seconds", type=float, default=3, help="of each round")
    parser.add_argument("--rounds", type=int, default=8, help="of each kind")
    return parser.parse_args()


def connect(port, what):
    sock = socket.socket()
    if what is READ:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.connect(("127.0.0.1", port))
    sock.sendall(what[:AT_ONCE[what]])
    return sock


class Slow(serve_load.Running):
    """The slow clients: a process that does what they do, spread over each second. A client that is cut comes again."""

    def __init__(self, machine, port, n):
        ready, says_ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.sched_setaffinity(0, machine.client_cores)
            os.nice(10)
            try:
                self.run(port, n, says_ready)
            finally:
                os._exit(1)
        os.close(says_ready)
        if os.read(ready, 1) != b"1":
            sys.exit("the slow clients could not connect")
        os.close(ready)

    def run(self, port, n, says_ready):
        kinds = [(HEAD, HEAD, BODY, READ)[i % 4] for i in range(n)]
        clients = [(what, connect(port, what), AT_ONCE[what]) for what in kinds]
        os.write(says_ready, b"1")
        while True:
            for i, (what, sock, n_sent) in enumerate(clients):
                clients[i] = self.move(port, what, sock, n_sent)
                time.sleep(1 / n)

    def move(self, port, what, sock, n_sent):
        """One byte."""
        try:
            if what is READ:
                is_open = not select.select([sock], [], [], 0)[0] or sock.recv(1) != b""
            else:
                is_open = sock.send(what[n_sent:n_sent + 1]) == 1
        except OSError:
            is_open = False
        if is_open:
            return what, sock, n_sent + 1
        sock.close()
        return what, connect(port, what), AT_ONCE[what]

    def __exit__(self, kind, value, trace):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def connections(server):
    """Open ones, as the server counts them."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: sock.recv(65536), b""))
    return int(text.split(b"\nt5serve_connections ")[1].split()[0])


def cpu_share(server, seconds):
    """Of one core, while nobody but the slow clients is there."""
    before, begin = serve_load.cpu_seconds(server.process), time.monotonic()
    time.sleep(seconds)
    return (serve_load.cpu_seconds(server.process) - before) / (time.monotonic() - begin)


def settle(server):
    end = time.monotonic() + SETTLE_S
    while cpu_share(server, 1) > SETTLED_SHARE and time.monotonic() < end:
        pass


def measure(machine, args):
    """Rounds alone and beside the slow ones; the connections held and the server's share of a core for them."""
    alone, beside, held, shares = [], [], [], []
    with serve_load.Server(machine, args, "--metrics", "--connections-max", 2 * args.slow + 100, "--access-log=false") as server, \
            serve_load.Load(machine, args, server, "--warm-up", 0.2, "--requests", 1, "--num-beams", 1) as load:
        for _ in range(args.rounds):
            alone.append(load.run("closed:1"))
            with Slow(machine, server.port, args.slow):
                settle(server)
                held.append(connections(server))
                shares.append(cpu_share(server, 1))
                beside.append(load.run("closed:1"))
    if not all(r["right"] for r in alone + beside):
        sys.exit("a round without an answer: longer --seconds, or a machine with less to do")
    return alone, beside, held, statistics.median(shares)


def main():
    args = parse()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    machine = serve_load.Machine()
    alone, beside, held, share = measure(machine, args)
    report = {"machine": machine.name, "slow_clients": args.slow, "connections_held": min(held),
              "cpu_share_of_slow": share, "rounds": args.rounds,
              "requests": {"alone": sum(r["sent"] for r in alone), "beside": sum(r["sent"] for r in beside)}}
    for p in ("p50", "p95", "p99"):
        values = [[r["latency_ms"][p] for r in rounds] for rounds in (alone, beside)]
        medians = [statistics.median(v) for v in values]
        report[p] = {"alone_ms": medians[0], "beside_ms": medians[1], "ratio": medians[1] / medians[0],
                     "alone_rounds_ms": sorted(values[0]), "beside_rounds_ms": sorted(values[1])}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
