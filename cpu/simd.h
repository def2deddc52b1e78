/* cpu/simd.h: the few vector words that the kernels are written in. A kernel source is compiled once per instruction
 * set (CMakeLists.txt); this header gives the words the widest registers that the flags allow.
 *
 * v_fma is a fused multiply-add where the machine has one and two roundings where it has not, never "as the compiler
 * likes": all kernels of one instruction set must round alike, or results would depend on the number of rows. */
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(T5_NEON) /* not __ARM_NEON: every 64-bit ARM has it, and "generic" stays plain */
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define V_LANES 16
typedef __m512 v_f32;
#elif defined(__AVX2__)
#define V_LANES 8
typedef __m256 v_f32;
#elif defined(T5_NEON)
#define V_LANES 4
typedef float32x4_t v_f32;
#else
#define V_LANES 4
typedef float v_f32 __attribute__((vector_size(16)));
#endif
typedef int32_t v_i32 __attribute__((vector_size(V_LANES * 4)));

/* Symbols that several instruction sets define get the set's name: t5_x_avx2. T5_ISA comes from CMakeLists.txt. */
#define T5_ISA_JOIN(name, isa) name##_##isa
#define T5_ISA_EXPAND(name, isa) T5_ISA_JOIN(name, isa)
#define T5_ISA_NAME(name) T5_ISA_EXPAND(name, T5_ISA)

/* Loops over registers must disappear, or the registers would live in memory. */
#if defined(__clang__)
#define T5_UNROLL _Pragma("clang loop unroll(full)")
#else
#define T5_UNROLL _Pragma("GCC unroll 16")
#endif
#define T5_INLINE static inline __attribute__((always_inline, unused))

T5_INLINE v_f32 v_load(const float *p)
{
    v_f32 v;
    memcpy(&v, p, sizeof v);
    return v;
}

T5_INLINE void v_store(float *p, v_f32 v)
{
    memcpy(p, &v, sizeof v);
}

#if defined(__AVX512F__)
T5_INLINE v_f32 v_set1(float x)
{
    return _mm512_set1_ps(x);
}
T5_INLINE v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
/* v_max and v_min: a NaN in either gives b, so bounds stand first where a NaN must pass. */
T5_INLINE v_f32 v_max(v_f32 a, v_f32 b)
{
    return _mm512_max_ps(a, b);
}
T5_INLINE v_f32 v_min(v_f32 a, v_f32 b)
{
    return _mm512_min_ps(a, b);
}
/* a < b ? 0 : x */
T5_INLINE v_f32 v_zero_below(v_f32 a, v_f32 b, v_f32 x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
}
/* Bit i is set when a[i] > b[i]. */
T5_INLINE uint32_t v_mask_gt(v_f32 a, v_f32 b)
{
    return (uint32_t)_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
T5_INLINE v_f32 v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
T5_INLINE v_f32 v_load_bf16(const uint16_t *p)
{
    const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
#elif defined(__AVX2__)
T5_INLINE v_f32 v_set1(float x)
{
    return _mm256_set1_ps(x);
}
T5_INLINE v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return _mm256_fmadd_ps(a, b, c);
}
T5_INLINE v_f32 v_max(v_f32 a, v_f32 b)
{
    return _mm256_max_ps(a, b);
}
T5_INLINE v_f32 v_min(v_f32 a, v_f32 b)
{
    return _mm256_min_ps(a, b);
}
T5_INLINE v_f32 v_zero_below(v_f32 a, v_f32 b, v_f32 x)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ), x);
}
T5_INLINE uint32_t v_mask_gt(v_f32 a, v_f32 b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
T5_INLINE v_f32 v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
T5_INLINE v_f32 v_load_bf16(const uint16_t *p)
{
    const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
#elif defined(T5_NEON)
T5_INLINE v_f32 v_set1(float x)
{
    return vdupq_n_f32(x);
}
T5_INLINE v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return vfmaq_f32(c, a, b);
}
/* Not vmaxq_f32, which gives a NaN in either. */
T5_INLINE v_f32 v_max(v_f32 a, v_f32 b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
T5_INLINE v_f32 v_min(v_f32 a, v_f32 b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
T5_INLINE v_f32 v_zero_below(v_f32 a, v_f32 b, v_f32 x)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltq_f32(a, b)));
}
T5_INLINE uint32_t v_mask_gt(v_f32 a, v_f32 b)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtq_f32(a, b), bits));
}
T5_INLINE v_f32 v_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
T5_INLINE v_f32 v_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
#else
T5_INLINE v_f32 v_set1(float x)
{
    return (v_f32){x, x, x, x};
}
T5_INLINE v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return a * b + c; /* the build forbids contraction for this instruction set */
}
T5_INLINE v_f32 v_select(v_i32 mask, v_f32 x, v_f32 y)
{
    return (v_f32)((mask & (v_i32)x) | (~mask & (v_i32)y));
}
T5_INLINE v_f32 v_max(v_f32 a, v_f32 b)
{
    return v_select(a > b, a, b);
}
T5_INLINE v_f32 v_min(v_f32 a, v_f32 b)
{
    return v_select(a < b, a, b);
}
T5_INLINE v_f32 v_zero_below(v_f32 a, v_f32 b, v_f32 x)
{
    return (v_f32)(~(a < b) & (v_i32)x);
}
T5_INLINE uint32_t v_mask_gt(v_f32 a, v_f32 b)
{
    const v_i32 mask = a > b;
    uint32_t bits = 0;
    for (int32_t i = 0; i < V_LANES; i++)
        bits |= ((uint32_t)mask[i] & 1u) << i;
    return bits;
}
/* The matrix keeps float16 weights as float32 where no instruction expands them (matrix.c). */
T5_INLINE v_f32 v_load_bf16(const uint16_t *p)
{
    return (v_f32)(v_i32){(int32_t)((uint32_t)p[0] << 16), (int32_t)((uint32_t)p[1] << 16),
                          (int32_t)((uint32_t)p[2] << 16), (int32_t)((uint32_t)p[3] << 16)};
}
#endif

/* In lane order, so that every caller adds alike. */
T5_INLINE float v_sum(v_f32 v)
{
    float lanes[V_LANES];
    memcpy(lanes, &v, sizeof lanes);
    for (int32_t step = V_LANES / 2; step > 0; step /= 2) {
        for (int32_t i = 0; i < step; i++)
            lanes[i] += lanes[i + step];
    }
    return lanes[0];
}

T5_INLINE float v_max_lane(v_f32 v)
{
    float lanes[V_LANES];
    memcpy(lanes, &v, sizeof lanes);
    float max = lanes[0];
    for (int32_t i = 1; i < V_LANES; i++)
        max = lanes[i] > max ? lanes[i] : max;
    return max;
}

/* e^x within 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial in r (Cephes expf), 2^n put into the exponent.
 * Below -87.3 the result is 0 instead of a subnormal; above 88.3 it stays at e^88.3. NaN stays NaN. */
T5_INLINE v_f32 v_exp(v_f32 x)
{
    const v_f32 low = v_set1(-87.3f);
    const v_f32 magic = v_set1(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer, in the low bits */
    const v_f32 clamped = v_max(low, v_min(v_set1(88.3f), x));
    const v_f32 shifted = v_fma(clamped, v_set1(1.44269504f), magic);
    const v_f32 n = shifted - magic;
    v_f32 r = v_fma(n, v_set1(-0.693359375f), clamped);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    v_f32 p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    p = v_fma(p, r * r, r) + v_set1(1.0f);
    const v_i32 exponent = ((v_i32)shifted - (v_i32)magic + 127) << 23;
    return v_zero_below(x, low, p * (v_f32)exponent);
}
