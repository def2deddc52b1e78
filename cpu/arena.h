/* cpu/arena.h: memory for packed weights, which lie side by side in large pages: a step walks through all of them, and
 * each page costs it a look-up. One thread at a time. */
#pragma once
#include "base/error.h"

#include <stddef.h>

T5_C_BEGIN

typedef struct t5_chunk t5_chunk; /* pages that weights share, freed with the last of these */

typedef struct {
    t5_chunk *open; /* what has room, or NULL */
} t5_arena;

/* n_bytes that begin at a line of the cache, set to nothing; the caller releases *out_chunk. NULL: no memory. */
void *t5_arena_take(t5_arena *a, size_t n_bytes, t5_chunk **out_chunk);
void t5_arena_close(t5_arena *a);       /* what was taken stays */
void t5_chunk_release(t5_chunk *chunk); /* accepts NULL */

T5_C_END
