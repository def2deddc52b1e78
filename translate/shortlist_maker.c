/* translate/shortlist_maker.c: a list from text, see shortlist.h. */
#include "translate/shortlist.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "text/letters.h"

#include <stdlib.h>
#include <string.h>

#define CODES_END 0x110000
#define ASCII_END 0x80
#define SPACE_MARK 0x2581 /* stands for a space in a piece */

t5_status t5_shortlist_maker_init(t5_shortlist_maker *m, const t5_shortlist_vocab *vocab, t5_error *err)
{
    *m = (t5_shortlist_maker){.vocab = *vocab};
    if (t5_tokenizer_is_bytes(vocab->tokenizer))
        return T5_FAIL(err, T5_ERR_ARG, "every token of this model is a byte: a shortlist has nothing to leave out");
    m->counts = calloc((size_t)vocab->n_words, sizeof *m->counts);
    if (m->counts == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "counts of %d pieces", vocab->n_words);
    return T5_OK;
}

void t5_shortlist_maker_deinit(t5_shortlist_maker *m)
{
    free(m->counts);
    *m = (t5_shortlist_maker){0};
}

t5_status t5_shortlist_maker_add(t5_shortlist_maker *m, const char *text, size_t n_bytes, t5_error *err)
{
    int32_t *ids = NULL, n_ids = 0;
    const t5_status status = t5_tokenizer_encode_alloc(m->vocab.tokenizer, text, n_bytes, INT32_MAX, &ids, &n_ids, err);
    for (int32_t i = 0; i < n_ids; i++)
        if (ids[i] < m->vocab.n_words) m->counts[ids[i]]++;
    m->n_tokens += n_ids;
    free(ids);
    return status;
}

/* The only character of a piece, a space in front of it aside; -1 when it has several, or none. */
static int64_t only_character(const char *piece)
{
    const size_t n_bytes = strlen(piece);
    uint32_t code = 0;
    size_t at = n_bytes > 0 ? t5_utf8_next(piece, n_bytes, &code) : 0;
    if (code == SPACE_MARK && at < n_bytes) at += t5_utf8_next(piece + at, n_bytes - at, &code);
    return n_bytes > 0 && at == n_bytes ? (int64_t)code : -1;
}

static void mark_characters(const char *piece, uint8_t *is_known)
{
    const size_t n_bytes = strlen(piece);
    uint32_t code = 0;
    for (size_t at = 0; at < n_bytes;) {
        at += t5_utf8_next(piece + at, n_bytes - at, &code);
        is_known[code] = 1;
    }
}

static bool is_needed(const t5_shortlist_maker *m, int32_t id, int64_t count_min, const uint8_t *is_known)
{
    uint8_t byte = 0;
    if (id == m->vocab.eos_id || m->counts[id] >= count_min) return true;
    const t5_token_kind kind = t5_tokenizer_token(m->vocab.tokenizer, id, &byte);
    if (kind != T5_TOKEN_TEXT) return kind == T5_TOKEN_BYTE;
    const char *piece = t5_tokenizer_piece(m->vocab.tokenizer, id);
    if (piece == NULL) return false;
    const int64_t code = only_character(piece);
    return (code >= 0 && is_known[code]) || !t5_text_has_letter(piece, strlen(piece));
}

t5_status t5_shortlist_maker_list(const t5_shortlist_maker *m, int64_t count_min, int32_t **out, int32_t *out_n,
                                  t5_error *err)
{
    T5_ASSERT(count_min >= 1);
    const size_t n_words = (size_t)m->vocab.n_words;
    int32_t *ids = malloc(n_words * sizeof *ids);
    uint8_t *is_known = calloc(CODES_END, 1); /* characters that must be spelled */
    if (ids == NULL || is_known == NULL) {
        free(ids);
        free(is_known);
        return T5_FAIL(err, T5_ERR_NOMEM, "a list of %d pieces", m->vocab.n_words);
    }
    memset(is_known, 1, ASCII_END);
    for (int32_t id = 0; id < m->vocab.n_words; id++) {
        const char *piece = m->counts[id] >= count_min ? t5_tokenizer_piece(m->vocab.tokenizer, id) : NULL;
        if (piece != NULL) mark_characters(piece, is_known);
    }
    *out_n = 0;
    for (int32_t id = 0; id < m->vocab.n_words; id++)
        if (is_needed(m, id, count_min, is_known)) ids[(*out_n)++] = id;
    free(is_known);
    *out = ids;
    return T5_OK;
}
