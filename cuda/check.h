/* cuda/check.h: foreign calls become statuses: T5_TRY(T5_CUDA(err, cudaMalloc(&p, n_bytes))). */
#pragma once
#include "base/error.h"
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

T5_C_BEGIN

/* T5_OK, T5_ERR_NOMEM when the device is full, T5_ERR_DEVICE for everything else: the device is to be given up. */
t5_status t5_cuda_check(cudaError_t error, const char *call, const char *file, int line, t5_error *err);
t5_status t5_cublas_check(cublasStatus_t result, const char *call, const char *file, int line, t5_error *err);

T5_C_END

#define T5_CUDA(err, call) t5_cuda_check((call), #call, __FILE__, __LINE__, (err))
#define T5_CUBLAS(err, call) t5_cublas_check((call), #call, __FILE__, __LINE__, (err))
