/* cuda/launch.cuh: how every kernel is launched, and how it follows the one before it on its stream.
 *
 * A decode step is a chain of some fifty small kernels, so the gap between two of them is what costs. Where the device
 * can, a kernel's blocks begin while the kernel before still runs (programmatic dependent launch). The rules, which
 * tests/simt enforces by running kernels so:
 *   - every thread of every kernel calls t5_await_previous(), once, on every path, before it returns: a kernel that
 *     ends without would let the next one pass by the one before;
 *   - before that call it touches only what no kernel writes: weights, gains and bias tables, and its own shared
 * memory. It neither reads what an earlier kernel writes nor writes what an earlier kernel reads. */
#pragma once
#include "cuda/stream.h"
#include "cuda/t5_cuda.h"

/* Lets the next kernel's blocks begin, and returns when all earlier kernels are done and their writes are seen. */
__device__ __forceinline__ void t5_await_previous()
{
#ifndef __CUDACC__
    simt_await_previous({__FILE__, __LINE__});
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
    asm volatile("griddepcontrol.wait;\n" ::: "memory"); /* no load or store moves across */
#endif
}

template <class T> struct t5_same {
    typedef T type;
};

/* T5_LAUNCH((kernel<64, 4>), grid, block, shared_bytes, stream, args...): the macro only adds the kernel's name; the
 * function checks and converts the arguments and returns the launch error. */
template <class... P>
static inline cudaError_t t5_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                                    t5_cuda_stream stream, typename t5_same<P>::type... args)
{
#ifdef __CUDACC__
    (void)name;
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream.handle;
    config.attrs = &overlap;
    config.numAttrs = stream.overlaps ? 1 : 0; /* older devices do not know it */
    return cudaLaunchKernelEx(&config, kernel, args...);
#else
    return simt_launch({grid, block, shared_bytes, name, stream.overlaps}, stream.handle, [=] { kernel(args...); });
#endif
}
#define T5_LAUNCH(kernel, ...) t5_launch(#kernel, kernel, __VA_ARGS__)

/* Dynamic shared memory beyond 48 KiB has to be asked for, once per kernel. */
template <class F> static inline cudaError_t t5_allow_shared(F *kernel, size_t shared_bytes)
{
    if (shared_bytes <= 48 << 10) return cudaSuccess;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
}
