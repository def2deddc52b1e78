/* cuda/norm.cu: embedding lookup and RMS norm. Memory bound: a few bytes in, a few bytes out, no reuse. */
#include "cuda/dispatch.cuh"
#include "cuda/kernels.h"
#include "cuda/norm.cuh"

static const int WARPS = 4;

/* x[i, :] = table[token i, :]     table: [vocab_size, ld] T, x: [n, d_model] float
 * Launch: a warp per token. Bytes: n * d_model * (sizeof(T) + 4). Twin: ref_embed. */
template <class T> __global__ void __launch_bounds__(32 * WARPS) embed_kernel(t5_cuda_embed_args args)
{
    int i = (int)(blockIdx.x * WARPS + threadIdx.x / 32);
    t5_await_previous();
    if (i >= args.n) return;
    if (args.row != NULL && args.row[i] < 0) return; /* fills a recorded step */
    int token = args.tokens != NULL ? args.tokens[i]
                                    : args.history[(size_t)args.row[i] * (size_t)args.stride + (size_t)args.pos[i]];
    const T *from = (const T *)args.table + (size_t)token * (size_t)args.ld;
    float *to = args.x + (size_t)i * (size_t)args.d_model;
    for (int d = (int)threadIdx.x % 32; d < args.d_model; d += 32)
        to[d] = t5_to_float(from[d]);
}

/* y[r, i] = x[r, i] * rsqrt(mean_i(x[r, i]^2) + eps) * gain[i]     x: [n_rows, d] float, y: [n_rows, d] T
 * Launch: a warp per row, which reads it twice, the second time from the cache. Bytes: n_rows * d * (4 + sizeof(T)).
 * Twin: ref_rms_norm. */
template <class T> __global__ void __launch_bounds__(32 * WARPS) rms_norm_kernel(t5_cuda_norm_args args)
{
    int r = (int)(blockIdx.x * WARPS + threadIdx.x / 32);
    t5_await_previous();
    if (r >= args.n_rows) return;
    const float *x = args.x + (size_t)r * (size_t)args.d;
    T *y = (T *)args.y + (size_t)r * (size_t)args.d;
    float scale = t5_norm_scale(x, args.d, args.eps);
    for (int i = (int)threadIdx.x % 32; i < args.d; i += 32)
        t5_store(&y[i], x[i] * scale * args.gain[i]);
}

static dim3 blocks_of_warps(int n)
{
    return dim3((unsigned)((n + WARPS - 1) / WARPS));
}

template <class T> struct launch_embed {
    static cudaError_t run(const t5_cuda_embed_args &args, t5_cuda_stream stream)
    {
        return T5_LAUNCH(embed_kernel<T>, blocks_of_warps(args.n), dim3(32 * WARPS), 0, stream, args);
    }
};

template <class T> struct launch_rms_norm {
    static cudaError_t run(const t5_cuda_norm_args &args, t5_cuda_stream stream)
    {
        return T5_LAUNCH(rms_norm_kernel<T>, blocks_of_warps(args.n_rows), dim3(32 * WARPS), 0, stream, args);
    }
};

cudaError_t t5_cuda_embed(t5_dtype type, const t5_cuda_embed_args *args, t5_cuda_stream stream)
{
    return t5_dispatch<launch_embed>(type, *args, stream);
}

cudaError_t t5_cuda_rms_norm(t5_dtype type, const t5_cuda_norm_args *args, t5_cuda_stream stream)
{
    return t5_dispatch<launch_rms_norm>(type, *args, stream);
}
