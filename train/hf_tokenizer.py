"""tokenizer.json and tokenizer_config.json of a SentencePiece model, so that Hugging Face's programs read the same ids
from a text as the server does. Needs tokenizers and sentencepiece.

transformers could make them itself, but its T5 has no byte fallback: a character without a piece would become <unk>.
"""
import texts
from texts import Failure
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

NORMALIZER_SPEC, CHARSMAP = 3, 2  # fields of SentencePiece's ModelProto and NormalizerSpec
LONGEST_INPUT = 10**30  # transformers' way to say that there is no limit


def read_varint(raw, i):
    value, shift = 0, 0
    while True:
        byte = raw[i]
        value |= (byte & 127) << shift
        i, shift = i + 1, shift + 7
        if byte < 128:
            return value, i


def proto_field(raw, wanted):
    """The bytes of the first field `wanted` of a protobuf message; b"" when it has none."""
    i = 0
    while i < len(raw):
        tag, i = read_varint(raw, i)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            n_bytes, i = read_varint(raw, i)
            if number == wanted:
                return raw[i:i + n_bytes]
            i += n_bytes
        elif kind == 0:
            _, i = read_varint(raw, i)
        else:
            i += {1: 8, 5: 4}[kind]
    return b""


def charsmap_of(path):
    """How SentencePiece normalizes characters, compiled; b"" when it does not."""
    try:
        return proto_field(proto_field(path.read_bytes(), NORMALIZER_SPEC), CHARSMAP)
    except (IndexError, KeyError) as error:
        raise Failure(f"{path}: not a SentencePiece model") from error


def make(pieces, n_sentinels):
    """A tokenizers.Tokenizer that does what SentencePiece does with a unigram model of byte fallback."""
    sp = pieces.model
    vocabulary = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(len(sp))]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=sp.unk_id(), byte_fallback=True))
    steps = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    charsmap = charsmap_of(pieces.path)
    tokenizer.normalizer = normalizers.Sequence(([normalizers.Precompiled(charsmap)] if charsmap else []) + steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    eos = sp.id_to_piece(sp.eos_id())
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {eos}", pair=f"$A {eos} $B {eos}",
                                                             special_tokens=[(eos, sp.eos_id())])
    special = [sp.id_to_piece(i) for i in (sp.pad_id(), sp.eos_id(), sp.unk_id())]
    special += [f"<extra_id_{i}>" for i in reversed(range(n_sentinels))]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    return tokenizer


def write(pieces, folder, n_sentinels):
    sp = pieces.model
    make(pieces, n_sentinels).save(str(folder / "tokenizer.json"))
    names = {key: sp.id_to_piece(i) for key, i in (("eos_token", sp.eos_id()), ("pad_token", sp.pad_id()),
                                                   ("unk_token", sp.unk_id()))}
    texts.write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "extra_ids": n_sentinels, "model_max_length": LONGEST_INPUT, **names,
        "additional_special_tokens": [f"<extra_id_{i}>" for i in range(n_sentinels)]})
