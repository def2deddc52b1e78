/* cpu/tile.h: the register tile that all products are made of, for the kernels of one instruction set.
 *
 *   out[r][c] = sum over k of x[r][k] * w[k][c],  r < n_rows <= TILE_ROWS_MAX, c < the columns of n_panels panels
 *
 * All sums stay in registers while k runs; each is one chain in rising k. A fused multiply-add takes about four cycles
 * and two start in each, so a tile wants eight sums or more in flight: one row takes two panels at a time. */
#pragma once
#include "cpu/kernels.h"
#include "cpu/simd.h"

#define PANEL_VECTORS 4
#define PANEL (PANEL_VECTORS * V_LANES)
#define TILE_PANELS_MAX 2
#if defined(__AVX512F__) || defined(T5_NEON)
#define TILE_ROWS_MAX 6 /* 24 sums, 4 weights, 1 activation of 32 registers */
#else
#define TILE_ROWS_MAX 3 /* 12 sums, 1 weight, 3 activations of 16 registers */
#endif

/* body(t, n_rows, ...) with n_rows as a constant, which it is specialized for. */
#define TILE_CASE(n, body, t, ...) \
    case n: \
        body(t, n, __VA_ARGS__); \
        break;
#define TILE_SWITCH_3(n_rows, body, t, ...) \
    switch (n_rows) { \
        TILE_CASE(1, body, t, __VA_ARGS__) \
        TILE_CASE(2, body, t, __VA_ARGS__) \
        TILE_CASE(3, body, t, __VA_ARGS__) \
    }
#define TILE_SWITCH_6(n_rows, body, t, ...) \
    switch (n_rows) { \
        TILE_CASE(1, body, t, __VA_ARGS__) \
        TILE_CASE(2, body, t, __VA_ARGS__) \
        TILE_CASE(3, body, t, __VA_ARGS__) \
        TILE_CASE(4, body, t, __VA_ARGS__) \
        TILE_CASE(5, body, t, __VA_ARGS__) \
        TILE_CASE(6, body, t, __VA_ARGS__) \
    }
#if TILE_ROWS_MAX == 6
#define TILE_SWITCH TILE_SWITCH_6
#else
#define TILE_SWITCH TILE_SWITCH_3
#endif

typedef struct {
    const float *x;
    size_t x_stride;
    const void *w; /* panels of n_k rows, one after another */
    int32_t n_k;
    float *out;
    size_t out_stride;
    const char *ahead;   /* memory that will be needed soon */
    int32_t ahead_lines; /* cache lines of it to fetch every few k */
} t5_tile;

#define BLOCK_ROWS_MAX 32 /* tiles of int4 weights and of the matrix unit have more rows, in memory */

/* Rows of the next tile of n_max rows at most when n_left remain: as even as possible, so that no small rest is left at
 * the end. */
T5_INLINE int32_t tile_rows(int32_t n_left, int32_t n_max)
{
    const int32_t n_tiles = (n_left + n_max - 1) / n_max;
    return (n_left + n_tiles - 1) / n_tiles;
}

/* One panel of float32, for the kernels that pack their own. n_rows <= TILE_ROWS_MAX. */
#define tile_f32 T5_ISA_NAME(t5_tile_f32)
void tile_f32(const t5_tile *t, int32_t n_rows);

/* The same with 8-bit integers: x and w in groups of T5_QUAD along k, of which there are n_quads. out is the product in
 * float32. */
typedef struct {
    const uint8_t *x;
    size_t x_stride;
    const float *x_scales;
    const int8_t *w;
    const float *w_scales;
    const int32_t *w_sums;
    int32_t n_quads;
    float *out;
    size_t out_stride;
    const char *ahead;
    int32_t ahead_lines;
} t5_tile8;
#define tile_int8 T5_ISA_NAME(t5_tile_int8)
void tile_int8(const t5_tile8 *t, int32_t n_rows, int32_t n_panels);

/* The matrix unit (gemm_amx.c), for up to BLOCK_ROWS_MAX rows of one panel, between amx_begin and amx_end of the
 * thread. A quad is 4 bytes of a row and of each column: four integers or two bfloat16. Sums of integers are exact.
 * Those of bfloat16 are float32 in the unit's own order, the same for a row wherever it lies and whatever is beside it.
 */
#if defined(__AMX_INT8__)
#define AMX_QUADS 16         /* n_quads is a multiple */
#define AMX_ROWS_MIN 5       /* of int8: fewer are done sooner by vectors */
#define AMX_ROWS_MIN_INT4 13 /* of int4 */
#define AMX_COLUMNS 16       /* of a tile of sums */
typedef struct {
    const void *x; /* rows, with memory for whole steps of T5_ROWS_STEP */
    size_t x_stride;
    const void *w; /* [n_quads][PANEL][T5_QUAD] */
    int32_t n_quads;
    void *sums;         /* int32 or float [n_rows][PANEL], whole steps of T5_ROWS_STEP rows are written */
    size_t sums_stride; /* strides are in bytes */
    const char *ahead;
    int32_t ahead_lines;
} t5_amx_tile;
/* Groups of int4, as bytes: adds each group's sums times the scales to rows of float32. */
typedef struct {
    const uint8_t *x; /* signed, T5_ROWS_STEP rows, at the first group */
    size_t x_stride;
    const uint8_t *w;      /* signed, [n_groups][T5_INT4_GROUP / T5_QUAD][PANEL][T5_QUAD] */
    const uint8_t *scales; /* of the first group, T5_INT4_GROUP_BYTES(PANEL) from one to the next */
    int32_t n_groups;
    float *out; /* [T5_ROWS_STEP][PANEL] */
} t5_amx_groups;
#define amx_begin T5_ISA_NAME(t5_amx_begin)
#define amx_end T5_ISA_NAME(t5_amx_end)
#define amx_sum_int8 T5_ISA_NAME(t5_amx_sum_int8)
#define amx_sum_bf16 T5_ISA_NAME(t5_amx_sum_bf16)
#define amx_add_groups T5_ISA_NAME(t5_amx_add_groups)
#define tile_int8_amx T5_ISA_NAME(t5_tile_int8_amx)
#define tile_int4_amx T5_ISA_NAME(t5_tile_int4_amx)
#define kernel_round_row T5_ISA_NAME(t5_kernel_round_row)
void amx_begin(int32_t step_quads); /* quads of the tiles: AMX_QUADS, for int4 those of a group */
void amx_end(void);
void amx_sum_int8(const t5_amx_tile *t, int32_t n_rows);
void amx_sum_bf16(const t5_amx_tile *t, int32_t n_rows);
void amx_add_groups(const t5_amx_groups *t);
void tile_int8_amx(const t5_tile8 *t, int32_t n_rows);
void kernel_round_row(const float *x, int32_t d, uint16_t *y);
#endif

/* The same with 4-bit weights, up to BLOCK_ROWS_MAX rows: signed, in groups of T5_INT4_GROUP, each with a start. */
typedef struct {
    const uint8_t *x; /* signed bytes */
    size_t x_stride;
    const float *x_scales;
    const int32_t *x_starts; /* [n_rows][n_groups] */
    const uint8_t *w;
    int32_t n_groups;
    float *out;
    size_t out_stride;
    const char *ahead;
    int32_t ahead_lines; /* for each block of a group */
} t5_tile4;
#define INT4_BLOCKS (T5_INT4_GROUP / (2 * T5_QUAD)) /* of a group: two quads in each byte */
#define tile_int4 T5_ISA_NAME(t5_tile_int4)
void tile_int4(const t5_tile4 *t, int32_t n_rows, int32_t n_panels);
#if defined(__AMX_INT8__)
void tile_int4_amx(const t5_tile4 *t, int32_t n_rows);
#endif

#define AHEAD_STEP 4 /* rows of a panel between two looks ahead */

/* Asks for lines that will be needed soon. Returns where the next ones begin. */
T5_INLINE const char *fetch_ahead(const char *ahead, int32_t n_lines)
{
    for (int32_t i = 0; i < n_lines; i++, ahead += T5_LINE_BYTES)
        __builtin_prefetch(ahead, 0, 2);
    return ahead;
}

/* Kernels by file, gathered in kernels.c. */
#define kernel_gemm T5_ISA_NAME(t5_kernel_gemm)
#define kernel_norm_row T5_ISA_NAME(t5_kernel_norm_row)
#define kernel_quantize_row T5_ISA_NAME(t5_kernel_quantize_row)
#define kernel_rounding T5_ISA_NAME(t5_kernel_rounding)
#define kernel_center_row T5_ISA_NAME(t5_kernel_center_row)
#define kernel_attend T5_ISA_NAME(t5_kernel_attend)
#define kernel_attend_source T5_ISA_NAME(t5_kernel_attend_source)
#define kernel_attend_source_scratch T5_ISA_NAME(t5_kernel_attend_source_scratch)
#define kernel_log_sum_exp T5_ISA_NAME(t5_kernel_log_sum_exp)
#define kernel_argmax T5_ISA_NAME(t5_kernel_argmax)
#define kernel_panel_max T5_ISA_NAME(t5_kernel_panel_max)
#define kernel_top_k T5_ISA_NAME(t5_kernel_top_k)
void kernel_gemm(const t5_gemm *g, const t5_gemm_part *part);
void kernel_norm_row(const float *x, const float *gain, float eps, int32_t d, float *y);
float kernel_quantize_row(const float *x, int32_t d, uint8_t *q);
t5_rounding kernel_rounding(const float *x, const uint8_t *q, uint8_t flip, float scale, int32_t d);
void kernel_center_row(uint8_t *q, int32_t d, int32_t *starts);
void kernel_attend(const t5_attend *a);
void kernel_attend_source(const t5_attend_source *a);
size_t kernel_attend_source_scratch(int32_t len, int32_t d_kv);
float kernel_log_sum_exp(const float *x, int32_t n);
int32_t kernel_argmax(const float *x, int32_t n);
void kernel_panel_max(const float *x, int32_t n, float *max);
int32_t kernel_top_k(const float *x, int32_t n, int32_t k, t5_candidate *out);
