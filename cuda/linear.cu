/* cuda/linear.cu: y = act(n(x) w^T) [* n(x) w_up^T] [+ y] for few rows, where the time is that of reading w once.
 *
 * Weights stay row-major, as cuBLAS wants them too, and go from memory straight into tensor-core registers: the sum
 * over k does not care which k an mma calls which, as long as w and x agree. So lane (g, t) = (l / 4, l % 4) loads 16
 * bytes of rows g and g + 8 of w at k = 32 c + 8 t, four lanes read 64 neighbouring bytes of a row (whole sectors), and
 * these are the operands of two mma. x is the other operand, 8 rows wide, read the same way.
 *
 * The order of summation of an element depends on d_in alone: warp i of n_warps (from d_in) takes the chunks i,
 * i + n_warps, ... of 32, and the warps' sums are added in their order. Hence results do not depend on n_rows. */
#include "cuda/dispatch.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/norm.cuh"

static const int CHUNK = 32;    /* k of one step of a warp: two mma */
static const int TILE_OUT = 16; /* rows of w of a block */
static const int TILE_ROWS = 8; /* rows of x of an mma */
static const int WARPS_MAX = 8;
static const int FUSED_NORM_BYTES_MAX = 96 << 10;

static_assert(T5_CUDA_PAD_COLS % CHUNK == 0 && T5_CUDA_PAD_ROWS % TILE_OUT == 0, "weights are padded for the tiles");

/* Elements between rows of the normalized x in shared memory: 64 bytes more than a multiple of 128, so that the 16-byte
 * reads of 8 lanes (4 of a row, 4 of the next) meet no bank twice. */
static __host__ __device__ int staged_stride(int d_in)
{
    return (d_in + 63) / 64 * 64 + 32;
}

static int warps_for(int d_in)
{
    int n_chunks = (d_in + CHUNK - 1) / CHUNK;
    int n_warps = (n_chunks + 1) / 2;
    return n_warps < WARPS_MAX ? n_warps : WARPS_MAX;
}

/* Floats between the sums of neighbouring outputs in shared memory; odd, so that a column meets each bank once. */
template <int N_TILES> __host__ __device__ constexpr int sums_stride()
{
    return N_TILES * TILE_ROWS + 1;
}

/* n(x) of the block's rows as T in shared memory, zero past d_in and past n_rows. A warp per row. */
template <class T>
__device__ __forceinline__ void stage_normalized(const t5_cuda_linear_args &args, int first_row, int n_rows, T *staged)
{
    int stride = staged_stride(args.d_in);
    int lane = (int)threadIdx.x % 32;
    for (int r = (int)threadIdx.x / 32; r < TILE_ROWS; r += (int)blockDim.x / 32) {
        const float *x = (const float *)args.x + (size_t)(first_row + r) * (size_t)args.d_in;
        float scale = r < n_rows ? t5_norm_scale(x, args.d_in, args.norm_eps) : 0.0f;
        for (int i = lane; i < stride; i += 32)
            t5_store(&staged[r * stride + i], r < n_rows && i < args.d_in ? x[i] * scale * args.norm_gain[i] : 0.0f);
    }
}

/* 8 elements of row `x` from k on, zero past d_in. */
template <class T> __device__ __forceinline__ uint4 load_x(const T *x, int k, int d_in)
{
    if (d_in % 8 == 0) {
        return k < d_in ? t5_load16(x + k) : make_uint4(0, 0, 0, 0);
    }
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int at = k + 2 * i;
        words[i] =
            t5_pair<T>::pack(at < d_in ? t5_to_float(x[at]) : 0.0f, at + 1 < d_in ? t5_to_float(x[at + 1]) : 0.0f);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* sums += w x^T over 32 k: `low` and `high` are rows g and g + 8 of w, x the 8 rows of a tile. */
template <class T>
__device__ __forceinline__ void multiply_chunk(float (&sums)[4], const uint4 &low, const uint4 &high, const uint4 &x)
{
    const uint32_t a0[4] = {low.x, high.x, low.y, high.y};
    const uint32_t b0[2] = {x.x, x.y};
    const uint32_t a1[4] = {low.z, high.z, low.w, high.w};
    const uint32_t b1[2] = {x.z, x.w};
    t5_mma<T>(sums, a0, b0);
    t5_mma<T>(sums, a1, b1);
}

/* A lane's weights of one chunk: rows g and g + 8 of w, and of w_up. */
template <bool IS_GATED> struct weight_fragment {
    uint4 low[IS_GATED + 1], high[IS_GATED + 1];
};

template <class T, bool IS_GATED>
__device__ __forceinline__ void load_weights(const t5_cuda_linear_args &args, size_t at, weight_fragment<IS_GATED> &w)
{
    size_t eight_rows = (size_t)8 * (size_t)args.ld;
#pragma unroll
    for (int i = 0; i <= IS_GATED; i++) {
        const T *from = (const T *)(i == 0 ? args.w : args.w_up) + at;
        w.low[i] = t5_load16(from);
        w.high[i] = t5_load16(from + eight_rows);
    }
}

/* Adds the warps' sums in their order and stores the block's outputs. */
template <class T, int N_TILES, bool IS_GATED>
__device__ __forceinline__ void finish(const t5_cuda_linear_args &args, int first_row, int n_rows,
                                       const float (&sums)[IS_GATED + 1][N_TILES][4], float *shared_sums)
{
    const int STRIDE = sums_stride<N_TILES>();
    const int N_SUMS = TILE_OUT * STRIDE;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
    int n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
#pragma unroll
    for (int u = 0; u <= IS_GATED; u++) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            if (n >= n_tiles) break;
            float *to = shared_sums + (warp * (IS_GATED + 1) + u) * N_SUMS + lane / 4 * STRIDE + n * 8 + lane % 4 * 2;
            to[0] = sums[u][n][0];
            to[1] = sums[u][n][1];
            to[8 * STRIDE] = sums[u][n][2];
            to[8 * STRIDE + 1] = sums[u][n][3];
        }
    }
    __syncthreads();
    int first_out = (int)blockIdx.x * TILE_OUT;
    for (int i = (int)threadIdx.x; i < TILE_OUT * n_rows; i += (int)blockDim.x) {
        int out = i % TILE_OUT, row = i / TILE_OUT;
        if (first_out + out >= args.d_out) continue;
        float total = 0.0f, total_up = 0.0f;
        for (int w = 0; w < n_warps; w++) {
            const float *from = shared_sums + w * (IS_GATED + 1) * N_SUMS + out * STRIDE + row;
            total += from[0];
            if (IS_GATED) total_up += from[N_SUMS];
        }
        t5_store_product<T>(args, first_row + row, first_out + out, total, total_up);
    }
}

/* x: [n_rows, d_in] T, or float to normalize; w: [d_out, ld] T; y: [n_rows, d_out]
 * Launch: blocks of 16 outputs x 8 N_TILES rows, up to 8 warps that split k. Shared memory: the normalized rows
 * (N_TILES 1 only), then the warps' sums in their place.
 * Bytes: w once per 8 N_TILES rows, x once per block (from L2). Memory bound. Twin: ref_linear. */
template <class T, int N_TILES, bool IS_GATED>
__global__ void __launch_bounds__(32 * WARPS_MAX) linear_kernel(t5_cuda_linear_args args)
{
    T5_DYNAMIC_SHARED(float, shared);
    const int AHEAD = N_TILES == 1 ? 4 : 2; /* chunks whose weights are on their way together */
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
    int g = lane / 4, t = lane % 4;
    int first_row = (int)blockIdx.y * N_TILES * TILE_ROWS;
    int n_rows = min(args.n_rows - first_row, N_TILES * TILE_ROWS);
    int n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    t5_await_previous();
    const T *x = (const T *)args.x + (size_t)first_row * (size_t)args.d_in;
    int x_stride = args.d_in, x_len = args.d_in;
    bool is_fused = N_TILES == 1 && args.norm_gain != NULL;
    if (is_fused) {
        stage_normalized<T>(args, first_row, n_rows, (T *)shared);
        __syncthreads();
        x = (const T *)shared;
        x_stride = x_len = staged_stride(args.d_in);
    }
    size_t w_at = (size_t)((int)blockIdx.x * TILE_OUT + g) * (size_t)args.ld + (size_t)(8 * t);
    float sums[IS_GATED + 1][N_TILES][4] = {};
    int n_chunks = (args.d_in + CHUNK - 1) / CHUNK;
    for (int c = warp; c < n_chunks; c += n_warps * AHEAD) {
        weight_fragment<IS_GATED> w[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (c + u * n_warps < n_chunks) load_weights<T>(args, w_at + (size_t)((c + u * n_warps) * CHUNK), w[u]);
        }
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            int k = (c + u * n_warps) * CHUNK;
            if (k >= args.d_in) break;
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
                if (n >= n_tiles) break;
                int row = n * TILE_ROWS + g;
                uint4 v = make_uint4(0, 0, 0, 0);
                if (row < n_rows || is_fused) v = load_x(x + (size_t)row * (size_t)x_stride, k + 8 * t, x_len);
#pragma unroll
                for (int i = 0; i <= IS_GATED; i++)
                    multiply_chunk<T>(sums[i][n], w[u].low[i], w[u].high[i], v);
            }
        }
    }
    if (is_fused) __syncthreads(); /* the sums take the place of the rows */
    finish<T, N_TILES, IS_GATED>(args, first_row, n_rows, sums, shared);
}

/* The same in float, without tensor cores: for exact comparison, not for speed.
 * Launch: blocks of 16 outputs x 8 rows, a thread for each; sums over k one after the other. */
__global__ void __launch_bounds__(TILE_OUT *TILE_ROWS) linear_f32_kernel(t5_cuda_linear_args args)
{
    int row = (int)(blockIdx.y * TILE_ROWS + threadIdx.x / TILE_OUT);
    int out = (int)(blockIdx.x * TILE_OUT + threadIdx.x % TILE_OUT);
    t5_await_previous();
    if (row >= args.n_rows || out >= args.d_out) return;
    const float *x = (const float *)args.x + (size_t)row * (size_t)args.d_in;
    const float *w = (const float *)args.w + (size_t)out * (size_t)args.ld;
    const float *w_up = args.w_up != NULL ? (const float *)args.w_up + (size_t)out * (size_t)args.ld : w;
    float sum = 0.0f, sum_up = 0.0f;
    for (int k = 0; k < args.d_in; k++) {
        sum += x[k] * w[k];
        if (args.w_up != NULL) sum_up += x[k] * w_up[k];
    }
    t5_store_product<float>(args, row, out, sum, sum_up);
}

/* y[i] = act(gate[i]) * up[i] * y_scale     gate, up: [n] float, y: [n] T
 * Launch: a thread per element. Bytes: n * (4 or 8 + sizeof(T)). */
template <class T>
__global__ void __launch_bounds__(256)
    activate_kernel(const float *gate, const float *up, int has_act, t5_act act, float y_scale, size_t n, T *y)
{
    size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
    t5_await_previous();
    if (i >= n) return;
    float value = has_act ? t5_activate(act, gate[i]) : gate[i];
    if (up != NULL) value *= up[i];
    t5_store(&y[i], value * y_scale);
}

/* Instantiations: {half, bfloat16} x {8, 64 rows} x {plain, gated}. */
template <class T, int N_TILES, bool IS_GATED>
static cudaError_t launch_linear_tiles(const t5_cuda_linear_args &args, t5_cuda_stream stream)
{
    int n_warps = warps_for(args.d_in);
    size_t sums_bytes = (size_t)n_warps * (IS_GATED + 1) * TILE_OUT * (size_t)sums_stride<N_TILES>() * sizeof(float);
    size_t staged_bytes = args.norm_gain != NULL ? (size_t)TILE_ROWS * (size_t)staged_stride(args.d_in) * sizeof(T) : 0;
    size_t shared_bytes = sums_bytes > staged_bytes ? sums_bytes : staged_bytes;
    cudaError_t error = t5_allow_shared(linear_kernel<T, N_TILES, IS_GATED>, shared_bytes);
    if (error != cudaSuccess) return error;
    unsigned n_blocks = (unsigned)((args.d_out + TILE_OUT - 1) / TILE_OUT);
    unsigned n_row_blocks = (unsigned)((args.n_rows + N_TILES * TILE_ROWS - 1) / (N_TILES * TILE_ROWS));
    return T5_LAUNCH((linear_kernel<T, N_TILES, IS_GATED>), dim3(n_blocks, n_row_blocks), dim3(32 * (unsigned)n_warps),
                     shared_bytes, stream, args);
}

template <class T> struct launch_linear {
    static cudaError_t run(const t5_cuda_linear_args &args, t5_cuda_stream stream)
    {
        bool is_gated = args.w_up != NULL;
        if (args.n_rows <= TILE_ROWS) {
            return is_gated ? launch_linear_tiles<T, 1, true>(args, stream)
                            : launch_linear_tiles<T, 1, false>(args, stream);
        }
        return is_gated ? launch_linear_tiles<T, 8, true>(args, stream)
                        : launch_linear_tiles<T, 8, false>(args, stream);
    }
};

template <> struct launch_linear<float> {
    static cudaError_t run(const t5_cuda_linear_args &args, t5_cuda_stream stream)
    {
        dim3 grid((unsigned)((args.d_out + TILE_OUT - 1) / TILE_OUT),
                  (unsigned)((args.n_rows + TILE_ROWS - 1) / TILE_ROWS));
        return T5_LAUNCH(linear_f32_kernel, grid, dim3(TILE_OUT * TILE_ROWS), 0, stream, args);
    }
};

bool t5_cuda_linear_normalizes(t5_dtype type, int32_t n_rows, int32_t d_in)
{
    return type != T5_F32 && n_rows <= TILE_ROWS &&
           TILE_ROWS * staged_stride(d_in) * (int)sizeof(half) <= FUSED_NORM_BYTES_MAX;
}

cudaError_t t5_cuda_linear(t5_dtype type, const t5_cuda_linear_args *args, t5_cuda_stream stream)
{
    return t5_dispatch<launch_linear>(type, *args, stream);
}

struct activate_args {
    const float *gate, *up;
    int32_t has_act;
    t5_act act;
    float y_scale;
    size_t n;
    void *y;
};

template <class T> struct launch_activate {
    static cudaError_t run(const activate_args &a, t5_cuda_stream stream)
    {
        dim3 grid((unsigned)((a.n + 255) / 256));
        return T5_LAUNCH(activate_kernel<T>, grid, dim3(256), 0, stream, a.gate, a.up, a.has_act, a.act, a.y_scale, a.n,
                         (T *)a.y);
    }
};

cudaError_t t5_cuda_activate(t5_dtype type, const float *gate, const float *up, int32_t has_act, t5_act act,
                             float y_scale, size_t n, void *y, t5_cuda_stream stream)
{
    activate_args args = {gate, up, has_act, act, y_scale, n, y};
    return t5_dispatch<launch_activate>(type, args, stream);
}
