/* translate/saying.c: see saying.h. */
#include "translate/saying.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

static t5_status ask(const t5_tokenizer *tokenizer, const char *text, size_t n_bytes, t5_saying *out, t5_error *err)
{
    int32_t *ids = NULL, n_ids = 0;
    char *decoded = NULL;
    size_t decoded_bytes = 0;
    uint8_t byte = 0;
    bool has_bytes = false;
    t5_status status = t5_tokenizer_encode_alloc(tokenizer, text, n_bytes, INT32_MAX, &ids, &n_ids, err);
    if (status == T5_OK) status = t5_tokenizer_decode(tokenizer, ids, n_ids, &decoded, &decoded_bytes, err);
    if (status != T5_OK) goto out;
    for (int32_t i = 0; i < n_ids && !t5_tokenizer_is_bytes(tokenizer); i++)
        has_bytes |= t5_tokenizer_token(tokenizer, ids[i], &byte) == T5_TOKEN_BYTE;
    const bool is_same = decoded_bytes == n_bytes && memcmp(decoded, text, n_bytes) == 0;
    *out = !is_same ? T5_UNSAID : has_bytes ? T5_SPELLED : T5_SAID;
out:
    free(decoded);
    free(ids);
    return status;
}

/* By the last two bytes: neighbours in the code, as emoji are, never take each other's place. */
static size_t place_of(const char *text, size_t n_bytes)
{
    const unsigned char last = (unsigned char)text[n_bytes - 1];
    const unsigned char before = n_bytes > 1 ? (unsigned char)text[n_bytes - 2] : 0;
    return ((size_t)before << 6 ^ last) % T5_N_KNOWN;
}

t5_status t5_sayings_ask(t5_sayings *s, const char *text, size_t n_bytes, t5_saying *out, t5_error *err)
{
    T5_ASSERT(n_bytes > 0);
    if (n_bytes > T5_KNOWN_BYTES) return ask(s->tokenizer, text, n_bytes, out, err);
    t5_known_saying *known = &s->known[place_of(text, n_bytes)];
    if (known->n_bytes != n_bytes || memcmp(known->text, text, n_bytes) != 0) {
        const t5_status status = ask(s->tokenizer, text, n_bytes, out, err);
        if (status != T5_OK) return status;
        memcpy(known->text, text, n_bytes);
        known->n_bytes = (uint8_t)n_bytes;
        known->saying = (uint8_t)*out;
    }
    *out = known->saying;
    return T5_OK;
}
