/* cpu/gemm_int4.c: tiles of 4-bit weights, compiled once per instruction set. The rows are those of int8, so the sum of
 * a group is an exact integer; groups are added in float32 in rising order, each with two roundings and never a fused
 * one. So every instruction set gives the same bits, whatever the number of rows.
 *
 * Weights keep the 8 that is added to them: they are the unsigned bytes that the machine's instruction wants, the rows
 * are the signed ones, and 8 times the row's sum over the group is taken off before. Without VNNI the instruction adds
 * two products in 16 bits; those of a whole group fit: 16 pairs of at most 2 * 15 * 128. */
#include "cpu/tile.h"

#if defined(__AVX512F__)
typedef __m512i v_quads;
#define v_set1_i32 _mm512_set1_epi32
#define v_and _mm512_and_si512
#define v_shift_right_4(x) _mm512_srli_epi16(x, 4)
#elif defined(__AVX2__)
typedef __m256i v_quads;
#define v_set1_i32 _mm256_set1_epi32
#define v_and _mm256_and_si256
#define v_shift_right_4(x) _mm256_srli_epi16(x, 4)
#else
typedef v_i32 v_quads;
#define v_set1_i32(x) ((v_i32){x, x, x, x})
#define v_and(x, y) ((x) & (y))
#define v_shift_right_4(x) ((x) >> 4)
#endif

typedef float v_floats __attribute__((vector_size(V_LANES * 4)));

/* Each lane of sum gains four products of w, unsigned, with x, signed. A lane has 32 bits, or twice 16 which
 * total_of() adds. */
#if defined(__AVX512VNNI__)
T5_INLINE v_quads add_products(v_quads sum, v_quads w, v_quads x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x)); /* the intrinsic: see gemm_int8.c */
    return sum;
}
#define total_of(sum) (sum)
#elif defined(__AVXVNNI__)
T5_INLINE v_quads add_products(v_quads sum, v_quads w, v_quads x)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x));
    return sum;
}
#define total_of(sum) (sum)
#elif defined(__AVX512F__)
T5_INLINE v_quads add_products(v_quads sum, v_quads w, v_quads x)
{
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, x));
}
#define total_of(sum) _mm512_madd_epi16(sum, _mm512_set1_epi16(1))
#elif defined(__AVX2__)
T5_INLINE v_quads add_products(v_quads sum, v_quads w, v_quads x)
{
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
}
#define total_of(sum) _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
#else
T5_INLINE v_quads add_products(v_quads sum, v_quads w, v_quads x)
{
    T5_UNROLL for (int32_t shift = 0; shift < 32; shift += 8) sum =
        sum + ((w >> shift) & 255) * ((x << (24 - shift)) >> 24);
    return sum;
}
#define total_of(sum) (sum)
#endif

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

/* out += (sum - 8 * x_sum) * scales, before the scale of the row. */
T5_INLINE void add_group(float *out, v_quads sum, int32_t x_sum, const uint8_t *scales)
{
    uint16_t halves[V_LANES];
    v_i32 total;
    const v_quads total_quads = total_of(sum);
    memcpy(halves, scales, sizeof halves);
    memcpy(&total, &total_quads, sizeof total);
    const v_i32 exact = total - T5_INT4_ZERO * x_sum;
    const v_f32 product = (v_f32) __builtin_convertvector(exact, v_floats) * v_load_bf16(halves);
    v_store(out, v_load(out) + product);
}

/* One group of the panels: group_bytes(PANEL) at w in each. */
T5_INLINE void add_groups(const t5_tile4 *t, int32_t i_group, const int32_t n_rows, const int32_t n_panels)
{
    v_quads sum[TILE_ROWS_MAX][TILE_PANELS_MAX * PANEL_VECTORS];
    const size_t group_bytes = T5_INT4_GROUP_BYTES(PANEL), panel_bytes = (size_t)t->n_groups * group_bytes;
    const uint8_t *scales = t->w + (size_t)i_group * group_bytes;
    const uint8_t *w = scales + PANEL * sizeof(uint16_t);
    const uint8_t *x = t->x + (size_t)i_group * T5_INT4_GROUP;
    const char *ahead = t->ahead + (size_t)i_group * INT4_BLOCKS * (size_t)t->ahead_lines * T5_LINE_BYTES;
    const v_quads low = v_set1_i32(0x0f0f0f0f);
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] = v_set1_i32(0);
    }
    for (int32_t i = 0; i < INT4_BLOCKS; i++) {
        for (int32_t k = 0; k < t->ahead_lines; k++, ahead += T5_LINE_BYTES)
            __builtin_prefetch(ahead, 0, 2);
        T5_UNROLL for (int32_t half = 0; half < 2; half++)
        {
            v_quads q[TILE_PANELS_MAX * PANEL_VECTORS];
            T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            {
                const size_t column = (size_t)i * PANEL + (size_t)(v % PANEL_VECTORS) * V_LANES;
                const v_quads pair = load_quads(w + (size_t)(v / PANEL_VECTORS) * panel_bytes + column * T5_QUAD);
                q[v] = v_and(half == 0 ? pair : v_shift_right_4(pair), low);
            }
            T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
            {
                const v_quads xq = broadcast_quad(x + (size_t)r * t->x_stride + (size_t)(2 * i + half) * T5_QUAD);
                T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] =
                    add_products(sum[r][v], q[v], xq);
            }
        }
    }
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        const int32_t x_sum = t->x_sums[(size_t)r * (size_t)t->n_groups + (size_t)i_group];
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            add_group(t->out + (size_t)r * t->out_stride + (size_t)v * V_LANES, sum[r][v], x_sum,
                      scales + (size_t)(v / PANEL_VECTORS) * panel_bytes +
                          (size_t)(v % PANEL_VECTORS) * V_LANES * sizeof(uint16_t));
    }
}

T5_INLINE void tile_body(const t5_tile4 *t, const int32_t n_rows, const int32_t n_panels)
{
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
        memset(t->out + (size_t)r * t->out_stride, 0, (size_t)n_panels * PANEL * sizeof *t->out);
    for (int32_t i = 0; i < t->n_groups; i++)
        add_groups(t, i, n_rows, n_panels);
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        float *out = t->out + (size_t)r * t->out_stride;
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            v_store(out + v * V_LANES, v_load(out + v * V_LANES) * v_set1(t->x_scales[r]));
    }
}

void tile_int4(const t5_tile4 *t, int32_t n_rows, int32_t n_panels)
{
    if (n_panels == 2) {
        tile_body(t, 1, 2);
        return;
    }
    switch (n_rows) {
    case 1:
        tile_body(t, 1, 1);
        break;
    case 2:
        tile_body(t, 2, 1);
        break;
    case 3:
        tile_body(t, 3, 1);
        break;
#if TILE_ROWS_MAX == 6
    case 4:
        tile_body(t, 4, 1);
        break;
    case 5:
        tile_body(t, 5, 1);
        break;
    case 6:
        tile_body(t, 6, 1);
        break;
#endif
    }
}

void kernel_center_row(uint8_t *q, int32_t d, int32_t *sums)
{
    const int32_t n_groups = (d + T5_INT4_GROUP - 1) / T5_INT4_GROUP;
    memset(q + d, 128, (size_t)(n_groups * T5_INT4_GROUP - d));
    for (int32_t g = 0; g < n_groups; g++, q += T5_INT4_GROUP) {
        int32_t sum = 0;
        for (int32_t i = 0; i < T5_INT4_GROUP; i++) {
            q[i] ^= 128;
            sum += (int8_t)q[i];
        }
        sums[g] = sum;
    }
}
