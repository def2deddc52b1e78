#!/usr/bin/env python3
"""GET /metrics: text that a strict reader takes, numbers that are true, a dashboard and a manual that know all of it.
Usage: test_metrics.py T5SERVE SOURCE_FOLDER"""
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import unittest
from pathlib import Path

from server import Server, wait_until

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:  # Debian: python3-prometheus-client
    text_string_to_metric_families = None

PROGRAM, SOURCE = sys.argv.pop(1), Path(sys.argv.pop(1))
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def read_strictly(text):
    """{family: (type, {sample: {labels: value}})}; asserts what the format 0.0.4 and Prometheus' conventions demand."""
    families, family = {}, None
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    for i, line in enumerate(lines):
        head = re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line)
        if head:
            family = head.group(1)
            assert family not in families, f"{family} comes twice"
            kind = re.fullmatch(rf"# TYPE {family} (counter|gauge|histogram)", lines[i + 1])
            assert kind, lines[i + 1]
            assert (kind.group(1) == "counter") == family.endswith("_total"), line
            assert re.match(r"(t5serve|process)_", family), line
            families[family] = (kind.group(1), {})
            continue
        if line.startswith("# TYPE"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        kind, samples = families[family]
        suffix = name[len(family):]
        assert name.startswith(family) and suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",)), line
        key = frozenset(re.findall(LABEL, labels or ""))
        assert key not in samples.setdefault(name, {}), f"{line} comes twice"
        samples[name][key] = float(value)
        assert math.isfinite(samples[name][key]) and samples[name][key] >= 0, line
    for name, (kind, samples) in families.items():
        if kind == "histogram" and samples:
            check_histogram(name, samples)
    return families


def check_histogram(name, samples):
    assert samples[name + "_sum"].keys() == samples[name + "_count"].keys(), name
    for labels, count in samples[name + "_count"].items():
        buckets = []
        for key, value in samples[name + "_bucket"].items():
            le = [label for label in key if label.startswith("le=")]
            if key - set(le) == labels:
                buckets.append((float(le[0][4:-1]), value))
        bounds, values = zip(*sorted(buckets))
        assert bounds[-1] == math.inf and values[-1] == count, (name, labels)
        assert list(values) == sorted(values) and len(set(bounds)) == len(bounds), (name, labels)
    assert len(samples[name + "_bucket"]) > len(samples[name + "_count"]) * 5, f"{name}: few buckets"


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--metrics").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def text(self):
        return self.server.get("/metrics").body.decode()

    def families(self):
        return read_strictly(self.text())

    def value(self, name, *labels):
        for kind, samples in self.families().values():
            if name in samples:
                return samples[name].get(frozenset(labels), 0)
        raise AssertionError(f"no {name}")

    def stage_counts(self):
        return {stage: self.value("t5serve_stage_duration_seconds_count", f'stage="{stage}"')
                for stage in ("tokenize", "queue", "encode", "decode", "detokenize")}

    def test_format(self):
        """Claim: a strict reader takes the text, before and after there is something to count. Method: ours, which
        also knows the conventions, that of Prometheus' Python client and promtool where they are installed."""
        self.server.translate("Hello.")
        self.server.get("/nothing")
        reply = self.server.get("/metrics")
        self.assertEqual(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        families = read_strictly(reply.body.decode())
        self.assertGreater(len(families), 25)
        if text_string_to_metric_families is not None:
            theirs = list(text_string_to_metric_families(reply.body.decode()))
            self.assertEqual({f.name for f in theirs}, {re.sub("_total$", "", name) for name in families})
            self.assertTrue(all(f.documentation and f.type != "unknown" for f in theirs))

    def test_requests_are_counted(self):
        """Claim: each answer counts once under its route and status. Method: differences over known requests."""
        ok, bad = ('method="POST"', 'endpoint="/translate"', 'status="200"'), ('method="POST"', 'endpoint="/translate"',
                                                                               'status="400"')
        lost = ('method="other"', 'endpoint="other"', 'status="404"')
        name = "t5serve_http_requests_total"
        before = [self.value(name, *labels) for labels in (ok, bad, lost)]
        for _ in range(3):
            self.server.translate("Good morning.")
        self.server.translate("Hello.", target="xx")
        self.server.get("/nothing")
        self.server.get("/" + "x" * 300 + '"\\')
        after = [a + b for a, b in zip(before, (3, 1, 2))]
        wait_until(lambda: [self.value(name, *labels) for labels in (ok, bad, lost)] == after)  # it counts once its reply is sent

    def test_stages_and_tokens(self):
        """Claim: one request of three different sentences passes each stage once, or once per sentence, and its tokens
        are counted. Method: differences; the answers' lengths bound the target tokens."""
        before = self.stage_counts()
        steps = self.value("t5serve_decode_step_rows_count")
        rows = self.value("t5serve_decode_step_rows_sum")
        tokens = [self.value("t5serve_tokens_total", f'kind="{kind}"') for kind in ("source", "target")]
        sentences = ["Where is the station?", "I am tired.", "He read a book."]
        answers = self.server.translate(sentences, num_beams=2).json()["translatedText"]
        after = self.stage_counts()
        gained = {stage: after[stage] - before[stage] for stage in after}
        self.assertEqual({**gained, "encode": None},
                         {"tokenize": 1, "queue": 3, "encode": None, "decode": 3, "detokenize": 1})
        self.assertIn(gained["encode"], (1, 2, 3))
        n_steps = self.value("t5serve_decode_step_rows_count") - steps
        n_rows = self.value("t5serve_decode_step_rows_sum") - rows
        self.assertTrue(n_steps <= n_rows <= 6 * n_steps, (n_steps, n_rows))
        gained_tokens = [self.value("t5serve_tokens_total", f'kind="{kind}"') - n
                         for kind, n in zip(("source", "target"), tokens)]
        self.assertGreater(gained_tokens[0], sum(len(s.split()) for s in sentences))
        self.assertGreater(gained_tokens[1], sum(len(a.split()) for a in answers))
        self.assertEqual(self.value("t5serve_decode_step_duration_seconds_count"),
                         self.value("t5serve_decode_step_rows_count"))

    def test_generate_and_streams_pass_the_same_stages(self):
        """Claim: /generate counts like a translation, and so does an answer that is streamed. Method: one of each; all
        is counted once the last event has been read."""
        for path, body in (("/generate", {"input": "translate English to German: Hello."}),
                           ("/translate", {"q": "I am tired.", "source": "en", "target": "de", "stream": True})):
            before = self.stage_counts()
            reply = self.server.post(path, json.dumps(body).encode(), headers=("Connection: close",))
            self.assertEqual(reply.status, 200, reply.body)
            after = self.stage_counts()
            self.assertEqual({stage: after[stage] - before[stage] for stage in after}, dict.fromkeys(after, 1), path)

    def test_gauges(self):
        """Claim: what is idle reads as idle, and the process' own numbers are near what the kernel says of it."""
        pid = self.server.process.pid
        idle = {"t5serve_queue_depth": 0, "t5serve_sequences_running": 0, "t5serve_ready": 1, "t5serve_requests_pending": 1,
                "t5serve_kv_blocks_reserved": 0}
        wait_until(lambda: {name: self.value(name) for name in idle} == idle)  # others' requests end a little after their answer
        text = self.families()
        one = lambda name: next(iter(text[name][1][name].values()))
        self.assertGreater(one("t5serve_kv_blocks"), 0)
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        self.assertLess(abs(one("process_resident_memory_bytes") - resident), 0.1 * resident)
        self.assertEqual(one("process_threads"), len(os.listdir(f"/proc/{pid}/task")))
        self.assertLess(abs(one("process_open_fds") - len(os.listdir(f"/proc/{pid}/fd"))), 4)
        self.assertLess(abs(time.time() - one("process_start_time_seconds")), 600)
        self.assertGreater(one("process_cpu_seconds_total"), 0)

    def test_infos(self):
        """Claim: version, model and device stand in labels."""
        text = self.text()
        self.assertRegex(text, r'(?m)^t5serve_build_info\{version="\d+\.\d+\.\d+"\} 1$')
        self.assertRegex(text, r'(?m)^t5serve_model_info\{model="t5-tatoeba",device="cpu.*"\} 1$')

    def test_manual_knows_all(self):
        """Claim: the table of docs/operations.md and the server agree on the names."""
        manual = (SOURCE / "docs/operations.md").read_text(encoding="utf-8")
        table = manual[manual.index("| Metric | Meaning |"):]
        table = table[:table.index("\n\n")]
        written = set(re.findall(r"`((?:t5serve|process)_[a-z0-9_]+)", table))
        self.assertEqual(written, set(self.families()))

    def test_promtool(self):
        """Claim: Prometheus' own tool finds nothing to say about the text."""
        if shutil.which("promtool") is None:
            self.skipTest("no promtool (Debian: prometheus)")
        done = subprocess.run(["promtool", "check", "metrics"], input=self.text(), capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def check_labels(self, expr, families):
        """Every label in the query is one of a sample that the query names, or one that Prometheus adds."""
        known = {"instance"}
        for kind, samples in families.values():
            for name in samples.keys() & set(re.findall(r"\b(?:t5serve|process)_[a-z0-9_]+", expr)):
                known |= {label.partition("=")[0] for labels in samples[name] for label in labels}
        asked = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expr))
        for names in re.findall(r"\bby \(([^)]*)\)", expr):
            asked |= set(names.replace(" ", "").split(","))
        self.assertEqual(asked - known, set(), expr)

    def test_dashboard(self):
        """Claim: the Grafana dashboard loads and asks only for what is there, and for all that can be drawn. Method: the
        parts of the schema that Grafana needs; every name and label in a query is a sample's, every family is in some query."""
        self.server.translate("Hello.")
        wait_until(lambda: self.families()["t5serve_http_requests_total"][1])  # it counts once its reply is sent
        board = json.loads((SOURCE / "docker/grafana-dashboard.json").read_text(encoding="utf-8"))
        self.assertTrue(board["title"] and board["uid"] and board["schemaVersion"] >= 36)
        variables = {v["name"]: v for v in board["templating"]["list"]}
        self.assertEqual((variables["datasource"]["type"], variables["datasource"]["query"]), ("datasource", "prometheus"))
        panels = [p for p in board["panels"] if p["type"] != "row"]
        self.assertEqual(len({p["id"] for p in board["panels"]}), len(board["panels"]))
        taken = set()
        for p in board["panels"]:
            box = p["gridPos"]
            cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
            self.assertTrue(cells and not cells & taken and box["x"] + box["w"] <= 24, p["title"])
            taken |= cells
        families = self.families()
        samples = {n + suffix for n, (kind, _) in families.items()
                   for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
        asked = set()
        for panel in panels:
            self.assertEqual(panel["datasource"]["uid"], "${datasource}", panel["title"])
            self.assertTrue(panel["targets"] and panel["title"])
            for target in panel["targets"]:
                asked |= set(re.findall(r"\b(?:t5serve|process)_[a-z0-9_]+", target["expr"]))
                self.assertEqual(target["expr"].count("("), target["expr"].count(")"), target["expr"])
                self.check_labels(target["expr"], families)
        self.assertEqual(asked - samples, set())
        drawn = {re.sub("_(bucket|sum|count)$", "", n) if re.sub("_(bucket|sum|count)$", "", n) in families else n
                 for n in asked}
        self.assertEqual(set(families) - drawn, set())


if __name__ == "__main__":
    unittest.main()
