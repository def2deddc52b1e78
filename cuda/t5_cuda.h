/* cuda/t5_cuda.h: the only place where device code differs between nvcc and the host runtime of tests/simt. Kernels
 * never write __shared__, <<<>>> or assembly themselves: they use what is here.
 *
 * Arithmetic is float everywhere; half and bfloat16 are for loading and storing only. */
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* ---- shared memory ---- */

#ifdef __CUDACC__
#define T5_SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define T5_DYNAMIC_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char t5_dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(t5_dynamic_shared)
#else
#define T5_SHARED(type, name, dims) \
    typedef type name##_type dims; \
    static const char name##_key = 0; \
    name##_type &name = *(name##_type *)simt_shared(&name##_key, sizeof(name##_type), 16)
#define T5_DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(simt_dynamic_shared())
#endif

/* ---- activation types: float, half, bfloat16 ---- */

template <class T> struct t5_pair; /* two neighbours in 32 bits */
template <> struct t5_pair<half> {
    static __device__ __forceinline__ uint32_t pack(float x, float y)
    {
        half2 pair = __floats2half2_rn(x, y);
        uint32_t bits;
        memcpy(&bits, &pair, sizeof bits);
        return bits;
    }
    static __device__ __forceinline__ float2 unpack(uint32_t bits)
    {
        half2 pair;
        memcpy(&pair, &bits, sizeof pair);
        return __half22float2(pair);
    }
};
template <> struct t5_pair<__nv_bfloat16> {
    static __device__ __forceinline__ uint32_t pack(float x, float y)
    {
        __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
        uint32_t bits;
        memcpy(&bits, &pair, sizeof bits);
        return bits;
    }
    static __device__ __forceinline__ float2 unpack(uint32_t bits)
    {
        __nv_bfloat162 pair;
        memcpy(&pair, &bits, sizeof pair);
        return __bfloat1622float2(pair);
    }
};

__device__ __forceinline__ float t5_to_float(float x)
{
    return x;
}
__device__ __forceinline__ float t5_to_float(half x)
{
    return __half2float(x);
}
__device__ __forceinline__ float t5_to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}
__device__ __forceinline__ void t5_store(float *p, float x)
{
    *p = x;
}
__device__ __forceinline__ void t5_store(half *p, float x)
{
    *p = __float2half_rn(x);
}
__device__ __forceinline__ void t5_store(__nv_bfloat16 *p, float x)
{
    *p = __float2bfloat16_rn(x);
}

/* Elements of type T in the widest load, 16 bytes. */
template <class T> struct t5_vector {
    static const int LEN = 16 / (int)sizeof(T);
};

/* The widest load; p aligned to 16 bytes. Where accesses are counted it is one access, not the host's four. */
__device__ __forceinline__ uint4 t5_load16(const void *p)
{
#ifdef SIMT_COUNT
    return simt_counted_load16(p);
#else
    return *reinterpret_cast<const uint4 *>(p);
#endif
}

/* x[LEN] = p[LEN], p aligned to 16 bytes. */
__device__ __forceinline__ void t5_load_vector(const float *p, float (&x)[4])
{
    uint4 v = t5_load16(p);
    memcpy(x, &v, sizeof v);
}
template <class T> __device__ __forceinline__ void t5_load_vector(const T *p, float (&x)[8])
{
    uint4 v = t5_load16(p);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 pair = t5_pair<T>::unpack(words[i]);
        x[2 * i] = pair.x;
        x[2 * i + 1] = pair.y;
    }
}
template <class T> __device__ __forceinline__ void t5_load_vector(const T *p, float (&x)[1])
{
    x[0] = t5_to_float(*p);
}

/* ---- warp reductions: every lane gets the same bits, in an order that is always the same ---- */

__device__ __forceinline__ float t5_warp_sum(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
__device__ __forceinline__ float t5_warp_max(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* ---- tensor cores: PTX on the device, a lane-exact twin on the host (tests/simt/collectives.cc) ---- */

/* d[16 x 8] += a[16 x 16] b[16 x 8]. Lane l holds, with g = l / 4 and t = l % 4: of a the pairs (row g, columns 2t ..),
 * (g + 8, 2t ..), (g, 2t + 8 ..), (g + 8, 2t + 8 ..); of b the pairs (rows 2t .., column g), (2t + 8 .., g); of d
 * (row g, columns 2t ..), (g + 8, 2t ..). */
template <class T>
__device__ __forceinline__ void t5_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
#ifdef __CUDACC__
#define T5_DEFINE_MMA(T, name) \
    template <> __device__ __forceinline__ void t5_mma<T>(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) \
    { \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, " \
                     "{%8,%9}, {%0,%1,%2,%3};\n" \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
    }
T5_DEFINE_MMA(half, "f16")
T5_DEFINE_MMA(__nv_bfloat16, "bf16")
#else
#define T5_DEFINE_MMA(T, op) \
    template <> inline void t5_mma<T>(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) \
    { \
        void *const pointers[3] = {d, (void *)a, (void *)b}; \
        simt_warp_compute(op, pointers, {__FILE__, __LINE__}); \
    }
T5_DEFINE_MMA(half, SIMT_MMA_F16)
T5_DEFINE_MMA(__nv_bfloat16, SIMT_MMA_BF16)
#endif

/* Four 8 x 8 matrices of 16-bit elements from shared memory; lane l gives the address of row l % 8 of matrix l / 8 and
 * receives the pair (row l / 4, columns 2 (l % 4) ..) of each, or of each one's transpose. */
template <bool IS_TRANSPOSED> __device__ __forceinline__ void t5_ldmatrix(uint32_t (&r)[4], const void *row)
{
#ifdef __CUDACC__
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    if (IS_TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
    }
#else
    uint4 values = t5_load16(row); /* here, so that the sanitizers see this lane's access */
    void *const pointers[3] = {&values, r, nullptr};
    simt_warp_compute(IS_TRANSPOSED ? SIMT_LDMATRIX_TRANS : SIMT_LDMATRIX, pointers, {__FILE__, __LINE__});
#endif
}

/* ---- cp.async: 16 bytes from global to shared memory; zeros when `is_present` is false ---- */

__device__ __forceinline__ void t5_cp_async(void *dst, const void *src, bool is_present)
{
    unsigned src_bytes = is_present ? 16u : 0u;
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"((uint32_t)__cvta_generic_to_shared(dst)),
                 "l"(src), "r"(src_bytes)
                 : "memory");
#else
    simt_cp_async(dst, src, src_bytes);
#endif
}
__device__ __forceinline__ void t5_cp_commit()
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#else
    simt_cp_commit();
#endif
}
template <int N_PENDING_MAX> __device__ __forceinline__ void t5_cp_wait()
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N_PENDING_MAX) : "memory");
#else
    simt_cp_wait(N_PENDING_MAX);
#endif
}
