/* cuda/gemm.c: products of many rows: cuBLASLt, with the algorithm that was the fastest of those it proposes when the
 * model was warmed up; cuBLAS and its own choice where nothing was measured.
 *
 * Why measured: the proposals are ordered by a model of the device, which is off by a sixth now and then. Rows go by
 * powers of two, so that the table stays small: an algorithm that was measured for 512 rows serves 257 to 512.
 * Splitting k over blocks is allowed only with a sum in a fixed order. */
#include "base/assert.h"
#include "base/clock.h"
#include "cuda/cuda_backend.h"

#define ROWS_FIRST 128 /* of the first bucket */
#define BUCKETS_MAX 8  /* more rows than the last one's use its algorithm */
#define CANDIDATES_MAX 8
#define ROUNDS 3    /* of which the shortest counts */
#define RUNS_FEW 10 /* of a round up to ROWS_FEW rows: as many as hide what a launch costs */
#define RUNS_MANY 2 /* beyond */
#define ROWS_FEW 1024
#define ALIGNMENT 16 /* bytes that rows are a multiple of, or cuBLAS takes them */

static cudaDataType data_type(t5_dtype type)
{
    return type == T5_F32 ? CUDA_R_32F : type == T5_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

static int32_t bucket_of(int32_t n_rows)
{
    int32_t bucket = 0;
    while (bucket < BUCKETS_MAX - 1 && n_rows > ROWS_FIRST << bucket)
        bucket++;
    return bucket;
}

static t5_cuda_algorithm *find_algorithm(t5_cuda_backend *cuda, const t5_cuda_gemm *g)
{
    int32_t bucket = bucket_of(g->n_rows);
    for (int32_t i = 0; i < cuda->n_algorithms; i++) {
        t5_cuda_algorithm *a = &cuda->algorithms[i];
        if (a->d_out == g->w->n_rows && a->d_in == g->w->n_cols && a->y_type == g->y_type && a->bucket == bucket)
            return a;
    }
    return NULL;
}

/* ---- cuBLASLt, in its column-major terms: y^T = w x^T ---- */

typedef struct {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t w, x, y;
} descriptors;

static t5_status describe(t5_cuda_backend *cuda, const t5_cuda_gemm *g, descriptors *d, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_cublas_lt *lt = &cuda->cublas_lt;
    cublasOperation_t transposed = CUBLAS_OP_T;
    uint64_t d_in = (uint64_t)g->w->n_cols, d_out = (uint64_t)g->w->n_rows, n_rows = (uint64_t)g->n_rows;
    cudaDataType type = data_type(cuda->type);
    T5_TRY(T5_CUBLAS(err, lt->desc_init(&d->desc, sizeof d->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F)));
    T5_TRY(T5_CUBLAS(err, lt->desc_set(&d->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed)));
    T5_TRY(T5_CUBLAS(err, lt->layout_init(&d->w, sizeof d->w, type, d_in, d_out, g->w->ld)));
    T5_TRY(T5_CUBLAS(err, lt->layout_init(&d->x, sizeof d->x, type, d_in, n_rows, g->w->n_cols)));
    T5_TRY(T5_CUBLAS(err, lt->layout_init(&d->y, sizeof d->y, data_type(g->y_type), d_out, n_rows, g->w->n_rows)));
out:
    return status;
}

static cublasStatus_t multiply_lt(t5_cuda_backend *cuda, const t5_cuda_gemm *g, descriptors *d,
                                  const cublasLtMatmulAlgo_t *algo)
{
    return cuda->cublas_lt.matmul(cuda->lt, &d->desc, &g->alpha, g->w->values, &d->w, g->x, &d->x, &g->beta, g->y,
                                  &d->y, g->y, &d->y, algo, cuda->lane->blas_workspace, T5_CUDA_BLAS_WORKSPACE_BYTES,
                                  cuda->lane->stream.handle);
}

static t5_status multiply_cublas(t5_cuda_backend *cuda, const t5_cuda_gemm *g, t5_error *err)
{
    cudaDataType type = data_type(cuda->type);
    return T5_CUBLAS(err, cuda->cublas.gemm_ex(cuda->lane->blas, CUBLAS_OP_T, CUBLAS_OP_N, g->w->n_rows, g->n_rows,
                                               g->w->n_cols, &g->alpha, g->w->values, type, g->w->ld, g->x, type,
                                               g->w->n_cols, &g->beta, g->y, data_type(g->y_type), g->w->n_rows,
                                               CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

t5_status t5_cuda_multiply(t5_cuda_backend *cuda, const t5_cuda_gemm *g, t5_error *err)
{
    descriptors d;
    const t5_cuda_algorithm *a = find_algorithm(cuda, g);
    if (a == NULL) return multiply_cublas(cuda, g, err);
    t5_status status = describe(cuda, g, &d, err);
    if (status != T5_OK) return status;
    cublasStatus_t result = multiply_lt(cuda, g, &d, &a->algo);
    /* It was measured for the bucket's most rows and may not do fewer. */
    if (result == CUBLAS_STATUS_NOT_SUPPORTED || result == CUBLAS_STATUS_INVALID_VALUE)
        return multiply_cublas(cuda, g, err);
    return T5_CUBLAS(err, result);
}

/* ---- choosing ---- */

/* What cuBLASLt proposes for g, best guess first. */
static t5_status propose(t5_cuda_backend *cuda, descriptors *d, cublasLtMatmulHeuristicResult_t *out, int *out_n,
                         t5_error *err)
{
    t5_status status = T5_OK;
    const t5_cublas_lt *lt = &cuda->cublas_lt;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreferenceOpaque_t preference;
    size_t workspace_bytes = T5_CUDA_BLAS_WORKSPACE_BYTES;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, alignment = ALIGNMENT;
    *out_n = 0;
    T5_TRY(T5_CUBLAS(err, lt->preference_init(&preference, sizeof preference)));
    T5_TRY(T5_CUBLAS(err, lt->preference_set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                             sizeof workspace_bytes)));
    T5_TRY(T5_CUBLAS(
        err, lt->preference_set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes)));
    for (size_t i = 0; i < T5_COUNT(alignments); i++)
        T5_TRY(T5_CUBLAS(err, lt->preference_set(&preference, alignments[i], &alignment, sizeof alignment)));
    /* That it knows of none is no error: cuBLAS takes the product then. */
    if (lt->heuristic(cuda->lt, &d->desc, &d->w, &d->x, &d->y, &d->y, &preference, CANDIDATES_MAX, out, out_n) !=
        CUBLAS_STATUS_SUCCESS)
        *out_n = 0;
out:
    return status;
}

/* Nanoseconds of a round; INT64_MAX when the algorithm does not do it. */
static t5_status measure(t5_cuda_backend *cuda, const t5_cuda_gemm *g, descriptors *d, const cublasLtMatmulAlgo_t *algo,
                         int64_t *out_ns, t5_error *err)
{
    int n_runs = g->n_rows <= ROWS_FEW ? RUNS_FEW : RUNS_MANY;
    *out_ns = INT64_MAX;
    for (int round = -1; round < ROUNDS; round++) { /* the first loads the kernel */
        int64_t start_ns = t5_clock_ns();
        for (int i = 0; i < (round < 0 ? 1 : n_runs); i++) {
            if (multiply_lt(cuda, g, d, algo) == CUBLAS_STATUS_SUCCESS) continue;
            *out_ns = INT64_MAX;
            return T5_OK;
        }
        t5_status status = T5_CUDA(err, cudaStreamSynchronize(cuda->lane->stream.handle));
        if (status != T5_OK) return status;
        int64_t ns = t5_clock_ns() - start_ns;
        if (round >= 0 && ns < *out_ns) *out_ns = ns;
    }
    return T5_OK;
}

/* Adds the fastest of the proposals for g to the table. */
static t5_status choose(t5_cuda_backend *cuda, const t5_cuda_gemm *g, t5_error *err)
{
    t5_status status = T5_OK;
    descriptors d;
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES_MAX];
    int n = 0, best = -1;
    int64_t best_ns = INT64_MAX;
    T5_TRY(describe(cuda, g, &d, err));
    T5_TRY(propose(cuda, &d, candidates, &n, err));
    if (n == 1) best = 0; /* no choice */
    for (int i = 0; i < n && n > 1; i++) {
        int64_t ns = INT64_MAX;
        if (candidates[i].state == CUBLAS_STATUS_SUCCESS) T5_TRY(measure(cuda, g, &d, &candidates[i].algo, &ns, err));
        if (ns >= best_ns) continue;
        best = i;
        best_ns = ns;
    }
    if (best >= 0) {
        cuda->algorithms[cuda->n_algorithms++] = (t5_cuda_algorithm){.d_out = g->w->n_rows,
                                                                     .d_in = g->w->n_cols,
                                                                     .bucket = bucket_of(g->n_rows),
                                                                     .y_type = g->y_type,
                                                                     .algo = candidates[best].algo};
    }
out:
    return status;
}

t5_status t5_cuda_choose_algorithms(t5_cuda_backend *cuda, const t5_cuda_gemm *like, t5_error *err)
{
    T5_ASSERT(cuda->recording == NULL);
    size_t x_bytes = (size_t)like->w->n_cols * t5_dtype_bytes(cuda->type);
    size_t y_bytes = (size_t)like->w->n_rows * t5_dtype_bytes(like->y_type);
    if (cuda->lt == NULL || x_bytes % ALIGNMENT != 0 || y_bytes % ALIGNMENT != 0) return T5_OK;
    for (int32_t bucket = 0; bucket <= bucket_of(like->n_rows); bucket++) {
        t5_cuda_gemm g = *like;
        if (g.n_rows > ROWS_FIRST << bucket) g.n_rows = ROWS_FIRST << bucket;
        if (find_algorithm(cuda, &g) != NULL || cuda->n_algorithms == T5_CUDA_ALGORITHMS_MAX) continue;
        t5_status status = choose(cuda, &g, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}
