/* cpu/fast_backend.c: the fast CPU backend: memory, weights, embeddings, and the table of its operations. The inner
 * loops are in the kernel tables (kernels.h); the files fast_*.c say who computes what. How the work is cut never
 * changes a result: an output element is always one task's, and its sum has one order. */
#include "base/assert.h"
#include "cpu/fast.h"
#include "cpu/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMBED_ROWS_PER_TASK 16

t5_status t5_fast_reserve(t5_fast *f, size_t n_bytes, t5_error *err)
{
    if (f->thread_scratch_bytes >= n_bytes) return T5_OK;
    const size_t rounded = (n_bytes + T5_LINE_BYTES - 1) / T5_LINE_BYTES * T5_LINE_BYTES;
    char *bigger = aligned_alloc(T5_LINE_BYTES, rounded * (size_t)t5_threads_count(f->threads));
    if (bigger == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "scratch: %zu bytes for each thread", rounded);
    free(f->thread_scratch);
    f->thread_scratch = bigger;
    f->thread_scratch_bytes = rounded;
    return T5_OK;
}

static void fast_destroy(t5_backend *b)
{
    if (b == NULL) return;
    t5_fast *f = (t5_fast *)b;
    t5_threads_destroy(f->threads);
    t5_arena_close(&f->arena);
    free(f->normed);
    free(f->rows8);
    free(f->rows16);
    free(f->row_scales);
    free(f->group_starts);
    free(f->open_panels);
    free(f->thread_scratch);
    free(f);
}

/* ---- weights ---- */

static t5_packer packer_of(t5_fast *f)
{
    return (t5_packer){.kernels = f->kernels, .threads = f->threads, .type = f->compute_type, .arena = &f->arena};
}

static t5_status fast_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale,
                                    t5_matrix **out, t5_error *err)
{
    const t5_packer packer = packer_of((t5_fast *)b);
    const t5_status status = t5_matrix_pack(&packer, parts, n_parts, scale, out, err);
    if (status == T5_OK) b->weights_bytes += (*out)->n_bytes;
    return status;
}

static void fast_matrix_destroy(t5_backend *b, t5_matrix *m)
{
    (void)b;
    t5_matrix_free(m);
}

static t5_status fast_head_create(t5_backend *b, const t5_tensor *w, float scale, t5_matrix **out, t5_error *err)
{
    const t5_packer packer = packer_of((t5_fast *)b);
    t5_status status = T5_OK;
    t5_matrix *m = NULL;
    T5_TRY(t5_matrix_pack(&packer, w, 1, scale, &m, err));
    T5_TRY(t5_matrix_add_rough(&packer, w, scale, m, err));
    b->weights_bytes += m->n_bytes;
    *out = m;
    m = NULL;
out:
    t5_matrix_free(m);
    return status;
}

static t5_status fast_table_create(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err)
{
    const t5_status status = t5_matrix_borrow(table, out, err);
    if (status == T5_OK) b->weights_bytes += (*out)->n_bytes;
    return status;
}

/* ---- embedding ---- */

typedef struct {
    const t5_matrix *table;
    const t5_step *step;
    const t5_packed *packed;
    float *x;
    int32_t n_rows;
} embedding;

static void embed_rows(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    const embedding *e = ctx;
    const int32_t begin = i_task * EMBED_ROWS_PER_TASK;
    for (int32_t q = begin; q < begin + EMBED_ROWS_PER_TASK && q < e->n_rows; q++) {
        int32_t token = 0;
        if (e->step != NULL) {
            const t5_search_state *state = e->step->state;
            token = state->tokens[(size_t)e->step->row[q] * (size_t)state->stride + (size_t)e->step->pos[q]];
        } else {
            token = e->packed->tokens[q];
        }
        T5_ASSERT(token >= 0 && token < e->table->d_out);
        t5_tensor_row_f32(&e->table->table, token, e->x + (size_t)q * (size_t)e->table->d_in);
    }
}

static t5_status fast_embed(t5_backend *b, const t5_matrix *table, const t5_step *step, const t5_packed *packed,
                            float *x, t5_error *err)
{
    (void)err;
    T5_ASSERT((step == NULL) != (packed == NULL));
    embedding e = {.table = table, .step = step, .packed = packed, .x = x};
    e.n_rows = step != NULL ? step->n_queries : packed->n_tokens;
    const int32_t n_tasks = (e.n_rows + EMBED_ROWS_PER_TASK - 1) / EMBED_ROWS_PER_TASK;
    t5_threads_run(((t5_fast *)b)->threads, n_tasks, embed_rows, &e);
    return T5_OK;
}

/* ---- create ---- */

static const t5_backend_ops fast_ops = {
    .name = "cpu",
    .has_shortlists = true,
    .destroy = fast_destroy,
    .alloc = t5_host_alloc,
    .release = t5_host_release,
    .upload = t5_host_copy,
    .download = t5_host_copy,
    .matrix_create = fast_matrix_create,
    .head_create = fast_head_create,
    .matrix_destroy = fast_matrix_destroy,
    .table_create = fast_table_create,
    .embed = fast_embed,
    .rms_norm = t5_fast_rms_norm,
    .linear = t5_fast_linear,
    .encoder_attention = t5_fast_encoder_attention,
    .self_attention = t5_fast_self_attention,
    .cross_attention = t5_fast_cross_attention,
    .cross_weights = t5_fast_cross_weights,
    .store_cross_kv = t5_fast_store_cross_kv,
    .head = t5_fast_head,
    .search = t5_fast_search,
    .head_search = t5_fast_head_search,
    .sync = t5_host_sync,
};

static const char *type_name(t5_compute_type type)
{
    static const char *const names[] = {
        [T5_COMPUTE_AUTO] = "weights as stored", [T5_COMPUTE_F32] = "float32", [T5_COMPUTE_F16] = "float16",
        [T5_COMPUTE_BF16] = "bfloat16",          [T5_COMPUTE_INT8] = "int8",   [T5_COMPUTE_INT4] = "int4",
    };
    return names[type];
}

static t5_status choose_kernels(const char *isa, const t5_kernels **out, t5_error *err)
{
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
        if (isa != NULL && strcmp(isa, (*table)->name) != 0) continue;
        if ((*table)->is_supported()) {
            *out = *table;
            return T5_OK;
        }
        if (isa != NULL) return T5_FAIL(err, T5_ERR_ARG, "this machine has no %s", isa);
    }
    return T5_FAIL(err, T5_ERR_ARG, "no kernels for the instruction set \"%s\"", isa);
}

int32_t t5_cpu_panel(void)
{
    const t5_kernels *const *table = t5_kernel_tables;
    while (!(*table)->is_supported()) /* the last ones, the generic, are */
        table++;
    return (*table)->panel;
}

t5_status t5_cpu_create(const t5_cpu_options *options, t5_backend **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_fast *f = calloc(1, sizeof *f);
    if (f == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "backend: %zu bytes", sizeof *f);
    f->compute_type = options->compute_type;
    T5_TRY(choose_kernels(options->isa, &f->kernels, err));
    T5_TRY(t5_threads_create(options->n_threads, &f->threads, err));
    f->base = (t5_backend){.ops = &fast_ops, .act_dtype = T5_F32};
    snprintf(f->base.device, sizeof f->base.device, "cpu (%s, %d threads, %s)", f->kernels->name,
             t5_threads_count(f->threads), type_name(f->compute_type));
    *out = &f->base;
    f = NULL;
out:
    if (f != NULL) fast_destroy(&f->base);
    return status;
}
