/* bench/exp/w8.cuh: products of few rows with weights of 8 bits: int8, or fp8 (e4m3) without scaling of the
 * activations. Arithmetic as in cuda/linear.cu: half operands on tensor cores, float sums, an order of summation that
 * depends on the weight's shape alone. */
#pragma once
#include "bench/exp/device.cuh"

enum exp_w8_kind { EXP_INT8, EXP_FP8 };
enum { EXP_W8_WARPS = 4, EXP_W8_TILE_OUT = 16, EXP_W8_TILE_ROWS = 8, EXP_W8_CHUNK = 64 };

struct exp_w8_args {
    const uint8_t *w;        /* [d_out, d_in]; int8 is stored plus 128 */
    const float *scale;      /* [d_out] */
    const half *x;           /* [n_rows, d_in] */
    int n_rows, d_in, d_out; /* d_in a multiple of 64, d_out of 16 */
    float *y;                /* [n_rows, d_out] or NULL */
    half *y16;               /* the same as half, or NULL */
};

/* What a stored byte stands for; for fp8 times 2^-8, which the caller's scale undoes. */
template <exp_w8_kind KIND> static inline float exp_w8_value(uint8_t byte)
{
    if (KIND == EXP_INT8) return (float)byte - 128.0f;
    float sign = (byte & 0x80) != 0 ? -1.0f : 1.0f;
    int exponent = byte >> 3 & 15, fraction = byte & 7;
    float scale = exponent > 0 ? (float)(8 + fraction) * (float)(1 << (exponent - 1)) : (float)fraction;
    return sign * scale * 0x1p-17f;
}

/* The two bytes of `word` from bit 16 * `i` on as two halves. */
template <exp_w8_kind KIND> __device__ __forceinline__ uint32_t exp_w8_pair(uint32_t word, int i)
{
    uint32_t low = word >> (16 * i) & 0xff, high = word >> (16 * i + 8) & 0xff;
    if (KIND == EXP_FP8) { /* e4m3's exponent and fraction are the top of half's */
        uint32_t bits = low << 8 | high << 24;
        return (bits & 0x80008000u) | (bits & 0x7f007f00u) >> 1;
    }
#ifdef EXP_ON_FIBERS
    return t5_pair<half>::pack((float)low - 128.0f, (float)high - 128.0f);
#else
    uint32_t biased = low | high << 16 | 0x64006400u; /* 1024 + byte */
    half2 value, bias;
    uint32_t bias_bits = 0x64806480u; /* 1024 + 128 */
    memcpy(&value, &biased, sizeof value);
    memcpy(&bias, &bias_bits, sizeof bias);
    value = __hsub2(value, bias);
    memcpy(&biased, &value, sizeof biased);
    return biased;
#endif
}

/* A lane's weights of one chunk: rows g and g + 8 of a tile of 16 outputs. */
struct exp_w8_rows {
    uint4 low, high;
};
static __device__ __forceinline__ exp_w8_rows exp_w8_load(const exp_w8_args &a, int tile, int k)
{
    int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    const uint8_t *w = a.w + (size_t)(tile * EXP_W8_TILE_OUT + g) * (size_t)a.d_in + k + 16 * t;
    return {t5_load16(w), t5_load16(w + (size_t)8 * (size_t)a.d_in)};
}

/* sums += the chunk at k of the rows from first_row on. */
template <exp_w8_kind KIND>
static __device__ __forceinline__ void exp_w8_multiply(const exp_w8_args &a, const exp_w8_rows &w, int first_row, int k,
                                                       float (&sums)[4])
{
    int row = first_row + (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    uint4 x[2] = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row < a.n_rows) x[i] = t5_load16(a.x + (size_t)row * (size_t)a.d_in + k + 16 * t + 8 * i);
    }
    const uint32_t low_words[4] = {w.low.x, w.low.y, w.low.z, w.low.w};
    const uint32_t high_words[4] = {w.high.x, w.high.y, w.high.z, w.high.w};
    const uint32_t x_words[8] = {x[0].x, x[0].y, x[0].z, x[0].w, x[1].x, x[1].y, x[1].z, x[1].w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t w_regs[4] = {exp_w8_pair<KIND>(low_words[i], 0), exp_w8_pair<KIND>(high_words[i], 0),
                                    exp_w8_pair<KIND>(low_words[i], 1), exp_w8_pair<KIND>(high_words[i], 1)};
        const uint32_t x_regs[2] = {x_words[2 * i], x_words[2 * i + 1]};
        t5_mma<half>(sums, w_regs, x_regs);
    }
}

/* Adds the warps' sums in their order and stores the tile. Every thread of the block; s_sums is free after a barrier.
 */
typedef float exp_w8_sums[EXP_W8_WARPS][EXP_W8_TILE_OUT][EXP_W8_TILE_ROWS + 1];
static __device__ __forceinline__ void exp_w8_finish(const exp_w8_args &a, int tile, int first_row,
                                                     const float (&sums)[4], exp_w8_sums &s_sums)
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    for (int i = 0; i < 4; i++)
        s_sums[warp][lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2] = sums[i];
    __syncthreads();
    int out = (int)threadIdx.x % EXP_W8_TILE_OUT, r = (int)threadIdx.x / EXP_W8_TILE_OUT;
    if (first_row + r >= a.n_rows) return;
    float total = 0.0f;
    for (int i = 0; i < EXP_W8_WARPS; i++)
        total += s_sums[i][out][r];
    int col = tile * EXP_W8_TILE_OUT + out;
    size_t at = (size_t)(first_row + r) * (size_t)a.d_out + (size_t)col;
    total *= a.scale[col];
    if (a.y != nullptr) a.y[at] = total;
    if (a.y16 != nullptr) t5_store(&a.y16[at], total);
}

/* Launch: blocks of 16 outputs x 8 rows, 4 warps that split k. Bytes: w once for each 8 rows. Memory bound. */
template <exp_w8_kind KIND> static __global__ void __launch_bounds__(32 * EXP_W8_WARPS) exp_w8_kernel(exp_w8_args a)
{
    T5_SHARED(float, s_sums, [EXP_W8_WARPS][EXP_W8_TILE_OUT][EXP_W8_TILE_ROWS + 1]);
    int warp = (int)threadIdx.x / 32, tile = (int)blockIdx.x, first_row = (int)blockIdx.y * EXP_W8_TILE_ROWS;
    float sums[4] = {};
    for (int k = warp * EXP_W8_CHUNK; k < a.d_in; k += EXP_W8_WARPS * EXP_W8_CHUNK)
        exp_w8_multiply<KIND>(a, exp_w8_load(a, tile, k), first_row, k, sums);
    exp_w8_finish(a, tile, first_row, sums, s_sums);
}

template <exp_w8_kind KIND> static inline cudaError_t exp_w8_launch(const exp_w8_args &a, cudaStream_t stream)
{
    dim3 grid((unsigned)(a.d_out / EXP_W8_TILE_OUT), (unsigned)((a.n_rows + EXP_W8_TILE_ROWS - 1) / EXP_W8_TILE_ROWS));
    return EXP_LAUNCH((exp_w8_kernel<KIND>), grid, dim3(32 * EXP_W8_WARPS), 0, stream, exp_how{}, a);
}

/* A random number in [-1, 1), the same for the same index. */
static inline float exp_random(size_t i, unsigned seed)
{
    uint64_t x = ((uint64_t)i + 1) * 6364136223846793005u + seed * 1442695040888963407u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 32;
    return (float)(x & 0xffff) / 32768.0f - 1.0f;
}
