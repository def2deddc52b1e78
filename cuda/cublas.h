/* cuda/cublas.h: the few cuBLAS calls that we use, as a table that is filled at run time: the library has half a
 * gigabyte, and a machine without a GPU need not have it. */
#pragma once
#include "base/error.h"
#include <cublasLt.h>
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

/* cuBLASLt, which lets its caller choose the algorithm. Descriptors live on the caller's stack. */
typedef struct {
    void *library; /* as above */
    cublasStatus_t (*create)(cublasLtHandle_t *out);
    cublasStatus_t (*destroy)(cublasLtHandle_t handle);
    cublasStatus_t (*desc_init)(cublasLtMatmulDesc_t desc, size_t n_bytes, cublasComputeType_t compute_type,
                                cudaDataType scale_type);
    cublasStatus_t (*desc_set)(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void *value,
                               size_t n_bytes);
    cublasStatus_t (*layout_init)(cublasLtMatrixLayout_t layout, size_t n_bytes, cudaDataType type, uint64_t n_rows,
                                  uint64_t n_cols, int64_t ld);
    cublasStatus_t (*preference_init)(cublasLtMatmulPreference_t preference, size_t n_bytes);
    cublasStatus_t (*preference_set)(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t n_bytes);
    cublasStatus_t (*heuristic)(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                cublasLtMatmulPreference_t preference, int n_max, cublasLtMatmulHeuristicResult_t *out,
                                int *out_n);
    cublasStatus_t (*matmul)(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                             cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                             const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                             cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                             size_t workspace_bytes, cudaStream_t stream);
} t5_cublas_lt;

/* Without it cuBLAS does everything. Close with t5_cublas_lt_close(). */
t5_status t5_cublas_lt_open(t5_cublas_lt *out, t5_error *err);
void t5_cublas_lt_close(t5_cublas_lt *lt);

T5_C_END
