/* cpu/fast_product.c: products of the fast CPU backend: how rows are prepared for them, and how they are cut into
 * tasks.
 */
#include "base/assert.h"
#include "cpu/fast.h"

#include <stdlib.h>

#define SERIAL_WORK 65536  /* multiply-adds that one thread does sooner than others join in */
#define PANELS_PER_TASK 2  /* unless threads had fewer: neighbours, which one row reads together */
#define TASKS_PER_THREAD 8 /* of few rows: more even out threads that are held up, but each costs a little */
#define TASK_WORK 4194304  /* multiply-adds at least where a thread has more than one */
#define ROWS_PER_TASK 96   /* of products with many rows */
#define ROWS_PER_TASK_MIN 12
#define NORM_ROWS_PER_TASK 16
#define EXCHANGE_COST 5 /* of a byte from another core's cache, in bytes of weights, which are read in order */

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t max_i32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* How many tasks rows are cut into, of `max` rows at most where there are many. As many for each thread, so that its
 * are the same rows, whatever is done to them: they stay in its core's cache. */
static int32_t count_row_tasks(const t5_fast *f, int32_t n_rows, int32_t max)
{
    const int32_t n_threads = t5_threads_count(f->threads);
    const int32_t n_wanted = (n_rows + n_threads * max - 1) / (n_threads * max); /* of each thread */
    const int32_t n_largest = n_rows / (n_threads * ROWS_PER_TASK_MIN);
    if (n_largest > 0) return n_threads * min_i32(n_wanted, n_largest);
    int32_t n = max_i32(1, n_rows / ROWS_PER_TASK_MIN); /* threads share rows, as many all of them */
    while (n_threads % n != 0)
        n--;
    return n;
}

/* A product cut into n_row_tasks x n_panel_tasks; tasks of the same rows are neighbours. */
typedef struct {
    const t5_kernels *kernels;
    const t5_gemm *gemm;
    int32_t n_rows, n_panels;
    int32_t n_row_tasks, n_panel_tasks;
} product;

static void compute_part(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    const product *p = ctx;
    const int32_t i_rows = i_task / p->n_panel_tasks;
    const int32_t i_panels = i_task % p->n_panel_tasks;
    const t5_gemm_part part = {.panel_begin = t5_fast_share(p->n_panels, i_panels, p->n_panel_tasks),
                               .panel_end = t5_fast_share(p->n_panels, i_panels + 1, p->n_panel_tasks),
                               .row_begin = t5_fast_share(p->n_rows, i_rows, p->n_row_tasks),
                               .row_end = t5_fast_share(p->n_rows, i_rows + 1, p->n_row_tasks)};
    p->kernels->gemm(p->gemm, &part);
}

/* Panels are cut where there are not tasks enough by rows, so that all threads have as many. */
static int32_t count_panel_tasks(int32_t n_threads, int64_t work, int32_t n_row_tasks, int32_t n_panels)
{
    const int64_t n_wanted = work / TASK_WORK;
    const int32_t n_max = TASKS_PER_THREAD * n_threads;
    const int32_t n_tasks = n_wanted > n_max ? n_max : max_i32((int32_t)n_wanted, n_threads);
    int32_t n = max_i32(1, min_i32(n_panels / PANELS_PER_TASK, n_tasks / n_row_tasks));
    while (n < n_panels && n * n_row_tasks % n_threads != 0)
        n++;
    return n;
}

/* Each thread's own rows, or its own panels? With rows each reads all weights, with panels each reads what others have
 * computed of the rows, in their cores' caches. */
static bool has_own_rows(const t5_gemm *g, int32_t n_rows, int32_t n_threads)
{
    const int64_t line_bytes = (int64_t)t5_line_bytes(g->w.storage, g->d_in); /* rows are about as wide */
    const int64_t read_again = line_bytes * g->d_out * (g->w_up.panels != NULL ? 2 : 1);
    const int64_t exchanged = n_rows * (line_bytes + (int64_t)sizeof(float) * g->d_out);
    return n_rows >= n_threads * ROWS_PER_TASK || read_again <= EXCHANGE_COST * exchanged;
}

void t5_fast_multiply(const t5_fast *f, const t5_gemm *g, int32_t n_rows)
{
    const int32_t n_threads = t5_threads_count(f->threads);
    product p = {.kernels = f->kernels, .gemm = g, .n_rows = n_rows, .n_row_tasks = 1, .n_panel_tasks = 1};
    p.n_panels = t5_fast_panels(f, g->d_out);
    const int64_t work = (int64_t)n_rows * g->d_in * g->d_out;
    if (n_threads > 1 && work > SERIAL_WORK) {
        if (has_own_rows(g, n_rows, n_threads)) p.n_row_tasks = count_row_tasks(f, n_rows, ROWS_PER_TASK);
        p.n_panel_tasks = count_panel_tasks(n_threads, work, p.n_row_tasks, p.n_panels);
    }
    t5_threads_run(f->threads, p.n_row_tasks * p.n_panel_tasks, compute_part, &p);
}

t5_status t5_fast_grow(void **array, size_t *n_bytes, size_t wanted, t5_error *err)
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
    int32_t n_tasks;
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
    const int32_t end = t5_fast_share(p->n_rows, i_task + 1, p->n_tasks);
    for (int32_t r = t5_fast_share(p->n_rows, i_task, p->n_tasks); r < end; r++) {
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
    T5_TRY(t5_fast_grow((void **)&f->rows8, &f->rows8_bytes, (n_rows + T5_ROWS_STEP - 1) * p->rows8_stride, err));
    T5_TRY(t5_fast_grow((void **)&f->row_scales, &f->row_scales_bytes, n_rows * sizeof(float), err));
    p->rows8 = f->rows8;
    p->row_scales = f->row_scales;
    g->x8 = (t5_rows8){.q = f->rows8, .stride = p->rows8_stride, .scales = f->row_scales};
    if (is_int4) {
        const size_t n_sums = n_rows * (p->rows8_stride / T5_INT4_GROUP);
        T5_TRY(t5_fast_grow((void **)&f->group_starts, &f->group_starts_bytes, n_sums * sizeof(int32_t), err));
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
    T5_TRY(t5_fast_grow((void **)&f->rows16, &f->rows16_bytes, n_bytes, err));
    p->rows16 = f->rows16;
    g->x16 = (t5_rows16){.x = f->rows16, .stride = p->rows16_stride};
out:
    return status;
}

t5_status t5_fast_prepare(t5_fast *f, const t5_linear_args *args, t5_gemm *g, t5_error *err)
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
                     .d = g->d_in,
                     .n_tasks = count_row_tasks(f, args->n_rows, NORM_ROWS_PER_TASK)};
    if (args->norm_gain != NULL) {
        T5_TRY(t5_fast_grow((void **)&f->normed, &f->normed_bytes, n_rows * (size_t)g->d_in * sizeof(float), err));
        g->x = p.normed = f->normed;
    }
    if (is_8_bit) T5_TRY(reserve_rows8(f, n_rows, &p, g, err));
    if (is_bf16) T5_TRY(reserve_rows16(f, n_rows, &p, g, err));
    t5_threads_run(f->threads, p.n_tasks, prepare_rows, &p);
out:
    return status;
}

t5_gemm t5_fast_gemm(const t5_linear_args *args)
{
    const t5_matrix *w = args->w;
    t5_gemm g = {.y = args->y,
                 .d_in = w->d_in,
                 .d_out = w->d_out,
                 .w = w->panels,
                 .has_act = args->has_act != 0,
                 .act = args->act,
                 .adds = args->adds};
    if (args->w_up != NULL) {
        T5_ASSERT(args->w_up->d_in == w->d_in && args->w_up->d_out == w->d_out);
        T5_ASSERT(args->w_up->panels.storage == w->panels.storage); /* rows are prepared once */
        g.w_up = args->w_up->panels;
    }
    return g;
}

t5_status t5_fast_linear(t5_backend *b, const t5_linear_args *args, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    t5_gemm g = t5_fast_gemm(args);
    T5_TRY(t5_fast_prepare(f, args, &g, err));
    t5_fast_multiply(f, &g, args->n_rows);
out:
    return status;
}

t5_status t5_fast_rms_norm(t5_backend *b, const float *x, const float *gain, float eps, int32_t n_rows, int32_t d,
                           void *y, t5_error *err)
{
    (void)err;
    const t5_fast *f = (const t5_fast *)b;
    preparation p = {.kernels = f->kernels, .x = x, .gain = gain, .eps = eps, .n_rows = n_rows, .d = d, .normed = y};
    p.n_tasks = count_row_tasks(f, n_rows, NORM_ROWS_PER_TASK);
    t5_threads_run(f->threads, p.n_tasks, prepare_rows, &p);
    return T5_OK;
}
