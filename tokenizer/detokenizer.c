/* tokenizer/detokenizer.c: see detokenizer.h. The text of the window is what t5_tokenizer_decode() says, so that there
 * is one definition of it; here is only how much of it is certain, and where a window may begin. */
#include "tokenizer/detokenizer.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_FIRST 16
#define UTF8_BYTES_MAX 4

void t5_detokenizer_init(t5_detokenizer *d, const t5_tokenizer *tokenizer)
{
    *d = (t5_detokenizer){.tokenizer = tokenizer};
}

void t5_detokenizer_deinit(t5_detokenizer *d)
{
    free(d->window);
    *d = (t5_detokenizer){0};
}

static t5_status make_room(t5_detokenizer *d, int32_t n_ids, t5_error *err)
{
    int32_t capacity = d->capacity > 0 ? d->capacity : WINDOW_FIRST;
    while (capacity < d->n_window + n_ids)
        capacity *= 2;
    if (capacity == d->capacity) return T5_OK;
    int32_t *window = realloc(d->window, (size_t)capacity * sizeof *window);
    if (window == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "detokenize: %d ids", capacity);
    d->window = window;
    d->capacity = capacity;
    return T5_OK;
}

/* Bytes of the character that begins with `lead`; 0 when none does. */
static int32_t length_of(uint8_t lead)
{
    return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

/* Byte tokens at the end of the window that may become a character with those that follow: a first byte and some, but
 * not all, of its others. */
static int32_t count_unfinished(const t5_detokenizer *d)
{
    for (int32_t n = 1; n < UTF8_BYTES_MAX && n <= d->n_window; n++) {
        uint8_t byte = 0;
        if (t5_tokenizer_token(d->tokenizer, d->window[d->n_window - n], &byte) != T5_TOKEN_BYTE) return 0;
        if (byte < 0x80) return 0;
        if (byte >= 0xc0) return length_of(byte) > n ? n : 0;
    }
    return 0;
}

/* Makes `id` the whole window when it is text by itself, so that no piece after it is the first, and no byte after it
 * can join it. A byte that is not the first of its character, or of none, counts: it is a replacement character. */
static t5_status keep_alone(t5_detokenizer *d, int32_t id, bool *out_is_kept, t5_error *err)
{
    uint8_t byte = 0;
    char *text = NULL;
    size_t n_bytes = 0;
    *out_is_kept = false;
    if (t5_tokenizer_token(d->tokenizer, id, &byte) == T5_TOKEN_BYTE && length_of(byte) > 1) return T5_OK;
    const t5_status status = t5_tokenizer_decode(d->tokenizer, &id, 1, &text, &n_bytes, err);
    if (status != T5_OK) return status;
    free(text);
    if (n_bytes == 0) return T5_OK;
    d->window[0] = id;
    d->n_window = 1;
    d->n_given = n_bytes;
    *out_is_kept = true;
    return T5_OK;
}

/* A new window that makes what follows read the same, when all of the old one was given out: none of a model that has
 * only bytes, else one token that is text: the last, or the first when the last is a space. */
static t5_status shrink_window(t5_detokenizer *d, t5_error *err)
{
    bool is_kept = false;
    if (d->n_window == 0) return T5_OK;
    if (t5_tokenizer_is_bytes(d->tokenizer)) {
        d->n_window = 0;
        d->n_given = 0;
        return T5_OK;
    }
    const t5_status status = keep_alone(d, d->window[d->n_window - 1], &is_kept, err);
    if (status != T5_OK || is_kept) return status;
    return keep_alone(d, d->window[0], &is_kept, err);
}

t5_status t5_detokenizer_add(t5_detokenizer *d, const int32_t *ids, int32_t n_ids, bool is_last, t5_buffer *out,
                             t5_error *err)
{
    t5_status status = T5_OK;
    char *text = NULL;
    size_t n_bytes = 0;
    T5_ASSERT(n_ids >= 0);
    T5_TRY(make_room(d, n_ids, err));
    for (int32_t i = 0; i < n_ids; i++) {
        uint8_t byte = 0;
        if (t5_tokenizer_token(d->tokenizer, ids[i], &byte) != T5_TOKEN_NOTHING) d->window[d->n_window++] = ids[i];
    }
    const int32_t n_unfinished = is_last ? 0 : count_unfinished(d);
    T5_TRY(t5_tokenizer_decode(d->tokenizer, d->window, d->n_window - n_unfinished, &text, &n_bytes, err));
    T5_ASSERT(n_bytes >= d->n_given);
    T5_TRY(t5_buffer_append(out, text + d->n_given, n_bytes - d->n_given, err));
    d->n_given = n_bytes;
    if (n_unfinished == 0) T5_TRY(shrink_window(d, err));
out:
    free(text);
    return status;
}
