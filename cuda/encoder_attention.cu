/* cuda/encoder_attention.cu: attention over packed sources with an additive bias by distance: 64 queries of a head per
 * block, keys and values in tiles through shared memory, both products on tensor cores, online softmax. The scores
 * never leave registers. Types and widths without a tensor-core form go through attend.cuh. */
#include "cuda/attend.cuh"
#include "cuda/dispatch.cuh"

static const int TILE_Q = 64; /* queries of a block; each of 4 warps has 16 */
static const int THREADS = 128;
static const int FALLBACK_QUERIES = 8;

struct encoder_view {
    const int32_t *first;
    const void *qkv;
    const float *bias;
    int bias_len, n_heads;
    void *ctx;
};

/* Keys of a tile: fewer for wide heads, to fit the 99 KiB of shared memory of the small architectures. */
template <int D> __host__ __device__ constexpr int tile_keys()
{
    return D > 64 ? 32 : 64;
}

/* Rows are 16 bytes longer than their content, so that ldmatrix finds 8 rows in 8 different groups of banks. */
template <class T, int D> struct encoder_shared {
    T k[2][tile_keys<D>()][D + 8];
    T v[2][tile_keys<D>()][D + 8];
    T q[TILE_Q][D + 8];
};

/* The block's place: sequence tokens [first, first + len), queries q0 ... */
struct block_place {
    int first, len, q0, head;
};

/* Copies rows `row0` .. of part 0 (q), 1 (k) or 2 (v) into shared memory, zeros past the end. */
template <class T, int D>
static __device__ __forceinline__ void load_rows(T (*to)[D + 8], const encoder_view &a, const block_place &p, int part,
                                                 int row0, int n_rows)
{
    const int VECTORS = D / 8;
    size_t inner = (size_t)a.n_heads * D;
    const T *from = (const T *)a.qkv + (size_t)p.first * 3 * inner + (size_t)part * inner + (size_t)p.head * D;
    for (int i = (int)threadIdx.x; i < n_rows * VECTORS; i += THREADS) {
        int row = i / VECTORS, d = i % VECTORS * 8;
        bool is_present = row0 + row < p.len;
        size_t token = (size_t)(is_present ? row0 + row : 0);
        t5_cp_async(&to[row][d], from + token * 3 * inner + d, is_present);
    }
}

/* s[n][..] = q k^T for the warp's 16 queries and the tile's keys 8 n .. */
template <class T, int D>
static __device__ __forceinline__ void score_tile(float (&s)[tile_keys<D>() / 8][4], const uint32_t (&q)[D / 16][4],
                                                  const T (*k)[D + 8])
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < tile_keys<D>() / 16; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[2 * n][e] = s[2 * n + 1][e] = 0.0f;
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t r[4];
            t5_ldmatrix<false>(r, &k[n * 16 + lane % 8 + lane / 16 * 8][i * 16 + lane / 8 % 2 * 8]);
            const uint32_t low[2] = {r[0], r[1]}, high[2] = {r[2], r[3]};
            t5_mma<T>(s[2 * n], q[i], low);
            t5_mma<T>(s[2 * n + 1], q[i], high);
        }
    }
}

/* Adds the bias, masks keys past the end, turns scores into weights; rescales what was summed before.
 * Element e of a fragment belongs to query e / 2 of the lane's two. */
template <int D>
static __device__ __forceinline__ void weigh_tile(float (&s)[tile_keys<D>() / 8][4], float (&o)[D / 8][4],
                                                  float (&top)[2], float (&total)[2], const float *bias,
                                                  const block_place &p, int key0)
{
    int lane = (int)threadIdx.x % 32;
    int query = p.q0 + (int)threadIdx.x / 32 * 16 + lane / 4;
    float new_top[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < tile_keys<D>() / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int key = key0 + n * 8 + lane % 4 * 2 + e % 2;
            int distance = min(key, p.len - 1) - min(query + e / 2 * 8, p.len - 1);
            s[n][e] = key < p.len ? s[n][e] + bias[distance] : -INFINITY;
            new_top[e / 2] = fmaxf(new_top[e / 2], s[n][e]);
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        new_top[r] = fmaxf(new_top[r], __shfl_xor_sync(0xffffffffu, new_top[r], 1));
        new_top[r] = fmaxf(new_top[r], __shfl_xor_sync(0xffffffffu, new_top[r], 2));
        float rescale = __expf(top[r] - new_top[r]);
        top[r] = new_top[r];
        total[r] *= rescale;
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            o[i][2 * r] *= rescale;
            o[i][2 * r + 1] *= rescale;
        }
    }
#pragma unroll
    for (int n = 0; n < tile_keys<D>() / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[n][e] = __expf(s[n][e] - top[e / 2]);
            total[e / 2] += s[n][e];
        }
    }
}

/* o += weights v; the weights of a score fragment are those of an operand fragment. */
template <class T, int D>
static __device__ __forceinline__ void add_tile(float (&o)[D / 8][4], const float (&s)[tile_keys<D>() / 8][4],
                                                const T (*v)[D + 8])
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < tile_keys<D>() / 16; j++) {
        const uint32_t w[4] = {t5_pair<T>::pack(s[2 * j][0], s[2 * j][1]), t5_pair<T>::pack(s[2 * j][2], s[2 * j][3]),
                               t5_pair<T>::pack(s[2 * j + 1][0], s[2 * j + 1][1]),
                               t5_pair<T>::pack(s[2 * j + 1][2], s[2 * j + 1][3])};
#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
            uint32_t r[4];
            t5_ldmatrix<true>(r, &v[j * 16 + lane % 16][i * 8 + lane / 16 * 8]);
            const uint32_t low[2] = {r[0], r[1]}, high[2] = {r[2], r[3]};
            t5_mma<T>(o[i], w, low);
            t5_mma<T>(o[i + 1], w, high);
        }
    }
}

/* Divides by the softmax totals and stores the warp's 16 queries. */
template <class T, int D>
static __device__ __forceinline__ void store_tile(const float (&o)[D / 8][4], float (&total)[2], const encoder_view &a,
                                                  const block_place &p)
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
        total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
        int query = p.q0 + (int)threadIdx.x / 32 * 16 + lane / 4 + r * 8;
        if (query >= p.len) continue;
        T *out = (T *)a.ctx + ((size_t)(p.first + query) * (size_t)a.n_heads + (size_t)p.head) * D;
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            uint32_t pair = t5_pair<T>::pack(o[i][2 * r] / total[r], o[i][2 * r + 1] / total[r]);
            *reinterpret_cast<uint32_t *>(out + i * 8 + lane % 4 * 2) = pair;
        }
    }
}

/* ctx[i] = softmax_j(q_i k_j + bias[j - i]) v within a sequence     qkv: [n_tokens, 3, n_heads, D], ctx: [n_tokens,
 * n_heads, D] Launch: 128 threads per 64 queries, head and sequence; blocks past a sequence's end leave at once. Tiles
 * of keys arrive by cp.async while the one before is computed. Bytes: 2 * (3 + len / 64) * len * D per head, mostly
 * from L2. Twin: ref_encoder_attention. */
template <class T, int D> __global__ void __launch_bounds__(THREADS) encoder_attention_kernel(encoder_view a)
{
    const int KEYS = tile_keys<D>();
    typedef encoder_shared<T, D> shared_type;
    T5_DYNAMIC_SHARED(shared_type, shared);
    int seq = (int)blockIdx.z, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    t5_await_previous();
    block_place p = {a.first[seq], a.first[seq + 1] - a.first[seq], (int)blockIdx.x * TILE_Q, (int)blockIdx.y};
    if (p.q0 >= p.len) return; /* the whole block: no barrier is split */
    const float *bias = a.bias + (size_t)p.head * (size_t)(2 * a.bias_len - 1) + (a.bias_len - 1);
    load_rows<T, D>(shared->q, a, p, 0, p.q0, TILE_Q);
    load_rows<T, D>(shared->k[0], a, p, 1, 0, KEYS);
    load_rows<T, D>(shared->v[0], a, p, 2, 0, KEYS);
    t5_cp_commit();
    float o[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    uint32_t q[D / 16][4];
    int n_tiles = (p.len + KEYS - 1) / KEYS;
    for (int t = 0; t < n_tiles; t++) {
        if (t + 1 < n_tiles) {
            load_rows<T, D>(shared->k[(t + 1) % 2], a, p, 1, (t + 1) * KEYS, KEYS);
            load_rows<T, D>(shared->v[(t + 1) % 2], a, p, 2, (t + 1) * KEYS, KEYS);
        }
        t5_cp_commit();
        t5_cp_wait<1>();
        __syncthreads();
        if (t == 0) {
#pragma unroll
            for (int i = 0; i < D / 16; i++)
                t5_ldmatrix<false>(q[i], &shared->q[warp * 16 + lane % 16][i * 16 + lane / 16 * 8]);
        }
        float s[KEYS / 8][4];
        score_tile<T, D>(s, q, shared->k[t % 2]);
        weigh_tile<D>(s, o, top, total, bias, p, t * KEYS);
        add_tile<T, D>(o, s, shared->v[t % 2]);
        __syncthreads(); /* the tile after the next takes the place of this one */
    }
    t5_cp_wait<0>();
    store_tile<T, D>(o, total, a, p);
}

/* The same for any type and width: queries side by side share the keys. */
template <class T> struct packed_source {
    const encoder_view &a;
    int d_kv, first, q0, head;

    __device__ const T *at(int token, int part) const
    {
        size_t inner = (size_t)a.n_heads * (size_t)d_kv;
        return (const T *)a.qkv + ((size_t)(first + token) * 3 + (size_t)part) * inner + (size_t)head * (size_t)d_kv;
    }
    __device__ const T *query(int q) const
    {
        return at(q0 + q, 0);
    }
    __device__ T *out(int q) const
    {
        return (T *)a.ctx + ((size_t)(first + q0 + q) * (size_t)a.n_heads + (size_t)head) * (size_t)d_kv;
    }
    __device__ const T *key(int j, int &step) const
    {
        step = d_kv % t5_vector<T>::LEN == 0 ? t5_vector<T>::LEN : 1;
        return at(j, 1);
    }
    __device__ const T *value(int j) const
    {
        return at(j, 2);
    }
    __device__ float bias(int q, int j) const
    {
        return a.bias[(size_t)head * (size_t)(2 * a.bias_len - 1) + (size_t)(j - (q0 + q) + a.bias_len - 1)];
    }
};

/* Launch: 64 threads per 8 queries, head and sequence. */
template <class T, int VEC>
__global__ void __launch_bounds__(T5_ATTEND_THREADS) encoder_fallback_kernel(encoder_view a, int d_kv)
{
    int seq = (int)blockIdx.z, q0 = (int)blockIdx.x * FALLBACK_QUERIES;
    t5_await_previous();
    int first = a.first[seq], len = a.first[seq + 1] - first;
    if (q0 >= len) return; /* the whole block: no barrier is split */
    packed_source<T> source = {a, d_kv, first, q0, (int)blockIdx.y};
    t5_attend<T, VEC, FALLBACK_QUERIES>(source, d_kv, min(FALLBACK_QUERIES, len - q0), len);
}

struct encoder_launch {
    encoder_view view;
    int d_kv, n_seqs, len_max;
};

static dim3 grid_of(const encoder_launch &a, int tile)
{
    return dim3((unsigned)((a.len_max + tile - 1) / tile), (unsigned)a.view.n_heads, (unsigned)a.n_seqs);
}

template <class T, int VEC> static cudaError_t launch_fallback(const encoder_launch &a, t5_cuda_stream stream)
{
    size_t shared_bytes = t5_attend_shared_bytes<VEC, FALLBACK_QUERIES>(a.d_kv);
    return T5_LAUNCH((encoder_fallback_kernel<T, VEC>), grid_of(a, FALLBACK_QUERIES), dim3(T5_ATTEND_THREADS),
                     shared_bytes, stream, a.view, a.d_kv);
}

template <class T, int D> static cudaError_t launch_tensor(const encoder_launch &a, t5_cuda_stream stream)
{
    size_t shared_bytes = sizeof(encoder_shared<T, D>);
    cudaError_t error = t5_allow_shared(encoder_attention_kernel<T, D>, shared_bytes);
    if (error != cudaSuccess) return error;
    return T5_LAUNCH((encoder_attention_kernel<T, D>), grid_of(a, TILE_Q), dim3(THREADS), shared_bytes, stream, a.view);
}

/* Instantiations: {half, bfloat16} x {16, 32, 64, 128}; 3 types x {vectors, elements} of the fallback. */
template <class T> struct launch_encoder {
    static cudaError_t run(const encoder_launch &a, t5_cuda_stream stream)
    {
        switch (a.d_kv) {
        case 16:
            return launch_tensor<T, 16>(a, stream);
        case 32:
            return launch_tensor<T, 32>(a, stream);
        case 64:
            return launch_tensor<T, 64>(a, stream);
        case 128:
            return launch_tensor<T, 128>(a, stream);
        default:
            return a.d_kv % 8 == 0 ? launch_fallback<T, 8>(a, stream) : launch_fallback<T, 1>(a, stream);
        }
    }
};

template <> struct launch_encoder<float> {
    static cudaError_t run(const encoder_launch &a, t5_cuda_stream stream)
    {
        return a.d_kv % 4 == 0 ? launch_fallback<float, 4>(a, stream) : launch_fallback<float, 1>(a, stream);
    }
};

cudaError_t t5_cuda_encoder_attention(t5_dtype type, const t5_encoder_attention_args *args, t5_cuda_stream stream)
{
    encoder_launch a = {{args->packed->first, args->qkv, args->bias, args->bias_len, args->n_heads, args->ctx},
                        args->d_kv,
                        args->packed->n_seqs,
                        args->packed->len_max};
    return t5_dispatch<launch_encoder>(type, a, stream);
}
