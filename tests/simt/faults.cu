/* tests/simt/faults.cu N: kernels with one deliberate mistake each, and three that are right. Each must be caught: by a
 * sanitizer, by the runtime, or because the result differs from the right one in some thread order or holds NaN. Exit
 * code 0: nothing was noticed. */
#include "cuda/launch.cuh"
#include "tests/simt/simt.h"

#include <stdio.h>
#include <stdlib.h>
#include <vector>

static const int N = 256;

static __global__ void reverse(int *x, bool waits)
{
    T5_SHARED(int, s, [N]);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    if (waits) __syncthreads();
    x[t] = s[N - 1 - t];
}

static __global__ void missing_barrier_on_reuse(int *x)
{
    T5_SHARED(int, s, [N]);
    int t = (int)threadIdx.x;
    for (int round = 0; round < 2; round++) {
        s[t] = x[t] + round;
        __syncthreads();
        x[t] = s[(t + 32) % N];
    }
}

static __global__ void missing_syncwarp(int *x)
{
    T5_SHARED(int, s, [N]);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    x[t] = s[t ^ 1];
}

static __global__ void shared_overrun(int *x)
{
    T5_SHARED(int, s, [64]);
    int t = (int)threadIdx.x;
    s[t + 1] = 1;
    __syncthreads();
    x[t] = s[t];
}

static __global__ void dynamic_shared_overrun(int *x)
{
    T5_DYNAMIC_SHARED(int, s);
    int t = (int)threadIdx.x;
    s[t + 1] = 1;
    __syncthreads();
    x[t] = s[t];
}

static __global__ void global_overrun(int *x)
{
    x[threadIdx.x + 1] = 1;
}

static __global__ void misaligned_vector(int *x)
{
    uint4 *p = (uint4 *)(x + 1 + threadIdx.x * 4);
    *p = make_uint4(1, 2, 3, 4);
}

static __global__ void divergent_barrier(int *x)
{
    if (threadIdx.x < 64) {
        __syncthreads();
    } else {
        x[threadIdx.x] = 1;
        __syncthreads();
    }
}

static __global__ void barrier_after_exit(int *x)
{
    if (threadIdx.x >= 64) return;
    x[threadIdx.x] = 1;
    __syncthreads();
}

static __global__ void shuffle_from_absent_lane(int *x)
{
    int t = (int)threadIdx.x;
    if (t < 16) x[t] = __shfl_xor_sync(0x0000ffffu, x[t], 16);
}

static __global__ void copy_without_wait(int *x)
{
    T5_SHARED(uint4, s, [32]);
    int t = (int)threadIdx.x;
    t5_cp_async(&s[t], (uint4 *)x + t, true);
    t5_cp_commit();
    __syncthreads();
    ((uint4 *)x)[t] = s[31 - t];
    t5_cp_wait<0>();
}

static __global__ void uninitialized_shared(int *x)
{
    T5_SHARED(int, s, [N]);
    int t = (int)threadIdx.x;
    if (t < N - 1) s[t] = 1;
    __syncthreads();
    x[t] = s[N - 1 - t];
}

static __global__ void race_between_blocks(int *x)
{
    if (threadIdx.x == blockIdx.x) x[0] += 1;
}

static __global__ void local_overrun(int *x)
{
    int a[4] = {};
    for (int i = 0; i <= (int)threadIdx.x % 8; i++)
        a[i] = i;
    x[threadIdx.x] = a[threadIdx.x % 4];
}

static __global__ void mixed_collectives(int *x)
{
    int t = (int)threadIdx.x;
    x[t] = t < 16 ? __shfl_xor_sync(~0u, t, 1) : (int)__ballot_sync(~0u, t);
}

/* The last block to finish adds up what the others wrote: with fences this is right. */
static __global__ void last_block(int *x, unsigned *count, bool fences)
{
    T5_SHARED(bool, is_last, [1]);
    x[1 + blockIdx.x * 32 + threadIdx.x] = 1;
    if (fences) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last[0] = atomicAdd(count, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!is_last[0]) return;
    if (fences) __threadfence();
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
        sum += x[1 + b * 32 + threadIdx.x];
    atomicAdd(x, sum);
}

/* ---- kernels that begin while those before them run ---- */

static __global__ void fill_upper(int *x)
{
    t5_await_previous();
    int t = (int)threadIdx.x;
    x[N / 2 + t] = 2 * x[t];
}

static __global__ void double_all(int *x, bool waits_first)
{
    int t = (int)threadIdx.x;
    int early = waits_first ? 0 : x[t];
    t5_await_previous();
    x[t] = 2 * (waits_first ? x[t] : early);
}

static __global__ void overwrite_lower(int *x, bool waits_first)
{
    int t = (int)threadIdx.x;
    if (!waits_first) x[t] = 7;
    t5_await_previous();
    x[t] = 7;
}

static __global__ void touch_nothing(bool waits)
{
    if (waits) t5_await_previous();
}

/* fill_upper, and then what uses its output, or overwrites its input. */
static cudaError_t launch_chain(int fault, int *x, t5_cuda_stream stream)
{
    bool is_right = fault == 19;
    cudaError_t error = T5_LAUNCH(fill_upper, 1, N / 2, 0, stream, x);
    if (error != cudaSuccess) return error;
    if (fault == 22 || fault == 23) error = T5_LAUNCH(touch_nothing, 1, 32, 0, stream, fault == 22);
    if (error != cudaSuccess) return error;
    if (fault != 21) error = T5_LAUNCH(double_all, 1, N, 0, stream, x, is_right);
    if (error != cudaSuccess) return error;
    return T5_LAUNCH(overwrite_lower, 1, N / 2, 0, stream, x, fault != 21);
}

static cudaError_t launch(int fault, int *x, unsigned *count, t5_cuda_stream stream)
{
    switch (fault) {
    case 0:
        return T5_LAUNCH(reverse, 1, N, 0, stream, x, true);
    case 1:
        return T5_LAUNCH(reverse, 1, N, 0, stream, x, false);
    case 2:
        return T5_LAUNCH(missing_barrier_on_reuse, 1, N, 0, stream, x);
    case 3:
        return T5_LAUNCH(missing_syncwarp, 1, N, 0, stream, x);
    case 4:
        return T5_LAUNCH(shared_overrun, 1, 64, 0, stream, x);
    case 5:
        return T5_LAUNCH(dynamic_shared_overrun, 1, 64, 256, stream, x);
    case 6:
        return T5_LAUNCH(global_overrun, 1, N, 0, stream, x);
    case 7:
        return T5_LAUNCH(misaligned_vector, 1, 16, 0, stream, x);
    case 8:
        return T5_LAUNCH(divergent_barrier, 1, 128, 0, stream, x);
    case 9:
        return T5_LAUNCH(barrier_after_exit, 1, 128, 0, stream, x);
    case 10:
        return T5_LAUNCH(shuffle_from_absent_lane, 1, 32, 0, stream, x);
    case 11:
        return T5_LAUNCH(copy_without_wait, 1, 32, 0, stream, x);
    case 12:
        return T5_LAUNCH(uninitialized_shared, 1, N, 0, stream, x);
    case 13:
        return T5_LAUNCH(race_between_blocks, 4, 32, 0, stream, x);
    case 14:
        return T5_LAUNCH(local_overrun, 1, 32, 0, stream, x);
    case 15:
        return T5_LAUNCH(mixed_collectives, 1, 32, 0, stream, x);
    case 16:
        return T5_LAUNCH(last_block, 4, 32, 0, stream, x, count, true);
    case 17:
        return T5_LAUNCH(last_block, 4, 32, 0, stream, x, count, false);
    case 18: /* use after free */
        cudaFree(x);
        return T5_LAUNCH(reverse, 1, N, 0, stream, x, true);
    case 19: /* right */
    case 20: /* reads before it waits */
    case 21: /* writes before it waits */
    case 22: /* reads before it waits what the kernel before the one before wrote */
    case 23: /* ends without waiting */
        return launch_chain(fault, x, {stream.handle, true});
    default:
        return cudaErrorInvalidValue;
    }
}

/* The result of fault `fault` in one thread order. */
static std::vector<int> run(int fault, const simt_config *config, cudaStream_t stream)
{
    std::vector<int> values(N);
    for (int i = 0; i < N; i++)
        values[(size_t)i] = i;
    int *x = nullptr;
    unsigned *count = nullptr;
    simt_config_set(config);
    if (cudaMalloc((void **)&x, N * sizeof *x) != cudaSuccess) exit(2);
    if (cudaMalloc((void **)&count, sizeof *count) != cudaSuccess) exit(2);
    cudaMemcpyAsync(x, values.data(), N * sizeof *x, cudaMemcpyHostToDevice, stream);
    cudaMemsetAsync(count, 0, sizeof *count, stream);
    if (launch(fault, x, count, {stream, false}) != cudaSuccess) exit(2);
    if (fault == 18) exit(0);
    cudaMemcpyAsync(values.data(), x, N * sizeof *x, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    cudaFree(x);
    cudaFree(count);
    return values;
}

int main(int argc, char **argv)
{
    int fault = argc > 1 ? atoi(argv[1]) : 0;
    static const simt_config configs[] = {{SIMT_ORDER_FORWARD, 1, 1, true, false, true},
                                          {SIMT_ORDER_REVERSE, 1, 1, false, false, false},
                                          {SIMT_ORDER_RANDOM, 5, 1, true, true, false},
                                          {SIMT_ORDER_RANDOM, 7, 4, false, false, false}};
    cudaStream_t stream = nullptr;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return 2;
    std::vector<int> first;
    bool is_noticed = false;
    for (const simt_config &config : configs) {
        std::vector<int> values = run(fault, &config, stream);
        if (first.empty()) first = values;
        if (values != first) is_noticed = true;
        for (int value : values)
            is_noticed = is_noticed || value == -1;
    }
    cudaStreamDestroy(stream);
    printf("fault %d: %s\n", fault, is_noticed ? "the result depends on the order, or holds NaN" : "not noticed");
    return is_noticed ? 3 : 0;
}
