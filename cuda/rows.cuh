/* cuda/rows.cuh: few rows of x against rows of a weight on the tensor cores; shared by linear.cu and head.cu.
 *
 * Weights stay row-major, as cuBLAS wants them too, and go from memory straight into tensor-core registers: the sum
 * over k does not care which k an mma calls which, as long as w and x agree. So lane (g, t) = (l / 4, l % 4) loads 16
 * bytes of rows g and g + 8 of w at k = 32 c + 8 t, four lanes read 64 neighbouring bytes of a row (whole sectors), and
 * these are the operands of two mma. x is the other operand, 8 rows wide, read the same way. */
#pragma once
#include "cuda/kernels.h"
#include "cuda/norm.cuh"

static const int T5_ROWS_CHUNK = 32; /* k of one step of a warp: two mma */
static const int T5_ROWS_OUT = 16;   /* rows of w of an mma */
static const int T5_ROWS_TILE = 8;   /* rows of x of an mma */

static_assert(T5_CUDA_PAD_COLS % T5_ROWS_CHUNK == 0 && T5_CUDA_PAD_ROWS % T5_ROWS_OUT == 0,
              "weights are padded for the tiles");

static __host__ __device__ __forceinline__ int t5_round_up(int n, int multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* ---- normalized rows in shared memory ----
 * Rows are a multiple of 128 bytes long, and the 16-byte pieces of odd rows change places in halves of 64 bytes: the
 * reads of 8 lanes, 4 neighbouring pieces of a row and 4 of the next, meet no bank twice. */

static __host__ __device__ __forceinline__ int t5_staged_stride(int d_in)
{
    return t5_round_up(d_in, 64);
}
static inline size_t t5_staged_bytes(int n_rows, int d_in)
{
    return (size_t)t5_round_up(n_rows, T5_ROWS_TILE) * (size_t)t5_staged_stride(d_in) * sizeof(half);
}
/* Whether a block can keep the rows: compute capabilities 8.6, 8.9 and 12.0 give it 99 KiB. */
static inline bool t5_rows_can_be_staged(t5_dtype type, int n_rows, int d_in)
{
    return type != T5_F32 && t5_staged_bytes(n_rows, d_in) <= (size_t)96 << 10;
}

/* Place of element k of row r. */
static __device__ __forceinline__ int t5_staged_at(int stride, int r, int k)
{
    return r * stride + (k ^ ((r & 1) << 5));
}

/* staged = n(x) of n_rows rows x[n_rows, d], zero past d and in the rows that fill the last tile. A warp per row; the
 * second reading of a row comes from the first-level cache. */
template <class T>
__device__ __forceinline__ void t5_stage_normalized(const float *x, const float *gain, float eps, int d, int n_rows,
                                                    T *staged)
{
    int stride = t5_staged_stride(d), n_staged = t5_round_up(n_rows, T5_ROWS_TILE);
    for (int r = (int)threadIdx.x / 32; r < n_staged; r += (int)blockDim.x / 32) {
        const float *row = x + (size_t)r * (size_t)d;
        float scale = r < n_rows ? t5_norm_scale(row, d, eps) : 0.0f;
        for (int k = (int)threadIdx.x % 32 * 4; k < stride; k += 128) {
            float v[4] = {}, g[4] = {};
            if (r < n_rows) {
                t5_load_four(row, k, d, v);
                t5_load_four(gain, k, d, g);
            }
#pragma unroll
            for (int e = 0; e < 4; e++)
                v[e] = v[e] * scale * g[e]; /* in the order of rms_norm_kernel */
            t5_store_four(staged + t5_staged_at(stride, r, k), v);
        }
    }
}

/* 8 elements of `row` of x[.., d] from k on, zero past d. */
template <class T> __device__ __forceinline__ uint4 t5_load_x(const T *x, int row, int k, int d)
{
    const T *from = x + (size_t)row * (size_t)d;
    if (d % 8 == 0) {
        return k < d ? t5_load16(from + k) : make_uint4(0, 0, 0, 0);
    }
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int at = k + 2 * i;
        words[i] =
            t5_pair<T>::pack(at < d ? t5_to_float(from[at]) : 0.0f, at + 1 < d ? t5_to_float(from[at + 1]) : 0.0f);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* ---- weights ---- */

/* A lane's weights of one chunk: rows g and g + 8. */
struct t5_weight_rows {
    uint4 low, high;
};

/* `from` is the lane's place in row g. */
template <class T> __device__ __forceinline__ void t5_load_weights(const T *from, int ld, t5_weight_rows &w)
{
    w.low = t5_load16(from);
    w.high = t5_load16(from + (size_t)8 * (size_t)ld);
}

/* sums += w x^T over 32 k, x the 8 rows of a tile. */
template <class T>
__device__ __forceinline__ void t5_multiply_chunk(float (&sums)[4], const t5_weight_rows &w, const uint4 &x)
{
    const uint32_t a0[4] = {w.low.x, w.high.x, w.low.y, w.high.y};
    const uint32_t b0[2] = {x.x, x.y};
    const uint32_t a1[4] = {w.low.z, w.high.z, w.low.w, w.high.w};
    const uint32_t b1[2] = {x.z, x.w};
    t5_mma<T>(sums, a0, b0);
    t5_mma<T>(sums, a1, b1);
}
