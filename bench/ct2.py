#!/usr/bin/env python3
"""CTranslate2 as a rival: a folder of its own format from a T5 folder, and a worker that speaks bench_decode's protocol.

usage: ct2.py DIR SOURCES [--threads N] [--compute-type float32|int8] [--max-batch-size N]
       with `compare`, which reads and writes as bench_decode.c has it

DIR is what write_ctranslate2 made. A load of more than 32 sentences at once is tried first, at once and by 32: the
library is given the faster way, unless a size is given. A result says which it was. Tokens are called t0, t1, ... so
that ids go in and come out; a model of any vocabulary will do.
"""
import argparse
import json
import os
import time

import ctranslate2
import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec

SPECIAL = ["<pad>", "</s>", "<unk>"]
SORTED_BATCH = 32  # of more sentences the library makes batches of a max_batch_size, each of sentences of like length


def read_safetensors(path):
    """The tensors of a file of float32, float16 or bfloat16 as float32 arrays."""
    types = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        body = f.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(body[begin:end], types[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


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
    tokens = SPECIAL + [f"t{i}" for i in range(len(SPECIAL), config["vocab_size"])]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.bos_token = spec.config.decoder_start_token = "<pad>"
    spec.config.eos_token = "</s>"
    spec.config.unk_token = "<unk>"
    spec.validate()
    spec.optimize()
    os.makedirs(folder, exist_ok=True)
    spec.save(str(folder))


class Worker:
    def __init__(self, args):
        start = time.perf_counter()
        self.translator = ctranslate2.Translator(
            args.folder, device="cpu", compute_type=args.compute_type, inter_threads=1, intra_threads=args.threads)
        self.load_ms = (time.perf_counter() - start) * 1e3
        with open(args.sources) as f:
            self.sources = [[name_of(int(i)) for i in line.split()] for line in f]
        self.size = args.max_batch_size
        self.best_size = {}  # of a load: the max_batch_size that was faster

    def run(self, *load):
        sizes = [self.size] if self.size else sorted({load[1], min(load[1], SORTED_BATCH)})
        if len(sizes) > 1 and load not in self.best_size:
            for size in sizes:
                self.run_by(size, *load)  # the first run of all is cold
            self.best_size[load] = min(sizes, key=lambda size: self.run_by(size, *load)["ms"])
        return self.run_by(self.best_size.get(load, sizes[0]), *load)

    def run_by(self, size, n_sources, batch, num_beams, min_new, max_new):
        ids, cpu = [], time.process_time()
        start = time.perf_counter()
        for i in range(0, n_sources, batch):
            results = self.translator.translate_batch(
                self.sources[i:min(i + batch, n_sources)], beam_size=num_beams, max_batch_size=size,
                min_decoding_length=max(1, min_new), max_decoding_length=max_new, max_input_length=0,
                return_end_token=True)
            ids += [r.hypotheses[0] for r in results]
        ms = (time.perf_counter() - start) * 1e3
        return {"ids": [[id_of(t) for t in result] for result in ids], "size": size, "ms": ms,
                "cpu_ms": (time.process_time() - cpu) * 1e3}


def name_of(i):
    return SPECIAL[i] if i < len(SPECIAL) else f"t{i}"


def id_of(name):
    return SPECIAL.index(name) if name in SPECIAL else int(name[1:])


def high_water_mb():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("sources")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compute-type", default="float32")
    parser.add_argument("--max-batch-size", type=int)
    args = parser.parse_args()
    empty_mb = high_water_mb()  # Python and the library
    worker = Worker(args)
    print(json.dumps({"load_ms": worker.load_ms, "device": f"CTranslate2 {ctranslate2.__version__}",
                      "empty_mb": empty_mb}), flush=True)
    while True:
        try:
            load = [int(number) for number in input().split()]
        except EOFError:
            return
        print(json.dumps(worker.run(*load)), flush=True)


if __name__ == "__main__":
    main()
