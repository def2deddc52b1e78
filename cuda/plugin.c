/* cuda/plugin.c: what the plug-in exports; the contract is device/plugin.h. */
#include "device/plugin.h"
#include "cuda/cuda_backend.h"

#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) const int32_t t5_cuda_plugin_abi = T5_CUDA_PLUGIN_ABI;

static t5_status parse_type(const char *name, t5_dtype *out, t5_error *err)
{
    static const t5_dtype types[] = {T5_F32, T5_F16, T5_BF16};
    *out = T5_F16;
    if (strcmp(name, "auto") == 0) return T5_OK;
    for (size_t i = 0; i < T5_COUNT(types); i++) {
        *out = types[i];
        if (strcmp(name, t5_dtype_name(types[i])) == 0) return T5_OK;
    }
    return T5_FAIL(err, T5_ERR_ARG, "compute type %s: the GPU backend knows auto, float32, float16, bfloat16", name);
}

/* T5_CUDA_DETERMINISTIC=1: own kernels only; the same bits whatever else is in the batch. */
__attribute__((visibility("default"))) t5_status t5_cuda_plugin_create(int device, const char *compute_type,
                                                                       t5_backend **out, t5_error *err)
{
    const char *deterministic = getenv("T5_CUDA_DETERMINISTIC");
    t5_cuda_options options = {.device = device,
                               .is_deterministic = deterministic != NULL && strcmp(deterministic, "1") == 0};
    t5_status status = parse_type(compute_type, &options.type, err);
    return status == T5_OK ? t5_cuda_create(&options, out, err) : status;
}
