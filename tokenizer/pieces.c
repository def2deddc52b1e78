/* tokenizer/pieces.c: see pieces.h. What a piece adds to a text depends on those before it in two cases: it is the
 * first that adds something, or a byte of a character. SentencePiece is asked for these; all others add their own
 * letters, with a space for the word mark. */
#include "tokenizer/pieces.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define WORD_MARK "\xE2\x96\x81"
#define WORD_MARK_BYTES 3

t5_status t5_pieces_init(t5_pieces *p, const t5_spm *spm, bool is_text_mapped, t5_error *err)
{
    const int32_t n = t5_spm_n_pieces(spm);
    *p = (t5_pieces){.spm = spm, .is_text_mapped = is_text_mapped, .types = malloc((size_t)n)};
    if (p->types == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "tokenizer: %d pieces", n);
    for (int32_t id = 0; id < n; id++)
        p->types[id] = (uint8_t)t5_spm_type(spm, id);
    return T5_OK;
}

void t5_pieces_deinit(t5_pieces *p)
{
    free(p->types);
    *p = (t5_pieces){0};
}

t5_piece_type t5_pieces_type(const t5_pieces *p, int32_t id)
{
    return (t5_piece_type)p->types[id];
}

/* Whether each piece behind the first adds its own letters. *out_bytes: of all pieces. */
static bool are_plain(const t5_pieces *p, const int32_t *ids, size_t n_ids, size_t *out_bytes)
{
    *out_bytes = 0;
    for (size_t i = 0; i < n_ids; i++) {
        T5_ASSERT(p->types[ids[i]] != T5_PIECE_UNKNOWN && p->types[ids[i]] != T5_PIECE_CONTROL);
        if (p->types[ids[i]] == T5_PIECE_BYTE) return false;
        *out_bytes += strlen(t5_spm_piece(p->spm, ids[i]));
    }
    return n_ids > 0 && !p->is_text_mapped;
}

static size_t append_piece(char *text, size_t n_bytes, const char *piece)
{
    while (*piece != '\0') {
        const bool is_mark = strncmp(piece, WORD_MARK, WORD_MARK_BYTES) == 0;
        text[n_bytes++] = is_mark ? ' ' : *piece;
        piece += is_mark ? WORD_MARK_BYTES : 1;
    }
    return n_bytes;
}

t5_status t5_pieces_decode(const t5_pieces *p, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                           t5_error *err)
{
    size_t pieces_bytes = 0, n_bytes = 0;
    char *first = NULL;
    if (!are_plain(p, ids, n_ids, &pieces_bytes)) return t5_spm_decode(p->spm, ids, n_ids, out, out_bytes, err);
    const t5_status status = t5_spm_decode(p->spm, ids, 1, &first, &n_bytes, err);
    if (status != T5_OK) return status;
    if (n_bytes == 0) { /* a lone word mark: then the next is the first to add something */
        free(first);
        return t5_spm_decode(p->spm, ids, n_ids, out, out_bytes, err);
    }
    char *text = realloc(first, n_bytes + pieces_bytes + 1);
    if (text == NULL) {
        free(first);
        return T5_FAIL(err, T5_ERR_NOMEM, "detokenize: %zu bytes", n_bytes + pieces_bytes);
    }
    for (size_t i = 1; i < n_ids; i++)
        n_bytes = append_piece(text, n_bytes, t5_spm_piece(p->spm, ids[i]));
    text[n_bytes] = '\0';
    *out = text;
    *out_bytes = n_bytes;
    return T5_OK;
}
