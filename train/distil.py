#!/usr/bin/env python3
"""Makes training data of a teacher's translations: what a smaller model learns from more easily than from people's.

    train/distil.py TEACHER DATA STUDENT_DATA --t5 build/release/cli/t5
    train/train.py STUDENT_DATA OUT --init TEACHER --keep-decoder-layers 0,5 --teacher TEACHER --kl 0.5 --steps 5000

Every training source of DATA is translated by `t5 translate` with beams; STUDENT_DATA gets these pairs as its training
files, one for each direction, with valid, test and manifest of DATA, and the teacher's tokenizer. Translations that are
empty or a loop are left out. A run that was stopped goes on with the line after the last finished one.
"""
import argparse
import shutil
import sys
from pathlib import Path

import scores
import texts
from texts import Failure

CHUNK = 2000  # lines between two looks at the disk: few for the beam's batches, little to lose


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", metavar="TEACHER", type=Path, help="model folder")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of prepare.py")
    parser.add_argument("out", metavar="STUDENT_DATA", type=Path, help="folder to write")
    parser.add_argument("--directions", metavar="LIST", help="such as en-de,de-en (default: as the files are named)")
    parser.add_argument("--num-beams", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--compute-type", default="auto", metavar="TYPE", help="of the teacher (default auto)")
    parser.add_argument("--lines", type=int, metavar="N", help="of each direction (default: all)")
    parser.add_argument("--keep-references", action="store_true", help="train on people's translations too")
    parser.add_argument("--t5", type=Path, default=scores.T5_PROGRAM, help="the program (default: the release build's)")
    args = parser.parse_args()
    if args.num_beams < 1 or (args.lines is not None and args.lines < 1):
        parser.error("--num-beams and --lines are 1 or more")
    if args.out.resolve() == args.data.resolve():
        parser.error("STUDENT_DATA is DATA: its training files would be overwritten")
    return args


def finished(path, sources):
    """Translations that an earlier run left, as long as they are of these sources."""
    if not path.exists():
        return []
    done = list(texts.read_tsv(path))
    if [source for source, _ in done] != sources[:len(done)]:
        raise Failure(f"{path} is of other sources; remove it to begin anew")
    return [target for _, target in done]


def translate_all(args, direction, sources, part):
    """The teacher's translations, kept in the file `part` as they are made."""
    targets = finished(part, sources)
    flags = ["--model", args.teacher, "--num-beams", args.num_beams, "--compute-type", args.compute_type]
    with open(part, "a", encoding="utf-8", newline="\n") as file:
        while len(targets) < len(sources):
            chunk = sources[len(targets):len(targets) + CHUNK]
            made = scores.translate(args.t5, flags, direction, chunk)
            file.writelines(f"{source}\t{target}\n" for source, target in zip(chunk, made, strict=True))
            file.flush()
            targets += made
            print(f"{texts.direction_name(direction)}: {len(targets)} of {len(sources)} lines", file=sys.stderr)
    return targets


def distil(args, direction):
    """Writes one direction's training file; returns what the manifest says of it."""
    pairs = texts.read_direction(args.data, "train", direction)[:args.lines]
    sources = list(dict.fromkeys(source for source, _ in pairs))
    part = args.out / f"{texts.direction_name(direction)}.part"
    targets = translate_all(args, direction, sources, part)
    made = [(a, b) for a, b in zip(sources, targets, strict=True) if b.strip() and not scores.is_loop(b)]
    path = args.out / f"train.{texts.direction_name(direction)}.tsv"
    texts.write_tsv(path, dict.fromkeys(made + pairs if args.keep_references else made))
    part.unlink()
    return path.name, {"pairs": len(list(texts.read_tsv(path))), "sha256": texts.sha256_of(path),
                       "left_out": len(sources) - len(made)}


def copy_rest(args, directions):
    """Valid and test files as they are, and the tokenizer that the teacher speaks."""
    names = {texts.pairs_path(args.data, split, d)[0] for split in ("valid", "test") for d in directions}
    found = sorted(args.teacher.glob("*.model"), key=lambda path: path.name != "spiece.model")
    for path in [*sorted(names), *found[:1]]:
        shutil.copyfile(path, args.out / path.name)
    return {path.name: {"pairs": len(list(texts.read_tsv(path))), "sha256": texts.sha256_of(path)} for path in names}


def find_directions(args):
    if args.directions:
        return [texts.parse_direction(word) for word in args.directions.split(",")]
    return texts.directions_of(args.data, "train")


def main():
    args = parse()
    directions = find_directions(args)
    args.out.mkdir(parents=True, exist_ok=True)
    files = copy_rest(args, directions)
    for direction in directions:
        name, entry = distil(args, direction)
        files[name] = entry
        print(f"{name}: {entry['pairs']} pairs, {entry['left_out']} translations left out")
    path = args.data / "manifest.json"
    manifest = texts.read_json(path) if path.exists() else {}
    manifest["files"] = files
    manifest["distilled_from"] = {"name": args.teacher.resolve().name, "num_beams": args.num_beams,
                                  "with_references": args.keep_references}
    texts.write_json(args.out / "manifest.json", manifest)


if __name__ == "__main__":
    sys.exit(texts.run(main))
