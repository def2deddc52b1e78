/* cpu/gemm.c: products with packed weights, compiled once per instruction set.
 *
 * A panel is read once per tile of rows. With few rows that is once, and memory sets the pace: the hardware's
 * prefetcher stops at page ends, so each tile asks for its own panel some kilobytes ahead. With many rows the panel
 * stays in the second-level cache, and each tile asks for a share of the next panel. */
#include "cpu/tile.h"

#include <math.h>

#define AHEAD_BYTES 4096 /* one page */

T5_INLINE v_f32 load_weights(const void *w, size_t i, t5_storage storage)
{
    switch (storage) {
    case T5_STORE_F32:
        return v_load((const float *)w + i);
#if defined(__AVX2__) || defined(T5_NEON)
    case T5_STORE_F16:
        return v_load_f16((const uint16_t *)w + i);
#endif
    default:
        return v_load_bf16((const uint16_t *)w + i);
    }
}

/* Specialized by the compiler for every constant (n_rows, n_panels, storage) below. */
T5_INLINE void tile_body(const t5_tile *t, const int32_t n_rows, const int32_t n_panels, const t5_storage storage)
{
    v_f32 sum[TILE_ROWS_MAX][TILE_PANELS_MAX * PANEL_VECTORS];
    const size_t panel_len = (size_t)t->n_k * PANEL;
    const size_t panel_bytes = panel_len * (storage == T5_STORE_F32 ? sizeof(float) : sizeof(uint16_t));
    const float *x = t->x;
    const char *ahead = t->ahead;
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] = v_set1(0.0f);
    }
    for (int32_t k = 0; k < t->n_k; k++) {
        v_f32 w[TILE_PANELS_MAX * PANEL_VECTORS];
        if (k % AHEAD_STEP == 0) {
            if (n_panels == 2) fetch_ahead(ahead + panel_bytes, t->ahead_lines);
            ahead = fetch_ahead(ahead, t->ahead_lines);
        }
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
        {
            const size_t i = (size_t)(v / PANEL_VECTORS) * panel_len + (size_t)k * PANEL;
            w[v] = load_weights(t->w, i + (size_t)(v % PANEL_VECTORS) * V_LANES, storage);
        }
        T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
        {
            const v_f32 xk = v_set1(x[(size_t)r * t->x_stride + (size_t)k]);
            T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] = v_fma(xk, w[v], sum[r][v]);
        }
    }
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            v_store(t->out + (size_t)r * t->out_stride + (size_t)v * V_LANES, sum[r][v]);
    }
}

#define DEFINE_TILE(name, storage) \
    static void name(const t5_tile *t, int32_t n_rows) \
    { \
        TILE_SWITCH(n_rows, tile_body, t, 1, storage) \
    } \
    static void name##_pair(const t5_tile *t) \
    { \
        tile_body(t, 1, 2, storage); \
    }

DEFINE_TILE(tile_store_f32, T5_STORE_F32)
DEFINE_TILE(tile_store_f16, T5_STORE_F16)
DEFINE_TILE(tile_store_bf16, T5_STORE_BF16)

void tile_f32(const t5_tile *t, int32_t n_rows)
{
    tile_store_f32(t, n_rows);
}

static v_f32 activate(t5_act act, v_f32 x)
{
    const v_f32 one = v_set1(1.0f);
    switch (act) {
    case T5_ACT_RELU: /* NaN stays NaN */
        return v_max(v_set1(0.0f), x);
    case T5_ACT_GELU_TANH: { /* 0.5 x (1 + tanh u) = x / (1 + e^(-2u)) */
        const v_f32 u = x * v_fma(x * x, v_set1(0.7978845608f * 0.044715f), v_set1(0.7978845608f));
        return x / (one + v_exp(v_set1(-2.0f) * u));
    }
    case T5_ACT_SILU:
        return x / (one + v_exp(v_set1(-1.0f) * x));
    case T5_ACT_GELU: {
        float lanes[V_LANES];
        v_store(lanes, x);
        for (int32_t i = 0; i < V_LANES; i++)
            lanes[i] = 0.5f * lanes[i] * (1.0f + erff(lanes[i] * 0.70710678118f));
        return v_load(lanes);
    }
    }
    return x;
}

/* One vector of a row of sums: scale, activation and gate; `up` is NULL without a gate. */
T5_INLINE v_f32 finish(const t5_gemm *g, const float *sums, const float *up)
{
    v_f32 value = v_load(sums) * v_set1(g->w.scale);
    if (g->has_act) value = activate(g->act, value);
    if (up != NULL) value = value * (v_load(up) * v_set1(g->w_up.scale));
    return value;
}

/* y[0 .. n) from a row of sums, which has whole vectors. */
static void finish_row(const t5_gemm *g, const float *sums, const float *up, float *y, int32_t n)
{
    int32_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        v_f32 value = finish(g, sums + i, up != NULL ? up + i : NULL);
        if (g->adds) value = value + v_load(y + i);
        v_store(y + i, value);
    }
    if (i == n) return;
    float rest[V_LANES];
    v_store(rest, finish(g, sums + i, up != NULL ? up + i : NULL));
    for (int32_t j = 0; i < n; i++, j++)
        y[i] = g->adds ? y[i] + rest[j] : rest[j];
}

#define PLACE_LEN_MAX (BLOCK_ROWS_MAX * PANEL) /* values of the largest tile */

/* Which tile of which panels: tiles of the same panels follow one another. */
typedef struct {
    int32_t i_panel, n_panels;
    int32_t i_row, n_rows;
    int32_t i_tile, n_tiles; /* of the rows */
    bool is_amx;
} place;

/* What a tile asks for ahead of time, see the head of this file: `w` has `n` rows of row_bytes, in one panel. */
static void look_ahead(const place *at, const void *w, size_t n, size_t row_bytes, const char **ahead, int32_t *lines)
{
    const size_t steps = (n + AHEAD_STEP - 1) / AHEAD_STEP;
    const size_t step_bytes = AHEAD_STEP * row_bytes;
    const int32_t step_lines = (int32_t)((step_bytes + T5_LINE_BYTES - 1) / T5_LINE_BYTES);
    if (at->n_tiles == 1) {
        *ahead = (const char *)w + AHEAD_BYTES;
        *lines = step_lines;
    } else {
        *lines = (step_lines + at->n_tiles - 1) / at->n_tiles;
        *ahead = (const char *)w + n * row_bytes + (size_t)at->i_tile * steps * (size_t)*lines * T5_LINE_BYTES;
    }
}

static void run_tile8(const t5_gemm *g, const t5_panels *w, const place *at, float *out, size_t out_stride)
{
    const size_t n_quads = g->x8.stride / T5_QUAD;
    const size_t column = (size_t)at->i_panel * PANEL;
    t5_tile8 t = {.x = g->x8.q + (size_t)at->i_row * g->x8.stride,
                  .x_stride = g->x8.stride,
                  .x_scales = g->x8.scales + at->i_row,
                  .w = (const int8_t *)w->panels + column * n_quads * T5_QUAD,
                  .w_scales = w->column_scales + column,
                  .w_sums = w->column_sums + column,
                  .n_quads = (int32_t)n_quads,
                  .out = out,
                  .out_stride = out_stride};
    look_ahead(at, t.w, n_quads, PANEL * T5_QUAD, &t.ahead, &t.ahead_lines);
    if (at->n_panels == 2) t.ahead_lines = 0; /* the hardware keeps up with two streams of bytes */
#if defined(__AMX_INT8__)
    if (at->is_amx) {
        tile_int8_amx(&t, at->n_rows);
        return;
    }
#endif
    tile_int8(&t, at->n_rows, at->n_panels);
}

static void run_tile4(const t5_gemm *g, const t5_panels *w, const place *at, float *out, size_t out_stride)
{
    const size_t n_groups = g->x8.stride / T5_INT4_GROUP, group_bytes = T5_INT4_GROUP_BYTES(PANEL);
    t5_tile4 t = {.x = g->x8.q + (size_t)at->i_row * g->x8.stride,
                  .x_stride = g->x8.stride,
                  .x_scales = g->x8.scales + at->i_row,
                  .x_starts = g->x8.group_starts + (size_t)at->i_row * n_groups,
                  .w = (const uint8_t *)w->panels + (size_t)at->i_panel * n_groups * group_bytes,
                  .n_groups = (int32_t)n_groups,
                  .out = out,
                  .out_stride = out_stride};
    const size_t steps = INT4_BLOCKS * AHEAD_STEP; /* of a group: look_ahead() thinks in rows */
    look_ahead(at, t.w, n_groups * steps, group_bytes / steps, &t.ahead, &t.ahead_lines);
    if (at->n_panels == 2) t.ahead_lines = 0;
#if defined(__AMX_INT8__)
    if (at->is_amx) {
        tile_int4_amx(&t, at->n_rows);
        return;
    }
#endif
    tile_int4(&t, at->n_rows, at->n_panels);
}

#if defined(__AMX_INT8__)

static void run_tile_pairs(const t5_gemm *g, const t5_panels *w, const place *at, float *out, size_t out_stride)
{
    const size_t row_bytes = g->x16.stride * sizeof *g->x16.x;
    t5_amx_tile t = {.x = g->x16.x + (size_t)at->i_row * g->x16.stride,
                     .x_stride = row_bytes,
                     .w = (const char *)w->panels + (size_t)at->i_panel * PANEL * row_bytes,
                     .n_quads = (int32_t)(row_bytes / T5_QUAD),
                     .sums = out,
                     .sums_stride = out_stride * sizeof *out};
    look_ahead(at, t.w, row_bytes / T5_QUAD, PANEL * T5_QUAD, &t.ahead, &t.ahead_lines);
    amx_sum_bf16(&t, at->n_rows);
}

#endif

/* out[n_rows][n_panels * PANEL of out_stride] = x w^T, unscaled. Pairs write whole steps of T5_ROWS_STEP rows. */
static void run_tile(const t5_gemm *g, const t5_panels *w, const place *at, float *out, size_t out_stride)
{
    if (w->storage == T5_STORE_INT8) {
        run_tile8(g, w, at, out, out_stride);
        return;
    }
    if (w->storage == T5_STORE_INT4) {
        run_tile4(g, w, at, out, out_stride);
        return;
    }
#if defined(__AMX_INT8__)
    if (w->storage == T5_STORE_PAIRS) {
        run_tile_pairs(g, w, at, out, out_stride);
        return;
    }
#endif
    const size_t n_k = (size_t)g->d_in;
    const size_t row_bytes = PANEL * (w->storage == T5_STORE_F32 ? sizeof(float) : sizeof(uint16_t));
    t5_tile t = {.x = g->x + (size_t)at->i_row * n_k,
                 .x_stride = n_k,
                 .w = (const char *)w->panels + (size_t)at->i_panel * n_k * row_bytes,
                 .n_k = g->d_in,
                 .out = out,
                 .out_stride = out_stride};
    look_ahead(at, t.w, n_k, row_bytes, &t.ahead, &t.ahead_lines);
    const bool is_pair = at->n_panels == 2;
    if (w->storage == T5_STORE_F32) {
        is_pair ? tile_store_f32_pair(&t) : tile_store_f32(&t, at->n_rows);
    } else if (w->storage == T5_STORE_F16) {
        is_pair ? tile_store_f16_pair(&t) : tile_store_f16(&t, at->n_rows);
    } else {
        is_pair ? tile_store_bf16_pair(&t) : tile_store_bf16(&t, at->n_rows);
    }
}

static void compute_tile(const t5_gemm *g, const place *at)
{
    _Alignas(64) float sums[PLACE_LEN_MAX];
    _Alignas(64) float up_sums[PLACE_LEN_MAX];
    const int32_t n_cols = at->n_panels * PANEL;
    const int32_t i_col = at->i_panel * PANEL;
    const int32_t n_real = g->d_out - i_col < n_cols ? g->d_out - i_col : n_cols;
    const bool has_gate = g->w_up.panels != NULL;
    float *y = g->y + (size_t)at->i_row * (size_t)g->d_out + i_col;
    const bool has_room = g->w.storage != T5_STORE_PAIRS || at->n_rows % T5_ROWS_STEP == 0;
    if (n_real == n_cols && !g->has_act && !has_gate && !g->adds && g->w.scale == 1.0f && has_room) {
        run_tile(g, &g->w, at, y, (size_t)g->d_out);
        return;
    }
    run_tile(g, &g->w, at, sums, (size_t)n_cols);
    if (has_gate) run_tile(g, &g->w_up, at, up_sums, (size_t)n_cols);
    for (int32_t r = 0; r < at->n_rows; r++)
        finish_row(g, sums + r * n_cols, has_gate ? up_sums + r * n_cols : NULL, y + (size_t)r * (size_t)g->d_out,
                   n_real);
}

#if defined(__AMX_INT8__)

/* Pairs are always the unit's: no other instruction gives the bits of its sums. */
static bool is_for_amx(const t5_gemm *g, int32_t n_rows)
{
    if (g->w.storage == T5_STORE_PAIRS) return true;
    if (g->w.storage == T5_STORE_INT4) return n_rows >= AMX_ROWS_MIN_INT4;
    return g->w.storage == T5_STORE_INT8 && g->x8.stride % (AMX_QUADS * T5_QUAD) == 0 && n_rows >= AMX_ROWS_MIN;
}

/* The unit computes 16 rows at a time, real or not: so tiles are filled up, not evened out. */
static bool gemm_amx(const t5_gemm *g, const t5_gemm_part *part)
{
    const int32_t n_rows = part->row_end - part->row_begin;
    if (!is_for_amx(g, n_rows)) return false;
    place at = {.n_panels = 1, .n_tiles = (n_rows + BLOCK_ROWS_MAX - 1) / BLOCK_ROWS_MAX, .is_amx = true};
    amx_begin(g->w.storage == T5_STORE_INT4 ? T5_INT4_GROUP / T5_QUAD : AMX_QUADS);
    for (at.i_panel = part->panel_begin; at.i_panel < part->panel_end; at.i_panel++) {
        at.i_row = part->row_begin;
        for (at.i_tile = 0; at.i_tile < at.n_tiles; at.i_tile++, at.i_row += at.n_rows) {
            const int32_t n_left = part->row_end - at.i_row;
            at.n_rows = n_left < BLOCK_ROWS_MAX ? n_left : BLOCK_ROWS_MAX;
            compute_tile(g, &at);
        }
    }
    amx_end();
    return true;
}

#endif

void kernel_gemm(const t5_gemm *g, const t5_gemm_part *part)
{
#if defined(__AMX_INT8__)
    if (gemm_amx(g, part)) return;
#endif
    const int32_t n_rows = part->row_end - part->row_begin;
    const int32_t tile_rows_max = g->w.storage == T5_STORE_INT4 ? BLOCK_ROWS_MAX : TILE_ROWS_MAX;
    place at = {.n_tiles = (n_rows + tile_rows_max - 1) / tile_rows_max};
    for (at.i_panel = part->panel_begin; at.i_panel < part->panel_end; at.i_panel += at.n_panels) {
        at.n_panels = n_rows == 1 && part->panel_end - at.i_panel >= 2 ? 2 : 1;
        at.i_row = part->row_begin;
        for (at.i_tile = 0; at.i_tile < at.n_tiles; at.i_tile++, at.i_row += at.n_rows) {
            at.n_rows = tile_rows(part->row_end - at.i_row, tile_rows_max);
            compute_tile(g, &at);
        }
    }
}
