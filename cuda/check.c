/* cuda/check.c: see check.h. No state. */
#include "cuda/check.h"

#include <string.h>

/* A call's name without its arguments. */
static int name_len(const char *call)
{
    return (int)strcspn(call, "(");
}

t5_status t5_cuda_check(cudaError_t error, const char *call, const char *file, int line, t5_error *err)
{
    if (error == cudaSuccess) return T5_OK;
    t5_status status = error == cudaErrorMemoryAllocation ? T5_ERR_NOMEM : T5_ERR_DEVICE;
    return t5_error_set(err, status, file, line, "GPU: %.*s: %s (%s)", name_len(call), call, cudaGetErrorString(error),
                        cudaGetErrorName(error));
}

t5_status t5_cublas_check(cublasStatus_t result, const char *call, const char *file, int line, t5_error *err)
{
    if (result == CUBLAS_STATUS_SUCCESS) return T5_OK;
    return t5_error_set(err, T5_ERR_DEVICE, file, line, "GPU: cuBLAS: %.*s: error %d", name_len(call), call,
                        (int)result);
}
