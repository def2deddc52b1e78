#!/usr/bin/env python3
"""bench_gpu's JSON lines as one Markdown table. usage: gpu_table.py speed-SHAPE.jsonl ..."""
import json
import re
import sys


def rows_of(path):
    shape = re.sub(r".*speed-|\.jsonl$", "", path)
    for line in open(path, encoding="utf-8"):
        case = json.loads(line)
        if case["case"] == "decode":
            beams = "greedy" if case["beams"] == 1 else f"{case['beams']} beams"
            yield shape, f"step, {case['sources']} sources, {beams}", f"{case['ms_per_step']:.3f} ms", case["tokens_per_s"]
        elif case["case"] == "encode":
            yield shape, f"encode {case['sources']} x {case['src_len']}", f"{case['ms']:.2f} ms", case["tokens_per_s"]
        elif case["case"] == "mixed":
            yield shape, "mixed lengths", f"{case['sentences_per_s']:.0f} sentences/s", case["tokens_per_s"]


print("| shape | case | result | tokens/s |\n| --- | --- | --- | --- |")
for name in sys.argv[1:]:
    for row in rows_of(name):
        print("| {} | {} | {} | {:.0f} |".format(*row))
