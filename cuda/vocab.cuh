/* cuda/vocab.cuh: what a whole block computes over a vocabulary: log-sum-exp and the k best. Sums are taken in an order
 * that depends on the vocabulary and the block alone, and the vocabulary decides the block. */
#pragma once
#include "cuda/keys.cuh"

static const int T5_VOCAB_LIST = 4; /* best tokens that each thread keeps while it reads the vocabulary */
static const int T5_VOCAB_WARPS_MAX = 32;

/* The same value in every thread: reduce of each thread's x, by warps and then over the warps in their order. */
template <class X, class F> __device__ __forceinline__ X t5_block_reduce(X x, F reduce)
{
    T5_SHARED(X, s_part, [T5_VOCAB_WARPS_MAX]);
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x = reduce(x, __shfl_xor_sync(0xffffffffu, x, step));
    if (threadIdx.x % 32 == 0) s_part[threadIdx.x / 32] = x;
    __syncthreads();
    x = s_part[0];
    for (int w = 1; w < (int)blockDim.x / 32; w++)
        x = reduce(x, s_part[w]);
    __syncthreads();
    return x;
}

struct t5_larger {
    __device__ float operator()(float a, float b) const
    {
        return fmaxf(a, b);
    }
};
template <class X> struct t5_add {
    __device__ X operator()(X a, X b) const
    {
        return a + b;
    }
};

/* log(sum(exp(x[n]))); -inf when every x is. */
static __device__ float t5_log_sum_exp(const float *x, int n)
{
    float top = -INFINITY, sum = 0.0f;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        top = fmaxf(top, x[i]);
    top = t5_block_reduce(top, t5_larger());
    if (top == -INFINITY) return top;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        sum += expf(x[i] - top);
    return top + logf(t5_block_reduce(sum, t5_add<float>()));
}

/* The largest key below `limit` among the tokens that thread `owner` reads, found by one warp. */
static __device__ t5_key t5_next_key(const float *x, int n, int owner, t5_key limit)
{
    t5_key best = 0;
    for (int i = owner + (int)blockDim.x * ((int)threadIdx.x % 32); i < n; i += (int)blockDim.x * 32) {
        t5_key key = t5_key_of(x[i], i);
        if (key < limit && key > best) best = key;
    }
    return t5_warp_max_key(best);
}

/* out[k] = the k best keys of x[n], best first, k <= n; in shared memory, for all threads. `lists` is shared memory of
 * T5_VOCAB_LIST keys a thread. Every thread keeps the best few of what it reads; then one warp merges the threads'
 * lists, and looks again in the rare case that one thread's list runs out. */
static __device__ void t5_top_k(const float *x, int n, int k, t5_key *lists, t5_key *out)
{
    int n_threads = (int)blockDim.x;
    t5_key best[T5_VOCAB_LIST] = {};
    for (int i = (int)threadIdx.x; i < n; i += n_threads) {
        t5_key key = t5_key_of(x[i], i);
        if (key <= best[T5_VOCAB_LIST - 1]) continue;
#pragma unroll
        for (int j = 0; j < T5_VOCAB_LIST; j++) {
            t5_key larger = key > best[j] ? key : best[j];
            key = key > best[j] ? best[j] : key;
            best[j] = larger;
        }
    }
#pragma unroll
    for (int j = 0; j < T5_VOCAB_LIST; j++)
        lists[j * n_threads + (int)threadIdx.x] = best[j];
    __syncthreads();
    if (threadIdx.x < 32) {
        int lane = (int)threadIdx.x;
        for (int r = 0; r < k; r++) {
            t5_key mine = 0;
            for (int owner = lane; owner < n_threads; owner += 32)
                mine = lists[owner] > mine ? lists[owner] : mine;
            t5_key winner = t5_warp_max_key(mine);
            int owner = t5_key_token(winner) % n_threads;
            /* The owner's list moves up; when nothing is left in it, the next key is looked for. */
            bool is_spent = lists[n_threads + owner] == 0;
            t5_key next = is_spent ? t5_next_key(x, n, owner, winner) : 0;
            __syncwarp();
            if (lane == owner % 32) {
                for (int j = 0; j + 1 < T5_VOCAB_LIST; j++)
                    lists[j * n_threads + owner] = lists[(j + 1) * n_threads + owner];
                lists[(T5_VOCAB_LIST - 1) * n_threads + owner] = 0;
                if (is_spent) lists[owner] = next;
            }
            if (lane == 0) out[r] = winner;
            __syncwarp();
        }
    }
    __syncthreads();
}
