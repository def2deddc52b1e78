/* bench/exp/exp_gemm.cu: experiment 4, products of few rows on T5's shapes: the backend's own kernel with its fixed
 * order of summation, every algorithm that cuBLASLt offers, and weights of 8 bits. It decides from how many rows on the
 * library is used, and what results that do not depend on the batch cost. Weights rotate among copies of more than the
 * L2 cache together, as the layers of a step do. */
#include "bench/exp/lt.h"
#include "bench/exp/w8.cuh"
#include "cuda/kernels.h"

#include <vector>

struct shape {
    const char *name;
    int d_out, d_in;
};
static const shape shapes[] = {{"small qkv", 1536, 512}, {"small o", 512, 512},    {"small wi", 2048, 512},
                               {"small wo", 512, 2048},  {"base qkv", 2304, 768},  {"base o", 768, 768},
                               {"base wi", 3072, 768},   {"base wo", 768, 3072},   {"large qkv", 3072, 1024},
                               {"large o", 1024, 1024},  {"large wi", 4096, 1024}, {"large wo", 1024, 4096}};
static const int row_counts[] = {1, 8, 16, 32, 64, 128, 256};
enum { ROWS_MAX = 256, N_RUNS = 32, ROTATION_BYTES = 192 << 20 };

/* One shape on the device; `expected` is [rows][d_out] of the first copy. */
struct product {
    shape s;
    int n_rows, n_copies;
    char *w, *w8; /* [n_copies] weights, half and 8 bits */
    float *scale;
    half *x, *y;
    float *y32;
    exp_w8_kind kind;
    exp_lt *lt;
    int i_algo;
    std::vector<float> x_host, w_host, expected;
};

static t5_status run_own(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const product *p = (const product *)ctx;
    t5_cuda_linear_args args = {};
    args.x = p->x;
    args.n_rows = p->n_rows;
    args.d_in = args.ld = p->s.d_in;
    args.d_out = p->s.d_out;
    args.x_scale = args.y_scale = 1.0f;
    args.output = T5_CUDA_STORE;
    args.y = p->y;
    for (int i = 0; i < n && status == T5_OK; i++) {
        args.w = p->w + (size_t)(i % p->n_copies) * (size_t)(2 * p->s.d_out) * (size_t)p->s.d_in;
        status = T5_CUDA(err, t5_cuda_linear(T5_F16, &args, {stream, false}));
    }
    return status;
}

static t5_status run_w8(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const product *p = (const product *)ctx;
    for (int i = 0; i < n && status == T5_OK; i++) {
        const uint8_t *w = (const uint8_t *)p->w8 + (size_t)(i % p->n_copies) * (size_t)p->s.d_out * (size_t)p->s.d_in;
        exp_w8_args args = {w, p->scale, p->x, p->n_rows, p->s.d_in, p->s.d_out, p->y32, nullptr};
        status = T5_CUDA(err, p->kind == EXP_INT8 ? exp_w8_launch<EXP_INT8>(args, stream)
                                                  : exp_w8_launch<EXP_FP8>(args, stream));
    }
    return status;
}

static t5_status run_lt(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const product *p = (const product *)ctx;
    for (int i = 0; i < n && status == T5_OK; i++) {
        const char *w = p->w + (size_t)(i % p->n_copies) * (size_t)(2 * p->s.d_out) * (size_t)p->s.d_in;
        status = exp_lt_run(p->lt, p->i_algo, w, p->x, p->y, stream, err);
    }
    return status;
}

/* y = x w^T as plain loops, for the rows of p. */
static void expect(product *p)
{
    size_t d_in = (size_t)p->s.d_in, d_out = (size_t)p->s.d_out;
    p->expected.assign((size_t)p->n_rows * d_out, 0.0f);
    for (size_t r = 0; r < (size_t)p->n_rows; r++) {
        for (size_t o = 0; o < d_out; o++) {
            double sum = 0.0;
            for (size_t k = 0; k < d_in; k++)
                sum += (double)p->x_host[r * d_in + k] * (double)p->w_host[o * d_in + k];
            p->expected[r * d_out + o] = (float)sum;
        }
    }
}

static t5_status check(exp_rig *rig, product *p, exp_body run, bool is_float, float tolerance, t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<half> y(p->expected.size());
    std::vector<float> got(y.size());
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(p->y, 0xff, y.size() * sizeof(half), rig->stream)));
    T5_TRY(run(p, 1, rig->stream, err));
    if (is_float) {
        T5_TRY(exp_download(rig, got.data(), p->y32, got.size() * sizeof(float), err));
    } else {
        T5_TRY(exp_download(rig, y.data(), p->y, y.size() * sizeof(half), err));
        for (size_t i = 0; i < y.size(); i++)
            got[i] = __half2float(y[i]);
    }
    T5_TRY(exp_compare(got.data(), p->expected.data(), got.size(), tolerance, err));
out:
    return status;
}

/* Weights and x; all copies hold the same. Values that every format has: w in steps of 1/8 from -1 to 1. */
static t5_status make_product(exp_rig *rig, product *p, t5_error *err)
{
    t5_status status = T5_OK;
    size_t n = (size_t)p->s.d_out * (size_t)p->s.d_in, n_x = (size_t)ROWS_MAX * (size_t)p->s.d_in;
    std::vector<half> w(n), x(n_x);
    p->w_host.resize(n);
    p->x_host.resize(n_x);
    p->n_copies = exp_choose(rig, ROTATION_BYTES / (int)(2 * n) + 1, 1);
    for (size_t i = 0; i < n; i++) {
        p->w_host[i] = (float)(int)(exp_random(i, 1) * 8.0f) / 8.0f;
        w[i] = __float2half_rn(p->w_host[i]);
    }
    for (size_t i = 0; i < n_x; i++) {
        x[i] = __float2half_rn(exp_random(i, 2));
        p->x_host[i] = __half2float(x[i]);
    }
    T5_TRY(exp_alloc(rig, n * sizeof(half) * (size_t)p->n_copies, (void **)&p->w, err));
    T5_TRY(exp_alloc(rig, n * (size_t)p->n_copies, (void **)&p->w8, err));
    for (int i = 0; i < p->n_copies; i++)
        T5_TRY(T5_CUDA(err, cudaMemcpyAsync(p->w + (size_t)i * n * sizeof(half), w.data(), n * sizeof(half),
                                            cudaMemcpyHostToDevice, rig->stream)));
    T5_TRY(exp_upload(rig, x.data(), n_x * sizeof(half), (void **)&p->x, err));
    T5_TRY(exp_alloc(rig, (size_t)p->s.d_out * sizeof(float), (void **)&p->scale, err));
    T5_TRY(exp_alloc(rig, (size_t)ROWS_MAX * (size_t)p->s.d_out * sizeof(half), (void **)&p->y, err));
    T5_TRY(exp_alloc(rig, (size_t)ROWS_MAX * (size_t)p->s.d_out * sizeof(float), (void **)&p->y32, err));
out:
    return status;
}

/* The weights in 8 bits: int8 of 8 w and a scale of 1/8; fp8 holds eighths as they are, read times 2^-8. */
static t5_status fill_w8(exp_rig *rig, product *p, t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<uint8_t> w(p->w_host.size());
    std::vector<float> scale((size_t)p->s.d_out, p->kind == EXP_INT8 ? 0.125f : 256.0f);
    uint8_t codes[17]; /* of -8/8 to 8/8 */
    for (int v = -8; v <= 8; v++) {
        codes[v + 8] = (uint8_t)(v + 128);
        for (int code = 0; code < 256 && p->kind == EXP_FP8; code++) {
            if (exp_w8_value<EXP_FP8>((uint8_t)code) * 256.0f == (float)v / 8.0f && (code & 0x7f) != 0x7f)
                codes[v + 8] = (uint8_t)code;
        }
    }
    for (size_t i = 0; i < w.size(); i++)
        w[i] = codes[(int)(p->w_host[i] * 8.0f) + 8];
    for (int i = 0; i < p->n_copies; i++)
        T5_TRY(T5_CUDA(err, cudaMemcpyAsync(p->w8 + (size_t)i * w.size(), w.data(), w.size(), cudaMemcpyHostToDevice,
                                            rig->stream)));
    T5_TRY(T5_CUDA(err, cudaMemcpyAsync(p->scale, scale.data(), scale.size() * sizeof(float), cudaMemcpyHostToDevice,
                                        rig->stream)));
    T5_TRY(exp_sync(rig, err));
out:
    return status;
}

static void line(const exp_rig *rig, const product *p, const char *who, int n_algos, double us)
{
    double bytes = (double)p->s.d_out * p->s.d_in * (who[0] == 'o' || who[0] == 'c' ? 2 : 1);
    exp_line(rig, "\"shape\":\"%s\",\"rows\":%d,\"who\":\"%s\",\"algorithms\":%d,\"us\":%.3f,\"gb_per_s\":%.0f",
             p->s.name, p->n_rows, who, n_algos, us, bytes / us / 1e3);
}

/* The best and the first of cuBLASLt's algorithms. */
static t5_status time_lt(exp_rig *rig, product *p, t5_error *err)
{
    t5_status status = T5_OK;
    double best_us = 0.0, first_us = 0.0;
    int n_algos = 0;
    T5_TRY(exp_lt_plan(p->lt, p->s.d_out, p->n_rows, p->s.d_in, &n_algos, err));
    for (p->i_algo = 0; p->i_algo < n_algos; p->i_algo++) {
        double us = 0.0;
        T5_TRY(check(rig, p, run_lt, false, 4e-3f, err));
        T5_TRY(exp_time_graph(rig, run_lt, p, N_RUNS, &us, err));
        if (p->i_algo == 0) first_us = us;
        if (p->i_algo == 0 || us < best_us) best_us = us;
    }
    if (n_algos == 0) goto out;
    line(rig, p, "cublaslt first", n_algos, first_us / N_RUNS);
    line(rig, p, "cublaslt best", n_algos, best_us / N_RUNS);
out:
    return status;
}

static t5_status run_shape(exp_rig *rig, product *p, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(make_product(rig, p, err));
    for (int n_rows : row_counts) {
        double us = 0.0;
        if (rig->is_rehearsal && n_rows > 16) break;
        p->n_rows = n_rows;
        expect(p);
        T5_TRY(check(rig, p, run_own, false, 4e-3f, err));
        T5_TRY(exp_time_graph(rig, run_own, p, exp_choose(rig, N_RUNS, 1), &us, err));
        line(rig, p, "own", 1, us / exp_choose(rig, N_RUNS, 1));
        for (exp_w8_kind kind : {EXP_INT8, EXP_FP8}) {
            p->kind = kind;
            T5_TRY(fill_w8(rig, p, err));
            T5_TRY(check(rig, p, run_w8, true, 1e-3f, err));
            T5_TRY(exp_time_graph(rig, run_w8, p, exp_choose(rig, N_RUNS, 1), &us, err));
            line(rig, p, kind == EXP_INT8 ? "int8" : "fp8", 1, us / exp_choose(rig, N_RUNS, 1));
        }
        if (p->lt != nullptr) T5_TRY(time_lt(rig, p, err));
    }
out:
    return status;
}

static t5_status run_sweep(exp_rig *rig, const char *model, t5_error *err)
{
    t5_status status = T5_OK;
    exp_lt *lt = nullptr;
    const char *missing = exp_lt_open(&lt);
    if (missing != nullptr) exp_skip(rig, missing);
    for (const shape &s : shapes) {
        product p = {};
        if (strncmp(s.name, model, strlen(model)) != 0) continue;
        p.s = s;
        if (rig->is_rehearsal) p.s = {s.name, 48, s.d_in / 4};
        p.lt = lt;
        T5_TRY(run_shape(rig, &p, err));
    }
out:
    exp_lt_close(lt);
    return status;
}

static t5_status run_small(exp_rig *rig, t5_error *err)
{
    return run_sweep(rig, "small", err);
}
static t5_status run_base(exp_rig *rig, t5_error *err)
{
    return run_sweep(rig, "base", err);
}
static t5_status run_large(exp_rig *rig, t5_error *err)
{
    return run_sweep(rig, "large", err);
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {{"small", "T5-small's four products, 1 to 256 rows", run_small},
                                     {"base", "T5-base's", run_base},
                                     {"large", "T5-large's", run_large}};
    exp_setup();
    return exp_main(argc, argv, 4, cases, T5_COUNT(cases));
}
