/* bench/exp/exp_head.cu: experiment 6, the head and what chooses from it: the real step with the fused head against one
 * that writes all logits first, at 1 to 256 rows and with beams; and a screen of the vocabulary in int8 whose bounds
 * prove which words can be the best, so that few rows of the half-precision head are read. */
#include "bench/exp/w8.cuh"
#include "bench/gpu_load.h"
#include "cuda/cuda_backend.h"
#include "cuda/keys.cuh"

#include <vector>

/* ---- the real step ---- */

static t5_status time_heads(exp_rig *rig, gpu_load *load, bool is_fused, t5_error *err)
{
    t5_status status = T5_OK;
    static const int loads[][2] = {{1, 1}, {8, 1}, {64, 1}, {256, 1}, {1, 4}, {8, 4}, {32, 4}};
    for (const int(&n)[2] : loads) {
        gpu_step_time t;
        if (rig->is_rehearsal && n[0] * n[1] > 8) continue;
        T5_TRY(gpu_load_time_steps(load, n[0], n[1], &t, err));
        exp_line(rig, "\"head\":\"%s\",\"sources\":%d,\"beams\":%d,\"us_a_step\":%.2f",
                 is_fused ? "fused" : "all logits", n[0], n[1], t.ms * 1e3);
    }
out:
    return status;
}

static t5_status run_step(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_options options = {};
    t5_backend *backend = nullptr;
    t5_backend_ops apart;
    gpu_load load = {};
    options.type = T5_F16;
    if (rig->model_dir == nullptr) return T5_FAIL(err, T5_ERR_ARG, "--model DIR is missing");
    T5_TRY(t5_cuda_create(&options, &backend, err));
    T5_TRY(
        gpu_load_open(&load, rig->model_dir, backend, exp_choose(rig, GPU_LOAD_ROWS_MAX, 32), rig->is_rehearsal, err));
    T5_TRY(time_heads(rig, &load, true, err));
    T5_TRY(t5_cuda_wait_all(t5_cuda_of(backend), err));
    t5_cuda_drop_graphs(t5_cuda_of(backend));
    apart = *backend->ops;
    apart.head_search = nullptr;
    backend->ops = &apart;
    T5_TRY(time_heads(rig, &load, false, err));
out:
    gpu_load_close(&load);
    if (backend != nullptr) backend->ops->destroy(backend);
    return status;
}

/* ---- the screen ---- */

enum { RESCORE_WARPS = 4 };

struct screen_args {
    const half *w;       /* [vocab_size, d] */
    const float *approx; /* [n_rows, vocab_size] of int8 weights */
    const float *scale;  /* [vocab_size] a step of int8 */
    const half *x;       /* [n_rows, d] */
    int d, vocab_size;
    unsigned long long *bound; /* [n_rows] key of the largest lower bound; zero before */
    unsigned long long *best;  /* [n_rows] key of the best word; zero before */
    unsigned *n_rescored;
};

/* Sum of |x| of a row, by one warp: an int8 weight is off by half a step at most, so a score by scale / 2 times it. The
 * last factor covers the rounding of the float sums. */
static __device__ __forceinline__ float error_of(const screen_args &a, int row)
{
    float sum = 0.0f;
    for (int k = (int)threadIdx.x % 32; k < a.d; k += 32)
        sum += fabsf(t5_to_float(a.x[(size_t)row * (size_t)a.d + (size_t)k]));
    return t5_warp_sum(sum) * 0.5f * 1.01f;
}

/* bound[row] = the best that some word reaches for certain. Launch: a block a row and 1024 words. */
static __global__ void __launch_bounds__(32 * RESCORE_WARPS) bound_kernel(screen_args a)
{
    int row = (int)blockIdx.y, n = min(a.vocab_size, ((int)blockIdx.x + 1) * 1024);
    float error = error_of(a, row);
    t5_key best = 0;
    for (int v = (int)blockIdx.x * 1024 + (int)threadIdx.x; v < n; v += (int)blockDim.x) {
        t5_key key = t5_key_of(a.approx[(size_t)row * (size_t)a.vocab_size + (size_t)v] - error * a.scale[v], v);
        best = key > best ? key : best;
    }
    best = t5_warp_max_key(best);
    if (threadIdx.x % 32 == 0) exp_max(&a.bound[row], best);
}

/* best[row]: the words whose upper bound reaches the row's lower bound, computed with the weights in half. A warp a
 * word. Launch: a block a row and 1024 words. */
static __global__ void __launch_bounds__(32 * RESCORE_WARPS) rescore_kernel(screen_args a)
{
    int row = (int)blockIdx.y, lane = (int)threadIdx.x % 32, n = min(a.vocab_size, ((int)blockIdx.x + 1) * 1024);
    float error = error_of(a, row);
    for (int v = (int)blockIdx.x * 1024 + (int)threadIdx.x / 32; v < n; v += RESCORE_WARPS) {
        float upper = a.approx[(size_t)row * (size_t)a.vocab_size + (size_t)v] + error * a.scale[v];
        if (t5_key_of(upper, 0) < a.bound[row]) continue;
        float sum = 0.0f;
        for (int k = lane; k < a.d; k += 32)
            sum += t5_to_float(a.w[(size_t)v * (size_t)a.d + (size_t)k]) *
                   t5_to_float(a.x[(size_t)row * (size_t)a.d + (size_t)k]);
        sum = t5_warp_sum(sum);
        if (lane == 0) {
            exp_max(&a.best[row], t5_key_of(sum, v));
            atomicAdd(a.n_rescored, 1u);
        }
    }
}

struct screen {
    screen_args args;
    uint8_t *w8;
    int n_rows;
};

static t5_status run_screens(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const screen *s = (const screen *)ctx;
    const screen_args &a = s->args;
    exp_w8_args product = {s->w8, a.scale, a.x, s->n_rows, a.d, a.vocab_size, (float *)a.approx, nullptr};
    dim3 grid((unsigned)((a.vocab_size + 1023) / 1024), (unsigned)s->n_rows);
    size_t key_bytes = (size_t)s->n_rows * sizeof(*a.best);
    for (int i = 0; i < n; i++) {
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(a.bound, 0, key_bytes, stream)));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(a.best, 0, key_bytes, stream)));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(a.n_rescored, 0, sizeof(unsigned), stream)));
        T5_TRY(T5_CUDA(err, exp_w8_launch<EXP_INT8>(product, stream)));
        T5_TRY(T5_CUDA(err, EXP_LAUNCH(bound_kernel, grid, dim3(32 * RESCORE_WARPS), 0, stream, exp_how{}, a)));
        T5_TRY(T5_CUDA(err, EXP_LAUNCH(rescore_kernel, grid, dim3(32 * RESCORE_WARPS), 0, stream, exp_how{}, a)));
    }
out:
    return status;
}

static t5_status make_screen(exp_rig *rig, screen *s, const std::vector<half> &w, const std::vector<half> &x,
                             t5_error *err)
{
    t5_status status = T5_OK;
    size_t d = (size_t)s->args.d, n = (size_t)s->args.vocab_size, n_rows = x.size() / d;
    std::vector<uint8_t> w8(w.size());
    std::vector<float> scale(n);
    for (size_t v = 0; v < n; v++) {
        float top = 0.0f;
        for (size_t k = 0; k < d; k++)
            top = fmaxf(top, fabsf(__half2float(w[v * d + k])));
        scale[v] = top / 127.0f;
        for (size_t k = 0; k < d; k++)
            w8[v * d + k] = (uint8_t)(int)(roundf(__half2float(w[v * d + k]) / scale[v]) + 128.0f);
    }
    T5_TRY(exp_upload(rig, w.data(), w.size() * sizeof(half), (void **)&s->args.w, err));
    T5_TRY(exp_upload(rig, w8.data(), w8.size(), (void **)&s->w8, err));
    T5_TRY(exp_upload(rig, scale.data(), n * sizeof(float), (void **)&s->args.scale, err));
    T5_TRY(exp_upload(rig, x.data(), x.size() * sizeof(half), (void **)&s->args.x, err));
    T5_TRY(exp_alloc(rig, n_rows * n * sizeof(float), (void **)&s->args.approx, err));
    T5_TRY(exp_alloc(rig, n_rows * sizeof(*s->args.bound), (void **)&s->args.bound, err));
    T5_TRY(exp_alloc(rig, n_rows * sizeof(*s->args.best), (void **)&s->args.best, err));
    T5_TRY(exp_alloc(rig, sizeof(unsigned), (void **)&s->args.n_rescored, err));
out:
    return status;
}

/* The first row's best word against plain loops; ties and near ties of random numbers are not to be expected. */
static t5_status check_screen(exp_rig *rig, screen *s, const std::vector<half> &w, const std::vector<half> &x,
                              unsigned *out_rescored, t5_error *err)
{
    t5_status status = T5_OK;
    unsigned long long best = 0;
    size_t d = (size_t)s->args.d, expected = 0;
    double top = -1e30;
    for (size_t v = 0; v < w.size() / d; v++) {
        double sum = 0.0;
        for (size_t k = 0; k < d; k++)
            sum += (double)__half2float(w[v * d + k]) * (double)__half2float(x[k]);
        if (sum > top) expected = v;
        if (sum > top) top = sum;
    }
    T5_TRY(run_screens(s, 1, rig->stream, err));
    T5_TRY(exp_download(rig, &best, s->args.best, sizeof best, err));
    T5_TRY(exp_download(rig, out_rescored, s->args.n_rescored, sizeof *out_rescored, err));
    if (0xffffffffu - (unsigned)best != (unsigned)expected)
        status =
            T5_FAIL(err, T5_ERR_FORMAT, "wrong result: word %u, expected %zu", 0xffffffffu - (unsigned)best, expected);
out:
    return status;
}

static t5_status run_screen(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    screen s = {};
    s.args.d = exp_choose(rig, 512, 64);
    s.args.vocab_size = exp_choose(rig, 32128, 2064);
    size_t d = (size_t)s.args.d;
    std::vector<half> w((size_t)s.args.vocab_size * d), x(256 * d);
    for (size_t i = 0; i < w.size(); i++)
        w[i] = __float2half_rn(exp_random(i, 1));
    for (size_t i = 0; i < x.size(); i++)
        x[i] = __float2half_rn(exp_random(i, 2));
    T5_TRY(make_screen(rig, &s, w, x, err));
    for (int n_rows : {1, 8, 64, 256}) {
        double us = 0.0;
        unsigned n_rescored = 0;
        if (rig->is_rehearsal && n_rows > 8) break;
        s.n_rows = n_rows;
        T5_TRY(check_screen(rig, &s, w, x, &n_rescored, err));
        T5_TRY(exp_time_graph(rig, run_screens, &s, exp_choose(rig, 16, 1), &us, err));
        exp_line(rig, "\"rows\":%d,\"rescored_a_row\":%.1f,\"us\":%.2f", n_rows, (double)n_rescored / n_rows,
                 us / exp_choose(rig, 16, 1));
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {{"step", "the step of --model with each head", run_step},
                                     {"screen", "int8 screen and exact rescoring, T5-small's head", run_screen}};
    exp_setup();
    return exp_main(argc, argv, 6, cases, T5_COUNT(cases));
}
