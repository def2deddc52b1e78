/* cuda/dispatch.cuh: from the activation type at run time to the instantiation of a launcher. */
#pragma once
#include "cuda/launch.cuh"
#include "model/tensor.h"

/* Calls launcher<T>::run(args, stream) for float, half or bfloat16. */
template <template <class> class launcher, class A>
static inline cudaError_t t5_dispatch(t5_dtype type, const A &args, t5_cuda_stream stream)
{
    switch (type) {
    case T5_F32:
        return launcher<float>::run(args, stream);
    case T5_F16:
        return launcher<half>::run(args, stream);
    case T5_BF16:
        return launcher<__nv_bfloat16>::run(args, stream);
    case T5_I8:
    case T5_I4:
        break; /* weights only, expanded when they are loaded */
    }
    return cudaErrorInvalidValue;
}
