#!/usr/bin/env python3
"""The results of gpu_report.sh as Markdown tables on stdout, and as OUT_DIR/report.json. usage: gpu_table.py OUT_DIR

Shares of the roof: of memory, against the copy that exp_memory measured, else against the data sheet; of arithmetic,
against the data sheet (float16 into float32, dense). Bytes and operations come from the model's shape.
"""
import json
import sys
from pathlib import Path

# By a part of the device's name, the first that fits: memory in TB/s, float16 matrix arithmetic in TFLOP/s, of the makers'
# data sheets.
PEAKS = [("H200", 4.8, 989), ("H100 PCIe", 2.0, 756), ("H100 NVL", 3.9, 835), ("H100", 3.35, 989), ("B200", 8.0, 2250),
         ("A100-SXM4-80GB", 2.039, 312), ("A100 80GB", 1.935, 312), ("A100", 1.555, 312), ("A10", 0.6, 125),
         ("L40S", 0.864, 362), ("L40", 0.864, 181), ("L4", 0.3, 121), ("RTX 4090", 1.008, 165), ("RTX 5090", 1.792, 210),
         ("RTX 3090", 0.936, 71)]


def lines_of(path):
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # a run that was stopped in the middle of a line
            found.append({"case": "?", "error": "a broken line"})
    return found


def peaks(files):
    """(TB/s, where from, TFLOP/s or None)"""
    device = next((c["device"] for cases in files.values() for c in cases if c.get("case") == "open"), "")
    sheet = next((p for p in PEAKS if p[0] in device), None)
    copy = next((c["tb_per_s"] for cases in files.values() for c in cases if c.get("case") == "copy" and
                 "tb_per_s" in c), None)
    if copy is not None:
        return device, copy, "measured copy", sheet[2] if sheet else None
    return device, sheet[1] if sheet else None, "data sheet", sheet[2] if sheet else None


def share(amount, seconds, peak):
    return f"{100 * amount / seconds / peak / 1e12:.0f} %" if peak else "?"


def speed_row(c, memory, arithmetic):
    if c["case"] == "decode":
        seconds = c["ms_per_step"] / 1e3
        beams = "greedy" if c["beams"] == 1 else f"{c['beams']} beams"
        shares = (share(c["bytes"], seconds, memory), share(c["flops"], seconds, arithmetic)) if "bytes" in c else ("", "")
        return f"step, {c['sources']} sources, {beams}", f"{c['ms_per_step']:.3f} ms", c["tokens_per_s"], *shares
    if c["case"] == "encode":
        return (f"encode {c['sources']} x {c['src_len']}", f"{c['ms']:.2f} ms", c["tokens_per_s"], "",
                share(c["flops"], c["ms"] / 1e3, arithmetic))
    if c["case"] == "mixed":
        return "mixed lengths", f"{c['sentences_per_s']:.0f} sentences/s", c["tokens_per_s"], "", ""
    if c["case"] == "overlap":
        return (f"step of {c['rows']} rows beside passes of {c['pass_tokens']} tokens",
                f"{c['ms_per_step']:.3f} ms, x {c['inflation']:.2f}", "", "", "")
    return None


def print_speed(files, memory, where, arithmetic):
    print(f"| shape | who | case | result | tokens/s | of memory ({where}) | of arithmetic |\n|{' --- |' * 7}")
    for name, cases in files.items():
        kind, _, shape = name.partition("-")
        if kind not in ("speed", "rivals"):
            continue
        for c in cases:
            who = c.get("rival", "t5serve")
            row = speed_row(c, memory, arithmetic)
            if row is None and ("skipped" in c or "error" in c):
                row = ("-", c.get("skipped") or "error: " + c["error"], "", "", "")
            if row is not None:
                print("|", " | ".join(str(x) for x in (shape, who, *row)), "|")


def print_experiments(files):
    print("\n| program | case | result |\n| --- | --- | --- |")
    for name, cases in files.items():
        if not name.startswith("exp_"):
            continue
        for c in cases:
            rest = ", ".join(f"{k} {v}" for k, v in c.items() if k not in ("experiment", "case", "rehearsal"))
            print(f"| {name} | {c.get('case')} | {rest} |")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    files = {path.stem: lines_of(path) for path in sorted(out.glob("*.jsonl"))}
    device, memory, where, arithmetic = peaks(files)
    summary = (out / "summary.txt").read_text(encoding="utf-8").splitlines()
    parts = [dict(zip(("part", "result"), (line[:44].strip(), line[45:].strip()))) for line in summary]
    report = {"device": device, "memory_tb_per_s": memory, "memory_from": where, "arithmetic_tflop_per_s": arithmetic,
              "parts": parts, "results": files}
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"Device: {device or 'unknown'}\n")
    print_speed(files, memory, where, arithmetic)
    print_experiments(files)


if __name__ == "__main__":
    main()
