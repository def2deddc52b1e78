#!/usr/bin/env python3
"""The server's load figures in one command, about five minutes: beside the engine's own speed, at rising rates, under
overload. Writes docs/serve-load.json, docs/serve-load.svg and the tables in docs/performance.md.

    bench/serve_load.py --build build/release

The machine's cores are divided: one half runs the server (as many model threads as cores, its HTTP threads among them)
or the engine alone, the other half makes the load. So HTTP has to be paid from the same cores as the model, and the
load generator takes nothing away. Best of the rounds where rounds alternate; each load runs --seconds.
"""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import svg_plot

SOURCE = Path(__file__).resolve().parent.parent
SHARES = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)
OVERLOADS = (1, 2, 5, 10)
CLIENTS = 64
GOOD_SHARE = 0.99
QUEUE_S = 0.1  # under overload the queue holds this much work: what waits longer comes too late


def add_server_options(parser):
    """What Server and Load read."""
    parser.add_argument("--build", type=Path, default=SOURCE / "build/release")
    parser.add_argument("--texts", type=Path, default=SOURCE / "models/t5-tatoeba/data/test.en-de.tsv")
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="de")
    parser.add_argument("--model", type=Path, help="model folder (default: the bundled one)")
    parser.set_defaults(tries=1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_options(parser)
    parser.add_argument("--sentences", type=int, default=1200, help="of the engine's own round")
    parser.add_argument("--seconds", type=float, default=8, help="that each load is measured")
    parser.add_argument("--rounds", type=int, default=3, help="of engine and server in turns")
    parser.add_argument("--tries", type=int, help="of each open load, the best counts: for a machine that is shared")
    parser.add_argument("--out", type=Path, default=SOURCE / "docs")
    parser.add_argument("--note", default="", help="what to say about the machine: \"shared with other work\"")
    return parser.parse_args()


class Machine:
    """Which cores do what, and what this is."""

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        half = max(1, len(cores) // 2)
        self.server_cores, self.client_cores = cores[:half], cores[half:] or cores
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        self.name = model.group(1) if model else "unknown CPU"

    def on(self, cores, command, **options):
        return subprocess.Popen([str(c) for c in command], preexec_fn=lambda: os.sched_setaffinity(0, cores), **options)


class Running:
    """A process that does not outlive its `with`."""

    process = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()


class Server(Running):
    def __init__(self, machine, args, *flags):
        self.log = tempfile.TemporaryFile("w+")
        model = ["--model", args.model] if args.model else []
        self.process = machine.on(machine.server_cores, [args.build / "server/t5serve", "--port", "0", "--threads",
                                                         len(machine.server_cores), *model, *flags], stderr=self.log)
        end = time.monotonic() + 120
        while not (found := re.search(r"listening url=http://\S+:(\d+)", self.text())):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                sys.exit("t5serve did not start:\n" + self.text())
            time.sleep(0.05)
        self.port = int(found.group(1))

    def text(self):
        """Not by seek(), which would move the place where the server writes."""
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            sys.exit("t5serve failed:\n" + self.text())


class Load(Running):
    """A bench_serve that takes one load after the other."""

    def __init__(self, machine, args, server, *flags):
        model = ["--model", args.model] if args.model else []
        self.process = machine.on(
            machine.client_cores,
            [args.build / "bench/bench_serve", "--texts", args.texts, "--source", args.source, "--target", args.target,
             "--port", server.port, "--seconds", args.seconds, *model, *flags, "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tries = args.tries
        self.alone = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench_serve failed")
        return json.loads(line)

    def run(self, load):
        print(load, file=self.process.stdin, flush=True)
        result = self.read()
        if result["wrong"] or result["unanswered"]:
            sys.exit(f"{load}: {result['wrong']} wrong answers, {result['unanswered']} requests without one")
        return result

    def run_open(self, rate):
        """The try with the most good answers."""
        results = [self.run(f"open:{rate:.1f}") for _ in range(self.tries)]
        return max(results, key=lambda r: r["good_share"])

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


def cpu_seconds(process):
    """User and system time of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def engine_alone(machine, args, decoding, *in_flight):
    """The engine without HTTP, tokenizing or joining: sentences a second of the better of two rounds, CPU ms for each. All
    sentences at once, or so many at a time."""
    model = ["--model", args.model] if args.model else []
    process = machine.on(
        machine.server_cores,
        [args.build / "cli/t5", "bench", "--sentences", args.texts, "--source", args.source, "--target", args.target, "--batch",
         args.sentences, "--repeat", 2, "--threads", len(machine.server_cores), *model, *decoding, *in_flight],
        stdout=subprocess.PIPE, text=True)
    report = json.loads(process.communicate()[0])
    return {"per_s": args.sentences / report["ms_per_round"]["min"] * 1e3, "cpu_ms": report["cpu_ms_per_sentence"]}


def served(server, load):
    """The same of the server with all clients."""
    before = cpu_seconds(server.process)
    result = load.run(f"closed:{CLIENTS}")
    cpu_ms = (cpu_seconds(server.process) - before) / result["sent"] * 1e3
    return {"per_s": result["sentences_per_s"], "cpu_ms": cpu_ms, "load": result}


def compare(machine, args, decoding):
    """Engine and server in turns, and both at their best. On a machine that others use too, CPU time tells more than
    sentences a second."""
    turns = []
    with Server(machine, args) as server, Load(machine, args, server, *decoding) as load:
        lone = load.run("closed:1")
        for _ in range(args.rounds):
            turns.append((engine_alone(machine, args, decoding), engine_alone(machine, args, decoding, "--in-flight", CLIENTS),
                          served(server, load)))
    at_once, in_flight = (max(turn[i]["per_s"] for turn in turns) for i in (0, 1))
    served_best = max((turn[2] for turn in turns), key=lambda s: s["per_s"])
    return {"engine_per_s": at_once, "engine_in_flight_per_s": in_flight, "served_per_s": served_best["per_s"],
            "engine_cpu_ms": min(e["cpu_ms"] for e, _, _ in turns), "served_cpu_ms": min(s["cpu_ms"] for _, _, s in turns),
            "ratio_best": served_best["per_s"] / at_once,
            "ratio_median": statistics.median(s["per_s"] / e["per_s"] for e, _, s in turns),
            "ratio_in_flight": served_best["per_s"] / in_flight,
            "ratio_in_flight_median": statistics.median(s["per_s"] / e["per_s"] for _, e, s in turns),
            "alone": load.alone, "closed_1": lone, f"closed_{CLIENTS}": served_best["load"]}


def rising(machine, args, capacity):
    with Server(machine, args) as server, Load(machine, args, server) as load:
        return [load.run_open(share * capacity) for share in SHARES]


def streamed(machine, args, capacity):
    """Time to the first piece of text; greedy search, which is sure of a token at once."""
    with Server(machine, args) as server, Load(machine, args, server, "--stream", "--num-beams", 1) as load:
        return [load.run_open(share * capacity) for share in (0.1, 0.5, 0.8)]


def overload(machine, args, capacity):
    queue_depth = max(8, round(QUEUE_S * capacity))
    with Server(machine, args, "--queue-depth", queue_depth) as server, Load(machine, args, server) as load:
        return [{"times": times, **load.run_open(times * capacity)} for times in OVERLOADS]


def goodput(results):
    """Requests a second of the highest rate at which all rates up to it kept the bound."""
    best = 0.0
    for r in results:
        if r["good_share"] < GOOD_SHARE:
            break
        best = r["offered_per_s"]
    return best


def draw(report):
    capacity, loads = report["capacity_per_s"], report["rising"]
    latency = svg_plot.Panel(
        "Latency against load", "requests a second (Poisson)", "ms", y_is_log=True,
        lines=[(p, [(r["offered_per_s"], r["latency_ms"][p]) for r in loads]) for p in ("p50", "p95", "p99")],
        marks=[(report["goodput_per_s"], "goodput"), (capacity, f"{CLIENTS} clients")])
    over = report["overload"]
    shed = svg_plot.Panel(
        "Overload", "offered, times the capacity", "answers a second",
        lines=[("right", [(r["times"], r["finished_per_s"]) for r in over]),
               ("right and in time", [(r["times"], r["good_per_s"]) for r in over])])
    return svg_plot.figure([latency, shed])


def table(head, rows):
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def ms(result, key="latency_ms"):
    values = result[key]
    return [f"{values[p]:.1f}" if values else "-" for p in ("p50", "p95", "p99")]


def write_tables(report):
    """The text between the marks in performance.md."""
    beside = table(["Decoding", "engine, all at once", f"engine, {CLIENTS} in flight", f"server, {CLIENTS} clients",
                    "to the first", "median", "to the second", "median",
                    "CPU per sentence, engine", "server", "ratio", "a lone request"],
                   [[name, f"{c['engine_per_s']:.0f} /s", f"{c['engine_in_flight_per_s']:.0f} /s",
                     f"{c['served_per_s']:.0f} /s", f"{c['ratio_best']:.2f}", f"{c['ratio_median']:.2f}",
                     f"{c['ratio_in_flight']:.2f}", f"{c['ratio_in_flight_median']:.2f}",
                     f"{c['engine_cpu_ms']:.2f} ms", f"{c['served_cpu_ms']:.2f} ms",
                     f"{c['engine_cpu_ms'] / c['served_cpu_ms']:.2f}", f"{c['closed_1']['latency_ms']['p50']:.1f} ms"]
                    for name, c in report["beside_engine"].items()])
    rates = table(["Offered", "of capacity", "p50 ms", "p95 ms", "p99 ms", "good"],
                  [[f"{r['offered_per_s']:.0f} /s", f"{100 * r['offered_per_s'] / report['capacity_per_s']:.0f} %", *ms(r),
                    f"{100 * r['good_share']:.1f} %"] for r in report["rising"]])
    over = table(["Offered", "right answers", "in time", "p50 ms", "p95 ms", "p99 ms", "refusal, p99"],
                 [[f"{r['times']} x", f"{r['finished_per_s']:.0f} /s", f"{r['good_per_s']:.0f} /s", *ms(r),
                   f"{r['refused_ms']['p99']:.1f} ms" if r["refused_ms"] else "-"] for r in report["overload"]])
    first = table(["Offered", "first piece p50 ms", "p95 ms", "p99 ms", "whole p50 ms", "p95 ms", "p99 ms"],
                  [[f"{r['offered_per_s']:.0f} /s", *ms(r, "first_token_ms"), *ms(r)] for r in report["streamed"]])
    return (f"{report['machine']}\n\n{beside}\n\n"
            f"Rising rates. Goodput: {report['goodput_per_s']:.0f} requests a second "
            f"({100 * report['goodput_per_s'] / report['capacity_per_s']:.0f} % of the capacity).\n\n{rates}\n\n"
            f"Overload, with a queue for {QUEUE_S:g} s of work (`--queue-depth {max(8, round(QUEUE_S * report['capacity_per_s']))}`):"
            f"\n\n{over}\n\nStreamed, greedy: time to the first piece of text, and to the end.\n\n{first}\n")


def put_between_marks(path, content):
    before, begin, rest = path.read_text(encoding="utf-8").partition("<!-- serve_load begin -->\n")
    _, end, after = rest.partition("<!-- serve_load end -->")
    if not begin or not end:
        sys.exit(f"{path}: no marks for the tables")
    path.write_text(before + begin + content + end + after, encoding="utf-8")


def main():
    args = parse()
    start = time.monotonic()
    machine = Machine()
    beside = {"the model's default": compare(machine, args, []), "greedy": compare(machine, args, ["--num-beams", "1"])}
    capacity = beside["the model's default"]["served_per_s"]
    report = {
        "machine": f"{machine.name}; cores: {len(machine.server_cores)} for the server, {len(machine.client_cores)} for the load"
                   + (f"; {args.note}" if args.note else "") + ".",
        "beside_engine": beside, "capacity_per_s": capacity, "rising": rising(machine, args, capacity),
        "overload": overload(machine, args, capacity),
        "streamed": streamed(machine, args, beside["greedy"]["served_per_s"]),
    }
    report["goodput_per_s"] = goodput(report["rising"])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "serve-load.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (args.out / "serve-load.svg").write_text(draw(report), encoding="utf-8")
    text = write_tables(report)
    if (args.out / "performance.md").exists():
        put_between_marks(args.out / "performance.md", text)
    print(text)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
