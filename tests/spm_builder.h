/* tests/spm_builder.h: writes SentencePiece models byte by byte, right and wrong ones. Plain C, asserts on overflow. */
#pragma once
#include "base/assert.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned char *bytes;
    size_t n_bytes, capacity;
} spm_bytes;

static inline void spm_put(spm_bytes *b, const void *bytes, size_t n_bytes)
{
    while (b->n_bytes + n_bytes > b->capacity) {
        b->capacity = b->capacity == 0 ? 256 : 2 * b->capacity;
        b->bytes = realloc(b->bytes, b->capacity);
        T5_ASSERT(b->bytes != NULL);
    }
    if (n_bytes > 0) memcpy(b->bytes + b->n_bytes, bytes, n_bytes);
    b->n_bytes += n_bytes;
}

static inline void spm_put_varint(spm_bytes *b, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        spm_put(b, &(unsigned char){(unsigned char)(value | 0x80)}, 1);
    spm_put(b, &(unsigned char){(unsigned char)value}, 1);
}

static inline void spm_put_int(spm_bytes *b, uint32_t field, uint64_t value)
{
    spm_put_varint(b, field << 3);
    spm_put_varint(b, value);
}

static inline void spm_put_bytes(spm_bytes *b, uint32_t field, const void *bytes, size_t n_bytes)
{
    spm_put_varint(b, field << 3 | 2);
    spm_put_varint(b, n_bytes);
    spm_put(b, bytes, n_bytes);
}

static inline void spm_put_piece(spm_bytes *b, const char *piece, size_t n_bytes, float score, uint64_t type)
{
    spm_bytes message = {0};
    spm_put_bytes(&message, 1, piece, n_bytes);
    spm_put_varint(&message, 2 << 3 | 5);
    spm_put(&message, &score, sizeof score);
    spm_put_int(&message, 3, type);
    spm_put_bytes(b, 1, message.bytes, message.n_bytes);
    free(message.bytes);
}

/* Pieces that each model below starts with: <unk>, </s>, "▁", a, b, c. */
static inline void spm_put_base(spm_bytes *b)
{
    spm_put_piece(b, "<unk>", 5, 0, 2);
    spm_put_piece(b, "</s>", 4, 0, 3);
    spm_put_piece(b, "\xE2\x96\x81", 3, -2, 1);
    spm_put_piece(b, "a", 1, -3, 1);
    spm_put_piece(b, "b", 1, -3.5F, 1);
    spm_put_piece(b, "c", 1, -4, 1);
}
