/* bench/exp/exp_int8.cu: experiment 8, a decoder's weights in 8 bits, which for T5-small fit the L2 cache: the products
 * of a decode step as a chain, half against int8, alone and while an encoder's traffic runs beside, with and without a
 * window of L2 that persists for the weights. exp_persistent.cu has the ways to repeat such a step. */
#include "bench/exp/int8_steps.cuh"

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

static t5_status time_chain(exp_rig *rig, const char *shape, steps *s, const noise &beside, t5_error *err)
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
        T5_TRY(exp_time_unit(rig, steps_run, s, exp_choose(rig, 8, 1), &us, err));
        T5_TRY(T5_CUDA(err, cudaStreamSynchronize(rig->side)));
        exp_line(rig,
                 "\"shape\":\"%s\",\"weights\":\"%s\",\"mb\":%.1f,\"noise\":%s,\"window\":%s,\"us_a_step\":%.2f,"
                 "\"tb_per_s\":%.3f",
                 shape, s->is_int8 ? "int8" : "float16", (double)n_bytes / 1e6, has_noise ? "true" : "false",
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
    for (const steps_shape &m : steps_shapes) {
        steps s = {};
        T5_TRY(steps_make(rig, rig->is_rehearsal ? steps_tiny : m, &s, err));
        for (bool is_int8 : {false, true}) {
            s.is_int8 = is_int8;
            T5_TRY(time_chain(rig, m.name, &s, beside, err));
        }
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {{"chain", "the products of a step: half and int8, noise, window", run_chain}};
    exp_setup();
    return exp_main(argc, argv, 8, cases, T5_COUNT(cases));
}
