/* cuda/decoder_attention.cu: attention over the paged KV cache: self-attention, cross-attention, and storing a
 * source's keys and values. Memory bound: the cache is read once per step, in 16-byte pieces side by side. */
#include "cuda/attend_split.cuh"
#include "cuda/dispatch.cuh"

static const int CROSS_QUERIES = 8; /* queries of a source that share one reading of its keys and values */

/* The arguments with the pointers that live in host structs resolved. */
struct attention_view {
    t5_kv_view kv;
    int layer, n_queries;
    const int32_t *row, *pos, *slot;
    const t5_slot *slots;
    const uint8_t *ancestors;
    int stride;
    const void *x; /* qkv of each query, or q */
    const float *bias;
    int bias_len;
    void *ctx;
    t5_cuda_split split;
    int n_parts_max; /* of the longest context */
};

static __device__ __forceinline__ t5_parts parts_of(const attention_view &a, int head)
{
    return {a.split, a.n_parts_max, a.kv.n_heads, a.kv.d_kv, head};
}

template <class T, int VEC> static __device__ __forceinline__ t5_paged<T, VEC> paged_of(const attention_view &a)
{
    return {(char *)a.kv.pool, a.kv.block_bytes, a.kv.n_heads, a.kv.d_kv, a.layer};
}

/* Keys 0 .. pos of one query: from the cache what earlier steps stored, from qkv what this step brings. */
template <class T, int VEC> struct self_source {
    const attention_view &a;
    t5_paged<T, VEC> paged;
    int q, head, pos, n_cached, row, row0;

    __device__ const T *qkv(int query_index, int part) const
    {
        size_t inner = (size_t)a.kv.n_heads * (size_t)a.kv.d_kv;
        return (const T *)a.x + ((size_t)query_index * 3 + (size_t)part) * inner + (size_t)head * (size_t)a.kv.d_kv;
    }
    __device__ int block_of(int j) const
    {
        int owner = row0 + a.ancestors[(size_t)row * (size_t)a.stride + (size_t)j];
        return a.kv.self_blocks[(size_t)owner * (size_t)a.kv.self_stride + (size_t)(j / T5_KV_BLOCK)];
    }
    __device__ const T *query(int) const
    {
        return qkv(q, 0);
    }
    __device__ T *out(int) const
    {
        return (T *)a.ctx + ((size_t)q * (size_t)a.kv.n_heads + (size_t)head) * (size_t)a.kv.d_kv;
    }
    __device__ const T *key(int j, int &step) const
    {
        step = j < n_cached ? t5_paged<T, VEC>::KEY_STEP : VEC;
        return j < n_cached ? paged.keys(block_of(j), head, j) : qkv(q - (pos - j), 1);
    }
    __device__ const T *value(int j) const
    {
        return j < n_cached ? paged.values(block_of(j), head, j) : qkv(q - (pos - j), 2);
    }
    __device__ float bias(int, int j) const
    {
        return a.bias[(size_t)head * (size_t)a.bias_len + (size_t)(pos - j)];
    }
};

/* Stores the key and value at k and v, one head each, as position `pos` of a block. */
template <class T, int VEC>
static __device__ __forceinline__ void store_kv(const t5_paged<T, VEC> &paged, int block, int head, int pos, const T *k,
                                                const T *v)
{
    T *key = paged.keys(block, head, pos);
    T *value = paged.values(block, head, pos);
    for (int d = (int)threadIdx.x; d < paged.d_kv; d += (int)blockDim.x) {
        key[d / VEC * t5_paged<T, VEC>::KEY_STEP + d % VEC] = k[d];
        value[d] = v[d];
    }
}

/* Stores k and v of each query, then ctx[q] = softmax_{j <= pos}(q k_j + bias[pos - j]) v.
 * qkv: [n_queries, 3, n_heads, d_kv], ctx: [n_queries, n_heads, d_kv]
 * Launch: a block of 64 threads per head and query, or several that share the context (attend_split.cuh). A query takes
 * the keys of its own step from qkv, so that blocks do not wait for each other. Bytes: 2 * (pos + 1) * n_heads * d_kv *
 * sizeof(T) per query. Twin: ref_self_attention. */
template <class T, int VEC> __global__ void __launch_bounds__(T5_ATTEND_THREADS) self_attention_kernel(attention_view a)
{
    int head = (int)blockIdx.x, q = (int)blockIdx.y;
    t5_await_previous();
    int row = a.row[q], pos = a.pos[q], n_before = 0;
    if (row < 0) return; /* fills a recorded step */
    while (n_before < q && a.row[q - n_before - 1] == row)
        n_before++;
    t5_paged<T, VEC> paged = paged_of<T, VEC>(a);
    int i_block = (int)blockIdx.z, n_blocks = min((int)gridDim.z, t5_n_parts(pos + 1));
    if (i_block >= n_blocks) return; /* the whole block: no barrier is split */
    self_source<T, VEC> source = {a, paged, q, head, pos, pos - n_before, row, a.slots[a.slot[q]].row0};
    if (i_block == 0) {
        int block = a.kv.self_blocks[(size_t)row * (size_t)a.kv.self_stride + (size_t)(pos / T5_KV_BLOCK)];
        store_kv(paged, block, head, pos, source.qkv(q, 1), source.qkv(q, 2));
    }
    t5_attend_parts<T, VEC, 1>(source, parts_of(a, head), q, 1, pos + 1, i_block, n_blocks);
}

/* All positions of a slot's source, for queries that stand side by side. */
template <class T, int VEC> struct cross_source {
    const attention_view &a;
    t5_paged<T, VEC> paged;
    const int32_t *blocks;
    int q0, head;

    __device__ size_t at(int q) const
    {
        return ((size_t)(q0 + q) * (size_t)a.kv.n_heads + (size_t)head) * (size_t)a.kv.d_kv;
    }
    __device__ const T *query(int q) const
    {
        return (const T *)a.x + at(q);
    }
    __device__ T *out(int q) const
    {
        return (T *)a.ctx + at(q);
    }
    __device__ const T *key(int j, int &step) const
    {
        step = t5_paged<T, VEC>::KEY_STEP;
        return paged.keys(blocks[j / T5_KV_BLOCK], head, j);
    }
    __device__ const T *value(int j) const
    {
        return paged.values(blocks[j / T5_KV_BLOCK], head, j);
    }
    __device__ float bias(int, int) const
    {
        return 0.0f;
    }
};

/* ctx[q] = softmax_j(q k_j) v over the slot's source.     q, ctx: [n_queries, n_heads, d_kv]
 * Launch: a block of 64 threads per head and query, or several that share the source (attend_split.cuh); the blocks of
 * the first of each 8 queries of a slot work for these 8, so that its beams read the source once; the others leave at
 * once.
 * Bytes: 2 * src_len * n_heads * d_kv * sizeof(T) per slot (for up to 8 beams). Twin: ref_cross_attention. */
template <class T, int VEC>
__global__ void __launch_bounds__(T5_ATTEND_THREADS) cross_attention_kernel(attention_view a)
{
    int head = (int)blockIdx.x, q = (int)blockIdx.y;
    t5_await_previous();
    int i_slot = a.slot[q];
    if (i_slot < 0) return; /* fills a recorded step */
    int n_before = 0, n_queries = 1;
    while (n_before < q && a.slot[q - n_before - 1] == i_slot)
        n_before++;
    if (n_before % CROSS_QUERIES != 0) return; /* the whole block: no barrier is split */
    while (n_queries < CROSS_QUERIES && q + n_queries < a.n_queries && a.slot[q + n_queries] == i_slot)
        n_queries++;
    int src_len = a.slots[i_slot].src_len;
    int i_block = (int)blockIdx.z, n_blocks = min((int)gridDim.z, t5_n_parts(src_len));
    if (i_block >= n_blocks) return; /* the whole block: no barrier is split */
    const int32_t *blocks = a.kv.cross_blocks + (size_t)i_slot * (size_t)a.kv.cross_stride;
    cross_source<T, VEC> source = {a, paged_of<T, VEC>(a), blocks, q, head};
    t5_attend_parts<T, VEC, CROSS_QUERIES>(source, parts_of(a, head), q, n_queries, src_len, i_block, n_blocks);
}

struct store_view {
    t5_kv_view kv;
    int layer;
    const int32_t *first, *slots;
    const void *kv_rows;
};

/* Stores keys and values of packed sources in their slots' blocks.     kv_rows: [n_tokens, 2, n_heads, d_kv]
 * Launch: a block of 128 threads per 4 positions, head and sequence. Bytes: 4 * n_tokens * n_heads * d_kv * sizeof(T).
 * Twin: ref_store_cross_kv. */
static const int STORE_POSITIONS = 4;
template <class T, int VEC> __global__ void __launch_bounds__(128) store_cross_kv_kernel(store_view a)
{
    int head = (int)blockIdx.y, seq = (int)blockIdx.z;
    t5_await_previous();
    int first = a.first[seq], len = a.first[seq + 1] - first;
    const int32_t *blocks = a.kv.cross_blocks + (size_t)a.slots[seq] * (size_t)a.kv.cross_stride;
    t5_paged<T, VEC> paged = {(char *)a.kv.pool, a.kv.block_bytes, a.kv.n_heads, a.kv.d_kv, a.layer};
    size_t inner = (size_t)a.kv.n_heads * (size_t)a.kv.d_kv;
    for (int i = 0; i < STORE_POSITIONS; i++) {
        int pos = (int)blockIdx.x * STORE_POSITIONS + i;
        if (pos >= len) return;
        const T *k = (const T *)a.kv_rows + (size_t)(first + pos) * 2 * inner + (size_t)head * (size_t)a.kv.d_kv;
        store_kv(paged, blocks[pos / T5_KV_BLOCK], head, pos, k, k + inner);
    }
}

/* The widest vectors that d_kv allows: 16 bytes, else single elements. Instantiations: 3 types x 2. */
template <class T> static bool has_vectors(int d_kv)
{
    return d_kv % t5_vector<T>::LEN == 0;
}

/* A block for each head and query; more, up to one for each part of the longest context, while these are few. The
 * lengths themselves are known on the device only: blocks that find nothing to do leave. */
static dim3 grid_of(const attention_view &a)
{
    int n_cells = a.kv.n_heads * a.n_queries;
    int n_blocks = min(T5_CUDA_SPLIT_BLOCKS / n_cells, a.n_parts_max);
    size_t n_floats = (size_t)n_cells * (size_t)a.n_parts_max * (size_t)(a.kv.d_kv + 2);
    bool is_shared = n_blocks > 1 && n_floats <= T5_CUDA_SPLIT_FLOATS;
    return dim3((unsigned)a.kv.n_heads, (unsigned)a.n_queries, is_shared ? (unsigned)n_blocks : 1u);
}

template <class T, int VEC> static cudaError_t launch_self_with(const attention_view &a, t5_cuda_stream stream)
{
    size_t shared_bytes = t5_split_shared_bytes<VEC, 1>(a.kv.d_kv);
    return T5_LAUNCH((self_attention_kernel<T, VEC>), grid_of(a), dim3(T5_ATTEND_THREADS), shared_bytes, stream, a);
}

template <class T> struct launch_self {
    static cudaError_t run(const attention_view &a, t5_cuda_stream stream)
    {
        return has_vectors<T>(a.kv.d_kv) ? launch_self_with<T, t5_vector<T>::LEN>(a, stream)
                                         : launch_self_with<T, 1>(a, stream);
    }
};

template <class T, int VEC> static cudaError_t launch_cross_with(const attention_view &a, t5_cuda_stream stream)
{
    size_t shared_bytes = t5_split_shared_bytes<VEC, CROSS_QUERIES>(a.kv.d_kv);
    return T5_LAUNCH((cross_attention_kernel<T, VEC>), grid_of(a), dim3(T5_ATTEND_THREADS), shared_bytes, stream, a);
}

template <class T> struct launch_cross {
    static cudaError_t run(const attention_view &a, t5_cuda_stream stream)
    {
        return has_vectors<T>(a.kv.d_kv) ? launch_cross_with<T, t5_vector<T>::LEN>(a, stream)
                                         : launch_cross_with<T, 1>(a, stream);
    }
};

struct store_launch {
    store_view view;
    int n_seqs, len_max;
};

template <class T> struct launch_store {
    static cudaError_t run(const store_launch &a, t5_cuda_stream stream)
    {
        dim3 grid((unsigned)((a.len_max + STORE_POSITIONS - 1) / STORE_POSITIONS), (unsigned)a.view.kv.n_heads,
                  (unsigned)a.n_seqs);
        if (has_vectors<T>(a.view.kv.d_kv))
            return T5_LAUNCH((store_cross_kv_kernel<T, t5_vector<T>::LEN>), grid, dim3(128), 0, stream, a.view);
        return T5_LAUNCH((store_cross_kv_kernel<T, 1>), grid, dim3(128), 0, stream, a.view);
    }
};

static attention_view view_of(const t5_step *step, const t5_kv_view *kv, int layer, const t5_cuda_split *split)
{
    attention_view a = {};
    a.kv = *kv;
    a.layer = layer;
    a.n_queries = step->n_queries;
    a.row = step->row;
    a.pos = step->pos;
    a.slot = step->slot;
    a.slots = step->state->slots;
    a.ancestors = step->state->ancestors;
    a.stride = step->state->stride;
    a.split = *split;
    return a;
}

cudaError_t t5_cuda_self_attention(t5_dtype type, const t5_self_attention_args *args, const t5_cuda_split *split,
                                   t5_cuda_stream stream)
{
    attention_view a = view_of(args->step, args->kv, args->layer, split);
    a.n_parts_max = t5_n_parts(a.stride);
    a.x = args->qkv;
    a.bias = args->bias;
    a.bias_len = args->bias_len;
    a.ctx = args->ctx;
    return t5_dispatch<launch_self>(type, a, stream);
}

cudaError_t t5_cuda_cross_attention(t5_dtype type, const t5_cross_attention_args *args, const t5_cuda_split *split,
                                    t5_cuda_stream stream)
{
    attention_view a = view_of(args->step, args->kv, args->layer, split);
    a.n_parts_max = t5_n_parts(a.kv.cross_stride * T5_KV_BLOCK);
    a.x = args->q;
    a.ctx = args->ctx;
    return t5_dispatch<launch_cross>(type, a, stream);
}

cudaError_t t5_cuda_store_cross_kv(t5_dtype type, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                   const void *kv_rows, t5_cuda_stream stream)
{
    store_launch a = {{*kv, layer, packed->first, packed->slots, kv_rows}, packed->n_seqs, packed->len_max};
    return t5_dispatch<launch_store>(type, a, stream);
}
