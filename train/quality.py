#!/usr/bin/env python3
"""How well models translate: BLEU, chrF and what they hide, through `t5 translate`, as the server would answer.

    train/quality.py OUT/model --tests DATA                            one model
    train/quality.py OUT/model --tests DATA --compute-type float32 int8    what smaller numbers cost
    train/quality.py TEACHER STUDENT --tests DATA --directions en-de   two models

Each model is run with each --compute-type over each direction. The first run is what the others are compared with. With
--json everything is written, outputs included; with --plot a bar chart (SVG). Exit code 1 when a run loses more than
--limit BLEU against the first one anywhere.

loops: outputs that say up to three words three times in a row. empty: outputs without text. Neither shows in BLEU.
"""
import argparse
import sys
from pathlib import Path

import scores
import texts
from bars import bar_chart
from texts import Failure

COLUMNS = ("bleu", "chrf", "length_ratio", "loops", "empty", "same")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="+", type=Path, help="model folder")
    parser.add_argument("--tests", metavar="DATA", type=Path, required=True,
                        help="folder with test.SOURCE-TARGET.tsv, of prepare.py or of a model's data/")
    parser.add_argument("--directions", metavar="LIST",
                        help="such as en-de,de-en (default: what the test files are named)")
    parser.add_argument("--compute-type", nargs="+", default=["auto"], metavar="TYPE",
                        help="what `t5 translate` takes, one or several (default auto)")
    parser.add_argument("--num-beams", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--lines", type=int, metavar="N", help="of each test (default: all)")
    parser.add_argument("--limit", type=float, metavar="BLEU", help="how much less than the first run is a failure")
    parser.add_argument("--t5", type=Path, default=scores.T5_PROGRAM, help="the program (default: the release build's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write scores and outputs")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart of BLEU as SVG")
    args = parser.parse_args()
    if args.lines is not None and args.lines < 1:
        parser.error(f"--lines: {args.lines} is less than 1")
    return args


def read_tests(args):
    """{direction: [(source, reference)]}"""
    if args.directions:
        directions = [texts.parse_direction(word) for word in args.directions.split(",")]
    else:
        directions = texts.directions_of(args.tests, "test")
    tests = {d: texts.read_direction(args.tests, "test", d)[:args.lines] for d in directions}
    for direction, pairs in tests.items():
        if not pairs:
            raise Failure(f"--tests {args.tests}: no line for {texts.direction_name(direction)}")
    return tests


def run_names(args):
    """(name, model, number type): the name says only what differs between runs."""
    for model in args.models:
        for compute_type in args.compute_type:
            parts = [model.resolve().name] * (len(args.models) > 1) + [compute_type] * (len(args.compute_type) > 1)
            yield " ".join(parts) or model.resolve().name, model, compute_type


def measure(args, tests):
    """A row for each run and direction, the first run's rows first."""
    judge, rows, first = scores.Judge(), [], {}
    for name, model, compute_type in run_names(args):
        flags = ["--model", model, "--compute-type", compute_type, "--num-beams", args.num_beams]
        for direction, pairs in tests.items():
            sources, references = [a for a, _ in pairs], [b for _, b in pairs]
            outputs = scores.translate(args.t5, flags, direction, sources)
            row = {"run": name, "direction": texts.direction_name(direction), **judge.score(outputs, references)}
            base = first.setdefault(direction, (outputs, row["bleu"]))
            row["same"] = round(scores.agreement(outputs, base[0]), 4)
            row["bleu_change"] = round(row["bleu"] - base[1], 2)
            row["commonest"] = scores.commonest(outputs)
            row["outputs"] = outputs
            rows.append(row)
    return {"num_beams": args.num_beams, "signatures": judge.signatures(), "rows": rows}


def table(report):
    """Markdown, so that it can go into a card as it is."""
    head = ("run", "direction", "lines", "BLEU", "chrF", "length ratio", "loops", "empty", "same as first run")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in report["rows"]:
        cells = [row["run"], row["direction"], row["lines"], *(row[column] for column in COLUMNS[:-1]),
                 f"{100 * row['same']:.1f} %"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    signatures = report["signatures"]
    return "\n".join(lines) + f"\n\n{report['num_beams']} beams. BLEU {signatures['bleu']}, chrF {signatures['chrf']}\n"


def main():
    args = parse()
    report = measure(args, read_tests(args))
    print(table(report), end="")
    if args.json:
        texts.write_json(args.json, report)
    if args.plot:
        args.plot.write_text(bar_chart("BLEU", report["rows"], "direction", "run", "bleu"), encoding="utf-8")
    worst = min(report["rows"], key=lambda row: row["bleu_change"])
    if args.limit is not None and -worst["bleu_change"] > args.limit:
        print(f"{worst['run']} loses {-worst['bleu_change']:.2f} BLEU in {worst['direction']}, more than {args.limit}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(texts.run(main))
