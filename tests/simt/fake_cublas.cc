/* tests/simt/fake_cublas.cc: cuda/cublas.h with the products computed plainly: column-major, float sums. cuBLASLt's
 * algorithms differ in how long they take and whether they can, see simt_lt_propose(). Operands that
 * reach outside their allocation are found through AddressSanitizer's shadow, as plain reads would find them. */
#include "cuda/cublas.h"
#include "tests/simt/fake_runtime.h"
#include "tests/simt/fiber.h"
#include "tests/simt/simt.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <chrono>
#include <thread>
#include <vector>

#ifdef SIMT_ASAN
extern "C" void *__asan_region_is_poisoned(void *begin, size_t n_bytes);
#endif

struct cublasContext {
    cudaStream_t stream;
};

struct operand {
    void *p;
    cudaDataType type;
    int ld;
    bool is_transposed;
};

static size_t element_bytes(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static float load(const operand &m, size_t at)
{
    if (m.type == CUDA_R_32F) return ((const float *)m.p)[at];
    uint16_t bits = ((const uint16_t *)m.p)[at];
    return m.type == CUDA_R_16F ? simt_half_to_float(bits) : simt_bf16_to_float(bits);
}

static void store(const operand &m, size_t at, float x)
{
    if (m.type == CUDA_R_32F) {
        ((float *)m.p)[at] = x;
    } else {
        ((uint16_t *)m.p)[at] = m.type == CUDA_R_16F ? simt_float_to_half(x) : simt_float_to_bf16(x);
    }
}

/* `m` as stored has n_rows x n_cols. */
static void check_extent(const operand &m, int n_rows, int n_cols, const char *name)
{
    if (m.ld < n_rows) simt::fail("gemm: ld of %s is %d, less than its %d rows", name, m.ld, n_rows);
#ifdef SIMT_ASAN
    size_t n_bytes = ((size_t)m.ld * (size_t)(n_cols - 1) + (size_t)n_rows) * element_bytes(m.type);
    if (__asan_region_is_poisoned(m.p, n_bytes) != nullptr)
        simt::fail("gemm: operand %s (%d x %d, ld %d) leaves its allocation", name, n_rows, n_cols, m.ld);
#else
    (void)n_cols;
    (void)element_bytes;
#endif
}

/* op(m) with its rows (is_row_major) or columns contiguous, in float. */
static std::vector<float> unpack(const operand &m, int n_outer, int k)
{
    std::vector<float> out((size_t)n_outer * (size_t)k);
    for (int i = 0; i < n_outer; i++) {
        for (int p = 0; p < k; p++) {
            size_t at = m.is_transposed ? (size_t)i * (size_t)m.ld + (size_t)p : (size_t)p * (size_t)m.ld + (size_t)i;
            out[(size_t)i * (size_t)k + (size_t)p] = load(m, at);
        }
    }
    return out;
}

static void multiply(int m, int n, int k, float alpha, operand a, operand b, float beta, operand c)
{
    check_extent(a, a.is_transposed ? k : m, a.is_transposed ? m : k, "a");
    check_extent(b, b.is_transposed ? n : k, b.is_transposed ? k : n, "b");
    check_extent(c, m, n, "c");
    b.is_transposed = !b.is_transposed; /* unpack() wants the columns of op(b) as it wants the rows of op(a) */
    std::vector<float> rows = unpack(a, m, k), cols = unpack(b, n, k);
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < m; i++) {
            const float *x = &rows[(size_t)i * (size_t)k], *y = &cols[(size_t)j * (size_t)k];
            float sums[8] = {0}, sum = 0;
            int p = 0;
            for (; p + 8 <= k; p += 8) {
                for (int e = 0; e < 8; e++)
                    sums[e] += x[p + e] * y[p + e];
            }
            for (; p < k; p++)
                sum += x[p] * y[p];
            for (int e = 0; e < 8; e++)
                sum += sums[e];
            size_t at = (size_t)j * (size_t)c.ld + (size_t)i;
            store(c, at, alpha * sum + (beta != 0 ? beta * load(c, at) : 0));
        }
    }
}

static cublasStatus_t create(cublasHandle_t *out)
{
    if (simt::count_call() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *out = new cublasContext();
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t destroy(cublasHandle_t handle)
{
    delete handle;
    return simt::count_call() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

static cublasStatus_t set_stream(cublasHandle_t handle, cudaStream_t stream)
{
    if (simt::count_call() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set_workspace(cublasHandle_t, void *, size_t)
{
    return simt::count_call() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

static cublasStatus_t gemm_ex(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                              int k, const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
                              cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                              cublasComputeType_t, cublasGemmAlgo_t)
{
    if (simt::count_call() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m <= 0 || n <= 0 || k <= 0) return CUBLAS_STATUS_INVALID_VALUE;
    float alpha_value = *(const float *)alpha, beta_value = *(const float *)beta;
    operand a_operand = {(void *)a, a_type, lda, op_a == CUBLAS_OP_T};
    operand b_operand = {(void *)b, b_type, ldb, op_b == CUBLAS_OP_T};
    operand c_operand = {c, c_type, ldc, false};
    simt::enqueue(handle->stream, [=] { multiply(m, n, k, alpha_value, a_operand, b_operand, beta_value, c_operand); });
    return CUBLAS_STATUS_SUCCESS;
}

t5_status t5_cublas_open(t5_cublas *out, t5_error *err)
{
    if (simt::count_call() != cudaSuccess) return T5_FAIL(err, T5_ERR_DEVICE, "cuBLAS: not found");
    *out = t5_cublas{nullptr, create, destroy, set_stream, set_workspace, gemm_ex};
    return T5_OK;
}

void t5_cublas_close(t5_cublas *cublas)
{
    *cublas = t5_cublas{};
}

/* ---- cuBLASLt: descriptors are their first words ---- */

enum { ALGORITHM_SLOW, ALGORITHM_RIGHT, ALGORITHM_UNABLE, N_ALGORITHMS };

static int n_proposed = 1;

void simt_lt_propose(int n)
{
    n_proposed = n < N_ALGORITHMS ? n : N_ALGORITHMS;
}

struct cublasLtContext {
    int unused;
};

static cublasStatus_t lt_status(cublasStatus_t failure)
{
    return simt::count_call() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : failure;
}

static cublasStatus_t lt_create(cublasLtHandle_t *out)
{
    cublasStatus_t status = lt_status(CUBLAS_STATUS_NOT_INITIALIZED);
    if (status == CUBLAS_STATUS_SUCCESS) *out = new cublasLtContext();
    return status;
}

static cublasStatus_t lt_destroy(cublasLtHandle_t handle)
{
    delete handle;
    return lt_status(CUBLAS_STATUS_NOT_INITIALIZED);
}

static cublasStatus_t desc_init(cublasLtMatmulDesc_t desc, size_t n_bytes, cublasComputeType_t, cudaDataType)
{
    if (n_bytes != sizeof *desc) return CUBLAS_STATUS_INVALID_VALUE;
    *desc = {};
    return lt_status(CUBLAS_STATUS_INVALID_VALUE);
}

static cublasStatus_t desc_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t, const void *value, size_t)
{
    desc->data[0] = *(const cublasOperation_t *)value == CUBLAS_OP_T;
    return lt_status(CUBLAS_STATUS_INVALID_VALUE);
}

static cublasStatus_t layout_init(cublasLtMatrixLayout_t layout, size_t n_bytes, cudaDataType type, uint64_t n_rows,
                                  uint64_t n_cols, int64_t ld)
{
    if (n_bytes != sizeof *layout) return CUBLAS_STATUS_INVALID_VALUE;
    *layout = {{(uint64_t)type, n_rows, n_cols, (uint64_t)ld, 0, 0, 0, 0}};
    return lt_status(CUBLAS_STATUS_INVALID_VALUE);
}

static cublasStatus_t preference_init(cublasLtMatmulPreference_t preference, size_t n_bytes)
{
    if (n_bytes != sizeof *preference) return CUBLAS_STATUS_INVALID_VALUE;
    *preference = {};
    return lt_status(CUBLAS_STATUS_INVALID_VALUE);
}

static cublasStatus_t preference_set(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *,
                                     size_t)
{
    return lt_status(CUBLAS_STATUS_INVALID_VALUE);
}

static cublasStatus_t heuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int n_max,
                                cublasLtMatmulHeuristicResult_t *out, int *out_n)
{
    cublasStatus_t status = lt_status(CUBLAS_STATUS_NOT_SUPPORTED);
    *out_n = status == CUBLAS_STATUS_SUCCESS ? (n_proposed < n_max ? n_proposed : n_max) : 0;
    for (int i = 0; i < *out_n; i++) {
        out[i] = {};
        out[i].algo.data[0] = (uint64_t)(n_proposed == 1 ? ALGORITHM_RIGHT : i);
    }
    return *out_n > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static operand operand_of(const void *p, cublasLtMatrixLayout_t layout, bool is_transposed)
{
    return {(void *)p, (cudaDataType)layout->data[0], (int)layout->data[3], is_transposed};
}

static cublasStatus_t matmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                             cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                             const void *beta, const void *c, cublasLtMatrixLayout_t, void *d,
                             cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t,
                             cudaStream_t stream)
{
    cublasStatus_t status = lt_status(CUBLAS_STATUS_NOT_INITIALIZED);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (algo->data[0] == ALGORITHM_UNABLE) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (c != d || workspace == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
    bool is_transposed = desc->data[0] != 0, is_slow = algo->data[0] == ALGORITHM_SLOW;
    float alpha_value = *(const float *)alpha, beta_value = *(const float *)beta;
    int m = (int)d_layout->data[1], n = (int)d_layout->data[2], k = (int)b_layout->data[1];
    operand a_operand = operand_of(a, a_layout, is_transposed), b_operand = operand_of(b, b_layout, false);
    operand d_operand = operand_of(d, d_layout, false);
    simt::enqueue(stream, [=] {
        if (is_slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        multiply(m, n, k, alpha_value, a_operand, b_operand, beta_value, d_operand);
    });
    return CUBLAS_STATUS_SUCCESS;
}

t5_status t5_cublas_lt_open(t5_cublas_lt *out, t5_error *err)
{
    if (simt::count_call() != cudaSuccess || n_proposed == 0) return T5_FAIL(err, T5_ERR_DEVICE, "cuBLASLt: not found");
    *out = t5_cublas_lt{nullptr,     lt_create,       lt_destroy,     desc_init, desc_set,
                        layout_init, preference_init, preference_set, heuristic, matmul};
    return T5_OK;
}

void t5_cublas_lt_close(t5_cublas_lt *lt)
{
    *lt = t5_cublas_lt{};
}
