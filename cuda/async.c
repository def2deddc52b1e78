/* cuda/async.c: the host runs ahead of the GPU: decode steps as recorded graphs, outcomes that are read one step late,
 * an encoder pass on a second stream beside the decode steps.
 *
 * A step of a size is recorded when it is queued for the second time and replayed from then on: its kernels take
 * everything that changes from device memory. One graph launch instead of some fifty kernel launches a step. */
#include "cuda/cuda_backend.h"

#include <string.h>

static const int32_t graph_queries[T5_CUDA_N_GRAPHS] = {1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256};

static int32_t padded_queries(const t5_backend *b, int32_t n_queries)
{
    (void)b;
    for (int i = 0; i < T5_CUDA_N_GRAPHS; i++) {
        if (n_queries <= graph_queries[i]) return graph_queries[i];
    }
    return n_queries;
}

static t5_cuda_graph *find_graph(t5_cuda_backend *cuda, int32_t n_queries)
{
    for (int i = 0; i < T5_CUDA_N_GRAPHS; i++) {
        if (n_queries == graph_queries[i]) return &cuda->graphs[i];
    }
    return NULL;
}

/* Ends a recording that nobody finished, so that the stream can be used again. */
static void abandon_recording(t5_cuda_backend *cuda)
{
    cudaGraph_t graph = NULL;
    if (cuda->recording == NULL) return;
    cuda->recording = NULL;
    if (cudaStreamEndCapture(cuda->lanes[T5_CUDA_DECODE].stream.handle, &graph) == cudaSuccess) cudaGraphDestroy(graph);
}

void t5_cuda_drop_graphs(t5_cuda_backend *cuda)
{
    abandon_recording(cuda);
    for (int i = 0; i < T5_CUDA_N_GRAPHS; i++) {
        if (cuda->graphs[i].exec != NULL) cudaGraphExecDestroy(cuda->graphs[i].exec);
        cuda->graphs[i].exec = NULL;
        cuda->graphs[i].is_given_up = false;
    }
}

t5_status t5_cuda_wait_all(t5_cuda_backend *cuda, t5_error *err)
{
    t5_status status = T5_OK;
    for (int i = 0; i < T5_CUDA_N_LANES; i++) {
        if (cuda->lanes[i].stream.handle != NULL)
            T5_TRY(T5_CUDA(err, cudaStreamSynchronize(cuda->lanes[i].stream.handle)));
    }
out:
    return status;
}

static t5_status step_begin(t5_backend *b, int32_t n_queries, bool *out_is_queued, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_cuda_graph *graph = find_graph(cuda, n_queries);
    *out_is_queued = false;
    if (graph == NULL) return T5_OK;
    T5_TRY(t5_cuda_enter(cuda, err));
    if (graph->exec != NULL) {
        T5_TRY(T5_CUDA(err, cudaGraphLaunch(graph->exec, cuda->lane->stream.handle)));
        *out_is_queued = true;
    } else if (graph->was_run && !graph->is_given_up) {
        T5_TRY(T5_CUDA(err, cudaStreamBeginCapture(cuda->lane->stream.handle, cudaStreamCaptureModeThreadLocal)));
        cuda->recording = graph;
    }
    graph->was_run = true;
out:
    return status;
}

static t5_status step_end(t5_backend *b, bool is_whole, bool *out_is_queued, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_cuda_graph *recorded = cuda->recording;
    cudaGraph_t graph = NULL;
    *out_is_queued = true;
    if (recorded == NULL) return T5_OK;
    if (!is_whole) {
        abandon_recording(cuda);
        return T5_OK;
    }
    cuda->recording = NULL;
    T5_TRY(T5_CUDA(err, cudaStreamEndCapture(cuda->lane->stream.handle, &graph)));
    cudaError_t error = cudaGraphInstantiate(&recorded->exec, graph, 0);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* forgets it: the device goes on */
        recorded->exec = NULL;
        recorded->is_given_up = true;
        *out_is_queued = false;
        goto out;
    }
    T5_TRY(t5_cuda_check(error, "cudaGraphInstantiate", __FILE__, __LINE__, err));
    T5_TRY(T5_CUDA(err, cudaGraphLaunch(recorded->exec, cuda->lane->stream.handle)));
out:
    if (graph != NULL) cudaGraphDestroy(graph);
    return status;
}

static t5_status alloc_host(t5_backend *b, size_t n_bytes, void **out, t5_error *err)
{
    t5_status status = T5_OK;
    *out = NULL;
    T5_TRY(t5_cuda_enter(t5_cuda_of(b), err));
    T5_TRY(T5_CUDA(err, cudaMallocHost(out, n_bytes)));
    memset(*out, 0, n_bytes);
out:
    return status;
}

static void release_host(t5_backend *b, void *p)
{
    t5_error ignored = {0};
    if (p == NULL) return;
    t5_cuda_enter(t5_cuda_of(b), &ignored);
    t5_cuda_wait_all(t5_cuda_of(b), &ignored); /* a copy may still be on its way there */
    cudaFreeHost(p);
}

static t5_status fetch(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToHost, cuda->lane->stream.handle)));
out:
    return status;
}

static t5_status mark(t5_backend *b, int32_t i_mark, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, cudaEventRecord(cuda->marks[i_mark], cuda->lane->stream.handle)));
out:
    return status;
}

static t5_status wait_mark(t5_backend *b, int32_t i_mark, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, cudaEventSynchronize(cuda->marks[i_mark])));
out:
    return status;
}

/* What is read was finished before the last mark that the host waited for: a stream of its own need not wait. */
static t5_status read_beside(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    return t5_cuda_land(t5_cuda_of(b), t5_cuda_of(b)->side, dst, src, n_bytes, err);
}

static t5_status encode_begin(t5_backend *b, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_cuda_lane *encode = &cuda->lanes[T5_CUDA_ENCODE];
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, cudaEventRecord(cuda->decoded, cuda->lanes[T5_CUDA_DECODE].stream.handle)));
    T5_TRY(T5_CUDA(err, cudaStreamWaitEvent(encode->stream.handle, cuda->decoded, 0)));
    cuda->lane = encode;
out:
    return status;
}

static t5_status encode_end(t5_backend *b, t5_error *err)
{
    t5_cuda_backend *cuda = t5_cuda_of(b);
    cuda->lane = &cuda->lanes[T5_CUDA_DECODE];
    return T5_CUDA(err, cudaEventRecord(cuda->encoded, cuda->lanes[T5_CUDA_ENCODE].stream.handle));
}

static t5_status encode_poll(t5_backend *b, bool waits, bool *out_is_done, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    *out_is_done = false;
    T5_TRY(t5_cuda_enter(cuda, err));
    if (waits) {
        T5_TRY(T5_CUDA(err, cudaEventSynchronize(cuda->encoded)));
    } else {
        cudaError_t error = cudaEventQuery(cuda->encoded);
        if (error == cudaErrorNotReady) return T5_OK;
        T5_TRY(t5_cuda_check(error, "cudaEventQuery", __FILE__, __LINE__, err));
    }
    *out_is_done = true;
out:
    return status;
}

const t5_async_ops t5_cuda_async_ops = {
    .padded_queries = padded_queries,
    .step_begin = step_begin,
    .step_end = step_end,
    .alloc_host = alloc_host,
    .release_host = release_host,
    .fetch = fetch,
    .mark = mark,
    .wait = wait_mark,
    .read = read_beside,
    .encode_begin = encode_begin,
    .encode_end = encode_end,
    .encode_poll = encode_poll,
};
