#!/usr/bin/env python3
"""Usage: test_cli_fixtures.py T5_PROGRAM SOURCE_FOLDER [FIXTURES_FOLDER] [DEVICE ...]
FIXTURES_FOLDER is one fixture folder or the folder of all.

Claim: `t5 generate --json` and `t5 score --json` give what Hugging Face computes, on every fixture folder, on the fast
CPU backend and on two of the reference behind one queue: the same ids, n-best order and scores within 1e-4, token
log-probabilities within 1e-3, whether a source is given as text or as ids, and with all requests of a folder in flight
together.
Method: each case of expected.json with each of its settings; greedy results whose margin is below 1e-3 are left out.
Log-probabilities are computed here from the stored teacher-forced logits.
"""
import json
import math
import subprocess
import sys
from array import array
from pathlib import Path

MARGIN_MIN = 1e-3
SCORE_ERROR_MAX = 1e-4
LOGPROB_ERROR_MAX = 1e-3


def run_lines(program, command, folder, device, requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([program, command, "--json", "--model", str(folder), "--device", device], input=lines,
                          capture_output=True, text=True, timeout=580)
    if done.returncode != 0:
        sys.exit(f"t5 {command} on {folder.name}: exit code {done.returncode}: {done.stderr.strip()}\n"
                 + "\n".join(line for line in done.stdout.splitlines() if '"error"' in line))
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == len(requests), f"{len(replies)} replies to {len(requests)} requests"
    return replies


def load_logits(path):
    """name -> (shape, float32 array) of the tensors called N.logits."""
    raw = path.read_bytes()
    header_bytes = int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, tensor in json.loads(raw[8:8 + header_bytes]).items():
        if name.endswith(".logits"):
            assert tensor["dtype"] == "F32", name
            start, end = (8 + header_bytes + offset for offset in tensor["data_offsets"])
            values = array("f")
            values.frombytes(raw[start:end])
            tensors[name] = (tensor["shape"], values)
    return tensors


def log_probability(row, token):
    largest = max(row)
    return row[token] - largest - math.log(sum(math.exp(x - largest) for x in row))


def without_padding(ids, eos_id):
    """Hugging Face pads a short result after its end of sequence."""
    return ids[:ids.index(eos_id) + 1] if eos_id in ids else ids


class Folder:
    def __init__(self, program, path, device):
        self.program, self.path, self.device = program, path, device
        self.eos_id = json.loads((path / "config.json").read_text())["eos_token_id"]
        self.cases = json.loads((path / "expected.json").read_text())["cases"]
        self.problems = []
        self.n_checked = 0
        self.keys = [self.source_keys(case, ids) for case, ids in zip(self.cases, self.tokenize())]

    def expect(self, condition, message):
        self.n_checked += 1
        if not condition:
            self.problems.append(f"{self.path.name} on {self.device}: {message}")

    def tokenize(self):
        done = subprocess.run([self.program, "tokenize", "--json", "--model", str(self.path)], text=True,
                              input="".join(case["text"] + "\n" for case in self.cases), capture_output=True, check=True)
        ids = [json.loads(line)["ids"] for line in done.stdout.rstrip("\n").split("\n")]
        assert len(ids) == len(self.cases), f"{len(ids)} of {len(self.cases)} texts tokenized"
        return ids

    def source_keys(self, case, ids):
        """Under which keys a case can be asked for: by its text too, unless its stored ids were cut short."""
        stored = case["input_ids"]
        is_cut = len(ids) > len(stored) and ids[:len(stored) - 1] == stored[:-1]
        self.expect(ids == stored or is_cut, f"{case['text'][:60]!r}: {ids} instead of {stored}")
        return ["input_ids"] if is_cut else ["text", "input_ids"]

    def check_generate(self):
        wanted, requests = [], []
        for i_case, case in enumerate(self.cases):
            for generate in case["generate"]:
                if generate.get("margin", 1.0) < MARGIN_MIN:
                    continue
                for key in self.keys[i_case]:
                    requests.append({key: case[key], **generate["settings"]})
                    wanted.append((f"case {i_case} by {key}, {generate['settings']}", generate))
        for (name, generate), reply in zip(wanted, self.run("generate", requests)):
            sequences = [without_padding(ids, self.eos_id) for ids in generate["sequences"]]
            self.expect(reply["sequences"] == sequences, f"{name}: {reply['sequences']} instead of {sequences}")
            self.expect(len(reply["texts"]) == len(sequences) == len(reply["scores"]), f"{name}: number of results")
            for score, expected in zip(reply["scores"], generate.get("scores", [])):
                self.expect(abs(score - expected) <= SCORE_ERROR_MAX, f"{name}: score {score} instead of {expected}")

    def check_prefix(self):
        """The first tokens of a greedy result, forced, with and without the start token, give the same result."""
        start_id = json.loads((self.path / "config.json").read_text())["decoder_start_token_id"]
        requests, wanted = [], []
        for case in self.cases:
            greedy = case["generate"][0]
            if greedy.get("margin", 0.0) < MARGIN_MIN or len(greedy["sequences"][0]) < 6:
                continue
            prefix = greedy["sequences"][0][:3]
            for forced in (prefix, [start_id] + prefix):
                if forced[0] != start_id or forced is not prefix:
                    settings = {**greedy["settings"], "max_new_tokens": greedy["settings"]["max_new_tokens"] - 3}
                    requests.append({"input_ids": case["input_ids"], "decoder_input_ids": forced, **settings})
                    wanted.append(without_padding(greedy["sequences"][0], self.eos_id))
        for request, sequence, reply in zip(requests, wanted, self.run("generate", requests)):
            self.expect(reply["sequences"] == [sequence], f"forced {request}: {reply['sequences']} not {sequence}")

    def check_score(self):
        logits = load_logits(self.path / "expected.safetensors")
        requests, case_numbers = [], []
        for i_case, case in enumerate(self.cases):
            for key in self.keys[i_case]:
                requests.append({key: case[key], "target_ids": case["decoder_input_ids"][1:] + [self.eos_id]})
                case_numbers.append(i_case)
        for request, i_case, reply in zip(requests, case_numbers, self.run("score", requests)):
            (n_rows, n_vocab), values = logits[f"{i_case}.logits"]
            target = request["target_ids"]
            stride = 1 if n_rows == len(target) else 10
            for i_row in range(n_rows):
                position = i_row * stride
                expected = log_probability(values[i_row * n_vocab:(i_row + 1) * n_vocab], target[position])
                given = reply["token_logprobs"][position]
                self.expect(abs(given - expected) <= LOGPROB_ERROR_MAX,
                            f"score of case {i_case} at {position}: {given} instead of {expected}")
            self.expect(abs(sum(reply["token_logprobs"]) - reply["score"]) <= 1e-3 * max(1.0, abs(reply["score"])),
                        f"score of case {i_case}: {reply['score']} is not the sum")

    def run(self, command, requests):
        return run_lines(self.program, command, self.path, self.device, requests)


def main():
    program, source = sys.argv[1], Path(sys.argv[2])
    fixtures = Path(sys.argv[3]) if len(sys.argv) > 3 else source / "tests" / "fixtures"
    devices = sys.argv[4:] or ["cpu", "cpu-ref,cpu-ref"]
    paths = sorted(path.parent for path in fixtures.glob("**/expected.json"))
    assert paths, f"no fixtures in {fixtures}"
    problems, n_checked = [], 0
    for path in paths:
        for device in devices:
            folder = Folder(program, path, device)
            folder.check_generate()
            folder.check_prefix()
            folder.check_score()
            problems += folder.problems
            n_checked += folder.n_checked
    print("\n".join(problems[:50]))
    print(f"{len(paths)} folders, {n_checked} comparisons, {len(problems)} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
