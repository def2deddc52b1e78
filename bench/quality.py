#!/usr/bin/env python3
"""What smaller weights cost in quality: BLEU and chrF on test sets, and how many lines stay as in float32.

    pip install -r train/requirements.txt      # sacrebleu is enough
    bench/quality.py [--t5 build/release/cli/t5] [--shortlist de=TEXT --shortlist fr=TEXT] [--write]

Every direction of the model's t5serve.json is translated by `t5 translate` with each number type, greedy and with 4
beams; the sentences are in data/test.SOURCE-TARGET.tsv of its folder, or the same the other way round. int8 and int4 are
folders that `t5 quantize` makes. bfloat16 depends on
the processor (docs/performance.md), the others do not. With text in the target languages, the model's training text
for one, float32 and int8 also choose from the shortlists that `t5 shortlist` makes of it. Prints a table; --write puts
it into docs/performance.md and everything into docs/quality.json. Exit code 1 when int8 loses more than --limit BLEU
against float32 anywhere.
"""
import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SOURCE / "train"))
import scores  # noqa: E402
import texts  # noqa: E402

BEAMS = (1, 4)
BEGIN, END = "<!-- quality begin -->\n", "<!-- quality end -->"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--t5", type=Path, default=scores.T5_PROGRAM)
    parser.add_argument("--model", type=Path, default=SOURCE / "models/t5-tatoeba")
    parser.add_argument("--lines", type=int, help="of each test set (default: all)")
    parser.add_argument("--shortlist", metavar="CODE=TEXT", action="append", default=[],
                        help="measure shortlists too, that of language CODE made from the file TEXT")
    parser.add_argument("--limit", type=float, default=0.3, help="BLEU that int8 may lose")
    parser.add_argument("--write", action="store_true", help="update docs/")
    return parser.parse_args()


def make_variants(args, work):
    """(name, flags of t5)"""
    yield "float32", ["--model", args.model, "--compute-type", "float32"]
    yield "bfloat16", ["--model", args.model, "--compute-type", "bfloat16"]
    for name in ("int8", "int4"):
        out = work / name
        command = [args.t5, "quantize", "--model", args.model, "--to", name, out]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
            raise texts.Failure(f"t5 quantize --to {name} failed")
        yield name, ["--model", out]


def make_short_variants(args, work):
    """The same for lists, in folders that are copies."""
    for name, folder in (("float32", args.model), ("int8", work / "int8")) if args.shortlist else ():
        out = work / f"{name}-short"
        shutil.copytree(folder, out)
        for code, text in (word.split("=", 1) for word in args.shortlist):
            done = subprocess.run([args.t5, "shortlist", "--model", out, "--target", code, text], capture_output=True,
                                  text=True)
            if done.returncode != 0:
                raise texts.Failure(done.stderr.strip())
            print(f"{code}: {done.stdout.strip().split(': ')[-1]}", file=sys.stderr)
        compute = ["--compute-type", "float32"] if name == "float32" else []
        yield f"{name}, shortlist", ["--model", out, "--shortlist", *compute]


def measure(args, tests, work):
    judge, rows, exact = scores.Judge(), [], {}
    for name, flags in (*make_variants(args, work), *make_short_variants(args, work)):
        for direction, pairs in tests.items():
            for beams in BEAMS:
                out = scores.translate(args.t5, [*flags, "--device", "cpu", "--num-beams", beams], direction,
                                       [text for text, _ in pairs])
                row = {"type": name, "direction": texts.direction_name(direction), "num_beams": beams,
                       **judge.score(out, [reference for _, reference in pairs])}
                base = exact.setdefault((direction, beams), (out, row["bleu"]))
                row["same_as_float32"] = round(scores.agreement(out, base[0]), 4)
                row["bleu_change"] = round(row["bleu"] - base[1], 2)
                rows.append(row)
    return {"model": args.model.resolve().name, "signatures": judge.signatures(), "rows": rows}


def write_table(report):
    text = "| Test set | Decoding | Weights | BLEU | to float32 | chrF | lines as in float32 |\n"
    text += "| --- | --- | --- | --- | --- | --- | --- |\n"
    for row in sorted(report["rows"], key=lambda row: (row["direction"], row["num_beams"])):
        decoding = "greedy" if row["num_beams"] == 1 else f"{row['num_beams']} beams"
        change = "" if row["type"] == "float32" else f"{row['bleu_change']:+.2f}"
        text += (f"| {row['direction']}, {row['lines']} lines | {decoding} | {row['type']} | {row['bleu']:.2f} | {change} "
                 f"| {row['chrf']:.2f} | {100 * row['same_as_float32']:.1f} % |\n")
    signatures = report["signatures"]
    return text + f"\nModel {report['model']}. BLEU `{signatures['bleu']}`, chrF `{signatures['chrf']}`.\n"


def update_docs(report, table):
    texts.write_json(SOURCE / "docs/quality.json", report)
    path = SOURCE / "docs/performance.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: BEGIN + table + END, text, flags=re.DOTALL), encoding="utf-8")


def main():
    args = parse()
    tests = {d: texts.read_direction(args.model / "data", "test", d)[:args.lines]
             for d in map(tuple, texts.read_json(args.model / "t5serve.json")["pairs"])}
    with tempfile.TemporaryDirectory() as work:
        report = measure(args, tests, Path(work))
    table = write_table(report)
    print(table)
    if args.write:
        update_docs(report, table)
    worst = min(row["bleu_change"] for row in report["rows"] if row["type"] == "int8")
    print(f"int8 loses at most {max(-worst, 0):.2f} BLEU, allowed are {args.limit}")
    return 1 if -worst > args.limit else 0


if __name__ == "__main__":
    sys.exit(texts.run(main))
