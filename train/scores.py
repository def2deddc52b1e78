"""Translating with `t5` and judging what comes out: for quality.py here and bench/quality.py. Needs sacrebleu."""
import collections
import subprocess

from sacrebleu.metrics import BLEU, CHRF
from texts import TREE, Failure

T5_PROGRAM = TREE / "build/release/cli/t5"
NGRAM = 3  # words: one that stands REPEATS times in a row is a loop, not style
REPEATS = 3


def translate(t5, flags, direction, lines):
    """Runs `t5 translate` over the lines: one line out for each line in. flags: model, decoding, number type."""
    command = [str(word) for word in (t5, "translate", "--source", direction[0], "--target", direction[1], *flags)]
    try:
        done = subprocess.run(command, input="".join(line + "\n" for line in lines).encode(), capture_output=True)
    except OSError as error:
        raise Failure(f"{t5}: {error.strerror}; --t5 names the program") from error
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stderr.decode('utf-8', 'replace').strip()}")
    out = done.stdout.decode("utf-8").split("\n")[:-1]
    if len(out) != len(lines):
        raise Failure(f"{' '.join(command)}: {len(lines)} lines in, {len(out)} out")
    return out


def is_loop(text):
    """Whether up to NGRAM words stand REPEATS times in a row, more often than in what people write."""
    words = text.lower().split()
    for n in range(1, NGRAM + 1):
        for i in range(len(words) - n * REPEATS + 1):
            if all(words[i + j] == words[i + j + n] for j in range(n * (REPEATS - 1))):
                return True
    return False


class Judge:
    """BLEU and chrF as sacrebleu computes them, and what they do not show."""

    def __init__(self):
        self.bleu, self.chrf = BLEU(), CHRF()

    def signatures(self):
        return {"bleu": str(self.bleu.get_signature()), "chrf": str(self.chrf.get_signature())}

    def score(self, outputs, references):
        """length_ratio is of words; loops count where the reference has none, empties where it has text."""
        if not outputs or len(outputs) != len(references):
            raise Failure(f"{len(outputs)} outputs and {len(references)} references cannot be compared")
        n_words = sum(len(text.split()) for text in references)
        pairs = list(zip(outputs, references, strict=True))
        return {
            "bleu": round(self.bleu.corpus_score(outputs, [references]).score, 2),
            "chrf": round(self.chrf.corpus_score(outputs, [references]).score, 2),
            "length_ratio": round(sum(len(text.split()) for text in outputs) / max(n_words, 1), 3),
            "loops": sum(is_loop(out) and not is_loop(ref) for out, ref in pairs),
            "empty": sum(not out.strip() and bool(ref.strip()) for out, ref in pairs),
            "lines": len(outputs),
        }


def agreement(outputs, others):
    """The share of lines that two runs translate the same."""
    return sum(map(str.__eq__, outputs, others)) / len(outputs)


def commonest(outputs):
    """(text, times) of the output that comes most often: a broken model says the same to everything."""
    return collections.Counter(outputs).most_common(1)[0]
