/* bench/exp/cluster_node.cuh: norm, QKV product, self-attention, output product and residual of one decoder layer as
 * one kernel, a cluster of blocks for each head. What a head gives to the residual stream goes to a slot of its own,
 * and the next kernel adds the slots in the order of the heads: no atomics, the same bits each time.
 *
 * Block `rank` of a cluster has the d / size columns of x from rank * d / size on:
 *   1. adds the slots to its columns; the cluster adds up the squares                            (cluster barrier)
 *   2. multiplies its normalized columns with those of q, k and v's weights: partial sums        (cluster barrier)
 *   3. adds up the cluster's partial sums of q; attends to its share of the keys                 (cluster barrier)
 *   4. merges the cluster's shares; multiplies with its rows of the output's weights
 * Every weight is read once, and all of a block's weights are on their way before the kernel before has ended. */
#pragma once
#include "bench/exp/device.cuh"
#include "cuda/attend.cuh"
#include "cuda/rows.cuh"

enum {
    NODE_D_KV = 64,
    NODE_OUTS = 3 * NODE_D_KV,            /* of q, k and v */
    NODE_WARPS = NODE_OUTS / T5_ROWS_OUT, /* one for each tile */
    NODE_THREADS = 32 * NODE_WARPS,
    NODE_ROWS_MAX = T5_ROWS_TILE,
    NODE_KEYS_MAX = 8, /* of a block */
    NODE_CLUSTER_MAX = 16,
    NODE_VECTORS = NODE_D_KV / 8, /* of 16 bytes, in a key */
};

struct node_args {
    const half *w_qkv; /* [3][n_heads][NODE_D_KV][d] */
    const half *w_o;   /* [d][n_heads][NODE_D_KV] */
    const float *gain; /* [d] */
    float eps;
    int n_rows, d, n_heads;
    t5_paged<half, 8> paged;
    const int32_t *self_blocks; /* [n_rows][self_stride] */
    const uint8_t *ancestors;   /* [n_rows][stride] */
    int self_stride, stride;
    const int32_t *pos, *slot; /* [n_rows]; at most NODE_KEYS_MAX * size positions */
    const t5_slot *slots;
    const float *bias; /* [n_heads][bias_len] */
    int bias_len;
    const float *x, *parts; /* [n_rows][d], [n_heads][n_rows][d] */
    float *x_out, *parts_out;
};

template <int N_CHUNKS> struct alignas(16) node_shared {
    float x[NODE_ROWS_MAX][32 * N_CHUNKS];
    half normed[NODE_ROWS_MAX][32 * N_CHUNKS + 8]; /* 16 bytes more: neighbouring rows meet no bank twice */
    float qkv[NODE_ROWS_MAX][NODE_OUTS + 4];       /* sums over the block's columns */
    float q[NODE_ROWS_MAX][NODE_D_KV];
    half keys[NODE_ROWS_MAX][NODE_KEYS_MAX][NODE_D_KV], values[NODE_ROWS_MAX][NODE_KEYS_MAX][NODE_D_KV];
    float scores[NODE_ROWS_MAX][NODE_KEYS_MAX];
    float sums[NODE_ROWS_MAX][NODE_D_KV]; /* over the block's keys */
    half ctx[NODE_ROWS_MAX][NODE_D_KV + 8];
    float squares[NODE_ROWS_MAX], top[NODE_ROWS_MAX], total[NODE_ROWS_MAX];
    float factor[NODE_ROWS_MAX][NODE_CLUSTER_MAX];
};

/* Where a block stands. */
struct node_place {
    int head, rank, size;
    int first_col; /* of its columns */
};

/* A block's share of the keys 0 .. pos of a row. */
struct node_keys {
    int pos, first, n;

    __device__ node_keys(const node_args &a, const node_place &at, int row)
    {
        pos = a.pos[row];
        int share = (pos + at.size) / at.size;
        first = at.rank * share;
        n = max(0, min(share, pos + 1 - first));
    }
};

/* Asks for the block's keys and values of earlier steps. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_fetch_cache(const node_args &a, const node_place &at,
                                                        node_shared<N_CHUNKS> &s)
{
    for (int i = (int)threadIdx.x; i < a.n_rows * NODE_KEYS_MAX * NODE_VECTORS; i += NODE_THREADS) {
        int v = i % NODE_VECTORS, key = i / NODE_VECTORS % NODE_KEYS_MAX, row = i / NODE_VECTORS / NODE_KEYS_MAX;
        node_keys keys(a, at, row);
        int j = keys.first + key;
        if (key >= keys.n || j == keys.pos) continue;
        int owner = a.slots[a.slot[row]].row0 + a.ancestors[(size_t)row * (size_t)a.stride + (size_t)j];
        int block = a.self_blocks[(size_t)owner * (size_t)a.self_stride + (size_t)(j / T5_KV_BLOCK)];
        t5_cp_async(&s.keys[row][key][8 * v], a.paged.keys(block, at.head, j) + v * a.paged.KEY_STEP, true);
        t5_cp_async(&s.values[row][key][8 * v], a.paged.values(block, at.head, j) + 8 * v, true);
    }
    t5_cp_commit();
}

/* s.x = x and what the heads of the layer before add to it. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_add_parts(const node_args &a, const node_place &at,
                                                      node_shared<N_CHUNKS> &s)
{
    const int N_COLS = 32 * N_CHUNKS;
    for (int i = (int)threadIdx.x; i < a.n_rows * N_COLS; i += NODE_THREADS) {
        size_t from = (size_t)(i / N_COLS) * (size_t)a.d + (size_t)(at.first_col + i % N_COLS);
        float sum = a.x[from];
#pragma unroll 8
        for (int h = 0; h < a.n_heads; h++)
            sum += a.parts[(size_t)h * (size_t)a.n_rows * (size_t)a.d + from];
        s.x[i / N_COLS][i % N_COLS] = sum;
        if (at.head == 0) a.x_out[from] = sum;
    }
}

/* s.normed = the block's columns, normalized over all of a row: a warp a row. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_normalize(const node_args &a, const node_place &at,
                                                      node_shared<N_CHUNKS> &s)
{
    int row = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    __syncthreads();
    if (row < a.n_rows) {
        float sum = 0.0f;
        for (int i = 0; i < N_CHUNKS; i++)
            sum += s.x[row][lane + 32 * i] * s.x[row][lane + 32 * i];
        sum = t5_warp_sum(sum);
        if (lane == 0) s.squares[row] = sum;
    }
    exp_cluster_sync();
    if (row < a.n_rows) {
        float sum = t5_warp_sum(lane < at.size ? *exp_cluster_map(&s.squares[row], (unsigned)lane) : 0.0f);
        float scale = rsqrtf(sum / (float)a.d + a.eps);
        for (int i = lane; i < 32 * N_CHUNKS; i += 32)
            t5_store(&s.normed[row][i], s.x[row][i] * scale * a.gain[at.first_col + i]);
    }
    __syncthreads();
}

/* sums = w x^T of a warp's 16 outputs, x[.., stride] in shared memory. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_multiply(const t5_weight_rows (&w)[N_CHUNKS], const half *x, int stride,
                                                     int n_rows, float (&sums)[4])
{
    int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
#pragma unroll
    for (int c = 0; c < N_CHUNKS; c++) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (g < n_rows) v = t5_load16(x + g * stride + 32 * c + 8 * t);
        t5_multiply_chunk<half>(sums, w[c], v);
    }
}

/* Element i of the head's q, k and v, summed over the cluster in its order, as half like the server's kernels store. */
template <int N_CHUNKS>
static __device__ __forceinline__ half node_gather(const node_place &at, node_shared<N_CHUNKS> &s, int row, int i)
{
    float sum = 0.0f;
    for (int rank = 0; rank < at.size; rank++)
        sum += *exp_cluster_map(&s.qkv[row][i], (unsigned)rank);
    return __float2half_rn(sum);
}

/* q for every block; the row's new key and value for the block whose share they are in, which also stores them. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_gather_qkv(const node_args &a, const node_place &at,
                                                       node_shared<N_CHUNKS> &s)
{
    for (int i = (int)threadIdx.x; i < a.n_rows * NODE_D_KV; i += NODE_THREADS) {
        int row = i / NODE_D_KV, d = i % NODE_D_KV;
        node_keys keys(a, at, row);
        s.q[row][d] = t5_to_float(node_gather(at, s, row, d));
        if (keys.pos < keys.first || keys.pos >= keys.first + keys.n) continue;
        int block = a.self_blocks[(size_t)row * (size_t)a.self_stride + (size_t)(keys.pos / T5_KV_BLOCK)];
        half k = node_gather(at, s, row, NODE_D_KV + d), v = node_gather(at, s, row, 2 * NODE_D_KV + d);
        s.keys[row][keys.pos - keys.first][d] = k;
        s.values[row][keys.pos - keys.first][d] = v;
        a.paged.keys(block, at.head, keys.pos)[d / 8 * a.paged.KEY_STEP + d % 8] = k;
        a.paged.values(block, at.head, keys.pos)[d] = v;
    }
    t5_cp_wait<0>();
    __syncthreads();
}

/* s.sums, s.top, s.total: the softmax average over the block's keys, not yet divided. 8 threads a key, then a thread an
 * element. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_attend(const node_args &a, const node_place &at, node_shared<N_CHUNKS> &s)
{
    int n_pieces = a.n_rows * NODE_KEYS_MAX * NODE_VECTORS;
    for (int base = 0; base < n_pieces; base += NODE_THREADS) { /* whole warps */
        int i = base + (int)threadIdx.x;
        int v = i % NODE_VECTORS, key = i / NODE_VECTORS % NODE_KEYS_MAX, row = i / NODE_VECTORS / NODE_KEYS_MAX;
        node_keys keys(a, at, min(row, a.n_rows - 1));
        bool is_key = i < n_pieces && key < keys.n;
        float sum = 0.0f, k[8];
        if (is_key) {
            t5_load_vector(&s.keys[row][key][8 * v], k);
            for (int e = 0; e < 8; e++)
                sum += s.q[row][8 * v + e] * k[e];
        }
        for (int step = NODE_VECTORS / 2; step > 0; step /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (is_key && v == 0) s.scores[row][key] = sum + a.bias[at.head * a.bias_len + keys.pos - (keys.first + key)];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < a.n_rows * NODE_D_KV; i += NODE_THREADS) {
        int row = i / NODE_D_KV, d = i % NODE_D_KV;
        int n = node_keys(a, at, row).n;
        float top = -INFINITY, total = 0.0f, sum = 0.0f;
        for (int key = 0; key < n; key++)
            top = fmaxf(top, s.scores[row][key]);
        for (int key = 0; key < n; key++) {
            float weight = __expf(s.scores[row][key] - top);
            total += weight;
            sum += weight * t5_to_float(s.values[row][key][d]);
        }
        s.sums[row][d] = sum;
        if (d == 0) {
            s.top[row] = top;
            s.total[row] = total;
        }
    }
}

/* s.ctx from the shares of all blocks, in their order; a share without keys counts nothing. */
template <int N_CHUNKS>
static __device__ __forceinline__ void node_merge(const node_args &a, const node_place &at, node_shared<N_CHUNKS> &s)
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (warp < a.n_rows) {
        float total = lane < at.size ? *exp_cluster_map(&s.total[warp], (unsigned)lane) : 0.0f;
        float top = total > 0.0f ? *exp_cluster_map(&s.top[warp], (unsigned)lane) : -INFINITY;
        float scale = __expf(top - t5_warp_max(top));
        float all = t5_warp_sum(scale * total);
        if (lane < at.size) s.factor[warp][lane] = scale / all;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < a.n_rows * NODE_D_KV; i += NODE_THREADS) {
        int row = i / NODE_D_KV, d = i % NODE_D_KV;
        float sum = 0.0f;
        for (int rank = 0; rank < at.size; rank++)
            sum += s.factor[row][rank] * *exp_cluster_map(&s.sums[row][d], (unsigned)rank);
        t5_store(&s.ctx[row][d], sum);
    }
    __syncthreads();
}

/* Launch: n_heads clusters of `size` blocks, d = 32 * N_CHUNKS * size. Bytes: w_qkv and w_o once, the keys and values,
 * and x and parts once for each head. Memory bound. */
template <int N_CHUNKS> static __global__ void __launch_bounds__(NODE_THREADS, 2) node_kernel(node_args a, int size)
{
    T5_SHARED(node_shared<N_CHUNKS>, s_all, [1]);
    node_shared<N_CHUNKS> &s = s_all[0];
    const int N_COLS = 32 * N_CHUNKS;
    int warp = (int)threadIdx.x / 32, g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    int rank = (int)exp_cluster_rank(), inner = a.n_heads * NODE_D_KV;
    node_place at = {(int)blockIdx.x / size, rank, size, rank * N_COLS};
    int part = warp * T5_ROWS_OUT / NODE_D_KV, first_out = warp * T5_ROWS_OUT % NODE_D_KV;
    size_t row_qkv = (size_t)(part * inner + at.head * NODE_D_KV + first_out + g);
    t5_weight_rows w_qkv[N_CHUNKS], w_o[NODE_D_KV / 32];
#pragma unroll
    for (int c = 0; c < N_CHUNKS; c++)
        t5_load_weights(a.w_qkv + row_qkv * (size_t)a.d + (size_t)(at.first_col + 32 * c + 8 * t), a.d, w_qkv[c]);
    bool has_o = warp * T5_ROWS_OUT < N_COLS;
    size_t row_o = (size_t)(at.first_col + warp * T5_ROWS_OUT + g);
#pragma unroll
    for (int c = 0; c < NODE_D_KV / 32; c++)
        if (has_o)
            t5_load_weights(a.w_o + row_o * (size_t)inner + (size_t)(at.head * NODE_D_KV + 32 * c + 8 * t), inner,
                            w_o[c]);
    t5_await_previous();
    node_fetch_cache(a, at, s);
    node_add_parts(a, at, s);
    node_normalize(a, at, s);
    float sums[4] = {}, outs[4] = {};
    node_multiply(w_qkv, s.normed[0], N_COLS + 8, a.n_rows, sums);
    for (int i = 0; i < 4; i++)
        s.qkv[2 * t + i % 2][warp * T5_ROWS_OUT + g + i / 2 * 8] = sums[i];
    exp_cluster_sync();
    node_gather_qkv(a, at, s);
    node_attend(a, at, s);
    exp_cluster_sync();
    node_merge(a, at, s);
    if (has_o) {
        node_multiply(w_o, s.ctx[0], NODE_D_KV + 8, a.n_rows, outs);
        for (int i = 0; i < 4; i++) {
            int row = 2 * t + i % 2, col = at.first_col + warp * T5_ROWS_OUT + g + i / 2 * 8;
            if (row < a.n_rows)
                a.parts_out[((size_t)at.head * (size_t)a.n_rows + (size_t)row) * (size_t)a.d + (size_t)col] = outs[i];
        }
    }
    exp_cluster_sync(); /* the others have read this block's shared memory */
}

/* Instantiations: 1 to 4 chunks. cudaErrorInvalidValue for other widths. */
static inline cudaError_t node_launch(const node_args &a, int size, cudaStream_t stream)
{
    dim3 grid((unsigned)(a.n_heads * size)), block(NODE_THREADS);
    exp_how how = {(unsigned)size, true, false};
    switch (a.d % (32 * size) == 0 ? a.d / (32 * size) : 0) {
    case 1:
        return EXP_LAUNCH(node_kernel<1>, grid, block, 0, stream, how, a, size);
    case 2:
        return EXP_LAUNCH(node_kernel<2>, grid, block, 0, stream, how, a, size);
    case 3:
        return EXP_LAUNCH(node_kernel<3>, grid, block, 0, stream, how, a, size);
    case 4:
        return EXP_LAUNCH(node_kernel<4>, grid, block, 0, stream, how, a, size);
    default:
        return cudaErrorInvalidValue;
    }
}
