/* bench/exp/lt.c: see lt.h. In cuBLASLt's column-major terms y^T = w x^T. */
#include "bench/exp/lt.h"
#include "cuda/check.h"

#ifdef EXP_ON_FIBERS

const char *exp_lt_open(exp_lt **out)
{
    *out = NULL;
    return "no cuBLASLt on host fibers";
}

void exp_lt_close(exp_lt *lt)
{
    (void)lt;
}

t5_status exp_lt_plan(exp_lt *lt, int d_out, int n_rows, int d_in, int *out_n_algos, t5_error *err)
{
    (void)lt;
    *out_n_algos = 0;
    return T5_FAIL(err, T5_ERR_DEVICE, "no cuBLASLt for %d x %d x %d", d_out, n_rows, d_in);
}

t5_status exp_lt_run(exp_lt *lt, int i_algo, const void *w, const void *x, void *y, cudaStream_t stream, t5_error *err)
{
    (void)lt, (void)w, (void)x, (void)y, (void)stream;
    return T5_FAIL(err, T5_ERR_DEVICE, "no cuBLASLt for algorithm %d", i_algo);
}

#else

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { ALGOS_MAX = 64, WORKSPACE_BYTES = 32 << 20 };

struct exp_lt {
    void *library, *workspace;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulPreference_t preference;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulHeuristicResult_t algos[ALGOS_MAX];
    __typeof__(cublasLtCreate) *create;
    __typeof__(cublasLtDestroy) *destroy;
    __typeof__(cublasLtMatmulDescCreate) *desc_create;
    __typeof__(cublasLtMatmulDescDestroy) *desc_destroy;
    __typeof__(cublasLtMatmulDescSetAttribute) *desc_set;
    __typeof__(cublasLtMatmulPreferenceCreate) *preference_create;
    __typeof__(cublasLtMatmulPreferenceDestroy) *preference_destroy;
    __typeof__(cublasLtMatmulPreferenceSetAttribute) *preference_set;
    __typeof__(cublasLtMatrixLayoutCreate) *layout_create;
    __typeof__(cublasLtMatrixLayoutDestroy) *layout_destroy;
    __typeof__(cublasLtMatmulAlgoGetHeuristic) *heuristic;
    __typeof__(cublasLtMatmul) *matmul;
};

static bool find(exp_lt *lt, const char *name, void *out_function)
{
    void *symbol = dlsym(lt->library, name);
    memcpy(out_function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool find_all(exp_lt *lt)
{
    return find(lt, "cublasLtCreate", &lt->create) && find(lt, "cublasLtDestroy", &lt->destroy) &&
           find(lt, "cublasLtMatmulDescCreate", &lt->desc_create) &&
           find(lt, "cublasLtMatmulDescDestroy", &lt->desc_destroy) &&
           find(lt, "cublasLtMatmulDescSetAttribute", &lt->desc_set) &&
           find(lt, "cublasLtMatmulPreferenceCreate", &lt->preference_create) &&
           find(lt, "cublasLtMatmulPreferenceDestroy", &lt->preference_destroy) &&
           find(lt, "cublasLtMatmulPreferenceSetAttribute", &lt->preference_set) &&
           find(lt, "cublasLtMatrixLayoutCreate", &lt->layout_create) &&
           find(lt, "cublasLtMatrixLayoutDestroy", &lt->layout_destroy) &&
           find(lt, "cublasLtMatmulAlgoGetHeuristic", &lt->heuristic) && find(lt, "cublasLtMatmul", &lt->matmul);
}

const char *exp_lt_open(exp_lt **out)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    cublasOperation_t transposed = CUBLAS_OP_T;
    size_t workspace_bytes = WORKSPACE_BYTES;
    *out = NULL;
    exp_lt *lt = calloc(1, sizeof *lt);
    if (lt == NULL) return "no memory";
    for (size_t i = 0; i < T5_COUNT(names) && lt->library == NULL; i++)
        lt->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    bool is_ready =
        lt->library != NULL && find_all(lt) && lt->create(&lt->handle) == CUBLAS_STATUS_SUCCESS &&
        cudaMalloc(&lt->workspace, WORKSPACE_BYTES) == cudaSuccess &&
        lt->desc_create(&lt->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
        lt->desc_set(lt->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
        lt->preference_create(&lt->preference) == CUBLAS_STATUS_SUCCESS &&
        lt->preference_set(lt->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                           sizeof workspace_bytes) == CUBLAS_STATUS_SUCCESS;
    if (!is_ready) {
        exp_lt_close(lt);
        return "cuBLASLt cannot be opened";
    }
    *out = lt;
    return NULL;
}

static void drop_layouts(exp_lt *lt)
{
    cublasLtMatrixLayout_t *const layouts[] = {&lt->w, &lt->x, &lt->y};
    for (size_t i = 0; i < T5_COUNT(layouts); i++) {
        if (*layouts[i] != NULL) lt->layout_destroy(*layouts[i]);
        *layouts[i] = NULL;
    }
}

void exp_lt_close(exp_lt *lt)
{
    if (lt == NULL) return;
    drop_layouts(lt);
    if (lt->preference != NULL) lt->preference_destroy(lt->preference);
    if (lt->desc != NULL) lt->desc_destroy(lt->desc);
    if (lt->handle != NULL) lt->destroy(lt->handle);
    cudaFree(lt->workspace);
    free(lt); /* the library stays: closing it may unload code that CUDA still knows */
}

t5_status exp_lt_plan(exp_lt *lt, int d_out, int n_rows, int d_in, int *out_n_algos, t5_error *err)
{
    t5_status status = T5_OK;
    uint64_t k = (uint64_t)d_in, m = (uint64_t)d_out, n = (uint64_t)n_rows;
    drop_layouts(lt);
    T5_TRY(T5_CUBLAS(err, lt->layout_create(&lt->w, CUDA_R_16F, k, m, d_in)));
    T5_TRY(T5_CUBLAS(err, lt->layout_create(&lt->x, CUDA_R_16F, k, n, d_in)));
    T5_TRY(T5_CUBLAS(err, lt->layout_create(&lt->y, CUDA_R_16F, m, n, d_out)));
    T5_TRY(T5_CUBLAS(err, lt->heuristic(lt->handle, lt->desc, lt->w, lt->x, lt->y, lt->y, lt->preference, ALGOS_MAX,
                                        lt->algos, out_n_algos)));
out:
    return status;
}

t5_status exp_lt_run(exp_lt *lt, int i_algo, const void *w, const void *x, void *y, cudaStream_t stream, t5_error *err)
{
    const float alpha = 1.0f, beta = 0.0f;
    return T5_CUBLAS(err, lt->matmul(lt->handle, lt->desc, &alpha, w, lt->w, x, lt->x, &beta, y, lt->y, y, lt->y,
                                     &lt->algos[i_algo].algo, lt->workspace, WORKSPACE_BYTES, stream));
}

#endif
