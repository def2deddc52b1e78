/* cuda/head.cuh: what the head leaves of a row for the search when nobody needs the row's logits: of each tile of the
 * vocabulary the largest logit, the sum of exp(logit - that) and the best words. They take the place of the row's
 * logits, [n_tiles][t5_tile_words(k)] words of 4 bytes, and are merged in a fixed order. Which rows these are both
 * sides read off the slot: kernels are recorded once and run for whatever the rows ask. */
#pragma once
#include "cuda/keys.cuh"
#include "model/search.h"

static const int T5_TILE = 128;                         /* words of a tile */
static const int T5_TILE_GROUP = 32;                    /* tiles that a warp merges at a time */
static const int T5_TILES_MAX = 2 * 32 * T5_TILE_GROUP; /* then it has two such groups a lane */

static __device__ __forceinline__ int t5_n_tiles(int vocab_size)
{
    return (vocab_size + T5_TILE - 1) / T5_TILE;
}

/* A tile's part of a row, for lists of k words: the k best, best first, their places in the tile behind them. */
struct t5_tile_part {
    float *top, *sum, *scores;
    uint8_t *words;
};
static __device__ __forceinline__ int t5_tile_words(int k)
{
    return 2 + k + (k + 3) / 4;
}
static __device__ __forceinline__ t5_tile_part t5_tile_part_of(float *row, int i_tile, int k)
{
    float *part = row + (size_t)i_tile * (size_t)t5_tile_words(k);
    return {part, part + 1, part + 2, (uint8_t *)(part + 2 + k)};
}

/* Continuations that the search wants of a row. */
static __device__ __forceinline__ int t5_n_wanted(const t5_slot *slot)
{
    return slot->mode == T5_SEARCH_BEAM ? 2 * slot->n_rows : 1;
}

/* Whether tiles are enough to search the slot's rows: the processors mask words and look at nothing else, and the parts
 * need no more room than the logits. */
static __device__ __forceinline__ bool t5_tiles_suffice(const t5_slot *slot, int vocab_size)
{
    int n_tiles = t5_n_tiles(vocab_size);
    bool is_masked_only = slot->repetition_penalty == 1.0f && slot->no_repeat_ngram_size <= 0;
    return (slot->mode == T5_SEARCH_GREEDY || slot->mode == T5_SEARCH_BEAM) && is_masked_only &&
           n_tiles <= T5_TILES_MAX && n_tiles * t5_tile_words(t5_n_wanted(slot)) <= vocab_size;
}

/* Whether the sums are: beams need log-probabilities, greedy rows when asked for. */
static __device__ __forceinline__ bool t5_tiles_need_sums(const t5_slot *slot)
{
    return slot->mode == T5_SEARCH_BEAM || slot->wants_logprobs != 0;
}
