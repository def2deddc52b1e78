/* cuda/stream.h: a stream, and how the kernels on it follow each other. */
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>

typedef struct {
    cudaStream_t handle;
    bool overlaps; /* compute capability 9.0 on: a kernel begins while the one before it still runs (launch.cuh) */
} t5_cuda_stream;
