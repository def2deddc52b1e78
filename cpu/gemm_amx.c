/* cpu/gemm_amx.c: sums by the matrix unit of AMX, of bytes, of groups of int4 and of bfloat16, compiled once per
 * instruction set; empty where there is no such unit.
 *
 * A tile register holds 16 rows of 64 bytes. One instruction adds to 16 x 16 sums the products of 16 rows of x, as they
 * lie, with 16 columns of a panel, as they lie too: 16 quads, each the panel's width after the one before.
 *
 * A group of int4 is half as deep: the tiles of rows are 32 bytes wide, those of weights have 8 quads.
 *
 * For bfloat16 it adds up the 16 even and the 16 odd products of its step apart, each rounded after every addition,
 * then both to the sum; subnormal numbers count as zero. A row's sums do not depend on the other 15. */
#include "cpu/tile.h"

#if defined(__AMX_INT8__)

#include <assert.h>

#define TILE_ROWS 16
#define TILE_BYTES ((size_t)AMX_QUADS * T5_QUAD) /* of a row */
#define TILE_SUMS ((size_t)AMX_COLUMNS * sizeof(int32_t))
#define PANEL_STRIDE ((size_t)PANEL * T5_QUAD)
static_assert(T5_ROWS_STEP == TILE_ROWS, "tiles are loaded whole");
static_assert(T5_ROW16_STEP * sizeof(uint16_t) == TILE_BYTES, "rows of bfloat16 are whole tiles");
static_assert(PANEL == 4 * AMX_COLUMNS, "four tiles are a panel");

void amx_begin(int32_t step_quads)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int32_t i = 0; i < 8; i++) {
        const bool is_x = i == 4 || i == 5, is_w = i == 6 || i == 7; /* where steps are short */
        config.row_bytes[i] = (uint16_t)(is_x ? (size_t)step_quads * T5_QUAD : TILE_BYTES);
        config.rows[i] = (uint8_t)(is_w ? step_quads : TILE_ROWS);
    }
    _tile_loadconfig(&config);
}

void amx_end(void)
{
    _tile_release();
}

/* Numbers of tiles are part of the instruction. */
#define ADD_PRODUCTS(sums, x, w) \
    do { \
        if (is_bf16) { \
            _tile_dpbf16ps(sums, x, w); \
        } else { \
            _tile_dpbusd(sums, x, w); \
        } \
    } while (0)

/* Up to 16 rows, the whole panel: tiles 0 to 3 are the sums, 4 the rows, 5 and 6 weights. */
T5_INLINE void sum_low(const t5_amx_tile *t, const bool is_bf16)
{
    const char *w = t->w, *x = t->x, *ahead = t->ahead;
    char *sums = t->sums;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int32_t k = 0; k < t->n_quads; k += AMX_QUADS) {
        ahead = fetch_ahead(ahead, t->ahead_lines * (AMX_QUADS / AHEAD_STEP));
        _tile_loadd(4, x, t->x_stride);
        _tile_loadd(5, w, PANEL_STRIDE);
        ADD_PRODUCTS(0, 4, 5);
        _tile_loadd(6, w + TILE_BYTES, PANEL_STRIDE);
        ADD_PRODUCTS(1, 4, 6);
        _tile_loadd(5, w + 2 * TILE_BYTES, PANEL_STRIDE);
        ADD_PRODUCTS(2, 4, 5);
        _tile_loadd(6, w + 3 * TILE_BYTES, PANEL_STRIDE);
        ADD_PRODUCTS(3, 4, 6);
        x += TILE_BYTES;
        w += AMX_QUADS * PANEL_STRIDE;
    }
    _tile_stored(0, sums, t->sums_stride);
    _tile_stored(1, sums + TILE_SUMS, t->sums_stride);
    _tile_stored(2, sums + 2 * TILE_SUMS, t->sums_stride);
    _tile_stored(3, sums + 3 * TILE_SUMS, t->sums_stride);
}

/* 17 to 32 rows, half a panel, so that each tile of weights is used twice: tiles 0 to 3 are the sums, 4 and 5 the rows,
 * 6 and 7 weights. */
T5_INLINE void sum_high(const t5_amx_tile *t, const bool is_bf16, const int32_t i_half)
{
    const size_t ahead_bytes = (size_t)t->n_quads / AHEAD_STEP * (size_t)t->ahead_lines * T5_LINE_BYTES;
    const char *x = t->x, *x_high = x + TILE_ROWS * t->x_stride;
    const char *w = (const char *)t->w + (size_t)i_half * 2 * TILE_BYTES;
    const char *ahead = t->ahead + (size_t)i_half * ahead_bytes / 2;
    char *sums = (char *)t->sums + (size_t)i_half * 2 * TILE_SUMS, *sums_high = sums + TILE_ROWS * t->sums_stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int32_t k = 0; k < t->n_quads; k += AMX_QUADS) {
        ahead = fetch_ahead(ahead, t->ahead_lines * (AMX_QUADS / AHEAD_STEP) / 2);
        _tile_loadd(4, x, t->x_stride);
        _tile_loadd(6, w, PANEL_STRIDE);
        ADD_PRODUCTS(0, 4, 6);
        _tile_loadd(7, w + TILE_BYTES, PANEL_STRIDE);
        ADD_PRODUCTS(1, 4, 7);
        _tile_loadd(5, x_high, t->x_stride);
        ADD_PRODUCTS(2, 5, 6);
        ADD_PRODUCTS(3, 5, 7);
        x += TILE_BYTES;
        x_high += TILE_BYTES;
        w += AMX_QUADS * PANEL_STRIDE;
    }
    _tile_stored(0, sums, t->sums_stride);
    _tile_stored(1, sums + TILE_SUMS, t->sums_stride);
    _tile_stored(2, sums_high, t->sums_stride);
    _tile_stored(3, sums_high + TILE_SUMS, t->sums_stride);
}

void amx_sum_int8(const t5_amx_tile *t, int32_t n_rows)
{
    if (n_rows <= TILE_ROWS) {
        sum_low(t, false);
    } else {
        sum_high(t, false, 0);
        sum_high(t, false, 1);
    }
}

void amx_sum_bf16(const t5_amx_tile *t, int32_t n_rows)
{
    if (n_rows <= TILE_ROWS) {
        sum_low(t, true);
    } else {
        sum_high(t, true, 0);
        sum_high(t, true, 1);
    }
}

/* One group of 16 columns. Numbers of tiles are part of the instruction. */
#define SUM_GROUP(tile_sums, tile_x, tile_w, x, x_stride, w, sums) \
    do { \
        _tile_zero(tile_sums); \
        _tile_loadd(tile_x, x, x_stride); \
        _tile_loadd(tile_w, w, PANEL_STRIDE); \
        _tile_dpbssd(tile_sums, tile_x, tile_w); \
        _tile_stored(tile_sums, sums, TILE_SUMS); \
    } while (0)

/* The sums in float32 of 16 columns stay in registers. Groups go through two sets of tiles in turns. */
void amx_add_groups(const t5_amx_groups *t)
{
    _Alignas(64) int32_t sums[TILE_ROWS][AMX_COLUMNS];
    __asm__ volatile("" ::: "memory"); /* the loads of tiles don't say that they read what was written */
    for (size_t column = 0; column < PANEL; column += AMX_COLUMNS) {
        const uint8_t *x = t->x, *w = t->w + column * T5_QUAD, *scales = t->scales + column * sizeof(uint16_t);
        v_f32 out[TILE_ROWS];
        T5_UNROLL for (int32_t r = 0; r < TILE_ROWS; r++) out[r] = v_load(t->out + r * PANEL + column);
        for (int32_t g = 0; g < t->n_groups; g++) {
            if (g % 2 == 0) {
                SUM_GROUP(0, 4, 6, x, t->x_stride, w, sums);
            } else {
                SUM_GROUP(1, 5, 7, x, t->x_stride, w, sums);
            }
            const v_f32 scale = v_load_bf16((const uint16_t *)(const void *)scales);
            T5_UNROLL for (int32_t r = 0; r < TILE_ROWS; r++) out[r] =
                v_fma(_mm512_cvtepi32_ps(_mm512_load_si512(sums[r])), scale, out[r]);
            x += T5_INT4_GROUP;
            w += PANEL * T5_INT4_GROUP;
            scales += T5_INT4_GROUP_BYTES(PANEL);
        }
        T5_UNROLL for (int32_t r = 0; r < TILE_ROWS; r++) v_store(t->out + r * PANEL + column, out[r]);
    }
}

void kernel_round_row(const float *x, int32_t d, uint16_t *y)
{
    int32_t i = 0;
    for (; i + V_LANES <= d; i += V_LANES) {
        const __m512 v = _mm512_loadu_ps(x + i);
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
        const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
        const __m512i high = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, is_nan, quiet), 16);
        _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm512_cvtepi32_epi16(high));
    }
    for (; i < d; i++)
        y[i] = t5_f32_to_bf16(x[i]);
    for (; i % T5_ROW16_STEP != 0; i++)
        y[i] = 0;
}

#endif
