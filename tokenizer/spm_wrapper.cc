// tokenizer/spm_wrapper.cc: see spm_wrapper.h. Each function that may throw ends in `guarded`.
#include "tokenizer/spm_wrapper.h"

#include <sentencepiece_processor.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct t5_spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{

// Runs `body`, which returns a t5_status, and turns what it throws into one.
template <typename Body> t5_status guarded(const char *what, t5_error *err, Body body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return T5_FAIL(err, T5_ERR_NOMEM, "%s: SentencePiece is out of memory", what);
    } catch (const std::exception &e) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: SentencePiece: %s", what, e.what());
    } catch (...) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: SentencePiece failed", what);
    }
}

t5_status copy_spans(const sentencepiece::ImmutableSentencePieceText &text, const char *what, t5_token_span *out,
                     size_t n_max, size_t *out_n, t5_error *err)
{
    const auto pieces = text.pieces();
    if (pieces.size() > n_max)
        return T5_FAIL(err, T5_ERR_ARG, "%s: the text has %zu pieces, not %zu", what, pieces.size(), n_max);
    for (size_t i = 0; i < pieces.size(); i++)
        out[i] = {pieces[i].begin(), pieces[i].end()};
    *out_n = pieces.size();
    return T5_OK;
}

} // namespace

t5_status t5_spm_open(const void *model, size_t n_bytes, const char *path, t5_spm **out, t5_error *err)
{
    return guarded(path, err, [&] {
        auto spm = std::make_unique<t5_spm>();
        const auto loaded = spm->processor.LoadFromSerializedProto({static_cast<const char *>(model), n_bytes});
        if (!loaded.ok()) return T5_FAIL(err, T5_ERR_FORMAT, "%s: SentencePiece: %s", path, loaded.message());
        *out = spm.release();
        return T5_OK;
    });
}

void t5_spm_close(t5_spm *spm)
{
    delete spm;
}

t5_status t5_spm_encode(const t5_spm *spm, const char *text, size_t n_bytes, size_t n_spare, int32_t **out,
                        size_t *out_n, t5_error *err)
{
    return guarded("tokenize", err, [&] {
        std::vector<int> ids;
        const auto done = spm->processor.Encode({text, n_bytes}, &ids);
        if (!done.ok()) return T5_FAIL(err, T5_ERR_ARG, "tokenize: %s", done.message());
        const size_t n_places = ids.size() + n_spare;
        auto *copy = static_cast<int32_t *>(malloc((n_places > 0 ? n_places : 1) * sizeof(int32_t)));
        if (copy == nullptr) return T5_FAIL(err, T5_ERR_NOMEM, "tokenize: %zu ids", n_places);
        if (!ids.empty()) memcpy(copy, ids.data(), ids.size() * sizeof(int32_t));
        *out = copy;
        *out_n = ids.size();
        return T5_OK;
    });
}

t5_status t5_spm_decode(const t5_spm *spm, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                        t5_error *err)
{
    return guarded("detokenize", err, [&] {
        std::string text;
        const auto done = spm->processor.Decode(std::vector<int>(ids, ids + n_ids), &text);
        if (!done.ok()) return T5_FAIL(err, T5_ERR_ARG, "detokenize: %s", done.message());
        auto *copy = static_cast<char *>(malloc(text.size() + 1));
        if (copy == nullptr) return T5_FAIL(err, T5_ERR_NOMEM, "detokenize: %zu bytes", text.size());
        memcpy(copy, text.c_str(), text.size() + 1);
        *out = copy;
        *out_bytes = text.size();
        return T5_OK;
    });
}

t5_status t5_spm_encode_spans(const t5_spm *spm, const char *text, size_t n_bytes, t5_token_span *out, size_t n_max,
                              size_t *out_n, t5_error *err)
{
    return guarded("tokenize", err, [&] {
        sentencepiece::ImmutableSentencePieceText pieces;
        const auto done = spm->processor.Encode({text, n_bytes}, pieces.mutable_proto());
        if (!done.ok()) return T5_FAIL(err, T5_ERR_ARG, "tokenize: %s", done.message());
        return copy_spans(pieces, "tokenize", out, n_max, out_n, err);
    });
}

t5_status t5_spm_decode_spans(const t5_spm *spm, const int32_t *ids, size_t n_ids, t5_token_span *out, t5_error *err)
{
    return guarded("detokenize", err, [&] {
        sentencepiece::ImmutableSentencePieceText pieces;
        const auto done = spm->processor.Decode(std::vector<int>(ids, ids + n_ids), pieces.mutable_proto());
        if (!done.ok()) return T5_FAIL(err, T5_ERR_ARG, "detokenize: %s", done.message());
        size_t n = 0;
        const t5_status status = copy_spans(pieces, "detokenize", out, n_ids, &n, err);
        if (status != T5_OK || n == n_ids) return status;
        return T5_FAIL(err, T5_ERR_ARG, "detokenize: %zu ids have %zu pieces", n_ids, n);
    });
}

int32_t t5_spm_n_pieces(const t5_spm *spm)
{
    return spm->processor.GetPieceSize();
}

const char *t5_spm_piece(const t5_spm *spm, int32_t id)
{
    return spm->processor.IdToPiece(id).c_str();
}

t5_piece_type t5_spm_type(const t5_spm *spm, int32_t id)
{
    const auto &p = spm->processor;
    if (p.IsUnknown(id)) return T5_PIECE_UNKNOWN;
    if (p.IsControl(id)) return T5_PIECE_CONTROL;
    if (p.IsUnused(id)) return T5_PIECE_UNUSED;
    return p.IsByte(id) ? T5_PIECE_BYTE : T5_PIECE_NORMAL;
}

int32_t t5_spm_find(const t5_spm *spm, const char *piece)
{
    try {
        const int id = spm->processor.PieceToId(piece);
        return spm->processor.IdToPiece(id) == piece ? id : -1;
    } catch (...) {
        return -1;
    }
}
