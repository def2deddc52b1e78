/* bench/bench_gpu.c: where the time of a GPU goes, for bench/gpu_report.sh: decode steps by number of rows, with and
 * without beams, encoder passes alone and beside decode steps, and translations of mixed lengths from end to end. One
 * JSON line a case, so that a run that is cut short still says something. Ids are random; the folder needs no
 * tokenizer.
 */
#include "base/clock.h"
#include "bench/gpu_load.h"
#include "device/device.h"

#include <getopt.h>
#include <stdio.h>

enum { ROWS_MAX = 128, OVERLAP_ROWS = 40 }; /* 40 rows and 56 run the same recorded step */

static t5_status time_steps(gpu_load *load, int32_t n_sources, int32_t num_beams, t5_error *err)
{
    gpu_step_time t;
    t5_status status = gpu_load_time_steps(load, n_sources, num_beams, &t, err);
    if (status != T5_OK) return status;
    printf("{\"case\":\"decode\",\"sources\":%d,\"beams\":%d,\"rows\":%d,\"ms_per_step\":%.4f,\"tokens_per_s\":%.0f,"
           "\"bytes\":%.0f,\"flops\":%.0f}\n",
           n_sources, num_beams, n_sources * num_beams, t.ms, n_sources / t.ms * 1e3, t.bytes, t.flops);
    fflush(stdout);
    return T5_OK;
}

/* Tokens a second of packed encoder passes, cross keys and values included. */
static t5_status time_encoder(gpu_load *load, int32_t n_sources, int32_t src_len, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = load->model->backend;
    int32_t n_passes = load->is_quick ? 1 : 20;
    int64_t sum_ns = 0;
    for (int32_t i = load->is_quick ? 0 : -2; i < n_passes; i++) {
        T5_TRY(backend->ops->sync(backend, err));
        int64_t start_ns = t5_clock_ns();
        T5_TRY(gpu_load_admit_all(load, n_sources, src_len, 1, 2, err));
        T5_TRY(backend->ops->sync(backend, err));
        if (i >= 0) sum_ns += t5_clock_ns() - start_ns;
        while (!t5_batch_is_done(load->batch, load->slots[n_sources - 1]))
            T5_TRY(t5_batch_step(load->batch, err));
        gpu_load_release(load);
    }
    double seconds = (double)sum_ns / 1e9 / n_passes;
    printf("{\"case\":\"encode\",\"sources\":%d,\"src_len\":%d,\"ms\":%.3f,\"tokens_per_s\":%.0f,\"flops\":%.0f}\n",
           n_sources, src_len, seconds * 1e3, n_sources * src_len / seconds,
           gpu_encoder_flops(&load->model->hp, n_sources, src_len));
    fflush(stdout);
out:
    gpu_load_release(load);
    return status;
}

/* Milliseconds of a step while encoder passes of `n_sources` run beside, one after the other; 0: none. */
static t5_status time_beside(gpu_load *load, int32_t n_sources, double *out_ms, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = load->model->backend;
    int32_t n_steps = load->is_quick ? 2 : 120, n_first = 0;
    T5_TRY(gpu_load_admit_all(load, OVERLAP_ROWS, 32, 1, n_steps + 16, err));
    for (int32_t i = 0; i < 4; i++)
        T5_TRY(t5_batch_step(load->batch, err));
    T5_TRY(backend->ops->sync(backend, err));
    n_first = load->n_slots;
    int64_t start_ns = t5_clock_ns();
    for (int32_t i = 0; i < n_steps; i++) {
        if (n_sources > 0 && i % 12 == 0) { /* those of before leave: their passes are long done */
            while (load->n_slots > n_first)
                t5_batch_release(load->batch, load->slots[--load->n_slots]);
            T5_TRY(gpu_load_admit_all(load, n_sources, GPU_LOAD_SRC_MAX, 1, n_steps + 16, err));
        }
        T5_TRY(t5_batch_step(load->batch, err));
    }
    T5_TRY(backend->ops->sync(backend, err));
    *out_ms = (double)(t5_clock_ns() - start_ns) / 1e6 / n_steps;
out:
    gpu_load_release(load);
    return status;
}

/* What an encoder pass on its own stream costs the decode steps that run beside it. */
static t5_status time_overlap(gpu_load *load, t5_error *err)
{
    t5_status status = T5_OK;
    static const int32_t pass_sources[] = {0, 4, 16};
    double alone_ms = 0.0;
    for (size_t i = 0; i < T5_COUNT(pass_sources); i++) {
        double ms = 0.0;
        T5_TRY(time_beside(load, pass_sources[i], &ms, err));
        if (i == 0) alone_ms = ms;
        printf("{\"case\":\"overlap\",\"rows\":%d,\"pass_tokens\":%d,\"steps_a_pass\":12,\"ms_per_step\":%.4f,"
               "\"inflation\":%.3f}\n",
               OVERLAP_ROWS, pass_sources[i] * GPU_LOAD_SRC_MAX, ms, ms / alone_ms);
        fflush(stdout);
    }
out:
    return status;
}

/* Sentences of 8 to 40 tokens, translated to as many, in waves. */
static t5_status time_mixed(gpu_load *load, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = load->model->backend;
    int32_t n_waves = load->is_quick ? 1 : 10, n_sources = load->is_quick ? 8 : ROWS_MAX, n_tokens = 0;
    T5_TRY(backend->ops->sync(backend, err));
    int64_t start_ns = t5_clock_ns();
    for (int32_t wave = 0; wave < n_waves; wave++) {
        for (int32_t i = 0; i < n_sources; i++) {
            int32_t len = 8 + (i * 13 + wave * 5) % 33;
            T5_TRY(gpu_load_admit(load, len, 1, len, err));
            n_tokens += len;
        }
        T5_TRY(t5_batch_encode(load->batch, err));
        for (int32_t i = 0; i < n_sources; i++) {
            while (!t5_batch_is_done(load->batch, load->slots[i]))
                T5_TRY(t5_batch_step(load->batch, err));
        }
        gpu_load_release(load);
    }
    double seconds = (double)(t5_clock_ns() - start_ns) / 1e9;
    printf("{\"case\":\"mixed\",\"sources\":%d,\"sentences_per_s\":%.1f,\"tokens_per_s\":%.0f}\n", n_sources,
           n_sources * n_waves / seconds, n_tokens / seconds);
    fflush(stdout);
out:
    gpu_load_release(load);
    return status;
}

static t5_status run(const char *model_dir, const t5_device_options *device, bool is_quick, t5_backend **backend,
                     gpu_load *load, t5_error *err)
{
    t5_status status = T5_OK;
    static const int32_t rows[] = {1, 8, 32, 128};
    static const int32_t sources[] = {1, 8, 32};
    int64_t start_ns = t5_clock_ns();
    T5_TRY(t5_device_open(device, backend, err));
    T5_TRY(gpu_load_open(load, model_dir, *backend, ROWS_MAX, is_quick, err));
    printf("{\"case\":\"open\",\"device\":\"%s\",\"seconds\":%.2f}\n", (*backend)->device,
           (double)(t5_clock_ns() - start_ns) / 1e9);
    fflush(stdout);
    for (size_t i = 0; i < T5_COUNT(rows); i++)
        T5_TRY(time_steps(load, is_quick && rows[i] > 8 ? 8 : rows[i], 1, err));
    for (size_t i = 0; i < T5_COUNT(sources); i++)
        T5_TRY(time_steps(load, is_quick && sources[i] > 2 ? 2 : sources[i], 4, err));
    T5_TRY(time_encoder(load, 1, 32, err));
    T5_TRY(time_encoder(load, is_quick ? 2 : 64, 32, err));
    T5_TRY(time_encoder(load, is_quick ? 2 : 32, 128, err));
    T5_TRY(time_mixed(load, err));
    T5_TRY(time_overlap(load, err));
out:
    return status;
}

int main(int argc, char **argv)
{
    static const char usage[] = "usage: bench_gpu --model DIR [--device cuda] [--compute-type float16] [--quick]\n";
    static const struct option flags[] = {{"model", required_argument, NULL, 'm'},
                                          {"device", required_argument, NULL, 'd'},
                                          {"compute-type", required_argument, NULL, 'c'},
                                          {"quick", no_argument, NULL, 'q'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    static gpu_load load;
    t5_device_options device = {.device = "cuda", .compute_type = "float16"};
    const char *model_dir = NULL;
    bool is_quick = false;
    t5_backend *backend = NULL;
    t5_error err = {0};
    for (int c = 0; (c = getopt_long(argc, argv, "h", flags, NULL)) != -1;) {
        if (c == 'm') model_dir = optarg;
        if (c == 'd') device.device = optarg;
        if (c == 'c') device.compute_type = optarg;
        if (c == 'q') is_quick = true;
        if (c == 'h' || c == '?') {
            fputs(usage, c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (model_dir == NULL || optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    t5_status status = run(model_dir, &device, is_quick, &backend, &load, &err);
    if (status != T5_OK) fprintf(stderr, "bench_gpu: %s: %s\n", t5_status_name(status), err.text);
    gpu_load_close(&load);
    if (backend != NULL) backend->ops->destroy(backend);
    return status == T5_OK ? 0 : 1;
}
