"""Making, opening and writing T5 models as Hugging Face folders. Needs torch and transformers."""
import copy
import os
import re
import shutil
from pathlib import Path

import hf_tokenizer
import texts
import torch
from safetensors.torch import save_file
from texts import Failure
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()

N_SENTINELS = 100  # ids after the pieces, for T5's tokenizer in other programs
ROW_MULTIPLE = 64  # of the vocabulary: whole tiles for every kernel
SHAPES = {  # d_model, d_ff, d_kv, num_heads, num_layers, num_decoder_layers
    "tiny": (256, 1024, 64, 4, 4, 2),
    "small": (512, 2048, 64, 8, 6, 6),
    "base": (768, 3072, 64, 12, 12, 12),
}
SHAPE_KEYS = ("d_model", "d_ff", "d_kv", "num_heads", "num_layers", "num_decoder_layers")
EMBEDDING_STD = 0.1  # T5's 1.0 is for its optimizer, whose steps grow with the weights; AdamW's do not
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
STORES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def parse_shape(text):
    """A name of SHAPES, and changes to it: "small", "small,num_decoder_layers=2", or all six "d_model=...,...". """
    values = {}
    for word in text.split(","):
        key, equals, number = word.partition("=")
        if not equals and word in SHAPES:
            values.update(zip(SHAPE_KEYS, SHAPES[word], strict=True))
        elif key in SHAPE_KEYS and re.fullmatch(r"[1-9][0-9]{0,5}", number):
            values[key] = int(number)
        else:
            raise Failure(f"--shape: {word}: one of {', '.join(SHAPES)} or {'=N, '.join(SHAPE_KEYS)}=N")
    missing = [key for key in SHAPE_KEYS if key not in values]
    if missing:
        raise Failure(f"--shape: {', '.join(missing)} missing")
    return values


def new_model(shape, is_gated, n_pieces, dropout):
    """T5 v1.0 (ReLU, one matrix for embedding and head) or v1.1 (gated GELU, a head of its own), random weights."""
    vocab_size = -(-(n_pieces + N_SENTINELS) // ROW_MULTIPLE) * ROW_MULTIPLE
    config = T5Config(**shape, vocab_size=vocab_size, feed_forward_proj="gated-gelu" if is_gated else "relu",
                      tie_word_embeddings=not is_gated, dropout_rate=dropout, decoder_start_token_id=0, pad_token_id=0,
                      eos_token_id=1)
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight.mul_(EMBEDDING_STD)
    if is_gated:
        untie(model)
        nn.init.normal_(model.lm_head.weight, std=config.d_model ** -0.5)
    return model


def is_tied(model):
    """Whether the head is the embedding. The config does not say: transformers 5 sets its key to true for every T5, and
    goes by whether the file has two different matrices."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def untie(model):
    """transformers 5 ties every model that it makes."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())


def renamed_layers(state, stack, keep):
    """The weights of one stack with the layers `keep` alone, counted anew. Layer 0 has the bias table of all."""
    pattern = re.compile(rf"{stack}\.block\.(\d+)\.")
    for name, tensor in state.items():
        match = pattern.match(name)
        if not match:
            yield name, tensor
        elif int(match[1]) in keep:
            yield pattern.sub(f"{stack}.block.{keep.index(int(match[1]))}.", name), tensor


def with_layers(model, stack, keep):
    """A model that has only some layers of one stack: a student that begins with its teacher's weights."""
    key = "num_layers" if stack == "encoder" else "num_decoder_layers"
    n_layers = getattr(model.config, key)
    if keep[0] != 0 or sorted(set(keep)) != keep or keep[-1] >= n_layers:
        raise Failure(f"--keep-{stack}-layers: rising numbers from 0 to {n_layers - 1}, 0 among them, not {keep}")
    config = copy.deepcopy(model.config)
    setattr(config, key, len(keep))
    smaller = type(model)(config)
    if not is_tied(model):
        untie(smaller)
    smaller.load_state_dict(dict(renamed_layers(model.state_dict(), stack, keep)))
    return smaller


def open_model(folder, dropout=None):
    """Any model of the T5 family, in float32."""
    if not (Path(folder) / "config.json").exists():
        raise Failure(f"{folder}: no config.json: not a Hugging Face model folder")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if dropout is not None:
            config.dropout_rate = dropout
        if config.model_type not in ("t5", "mt5", "umt5"):
            raise Failure(f"{folder}: model_type {config.model_type}, not of the T5 family")
        return AutoModelForSeq2SeqLM.from_pretrained(folder, config=config, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise Failure(f"{folder}: {str(error).splitlines()[0]}") from error


def stored(model, store):
    """The weights as they are written, each once. One that float16 cannot hold would become infinite without a word."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_tokens.weight") or (name == "lm_head.weight" and is_tied(model)):
            continue  # shared.weight under another name
        if store == "float16" and tensor.abs().max() > torch.finfo(torch.float16).max:
            raise Failure(f"{name} has values that float16 cannot hold: --store bfloat16")
        weights[name] = tensor.detach().to("cpu", STORES[store]).contiguous()
    return weights


def stored_config(model, store):
    return {**model.config.to_dict(), "architectures": [type(model).__name__], "dtype": store,
            "tie_word_embeddings": is_tied(model)}


def copy_tokenizer(tokenizer, init, out):
    if tokenizer.path is not None:
        shutil.copyfile(tokenizer.path, out / tokenizer.path.name)
    for name in TOKENIZER_FILES:
        if init and (Path(init) / name).exists():
            shutil.copyfile(Path(init) / name, out / name)
    if not init:  # for Hugging Face's programs; the server needs the SentencePiece file alone
        hf_tokenizer.write(tokenizer, out, N_SENTINELS)


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def export(model, out, *, store, tokenizer, init, profile, card):
    """Writes a folder that t5serve loads. It replaces an older one only when it is complete."""
    out = Path(out)
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(stored(model, store), fresh / "model.safetensors", metadata={"format": "pt"})
    (fresh / "model.safetensors").chmod(0o666 & ~current_umask())  # its writer makes it for the owner alone
    texts.write_json(fresh / "config.json", stored_config(model, store))
    special = ("decoder_start_token_id", "pad_token_id", "eos_token_id")
    texts.write_json(fresh / "generation_config.json", {key: getattr(model.config, key) for key in special})
    copy_tokenizer(tokenizer, init, fresh)
    texts.write_json(fresh / "t5serve.json", profile)
    (fresh / "README.md").write_text(card, encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    fresh.rename(out)
