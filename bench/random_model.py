#!/usr/bin/env python3
"""Writes a T5 folder with random bfloat16 weights, for speed alone: config.json and model.safetensors, no tokenizer.

usage: random_model.py SHAPE DIR        SHAPE: bundled, small, base, large, mt5-small, madlad-3b
Needs the standard library only. The same million of random values is repeated, from another place on in each weight:
CTranslate2 keeps weights that are equal once, and would read less than those of a trained model.
"""
import json
import random
import struct
import sys
from pathlib import Path

SHAPES = {
    "bundled": dict(d_model=256, d_ff=1024, d_kv=64, num_heads=4, num_layers=4, num_decoder_layers=2, vocab_size=8192),
    "small": dict(d_model=512, d_ff=2048, d_kv=64, num_heads=8, num_layers=6, vocab_size=32128),
    "base": dict(d_model=768, d_ff=3072, d_kv=64, num_heads=12, num_layers=12, vocab_size=32128),
    "large": dict(d_model=1024, d_ff=4096, d_kv=64, num_heads=16, num_layers=24, vocab_size=32128),
    "mt5-small": dict(d_model=512, d_ff=1024, d_kv=64, num_heads=6, num_layers=8, vocab_size=250112, gated=True),
    "madlad-3b": dict(d_model=1024, d_ff=8192, d_kv=128, num_heads=16, num_layers=32, vocab_size=256000, gated=True),
}
N_VALUES = 1048573  # a prime, so that no two rows of a table are alike
STRIDE = 7919  # values between the beginnings of two weights


def tensors(c):
    """(name, shape, standard deviation) of every tensor; None: ones."""
    d, ff, inner, vocab = c["d_model"], c["d_ff"], c["d_kv"] * c["num_heads"], c["vocab_size"]
    yield "shared.weight", (vocab, d), 1.0
    if c["gated"]:
        yield "lm_head.weight", (vocab, d), d ** -0.5
    for stack, n_layers in (("encoder", c["num_layers"]), ("decoder", c["num_decoder_layers"])):
        for i in range(n_layers):
            layer = f"{stack}.block.{i}.layer."
            attentions = ["SelfAttention"] + (["EncDecAttention"] if stack == "decoder" else [])
            for j, name in enumerate(attentions):
                prefix = f"{layer}{j}.{name}."
                yield prefix + "q.weight", (inner, d), (d * c["d_kv"]) ** -0.5
                yield prefix + "k.weight", (inner, d), d ** -0.5
                yield prefix + "v.weight", (inner, d), d ** -0.5
                yield prefix + "o.weight", (d, inner), inner ** -0.5
                yield f"{layer}{j}.layer_norm.weight", (d,), None
                if i == 0 and j == 0:
                    yield prefix + "relative_attention_bias.weight", (32, c["num_heads"]), 0.5
            last = len(attentions)
            for name in ("wi_0", "wi_1") if c["gated"] else ("wi",):
                yield f"{layer}{last}.DenseReluDense.{name}.weight", (ff, d), d ** -0.5
            yield f"{layer}{last}.DenseReluDense.wo.weight", (d, ff), ff ** -0.5
            yield f"{layer}{last}.layer_norm.weight", (d,), None
        yield f"{stack}.final_layer_norm.weight", (d,), None


def bfloat16(values):
    """The upper half of each float32."""
    packed = struct.pack(f"<{len(values)}f", *values)
    return b"".join(packed[i + 2:i + 4] for i in range(0, len(packed), 4))


def n_elements(shape):
    n = 1
    for size in shape:
        n *= size
    return n


def write_model(shape, folder):
    c = dict(SHAPES[shape])
    c["gated"] = c.get("gated", False)
    c.setdefault("num_decoder_layers", c["num_layers"])
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(c, model_type="t5", feed_forward_proj="gated-gelu" if c["gated"] else "relu", pad_token_id=0,
                  relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
                  tie_word_embeddings=not c["gated"], eos_token_id=1, decoder_start_token_id=0,
                  is_encoder_decoder=True)
    del config["gated"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, at = {}, 0
    for name, size, _ in tensors(c):
        n_bytes = 2 * n_elements(size)
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    normal = random.Random(1)
    standard = [normal.gauss(0.0, 1.0) for _ in range(N_VALUES)]
    patterns = {None: bfloat16([1.0] * 4096)}
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for i, (_, size, std) in enumerate(tensors(c)):
            if std not in patterns:
                patterns[std] = bfloat16([x * std for x in standard])
            left, pattern = 2 * n_elements(size), patterns[std]
            begin = 2 * i * STRIDE % len(pattern)
            while left > 0:
                left -= out.write(pattern[begin:begin + left])
                begin = 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__.strip())
    write_model(sys.argv[1], Path(sys.argv[2]))
