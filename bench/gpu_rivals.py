#!/usr/bin/env python3
"""The rivals on the same random weights and the same loads as bench_gpu: one JSON line a case. Experiment 3.

usage: gpu_rivals.py --model DIR [--device cuda|cpu] [--new-tokens 64]
DIR is a folder of random_model.py. Each rival that python3 cannot import says so in a line of its own,
and an error of one does not stop the other. A run is a whole call, so a step's time has its share of the encoder's in
it; bench_gpu's has not. With --device cpu and a small shape the script can be rehearsed anywhere.
"""
import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path

SRC_LEN = 32
LOADS = [(1, 1), (8, 1), (32, 1), (128, 1), (1, 4), (8, 4), (32, 4)]  # sources, beams


def source_ids(config, i):
    """What gpu_load.c feeds: random ids, then the end."""
    n_choices = config["vocab_size"] - 200
    return [3 + (k * 7919 + i * 104729) % n_choices for k in range(SRC_LEN - 1)] + [config["eos_token_id"]]


def report(name, n_sources, beams, seconds, new_tokens):
    print(json.dumps({"case": "decode", "rival": name, "sources": n_sources, "beams": beams,
                      "rows": n_sources * beams, "ms_per_step": round(seconds / new_tokens * 1e3, 4),
                      "tokens_per_s": round(n_sources * new_tokens / seconds)}), flush=True)


def best_of(run, new_tokens, n=3):
    """Seconds of the fastest of n runs. A run returns how many tokens each output has: a shorter one does not count."""
    lengths = set(run())
    if lengths != {new_tokens}:
        raise RuntimeError(f"outputs of {sorted(lengths)} tokens, not {new_tokens}")
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def transformers_runs(args, config):
    import torch
    from transformers import T5ForConditionalGeneration
    dtype = torch.float16 if args.device == "cuda" else torch.float32
    model = T5ForConditionalGeneration.from_pretrained(args.model, dtype=dtype).to(args.device).eval()
    for n_sources, beams in LOADS:
        ids = torch.tensor([source_ids(config, i) for i in range(n_sources)], device=args.device)

        def run():
            with torch.inference_mode():
                outputs = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=beams, do_sample=False,
                    max_new_tokens=args.new_tokens, min_new_tokens=args.new_tokens)
            if args.device == "cuda":
                torch.cuda.synchronize()
            return [len(output) - 1 for output in outputs]  # the start token leads

        report("transformers", n_sources, beams, best_of(run, args.new_tokens), args.new_tokens)


def ctranslate2_runs(args, config):
    import ctranslate2
    import ct2
    with tempfile.TemporaryDirectory() as folder:
        ct2.write_ctranslate2(ct2.read_safetensors(Path(args.model, "model.safetensors")), config, folder)
        compute_type = "float16" if args.device == "cuda" else "float32"
        translator = ctranslate2.Translator(folder, device=args.device, compute_type=compute_type)
        for n_sources, beams in LOADS:
            sources = [[f"t{k}" for k in source_ids(config, i)[:-1]] + ["</s>"] for i in range(n_sources)]

            def run():
                results = translator.translate_batch(
                    sources, beam_size=beams, max_batch_size=n_sources,
                    max_decoding_length=args.new_tokens, min_decoding_length=args.new_tokens,
                    max_input_length=0, return_end_token=True)
                return [len(result.hypotheses[0]) for result in results]

            report("ctranslate2", n_sources, beams, best_of(run, args.new_tokens), args.new_tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--new-tokens", type=int, default=64)
    args = parser.parse_args()
    config = json.loads(Path(args.model, "config.json").read_text())
    sys.path.insert(0, str(Path(__file__).parent))
    n_failed = 0
    for name, needs, runs in (("ctranslate2", ["ctranslate2", "numpy"], ctranslate2_runs),
                              ("transformers", ["transformers", "torch"], transformers_runs)):
        missing = [m for m in needs if importlib.util.find_spec(m) is None]
        if missing:
            print(json.dumps({"case": "rival", "rival": name, "skipped": "python3 has no " + missing[0]}), flush=True)
            continue
        try:
            runs(args, config)
        except Exception as e:  # pylint: disable=broad-except  # a rival's failure is a result
            n_failed += 1
            print(json.dumps({"case": "rival", "rival": name, "error": str(e)[:300]}), flush=True)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
