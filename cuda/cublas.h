/* cuda/cublas.h: the few cuBLAS calls that we use, as a table that is filled at run time: the library has half a
 * gigabyte, and a machine without a GPU need not have it. */
#pragma once
#include "base/error.h"
#include <cublas_v2.h>

T5_C_BEGIN

typedef struct {
    void *library; /* of dlopen(); NULL when there is none to close */
    cublasStatus_t (*create)(cublasHandle_t *out);
    cublasStatus_t (*destroy)(cublasHandle_t handle);
    cublasStatus_t (*set_stream)(cublasHandle_t handle, cudaStream_t stream);
    cublasStatus_t (*set_workspace)(cublasHandle_t handle, void *workspace, size_t n_bytes);
    cublasStatus_t (*gemm_ex)(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                              int k, const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
                              cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                              cublasComputeType_t compute_type, cublasGemmAlgo_t algo);
} t5_cublas;

/* T5_ERR_DEVICE says which library or function is missing. Close with t5_cublas_close(). */
t5_status t5_cublas_open(t5_cublas *out, t5_error *err);
void t5_cublas_close(t5_cublas *cublas);

T5_C_END
