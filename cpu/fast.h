/* cpu/fast.h: what the files of the fast CPU backend share: fast_backend.c (memory, weights, embeddings),
 * fast_product.c, fast_attention.c and fast_head.c (head and search). One thread at a time calls a backend; it spreads
 * the work over its own pool. */
#pragma once
#include "cpu/cpu.h"
#include "cpu/kernels.h"
#include "cpu/matrix.h"
#include "cpu/threads.h"

T5_C_BEGIN

typedef struct {
    t5_backend base;
    const t5_kernels *kernels;
    t5_threads *threads;
    t5_compute_type compute_type;
    t5_arena arena; /* of the weights */
    /* Scratch only grows: a step larger than any before it allocates, in t5_fast_reserve() or t5_fast_grow(), before
     * its tasks run; when memory is short that step fails. */
    float *normed; /* rows after their norm */
    size_t normed_bytes;
    uint8_t *rows8; /* rows in 8 bits */
    size_t rows8_bytes;
    float *row_scales; /* of rows8 */
    size_t row_scales_bytes;
    uint16_t *rows16; /* rows in bfloat16 */
    size_t rows16_bytes;
    int32_t *group_starts; /* of rows8, for int4 weights */
    size_t group_starts_bytes;
    uint8_t *open_panels; /* of the head, see fast_head.c */
    size_t open_panels_bytes;
    char *thread_scratch; /* [n_threads][thread_scratch_bytes] */
    size_t thread_scratch_bytes;
} t5_fast;

/* Makes every thread's scratch at least n_bytes. Call before the tasks that use it. */
t5_status t5_fast_reserve(t5_fast *f, size_t n_bytes, t5_error *err);
/* Scratch of thread i_thread, aligned to 64 bytes. */
static inline void *t5_fast_scratch(const t5_fast *f, int32_t i_thread)
{
    return f->thread_scratch + (size_t)i_thread * f->thread_scratch_bytes;
}

/* Makes *array hold n_bytes at least; what it held is lost. */
t5_status t5_fast_grow(void **array, size_t *n_bytes, size_t wanted, t5_error *err);

/* Panels of a product with d_out columns. */
static inline int32_t t5_fast_panels(const t5_fast *f, int32_t d_out)
{
    return (d_out + f->kernels->panel - 1) / f->kernels->panel;
}

/* First of `n` things of task `i` of n_tasks. */
static inline int32_t t5_fast_share(int32_t n, int32_t i, int32_t n_tasks)
{
    return (int32_t)((int64_t)n * i / n_tasks);
}

/* A product in three steps: its description; its rows as the weight wants them, in the backend's scratch until the next
 * product; the product. */
t5_gemm t5_fast_gemm(const t5_linear_args *args);
t5_status t5_fast_prepare(t5_fast *f, const t5_linear_args *args, t5_gemm *g, t5_error *err);
void t5_fast_multiply(const t5_fast *f, const t5_gemm *g, int32_t n_rows);

t5_status t5_fast_linear(t5_backend *b, const t5_linear_args *args, t5_error *err);
t5_status t5_fast_rms_norm(t5_backend *b, const float *x, const float *gain, float eps, int32_t n_rows, int32_t d,
                           void *y, t5_error *err);
t5_status t5_fast_head(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                       const t5_matrix *w, float *logits, t5_error *err);
t5_status t5_fast_search(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err);
t5_status t5_fast_head_search(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                              const t5_matrix *w, float *logits, t5_error *err);
t5_status t5_fast_encoder_attention(t5_backend *b, const t5_encoder_attention_args *args, t5_error *err);
t5_status t5_fast_self_attention(t5_backend *b, const t5_self_attention_args *args, t5_error *err);
t5_status t5_fast_cross_attention(t5_backend *b, const t5_cross_attention_args *args, t5_error *err);
t5_status t5_fast_cross_weights(t5_backend *b, const t5_cross_weights_args *args, t5_error *err);
t5_status t5_fast_store_cross_kv(t5_backend *b, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                 const void *kv_rows, t5_error *err);

T5_C_END
