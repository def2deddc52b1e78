/* cuda/backend.c: the GPU as a backend: opens the device, owns the streams and all memory, and turns each operation of
 * model/backend.h into a kernel launch or two on one of them. Only sync and download wait for the GPU.
 *
 * Threads: one at a time, any one: t5_cuda_enter() makes the device current for a thread that last used another. */
#include "base/assert.h"
#include "cuda/cuda_backend.h"

#include <stdio.h>
#include <stdlib.h>

#define CAPABILITY_MAJOR_MIN 8     /* mma.m16n8k16, cp.async, bfloat16 */
#define CAPABILITY_MAJOR_OVERLAP 9 /* programmatic dependent launch */

/* The runtime's current device of this thread, shared by all backends; -1: not known to be any. */
static _Thread_local int current_device = -1;

t5_status t5_cuda_enter(t5_cuda_backend *cuda, t5_error *err)
{
    if (current_device == cuda->device) return T5_OK;
    t5_status status = T5_CUDA(err, cudaSetDevice(cuda->device));
    if (status == T5_OK) current_device = cuda->device;
    return status;
}

static void destroy_event(cudaEvent_t event)
{
    if (event != NULL) cudaEventDestroy(event);
}

static void close_lane(t5_cuda_backend *cuda, t5_cuda_lane *lane)
{
    if (lane->blas != NULL) cuda->cublas.destroy(lane->blas);
    cudaFree(lane->blas_workspace);
    cudaFree(lane->normalized);
    cudaFree(lane->wide);
    if (lane->stream.handle != NULL) cudaStreamDestroy(lane->stream.handle);
}

static void cuda_destroy(t5_backend *b)
{
    if (b == NULL) return;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_error ignored = {0};
    t5_cuda_enter(cuda, &ignored);
    t5_cuda_drop_graphs(cuda);
    t5_cuda_wait_all(cuda, &ignored);
    for (int i = 0; i < T5_CUDA_N_LANES; i++)
        close_lane(cuda, &cuda->lanes[i]);
    if (cuda->lt != NULL) cuda->cublas_lt.destroy(cuda->lt);
    t5_cublas_lt_close(&cuda->cublas_lt);
    t5_cublas_close(&cuda->cublas);
    destroy_event(cuda->marks[0]);
    destroy_event(cuda->marks[1]);
    destroy_event(cuda->decoded);
    destroy_event(cuda->encoded);
    cudaFree(cuda->split.parts);
    cudaFree(cuda->split.arrived);
    cudaFreeHost(cuda->staging);
    cudaFreeHost(cuda->landing);
    if (cuda->side != NULL) cudaStreamDestroy(cuda->side);
    free(cuda);
}

static t5_status cuda_embed(t5_backend *b, const t5_matrix *table, const t5_step *step, const t5_packed *packed,
                            float *x, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT((step == NULL) != (packed == NULL));
    t5_cuda_embed_args args = {.table = table->values, .ld = table->ld, .d_model = table->n_cols, .x = x};
    if (packed != NULL) {
        args.n = packed->n_tokens;
        args.tokens = packed->tokens;
    } else {
        args.n = step->n_queries;
        args.row = step->row;
        args.pos = step->pos;
        args.history = step->state->tokens;
        args.stride = step->state->stride;
    }
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_embed(cuda->type, &args, cuda->lane->stream)));
out:
    return status;
}

static t5_status cuda_rms_norm(t5_backend *b, const float *x, const float *gain, float eps, int32_t n_rows, int32_t d,
                               void *y, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_cuda_norm_args args = {.x = x, .gain = gain, .eps = eps, .n_rows = n_rows, .d = d, .y = y};
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_rms_norm(cuda->type, &args, cuda->lane->stream)));
out:
    return status;
}

/* What the attention kernels can address; kernels.h and attend.cuh say why. */
static bool is_width_known(int32_t d_kv)
{
    return d_kv <= T5_CUDA_D_KV_MAX && (d_kv % 8 == 0 || d_kv <= T5_CUDA_D_KV_ODD_MAX);
}

static t5_status cuda_check_model(const t5_backend *b, const t5_hparams *hp, t5_error *err)
{
    (void)b;
    if (is_width_known(hp->d_kv)) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "d_kv is %d: on a GPU it must be a multiple of 8 up to %d, or at most %d", hp->d_kv,
                   T5_CUDA_D_KV_MAX, T5_CUDA_D_KV_ODD_MAX);
}

static t5_status cuda_encoder_attention(t5_backend *b, const t5_encoder_attention_args *args, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT(is_width_known(args->d_kv));
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_encoder_attention(cuda->type, args, cuda->lane->stream)));
out:
    return status;
}

static t5_status cuda_self_attention(t5_backend *b, const t5_self_attention_args *args, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT(is_width_known(args->kv->d_kv));
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_self_attention(cuda->type, args, &cuda->split, cuda->lane->stream)));
out:
    return status;
}

static t5_status cuda_cross_attention(t5_backend *b, const t5_cross_attention_args *args, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT(is_width_known(args->kv->d_kv));
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_cross_attention(cuda->type, args, &cuda->split, cuda->lane->stream)));
out:
    return status;
}

static t5_status cuda_cross_weights(t5_backend *b, const t5_cross_weights_args *args, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT(is_width_known(args->kv->d_kv));
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_cross_weights(cuda->type, args, cuda->lane->stream)));
out:
    return status;
}

static t5_status cuda_store_cross_kv(t5_backend *b, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                     const void *kv_rows, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT(is_width_known(kv->d_kv));
    T5_TRY(t5_cuda_enter(cuda, err));
    T5_TRY(T5_CUDA(err, t5_cuda_store_cross_kv(cuda->type, packed, kv, layer, kv_rows, cuda->lane->stream)));
out:
    return status;
}

static t5_status search(t5_cuda_backend *cuda, const t5_step *step, float *logits, int32_t vocab_size, bool has_tiles,
                        t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(T5_CUDA(err, t5_cuda_search_rows(step, logits, vocab_size, has_tiles, cuda->lane->stream)));
    T5_TRY(T5_CUDA(err, t5_cuda_search_slots(step, cuda->lane->stream)));
out:
    return status;
}

static t5_status cuda_search(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err)
{
    t5_status status = t5_cuda_enter(t5_cuda_of(b), err);
    return status == T5_OK ? search(t5_cuda_of(b), step, logits, vocab_size, false, err) : status;
}

static t5_status cuda_head_search(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                                  const t5_matrix *w, float *logits, t5_error *err)
{
    t5_status status = t5_cuda_head_of_step(b, step, x, norm_gain, eps, w, logits, err);
    return status == T5_OK ? search(t5_cuda_of(b), step, logits, w->n_rows, true, err) : status;
}

static t5_status cuda_sync(t5_backend *b, t5_error *err)
{
    t5_status status = t5_cuda_enter(t5_cuda_of(b), err);
    return status == T5_OK ? t5_cuda_wait_all(t5_cuda_of(b), err) : status;
}

static const t5_backend_ops cuda_ops = {
    .name = "cuda",
    .async = &t5_cuda_async_ops,
    .multiplies_tables = true,
    .destroy = cuda_destroy,
    .check = cuda_check_model,
    .memory_free = t5_cuda_memory_free,
    .matrix_bytes = t5_cuda_matrix_bytes,
    .alloc = t5_cuda_alloc,
    .release = t5_cuda_release,
    .upload = t5_cuda_upload,
    .download = t5_cuda_download,
    .matrix_create = t5_cuda_matrix_create,
    .matrix_destroy = t5_cuda_matrix_destroy,
    .table_create = t5_cuda_table_create,
    .embed = cuda_embed,
    .rms_norm = cuda_rms_norm,
    .linear = t5_cuda_product,
    .tune_linear = t5_cuda_tune_product,
    .encoder_attention = cuda_encoder_attention,
    .self_attention = cuda_self_attention,
    .cross_attention = cuda_cross_attention,
    .cross_weights = cuda_cross_weights,
    .store_cross_kv = cuda_store_cross_kv,
    .head = t5_cuda_head,
    .search = cuda_search,
    .head_search = cuda_head_search,
    .sync = cuda_sync,
};

/* Finds the device; without a driver, which counts as one that is too old, the count is an error. */
static t5_status find_device(int device, struct cudaDeviceProp *out, t5_error *err)
{
    int n_devices = 0;
    cudaError_t error = cudaGetDeviceCount(&n_devices);
    if (error == cudaErrorInsufficientDriver)
        return T5_FAIL(err, T5_ERR_DEVICE, "no NVIDIA driver, or one too old for this program");
    if (error != cudaSuccess) return T5_FAIL(err, T5_ERR_DEVICE, "%s", cudaGetErrorString(error));
    if (n_devices == 0) return T5_FAIL(err, T5_ERR_DEVICE, "no CUDA device");
    if (device >= n_devices)
        return T5_FAIL(err, T5_ERR_DEVICE, "cuda:%d does not exist: there are %d", device, n_devices);
    t5_status status = T5_CUDA(err, cudaGetDeviceProperties(out, device));
    if (status != T5_OK) return status;
    if (out->major < CAPABILITY_MAJOR_MIN)
        return T5_FAIL(err, T5_ERR_DEVICE, "%s has compute capability %d.%d, at least %d.0 is needed", out->name,
                       out->major, out->minor, CAPABILITY_MAJOR_MIN);
    return T5_OK;
}

static t5_status open_lane(t5_cuda_backend *cuda, t5_cuda_lane *lane, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(T5_CUDA(err, cudaStreamCreateWithFlags(&lane->stream.handle, cudaStreamNonBlocking)));
    lane->stream.overlaps = cuda->overlaps;
    T5_TRY(t5_cuda_take(T5_CUDA_NORMALIZED_BYTES, &lane->normalized, err));
    if (cuda->is_deterministic) goto out;
    T5_TRY(t5_cuda_take(T5_CUDA_WIDE_BYTES, (void **)&lane->wide, err));
    T5_TRY(t5_cuda_take(T5_CUDA_BLAS_WORKSPACE_BYTES, &lane->blas_workspace, err));
    T5_TRY(T5_CUBLAS(err, cuda->cublas.create(&lane->blas)));
    T5_TRY(T5_CUBLAS(err, cuda->cublas.set_stream(lane->blas, lane->stream.handle)));
    T5_TRY(T5_CUBLAS(err, cuda->cublas.set_workspace(lane->blas, lane->blas_workspace, T5_CUDA_BLAS_WORKSPACE_BYTES)));
out:
    return status;
}

static t5_status open_split(t5_cuda_backend *cuda, t5_error *err)
{
    t5_status status = T5_OK;
    size_t arrived_bytes = T5_CUDA_SPLIT_BLOCKS * sizeof *cuda->split.arrived;
    T5_TRY(t5_cuda_take(T5_CUDA_SPLIT_FLOATS * sizeof *cuda->split.parts, (void **)&cuda->split.parts, err));
    T5_TRY(t5_cuda_take(arrived_bytes, (void **)&cuda->split.arrived, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(cuda->split.arrived, 0, arrived_bytes, cuda->lane->stream.handle)));
out:
    return status;
}

/* cuBLASLt is not needed: without it cuBLAS does its work. */
static void open_lt(t5_cuda_backend *cuda)
{
    t5_error ignored = {0};
    if (t5_cublas_lt_open(&cuda->cublas_lt, &ignored) != T5_OK) return;
    if (cuda->cublas_lt.create(&cuda->lt) != CUBLAS_STATUS_SUCCESS) cuda->lt = NULL;
}

static t5_status take_resources(t5_cuda_backend *cuda, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(t5_cuda_enter(cuda, err));
    if (!cuda->is_deterministic) {
        T5_TRY(t5_cublas_open(&cuda->cublas, err));
        open_lt(cuda);
    }
    for (int i = 0; i < T5_CUDA_N_LANES; i++)
        T5_TRY(open_lane(cuda, &cuda->lanes[i], err));
    T5_TRY(open_split(cuda, err));
    T5_TRY(T5_CUDA(err, cudaStreamCreateWithFlags(&cuda->side, cudaStreamNonBlocking)));
    T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&cuda->marks[0], cudaEventDisableTiming)));
    T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&cuda->marks[1], cudaEventDisableTiming)));
    T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&cuda->decoded, cudaEventDisableTiming)));
    T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&cuda->encoded, cudaEventDisableTiming)));
    T5_TRY(T5_CUDA(err, cudaMallocHost((void **)&cuda->staging, T5_CUDA_STAGING_BYTES)));
    T5_TRY(T5_CUDA(err, cudaMallocHost((void **)&cuda->landing, T5_CUDA_LANDING_BYTES)));
out:
    return status;
}

t5_status t5_cuda_create(const t5_cuda_options *options, t5_backend **out, t5_error *err)
{
    t5_status status = T5_OK;
    struct cudaDeviceProp device;
    t5_cuda_backend *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "backend: %zu bytes", sizeof *cuda);
    cuda->base.ops = &cuda_ops;
    cuda->base.act_dtype = options->type;
    cuda->device = options->device;
    cuda->type = options->type;
    cuda->is_deterministic = options->is_deterministic;
    cuda->lane = &cuda->lanes[T5_CUDA_DECODE];
    T5_TRY(find_device(options->device, &device, err));
    cuda->overlaps = device.major >= CAPABILITY_MAJOR_OVERLAP;
    T5_TRY(take_resources(cuda, err));
    snprintf(cuda->base.device, sizeof cuda->base.device, "cuda:%d (%.60s, %s)", options->device, device.name,
             t5_dtype_name(options->type));
    *out = &cuda->base;
    cuda = NULL;
out:
    if (cuda != NULL) cuda_destroy(&cuda->base);
    return status;
}
