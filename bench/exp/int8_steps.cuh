/* bench/exp/int8_steps.cuh: the products of a decode step as a chain, each of which reads what the one before wrote;
 * one row, weights in half or int8. What experiment 8 times. */
#pragma once
#include "bench/exp/w8.cuh"
#include "cuda/kernels.h"

#include <vector>

struct steps_shape {
    const char *name;
    int d_model, inner, d_ff, n_layers, vocab_size;
};
static const steps_shape steps_shapes[] = {{"bundled", 256, 256, 1024, 2, 8192}, {"small", 512, 512, 2048, 6, 32128}};
static const steps_shape steps_tiny = {"tiny", 64, 64, 128, 1, 256};

struct steps_product {
    int d_in, d_out;
    size_t w_at, scale_at; /* of its weight and of its outputs' scales, in elements */
    float scale;           /* keeps values near 1 along the chain */
};
struct steps {
    steps_shape m;
    std::vector<steps_product> products; /* in the order of a step, the first reads rows[0] */
    size_t n_weights, n_scales;
    bool is_int8;
    uint8_t *w8;
    half *w16;
    half *rows[2]; /* activations, [d_max] */
    size_t d_max;
    float *scale;
    int *left; /* [dev] steps to go, for the loop */
    bool is_loop;
    exp_condition condition;
};

static inline void steps_add(steps *s, int d_in, int d_out)
{
    const float DEVIATION = 57.735f; /* of the int8 values */
    s->products.push_back({d_in, d_out, s->n_weights, s->n_scales, 1.0f / (DEVIATION * sqrtf((float)d_in))});
    s->n_weights += (size_t)d_in * (size_t)d_out;
    s->n_scales += (size_t)d_out;
}

static inline void steps_list(steps *s)
{
    const steps_shape &m = s->m;
    for (int i = 0; i < m.n_layers; i++) {
        steps_add(s, m.d_model, 3 * m.inner);
        steps_add(s, m.inner, m.d_model);
        steps_add(s, m.d_model, m.inner);
        steps_add(s, m.inner, m.d_model);
        steps_add(s, m.d_model, m.d_ff);
        steps_add(s, m.d_ff, m.d_model);
    }
    steps_add(s, m.d_model, m.vocab_size);
}

static inline cudaError_t steps_run_product(const steps *s, const steps_product &p, int from, cudaStream_t stream)
{
    if (s->is_int8) {
        exp_w8_args args = {s->w8 + p.w_at, s->scale + p.scale_at, s->rows[from], 1, p.d_in, p.d_out,
                            nullptr,        s->rows[1 - from]};
        return exp_w8_launch<EXP_INT8>(args, stream);
    }
    t5_cuda_linear_args args = {};
    args.x = s->rows[from];
    args.n_rows = 1;
    args.d_in = args.ld = p.d_in;
    args.d_out = p.d_out;
    args.w = s->w16 + p.w_at;
    args.x_scale = 1.0f;
    args.y_scale = 1.0f;
    args.output = T5_CUDA_STORE;
    args.y = s->rows[1 - from];
    return t5_cuda_linear(T5_F16, &args, {stream, false});
}

static __global__ void steps_count_kernel(int *left, bool is_loop, exp_condition condition)
{
    int n = *left - 1;
    *left = n;
    if (is_loop) exp_set_condition(condition, n > 0);
}

/* An exp_body of n steps; ctx is the steps. */
static inline t5_status steps_run(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const steps *s = (const steps *)ctx;
    for (int i = 0; i < n; i++) {
        int from = 0;
        for (const steps_product &p : s->products) {
            T5_TRY(T5_CUDA(err, steps_run_product(s, p, from, stream)));
            from = 1 - from;
        }
        T5_TRY(T5_CUDA(err, EXP_LAUNCH(steps_count_kernel, dim3(1), dim3(1), 0, stream, exp_how{}, s->left, s->is_loop,
                                       s->condition)));
    }
out:
    return status;
}

/* Each product alone against plain loops. */
static inline t5_status steps_check(exp_rig *rig, steps *s, const std::vector<uint8_t> &w, t5_error *err)
{
    t5_status status = T5_OK;
    for (size_t i_product = 0; i_product < s->products.size(); i_product += 5) {
        const steps_product &p = s->products[i_product];
        size_t d_in = (size_t)p.d_in, d_out = (size_t)p.d_out;
        std::vector<half> x(d_in), y(d_out);
        std::vector<float> expected(d_out, 0.0f), got(d_out);
        for (size_t k = 0; k < d_in; k++)
            x[k] = __float2half_rn(exp_random(k, 3));
        for (size_t o = 0; o < d_out; o++) {
            for (size_t k = 0; k < d_in; k++)
                expected[o] += __half2float(x[k]) * exp_w8_value<EXP_INT8>(w[p.w_at + o * d_in + k]) * p.scale;
        }
        T5_TRY(T5_CUDA(
            err, cudaMemcpyAsync(s->rows[0], x.data(), d_in * sizeof(half), cudaMemcpyHostToDevice, rig->stream)));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(s->rows[1], 0xff, d_out * sizeof(half), rig->stream)));
        T5_TRY(T5_CUDA(err, steps_run_product(s, p, 0, rig->stream)));
        T5_TRY(exp_download(rig, y.data(), s->rows[1], d_out * sizeof(half), err));
        for (size_t o = 0; o < d_out; o++)
            got[o] = __half2float(y[o]);
        T5_TRY(exp_compare(got.data(), expected.data(), d_out, 4e-3f, err));
    }
out:
    return status;
}

/* The steps of shape m, both storages checked; is_int8 is true. Memory is the rig's. */
static inline t5_status steps_make(exp_rig *rig, const steps_shape &m, steps *s, t5_error *err)
{
    t5_status status = T5_OK;
    s->m = m;
    s->d_max = (size_t)(m.vocab_size > 3 * m.inner ? m.vocab_size : 3 * m.inner);
    steps_list(s);
    std::vector<uint8_t> w(s->n_weights);
    std::vector<half> w16(s->n_weights);
    std::vector<float> scale(s->n_scales);
    for (const steps_product &p : s->products) {
        for (size_t i = p.w_at; i < p.w_at + (size_t)p.d_in * (size_t)p.d_out; i++) {
            w[i] = (uint8_t)(exp_random(i, 1) * 100.0f + 128.0f);
            w16[i] = __float2half_rn(exp_w8_value<EXP_INT8>(w[i]) * p.scale);
        }
        for (size_t i = p.scale_at; i < p.scale_at + (size_t)p.d_out; i++)
            scale[i] = p.scale;
    }
    T5_TRY(exp_upload(rig, w.data(), w.size(), (void **)&s->w8, err));
    T5_TRY(exp_upload(rig, w16.data(), w16.size() * sizeof(half), (void **)&s->w16, err));
    T5_TRY(exp_upload(rig, scale.data(), scale.size() * sizeof(float), (void **)&s->scale, err));
    T5_TRY(exp_alloc(rig, sizeof(int), (void **)&s->left, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(s->left, 0, sizeof(int), rig->stream)));
    for (half *&row : s->rows) {
        T5_TRY(exp_alloc(rig, s->d_max * sizeof(half), (void **)&row, err));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(row, 0, s->d_max * sizeof(half), rig->stream)));
    }
    for (bool is_int8 : {false, true}) {
        s->is_int8 = is_int8;
        T5_TRY(steps_check(rig, s, w, err));
    }
out:
    return status;
}
