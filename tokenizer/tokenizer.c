/* tokenizer/tokenizer.c: the two kinds of tokenizer behind tokenizer.h, as rows of a table, and what they share:
 * checks, the final eos, special tokens and sentinels. */
#include "tokenizer/tokenizer.h"
#include "base/assert.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tokenizer/added.h"
#include "tokenizer/json_model.h"
#include "tokenizer/locate.h"
#include "tokenizer/pieces.h"
#include "tokenizer/spm_wrapper.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENTINELS_DEFAULT 100 /* of Hugging Face's T5Tokenizer when tokenizer_config.json does not say it */
#define BYTES_FIRST 3         /* ByT5: pad, eos, unk, then the 256 bytes, then sentinels to the end */
#define BYTES_END (BYTES_FIRST + 256)

typedef char token_name[24];

typedef struct {
    const char *name;
    /* Ids without eos in a malloc'ed array with one free place. */
    t5_status (*encode)(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t **out, size_t *out_n,
                        t5_error *err);
    /* A malloc'ed, NUL-terminated text of ordinary tokens; it may hold broken UTF-8. */
    t5_status (*decode)(const t5_tokenizer *t, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                        t5_error *err);
    bool (*is_ordinary)(const t5_tokenizer *t, int32_t id); /* an id below n_pieces which stands for text */
} tokenizer_kind;

struct t5_tokenizer {
    const tokenizer_kind *kind;
    t5_tokenizer_options options;
    t5_spm *spm;      /* NULL: bytes */
    t5_pieces pieces; /* of spm */
    t5_added_tokens added;
    int32_t n_pieces; /* ids that the kind itself knows, added ones among them */
    int32_t named_first, named_end, vocab_live;
    token_name *names; /* of the ids named_first to named_end - 1, which SentencePiece does not know; "" for none */
};

static t5_status append_ids(t5_buffer *list, const int32_t *ids, size_t n_ids, t5_error *err)
{
    return t5_buffer_append(list, (const char *)ids, n_ids * sizeof *ids, err);
}

/* Each part between added tokens is a text of its own. */
static t5_status encode_parts(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t **out, size_t *out_n,
                              t5_error *err)
{
    t5_status status = T5_OK;
    t5_added_part part = {0};
    t5_buffer list = {0};
    do {
        int32_t *ids = NULL;
        size_t n_ids = 0;
        t5_added_next(&t->added, text, n_bytes, part.next, &part);
        T5_TRY(t5_spm_encode(t->spm, text + part.begin, part.end - part.begin, 0, &ids, &n_ids, err));
        status = append_ids(&list, ids, n_ids, err);
        free(ids);
        if (status == T5_OK && part.token != NULL) status = append_ids(&list, &part.token->id, 1, err);
        if (status != T5_OK) goto out;
    } while (part.next < n_bytes);
    *out_n = list.n_bytes / sizeof **out;
    T5_TRY(append_ids(&list, &t->options.eos_id, 1, err)); /* the free place behind them */
    *out = (void *)list.bytes;
    list = (t5_buffer){0}; /* handed to the caller */
out:
    t5_buffer_deinit(&list);
    return status;
}

/* The spans of the ids of encode_parts(). T5_ERR_ARG when there are more than n_max. */
static t5_status encode_parts_spans(const t5_tokenizer *t, const char *text, size_t n_bytes, t5_token_span *out,
                                    size_t n_max, size_t *out_n, t5_error *err)
{
    t5_status status = T5_OK;
    t5_added_part part = {0};
    size_t n_done = 0, n = 0;
    do {
        t5_added_next(&t->added, text, n_bytes, part.next, &part);
        T5_TRY(t5_spm_encode_spans(t->spm, text + part.begin, part.end - part.begin, out + n_done, n_max - n_done, &n,
                                   err));
        for (size_t end = n_done + n; n_done < end; n_done++) {
            out[n_done].begin += (uint32_t)part.begin;
            out[n_done].end += (uint32_t)part.begin;
        }
        if (part.token == NULL) continue;
        if (n_done == n_max) return T5_FAIL(err, T5_ERR_ARG, "tokenize: the text has more than %zu tokens", n_max);
        out[n_done++] = (t5_token_span){(uint32_t)part.end, (uint32_t)part.next};
    } while (part.next < n_bytes);
    *out_n = n_done;
out:
    return status;
}

static t5_status spm_encode(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t **out, size_t *out_n,
                            t5_error *err)
{
    if (t->added.n_items > 0) return encode_parts(t, text, n_bytes, out, out_n, err);
    return t5_spm_encode(t->spm, text, n_bytes, 1, out, out_n, err);
}

static t5_status spm_decode(const t5_tokenizer *t, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                            t5_error *err)
{
    return t5_pieces_decode(&t->pieces, ids, n_ids, out, out_bytes, err);
}

static bool spm_is_ordinary(const t5_tokenizer *t, int32_t id)
{
    t5_piece_type type = t5_pieces_type(&t->pieces, id);
    return type != T5_PIECE_UNKNOWN && type != T5_PIECE_CONTROL;
}

static t5_status bytes_encode(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t **out, size_t *out_n,
                              t5_error *err)
{
    (void)t;
    int32_t *ids = malloc((n_bytes + 1) * sizeof *ids);
    if (ids == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "tokenize: %zu ids", n_bytes + 1);
    for (size_t i = 0; i < n_bytes; i++)
        ids[i] = BYTES_FIRST + (unsigned char)text[i];
    *out = ids;
    *out_n = n_bytes;
    return T5_OK;
}

/* Takes out what is no UTF-8, as Hugging Face's ByT5Tokenizer does; the new length. */
static size_t drop_broken(char *text, size_t n_bytes)
{
    size_t n = 0, length;
    for (size_t pos = 0; pos < n_bytes; pos += length) {
        uint32_t code;
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (!t5_utf8_is_valid(text + pos, length)) continue;
        memmove(text + n, text + pos, length);
        n += length;
    }
    return n;
}

static t5_status bytes_decode(const t5_tokenizer *t, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                              t5_error *err)
{
    (void)t;
    char *text = malloc(n_ids + 1);
    if (text == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "detokenize: %zu bytes", n_ids + 1);
    for (size_t i = 0; i < n_ids; i++)
        text[i] = (char)(ids[i] - BYTES_FIRST);
    *out_bytes = drop_broken(text, n_ids);
    text[*out_bytes] = '\0';
    *out = text;
    return T5_OK;
}

static bool bytes_is_ordinary(const t5_tokenizer *t, int32_t id)
{
    (void)t;
    return id >= BYTES_FIRST && id < BYTES_END;
}

static const tokenizer_kind kind_spm = {"sentencepiece", spm_encode, spm_decode, spm_is_ordinary};
static const tokenizer_kind kind_bytes = {"bytes", bytes_encode, bytes_decode, bytes_is_ordinary};

static t5_status alloc_names(t5_tokenizer *t, int32_t first, int32_t end, t5_error *err)
{
    t->named_first = first;
    t->named_end = end;
    t->vocab_live = end;
    t->names = calloc((size_t)(end - first) + 1, sizeof *t->names);
    if (t->names == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "tokenizer: %" PRId32 " names", end - first);
    return T5_OK;
}

static t5_status open_bytes(t5_tokenizer *t, const char *dir, t5_error *err)
{
    static const char *const special_names[BYTES_FIRST] = {"<pad>", "</s>", "<unk>"};

    if (t->options.vocab_size < BYTES_END)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: byte tokens need a vocabulary of %d rows, this one has %" PRId32, dir,
                       BYTES_END, t->options.vocab_size);
    t->kind = &kind_bytes;
    t->n_pieces = BYTES_END;
    t5_status status = alloc_names(t, 0, t->options.vocab_size, err);
    if (status != T5_OK) return status;
    for (int32_t id = 0; id < t->vocab_live; id++) {
        if (id < BYTES_FIRST)
            snprintf(t->names[id], sizeof *t->names, "%s", special_names[id]);
        else if (id < BYTES_END)
            snprintf(t->names[id], sizeof *t->names, "<0x%02X>", (unsigned)(id - BYTES_FIRST));
        else
            snprintf(t->names[id], sizeof *t->names, "<extra_id_%" PRId32 ">", id - BYTES_END);
    }
    return T5_OK;
}

/* Opens the model once more with the tokens that the folder adds to its pieces, if it does: which of its tokens are
 * pieces already, only the open model knows. Those among the pieces themselves count only in tokenizer.json:
 * SentencePiece finds its own. */
static t5_status open_added(t5_tokenizer *t, const char *dir, const t5_tokenizer_location *location, const void *model,
                            size_t n_bytes, t5_error *err)
{
    const t5_added_base base = {.spm = t->spm,
                                .id_min = location->is_json ? 0 : t->n_pieces,
                                .id_max = t->options.vocab_size,
                                .pad_id = t->options.pad_id,
                                .eos_id = t->options.eos_id};
    const int32_t n_own = t->n_pieces;
    t5_status status = T5_OK;
    void *grown = NULL;
    size_t grown_bytes = 0;
    T5_TRY(t5_added_load(dir, &base, &t->added, err));
    if (t->added.n_items == 0) return T5_OK;
    T5_TRY(t5_added_append(&t->added, model, n_bytes, n_own, &grown, &grown_bytes, &t->n_pieces, err));
    if (t->n_pieces == n_own) goto out; /* all are pieces already */
    t5_spm_close(t->spm);
    t->spm = NULL;
    T5_TRY(t5_spm_open(grown, grown_bytes, location->path, &t->spm, err));
out:
    free(grown);
    return status;
}

/* *out_n_own: pieces without the added ones. */
static t5_status load_model(t5_tokenizer *t, const char *dir, const t5_tokenizer_location *location, const void *model,
                            size_t n_bytes, int32_t *out_n_own, t5_error *err)
{
    t5_status status = T5_OK;
    void *guarded = NULL;
    size_t guarded_bytes = 0;

    T5_TRY(t5_spm_check(model, n_bytes, location->path, err));
    T5_TRY(t5_spm_guard(model, n_bytes, &guarded, &guarded_bytes, err));
    T5_TRY(t5_spm_open(guarded, guarded_bytes, location->path, &t->spm, err));
    t->n_pieces = *out_n_own = t5_spm_n_pieces(t->spm);
    T5_TRY(open_added(t, dir, location, guarded, guarded_bytes, err));
    T5_TRY(t5_pieces_init(&t->pieces, t->spm, t5_spm_maps_text(model, n_bytes), err));
out:
    free(guarded);
    return status;
}

static t5_status load_spm(t5_tokenizer *t, const char *dir, const t5_tokenizer_location *location, int32_t *out_n_own,
                          t5_error *err)
{
    const void *file = NULL;
    void *made = NULL;
    size_t n_bytes = 0;
    t5_status status = location->is_json ? t5_json_model_read(location->path, &made, &n_bytes, err)
                                         : t5_file_map(location->path, &file, &n_bytes, err);
    if (status != T5_OK) return status;
    status = load_model(t, dir, location, location->is_json ? made : file, n_bytes, out_n_own, err);
    if (location->is_json) {
        free(made);
    } else {
        t5_file_unmap(file, n_bytes);
    }
    return status;
}

static t5_status open_spm(t5_tokenizer *t, const char *dir, const t5_tokenizer_location *location, t5_error *err)
{
    int32_t vocab_size = t->options.vocab_size, n_own = 0;
    t5_status status = load_spm(t, dir, location, &n_own, err);
    if (status != T5_OK) return status;

    t->kind = &kind_spm;
    if (n_own > vocab_size)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: %" PRId32 " pieces, but config.json has vocab_size %" PRId32,
                       location->path, n_own, vocab_size);
    bool has_sentinels = t5_spm_find(t->spm, "<extra_id_0>") >= 0 || t5_spm_find(t->spm, "▁<extra_id_0>") >= 0;
    int32_t n_sentinels = has_sentinels ? 0 : location->extra_ids >= 0 ? location->extra_ids : SENTINELS_DEFAULT;
    int32_t end = n_sentinels < vocab_size - n_own ? n_own + n_sentinels : vocab_size;
    status = alloc_names(t, n_own, end, err);
    if (status != T5_OK) return status;
    for (int32_t id = n_own; id < end; id++) /* counting down: the first sentinel has the last id */
        snprintf(t->names[id - n_own], sizeof *t->names, "<extra_id_%" PRId32 ">", n_own + n_sentinels - 1 - id);
    for (int32_t i = 0; i < t->added.n_items; i++) {
        const int32_t id = t->added.items[i].id;
        if (id >= n_own && id < end) t->names[id - n_own][0] = '\0';
    }
    if (t->n_pieces > end) t->vocab_live = t->n_pieces;
    return T5_OK;
}

t5_status t5_tokenizer_open(const char *dir, const t5_tokenizer_options *options, t5_tokenizer **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_tokenizer_location location = {0};
    t5_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "tokenizer: %zu bytes", sizeof *t);

    t->options = *options;
    T5_ASSERT(options->vocab_size > 0 && options->vocab_size <= T5_VOCAB_MAX);
    T5_TRY(t5_tokenizer_locate(dir, options->vocab_size, &location, err));
    T5_TRY(location.path == NULL ? open_bytes(t, dir, err) : open_spm(t, dir, &location, err));
    *out = t;
    t = NULL; /* handed to the caller */
out:
    free(location.path);
    t5_tokenizer_close(t);
    return status;
}

void t5_tokenizer_close(t5_tokenizer *t)
{
    if (t == NULL) return;
    t5_pieces_deinit(&t->pieces);
    t5_spm_close(t->spm);
    t5_added_deinit(&t->added);
    free(t->names);
    free(t);
}

t5_status t5_tokenizer_encode_alloc(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t ids_max,
                                    int32_t **out, int32_t *out_n, t5_error *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0, valid_bytes = t5_utf8_valid_prefix(text, n_bytes);

    if (valid_bytes < n_bytes) return T5_FAIL(err, T5_ERR_ARG, "the text is not valid UTF-8 at byte %zu", valid_bytes);
    t5_status status = t->kind->encode(t, text, n_bytes, &ids, &n_ids, err);
    if (status != T5_OK) return status;
    if (ids_max < 1 || n_ids > (size_t)ids_max - 1) {
        free(ids);
        return T5_FAIL(err, T5_ERR_ARG, "the text has %zu tokens, allowed are %" PRId32, n_ids + 1, ids_max);
    }
    ids[n_ids] = t->options.eos_id;
    *out = ids;
    *out_n = (int32_t)n_ids + 1;
    return T5_OK;
}

t5_status t5_tokenizer_encode(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t *out, int32_t ids_max,
                              int32_t *out_n, t5_error *err)
{
    int32_t *ids = NULL;
    t5_status status = t5_tokenizer_encode_alloc(t, text, n_bytes, ids_max, &ids, out_n, err);
    if (status != T5_OK) return status;
    memcpy(out, ids, (size_t)*out_n * sizeof *out);
    free(ids);
    return T5_OK;
}

static bool is_ordinary(const t5_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_pieces && id != t->options.pad_id && id != t->options.eos_id &&
           t->kind->is_ordinary(t, id);
}

t5_status t5_tokenizer_decode(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, char **out_text,
                              size_t *out_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    size_t n_ordinary = 0, raw_bytes = 0;
    char *raw = NULL;

    T5_ASSERT(n_ids >= 0);
    int32_t *ordinary = malloc(((size_t)n_ids + 1) * sizeof *ordinary);
    if (ordinary == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "detokenize: %" PRId32 " ids", n_ids);
    for (int32_t i = 0; i < n_ids; i++)
        if (is_ordinary(t, ids[i])) ordinary[n_ordinary++] = ids[i];
    T5_TRY(t->kind->decode(t, ordinary, n_ordinary, &raw, &raw_bytes, err));
    if (t5_utf8_is_valid(raw, raw_bytes)) {
        *out_text = raw;
        *out_bytes = raw_bytes;
        raw = NULL; /* handed to the caller */
    } else {
        T5_TRY(t5_utf8_repair(raw, raw_bytes, out_text, out_bytes, err));
    }
out:
    free(raw);
    free(ordinary);
    return status;
}

t5_status t5_tokenizer_encode_spans(const t5_tokenizer *t, const char *text, size_t n_bytes, t5_token_span *out,
                                    int32_t n_ids, t5_error *err)
{
    t5_status status = T5_OK;
    T5_ASSERT(n_ids >= 1);
    const size_t n_text = (size_t)n_ids - 1; /* without eos */
    size_t n = n_bytes;                      /* of tokens that are bytes */
    out[n_text] = (t5_token_span){(uint32_t)n_bytes, (uint32_t)n_bytes};
    if (t->spm != NULL) T5_TRY(encode_parts_spans(t, text, n_bytes, out, n_text, &n, err));
    if (n != n_text) T5_TRY(T5_FAIL(err, T5_ERR_ARG, "tokenize: the text has %zu tokens, not %zu", n, n_text));
    for (size_t i = 0; t->spm == NULL && i < n; i++)
        out[i] = (t5_token_span){(uint32_t)i, (uint32_t)i + 1};
out:
    return status;
}

/* The spans of ordinary ids become those of all ids: the others stand where they are, and for nothing. */
static void spread_spans(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, size_t n_bytes,
                         const t5_token_span *ordinary, t5_token_span *out)
{
    const uint32_t end = (uint32_t)n_bytes;
    t5_token_span last = {0, 0};
    for (int32_t i = 0; i < n_ids; i++) {
        const bool stands_for_text = is_ordinary(t, ids[i]);
        if (stands_for_text) last = *ordinary++;
        if (last.end > end) last.end = end;
        if (last.begin > last.end) last.begin = last.end;
        out[i] = stands_for_text ? last : (t5_token_span){last.end, last.end};
    }
}

t5_status t5_tokenizer_decode_spans(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, size_t n_bytes,
                                    t5_token_span *out, t5_error *err)
{
    t5_status status = T5_OK;
    size_t n_ordinary = 0;
    T5_ASSERT(n_ids >= 0);
    int32_t *ordinary = calloc((size_t)n_ids + 1, sizeof *ordinary);
    t5_token_span *spans = malloc(((size_t)n_ids + 1) * sizeof *spans);
    if (ordinary == NULL || spans == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "detokenize: %" PRId32 " ids", n_ids);
        goto out;
    }
    for (int32_t i = 0; i < n_ids; i++)
        if (is_ordinary(t, ids[i])) ordinary[n_ordinary++] = ids[i];
    for (size_t i = 0; i < n_ordinary; i++) /* bytes, when that is what they are */
        spans[i] = (t5_token_span){(uint32_t)i, (uint32_t)i + 1};
    if (t->spm != NULL) T5_TRY(t5_spm_decode_spans(t->spm, ordinary, n_ordinary, spans, err));
    spread_spans(t, ids, n_ids, n_bytes, spans, out);
out:
    free(ordinary);
    free(spans);
    return status;
}

t5_token_kind t5_tokenizer_token(const t5_tokenizer *t, int32_t id, uint8_t *out_byte)
{
    if (!is_ordinary(t, id)) return T5_TOKEN_NOTHING;
    if (t->spm == NULL) {
        *out_byte = (uint8_t)(id - BYTES_FIRST);
        return T5_TOKEN_BYTE;
    }
    if (t5_pieces_type(&t->pieces, id) != T5_PIECE_BYTE) return T5_TOKEN_TEXT;
    unsigned byte = 0;
    sscanf(t5_spm_piece(t->spm, id), "<0x%2X>", &byte);
    *out_byte = (uint8_t)byte;
    return T5_TOKEN_BYTE;
}

bool t5_tokenizer_is_bytes(const t5_tokenizer *t)
{
    return t->spm == NULL;
}

const char *t5_tokenizer_piece(const t5_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->vocab_live) return NULL;
    const char *name = id >= t->named_first && id < t->named_end ? t->names[id - t->named_first] : "";
    if (name[0] != '\0') return name;
    const char *piece = t5_spm_piece(t->spm, id);
    const bool is_gap = id >= t->named_first && strncmp(piece, T5_ADDED_GAP, sizeof T5_ADDED_GAP - 1) == 0;
    return is_gap ? NULL : piece;
}

int32_t t5_tokenizer_find(const t5_tokenizer *t, const char *piece)
{
    for (int32_t id = t->named_first; id < t->named_end; id++)
        if (strcmp(t->names[id - t->named_first], piece) == 0) return id;
    return t->spm == NULL ? -1 : t5_spm_find(t->spm, piece);
}

int32_t t5_tokenizer_vocab_live(const t5_tokenizer *t)
{
    return t->vocab_live;
}

const char *t5_tokenizer_kind(const t5_tokenizer *t)
{
    return t->kind->name;
}
