"""Sentence pairs as files, languages and prompts: what every script here shares. Standard library only.

A folder of pairs holds {train,valid,test}.SOURCE-TARGET.tsv; each line is a sentence, a tab and its translation. The
same file serves both directions: train.en-de.tsv is also where de-en is learnt.
"""
import gzip
import hashlib
import json
import re
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
TEMPLATE = "translate {source_name} to {target_name}: "
SPLITS = ("train", "valid", "test")
CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class Failure(Exception):
    """Something outside is wrong; the message names it."""


def run(main):
    """The exit code of a script: a Failure is one line on stderr, not a traceback."""
    try:
        return main() or 0
    except Failure as failure:
        print(f"{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{Path(sys.argv[0]).name}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def language_names():
    """English names by code, from the table that the server has."""
    table = (TREE / "text/langcodes.def").read_text(encoding="utf-8")
    return dict(re.findall(r'^T5_LANG\("([^"]+)", "([^"]+)"\)', table, re.MULTILINE))


def parse_direction(text):
    """ "en-de" as ("en", "de"); a code may itself have parts: "pt-BR-en" is refused, "pt-BR:en" is meant."""
    source, colon, target = text.partition(":" if ":" in text else "-")
    if not colon or not CODE.fullmatch(source) or not CODE.fullmatch(target) or source == target:
        raise Failure(f"{text}: not a direction such as en-de, or pt-BR:en when a code has a dash")
    return source, target


def direction_name(direction):
    source, target = direction
    return f"{source}:{target}" if "-" in source + target else f"{source}-{target}"


def pairs_path(folder, split, direction):
    """Where the pairs of this direction are, and whether its source is the second column."""
    for pair, is_swapped in ((direction, False), (direction[::-1], True)):
        path = Path(folder) / f"{split}.{direction_name(pair)}.tsv"
        if path.exists():
            return path, is_swapped
    raise Failure(f"{folder}: neither {split}.{direction_name(direction)}.tsv nor the same the other way round")


def directions_of(folder, split):
    """The directions of a folder's files, as their names say."""
    paths = sorted(Path(folder).glob(f"{split}.*.tsv"))
    if not paths:
        raise Failure(f"{folder}: no {split}.SOURCE-TARGET.tsv")
    return [parse_direction(path.name[len(split) + 1:-len(".tsv")]) for path in paths]


def decode_line(raw, where):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{where}: not UTF-8 at byte {error.start + 1} of the line") from error


def read_lines(path):
    """(line number, line) of a text file, also of a .gz, without the line ends. Only \\n and \\r\\n end a line."""
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            yield number, decode_line(raw.rstrip(b"\r\n"), f"{path}:{number}")


def read_tsv(path):
    """(first, second) columns; more columns, as in Anki's files, are left out."""
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) < 2:
            raise Failure(f"{path}:{number}: no tab: a line is a sentence, a tab and its translation")
        yield columns[0], columns[1]


def read_direction(folder, split, direction):
    """[(source, target)] of one direction."""
    path, is_swapped = pairs_path(folder, split, direction)
    return [(b, a) if is_swapped else (a, b) for a, b in read_tsv(path)]


def write_tsv(path, pairs):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{a}\t{b}\n" for a, b in pairs)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {error}") from error


def fill_template(template, direction):
    """What stands before a source sentence; the fields are those of t5serve.json, see models/README.md."""
    names = language_names()
    fields = {"source": direction[0], "target": direction[1]}
    for field, code in (("source_name", direction[0]), ("target_name", direction[1])):
        if "{" + field + "}" in template and code not in names:
            raise Failure(f"{code}: text/langcodes.def has no name for it, which the template asks for")
        fields[field] = names.get(code, code)
    try:
        return template.format(**fields)
    except (KeyError, IndexError, ValueError) as error:
        raise Failure(f"template {template!r}: only {', '.join(fields)} can stand in braces") from error
