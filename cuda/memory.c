/* cuda/memory.c: device memory and copies. Uploads go through a ring of pinned memory: the caller's buffer is free at
 * once and the copy runs on the stream in order with the kernels; the host waits only when the ring is full. */
#include "base/assert.h"
#include "cuda/cuda_backend.h"

#include <string.h>

#define STAGING_ALIGN 64 /* pieces of the ring hold numbers of any type; divides T5_CUDA_STAGING_BYTES */

static double megabytes(size_t n_bytes)
{
    return (double)n_bytes / 1e6;
}

t5_status t5_cuda_memory_free(t5_backend *b, size_t *out_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    size_t total_bytes = 0;
    T5_TRY(t5_cuda_enter(t5_cuda_of(b), err));
    T5_TRY(T5_CUDA(err, cudaMemGetInfo(out_bytes, &total_bytes)));
out:
    return status;
}

t5_status t5_cuda_take(size_t n_bytes, void **out, t5_error *err)
{
    cudaError_t error = cudaMalloc(out, n_bytes);
    if (error != cudaErrorMemoryAllocation) return t5_cuda_check(error, "cudaMalloc", __FILE__, __LINE__, err);
    size_t free_bytes = 0, total_bytes = 0;
    *out = NULL;
    cudaGetLastError(); /* forgets it: the device goes on */
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return T5_FAIL(err, T5_ERR_NOMEM, "GPU memory is full: %.1f MB wanted, %.1f of %.1f MB free", megabytes(n_bytes),
                   megabytes(free_bytes), megabytes(total_bytes));
}

t5_status t5_cuda_alloc(t5_backend *b, size_t n_bytes, void **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    void *p = NULL;
    *out = NULL;
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(t5_cuda_take(n_bytes, &p, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(p, 0, n_bytes, cuda->lane->stream.handle)));
    *out = p;
    p = NULL;
out:
    cudaFree(p);
    return status;
}

void t5_cuda_release(t5_backend *b, void *p)
{
    t5_error ignored = {0};
    if (p == NULL) return;
    t5_cuda_enter(t5_cuda_of(b), &ignored);
    t5_cuda_drop_graphs(t5_cuda_of(b));
    cudaFree(p);
}

t5_status t5_cuda_stage(t5_cuda_backend *cuda, size_t n_bytes, void **out, t5_error *err)
{
    T5_ASSERT(n_bytes <= T5_CUDA_STAGING_BYTES);
    if (n_bytes > T5_CUDA_STAGING_BYTES - cuda->staging_used) {
        t5_status status = t5_cuda_wait_all(cuda, err);
        if (status != T5_OK) return status;
        cuda->staging_used = 0;
    }
    *out = cuda->staging + cuda->staging_used;
    cuda->staging_used += (n_bytes + STAGING_ALIGN - 1) / STAGING_ALIGN * STAGING_ALIGN;
    return T5_OK;
}

t5_status t5_cuda_send(t5_cuda_backend *cuda, void *dst, const void *staged, size_t n_bytes, t5_error *err)
{
    return T5_CUDA(err, cudaMemcpyAsync(dst, staged, n_bytes, cudaMemcpyHostToDevice, cuda->lane->stream.handle));
}

t5_status t5_cuda_upload(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_TRY(t5_cuda_enter(cuda, err));
    for (size_t at = 0; at < n_bytes;) {
        size_t n = n_bytes - at < T5_CUDA_LANDING_BYTES ? n_bytes - at : T5_CUDA_LANDING_BYTES;
        void *staged = NULL;
        T5_TRY(t5_cuda_stage(cuda, n, &staged, err));
        memcpy(staged, (const char *)src + at, n);
        T5_TRY(t5_cuda_send(cuda, (char *)dst + at, staged, n, err));
        at += n;
    }
out:
    return status;
}

t5_status t5_cuda_land(t5_cuda_backend *cuda, cudaStream_t stream, void *dst, const void *src, size_t n_bytes,
                       t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(t5_cuda_enter(cuda, err));
    for (size_t at = 0; at < n_bytes;) {
        size_t n = n_bytes - at < T5_CUDA_LANDING_BYTES ? n_bytes - at : T5_CUDA_LANDING_BYTES;
        T5_TRY(T5_CUDA(err, cudaMemcpyAsync(cuda->landing, (const char *)src + at, n, cudaMemcpyDeviceToHost, stream)));
        T5_TRY(T5_CUDA(err, cudaStreamSynchronize(stream)));
        memcpy((char *)dst + at, cuda->landing, n);
        at += n;
    }
out:
    return status;
}

t5_status t5_cuda_download(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    return t5_cuda_land(t5_cuda_of(b), t5_cuda_of(b)->lane->stream.handle, dst, src, n_bytes, err);
}
