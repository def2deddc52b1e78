/* bench/exp/device.cuh: what the experiments' kernels use beyond cuda/t5_cuda.h: launches with clusters, both halves of
 * programmatic dependent launch apart, flags between blocks, graphs that repeat. Each has a twin for the
 * host fibers. Compute capability 9.0 features are compiled in where the architecture has them; exp_has_clusters() says
 * whether they may be launched. */
#pragma once
#include "bench/exp/exp.h"
#include "bench/exp/loop.h"
#include "cuda/check.h"
#include "cuda/launch.cuh"

#ifdef EXP_ON_FIBERS
#include "bench/exp/fibers.h"
#endif

/* First thing in main(). */
static inline void exp_setup()
{
#ifdef EXP_ON_FIBERS
    exp_fibers_setup();
#endif
}

/* ---- launching ---- */

struct exp_how {
    unsigned cluster_blocks; /* 0 or 1: no cluster */
    bool overlaps;           /* programmatic dependent launch */
    bool is_cooperative;     /* all blocks at once, or none */
};

static inline bool exp_has_clusters(const exp_rig *rig)
{
    return rig->device.major >= 9 || rig->is_rehearsal;
}

#ifndef EXP_ON_FIBERS
static inline int exp_attributes(const exp_how &how, cudaLaunchAttribute (&to)[3])
{
    int n = 0;
    if (how.cluster_blocks > 1) {
        to[n].id = cudaLaunchAttributeClusterDimension;
        to[n].val.clusterDim.x = how.cluster_blocks;
        to[n].val.clusterDim.y = to[n].val.clusterDim.z = 1;
        n++;
    }
    if (how.overlaps) {
        to[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        to[n++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (how.is_cooperative) {
        to[n].id = cudaLaunchAttributeCooperative;
        to[n++].val.cooperative = 1;
    }
    return n;
}
#endif

template <class... P>
static inline cudaError_t exp_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                                     cudaStream_t stream, const exp_how &how, typename t5_same<P>::type... args)
{
#ifndef EXP_ON_FIBERS
    (void)name;
    cudaLaunchAttribute attributes[3] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = (unsigned)exp_attributes(how, attributes);
    if (how.cluster_blocks > 8) { /* more than every device has */
        cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
        if (error != cudaSuccess) return error;
    }
    return cudaLaunchKernelEx(&config, kernel, args...);
#else
    unsigned n = how.cluster_blocks > 1 ? how.cluster_blocks : 1;
    return simt_launch({grid, block, shared_bytes, name, how.overlaps}, stream, [=, clusters = exp_fibers_create(n)] {
        exp_fibers_enter(clusters.get());
        kernel(args...);
    });
#endif
}
#define EXP_LAUNCH(kernel, ...) exp_launch(#kernel, kernel, __VA_ARGS__)

/* ---- programmatic dependent launch: t5_await_previous() in two halves ---- */

__device__ __forceinline__ void exp_let_next_begin()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void exp_wait_for_previous()
{
#ifdef EXP_ON_FIBERS
    simt_await_previous({__FILE__, __LINE__});
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

/* ---- clusters ---- */

/* This block's place in its cluster. */
__device__ __forceinline__ unsigned exp_cluster_rank()
{
#ifdef EXP_ON_FIBERS
    return exp_fibers_rank();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
    return rank;
#else
    return 0;
#endif
}
/* Every thread of every block of the cluster; orders their shared memory. */
__device__ __forceinline__ void exp_cluster_sync()
{
#ifdef EXP_ON_FIBERS
    exp_fibers_sync({__FILE__, __LINE__});
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::: "memory");
#endif
}
/* The same variable in shared memory of another block of the cluster, after a cluster sync. */
template <class T> __device__ __forceinline__ const T *exp_cluster_map(const T *p, unsigned rank)
{
#ifdef EXP_ON_FIBERS
    return (const T *)exp_fibers_map(p, rank);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    uint64_t there;
    asm volatile("mapa.u64 %0, %1, %2;\n" : "=l"(there) : "l"(p), "r"(rank));
    return (const T *)there;
#else
    return p;
#endif
}

/* ---- flags between blocks ---- */

__device__ __forceinline__ unsigned exp_load_acquire(const unsigned *p)
{
#ifdef EXP_ON_FIBERS
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
#else
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(value) : "l"(p) : "memory");
    return value;
#endif
}
__device__ __forceinline__ void exp_store_release(unsigned *p, unsigned value)
{
#ifdef EXP_ON_FIBERS
    __atomic_store_n(p, value, __ATOMIC_RELEASE);
#else
    asm volatile("st.release.gpu.global.u32 [%0], %1;\n" ::"l"(p), "r"(value) : "memory");
#endif
}
__device__ __forceinline__ void exp_add_release(unsigned *p, unsigned value)
{
#ifdef EXP_ON_FIBERS
    __atomic_fetch_add(p, value, __ATOMIC_ACQ_REL);
#else
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;\n" ::"l"(p), "r"(value) : "memory");
#endif
}
/* A value that is its own flag: no order with anything else. */
__device__ __forceinline__ float exp_load_relaxed(const float *p)
{
    float value;
#ifdef EXP_ON_FIBERS
    __atomic_load(p, &value, __ATOMIC_RELAXED);
#else
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];\n" : "=f"(value) : "l"(p) : "memory");
#endif
    return value;
}
__device__ __forceinline__ void exp_store_relaxed(float *p, float value)
{
#ifdef EXP_ON_FIBERS
    __atomic_store(p, &value, __ATOMIC_RELAXED);
#else
    asm volatile("st.relaxed.gpu.global.f32 [%0], %1;\n" ::"l"(p), "f"(value) : "memory");
#endif
}
/* The larger of *p and value; the result does not depend on the order. */
__device__ __forceinline__ void exp_max(unsigned long long *p, unsigned long long value)
{
#ifdef EXP_ON_FIBERS
    unsigned long long old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
#else
    atomicMax(p, value);
#endif
}
/* A moment in a waiting loop. */
__device__ __forceinline__ void exp_pause()
{
#ifdef EXP_ON_FIBERS
    exp_fibers_yield({__FILE__, __LINE__});
#else
    asm volatile("" ::: "memory");
#endif
}
/* All blocks of the grid meet: the `generation`-th time, from 1, of a counter that starts at 0. Needs them all under
 * way at once (is_cooperative). */
__device__ __forceinline__ void exp_grid_sync(unsigned *counter, unsigned generation)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        exp_add_release(counter, 1);
        while (exp_load_acquire(counter) < generation * gridDim.x)
            exp_pause();
    }
    __syncthreads();
}

/* The same by a flag of each block, flags[gridDim.x] that start at 0: one store, and a look at all of them. */
__device__ __forceinline__ void exp_grid_flags(unsigned *flags, unsigned generation)
{
    __syncthreads();
    if (threadIdx.x == 0) exp_store_release(&flags[blockIdx.x], generation);
    for (unsigned b = threadIdx.x; b < gridDim.x; b += blockDim.x) {
        while (exp_load_acquire(&flags[b]) < generation)
            exp_pause();
    }
    __syncthreads();
}

/* ---- graphs that repeat on the device (loop.h) ---- */

__device__ __forceinline__ void exp_set_condition(exp_condition condition, bool goes_on)
{
#ifdef EXP_ON_FIBERS
    *condition = goes_on;
#elif defined(__CUDA_ARCH__)
    cudaGraphSetConditional(condition, goes_on);
#else
    (void)condition;
    (void)goes_on;
#endif
}
