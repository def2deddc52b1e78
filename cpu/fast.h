/* cpu/fast.h: what the files of the fast CPU backend share: fast_backend.c (memory, weights, products, search) and
 * fast_attention.c. One thread at a time calls a backend; it spreads the work over its own pool. */
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
    /* Scratch only grows: a step larger than any before it allocates, in t5_fast_reserve() or grow(), before its tasks
     * run; when memory is short that step fails. */
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

t5_status t5_fast_encoder_attention(t5_backend *b, const t5_encoder_attention_args *args, t5_error *err);
t5_status t5_fast_self_attention(t5_backend *b, const t5_self_attention_args *args, t5_error *err);
t5_status t5_fast_cross_attention(t5_backend *b, const t5_cross_attention_args *args, t5_error *err);
t5_status t5_fast_cross_weights(t5_backend *b, const t5_cross_weights_args *args, t5_error *err);
t5_status t5_fast_store_cross_kv(t5_backend *b, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                 const void *kv_rows, t5_error *err);

T5_C_END
