/* model/kv_cache.h: which blocks of the KV cache belong to whom. The cache is one pool of blocks of T5_KV_BLOCK
 * positions, for the self-attention of rows and the cross-attention of sources alike. A sequence first reserves the
 * blocks that it may need at most, so that it can never run dry half-way; then it takes them one by one as it grows.
 * Blocks that were given back last are taken first: what a light load never touches costs no memory on a CPU. Host side
 * only; one thread. */
#pragma once
#include "base/error.h"
#include <stdint.h>

T5_C_BEGIN

typedef struct {
    int32_t n_blocks;
    int32_t n_free;     /* on the free stack */
    int32_t n_reserved; /* promised but not taken yet; never more than n_free */
    int32_t *free_blocks;
} t5_kv_cache;

t5_status t5_kv_cache_init(t5_kv_cache *c, int32_t n_blocks, t5_error *err);
void t5_kv_cache_deinit(t5_kv_cache *c);
/* Blocks for n_positions. */
int32_t t5_kv_blocks_for(int32_t n_positions);
/* False when n blocks are not there. */
bool t5_kv_reserve(t5_kv_cache *c, int32_t n);
/* One block of a reservation. */
int32_t t5_kv_take(t5_kv_cache *c);
/* Gives back a block, or the rest of a reservation. */
void t5_kv_give(t5_kv_cache *c, int32_t block);
void t5_kv_unreserve(t5_kv_cache *c, int32_t n);

T5_C_END
