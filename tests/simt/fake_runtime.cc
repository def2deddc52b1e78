/* tests/simt/fake_runtime.cc: the CUDA runtime on the host. Streams are queues of operations: eager by default, lazy on
 * request (then nothing runs until something waits, which shows missing waits and host buffers that are freed too
 * early). Kernels that may overlap do, as far as the rules of the device allow. Fresh device memory is 0xff, NaN in
 * every float type; each allocation is a heap block, so that AddressSanitizer sees every overrun, use after free and
 * leak. There are two devices, neither of which sees the other's memory. Any call can be made to fail. */
#include "tests/simt/fake_runtime.h"
#include "tests/simt/simt.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "tests/simt/grid.h"

struct operation {
    std::function<void()> run;                       /* what is no kernel */
    std::shared_ptr<const simt::kernel_call> kernel; /* else NULL */
};

struct CUgraph_st {
    std::vector<operation> operations;
};
struct CUgraphExec_st {
    std::vector<operation> operations;
};
struct CUstream_st {
    int device;
    std::deque<operation> queue;
    std::deque<simt::grid *> chain; /* kernels one after the other that are under way */
    CUgraph_st *capture = nullptr;
};
struct CUevent_st {
    int device;
    CUstream_st *stream = nullptr;
    bool is_done = true;
};

namespace simt
{

struct allocation {
    size_t n_bytes;
    bool is_pinned;
    int device;
};

static const int N_DEVICES = 2;
static thread_local int current_device; /* what is made belongs to it */

typedef std::lock_guard<std::recursive_mutex> guard;
static std::recursive_mutex mutex; /* guards everything below */
static std::map<void *, allocation> &allocations = *new std::map<void *, allocation>;
static std::set<CUstream_st *> &streams = *new std::set<CUstream_st *>;
static uint64_t n_calls, bytes_max = UINT64_MAX;
static simt_totals totals;
static bool refuses_graphs;
/* Of the environment: the call from which on the device is lost, for programs that only run on this runtime. */
static uint64_t lost_at()
{
    const char *text = getenv("SIMT_LOST_AT");
    return text != nullptr ? strtoull(text, nullptr, 10) : 0;
}

static struct {
    bool is_armed, is_sticky;
    uint64_t at;
    cudaError_t error;
} fault = {getenv("SIMT_LOST_AT") != nullptr, true, lost_at(), cudaErrorLaunchFailure};

cudaError_t count_call()
{
    guard lock(mutex);
    uint64_t call = n_calls++;
    if (!fault.is_armed || call < fault.at) return cudaSuccess;
    if (!fault.is_sticky) fault.is_armed = false;
    return fault.error;
}

/* The oldest kernel of a chain ends, while those behind it that may overlap have begun. */
static void finish_one(CUstream_st *stream)
{
    for (size_t i = 1; i < stream->chain.size(); i++)
        grid_begin(stream->chain[i]);
    grid *oldest = stream->chain.front();
    stream->chain.pop_front();
    grid_finish(oldest);
}

static void finish_chain(CUstream_st *stream)
{
    while (!stream->chain.empty())
        finish_one(stream);
}

/* Kernels that overlap form chains of up to three: the third may begin when the second has, which may be before the
 * first is done. Everything else runs when what is before it is done. */
static void execute(CUstream_st *stream, const operation &op)
{
    const size_t CHAIN_MAX = 3;
    bool overlaps = op.kernel != nullptr && op.kernel->config.overlaps && !config.is_serial;
    if (!overlaps) finish_chain(stream);
    if (op.kernel == nullptr) {
        op.run();
        return;
    }
    stream->chain.push_back(grid_create(op.kernel));
    if (stream->chain.size() == CHAIN_MAX) finish_one(stream);
    if (config.is_serial) finish_chain(stream);
}

static void run_one(CUstream_st *stream)
{
    if (stream->queue.empty()) return;
    operation next = std::move(stream->queue.front());
    stream->queue.pop_front();
    execute(stream, next);
}

static void drain(CUstream_st *stream)
{
    while (!stream->queue.empty())
        run_one(stream);
    finish_chain(stream);
}

static void run_until_done(CUevent_st *event)
{
    while (!event->is_done && !event->stream->queue.empty())
        run_one(event->stream);
}

static void drain_all()
{
    for (CUstream_st *stream : streams)
        drain(stream);
}

static void append(cudaStream_t stream, operation op)
{
    guard lock(mutex);
    if (stream == nullptr) fail("the null stream waits for all others: name a stream");
    if (stream->capture != nullptr) {
        stream->capture->operations.push_back(std::move(op));
    } else if (config.streams_lazy) {
        stream->queue.push_back(std::move(op));
    } else {
        execute(stream, op);
    }
}

void enqueue(cudaStream_t stream, std::function<void()> run)
{
    append(stream, {std::move(run), nullptr});
}

void enqueue_kernel(cudaStream_t stream, std::shared_ptr<const kernel_call> call)
{
    append(stream, {nullptr, std::move(call)});
}

/* Both ends of what is large: touching all of it would take most of the time of a test. */
static void fill_with_nan(char *p, size_t n_bytes)
{
    const size_t END_BYTES = 1 << 20;
    size_t n_end = n_bytes < END_BYTES ? n_bytes : END_BYTES;
    memset(p, 0xff, n_end);
    memset(p + n_bytes - n_end, 0xff, n_end);
}

static uint64_t free_bytes()
{
    return bytes_max > totals.device_bytes ? bytes_max - totals.device_bytes : 0;
}

static cudaError_t allocate(void **out, size_t n_bytes, bool is_pinned)
{
    cudaError_t error = count_call();
    if (error != cudaSuccess) return error;
    guard lock(mutex);
    if (!is_pinned && n_bytes > free_bytes()) return cudaErrorMemoryAllocation;
    void *p = nullptr;
    if (posix_memalign(&p, 256, n_bytes > 0 ? n_bytes : 1) != 0) return cudaErrorMemoryAllocation;
    fill_with_nan((char *)p, n_bytes);
    allocations[p] = {n_bytes, is_pinned, current_device};
    (is_pinned ? totals.pinned_bytes : totals.device_bytes) += n_bytes;
    totals.n_allocations++;
    *out = p;
    return cudaSuccess;
}

/* Frees even when the call is made to fail: a device that is lost takes its memory with it. */
static cudaError_t deallocate(void *p, bool is_pinned)
{
    cudaError_t error = count_call();
    guard lock(mutex);
    if (p == nullptr) return error;
    drain_all();
    auto found = allocations.find(p);
    if (found == allocations.end() || found->second.is_pinned != is_pinned)
        fail("%s of memory that is not allocated so", is_pinned ? "cudaFreeHost" : "cudaFree");
    (is_pinned ? totals.pinned_bytes : totals.device_bytes) -= found->second.n_bytes;
    allocations.erase(found);
    free(p);
    return error;
}

/* The allocation that p points into, or NULL. */
static const allocation *find_memory(const void *p)
{
    auto next = allocations.upper_bound((void *)p);
    if (next == allocations.begin()) return nullptr;
    --next;
    return (const char *)p < (const char *)next->first + next->second.n_bytes ? &next->second : nullptr;
}

static bool is_pinned_memory(const void *p)
{
    const allocation *found = find_memory(p);
    return found != nullptr && found->is_pinned;
}

/* Of the device, or pinned: no copy or kernel on this stream reaches another device. */
static bool is_reached(const void *p, cudaStream_t stream)
{
    const allocation *found = find_memory(p);
    return found == nullptr || found->is_pinned || found->device == stream->device;
}

bool is_of_current_device(cudaStream_t stream)
{
    return stream->device == current_device;
}

} // namespace simt

using namespace simt;

#define COUNT_CALL() \
    do { \
        cudaError_t injected = count_call(); \
        if (injected != cudaSuccess) return injected; \
    } while (0)

/* ---- control ---- */

void simt_fault_arm(uint64_t n, int error, bool is_sticky)
{
    guard lock(mutex);
    fault = {true, is_sticky, n_calls + n, (cudaError_t)error};
}

void simt_fault_disarm(void)
{
    guard lock(mutex);
    fault.is_armed = false;
}

uint64_t simt_call_count(void)
{
    guard lock(mutex);
    return n_calls;
}

void simt_refuse_graphs(bool refuses)
{
    guard lock(mutex);
    refuses_graphs = refuses;
}

void simt_memory_limit(uint64_t n_bytes)
{
    guard lock(mutex);
    bytes_max = n_bytes;
}

simt_totals simt_totals_get(void)
{
    guard lock(mutex);
    simt_totals t = totals;
    t.n_launches = launch_counts().n_all;
    t.n_overlapping = launch_counts().n_overlapping;
    return t;
}

/* ---- device ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    COUNT_CALL();
    *count = N_DEVICES;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    COUNT_CALL();
    if (device < 0 || device >= N_DEVICES) return cudaErrorInvalidDevice;
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    COUNT_CALL();
    if (device < 0 || device >= N_DEVICES) return cudaErrorInvalidDevice;
    *out = cudaDeviceProp{};
    snprintf(out->name, sizeof out->name, "host fibers");
    out->major = config.is_serial ? 8 : 9;
    out->multiProcessorCount = 2;
    out->sharedMemPerBlock = 48 << 10;
    out->sharedMemPerBlockOptin = SHARED_BYTES_OPT_IN;
    out->totalGlobalMem = (size_t)1 << 30;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *out_free, size_t *out_total)
{
    COUNT_CALL();
    guard lock(mutex);
    *out_free = free_bytes();
    *out_total = bytes_max;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return count_call();
}

cudaError_t simt_set_attribute(cudaFuncAttribute attribute, int value)
{
    COUNT_CALL();
    bool is_valid = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && (size_t)value <= SHARED_BYTES_OPT_IN;
    return is_valid ? cudaSuccess : cudaErrorInvalidValue;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    default:
        return "cudaError";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : "an error of the host runtime";
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **out, size_t n_bytes)
{
    return allocate(out, n_bytes, false);
}

cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
    return allocate(out, n_bytes, true);
}

cudaError_t cudaFree(void *p)
{
    return deallocate(p, false);
}

cudaError_t cudaFreeHost(void *p)
{
    return deallocate(p, true);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    COUNT_CALL();
    guard lock(mutex);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device && (find_memory(dst) == nullptr || is_pinned_memory(dst))) fail("copy to what is not device memory");
    if (from_device && (find_memory(src) == nullptr || is_pinned_memory(src)))
        fail("copy from what is not device memory");
    if (!is_reached(dst, stream) || !is_reached(src, stream)) return cudaErrorInvalidValue;
    bool is_upload = kind == cudaMemcpyHostToDevice;
    if (is_upload) totals.uploaded_bytes += n_bytes;
    if (is_upload && !is_pinned_memory(src)) totals.pageable_bytes += n_bytes;
    if (stream->capture == nullptr && is_upload && !is_pinned_memory(src)) {
        /* The driver copies pageable memory aside before the call returns. */
        auto copy = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + n_bytes);
        enqueue(stream, [dst, copy] { memcpy(dst, copy->data(), copy->size()); });
        return cudaSuccess;
    }
    enqueue(stream, [dst, src, n_bytes] { memcpy(dst, src, n_bytes); });
    if (stream->capture == nullptr && kind == cudaMemcpyDeviceToHost && !is_pinned_memory(dst)) drain(stream);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t n_bytes, cudaStream_t stream)
{
    COUNT_CALL();
    guard lock(mutex);
    if (!is_reached(dst, stream)) return cudaErrorInvalidValue;
    enqueue(stream, [dst, value, n_bytes] { memset(dst, value, n_bytes); });
    return cudaSuccess;
}

/* ---- streams, events, graphs ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    COUNT_CALL();
    guard lock(mutex);
    *out = new CUstream_st();
    (*out)->device = current_device;
    streams.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t error = count_call();
    guard lock(mutex);
    drain(stream);
    streams.erase(stream);
    delete stream;
    return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    COUNT_CALL();
    guard lock(mutex);
    if (stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
    drain(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    COUNT_CALL();
    enqueue(stream, [event] { run_until_done(event); });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    COUNT_CALL();
    *out = new CUevent_st();
    (*out)->device = current_device;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t error = count_call();
    delete event;
    return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    COUNT_CALL();
    if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
    event->stream = stream;
    event->is_done = false;
    enqueue(stream, [event] { event->is_done = true; });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    COUNT_CALL();
    guard lock(mutex);
    run_until_done(event);
    return cudaSuccess;
}

/* Of a lazy stream each query runs one operation, so that polling comes to an end. */
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    COUNT_CALL();
    guard lock(mutex);
    if (!event->is_done) run_one(event->stream);
    return event->is_done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    COUNT_CALL();
    guard lock(mutex);
    if (stream->capture != nullptr) return cudaErrorInvalidValue;
    stream->capture = new CUgraph_st();
    return cudaSuccess;
}

/* Ends the capture even when the call is made to fail, as the runtime does. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    cudaError_t error = count_call();
    guard lock(mutex);
    CUgraph_st *graph = stream->capture;
    stream->capture = nullptr;
    if (error != cudaSuccess) {
        delete graph;
        graph = nullptr;
    }
    *out = graph;
    return error != cudaSuccess ? error : graph != nullptr ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    COUNT_CALL();
    guard lock(mutex);
    if (refuses_graphs) return cudaErrorMemoryAllocation;
    totals.n_allocations++;
    *out = new CUgraphExec_st{graph->operations};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    COUNT_CALL();
    enqueue(stream, [exec, stream] {
        for (const operation &op : exec->operations)
            execute(stream, op);
        finish_chain(stream);
    });
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t error = count_call();
    delete graph;
    return error;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t error = count_call();
    guard lock(mutex);
    drain_all();
    delete exec;
    return error;
}
