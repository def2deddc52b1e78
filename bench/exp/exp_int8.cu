/* bench/exp/exp_int8.cu: experiment 8, a decoder's weights in 8 bits, which for T5-small fit the L2 cache: the products
 * of a decode step as a chain, half against int8, alone and while an encoder's traffic runs beside, with and without a
 * window of L2 that persists for the weights; and 32 steps as one WHILE graph against 4 graphs of 8 steps. */
#include "bench/exp/w8.cuh"
#include "cuda/kernels.h"

#include <vector>

struct shape {
    const char *name;
    int d_model, inner, d_ff, n_layers, vocab_size;
};
static const shape shapes[] = {{"bundled", 256, 256, 1024, 2, 8192}, {"small", 512, 512, 2048, 6, 32128}};
static const shape tiny = {"tiny", 64, 64, 128, 1, 256};

/* The products of a step in their order; each reads what the one before wrote. */
struct product {
    int d_in, d_out;
    size_t at; /* of its weight, in elements */
};
struct steps {
    std::vector<product> products;
    size_t n_weights;
    bool is_int8;
    uint8_t *w8;
    half *w16;
    half *rows[2]; /* activations, [d_max] */
    float *scale;
    int *left; /* [dev] steps to go, for the loop */
    bool is_loop;
    exp_condition condition;
};

static void add_product(steps *s, int d_in, int d_out)
{
    s->products.push_back({d_in, d_out, s->n_weights});
    s->n_weights += (size_t)d_in * (size_t)d_out;
}

static void list_products(const shape &m, steps *s)
{
    for (int i = 0; i < m.n_layers; i++) {
        add_product(s, m.d_model, 3 * m.inner);
        add_product(s, m.inner, m.d_model);
        add_product(s, m.d_model, m.inner);
        add_product(s, m.inner, m.d_model);
        add_product(s, m.d_model, m.d_ff);
        add_product(s, m.d_ff, m.d_model);
    }
    add_product(s, m.d_model, m.vocab_size);
}

static cudaError_t run_product(const steps *s, const product &p, int from, cudaStream_t stream)
{
    if (s->is_int8) {
        exp_w8_args args = {s->w8 + p.at, s->scale, s->rows[from], 1, p.d_in, p.d_out, nullptr, s->rows[1 - from]};
        return exp_w8_launch<EXP_INT8>(args, stream);
    }
    t5_cuda_linear_args args = {};
    args.x = s->rows[from];
    args.n_rows = 1;
    args.d_in = args.ld = p.d_in;
    args.d_out = p.d_out;
    args.w = s->w16 + p.at;
    args.x_scale = 1.0f;
    args.y_scale = 1.0f;
    args.output = T5_CUDA_STORE;
    args.y = s->rows[1 - from];
    return t5_cuda_linear(T5_F16, &args, {stream, false});
}

static __global__ void count_kernel(int *left, bool is_loop, exp_condition condition)
{
    int n = *left - 1;
    *left = n;
    if (is_loop) exp_set_condition(condition, n > 0);
}

static t5_status run_steps(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const steps *s = (const steps *)ctx;
    for (int i = 0; i < n; i++) {
        int from = 0;
        for (const product &p : s->products) {
            T5_TRY(T5_CUDA(err, run_product(s, p, from, stream)));
            from = 1 - from;
        }
        T5_TRY(T5_CUDA(
            err, EXP_LAUNCH(count_kernel, dim3(1), dim3(1), 0, stream, exp_how{}, s->left, s->is_loop, s->condition)));
    }
out:
    return status;
}

/* Each product alone against plain loops, on int8 values, which half holds exactly. */
static t5_status check_products(exp_rig *rig, steps *s, const std::vector<uint8_t> &w, t5_error *err)
{
    t5_status status = T5_OK;
    for (size_t i_product = 0; i_product < s->products.size(); i_product += 5) {
        const product &p = s->products[i_product];
        size_t d_in = (size_t)p.d_in, d_out = (size_t)p.d_out;
        std::vector<half> x(d_in), y(d_out);
        std::vector<float> expected(d_out, 0.0f), got(d_out);
        for (size_t k = 0; k < d_in; k++)
            x[k] = __float2half_rn(exp_random(k, 3));
        for (size_t o = 0; o < d_out; o++) {
            for (size_t k = 0; k < d_in; k++)
                expected[o] += __half2float(x[k]) * exp_w8_value<EXP_INT8>(w[p.at + o * d_in + k]) / 1024.0f;
        }
        T5_TRY(T5_CUDA(
            err, cudaMemcpyAsync(s->rows[0], x.data(), d_in * sizeof(half), cudaMemcpyHostToDevice, rig->stream)));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(s->rows[1], 0xff, d_out * sizeof(half), rig->stream)));
        T5_TRY(T5_CUDA(err, run_product(s, p, 0, rig->stream)));
        T5_TRY(exp_download(rig, y.data(), s->rows[1], d_out * sizeof(half), err));
        for (size_t o = 0; o < d_out; o++)
            got[o] = __half2float(y[o]);
        T5_TRY(exp_compare(got.data(), expected.data(), d_out, 4e-3f, err));
    }
out:
    return status;
}

static t5_status make_steps(exp_rig *rig, const shape &m, steps *s, t5_error *err)
{
    t5_status status = T5_OK;
    size_t d_max = (size_t)(m.vocab_size > 3 * m.inner ? m.vocab_size : 3 * m.inner);
    list_products(m, s);
    std::vector<uint8_t> w(s->n_weights);
    std::vector<half> w16(s->n_weights);
    std::vector<float> scale(d_max, 1.0f / 1024.0f);
    for (size_t i = 0; i < w.size(); i++) {
        w[i] = (uint8_t)(exp_random(i, 1) * 100.0f + 128.0f);
        w16[i] = __float2half_rn(exp_w8_value<EXP_INT8>(w[i]) / 1024.0f);
    }
    T5_TRY(exp_upload(rig, w.data(), w.size(), (void **)&s->w8, err));
    T5_TRY(exp_upload(rig, w16.data(), w16.size() * sizeof(half), (void **)&s->w16, err));
    T5_TRY(exp_upload(rig, scale.data(), scale.size() * sizeof(float), (void **)&s->scale, err));
    T5_TRY(exp_alloc(rig, sizeof(int), (void **)&s->left, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(s->left, 0, sizeof(int), rig->stream)));
    for (half *&row : s->rows) {
        T5_TRY(exp_alloc(rig, d_max * sizeof(half), (void **)&row, err));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(row, 0, d_max * sizeof(half), rig->stream)));
    }
    for (bool is_int8 : {false, true}) {
        s->is_int8 = is_int8;
        T5_TRY(check_products(rig, s, w, err));
    }
out:
    return status;
}

/* Keeps the weights in L2 for the stream's kernels, as far as the device sets aside; n_bytes 0 ends it. */
static t5_status set_window(exp_rig *rig, void *p, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
#ifdef EXP_ON_FIBERS
    (void)rig, (void)p, (void)n_bytes, (void)err;
#else
    cudaStreamAttrValue value = {};
    size_t window_bytes = (size_t)rig->device.accessPolicyMaxWindowSize;
    value.accessPolicyWindow.base_ptr = p;
    value.accessPolicyWindow.num_bytes = n_bytes < window_bytes ? n_bytes : window_bytes;
    value.accessPolicyWindow.hitRatio = 1.0f;
    value.accessPolicyWindow.hitProp = n_bytes > 0 ? cudaAccessPropertyPersisting : cudaAccessPropertyNormal;
    value.accessPolicyWindow.missProp = cudaAccessPropertyNormal;
    T5_TRY(T5_CUDA(err, cudaDeviceSetLimit(cudaLimitPersistingL2CacheSize,
                                           n_bytes > 0 ? (size_t)rig->device.persistingL2CacheMaxSize : 0)));
    T5_TRY(T5_CUDA(err, cudaStreamSetAttribute(rig->stream, cudaStreamAttributeAccessPolicyWindow, &value)));
    if (n_bytes == 0) T5_TRY(T5_CUDA(err, cudaCtxResetPersistingL2Cache()));
out:
#endif
    return status;
}

/* What an encoder pass does to L2: reads much memory, beside. */
static __global__ void __launch_bounds__(256) noise_kernel(const uint4 *x, size_t n, int n_passes, unsigned *y)
{
    unsigned bits = 0;
    for (int pass = 0; pass < n_passes; pass++) {
        for (size_t i = (size_t)blockIdx.x * 256 + threadIdx.x; i < n; i += (size_t)gridDim.x * 256)
            bits |= t5_load16(x + i).x + (unsigned)pass;
    }
    if (bits == 0xffffffffu) *y = bits;
}

struct noise {
    const uint4 *x;
    size_t n;
    unsigned *y;
};

static t5_status time_chain(exp_rig *rig, const shape &m, steps *s, const noise &beside, t5_error *err)
{
    t5_status status = T5_OK;
    for (int kind = 0; kind < 4; kind++) { /* alone or beside, without and with the window */
        bool has_noise = kind % 2 == 1, has_window = kind >= 2;
        void *weights = s->is_int8 ? (void *)s->w8 : (void *)s->w16;
        double us = 0.0;
        size_t n_bytes = s->n_weights * (s->is_int8 ? 1 : 2);
        T5_TRY(set_window(rig, weights, has_window ? n_bytes : 0, err));
        if (has_noise)
            T5_TRY(T5_CUDA(err, EXP_LAUNCH(noise_kernel, dim3(32), dim3(256), 0, rig->side, exp_how{}, beside.x,
                                           beside.n, exp_choose(rig, 200, 1), beside.y)));
        T5_TRY(exp_time_unit(rig, run_steps, s, exp_choose(rig, 8, 1), &us, err));
        T5_TRY(T5_CUDA(err, cudaStreamSynchronize(rig->side)));
        exp_line(rig,
                 "\"shape\":\"%s\",\"weights\":\"%s\",\"mb\":%.1f,\"noise\":%s,\"window\":%s,\"us_a_step\":%.2f,"
                 "\"tb_per_s\":%.3f",
                 m.name, s->is_int8 ? "int8" : "float16", (double)n_bytes / 1e6, has_noise ? "true" : "false",
                 has_window ? "true" : "false", us, (double)n_bytes / us / 1e6);
    }
    T5_TRY(set_window(rig, nullptr, 0, err));
out:
    return status;
}

static t5_status run_chain(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    noise beside = {};
    size_t noise_bytes = (size_t)exp_choose(rig, 512, 1) << 20;
    T5_TRY(exp_alloc(rig, noise_bytes, (void **)&beside.x, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync((void *)beside.x, 0, noise_bytes, rig->stream)));
    T5_TRY(exp_alloc(rig, sizeof(unsigned), (void **)&beside.y, err));
    beside.n = noise_bytes / sizeof(uint4) / (rig->is_rehearsal ? 64 : 1);
    for (const shape &m : shapes) {
        steps s = {};
        T5_TRY(make_steps(rig, rig->is_rehearsal ? tiny : m, &s, err));
        for (bool is_int8 : {false, true}) {
            s.is_int8 = is_int8;
            T5_TRY(time_chain(rig, m, &s, beside, err));
        }
    }
out:
    return status;
}

struct whole_loop {
    exp_loop loop;
    int *left;
    const int *n_steps; /* [dev] */
};

static t5_status run_whole_loop(void *ctx, int, cudaStream_t stream, t5_error *err)
{
    whole_loop *w = (whole_loop *)ctx;
    t5_status status =
        T5_CUDA(err, cudaMemcpyAsync(w->left, w->n_steps, sizeof(int), cudaMemcpyDeviceToDevice, stream));
    return status == T5_OK ? exp_loop_launch(&w->loop, 1, stream, err) : status;
}

static t5_status run_graphs(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    for (int i = 0; i < n && status == T5_OK; i++)
        status = T5_CUDA(err, cudaGraphLaunch(*(cudaGraphExec_t *)ctx, stream));
    return status;
}

static t5_status run_loops(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    int n_steps = exp_choose(rig, 32, 4);
    void *dev_steps = nullptr;
    T5_TRY(exp_upload(rig, &n_steps, sizeof n_steps, &dev_steps, err));
    for (const shape &m : shapes) {
        steps s = {};
        whole_loop w = {};
        cudaGraphExec_t exec = nullptr;
        double graphs_us = 0.0, while_us = 0.0;
        int left = -1;
        status = make_steps(rig, rig->is_rehearsal ? tiny : m, &s, err);
        if (status == T5_OK) status = exp_record(rig, run_steps, &s, n_steps / 4, &exec, err);
        if (status == T5_OK) status = exp_time_stream(rig, run_graphs, &exec, 4, &graphs_us, err);
        if (exec != nullptr) cudaGraphExecDestroy(exec);
        s.is_loop = true;
        w.left = s.left;
        w.n_steps = (const int *)dev_steps;
        if (status == T5_OK) status = exp_loop_create(rig, run_steps, &s, &s.condition, &w.loop, err);
        if (status == T5_OK) status = run_whole_loop(&w, 1, rig->stream, err);
        if (status == T5_OK) status = exp_download(rig, &left, s.left, sizeof left, err);
        if (status == T5_OK && left != 0) status = T5_FAIL(err, T5_ERR_FORMAT, "the loop left %d steps", left);
        if (status == T5_OK) status = exp_time_stream(rig, run_whole_loop, &w, 1, &while_us, err);
        exp_loop_destroy(&w.loop);
        if (status != T5_OK) break;
        exp_line(rig, "\"shape\":\"%s\",\"steps\":%d,\"graphs_us_a_step\":%.2f,\"while_us_a_step\":%.2f", m.name,
                 n_steps, graphs_us / n_steps, while_us / n_steps);
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {{"chain", "the products of a step: half and int8, noise, window", run_chain},
                                     {"loop", "32 int8 steps: four graphs against one WHILE node", run_loops}};
    exp_setup();
    return exp_main(argc, argv, 8, cases, T5_COUNT(cases));
}
