/* cuda/attend_split.cuh: attention over a context in parts of a fixed number of keys, so that several blocks can share
 * one query's context while rows are few.
 *
 * Each part is computed for itself, and the parts are merged in their order. How many parts there are depends on the
 * number of keys alone, and a merge does the same additions wherever it happens; so the number of blocks, which depends
 * on how much there is to do, changes no bit. A block that works alone merges as it goes, in shared memory. Else every
 * part goes to memory, and the block that arrives last merges: the context costs no second kernel. */
#pragma once
#include "cuda/attend.cuh"

static const int T5_PART_KEYS = 2 * T5_ATTEND_THREADS;

static __host__ __device__ __forceinline__ int t5_n_parts(int n_keys)
{
    return (n_keys + T5_PART_KEYS - 1) / T5_PART_KEYS;
}

/* Shared memory of a block: that of attend.cuh, then the merged sums [N_QUERIES][d_kv]. */
template <int VEC, int N_QUERIES> static inline size_t t5_split_shared_bytes(int d_kv)
{
    return t5_attend_shared_bytes<VEC, N_QUERIES>(d_kv) + sizeof(float) * (size_t)(N_QUERIES * d_kv);
}

/* The softmax of what was merged so far: the largest score, and the sum of exp(score - top). */
struct t5_merged {
    float top, total;
};

/* By how much the sums so far and those of the next part shrink; m takes the part in. */
__device__ __forceinline__ float2 t5_merge(t5_merged &m, float top, float total)
{
    float new_top = fmaxf(m.top, top);
    float2 scale = make_float2(__expf(m.top - new_top), __expf(top - new_top));
    m.total = fmaf(m.total, scale.x, total * scale.y);
    m.top = new_top;
    return scale;
}

/* Written out, so that the compiler fuses the same operations everywhere. */
__device__ __forceinline__ float t5_merge_sum(float sum, float part, float2 scale)
{
    return fmaf(sum, scale.x, part * scale.y);
}

/* Parts in memory: of each query of the step, head and part the sums [d_kv], top and total. */
struct t5_parts {
    t5_cuda_split split;
    int n_parts_max, n_heads, d_kv, head;

    __device__ float *at(int q, int part) const
    {
        size_t cell = (size_t)q * (size_t)n_heads + (size_t)head;
        return split.parts + (cell * (size_t)n_parts_max + (size_t)part) * (size_t)(d_kv + 2);
    }
    __device__ unsigned *arrived(int q) const
    {
        return split.arrived + (size_t)q * (size_t)n_heads + (size_t)head;
    }
};

/* Whether this block is the last of n_blocks to arrive at `count`, which is then 0 again. What the others wrote before
 * they arrived is seen after. */
__device__ __forceinline__ bool t5_arrives_last(unsigned *count, int n_blocks)
{
    T5_SHARED(int, is_last, [1]);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last[0] = atomicInc(count, (unsigned)n_blocks - 1) == (unsigned)n_blocks - 1;
    __syncthreads();
    __threadfence();
    return is_last[0] != 0;
}

/* out[d] of one query from its parts in memory. */
template <class T> __device__ __forceinline__ void t5_merge_parts(const t5_parts &parts, int q, int n_parts, T *out)
{
    for (int d = (int)threadIdx.x; d < parts.d_kv; d += T5_ATTEND_THREADS) {
        const float *part = parts.at(q, 0);
        t5_merged m = {part[parts.d_kv], part[parts.d_kv + 1]};
        float sum = part[d];
        for (int i = 1; i < n_parts; i++) {
            part = parts.at(q, i);
            float2 scale = t5_merge(m, part[parts.d_kv], part[parts.d_kv + 1]);
            sum = t5_merge_sum(sum, part[d], scale);
        }
        t5_store(&out[d], sum / m.total);
    }
}

/* What a block shares while it merges by itself. */
template <int N_QUERIES> struct t5_merge_shared {
    float *sums;          /* [N_QUERIES][d_kv] */
    t5_merged *softmaxes; /* [N_QUERIES] */
};

/* Takes the part that was just computed into the merged sums of query q. */
template <int VEC, int N_QUERIES>
__device__ __forceinline__ void t5_merge_here(const t5_attend_shared<N_QUERIES> &shared,
                                              const t5_merge_shared<N_QUERIES> &merged, int d_kv, int q, bool is_first,
                                              const float (&sums)[VEC])
{
    t5_merged m = {shared.top[q], shared.total[q]};
    float2 scale = make_float2(0.0f, 1.0f);
    if (!is_first) {
        m = merged.softmaxes[q];
        scale = t5_merge(m, shared.top[q], shared.total[q]);
    }
    float *to = merged.sums + q * d_kv;
    t5_attend_collect<VEC>(shared, d_kv, sums,
                           [&](int d, float sum) { to[d] = is_first ? sum : t5_merge_sum(to[d], sum, scale); });
    if (threadIdx.x == 0) merged.softmaxes[q] = m;
}

/* Writes the part that was just computed to memory. */
template <int VEC, int N_QUERIES>
__device__ __forceinline__ void t5_store_part(const t5_attend_shared<N_QUERIES> &shared, int d_kv, int q,
                                              const float (&sums)[VEC], float *to)
{
    if (threadIdx.x == 0) {
        to[d_kv] = shared.top[q];
        to[d_kv + 1] = shared.total[q];
    }
    t5_attend_collect<VEC>(shared, d_kv, sums, [&](int d, float sum) { to[d] = sum; });
}

/* t5_attend() in parts: this block takes the parts i_block, i_block + n_blocks, ... of the queries q0 .. of the step.
 * n_blocks is at most t5_n_parts(n_keys); all threads of these blocks call this. */
template <class T, int VEC, int N_QUERIES, class S>
__device__ __forceinline__ void t5_attend_parts(const S &source, const t5_parts &parts, int q0, int n_queries,
                                                int n_keys, int i_block, int n_blocks)
{
    T5_DYNAMIC_SHARED(float, dynamic);
    T5_SHARED(float, s_rescale, [N_QUERIES]);
    T5_SHARED(float, s_top, [N_QUERIES]);
    T5_SHARED(float, s_total, [N_QUERIES]);
    T5_SHARED(t5_merged, s_softmaxes, [N_QUERIES]);
    int d_kv = parts.d_kv, n_parts = t5_n_parts(n_keys);
    float *s_weight = dynamic + N_QUERIES * d_kv, *s_sums = s_weight + N_QUERIES * T5_ATTEND_THREADS;
    t5_attend_shared<N_QUERIES> shared = {dynamic, s_weight, s_sums, s_rescale, s_top, s_total};
    t5_merge_shared<N_QUERIES> merged = {s_sums + VEC * T5_ATTEND_SUMS_STRIDE, s_softmaxes};
    bool is_alone = n_blocks == 1;
    float sums[N_QUERIES][VEC];
    t5_attend_stage(source, shared, d_kv, n_queries);
    for (int part = i_block; part < n_parts; part += n_blocks) {
        int first = part * T5_PART_KEYS;
        t5_attend_range<T, VEC>(source, shared, d_kv, n_queries, first, min(first + T5_PART_KEYS, n_keys), sums);
#pragma unroll
        for (int q = 0; q < N_QUERIES; q++) {
            if (q >= n_queries) break;
            if (is_alone) {
                t5_merge_here<VEC>(shared, merged, d_kv, q, part == 0, sums[q]);
            } else {
                t5_store_part<VEC>(shared, d_kv, q, sums[q], parts.at(q0 + q, part));
            }
        }
    }
    if (is_alone) {
        __syncthreads(); /* the softmaxes are written */
        for (int i = (int)threadIdx.x; i < n_queries * d_kv; i += T5_ATTEND_THREADS)
            t5_store(&source.out(i / d_kv)[i % d_kv], merged.sums[i] / s_softmaxes[i / d_kv].total);
    } else if (t5_arrives_last(parts.arrived(q0), n_blocks)) {
        for (int q = 0; q < n_queries; q++)
            t5_merge_parts(parts, q0 + q, n_parts, source.out(q));
    }
}
