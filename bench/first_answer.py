#!/usr/bin/env python3
"""How long from the start of t5serve's process to its first answer over HTTP, and what memory it has then.

    bench/first_answer.py --build build/release
    bench/first_answer.py --build build/release --tries 10 --cpu-limit 200 -- --model DIR --compute-type int8

A client tries to connect every millisecond and asks for one sentence. What stands after -- goes to t5serve. One JSON
object: milliseconds of all tries, the process's own processor time, and resident memory of the last one in MiB. Exit
code 1 when every try takes more than --cpu-limit milliseconds of processor time: that hardly grows when neighbours make
the process wait, and a free machine answers within it.
"""
import argparse
import contextlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import serve_load

BODY = b'{"q":"Hello.","source":"en","target":"de"}'
REQUEST = (b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
           b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
LONGEST_S = 60


@contextlib.contextmanager
def reserved_port():
    """A port that nobody else gets meanwhile, nor a client's own end: bound and never listened on, by a socket that lets the
    server share it (SO_REUSEADDR)."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def ask(port):
    """The whole reply; nothing while nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(REQUEST)
            return b"".join(iter(lambda: sock.recv(4096), b""))
    except ConnectionError:
        return b""


def cpu_ms(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e3


def rss_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def start_once(build, port, options):
    begin = time.monotonic()
    with subprocess.Popen([build / "server/t5serve", "--port", str(port), *options], stderr=subprocess.DEVNULL) as process:
        while not (reply := ask(port)) and process.poll() is None and time.monotonic() - begin < LONGEST_S:
            time.sleep(0.001)
        result = {"ms": (time.monotonic() - begin) * 1e3}
        if not reply.startswith(b"HTTP/1.1 200"):
            process.terminate()
            raise SystemExit(f"first_answer: no translation from t5serve {' '.join(options)}")
        result |= {"cpu_ms": cpu_ms(process.pid), "rss_mib": rss_mib(process.pid)}
        process.terminate()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=serve_load.SOURCE / "build/release")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--cpu-limit", type=float, default=math.inf, help="milliseconds of processor time")
    parser.add_argument("--limit", type=float, default=math.inf, help="milliseconds")
    parser.add_argument("options", nargs="*", help="of t5serve, after --")
    args = parser.parse_args()
    with reserved_port() as port:
        results = [start_once(args.build, port, args.options) for _ in range(args.tries)]
    print(json.dumps({"ms": sorted(round(r["ms"]) for r in results), "cpu_ms": sorted(round(r["cpu_ms"]) for r in results),
                      "rss_mib": round(results[-1]["rss_mib"], 1)}))
    is_good = all(min(r[name] for r in results) <= limit
                  for name, limit in (("cpu_ms", args.cpu_limit), ("ms", args.limit)))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
