/* cuda/cross_weights.cu: what the queries of an alignment pass look at: the weights of cross-attention, added up over
 * the heads. A pass has few queries and comes after a sequence's search, so this is made to be small. */
#include "cuda/attend.cuh"
#include "cuda/dispatch.cuh"

static const int WARPS = 4; /* heads at a time */

struct weights_view {
    t5_kv_view kv;
    int layer;
    const int32_t *slot;
    const t5_slot *slots;
    const void *q;
    bool adds;
    float *weights;
    int stride; /* of weights, and of a head's weights in shared memory */
};

/* A warp: w[j] = softmax_j(q k_j) of one head, a lane per key. Each lane writes and reads its own keys alone. */
template <class T, int VEC>
static __device__ __forceinline__ void weigh_head(const weights_view &a, const int32_t *blocks, int src_len, int head,
                                                  const T *query, float *w)
{
    t5_paged<T, VEC> paged = {(char *)a.kv.pool, a.kv.block_bytes, a.kv.n_heads, a.kv.d_kv, a.layer};
    int lane = (int)threadIdx.x % 32;
    float top = -INFINITY, total = 0.0f;
    for (int j = lane; j < src_len; j += 32) {
        const T *key = paged.keys(blocks[j / T5_KV_BLOCK], head, j);
        float score = 0.0f;
        for (int v = 0; v < a.kv.d_kv / VEC; v++) {
            float x[VEC], k[VEC];
            t5_load_vector(query + v * VEC, x);
            t5_load_vector(key + (size_t)v * (size_t)t5_paged<T, VEC>::KEY_STEP, k);
#pragma unroll
            for (int e = 0; e < VEC; e++)
                score += x[e] * k[e];
        }
        w[j] = score;
        top = fmaxf(top, score);
    }
    top = t5_warp_max(top);
    for (int j = lane; j < src_len; j += 32) {
        w[j] = __expf(w[j] - top);
        total += w[j];
    }
    total = t5_warp_sum(total);
    for (int j = lane; j < src_len; j += 32)
        w[j] /= total;
}

/* weights[q][j] (+)= sum over the heads of softmax_j(q k_j).     q: [n_queries, n_heads, d_kv], weights: [n_queries,
 * stride]
 * Launch: a block of 4 warps per query; a warp per head, four heads at a time, then a thread per key adds them in the
 * order of the heads, so that the sum is always the same. Shared memory: 4 * stride floats. Bytes: src_len * (n_heads *
 * d_kv * sizeof(T) + 4) per query. Twin: ref_cross_weights. */
template <class T, int VEC> __global__ void __launch_bounds__(32 * WARPS) cross_weights_kernel(weights_view a)
{
    T5_DYNAMIC_SHARED(float, s_weights); /* [WARPS][stride] */
    int q = (int)blockIdx.x, warp = (int)threadIdx.x / 32, n_heads = a.kv.n_heads;
    t5_await_previous();
    int i_slot = a.slot[q];
    if (i_slot < 0) return; /* fills a step; the whole block: no barrier is split */
    int src_len = a.slots[i_slot].src_len;
    const int32_t *blocks = a.kv.cross_blocks + (size_t)i_slot * (size_t)a.kv.cross_stride;
    const T *queries = (const T *)a.q + (size_t)q * (size_t)n_heads * (size_t)a.kv.d_kv;
    float *out = a.weights + (size_t)q * (size_t)a.stride;
    for (int head = 0; head < n_heads; head += WARPS) {
        if (head + warp < n_heads)
            weigh_head<T, VEC>(a, blocks, src_len, head + warp, queries + (size_t)(head + warp) * (size_t)a.kv.d_kv,
                               s_weights + (size_t)warp * (size_t)a.stride);
        __syncthreads();
        for (int j = (int)threadIdx.x; j < src_len; j += 32 * WARPS) {
            float sum = head > 0 || a.adds ? out[j] : 0.0f;
            for (int i = 0; i < WARPS && head + i < n_heads; i++)
                sum += s_weights[i * a.stride + j];
            out[j] = sum;
        }
        __syncthreads(); /* the next heads take the place of these */
    }
}

struct weights_launch {
    weights_view view;
    int n_queries;
};

template <class T, int VEC> static cudaError_t launch_with(const weights_launch &a, t5_cuda_stream stream)
{
    size_t shared_bytes = (size_t)WARPS * (size_t)a.view.stride * sizeof(float);
    cudaError_t error = t5_allow_shared(cross_weights_kernel<T, VEC>, shared_bytes);
    if (error != cudaSuccess) return error;
    return T5_LAUNCH((cross_weights_kernel<T, VEC>), dim3((unsigned)a.n_queries), dim3(32 * WARPS), shared_bytes,
                     stream, a.view);
}

/* Instantiations: 3 types x 2. */
template <class T> struct launch_weights {
    static cudaError_t run(const weights_launch &a, t5_cuda_stream stream)
    {
        return a.view.kv.d_kv % t5_vector<T>::LEN == 0 ? launch_with<T, t5_vector<T>::LEN>(a, stream)
                                                       : launch_with<T, 1>(a, stream);
    }
};

cudaError_t t5_cuda_cross_weights(t5_dtype type, const t5_cross_weights_args *args, t5_cuda_stream stream)
{
    const t5_step *step = args->step;
    weights_launch a = {};
    a.view = {*args->kv, args->layer, step->slot,    step->state->slots,
              args->q,   args->adds,  args->weights, args->kv->cross_stride * T5_KV_BLOCK};
    a.n_queries = step->n_queries;
    return t5_dispatch<launch_weights>(type, a, stream);
}
