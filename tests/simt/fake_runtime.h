/* tests/simt/fake_runtime.h: what the parts of the host runtime share: the count of calls, streams as queues. */
#pragma once
#include <cuda_runtime.h>

#include <functional>
#include <memory>

namespace simt
{

static const size_t SHARED_BYTES_OPT_IN = 99 << 10; /* what the smallest of our architectures (8.6, 8.9, 12.0) has */

/* Every call of the runtime or of cuBLAS begins with this: counts it, and returns the fault to give instead, if any. */
cudaError_t count_call();
/* Appends an operation to a stream, or to the graph that the stream captures, or runs it at once. */
void enqueue(cudaStream_t stream, std::function<void()> operation);
/* The same for a kernel, which ends at the latest when something on the stream needs it to be done. */
struct kernel_call;
void enqueue_kernel(cudaStream_t stream, std::shared_ptr<const kernel_call> call);
/* Kernels go to streams of the calling thread's current device alone. */
bool is_of_current_device(cudaStream_t stream);

} // namespace simt
