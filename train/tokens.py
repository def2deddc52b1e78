"""Text to token ids as the server does it, and batches of them. Needs sentencepiece and numpy.

The ids of a source are those of prompt + sentence, then end of sequence; of a target those of the sentence, then end of
sequence. Examples are kept flat, so that millions of them are a few arrays and not a few million lists.
"""
import random
from pathlib import Path

import numpy as np
import texts
from texts import Failure

BYTE_OFFSET = 3  # ByT5: pad, end of sequence and unknown come first, then the 256 bytes


class Bytes:
    """ByT5's tokenizer."""

    path = None
    n_pieces = BYTE_OFFSET + 256

    def encode(self, lines):
        return [[byte + BYTE_OFFSET for byte in line.encode()] for line in lines]

    def decode(self, ids):
        return bytes(i - BYTE_OFFSET for i in ids if BYTE_OFFSET <= i < self.n_pieces).decode("utf-8", "replace")


class Pieces:
    """SentencePiece."""

    def __init__(self, path):
        import sentencepiece
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise Failure(f"{path}: not a SentencePiece model: {error}") from error
        self.path, self.n_pieces = path, len(self.model)

    def encode(self, lines):
        return self.model.encode(list(lines))

    def decode(self, ids):
        return self.model.decode([int(i) for i in ids if i < self.n_pieces])


def open_tokenizer(folder):
    """The folder's SentencePiece file, whatever it is called; bytes when its config says ByT5."""
    folder = Path(folder)
    found = sorted(folder.glob("*.model"), key=lambda path: (path.name != "spiece.model", path.name))
    if found:
        return Pieces(found[0])
    for name in ("tokenizer_config.json", "config.json"):
        path = folder / name
        if path.exists() and "ByT5" in str(texts.read_json(path).get("tokenizer_class")):
            return Bytes()
    raise Failure(f"{folder}: no SentencePiece file (*.model), and not a ByT5 folder")


class Flat:
    """Lists of ids of many lengths, one after the other."""

    def __init__(self, lists):
        self.starts = np.cumsum([0] + [len(ids) for ids in lists])
        self.ids = np.fromiter((i for ids in lists for i in ids), np.int32, self.starts[-1])

    def __getitem__(self, i):
        return self.ids[self.starts[i]:self.starts[i + 1]]

    def lengths(self):
        return np.diff(self.starts)


class Examples:
    """Sources and targets of all directions, those longer than max_tokens left out."""

    def __init__(self, folder, split, directions, tokenizer, template, eos, max_tokens):
        sources, targets, self.lines, self.n_left_out = [], [], [], 0
        for direction in directions:
            prompt = texts.fill_template(template, direction)
            pairs = texts.read_direction(folder, split, direction)
            encoded = (tokenizer.encode(prompt + a for a, _ in pairs), tokenizer.encode(b for _, b in pairs))
            for pair, source, target in zip(pairs, *encoded, strict=True):
                if max(len(source), len(target)) + 1 > max_tokens:
                    self.n_left_out += 1
                    continue
                sources.append(source + [eos])
                targets.append(target + [eos])
                if split != "train":
                    self.lines.append((direction, *pair))
        self.sources, self.targets = Flat(sources), Flat(targets)

    def __len__(self):
        return len(self.sources.starts) - 1

    def n_tokens(self):
        return len(self.sources.ids) + len(self.targets.ids)


def cut_into_batches(examples, token_budget, seed):
    """Lists of example numbers, each of like length and of at most token_budget ids with their padding (one example may
    be longer). The same seed gives the same batches in the same order, so that a run can go on where it stopped."""
    rng = random.Random(seed)
    source_lengths, target_lengths = examples.sources.lengths().tolist(), examples.targets.lengths().tolist()
    # Two neighbouring lengths are mixed: otherwise every epoch would have the same companions in a batch.
    order = sorted(range(len(examples)), key=lambda i: (source_lengths[i] // 2, target_lengths[i] // 2, rng.random()))
    batches, batch, longest = [], [], (0, 0)
    for i in order:
        grown = max(longest[0], source_lengths[i]), max(longest[1], target_lengths[i])
        if batch and sum(grown) * (len(batch) + 1) > token_budget:
            batches.append(batch)
            batch, grown = [], (source_lengths[i], target_lengths[i])
        batch.append(i)
        longest = grown
    if batch:
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def padded(flat, batch, pad):
    """int64 [examples, longest]"""
    rows = [flat[i] for i in batch]
    out = np.full((len(rows), max(len(row) for row in rows)), pad, np.int64)
    for row, ids in zip(out, rows, strict=True):
        row[:len(ids)] = ids
    return out
