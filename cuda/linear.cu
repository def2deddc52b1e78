/* cuda/linear.cu: y = act(n(x) w^T) [* n(x) w_up^T] [+ y] for few rows, where the time is that of reading w once.
 * rows.cuh says how rows and weights meet.
 *
 * The order of summation of an element depends on d_in alone: warp i of n_warps (from d_in) takes the chunks i,
 * i + n_warps, ... of 32, and the warps' sums are added in their order. Hence results do not depend on n_rows.
 *
 * The norm is taken by each block for all its rows anew: from L2 come 4 bytes an element instead of 2, and a kernel
 * less is in the chain. Rows whose halves exceed a block's shared memory are normalized by a kernel before
 * (performance.md has the sums). */
#include "cuda/dispatch.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/rows.cuh"

static const int CHUNK = T5_ROWS_CHUNK;
static const int TILE_OUT = T5_ROWS_OUT;   /* rows of w of a block */
static const int TILE_ROWS = T5_ROWS_TILE; /* rows of x of an mma */
static const int WARPS_MAX = 8;
static const int ROWS_MAX = 64; /* of a block */

static int warps_for(int d_in)
{
    int n_chunks = (d_in + CHUNK - 1) / CHUNK;
    int n_warps = (n_chunks + 1) / 2;
    return n_warps < WARPS_MAX ? n_warps : WARPS_MAX;
}

/* Floats between the sums of neighbouring rows in shared memory: 4 more than the outputs, so that the stores of an
 * mma's sums (rows 2 t, outputs g) meet no bank twice, nor do the loads of two rows that are 4 apart. */
static const int SUMS_STRIDE = TILE_OUT + 4;

template <int N_TILES> __host__ __device__ constexpr int n_sums()
{
    return N_TILES * TILE_ROWS * SUMS_STRIDE;
}

/* Adds the warps' sums in their order and stores the block's outputs. */
template <class T, int N_TILES, bool IS_GATED>
__device__ __forceinline__ void finish(const t5_cuda_linear_args &args, int first_row, int n_rows,
                                       const float (&sums)[IS_GATED + 1][N_TILES][4], float *shared_sums)
{
    const int N_SUMS = n_sums<N_TILES>();
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
    int n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
#pragma unroll
    for (int u = 0; u <= IS_GATED; u++) {
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            if (n >= n_tiles) break;
            float *to = shared_sums + (warp * (IS_GATED + 1) + u) * N_SUMS +
                        (n * TILE_ROWS + lane % 4 * 2) * SUMS_STRIDE + lane / 4;
            to[0] = sums[u][n][0];
            to[SUMS_STRIDE] = sums[u][n][1];
            to[8] = sums[u][n][2];
            to[SUMS_STRIDE + 8] = sums[u][n][3];
        }
    }
    __syncthreads();
    int first_out = (int)blockIdx.x * TILE_OUT;
    for (int i = (int)threadIdx.x; i < n_tiles * TILE_ROWS * TILE_OUT; i += (int)blockDim.x) {
        int out = i % TILE_OUT, row = i / 128 * 8 + i / 32 % 4 + i / 16 % 2 * 4; /* a warp has rows r and r + 4 */
        if (row >= n_rows || first_out + out >= args.d_out) continue;
        float total = 0.0f, total_up = 0.0f;
        for (int w = 0; w < n_warps; w++) {
            const float *from = shared_sums + w * (IS_GATED + 1) * N_SUMS + row * SUMS_STRIDE + out;
            total += from[0];
            if (IS_GATED) total_up += from[N_SUMS];
        }
        t5_store_product<T>(args, first_row + row, first_out + out, total, total_up);
    }
}

/* A lane's weights of the chunks that are on their way together, of w and of w_up. */
template <class T, int AHEAD, bool IS_GATED> struct weights_ahead {
    t5_weight_rows rows[AHEAD][IS_GATED + 1];

    /* The warp's chunks c, c + n_warps, ...; `at` is the lane's place in w. */
    __device__ __forceinline__ void load(const t5_cuda_linear_args &args, size_t at, int c, int n_chunks)
    {
        int n_warps = (int)blockDim.x / 32;
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            int chunk = c + u * n_warps;
            if (chunk >= n_chunks) break;
#pragma unroll
            for (int i = 0; i <= IS_GATED; i++)
                t5_load_weights((const T *)(i == 0 ? args.w : args.w_up) + at + (size_t)(chunk * CHUNK), args.ld,
                                rows[u][i]);
        }
    }
};

/* x: [n_rows, d_in] T, or float to normalize; w: [d_out, ld] T; y: [n_rows, d_out]
 * Launch: blocks of 16 outputs x 8 N_TILES rows, up to 8 warps that split k. Shared memory: the normalized rows, then
 * the warps' sums in their place. The first weights are on their way before the kernel before has ended.
 * Bytes: w once per 8 N_TILES rows, x once per block (from L2). Memory bound. Twin: ref_linear. */
template <class T, int N_TILES, bool IS_GATED>
__global__ void __launch_bounds__(32 * WARPS_MAX, (N_TILES > 1 ? 2 : 3) - IS_GATED)
    linear_kernel(t5_cuda_linear_args args)
{
    T5_DYNAMIC_SHARED(float, shared);
    const int AHEAD = N_TILES == 1 ? 4 : 2;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
    int first_row = (int)blockIdx.y * N_TILES * TILE_ROWS;
    int n_rows = min(args.n_rows - first_row, N_TILES * TILE_ROWS);
    int n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    int n_chunks = (args.d_in + CHUNK - 1) / CHUNK, stride = t5_staged_stride(args.d_in);
    size_t w_at = (size_t)((int)blockIdx.x * TILE_OUT + lane / 4) * (size_t)args.ld + (size_t)(8 * (lane % 4));
    weights_ahead<T, AHEAD, IS_GATED> w;
    w.load(args, w_at, warp, n_chunks);
    t5_await_previous();
    const T *x = (const T *)args.x + (size_t)first_row * (size_t)args.d_in;
    T *staged = args.norm_gain != NULL ? (T *)shared : NULL;
    if (staged != NULL) {
        const float *rows = (const float *)args.x + (size_t)first_row * (size_t)args.d_in;
        t5_stage_normalized(rows, args.norm_gain, args.norm_eps, args.d_in, n_rows, staged);
        __syncthreads();
    }
    float sums[IS_GATED + 1][N_TILES][4] = {};
    for (int c = warp; c < n_chunks;) {
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            int k = (c + u * n_warps) * CHUNK + 8 * (lane % 4);
            if (c + u * n_warps >= n_chunks) break;
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
                if (n >= n_tiles) break;
                int row = n * TILE_ROWS + lane / 4;
                uint4 v = make_uint4(0, 0, 0, 0);
                if (staged != NULL) {
                    v = t5_load16(staged + t5_staged_at(stride, row, k));
                } else if (row < n_rows) {
                    v = t5_load_x(x, row, k, args.d_in);
                }
#pragma unroll
                for (int i = 0; i <= IS_GATED; i++)
                    t5_multiply_chunk<T>(sums[i][n], w.rows[u][i], v);
            }
        }
        c += AHEAD * n_warps;
        w.load(args, w_at, c, n_chunks);
    }
    if (staged != NULL) __syncthreads(); /* the sums take the place of the rows */
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
    size_t sums_bytes = (size_t)n_warps * (IS_GATED + 1) * (size_t)n_sums<N_TILES>() * sizeof(float);
    int n_staged = args.n_rows < N_TILES * TILE_ROWS ? args.n_rows : N_TILES * TILE_ROWS;
    size_t staged_bytes = args.norm_gain != NULL ? t5_staged_bytes(n_staged, args.d_in) : 0;
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
    return t5_rows_can_be_staged(type, n_rows < ROWS_MAX ? n_rows : ROWS_MAX, d_in);
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
