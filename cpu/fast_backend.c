/* cpu/fast_backend.c: the fast CPU backend: memory, weights, norms, products and the search step. The inner loops are
 * in the kernel tables (kernels.h); here is who computes what. How the work is cut never changes a result: an output
 * element is always one task's, and its sum has one order. */
#include "base/assert.h"
#include "cpu/fast.h"
#include "cpu/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIAL_WORK 65536  /* multiply-adds that one thread does sooner than others join in */
#define PANELS_PER_TASK 4  /* neighbours, so that a task can fetch its next panel ahead */
#define TASKS_PER_THREAD 8 /* at most: more even out threads that are held up, but fetch ahead less */
#define ROWS_PER_TASK 96   /* of products with many rows */
#define ROWS_PER_TASK_MIN 12
#define COPY_ROWS_PER_TASK 16 /* norms and embeddings */

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t max_i32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

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
    free(f->normed);
    free(f->rows8);
    free(f->rows16);
    free(f->row_scales);
    free(f->group_starts);
    free(f->thread_scratch);
    free(f);
}

/* ---- weights ---- */

static t5_status fast_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale,
                                    t5_matrix **out, t5_error *err)
{
    const t5_fast *f = (const t5_fast *)b;
    const t5_status status = t5_matrix_pack(f->kernels, f->threads, f->compute_type, parts, n_parts, scale, out, err);
    if (status == T5_OK) b->weights_bytes += (*out)->n_bytes;
    return status;
}

static void fast_matrix_destroy(t5_backend *b, t5_matrix *m)
{
    (void)b;
    t5_matrix_free(m);
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
    const int32_t begin = i_task * COPY_ROWS_PER_TASK;
    const int32_t end = min_i32(begin + COPY_ROWS_PER_TASK, e->n_rows);
    for (int32_t q = begin; q < end; q++) {
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
    const int32_t n_tasks = (e.n_rows + COPY_ROWS_PER_TASK - 1) / COPY_ROWS_PER_TASK;
    t5_threads_run(((t5_fast *)b)->threads, n_tasks, embed_rows, &e);
    return T5_OK;
}

/* ---- products ---- */

/* A product cut into n_panel_tasks x n_row_tasks; tasks of the same panels are neighbours. */
typedef struct {
    const t5_kernels *kernels;
    t5_gemm gemm;
    int32_t n_rows, n_panels;
    int32_t n_panel_tasks, n_row_tasks;
} product;

/* First of `n` things of task `i` of n_tasks. */
static int32_t share(int32_t n, int32_t i, int32_t n_tasks)
{
    return (int32_t)((int64_t)n * i / n_tasks);
}

static void compute_part(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    const product *p = ctx;
    const int32_t i_panels = i_task / p->n_row_tasks;
    const int32_t i_rows = i_task % p->n_row_tasks;
    const t5_gemm_part part = {.panel_begin = share(p->n_panels, i_panels, p->n_panel_tasks),
                               .panel_end = share(p->n_panels, i_panels + 1, p->n_panel_tasks),
                               .row_begin = share(p->n_rows, i_rows, p->n_row_tasks),
                               .row_end = share(p->n_rows, i_rows + 1, p->n_row_tasks)};
    p->kernels->gemm(&p->gemm, &part);
}

static void run_product(const t5_fast *f, product *p)
{
    const int32_t n_threads = t5_threads_count(f->threads);
    const t5_gemm *g = &p->gemm;
    p->kernels = f->kernels;
    p->n_panels = (g->d_out + f->kernels->panel - 1) / f->kernels->panel;
    p->n_panel_tasks = p->n_row_tasks = 1;
    const int64_t work = (int64_t)p->n_rows * g->d_in * g->d_out;
    if (n_threads > 1 && work > SERIAL_WORK) {
        int32_t n_tasks = max_i32(p->n_panels / PANELS_PER_TASK, n_threads);
        n_tasks = min_i32(n_tasks, TASKS_PER_THREAD * n_threads);
        p->n_panel_tasks = min_i32(n_tasks, p->n_panels);
        p->n_row_tasks = max_i32(p->n_rows / ROWS_PER_TASK, n_threads / p->n_panel_tasks);
        p->n_row_tasks = max_i32(1, min_i32(p->n_row_tasks, p->n_rows / ROWS_PER_TASK_MIN));
    }
    t5_threads_run(f->threads, p->n_panel_tasks * p->n_row_tasks, compute_part, p);
}

/* Makes *array hold n_bytes at least; what it held is lost. */
static t5_status grow(void **array, size_t *n_bytes, size_t wanted, t5_error *err)
{
    if (*n_bytes >= wanted) return T5_OK;
    const size_t rounded = (wanted + T5_LINE_BYTES - 1) / T5_LINE_BYTES * T5_LINE_BYTES;
    free(*array);
    *n_bytes = 0;
    *array = aligned_alloc(T5_LINE_BYTES, rounded);
    if (*array == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "scratch: %zu bytes", rounded);
    *n_bytes = rounded;
    return T5_OK;
}

/* What a product does to its rows first: a norm, 8 or 16 bits, both or nothing. */
typedef struct {
    const t5_kernels *kernels;
    const float *x, *gain; /* gain NULL: no norm */
    float eps;
    int32_t n_rows, d;
    float *normed;
    uint8_t *rows8; /* NULL: not in 8 bits */
    size_t rows8_stride;
    uint16_t *rows16; /* NULL: not in bfloat16 */
    size_t rows16_stride;
    float *row_scales;
    int32_t *group_starts; /* NULL: int8 */
} preparation;

static void prepare_rows(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    const preparation *p = ctx;
    const int32_t begin = i_task * COPY_ROWS_PER_TASK;
    const int32_t end = min_i32(begin + COPY_ROWS_PER_TASK, p->n_rows);
    for (int32_t r = begin; r < end; r++) {
        const float *x = p->x + (size_t)r * (size_t)p->d;
        if (p->gain != NULL) {
            float *y = p->normed + (size_t)r * (size_t)p->d;
            p->kernels->norm_row(x, p->gain, p->eps, p->d, y);
            x = y;
        }
        if (p->rows16 != NULL) p->kernels->round_row(x, p->d, p->rows16 + (size_t)r * p->rows16_stride);
        if (p->rows8 == NULL) continue;
        uint8_t *q = p->rows8 + (size_t)r * p->rows8_stride;
        p->row_scales[r] = p->kernels->quantize_row(x, p->d, q);
        if (p->group_starts != NULL)
            p->kernels->center_row(q, p->d, p->group_starts + (size_t)r * (p->rows8_stride / T5_INT4_GROUP));
    }
}

static t5_status reserve_rows8(t5_fast *f, size_t n_rows, preparation *p, t5_gemm *g, t5_error *err)
{
    t5_status status = T5_OK;
    const bool is_int4 = g->w.storage == T5_STORE_INT4;
    const size_t step = is_int4 ? T5_INT4_GROUP : T5_QUAD;
    p->rows8_stride = ((size_t)g->d_in + step - 1) / step * step;
    T5_TRY(grow((void **)&f->rows8, &f->rows8_bytes, (n_rows + T5_ROWS_STEP - 1) * p->rows8_stride, err));
    T5_TRY(grow((void **)&f->row_scales, &f->row_scales_bytes, n_rows * sizeof(float), err));
    p->rows8 = f->rows8;
    p->row_scales = f->row_scales;
    g->x8 = (t5_rows8){.q = f->rows8, .stride = p->rows8_stride, .scales = f->row_scales};
    if (is_int4) {
        const size_t n_sums = n_rows * (p->rows8_stride / T5_INT4_GROUP);
        T5_TRY(grow((void **)&f->group_starts, &f->group_starts_bytes, n_sums * sizeof(int32_t), err));
        g->x8.group_starts = p->group_starts = f->group_starts;
    }
out:
    return status;
}

static t5_status reserve_rows16(t5_fast *f, size_t n_rows, preparation *p, t5_gemm *g, t5_error *err)
{
    t5_status status = T5_OK;
    p->rows16_stride = ((size_t)g->d_in + T5_ROW16_STEP - 1) / T5_ROW16_STEP * T5_ROW16_STEP;
    const size_t n_bytes = (n_rows + T5_ROWS_STEP - 1) * p->rows16_stride * sizeof *f->rows16;
    T5_TRY(grow((void **)&f->rows16, &f->rows16_bytes, n_bytes, err));
    p->rows16 = f->rows16;
    g->x16 = (t5_rows16){.x = f->rows16, .stride = p->rows16_stride};
out:
    return status;
}

/* Sets x, x8 and x16 of the product from the rows of `args`. */
static t5_status prepare(t5_fast *f, const t5_linear_args *args, t5_gemm *g, t5_error *err)
{
    t5_status status = T5_OK;
    const size_t n_rows = (size_t)args->n_rows;
    const bool is_8_bit = g->w.storage == T5_STORE_INT4 || g->w.storage == T5_STORE_INT8;
    const bool is_bf16 = g->w.storage == T5_STORE_PAIRS;
    g->x = args->x;
    if (args->norm_gain == NULL && !is_8_bit && !is_bf16) return T5_OK;
    preparation p = {.kernels = f->kernels,
                     .x = args->x,
                     .gain = args->norm_gain,
                     .eps = args->norm_eps,
                     .n_rows = args->n_rows,
                     .d = g->d_in};
    if (args->norm_gain != NULL) {
        T5_TRY(grow((void **)&f->normed, &f->normed_bytes, n_rows * (size_t)g->d_in * sizeof(float), err));
        g->x = p.normed = f->normed;
    }
    if (is_8_bit) T5_TRY(reserve_rows8(f, n_rows, &p, g, err));
    if (is_bf16) T5_TRY(reserve_rows16(f, n_rows, &p, g, err));
    t5_threads_run(f->threads, (args->n_rows + COPY_ROWS_PER_TASK - 1) / COPY_ROWS_PER_TASK, prepare_rows, &p);
out:
    return status;
}

static t5_status fast_linear(t5_backend *b, const t5_linear_args *args, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    const t5_matrix *w = args->w;
    product p = {.n_rows = args->n_rows,
                 .gemm = {.y = args->y,
                          .d_in = w->d_in,
                          .d_out = w->d_out,
                          .w = w->panels,
                          .has_act = args->has_act != 0,
                          .act = args->act,
                          .adds = args->adds}};
    if (args->w_up != NULL) {
        T5_ASSERT(args->w_up->d_in == w->d_in && args->w_up->d_out == w->d_out);
        T5_ASSERT(args->w_up->panels.storage == w->panels.storage); /* rows are prepared once */
        p.gemm.w_up = args->w_up->panels;
    }
    T5_TRY(prepare(f, args, &p.gemm, err));
    run_product(f, &p);
out:
    return status;
}

static t5_status fast_head(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                           const t5_matrix *w, float *logits, t5_error *err)
{
    const t5_linear_args args = {
        .x = x, .n_rows = n_queries, .norm_gain = norm_gain, .norm_eps = eps, .w = w, .y = logits};
    return fast_linear(b, &args, err);
}

static t5_status fast_rms_norm(t5_backend *b, const float *x, const float *gain, float eps, int32_t n_rows, int32_t d,
                               void *y, t5_error *err)
{
    (void)err;
    const t5_fast *f = (const t5_fast *)b;
    preparation p = {.kernels = f->kernels, .x = x, .gain = gain, .eps = eps, .n_rows = n_rows, .d = d, .normed = y};
    t5_threads_run(f->threads, (n_rows + COPY_ROWS_PER_TASK - 1) / COPY_ROWS_PER_TASK, prepare_rows, &p);
    return T5_OK;
}

/* ---- search ---- */

typedef struct {
    const t5_fast *f;
    const t5_step *step;
    t5_search_state state;
    float *logits;
    int32_t vocab_size;
} searching;

static void search_row(void *ctx, int32_t i_task, int32_t i_thread)
{
    searching *s = ctx;
    t5_search_row(&s->state, &s->step->rows[i_task], s->logits, s->vocab_size, &s->f->kernels->vocab,
                  t5_fast_scratch(s->f, i_thread));
}

static t5_status fast_search(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    T5_TRY(t5_fast_reserve(f, (size_t)vocab_size * sizeof(t5_candidate), err));
    searching s = {.f = f, .step = step, .state = *step->state, .logits = logits, .vocab_size = vocab_size};
    t5_threads_run(f->threads, step->n_rows, search_row, &s);
    t5_search_slots(&s.state, step->rows, step->n_rows);
out:
    return status;
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
    .matrix_destroy = fast_matrix_destroy,
    .table_create = fast_table_create,
    .embed = fast_embed,
    .rms_norm = fast_rms_norm,
    .linear = fast_linear,
    .encoder_attention = t5_fast_encoder_attention,
    .self_attention = t5_fast_self_attention,
    .cross_attention = t5_fast_cross_attention,
    .cross_weights = t5_fast_cross_weights,
    .store_cross_kv = t5_fast_store_cross_kv,
    .head = fast_head,
    .search = fast_search,
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
