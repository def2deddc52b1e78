/* base/buffer.h: bytes that grow at their end. The owner's thread alone. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* Zeroed: empty. `bytes` has n_bytes of them and no NUL behind. */
typedef struct {
    char *bytes;
    size_t n_bytes, capacity;
} t5_buffer;

/* T5_ERR_NOMEM leaves the buffer as it was. */
t5_status t5_buffer_append(t5_buffer *b, const char *bytes, size_t n_bytes, t5_error *err);
/* Takes the first bytes away; n_bytes of the buffer at most. Its memory stays for what comes. */
void t5_buffer_drop(t5_buffer *b, size_t n_bytes);
void t5_buffer_deinit(t5_buffer *b); /* accepts a zeroed one, and leaves one */

T5_C_END
