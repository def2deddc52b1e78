/* cpu/fast_head.c: head and search of the fast CPU backend.
 *
 * Greedy search wants the largest logit of a row alone, and the head of a float32 model is up to half of the bytes that
 * a step reads. So the head is computed in int8 first, a quarter of the bytes. How far a rough logit can be from the
 * exact one is known (Cauchy and Schwarz): for a row x, rounded to x', and a column w, rounded to w',
 *
 *   |x w - x' w'| <= |x| |w - w'| + |x - x'| |w'|
 *
 * A panel of columns whose best rough logit is too far below another panel's best to be above it is left out; the
 * others, a few of hundreds (docs/performance.md), are computed as they always are. The token is the same, bit for bit.
 */
#include "cpu/fast.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define TASKS_PER_THREAD 4 /* of open panels */
#define OPEN_MAX_OF 4 /* with more open than one panel of four the whole product is faster, since it works in tiles */

t5_status t5_fast_head(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                       const t5_matrix *w, float *logits, t5_error *err)
{
    const t5_linear_args args = {
        .x = x, .n_rows = n_queries, .norm_gain = norm_gain, .norm_eps = eps, .w = w, .y = logits};
    return t5_fast_linear(b, &args, err);
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

t5_status t5_fast_search(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err)
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

/* ---- the exact logits of those panels alone that can hold a row's largest ---- */

typedef struct {
    const t5_fast *f;
    const t5_step *step;
    const t5_matrix *w;
    t5_gemm rough; /* x and x8 are the rows of both */
    t5_gemm exact;
    int32_t n_panels;
    uint8_t *is_open;        /* [n_rows of the step][n_panels] */
    _Atomic int32_t n_asked; /* rows that want their largest logit */
    _Atomic int64_t n_open;
} screening;

static int32_t last_query(const t5_step_row *row)
{
    return row->q0 + row->q_len - 1;
}

/* How far a rough logit of the panel can be from the exact one. The last term is what the products themselves round: a
 * chain of d_in multiply-adds loses at most d_in / 2 units in the last place of the sum of magnitudes. */
static float panel_bound(const t5_matrix *w, int32_t i_panel, const t5_rounding *x)
{
    const float norm = w->rough_norms[i_panel], error = w->rough_errors[i_panel];
    const float losses = (float)(w->d_in + 16) * FLT_EPSILON;
    return (x->norm + x->error) * error + x->error * norm + losses * (x->norm + x->error) * (norm + error);
}

/* Opens the panels that can hold the row's largest logit. Comparisons with no number open them. */
static void screen_row(void *ctx, int32_t i_row, int32_t i_thread)
{
    screening *s = ctx;
    const t5_step_row *row = &s->step->rows[i_row];
    uint8_t *is_open = s->is_open + (size_t)i_row * (size_t)s->n_panels;
    memset(is_open, 0, (size_t)s->n_panels);
    if (t5_search_wants(s->step->state, row) == T5_LOGITS_NONE) return;
    const int32_t n_logits = s->exact.d_out, q = last_query(row);
    float *x = s->exact.y + (size_t)q * (size_t)n_logits;
    float *highest = t5_fast_scratch(s->f, i_thread);
    float best = -INFINITY;
    const t5_rows8 *x8 = &s->rough.x8;
    const t5_rounding rounding =
        s->f->kernels->rounding(s->rough.x + (size_t)q * (size_t)s->exact.d_in, x8->q + (size_t)q * x8->stride, 0x80,
                                x8->scales[q], s->exact.d_in);
    t5_search_ban(s->step->state, row, x, n_logits);
    s->f->kernels->panel_max(x, n_logits, highest);
    for (int32_t i = 0; i < s->n_panels; i++) {
        const float bound = panel_bound(s->w, i, &rounding);
        if (highest[i] - bound > best) best = highest[i] - bound;
        highest[i] += bound;
    }
    int32_t n_open = 0;
    for (int32_t i = 0; i < s->n_panels; i++) {
        is_open[i] = !(highest[i] < best);
        n_open += is_open[i];
    }
    atomic_fetch_add(&s->n_asked, 1);
    atomic_fetch_add(&s->n_open, n_open);
    for (int32_t i = 0; i < n_logits; i++)
        x[i] = -INFINITY;
}

/* A share of the panels, for all rows that want them: the second finds the panel in the cache. */
static void compute_open(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    const screening *s = ctx;
    const int32_t n_tasks = TASKS_PER_THREAD * t5_threads_count(s->f->threads);
    const int32_t end = t5_fast_share(s->n_panels, i_task + 1, n_tasks);
    for (int32_t i = t5_fast_share(s->n_panels, i_task, n_tasks); i < end; i++) {
        for (int32_t r = 0; r < s->step->n_rows; r++) {
            if (!s->is_open[(size_t)r * (size_t)s->n_panels + (size_t)i]) continue;
            const int32_t q = last_query(&s->step->rows[r]);
            const t5_gemm_part part = {.panel_begin = i, .panel_end = i + 1, .row_begin = q, .row_end = q + 1};
            s->f->kernels->gemm(&s->exact, &part);
        }
    }
}

static bool pays(const t5_fast *f, const t5_step *step, const t5_matrix *w)
{
    if (w->rough == NULL || step->n_queries > f->kernels->rough_rows_max) return false;
    for (int32_t i = 0; i < step->n_rows; i++) {
        if (t5_search_wants(step->state, &step->rows[i]) == T5_LOGITS_ALL) return false;
    }
    return true;
}

static t5_status screened_head(t5_fast *f, const t5_step *step, const t5_linear_args *args, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_matrix *w = args->w;
    t5_linear_args rough_args = *args;
    rough_args.w = w->rough;
    screening s = {.f = f,
                   .step = step,
                   .w = w,
                   .rough = t5_fast_gemm(&rough_args),
                   .exact = t5_fast_gemm(args),
                   .n_panels = t5_fast_panels(f, w->d_out)};
    const size_t n_panels = (size_t)s.n_panels, n_rows = (size_t)step->n_rows;
    T5_TRY(t5_fast_reserve(f, n_panels * sizeof(float), err));
    T5_TRY(t5_fast_grow((void **)&f->open_panels, &f->open_panels_bytes, n_rows * n_panels, err));
    s.is_open = f->open_panels;
    T5_TRY(t5_fast_prepare(f, &rough_args, &s.rough, err));
    s.exact.x = s.rough.x;
    t5_fast_multiply(f, &s.rough, args->n_rows);
    t5_threads_run(f->threads, step->n_rows, screen_row, &s);
    if (atomic_load(&s.n_open) * OPEN_MAX_OF > (int64_t)atomic_load(&s.n_asked) * s.n_panels) {
        t5_fast_multiply(f, &s.exact, args->n_rows);
    } else {
        t5_threads_run(f->threads, TASKS_PER_THREAD * t5_threads_count(f->threads), compute_open, &s);
    }
out:
    return status;
}

t5_status t5_fast_head_search(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                              const t5_matrix *w, float *logits, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_linear_args args = {
        .x = x, .n_rows = step->n_queries, .norm_gain = norm_gain, .norm_eps = eps, .w = w, .y = logits};
    if (pays((const t5_fast *)b, step, w)) {
        T5_TRY(screened_head((t5_fast *)b, step, &args, err));
    } else {
        T5_TRY(t5_fast_linear(b, &args, err));
    }
    T5_TRY(t5_fast_search(b, step, logits, w->d_out, err));
out:
    return status;
}
