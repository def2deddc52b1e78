/* tests/simt/include/cuda_runtime.h: the CUDA language for a plain C++ compiler: qualifiers, vector types, the built-in
 * variables, barriers, warp collectives, atomics and maths that cuda/ uses. Each forwards to the runtime in tests/simt,
 * with the place in the code (__builtin_FILE and _LINE as default arguments), so that a mistake is reported with both
 * sides. __shared__ and <<<>>> are left undefined on purpose: kernels say T5_SHARED and T5_LAUNCH (cuda/t5_cuda.h). */
#pragma once
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

/* ---- vector types ---- */

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};
static inline float2 make_float2(float x, float y)
{
    return float2{x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

/* ---- the running thread ---- */

struct simt_thread {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    unsigned lane, warp;
};
extern simt_thread *simt_self; /* one grid runs at a time */
#define threadIdx (simt_self->thread)
#define blockIdx (simt_self->block)
#define blockDim (simt_self->block_dim)
#define gridDim (simt_self->grid_dim)

/* ---- what the runtime does for a kernel ---- */

enum simt_op {
    SIMT_SHFL,
    SIMT_SHFL_XOR,
    SIMT_BALLOT,
    SIMT_SYNCWARP,
    SIMT_MMA_F16,
    SIMT_MMA_BF16,
    SIMT_LDMATRIX,
    SIMT_LDMATRIX_TRANS,
    SIMT_REDUCE_MAX
};
enum simt_barrier_kind { SIMT_BARRIER_PLAIN, SIMT_BARRIER_OR };

struct simt_place {
    const char *file;
    int line;
};
#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* All lanes of `mask` meet; `value` (n_bytes of it) is exchanged in place. */
void simt_warp_exchange(unsigned mask, simt_op op, void *value, unsigned n_bytes, int arg, simt_place place);
/* All 32 lanes meet; the last to arrive computes for all from the lanes' pointers. */
void simt_warp_compute(simt_op op, void *const pointers[3], simt_place place);
int simt_barrier(simt_barrier_kind kind, int predicate, simt_place place);
void simt_fence(void);
/* This block's copy of the shared array that `key` names: NaN-filled, with its own red zones. */
void *simt_shared(const void *key, size_t n_bytes, size_t align);
void *simt_dynamic_shared(void);
/* Counting builds only (counters.cc). */
uint4 simt_counted_load16(const void *p);
void simt_cp_async(void *dst, const void *src, unsigned src_bytes);
void simt_cp_commit(void);
void simt_cp_wait(int n_pending_max);
struct simt_launch_config {
    dim3 grid, block;
    size_t shared_bytes;
    const char *name;
    bool overlaps; /* its blocks may begin before the kernel before it ended; then every thread has to wait for that */
};
cudaError_t simt_launch(const simt_launch_config &config, cudaStream_t stream, std::function<void()> body);
/* griddepcontrol.launch_dependents, then griddepcontrol.wait. */
void simt_await_previous(simt_place place);
cudaError_t simt_set_attribute(cudaFuncAttribute attribute, int value);

static inline void __syncthreads(SIMT_HERE)
{
    simt_barrier(SIMT_BARRIER_PLAIN, 0, {file, line});
}
static inline int __syncthreads_or(int predicate, SIMT_HERE)
{
    return simt_barrier(SIMT_BARRIER_OR, predicate, {file, line});
}
static inline void __syncwarp(unsigned mask = ~0u, SIMT_HERE)
{
    simt_warp_exchange(mask, SIMT_SYNCWARP, nullptr, 0, 0, {file, line});
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane, SIMT_HERE)
{
    simt_warp_exchange(mask, SIMT_SHFL, &value, sizeof value, lane, {file, line});
    return value;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, SIMT_HERE)
{
    simt_warp_exchange(mask, SIMT_SHFL_XOR, &value, sizeof value, lane_mask, {file, line});
    return value;
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_HERE)
{
    unsigned value = predicate != 0;
    simt_warp_exchange(mask, SIMT_BALLOT, &value, sizeof value, 0, {file, line});
    return value;
}
static inline unsigned __reduce_max_sync(unsigned mask, unsigned value, SIMT_HERE)
{
    simt_warp_exchange(mask, SIMT_REDUCE_MAX, &value, sizeof value, 0, {file, line});
    return value;
}
static inline void __threadfence()
{
    simt_fence();
}

/* ---- atomics: relaxed, as on the device ---- */

static inline unsigned atomicAdd(unsigned *p, unsigned value)
{
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
/* Counts to `last`, then begins again at 0. No fiber runs between the two. */
static inline unsigned atomicInc(unsigned *p, unsigned last)
{
    unsigned old = __atomic_fetch_add(p, 1u, __ATOMIC_RELAXED);
    if (old >= last) __atomic_exchange_n(p, 0u, __ATOMIC_RELAXED);
    return old;
}
static inline float atomicExch(float *p, float value)
{
    float old;
    __atomic_exchange(p, &value, &old, __ATOMIC_RELAXED);
    return old;
}
static inline int atomicAdd(int *p, int value)
{
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}

/* ---- maths ---- */

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}
#define __expf expf /* macros: glibc's math.h declares functions of these names */
#define __logf logf
using std::isfinite;
using std::isnan;
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline int min(int a, int b)
{
    return b < a ? b : a;
}
static inline int max(int a, int b)
{
    return a < b ? b : a;
}
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
template <class F> static inline cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute attribute, int value)
{
    return simt_set_attribute(attribute, value);
}
