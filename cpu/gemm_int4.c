/* cpu/gemm_int4.c: tiles of 4-bit weights, compiled once per instruction set. The rows are those of int8, so the sum of
 * a group is an exact integer of 15 bits and its product with the scale, of 8 bits, is exact too: only adding it is
 * rounded, fused or not. Groups are added in float32 in rising order. So every instruction set gives the same bits,
 * whatever the number of rows.
 *
 * Weights keep the 8 that is added to them: x86 wants unsigned bytes there and signed ones in the rows. A group's sums
 * begin with -8 times the row's sum over the group instead of zero. Without instructions that add four products in 32
 * bits, a lane adds its products in SUM_PARTS lanes of 16 bits, each of which begins with a part of that. They fit: of
 * two lanes each has 16 products with 11 at most, the 4 being taken off, and 16 with 4, together 240 * 127.
 *
 * Up to INT4_ROWS rows take the weights apart in registers. More share what is taken apart once, a group at a time. */
#include "cpu/tile.h"

#if defined(__AVX512F__)
typedef __m512i v_quads;
#define v_set1_i32 _mm512_set1_epi32
#elif defined(__AVX2__)
typedef __m256i v_quads;
#define v_set1_i32 _mm256_set1_epi32
#else
typedef v_i32 v_quads;
#define v_set1_i32(x) ((v_i32){x, x, x, x})
#endif

typedef uint8_t v_bytes __attribute__((vector_size(V_LANES * 4)));
typedef uint16_t v_halves __attribute__((vector_size(V_LANES * 4)));
typedef float v_floats __attribute__((vector_size(V_LANES * 4)));

/* Each lane of sum gains four products of w, unsigned, with x, signed. total_of() adds the parts of a lane. */
#if defined(__AVX512VNNI__)
#define SUM_PARTS 1
typedef v_quads v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x)); /* the intrinsic: see gemm_int8.c */
    return sum;
}
#define total_of(sum) (sum)
#elif defined(__AVXVNNI__)
#define SUM_PARTS 1
typedef v_quads v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x));
    return sum;
}
#define total_of(sum) (sum)
#elif defined(__AVX512F__)
#define SUM_PARTS 2
typedef v_quads v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x)
{
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, x));
}
#define total_of(sum) _mm512_madd_epi16(sum, _mm512_set1_epi16(1))
#elif defined(__AVX2__)
#define SUM_PARTS 2
typedef v_quads v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x)
{
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
}
#define total_of(sum) _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
#elif defined(__ARM_FEATURE_DOTPROD) && defined(T5_NEON)
#define SUM_PARTS 1
typedef v_quads v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x) /* 0 .. 15 are signed bytes as well */
{
    return (v_quads)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
}
#define total_of(sum) (sum)
#elif defined(T5_NEON)
#define SUM_PARTS 4
typedef struct {
    int16x8_t low, high; /* of two columns each */
} v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x)
{
    sum.low = vmlal_s8(sum.low, vget_low_s8((int8x16_t)w), vget_low_s8((int8x16_t)x));
    sum.high = vmlal_high_s8(sum.high, (int8x16_t)w, (int8x16_t)x);
    return sum;
}
#define total_of(sum) vpaddq_s32(vpaddlq_s16((sum).low), vpaddlq_s16((sum).high))
#else
#define SUM_PARTS 1
typedef v_quads v_sums;
T5_INLINE v_sums add_products(v_sums sum, v_quads w, v_quads x)
{
    T5_UNROLL for (int32_t shift = 0; shift < 32; shift += 8) sum =
        sum + ((w >> shift) & 255) * ((x << (24 - shift)) >> 24);
    return sum;
}
#define total_of(sum) (sum)
#endif

#if SUM_PARTS == 4
#define INT4_ROWS 3 /* of a tile in registers: 24 sums of two registers each */
#define INT4_SWITCH TILE_SWITCH_3
#else
#define INT4_ROWS TILE_ROWS_MAX
#define INT4_SWITCH TILE_SWITCH
#endif

T5_INLINE v_sums start_sums(int32_t start)
{
    const v_quads lanes = v_set1_i32(start);
#if SUM_PARTS == 4
    return (v_sums){.low = (int16x8_t)lanes, .high = (int16x8_t)lanes};
#else
    return lanes;
#endif
}

T5_INLINE v_quads load_quads(const uint8_t *p)
{
    v_quads v;
    memcpy(&v, p, sizeof v);
    return v;
}

T5_INLINE v_quads broadcast_quad(const uint8_t *x)
{
    int32_t quad = 0;
    memcpy(&quad, x, sizeof quad);
    return v_set1_i32(quad);
}

/* One of the two quads in each lane of a block. x86 shifts no bytes. */
T5_INLINE v_quads take_half(v_quads pairs, const int32_t i_half)
{
#if defined(T5_NEON)
    const v_bytes bytes = i_half == 0 ? (v_bytes)pairs & 15 : (v_bytes)pairs >> 4;
    return (v_quads)bytes;
#else
    const v_halves halves = i_half == 0 ? (v_halves)pairs : (v_halves)pairs >> 4;
    return (v_quads)(halves & 0x0f0f);
#endif
}

T5_INLINE void look_ahead(const t5_tile4 *t, int32_t i_group, int32_t i_block)
{
    const size_t i = (size_t)i_group * INT4_BLOCKS + (size_t)i_block;
    const char *ahead = t->ahead + i * (size_t)t->ahead_lines * T5_LINE_BYTES;
    fetch_ahead(ahead, t->ahead_lines);
}

/* Some rows of one group. */
typedef struct {
    const t5_tile4 *tile;
    int32_t i_group, i_row;
    const uint8_t *scales, *blocks; /* of the first panel */
    const uint8_t *quads;           /* what unpack() made of the blocks, or NULL */
} group_rows;

T5_INLINE group_rows group_of(const t5_tile4 *t, int32_t i_group)
{
    const uint8_t *scales = t->w + (size_t)i_group * T5_INT4_GROUP_BYTES(PANEL);
    return (group_rows){.tile = t, .i_group = i_group, .scales = scales, .blocks = scales + PANEL * sizeof(uint16_t)};
}

/* out[r] += sums of the group * scales, before the scale of the row. */
T5_INLINE void add_group(const group_rows *g, const int32_t n_rows, const int32_t n_panels, const bool is_unpacked)
{
    const t5_tile4 *t = g->tile;
    const size_t x_stride = t->x_stride, out_stride = t->out_stride, first = (size_t)g->i_row;
    const size_t n_groups = (size_t)t->n_groups, panel_bytes = n_groups * T5_INT4_GROUP_BYTES(PANEL);
    const uint8_t *x = t->x + first * x_stride + (size_t)g->i_group * T5_INT4_GROUP, *all_scales = g->scales;
    const int32_t *starts = t->x_starts + first * n_groups + g->i_group;
    float *out = t->out + first * out_stride;
    v_sums sum[TILE_ROWS_MAX][TILE_PANELS_MAX * PANEL_VECTORS];
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] =
            start_sums(starts[(size_t)r * n_groups]);
    }
    for (int32_t i = 0; i < 2 * INT4_BLOCKS; i += 2) {
        if (!is_unpacked) look_ahead(t, g->i_group, i / 2);
        T5_UNROLL for (int32_t half = 0; half < 2; half++)
        {
            v_quads q[TILE_PANELS_MAX * PANEL_VECTORS];
            T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            {
                const size_t column = (size_t)(v % PANEL_VECTORS) * V_LANES * T5_QUAD;
                const uint8_t *blocks = g->blocks + (size_t)(v / PANEL_VECTORS) * panel_bytes;
                q[v] = is_unpacked ? load_quads(g->quads + (size_t)(i + half) * PANEL * T5_QUAD + column)
                                   : take_half(load_quads(blocks + (size_t)i / 2 * PANEL * T5_QUAD + column), half);
            }
            T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
            {
                const v_quads xq = broadcast_quad(x + (size_t)r * x_stride + (size_t)(i + half) * T5_QUAD);
                T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] =
                    add_products(sum[r][v], q[v], xq);
            }
        }
    }
    T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
    {
        uint16_t halves[V_LANES];
        memcpy(halves,
               all_scales + (size_t)(v / PANEL_VECTORS) * panel_bytes + (size_t)(v % PANEL_VECTORS) * sizeof halves,
               sizeof halves);
        const v_f32 scale = v_load_bf16(halves);
        T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
        {
            float *y = out + (size_t)r * out_stride + (size_t)v * V_LANES;
            const v_i32 total = (v_i32)total_of(sum[r][v]);
            v_store(y, v_fma((v_f32) __builtin_convertvector(total, v_floats), scale, v_load(y)));
        }
    }
}

T5_INLINE void scale_rows(const t5_tile4 *t, const float *sums, size_t stride, int32_t n_rows, const int32_t n_panels)
{
    for (int32_t r = 0; r < n_rows; r++) {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            v_store(t->out + (size_t)r * t->out_stride + v * V_LANES,
                    v_load(sums + (size_t)r * stride + v * V_LANES) * v_set1(t->x_scales[r]));
    }
}

T5_INLINE void tile_body(const t5_tile4 *t, const int32_t n_rows, const int32_t n_panels)
{
    for (int32_t i = 0; i < t->n_groups; i++) {
        const group_rows g = group_of(t, i);
        add_group(&g, n_rows, n_panels, false);
    }
}

/* The group as bytes, [T5_INT4_GROUP / T5_QUAD][PANEL][T5_QUAD], less `zero`. */
T5_INLINE void unpack(const group_rows *g, const uint8_t zero, uint8_t *quads)
{
    for (int32_t i = 0; i < INT4_BLOCKS; i++) {
        look_ahead(g->tile, g->i_group, i);
        T5_UNROLL for (int32_t v = 0; v < PANEL_VECTORS; v++)
        {
            const v_quads pairs = load_quads(g->blocks + (i * PANEL + v * V_LANES) * T5_QUAD);
            T5_UNROLL for (int32_t half = 0; half < 2; half++)
            {
                const v_bytes bytes = (v_bytes)take_half(pairs, half) - zero;
                memcpy(quads + ((2 * i + half) * PANEL + v * V_LANES) * T5_QUAD, &bytes, sizeof bytes);
            }
        }
    }
}

static void many_rows(const t5_tile4 *t, int32_t n_rows)
{
    _Alignas(64) uint8_t quads[PANEL * T5_INT4_GROUP];
    for (int32_t i = 0; i < t->n_groups; i++) {
        group_rows g = group_of(t, i);
        unpack(&g, 0, quads);
        g.quads = quads;
        for (int32_t n = 0; g.i_row < n_rows; g.i_row += n) {
            n = tile_rows(n_rows - g.i_row, INT4_ROWS);
            INT4_SWITCH(n, add_group, &g, 1, true)
        }
    }
}

void tile_int4(const t5_tile4 *t, int32_t n_rows, int32_t n_panels)
{
    for (int32_t r = 0; r < n_rows; r++)
        memset(t->out + (size_t)r * t->out_stride, 0, (size_t)n_panels * PANEL * sizeof *t->out);
    if (n_panels == 2) {
        tile_body(t, 1, 2);
        scale_rows(t, t->out, t->out_stride, 1, 2);
        return;
    }
    if (n_rows > INT4_ROWS) {
        many_rows(t, n_rows);
    } else {
        INT4_SWITCH(n_rows, tile_body, t, 1)
    }
    scale_rows(t, t->out, t->out_stride, n_rows, 1);
}

#if defined(__AMX_INT8__)

#define AMX_GROUPS 8 /* that are unpacked before the unit begins: 16 KiB of the first-level cache */

void tile_int4_amx(const t5_tile4 *t, int32_t n_rows)
{
    _Alignas(64) uint8_t quads[AMX_GROUPS][PANEL * T5_INT4_GROUP];
    _Alignas(64) float sums[BLOCK_ROWS_MAX * PANEL] = {0};
    for (int32_t begin = 0; begin < t->n_groups; begin += AMX_GROUPS) {
        const int32_t n_groups = t->n_groups - begin < AMX_GROUPS ? t->n_groups - begin : AMX_GROUPS;
        for (int32_t i = 0; i < n_groups; i++) {
            const group_rows g = group_of(t, begin + i);
            unpack(&g, T5_INT4_ZERO, quads[i]);
        }
        for (int32_t r = 0; r < n_rows; r += T5_ROWS_STEP) {
            const t5_amx_groups groups = {.x = t->x + (size_t)r * t->x_stride + (size_t)begin * T5_INT4_GROUP,
                                          .x_stride = t->x_stride,
                                          .w = quads[0],
                                          .scales = group_of(t, begin).scales,
                                          .n_groups = n_groups,
                                          .out = sums + r * PANEL};
            amx_add_groups(&groups);
        }
    }
    scale_rows(t, sums, PANEL, n_rows, 1);
}

#endif

void kernel_center_row(uint8_t *q, int32_t d, int32_t *starts)
{
    const int32_t n_groups = (d + T5_INT4_GROUP - 1) / T5_INT4_GROUP;
    memset(q + d, 128, (size_t)(n_groups * T5_INT4_GROUP - d));
    for (int32_t g = 0; g < n_groups; g++, q += T5_INT4_GROUP) {
        int32_t sum = 0;
        for (int32_t i = 0; i < T5_INT4_GROUP; i++) {
            q[i] ^= 128;
            sum += (int8_t)q[i];
        }
        const int32_t part = -T5_INT4_ZERO / SUM_PARTS * sum;
        starts[g] = SUM_PARTS == 1 ? part : (int32_t)((uint16_t)part * 0x10001u); /* in both halves */
    }
}
