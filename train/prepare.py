#!/usr/bin/env python3
"""Makes a folder for train.py from sentence pairs: cleaned, without doubles, split, with a tokenizer and a manifest.

    train/prepare.py DATA --pair en-de customer.tsv --license "ours"
    train/prepare.py DATA --pair en-de deu.txt --pair en-fr fra.txt --license "CC BY 2.0 FR, tatoeba.org"
    train/prepare.py DATA --pair en-de OpenSubtitles.en OpenSubtitles.de --license "..."

One file is a TSV (sentence, tab, translation; further columns, as in Anki's files, are left out), two files are the
lines of each language, as OPUS gives them in its Moses form. Both may be .gz.

Which split a pair belongs to depends on a hash of its sentence in the language --split-by, without case, spaces and
punctuation; so the split stays the same when data is added. After that no training pair has, on either side, a
sentence of valid or test, whatever pair of languages that was in; the same holds for valid and test.
"""
import argparse
import collections
import hashlib
import random
import sys
import unicodedata
from itertools import zip_longest
from pathlib import Path

import texts
from texts import Failure

N_BUCKETS = 1000
SENTENCES_MAX = 400_000  # that SentencePiece looks at; more changes the pieces little and takes gigabytes
LONGEST_RATIO = 2.5
PADDING = 6  # characters added before lengths are compared: short sentences differ more
COPY_MIN = 20  # characters: longer sentences that equal their "translation" were not translated


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="DATA", type=Path, help="folder to write")
    parser.add_argument("--pair", nargs="+", action="append", required=True, metavar=("LANGUAGES", "FILE"),
                        help="en-de FILE, or en-de FILE.en FILE.de; may be given several times")
    parser.add_argument("--license", action="append", required=True,
                        help="of the texts: once for all, or once for each --pair; goes into the manifest and the card")
    parser.add_argument("--split-by", metavar="CODE",
                        help="language whose sentence decides the split (default: the one all pairs have in common)")
    parser.add_argument("--valid", type=int, default=4, metavar="N", help="sentences of 1000 for valid (default 4)")
    parser.add_argument("--test", type=int, default=10, metavar="N", help="sentences of 1000 for test (default 10)")
    parser.add_argument("--max-chars", type=int, default=240, help="longest sentence kept (default 240)")
    parser.add_argument("--vocab-size", type=int, default=8000, metavar="N",
                        help="pieces of the tokenizer; 0: none is made, for fine-tuning a model that has one (default "
                             "8000)")
    parser.add_argument("--template", default=texts.TEMPLATE,
                        help="the prompt, so that it becomes few pieces (default: '%(default)s')")
    args = parser.parse_args()
    if args.valid < 0 or args.test < 0 or args.valid + args.test >= N_BUCKETS:
        parser.error("--valid and --test: 0 or more, together less than 1000")
    if args.vocab_size and args.vocab_size < 300:
        parser.error(f"--vocab-size: {args.vocab_size} is too few: 256 pieces stand for bytes")
    if len(args.license) not in (1, len(args.pair)):
        parser.error(f"--license: {len(args.license)} for {len(args.pair)} pairs; give one for all or one for each")
    return args


def normalize(text):
    """NFC, and each run of white space or control characters one space. SentencePiece does the rest when it reads."""
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in unicodedata.normalize("NFC", text))
    return " ".join(text.split())


def key_of(text):
    """What makes two sentences the same for the split: letters and digits alone, without case."""
    return "".join(c for c in text.lower() if c.isalnum()) or text


def bucket_of(text):
    return int(hashlib.sha1(key_of(text).encode()).hexdigest(), 16) % N_BUCKETS


def refusal(a, b, max_chars):
    """Why a pair is left out; None when it is kept."""
    if not a or not b:
        return "empty"
    if max(len(a), len(b)) > max_chars:
        return "too long"
    if not 1 / LONGEST_RATIO < (len(a) + PADDING) / (len(b) + PADDING) < LONGEST_RATIO:
        return "lengths differ too much"
    if a == b and len(a) > COPY_MIN:
        return "not translated"
    return None


def read_moses(paths):
    """Lines of two files beside each other. A tab would be a column of ours, so it becomes a space."""
    for first, second in zip_longest(*(texts.read_lines(path) for path in paths)):
        if first is None or second is None:
            raise Failure(f"{paths[0]} and {paths[1]} do not have the same number of lines")
        yield first[1].replace("\t", " "), second[1].replace("\t", " ")


def read_clean(paths, max_chars):
    """([(a, b)] kept in their order, Counter of what happened to each line)."""
    counts = collections.Counter()
    kept = {}
    for a, b in texts.read_tsv(paths[0]) if len(paths) == 1 else read_moses(paths):
        counts["read"] += 1
        pair = normalize(a), normalize(b)
        reason = refusal(*pair, max_chars) or ("double" if pair in kept else None)
        if reason:
            counts[reason] += 1
        else:
            kept[pair] = True
    return list(kept), counts


class Corpus:
    """The pairs of one pair of languages, on their way to the three splits."""

    def __init__(self, words, license_text, max_chars):
        self.languages = texts.parse_direction(words[0])
        self.paths = [Path(word) for word in words[1:]]
        self.license = license_text
        if not 1 <= len(self.paths) <= 2:
            raise Failure(f"--pair {words[0]}: one file with tabs, or one for each language, not {len(self.paths)}")
        self.pairs, self.counts = read_clean(self.paths, max_chars)
        self.splits = {}

    def name(self):
        return texts.direction_name(self.languages)


def common_language(corpora):
    """The language in all pairs; with none in common, each pair is split by its first."""
    common = set.intersection(*(set(c.languages) for c in corpora))
    return next((code for code in corpora[0].languages if code in common), None)


def split_all(corpora, args):
    """Fills `splits` by hash, then takes out of each split what a later one knows, in any language pair."""
    for corpus in corpora:
        corpus.splits = {split: [] for split in texts.SPLITS}
        side = 1 if corpus.languages[1] == args.split_by else 0
        for pair in corpus.pairs:
            bucket = bucket_of(pair[side])
            split = "test" if bucket < args.test else "valid" if bucket < args.test + args.valid else "train"
            corpus.splits[split].append(pair)
    known = set()
    for split in reversed(texts.SPLITS):
        own = set()
        for corpus in corpora:
            kept = []
            for pair in corpus.splits[split]:
                keys = {(code, key_of(text)) for code, text in zip(corpus.languages, pair, strict=True)}
                if keys & known:
                    corpus.counts[f"in {split}, known from a later split"] += 1
                    continue
                own |= keys
                kept.append(pair)
            corpus.splits[split] = kept
        known |= own


def write_splits(corpora, out):
    """Files by split, training pairs in a random but fixed order; returns what the manifest says of them."""
    files = {}
    for corpus in corpora:
        for split, pairs in corpus.splits.items():
            random.Random(1).shuffle(pairs)
            path = out / f"{split}.{corpus.name()}.tsv"
            texts.write_tsv(path, pairs)
            files[path.name] = {"pairs": len(pairs), "sha256": texts.sha256_of(path)}
    return files


def tokenizer_lines(corpora, template):
    """Training sentences once each; every seventh with its prompt, which so becomes few pieces but does not prevail."""
    seen = set()
    for corpus in corpora:
        for direction, side in ((corpus.languages, 0), (corpus.languages[::-1], 1)):
            prompt = texts.fill_template(template, direction)
            for pair in corpus.splits["train"]:
                if pair[side] not in seen:
                    seen.add(pair[side])
                    yield (prompt if len(seen) % 7 == 0 else "") + pair[side]


def train_tokenizer(corpora, args):
    """T5's special ids, and bytes for whatever has no piece, so that no character of a text is lost."""
    import sentencepiece

    prefix = args.out / "spiece"
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=tokenizer_lines(corpora, args.template), model_prefix=str(prefix),
            vocab_size=args.vocab_size, model_type="unigram", character_coverage=0.9999, byte_fallback=True, pad_id=0,
            eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
            input_sentence_size=SENTENCES_MAX, shuffle_input_sentence=True, num_threads=2, minloglevel=2)
    except RuntimeError as error:
        raise Failure(f"--vocab-size {args.vocab_size}: SentencePiece: {error}") from error
    Path(f"{prefix}.vocab").unlink(missing_ok=True)
    path = Path(f"{prefix}.model")
    return {"file": path.name, "pieces": args.vocab_size, "sha256": texts.sha256_of(path)}


def describe(corpus):
    counts = dict(corpus.counts)
    n_read = counts.pop("read", 0)
    return {"languages": corpus.languages, "license": corpus.license, "lines": n_read, "left_out": counts,
            "files": [{"name": path.name, "sha256": texts.sha256_of(path)} for path in corpus.paths]}


def report(manifest):
    for source in manifest["sources"]:
        left_out = ", ".join(f"{n} {reason}" for reason, n in source["left_out"].items()) or "nothing"
        print(f"{'-'.join(source['languages'])}: {source['lines']} lines; left out: {left_out}")
    for name, entry in manifest["files"].items():
        print(f"  {name}: {entry['pairs']} pairs")


def main():
    args = parse()
    licenses = args.license * len(args.pair) if len(args.license) == 1 else args.license
    corpora = [Corpus(words, text, args.max_chars) for words, text in zip(args.pair, licenses, strict=True)]
    names = [frozenset(corpus.languages) for corpus in corpora]
    if len(set(names)) < len(names):
        raise Failure("--pair: the same two languages twice; put their files into one")
    args.split_by = args.split_by or common_language(corpora)
    split_all(corpora, args)
    for corpus in corpora:
        if not corpus.splits["train"]:
            raise Failure(f"--pair {corpus.name()}: no pair is left to train on, of {corpus.counts['read']} lines")
    args.out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "sources": [describe(corpus) for corpus in corpora],
        "rules": {"split_by": args.split_by or "the first language of each pair", "valid_of_1000": args.valid,
                  "test_of_1000": args.test, "max_chars": args.max_chars},
        "template": args.template,
        "files": write_splits(corpora, args.out),
    }
    if args.vocab_size:
        manifest["tokenizer"] = train_tokenizer(corpora, args)
    texts.write_json(args.out / "manifest.json", manifest)
    report(manifest)


if __name__ == "__main__":
    sys.exit(texts.run(main))
