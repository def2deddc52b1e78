/* bench/exp/exp_step.cu: experiment 2, the real decode step in four ways: kernel by kernel, as a graph, with kernels
 * that begin while the one before runs, and with the next weight being fetched into the L2 cache meanwhile. 1 to 256
 * rows of the model in --model, through the running batch as the server uses it. The ways must give the same tokens. */
#include "bench/exp/device.cuh"
#include "bench/gpu_load.h"
#include "cuda/cuda_backend.h"

#include <vector>

enum { PREFETCH_BLOCKS = 32, PREFETCH_THREADS = 128, CACHE_LINE = 128, CHECK_TOKENS = 12 };

struct way {
    const char *name;
    bool is_graph, overlaps, prefetches;
};
static const way ways[] = {{"eager", false, false, false},
                           {"graph", true, false, false},
                           {"graph+overlap", true, true, false},
                           {"graph+overlap+prefetch", true, true, true}};

/* The backend's own operations and the way that is under way. One: operations know their backend alone. */
static struct {
    const t5_backend_ops *inner;
    t5_backend_ops ops;
    t5_async_ops async;
    way current;
    std::vector<const t5_matrix *> weights; /* in the order of a step; the last is the head */
    std::vector<cudaEvent_t> events;        /* of each weight, and of the end */
    cudaStream_t side;
} stepper;

/* Asks for each line of p[n_bytes] in L2. Launch: any number of blocks. Bytes: n_bytes, from memory to L2. */
static __global__ void __launch_bounds__(PREFETCH_THREADS) prefetch_kernel(const char *p, size_t n_bytes)
{
    size_t first = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * CACHE_LINE;
    for (size_t at = first; at < n_bytes; at += (size_t)gridDim.x * blockDim.x * CACHE_LINE) {
#ifndef EXP_ON_FIBERS
        asm volatile("prefetch.global.L2 [%0];\n" ::"l"(p + at));
#else
        (void)p;
#endif
    }
}

static t5_status prefetch(t5_cuda_backend *cuda, const t5_matrix *w, t5_error *err)
{
    size_t n_bytes = (size_t)w->n_rows * (size_t)w->ld * t5_dtype_bytes(cuda->type);
    return T5_CUDA(err, EXP_LAUNCH(prefetch_kernel, dim3(PREFETCH_BLOCKS), dim3(PREFETCH_THREADS), 0, stepper.side,
                                   exp_how{}, (const char *)w->values, n_bytes));
}

/* Before the product with `w`: fetches the weight that follows, on a stream beside. */
static t5_status begin_product(t5_cuda_backend *cuda, const t5_matrix *w, t5_error *err)
{
    t5_status status = T5_OK;
    cudaStream_t stream = cuda->lanes[T5_CUDA_DECODE].stream.handle;
    if (!stepper.current.prefetches || cuda->lane != &cuda->lanes[T5_CUDA_DECODE]) return T5_OK;
    for (size_t i = 0; i + 1 < stepper.weights.size(); i++) {
        if (stepper.weights[i] != w) continue;
        T5_TRY(T5_CUDA(err, cudaEventRecord(stepper.events[i], stream)));
        T5_TRY(T5_CUDA(err, cudaStreamWaitEvent(stepper.side, stepper.events[i], 0)));
        T5_TRY(prefetch(cuda, stepper.weights[i + 1], err));
        break;
    }
out:
    return status;
}

static t5_status linear(t5_backend *b, const t5_linear_args *args, t5_error *err)
{
    t5_status status = begin_product(t5_cuda_of(b), args->w, err);
    return status == T5_OK ? stepper.inner->linear(b, args, err) : status;
}

/* The search ends a step; the stream beside joins before it. */
static t5_status join(t5_backend *b, t5_error *err)
{
    t5_status status = T5_OK;
    cudaEvent_t end = stepper.events.back();
    if (!stepper.current.prefetches) return T5_OK;
    T5_TRY(T5_CUDA(err, cudaEventRecord(end, stepper.side)));
    T5_TRY(T5_CUDA(err, cudaStreamWaitEvent(t5_cuda_of(b)->lanes[T5_CUDA_DECODE].stream.handle, end, 0)));
out:
    return status;
}

static t5_status search(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err)
{
    t5_status status = join(b, err);
    return status == T5_OK ? stepper.inner->search(b, step, logits, vocab_size, err) : status;
}

static t5_status head_search(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                             const t5_matrix *w, float *logits, t5_error *err)
{
    t5_status status = join(b, err);
    return status == T5_OK ? stepper.inner->head_search(b, step, x, norm_gain, eps, w, logits, err) : status;
}

static t5_status step_begin(t5_backend *b, int32_t n_queries, bool *out_is_queued, t5_error *err)
{
    *out_is_queued = false;
    return stepper.current.is_graph ? stepper.inner->async->step_begin(b, n_queries, out_is_queued, err) : T5_OK;
}

static t5_status step_end(t5_backend *b, bool is_whole, bool *out_is_queued, t5_error *err)
{
    *out_is_queued = true;
    return stepper.current.is_graph ? stepper.inner->async->step_end(b, is_whole, out_is_queued, err) : T5_OK;
}

static void wrap(t5_backend *b, exp_rig *rig)
{
    stepper.inner = b->ops;
    stepper.ops = *b->ops;
    stepper.async = *b->ops->async;
    stepper.ops.linear = linear;
    stepper.ops.search = search;
    if (b->ops->head_search != nullptr) stepper.ops.head_search = head_search;
    stepper.ops.async = &stepper.async;
    stepper.async.step_begin = step_begin;
    stepper.async.step_end = step_end;
    stepper.side = rig->side;
    b->ops = &stepper.ops;
}

static t5_status list_weights(const t5_model *m, t5_error *err)
{
    t5_status status = T5_OK;
    for (int32_t i = 0; i < m->hp.n_dec_layers; i++) {
        const t5_layer &l = m->dec_layers[i];
        for (const t5_matrix *w : {l.qkv, l.out, l.cross_q, l.cross_out, l.wi, l.wo})
            stepper.weights.push_back(w);
    }
    stepper.weights.push_back(m->head);
    stepper.events.resize(stepper.weights.size(), nullptr);
    for (cudaEvent_t &event : stepper.events)
        T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&event, cudaEventDisableTiming)));
out:
    return status;
}

static t5_status choose_way(t5_cuda_backend *cuda, const way &w, t5_error *err)
{
    t5_status status = t5_cuda_wait_all(cuda, err);
    t5_cuda_drop_graphs(cuda);
    stepper.current = w;
    for (t5_cuda_lane &lane : cuda->lanes)
        lane.stream.overlaps = w.overlaps;
    return status;
}

/* The tokens of a few sentences, to compare the ways with each other. */
static t5_status translate(gpu_load *load, std::vector<int32_t> *out, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(gpu_load_admit_all(load, 3, 17, 1, CHECK_TOKENS, err));
    for (int32_t i = 0; i < load->n_slots; i++) {
        while (!t5_batch_is_done(load->batch, load->slots[i]))
            T5_TRY(t5_batch_step(load->batch, err));
        t5_batch_result result;
        t5_batch_result_get(load->batch, load->slots[i], 0, &result);
        out->insert(out->end(), result.ids, result.ids + result.n_ids);
    }
out:
    gpu_load_release(load);
    return status;
}

static t5_status run_ways(exp_rig *rig, gpu_load *load, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(load->model->backend);
    std::vector<int32_t> expected, tokens;
    for (const way &w : ways) {
        if (w.overlaps && !exp_has_clusters(rig)) continue; /* the same capability */
        T5_TRY(choose_way(cuda, w, err));
        tokens.clear();
        T5_TRY(translate(load, &tokens, err));
        if (expected.empty()) expected = tokens;
        if (tokens != expected) {
            status = T5_FAIL(err, T5_ERR_FORMAT, "%s gives other tokens than %s", w.name, ways[0].name);
            goto out;
        }
        for (int n_rows : {1, 8, 64, 256}) {
            gpu_step_time t;
            if (rig->is_rehearsal && n_rows > 8) continue;
            T5_TRY(gpu_load_time_steps(load, n_rows, 1, &t, err));
            exp_line(
                rig,
                "\"way\":\"%s\",\"rows\":%d,\"us\":%.2f,\"us_a_layer\":%.3f,\"gb_per_s\":%.1f,\"tokens_per_s\":%.0f",
                w.name, n_rows, t.ms * 1e3, t.ms * 1e3 / load->model->hp.n_dec_layers, t.bytes / t.ms / 1e6,
                n_rows / t.ms * 1e3);
        }
    }
out:
    return status;
}

static t5_status run_step(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_options options = {};
    t5_backend *backend = nullptr;
    gpu_load load = {};
    options.type = T5_F16;
    if (rig->model_dir == nullptr) return T5_FAIL(err, T5_ERR_ARG, "--model DIR is missing");
    T5_TRY(t5_cuda_create(&options, &backend, err));
    wrap(backend, rig);
    T5_TRY(
        gpu_load_open(&load, rig->model_dir, backend, exp_choose(rig, GPU_LOAD_ROWS_MAX, 32), rig->is_rehearsal, err));
    T5_TRY(list_weights(load.model, err));
    T5_TRY(run_ways(rig, &load, err));
out:
    gpu_load_close(&load);
    for (cudaEvent_t event : stepper.events) {
        if (event != nullptr) cudaEventDestroy(event);
    }
    if (backend != nullptr) backend->ops->destroy(backend);
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {{"step", "1, 8, 64, 256 rows of --model in each way", run_step}};
    exp_setup();
    return exp_main(argc, argv, 2, cases, T5_COUNT(cases));
}
