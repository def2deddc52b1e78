/* cuda/head_merge.cuh: a row's continuations from what the head left of its tiles, by a whole block, in an order that
 * depends on the vocabulary alone. */
#pragma once
#include "cuda/head.cuh"
#include "cuda/vocab.cuh"

/* log(sum(exp(logit))) of a row from its tiles, by a whole block; -inf when every logit is. */
static __device__ float t5_log_sum_of_tiles(float *row, int n_tiles, int k)
{
    float top = -INFINITY, sum = 0.0f;
    for (int i = (int)threadIdx.x; i < n_tiles; i += (int)blockDim.x)
        top = fmaxf(top, *t5_tile_part_of(row, i, k).top);
    top = t5_block_reduce(top, t5_larger());
    if (top == -INFINITY) return top;
    for (int i = (int)threadIdx.x; i < n_tiles; i += (int)blockDim.x) {
        t5_tile_part part = t5_tile_part_of(row, i, k);
        sum += *part.sum * expf(*part.top - top);
    }
    return top + logf(t5_block_reduce(sum, t5_add<float>()));
}

/* A sorted list in the hands of one lane, and how far it has been used: of a tile, or of keys. */
struct t5_tile_list {
    const float *scores;
    const uint8_t *words;
    int first_word, used, n;

    __device__ t5_key next() const
    {
        return used < n ? t5_key_of(scores[used], first_word + words[used]) : 0;
    }
};
struct t5_key_list {
    const t5_key *keys;
    int used, n;

    __device__ t5_key next() const
    {
        return used < n ? keys[used] : 0;
    }
};

/* out[k] = the best of the lanes' lists, by one warp; 0 when there are no more. */
template <class LIST, int N_LISTS> static __device__ void t5_merge_lists(LIST (&lists)[N_LISTS], int k, t5_key *out)
{
    t5_key heads[N_LISTS];
#pragma unroll
    for (int i = 0; i < N_LISTS; i++)
        heads[i] = lists[i].next();
    for (int r = 0; r < k; r++) {
        t5_key best = 0;
#pragma unroll
        for (int i = 0; i < N_LISTS; i++)
            best = heads[i] > best ? heads[i] : best;
        best = t5_warp_max_key(best);
        if (threadIdx.x % 32 == 0) out[r] = best;
#pragma unroll
        for (int i = 0; i < N_LISTS; i++) {
            if (best == 0 || heads[i] != best) continue;
            lists[i].used++;
            heads[i] = lists[i].next();
        }
    }
}

/* out[k] = the k best keys of a row from its tiles, best first, in shared memory for all threads of the block. `groups`
 * is shared memory for k keys of each 32 tiles. Warps merge the lists of 32 tiles, then the first warp those. */
static __device__ void t5_top_k_of_tiles(float *row, int vocab_size, int k, t5_key *groups, t5_key *out)
{
    int lane = (int)threadIdx.x % 32;
    int n_tiles = t5_n_tiles(vocab_size), n_groups = (n_tiles + T5_TILE_GROUP - 1) / T5_TILE_GROUP;
    for (int g = (int)threadIdx.x / 32; g < n_groups; g += (int)blockDim.x / 32) {
        int i_tile = g * T5_TILE_GROUP + lane;
        t5_tile_part part = t5_tile_part_of(row, i_tile, k);
        int n = i_tile < n_tiles ? min(k, min(vocab_size - i_tile * T5_TILE, T5_TILE)) : 0;
        t5_tile_list lists[1] = {{part.scores, part.words, i_tile * T5_TILE, 0, n}};
        t5_merge_lists(lists, k, groups + g * k);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        t5_key_list lists[2] = {{groups + lane * k, 0, lane < n_groups ? k : 0},
                                {groups + (lane + 32) * k, 0, lane + 32 < n_groups ? k : 0}};
        t5_merge_lists(lists, k, out);
    }
    __syncthreads();
}
