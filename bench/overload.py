#!/usr/bin/env python3
"""Does the server keep its promises under overload? --times its capacity is offered for --seconds, as an open loop:

    bench/overload.py --build build/release                     ten times, five minutes
    bench/overload.py --build build/release --times 2 --seconds 30

The queue holds what is worth waiting for: whoever would not be done within --deadline-ms is refused. Capacity is what 64
clients that wait for their answers get, before and after; the unloaded time is that of one such client. It holds when

    right answers a second                 are at least 90 % of capacity,
    the 99th percentile of their latency   is at most the deadline and twice that of the unloaded client,
    the 99th percentile of refusals        is below 5 ms,

and every answer is right or a 503. Cores are divided as in serve_load.py. One JSON object; the exit code is 1 when
something does not hold.
"""
import argparse
import copy
import json
import sys

import serve_load

GOODPUT_SHARE, REFUSAL_MS = 0.9, 5
CONNECTIONS = 4096  # of the clients; those who are let in wait


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serve_load.add_server_options(parser)
    parser.add_argument("--times", type=float, default=10, help="the capacity that is offered")
    parser.add_argument("--seconds", type=float, default=300, help="of overload")
    parser.add_argument("--capacity-seconds", type=float, default=15, help="of each measurement without overload")
    parser.add_argument("--deadline-ms", type=int, default=1000, help="request_timeout_ms of the server")
    parser.add_argument("--requests", type=int, default=100, help="different ones, each of which is asked alone first")
    return parser.parse_args()


def run(machine, args, seconds, loads, *flags):
    """The results of some loads on a server with these flags."""
    args = copy.copy(args)
    args.seconds = seconds
    with serve_load.Server(machine, args, "--connections-max", CONNECTIONS + 100, "--access-log=false", *flags) as server, \
            serve_load.Load(machine, args, server, "--connections", CONNECTIONS, "--requests", args.requests) as load:
        return [load.run(name) for name in loads]


def measure(machine, args):
    """Capacity is that of a server where nobody is refused."""
    closed = f"closed:{serve_load.CLIENTS}"
    lone, before = run(machine, args, args.capacity_seconds, ["closed:1", closed])
    rate = args.times * before["finished_per_s"]
    over, = run(machine, args, args.seconds, [f"open:{rate:.1f}"], "--request-timeout-ms", args.deadline_ms)
    after, = run(machine, args, args.capacity_seconds, [closed])
    return lone, before, over, after


def judge(args, lone, before, over, after):
    """What was measured beside what is promised."""
    capacity = (before["finished_per_s"] + after["finished_per_s"]) / 2
    values = {"goodput_share": (over["finished_per_s"] / capacity, GOODPUT_SHARE),
              "accepted_p99_ms": (over["latency_ms"]["p99"], args.deadline_ms + 2 * lone["latency_ms"]["p99"]),
              "refused_p99_ms": (over["refused_ms"]["p99"], REFUSAL_MS)}
    statuses = set(over["statuses"])
    report = {name: {"measured": value, "bound": bound, "holds": value >= bound if name == "goodput_share" else value <= bound}
              for name, (value, bound) in values.items()}
    report["statuses"] = {"measured": over["statuses"], "holds": statuses <= {"200", "503"}}
    return capacity, report


def main():
    args = parse()
    machine = serve_load.Machine()
    lone, before, over, after = measure(machine, args)
    capacity, promises = judge(args, lone, before, over, after)
    holds = all(promise["holds"] for promise in promises.values())
    print(json.dumps({"machine": machine.name, "seconds": over["seconds"], "times": args.times, "deadline_ms": args.deadline_ms,
                      "capacity_per_s": capacity, "capacity_before_after_per_s": [before["finished_per_s"], after["finished_per_s"]],
                      "unloaded_p99_ms": lone["latency_ms"]["p99"], "offered": over["offered"], "promises": promises,
                      "holds": holds}, indent=1))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
