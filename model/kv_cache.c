/* model/kv_cache.c: see kv_cache.h. */
#include "model/kv_cache.h"
#include "base/assert.h"
#include "base/limits.h"

#include <stdlib.h>

t5_status t5_kv_cache_init(t5_kv_cache *c, int32_t n_blocks, t5_error *err)
{
    *c = (t5_kv_cache){0};
    c->free_blocks = malloc((size_t)n_blocks * sizeof *c->free_blocks);
    if (c->free_blocks == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "KV cache: a table of %d blocks", n_blocks);
    for (int32_t i = 0; i < n_blocks; i++)
        c->free_blocks[i] = n_blocks - 1 - i; /* block 0 is taken first */
    c->n_blocks = n_blocks;
    c->n_free = n_blocks;
    return T5_OK;
}

void t5_kv_cache_deinit(t5_kv_cache *c)
{
    free(c->free_blocks);
    *c = (t5_kv_cache){0};
}

int32_t t5_kv_blocks_for(int32_t n_positions)
{
    return (n_positions + T5_KV_BLOCK - 1) / T5_KV_BLOCK;
}

bool t5_kv_reserve(t5_kv_cache *c, int32_t n)
{
    T5_ASSERT(n >= 0);
    if (n > c->n_free - c->n_reserved) return false;
    c->n_reserved += n;
    return true;
}

int32_t t5_kv_take(t5_kv_cache *c)
{
    T5_ASSERT(c->n_reserved > 0 && c->n_free > 0);
    c->n_reserved--;
    return c->free_blocks[--c->n_free];
}

void t5_kv_give(t5_kv_cache *c, int32_t block)
{
    T5_ASSERT(c->n_free < c->n_blocks && block >= 0 && block < c->n_blocks);
    c->free_blocks[c->n_free++] = block;
}

void t5_kv_unreserve(t5_kv_cache *c, int32_t n)
{
    T5_ASSERT(n >= 0 && n <= c->n_reserved);
    c->n_reserved -= n;
}
