#!/usr/bin/env python3
"""Our CPU backend against CTranslate2 on the same random weights: one command, one run, alternating rounds.

    pip install ctranslate2==4.8.0 numpy safetensors
    bench/vs_ctranslate2.py --bench build/release/bench/bench_decode [--threads 2] [--batch 32] [--compute-type float32]

Makes a T5-small shaped model (or the shape of --shape) with random weights twice, as a Hugging Face folder and as a
CTranslate2 folder, in --work (kept for the next run). Both engines translate the same ids to the same fixed number of
tokens. Round by round each engine runs once; the best and the median of all rounds are compared. CTranslate2's tokens
are compared with ours, so that a wrong model on either side shows.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import time

import ctranslate2
import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec
from safetensors.numpy import save_file

SHAPES = {
    "small": dict(d_model=512, d_ff=2048, d_kv=64, num_heads=8, num_layers=6, vocab_size=32128),
    "base": dict(d_model=768, d_ff=3072, d_kv=64, num_heads=12, num_layers=12, vocab_size=32128),
    "bundled": dict(d_model=256, d_ff=1024, d_kv=64, num_heads=4, num_layers=4, num_decoder_layers=2, vocab_size=8192),
}


def config_of(shape):
    config = dict(model_type="t5", feed_forward_proj="relu", relative_attention_num_buckets=32,
                  relative_attention_max_distance=128, layer_norm_epsilon=1e-6, tie_word_embeddings=True,
                  pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, is_encoder_decoder=True)
    config.update(SHAPES[shape])
    config.setdefault("num_decoder_layers", config["num_layers"])
    return config


def random_weights(config):
    """Tensors under their Hugging Face names, scaled as T5 initializes them so that values stay ordinary."""
    rng = np.random.default_rng(1)
    d_model, d_ff, d_kv, heads = (config[k] for k in ("d_model", "d_ff", "d_kv", "num_heads"))
    inner = d_kv * heads
    w = {}

    def normal(name, rows, cols, std):
        w[name] = (rng.standard_normal((rows, cols), dtype=np.float32) * np.float32(std))

    def attention(prefix, has_bias):
        normal(prefix + ".q.weight", inner, d_model, (d_model * d_kv) ** -0.5)
        normal(prefix + ".k.weight", inner, d_model, d_model ** -0.5)
        normal(prefix + ".v.weight", inner, d_model, d_model ** -0.5)
        normal(prefix + ".o.weight", d_model, inner, inner ** -0.5)
        if has_bias:
            normal(prefix + ".relative_attention_bias.weight", config["relative_attention_num_buckets"], heads, 0.5)

    normal("shared.weight", config["vocab_size"], d_model, 1.0)
    for stack, n_layers in (("encoder", config["num_layers"]), ("decoder", config["num_decoder_layers"])):
        for i in range(n_layers):
            layer = f"{stack}.block.{i}.layer."
            n_sublayers = 3 if stack == "decoder" else 2
            attention(layer + "0.SelfAttention", i == 0)
            if stack == "decoder":
                attention(layer + "1.EncDecAttention", False)
            ffn = f"{layer}{n_sublayers - 1}.DenseReluDense"
            normal(ffn + ".wi.weight", d_ff, d_model, d_model ** -0.5)
            normal(ffn + ".wo.weight", d_model, d_ff, d_ff ** -0.5)
            for j in range(n_sublayers):
                w[f"{layer}{j}.layer_norm.weight"] = np.ones(d_model, np.float32)
        w[f"{stack}.final_layer_norm.weight"] = np.ones(d_model, np.float32)
    return w


def is_gated(config):
    return config.get("feed_forward_proj", "relu").startswith("gated-")


def fill_stack(spec, w, stack, config):
    """What ctranslate2.converters.transformers.T5Loader does, from our names instead of a torch module."""
    embeddings = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
    embeddings.weight = w["shared.weight"]
    spec.scale_embeddings = False
    spec.layer_norm.gamma = w[f"{stack}.final_layer_norm.weight"]
    for i, layer in enumerate(spec.layer):
        prefix = f"{stack}.block.{i}.layer."
        fill_attention(layer.self_attention, w, prefix + "0.SelfAttention", is_self=True)
        layer.self_attention.layer_norm.gamma = w[prefix + "0.layer_norm.weight"]
        layer.self_attention.relative_attention_bias = (
            w[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"])
        layer.self_attention.relative_attention_max_distance = np.int32(config["relative_attention_max_distance"])
        last = 1
        if stack == "decoder":
            fill_attention(layer.attention, w, prefix + "1.EncDecAttention", is_self=False)
            layer.attention.layer_norm.gamma = w[prefix + "1.layer_norm.weight"]
            last = 2
        if is_gated(config):
            layer.ffn.linear_0.weight = w[f"{prefix}{last}.DenseReluDense.wi_0.weight"]
            layer.ffn.linear_0_noact.weight = w[f"{prefix}{last}.DenseReluDense.wi_1.weight"]
        else:
            layer.ffn.linear_0.weight = w[f"{prefix}{last}.DenseReluDense.wi.weight"]
        layer.ffn.linear_1.weight = w[f"{prefix}{last}.DenseReluDense.wo.weight"]
        layer.ffn.layer_norm.gamma = w[f"{prefix}{last}.layer_norm.weight"]


def fill_attention(spec, w, prefix, is_self):
    spec.queries_scale = 1.0
    parts = []
    for name in "qkv":
        part = common_spec.LinearSpec()
        part.weight = w[f"{prefix}.{name}.weight"]
        parts.append(part)
    if is_self:
        utils.fuse_linear(spec.linear[0], parts)
    else:
        utils.fuse_linear(spec.linear[0], parts[:1])
        utils.fuse_linear(spec.linear[1], parts[1:])
    spec.linear[-1].weight = w[prefix + ".o.weight"]


def write_ctranslate2(w, config, folder):
    spec = transformer_spec.TransformerSpec.from_config(
        (config["num_layers"], config["num_decoder_layers"]), config["num_heads"], pre_norm=True,
        activation=common_spec.Activation.GELUTanh if is_gated(config) else common_spec.Activation.RELU,
        ffn_glu=is_gated(config), relative_attention_bias=True, rms_norm=True)
    fill_stack(spec.encoder, w, "encoder", config)
    fill_stack(spec.decoder, w, "decoder", config)
    if config.get("tie_word_embeddings", True):
        spec.decoder.projection.weight = w["shared.weight"]
        spec.decoder.scale_outputs = config["d_model"] ** -0.5
    else:
        spec.decoder.projection.weight = w["lm_head.weight"]
    tokens = ["<pad>", "</s>", "<unk>"] + [f"t{i}" for i in range(3, config["vocab_size"])]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.bos_token = spec.config.decoder_start_token = "<pad>"
    spec.config.eos_token = "</s>"
    spec.config.unk_token = "<unk>"
    spec.validate()
    spec.optimize()
    os.makedirs(folder, exist_ok=True)
    spec.save(folder)


def make_models(work, shape):
    """Both folders under `work`; returns (Hugging Face folder, CTranslate2 folder, config)."""
    config = config_of(shape)
    hf, ct2 = os.path.join(work, shape + "-hf"), os.path.join(work, shape + "-ct2")
    if not os.path.exists(os.path.join(ct2, "model.bin")):
        os.makedirs(hf, exist_ok=True)
        weights = random_weights(config)
        save_file(weights, os.path.join(hf, "model.safetensors"))
        with open(os.path.join(hf, "config.json"), "w") as f:
            json.dump(config, f, indent=1)
        bundled = os.path.join(os.path.dirname(__file__), "../models/t5-tatoeba-en-de-fr/spiece.model")
        shutil.copy(bundled, hf)
        write_ctranslate2(weights, config, ct2)
    return hf, ct2, config


class Ours:
    name = "t5"

    def __init__(self, args, folder):
        command = [args.bench, "--model", folder, "--threads", str(args.threads), "--batch", str(args.batch),
                   "--src-len", str(args.src_len), "--new-tokens", str(args.new_tokens), "--num-beams",
                   str(args.num_beams), "--compute-type", args.compute_type]
        if args.isa:
            command += ["--isa", args.isa]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline())
        self.device = result["device"]
        return result["ms"], result["ids"]


class CTranslate2:
    name = "ctranslate2"

    def __init__(self, args, folder, config):
        self.args = args
        self.translator = ctranslate2.Translator(folder, device="cpu", compute_type=args.compute_type,
                                                 inter_threads=1, intra_threads=args.threads)
        n_choices = config["vocab_size"] - 200
        self.sources = [[f"t{3 + (i * 7919 + j * 104729) % n_choices}" for j in range(args.src_len - 1)] + ["</s>"]
                        for i in range(args.batch)]

    def run(self):
        start = time.perf_counter()
        results = self.translator.translate_batch(
            self.sources, beam_size=self.args.num_beams, max_batch_size=self.args.batch,
            max_decoding_length=self.args.new_tokens, min_decoding_length=self.args.new_tokens,
            max_input_length=0, return_end_token=True)
        ms = (time.perf_counter() - start) * 1e3
        names = {"<pad>": 0, "</s>": 1, "<unk>": 2}
        return ms, [[names[t] if t in names else int(t[1:]) for t in r.hypotheses[0]] for r in results]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="our bench_decode program")
    parser.add_argument("--work", default="/tmp/t5-bench", help="folder for the two models")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--src-len", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compute-type", default="float32")
    parser.add_argument("--isa", help="force our instruction set")
    args = parser.parse_args()

    hf, ct2, config = make_models(args.work, args.shape)
    engines = [Ours(args, hf), CTranslate2(args, ct2, config)]
    times = {e.name: [] for e in engines}
    ids = {}
    for i_round in range(args.rounds + 1):  # the first round warms up
        for engine in engines:
            ms, ids[engine.name] = engine.run()
            if i_round > 0:
                times[engine.name].append(ms)
    n_tokens = args.batch * args.new_tokens
    same = sum(a == b for a, b in zip(ids["t5"], ids["ctranslate2"]))
    report = {"shape": args.shape, "threads": args.threads, "batch": args.batch, "src_len": args.src_len,
              "new_tokens": args.new_tokens, "num_beams": args.num_beams, "compute_type": args.compute_type,
              "device": engines[0].device, "same_outputs": f"{same}/{args.batch}"}
    for name, ms in times.items():
        report[name] = {"ms_best": round(min(ms), 2), "ms_median": round(statistics.median(ms), 2),
                        "tokens_per_s_best": round(n_tokens / min(ms) * 1e3)}
    ours, theirs = times["t5"], times["ctranslate2"]
    report["speed_ratio_best"] = round(min(theirs) / min(ours), 3)
    report["speed_ratio_median"] = round(statistics.median(theirs) / statistics.median(ours), 3)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
