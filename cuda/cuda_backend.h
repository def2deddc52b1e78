/* cuda/cuda_backend.h: the GPU backend's state, shared by the files of cuda/. One thread at a time. */
#pragma once
#include "cuda/check.h"
#include "cuda/cublas.h"
#include "cuda/kernels.h"
#include "model/backend.h"

T5_C_BEGIN

/* Options that the plug-in's entry cannot carry. */
typedef struct {
    int device;
    t5_dtype type;         /* of weights and activations */
    bool is_deterministic; /* no cuBLAS: results do not depend on the number of rows, bit for bit */
} t5_cuda_options;

/* A stream with what its products need: decode steps run on one, encoder passes on another beside them. */
typedef struct {
    t5_cuda_stream stream;
    cublasHandle_t blas;
    void *blas_workspace; /* [dev] */
    void *normalized;     /* [dev] rows that wait for a product */
    float *wide;          /* [dev] products that wait for their activation */
} t5_cuda_lane;

enum { T5_CUDA_DECODE, T5_CUDA_ENCODE, T5_CUDA_N_LANES };

/* Sizes of decode steps that are recorded as graphs, each when it is queued for the second time. */
#define T5_CUDA_N_GRAPHS 11

typedef struct {
    cudaGraphExec_t exec; /* NULL: not recorded yet */
    bool was_run;         /* kernels are loaded when they first run, which a recording does not allow */
    bool is_given_up;     /* there was no memory for the recording */
} t5_cuda_graph;

/* How products of a shape are computed for up to so many rows: see gemm.c. */
typedef struct {
    int32_t d_out, d_in, bucket;
    t5_dtype y_type;
    cublasLtMatmulAlgo_t algo;
} t5_cuda_algorithm;
#define T5_CUDA_ALGORITHMS_MAX 128

typedef struct {
    t5_backend base;
    int device;
    t5_dtype type;
    bool is_deterministic;
    bool overlaps; /* kernels on our streams do, see cuda/stream.h */
    t5_cublas cublas;
    t5_cublas_lt cublas_lt;
    cublasLtHandle_t lt; /* NULL: cuBLAS does all */
    t5_cuda_algorithm algorithms[T5_CUDA_ALGORITHMS_MAX];
    int32_t n_algorithms;
    t5_cuda_lane lanes[T5_CUDA_N_LANES];
    t5_cuda_lane *lane;   /* where operations go */
    t5_cuda_split split;  /* of the decode lane */
    cudaStream_t side;    /* for copies that wait for nothing */
    cudaEvent_t marks[2]; /* of decode steps */
    cudaEvent_t decoded;  /* what an encoder pass follows */
    cudaEvent_t encoded;  /* its end */
    t5_cuda_graph graphs[T5_CUDA_N_GRAPHS];
    t5_cuda_graph *recording; /* between step_begin and step_end, when the stream is captured */
    char *staging;            /* pinned; a ring of uploads, whose first free byte is at staging_used */
    size_t staging_used;
    char *landing; /* pinned; a download passes through */
} t5_cuda_backend;

struct t5_matrix {
    void *values; /* [dev] [rows padded, ld] of the backend's type, zero in the padding */
    int32_t n_rows, n_cols, ld;
};

/* Opens the device. T5_ERR_DEVICE says why it cannot be used. Destroy through its ops. */
t5_status t5_cuda_create(const t5_cuda_options *options, t5_backend **out, t5_error *err);

static inline t5_cuda_backend *t5_cuda_of(t5_backend *b)
{
    return (t5_cuda_backend *)b;
}
/* Makes the device current for the calling thread. Every operation begins with it. */
t5_status t5_cuda_enter(t5_cuda_backend *cuda, t5_error *err);

/* async.c */
extern const t5_async_ops t5_cuda_async_ops;
/* Forgets the recorded steps: they hold addresses of memory that is given back. */
void t5_cuda_drop_graphs(t5_cuda_backend *cuda);
/* Waits for everything on both lanes. */
t5_status t5_cuda_wait_all(t5_cuda_backend *cuda, t5_error *err);

/* memory.c */
#define T5_CUDA_STAGING_BYTES ((size_t)8 << 20)
#define T5_CUDA_LANDING_BYTES ((size_t)1 << 20)
t5_status t5_cuda_memory_free(t5_backend *b, size_t *out_bytes, t5_error *err);
/* Memory of the current device, not zeroed; the owner calls cudaFree(). T5_ERR_NOMEM says how much is free. */
t5_status t5_cuda_take(size_t n_bytes, void **out, t5_error *err);
t5_status t5_cuda_alloc(t5_backend *b, size_t n_bytes, void **out, t5_error *err);
void t5_cuda_release(t5_backend *b, void *p);
t5_status t5_cuda_upload(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);
t5_status t5_cuda_download(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);
/* Copies to the host by way of the landing buffer, on `stream`, and waits for that stream alone. */
t5_status t5_cuda_land(t5_cuda_backend *cuda, cudaStream_t stream, void *dst, const void *src, size_t n_bytes,
                       t5_error *err);
/* n_bytes of pinned memory that no copy uses, at most T5_CUDA_STAGING_BYTES: fill them, then t5_cuda_send(). */
t5_status t5_cuda_stage(t5_cuda_backend *cuda, size_t n_bytes, void **out, t5_error *err);
t5_status t5_cuda_send(t5_cuda_backend *cuda, void *dst, const void *staged, size_t n_bytes, t5_error *err);

/* weights.c */
size_t t5_cuda_matrix_bytes(const t5_backend *b, int32_t n_rows, int32_t n_cols);
t5_status t5_cuda_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                                t5_error *err);
t5_status t5_cuda_table_create(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err);
void t5_cuda_matrix_destroy(t5_backend *b, t5_matrix *m);

/* gemm.c: y[n_rows, w->n_rows] = alpha x w^T + beta y. */
typedef struct {
    const t5_matrix *w;
    const void *x;
    int32_t n_rows;
    float alpha, beta;
    void *y;
    t5_dtype y_type;
} t5_cuda_gemm;
t5_status t5_cuda_multiply(t5_cuda_backend *cuda, const t5_cuda_gemm *g, t5_error *err);
/* Finds the fastest algorithms for products like this of up to its rows; y holds nothing afterwards. */
t5_status t5_cuda_choose_algorithms(t5_cuda_backend *cuda, const t5_cuda_gemm *like, t5_error *err);

/* product.c */
#define T5_CUDA_NORMALIZED_BYTES ((size_t)16 << 20)
#define T5_CUDA_WIDE_BYTES ((size_t)32 << 20)
#define T5_CUDA_BLAS_WORKSPACE_BYTES ((size_t)32 << 20)
t5_status t5_cuda_product(t5_backend *b, const t5_linear_args *args, t5_error *err);
t5_status t5_cuda_tune_product(t5_backend *b, const t5_linear_args *args, t5_error *err);
t5_status t5_cuda_head(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                       const t5_matrix *w, float *logits, t5_error *err);
/* The head of a step whose search follows: see t5_cuda_head_args. */
t5_status t5_cuda_head_of_step(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                               const t5_matrix *w, float *logits, t5_error *err);

T5_C_END
