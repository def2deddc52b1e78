/* base/buffer.c: see buffer.h. */
#include "base/buffer.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_FIRST 256

t5_status t5_buffer_append(t5_buffer *b, const char *bytes, size_t n_bytes, t5_error *err)
{
    if (n_bytes == 0) return T5_OK;
    if (n_bytes > b->capacity - b->n_bytes) {
        size_t capacity = b->capacity > 0 ? b->capacity : BYTES_FIRST;
        while (capacity - b->n_bytes < n_bytes)
            capacity *= 2;
        char *grown = realloc(b->bytes, capacity);
        if (grown == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", capacity);
        b->bytes = grown;
        b->capacity = capacity;
    }
    memcpy(b->bytes + b->n_bytes, bytes, n_bytes);
    b->n_bytes += n_bytes;
    return T5_OK;
}

void t5_buffer_drop(t5_buffer *b, size_t n_bytes)
{
    T5_ASSERT(n_bytes <= b->n_bytes);
    if (n_bytes == 0) return;
    b->n_bytes -= n_bytes;
    memmove(b->bytes, b->bytes + n_bytes, b->n_bytes);
}

void t5_buffer_deinit(t5_buffer *b)
{
    free(b->bytes);
    *b = (t5_buffer){0};
}
