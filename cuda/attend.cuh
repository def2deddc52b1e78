/* cuda/attend.cuh: the softmax average over keys that a block computes for a few queries of one head; the core of
 * decoder self-attention, cross-attention and the encoder's fallback.
 *
 * Keys come in chunks of THREADS: first a thread per key (score of each query), then a warp per query (online softmax),
 * then a group of threads per key (16 bytes of v each). Each key and value is read once for all queries. The chunks
 * and the order inside them depend on the number of keys alone, hence results do not depend on what else is in the
 * batch. Not scaled by 1/sqrt(d_kv): T5. */
#pragma once
#include "cuda/kernels.h"
#include "cuda/t5_cuda.h"

static const int T5_ATTEND_THREADS = 64;
/* 4 more than the threads: a warp that reads 8 elements of 4 vectors meets no bank twice. */
static const int T5_ATTEND_SUMS_STRIDE = T5_ATTEND_THREADS + 4;

/* Where keys and values lie in a KV block. Keys: [n_heads][d_kv / VEC][T5_KV_BLOCK][VEC], so that threads with
 * neighbouring keys read neighbouring 16 bytes; values: [n_heads][T5_KV_BLOCK][d_kv]. */
template <class T, int VEC> struct t5_paged {
    char *pool;
    size_t block_bytes;
    int n_heads, d_kv, layer;

    __device__ T *keys(int block, int head, int pos) const
    {
        size_t inner = (size_t)n_heads * (size_t)d_kv;
        T *base = (T *)(pool + (size_t)block * block_bytes) + (size_t)layer * 2 * T5_KV_BLOCK * inner;
        return base + (size_t)head * T5_KV_BLOCK * (size_t)d_kv + pos % T5_KV_BLOCK * VEC;
    }
    __device__ T *values(int block, int head, int pos) const
    {
        size_t inner = (size_t)n_heads * (size_t)d_kv;
        T *base = (T *)(pool + (size_t)block * block_bytes) + ((size_t)layer * 2 + 1) * T5_KV_BLOCK * inner;
        return base + ((size_t)head * T5_KV_BLOCK + (size_t)(pos % T5_KV_BLOCK)) * (size_t)d_kv;
    }
    /* Elements from one vector of a key to its next. */
    static const int KEY_STEP = T5_KV_BLOCK * VEC;
};

/* Shared memory of a block, as floats: queries [N_QUERIES][d_kv], weights [N_QUERIES][THREADS], and the sums of the
 * groups [VEC * SUMS_STRIDE]. */
template <int VEC, int N_QUERIES> static inline size_t t5_attend_shared_bytes(int d_kv)
{
    return sizeof(float) * (size_t)(N_QUERIES * d_kv + N_QUERIES * T5_ATTEND_THREADS + T5_ATTEND_SUMS_STRIDE * VEC);
}

/* What a block shares while it attends. */
template <int N_QUERIES> struct t5_attend_shared {
    float *query;                 /* [N_QUERIES][d_kv] */
    float *weight;                /* [N_QUERIES][THREADS] scores, then exp(score - top) */
    float *sums;                  /* [n_groups][d_kv] */
    float *rescale, *top, *total; /* [N_QUERIES] */
};

/* A thread per key: the key's score for each query. */
template <class T, int VEC, int N_QUERIES, class S>
__device__ __forceinline__ void t5_attend_score(const S &source, const t5_attend_shared<N_QUERIES> &shared, int d_kv,
                                                int n_queries, int j)
{
    float scores[N_QUERIES] = {};
    int step;
    const T *key = source.key(j, step);
    for (int v = 0; v < d_kv / VEC; v++) {
        float k[VEC];
        t5_load_vector(key + (size_t)v * (size_t)step, k);
#pragma unroll
        for (int q = 0; q < N_QUERIES; q++) {
            if (q >= n_queries) break;
#pragma unroll
            for (int e = 0; e < VEC; e++)
                scores[q] += shared.query[q * d_kv + v * VEC + e] * k[e];
        }
    }
#pragma unroll
    for (int q = 0; q < N_QUERIES; q++) {
        if (q < n_queries) shared.weight[q * T5_ATTEND_THREADS + (int)threadIdx.x] = scores[q] + source.bias(q, j);
    }
}

/* A warp per query: scores to weights, and by how much the earlier sums shrink (online softmax). */
template <int N_QUERIES>
__device__ __forceinline__ void t5_attend_weigh(const t5_attend_shared<N_QUERIES> &shared, int q, int n_here,
                                                float &top, float &total)
{
    float *w = shared.weight + q * T5_ATTEND_THREADS;
    int lane = (int)threadIdx.x % 32;
    float low = lane < n_here ? w[lane] : -INFINITY;
    float high = lane + 32 < n_here ? w[lane + 32] : -INFINITY;
    float new_top = fmaxf(top, t5_warp_max(fmaxf(low, high)));
    low = __expf(low - new_top);
    high = __expf(high - new_top);
    w[lane] = low;
    w[lane + 32] = high;
    float rescale = __expf(top - new_top);
    total = total * rescale + t5_warp_sum(low + high);
    top = new_top;
    if (lane == 0) {
        shared.rescale[q] = rescale;
        shared.top[q] = top;
        shared.total[q] = total;
    }
}

/* A group of threads per value: adds the chunk to the thread's sums. */
template <class T, int VEC, int N_QUERIES, class S>
__device__ __forceinline__ void t5_attend_add(const S &source, const t5_attend_shared<N_QUERIES> &shared, int d_kv,
                                              int n_queries, int first, int n_here, float (&sums)[N_QUERIES][VEC])
{
    int n_groups = T5_ATTEND_THREADS / (d_kv / VEC);
    int group = (int)threadIdx.x / (d_kv / VEC), vector = (int)threadIdx.x % (d_kv / VEC);
    if (group >= n_groups) return;
#pragma unroll
    for (int q = 0; q < N_QUERIES; q++) {
        if (q >= n_queries) break;
        float rescale = shared.rescale[q];
#pragma unroll
        for (int e = 0; e < VEC; e++)
            sums[q][e] *= rescale;
    }
    for (int j = group; j < n_here; j += n_groups) {
        float v[VEC];
        t5_load_vector(source.value(first + j) + vector * VEC, v);
#pragma unroll
        for (int q = 0; q < N_QUERIES; q++) {
            if (q >= n_queries) break;
            float weight = shared.weight[q * T5_ATTEND_THREADS + j];
#pragma unroll
            for (int e = 0; e < VEC; e++)
                sums[q][e] += weight * v[e];
        }
    }
}

/* Adds the groups' sums of a query in their order, and gives each element to use(d, sum). */
template <int VEC, int N_QUERIES, class F>
__device__ __forceinline__ void t5_attend_collect(const t5_attend_shared<N_QUERIES> &shared, int d_kv,
                                                  const float (&sums)[VEC], F use)
{
    int n_groups = T5_ATTEND_THREADS / (d_kv / VEC);
    if ((int)threadIdx.x < n_groups * (d_kv / VEC)) {
#pragma unroll
        for (int e = 0; e < VEC; e++)
            shared.sums[e * T5_ATTEND_SUMS_STRIDE + (int)threadIdx.x] = sums[e];
    }
    __syncthreads();
    for (int d = (int)threadIdx.x; d < d_kv; d += T5_ATTEND_THREADS) {
        float sum = 0.0f;
        for (int i = 0; i < n_groups; i++)
            sum += shared.sums[d % VEC * T5_ATTEND_SUMS_STRIDE + i * (d_kv / VEC) + d / VEC];
        use(d, sum);
    }
    __syncthreads();
}

/* Queries 0 .. n_queries - 1 to shared memory. The caller's next barrier makes them visible. */
template <int N_QUERIES, class S>
__device__ __forceinline__ void t5_attend_stage(const S &source, const t5_attend_shared<N_QUERIES> &shared, int d_kv,
                                                int n_queries)
{
    for (int i = (int)threadIdx.x; i < n_queries * d_kv; i += T5_ATTEND_THREADS)
        shared.query[i] = t5_to_float(source.query(i / d_kv)[i % d_kv]);
}

/* Sums over the keys `first` .. `end` - 1, one at least: those of the thread's group in `sums`; shared.top and
 * shared.total are the softmax's. */
template <class T, int VEC, int N_QUERIES, class S>
__device__ __forceinline__ void t5_attend_range(const S &source, const t5_attend_shared<N_QUERIES> &shared, int d_kv,
                                                int n_queries, int first, int end, float (&sums)[N_QUERIES][VEC])
{
    const int N_PER_WARP = (N_QUERIES + 1) / 2;
    static_assert(T5_ATTEND_THREADS == 64, "two warps, two weights a lane");
    float top[N_PER_WARP], total[N_PER_WARP];
#pragma unroll
    for (int i = 0; i < N_PER_WARP; i++) {
        top[i] = -INFINITY;
        total[i] = 0.0f;
    }
#pragma unroll
    for (int q = 0; q < N_QUERIES; q++) {
#pragma unroll
        for (int e = 0; e < VEC; e++)
            sums[q][e] = 0.0f;
    }
    __syncthreads();
    for (; first < end; first += T5_ATTEND_THREADS) {
        int n_here = min(T5_ATTEND_THREADS, end - first);
        if ((int)threadIdx.x < n_here)
            t5_attend_score<T, VEC>(source, shared, d_kv, n_queries, first + (int)threadIdx.x);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < N_PER_WARP; i++) {
            int q = (int)threadIdx.x / 32 + 2 * i;
            if (q < n_queries) t5_attend_weigh(shared, q, n_here, top[i], total[i]);
        }
        __syncthreads();
        t5_attend_add<T, VEC>(source, shared, d_kv, n_queries, first, n_here, sums);
        __syncthreads(); /* the next chunk's weights take the place of these */
    }
}

/* out(q)[d] for the queries 0 .. n_queries - 1 over n_keys >= 1 keys. `source` says where things are:
 *   const T *query(q), T *out(q): [d_kv]        const T *value(j): [d_kv]        float bias(q, j)
 *   const T *key(j, step): vector i of the key is at + i * step
 * All threads of a block of T5_ATTEND_THREADS call this. */
template <class T, int VEC, int N_QUERIES, class S>
__device__ __forceinline__ void t5_attend(const S &source, int d_kv, int n_queries, int n_keys)
{
    T5_DYNAMIC_SHARED(float, dynamic);
    T5_SHARED(float, s_rescale, [N_QUERIES]);
    T5_SHARED(float, s_top, [N_QUERIES]);
    T5_SHARED(float, s_total, [N_QUERIES]);
    float *s_weight = dynamic + N_QUERIES * d_kv;
    t5_attend_shared<N_QUERIES> shared = {dynamic,   s_weight, s_weight + N_QUERIES * T5_ATTEND_THREADS,
                                          s_rescale, s_top,    s_total};
    float sums[N_QUERIES][VEC];
    t5_attend_stage(source, shared, d_kv, n_queries);
    t5_attend_range<T, VEC>(source, shared, d_kv, n_queries, 0, n_keys, sums);
#pragma unroll
    for (int q = 0; q < N_QUERIES; q++) {
        if (q >= n_queries) break;
        T *out = source.out(q);
        t5_attend_collect<VEC>(shared, d_kv, sums[q],
                               [&](int d, float sum) { t5_store(&out[d], sum / shared.total[q]); });
    }
}
