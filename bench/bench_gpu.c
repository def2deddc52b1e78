/* bench/bench_gpu.c: where the time of a GPU goes, for bench/gpu_report.sh: decode steps by number of rows, with and
 * without beams, encoder passes, and translations of mixed lengths from end to end. One JSON line a case, so that a run
 * that is cut short still says something. Ids are random; the folder needs no tokenizer.
 *
 * bench_gpu --model DIR [--device cuda] [--compute-type float16] [--quick] */
#include "base/clock.h"
#include "device/device.h"
#include "model/batch.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SRC_LEN_MAX = 128, TGT_LEN_MAX = 160, SLOTS_MAX = 128, WARM_STEPS = 8 };

typedef struct {
    const char *model_dir;
    t5_device_options device;
    bool is_quick; /* few steps: a rehearsal */
    t5_backend *backend;
    t5_model *model;
    t5_batch *batch;
    int32_t ids[SRC_LEN_MAX];
} bench;

static t5_status admit(bench *b, int32_t src_len, int32_t num_beams, int32_t new_tokens, int32_t *out_slot,
                       t5_error *err)
{
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = num_beams;
    decoding.max_new_tokens = new_tokens;
    decoding.min_new_tokens = new_tokens;
    for (int32_t i = 0; i < src_len; i++)
        b->ids[i] = 3 + (i * 7919 + *out_slot) % (b->model->hp.vocab_size - 200);
    b->ids[src_len - 1] = b->model->hp.eos_id;
    t5_batch_request request = {.input_ids = b->ids, .n_input_ids = src_len, .decoding = &decoding};
    return t5_batch_admit(b->batch, &request, out_slot, err);
}

static t5_status admit_all(bench *b, int32_t n_sources, int32_t src_len, int32_t num_beams, int32_t new_tokens,
                           int32_t *slots, t5_error *err)
{
    t5_status status = T5_OK;
    for (int32_t i = 0; i < n_sources; i++) {
        slots[i] = i;
        T5_TRY(admit(b, src_len, num_beams, new_tokens, &slots[i], err));
    }
    T5_TRY(t5_batch_encode(b->batch, err));
out:
    return status;
}

static void release_all(bench *b, const int32_t *slots, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        t5_batch_release(b->batch, slots[i]);
}

/* Milliseconds of a decode step with n_sources * num_beams rows, averaged over many steps in a row. */
static t5_status time_steps(bench *b, int32_t n_sources, int32_t num_beams, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t slots[SLOTS_MAX];
    int32_t n_steps = b->is_quick ? 2 : 128;
    const t5_backend_ops *ops = b->backend->ops;
    T5_TRY(admit_all(b, n_sources, 32, num_beams, n_steps + WARM_STEPS + 8, slots, err));
    for (int32_t i = 0; i < WARM_STEPS; i++)
        T5_TRY(t5_batch_step(b->batch, err));
    T5_TRY(ops->sync(b->backend, err));
    int64_t start_ns = t5_clock_ns();
    for (int32_t i = 0; i < n_steps; i++)
        T5_TRY(t5_batch_step(b->batch, err));
    T5_TRY(ops->sync(b->backend, err));
    double ms = (double)(t5_clock_ns() - start_ns) / 1e6 / n_steps;
    printf("{\"case\":\"decode\",\"sources\":%d,\"beams\":%d,\"rows\":%d,\"ms_per_step\":%.4f,\"tokens_per_s\":%.0f}\n",
           n_sources, num_beams, n_sources * num_beams, ms, n_sources / ms * 1e3);
    fflush(stdout);
    release_all(b, slots, n_sources);
out:
    return status;
}

/* Tokens a second of packed encoder passes, cross keys and values included. */
static t5_status time_encoder(bench *b, int32_t n_sources, int32_t src_len, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t slots[SLOTS_MAX];
    int32_t n_passes = b->is_quick ? 1 : 20;
    int64_t sum_ns = 0;
    for (int32_t i = -2; i < n_passes; i++) {
        T5_TRY(b->backend->ops->sync(b->backend, err));
        int64_t start_ns = t5_clock_ns();
        T5_TRY(admit_all(b, n_sources, src_len, 1, 2, slots, err));
        T5_TRY(b->backend->ops->sync(b->backend, err));
        if (i >= 0) sum_ns += t5_clock_ns() - start_ns;
        while (!t5_batch_is_done(b->batch, slots[n_sources - 1]))
            T5_TRY(t5_batch_step(b->batch, err));
        release_all(b, slots, n_sources);
    }
    double seconds = (double)sum_ns / 1e9 / n_passes;
    printf("{\"case\":\"encode\",\"sources\":%d,\"src_len\":%d,\"ms\":%.3f,\"tokens_per_s\":%.0f}\n", n_sources,
           src_len, seconds * 1e3, n_sources * src_len / seconds);
    fflush(stdout);
out:
    return status;
}

/* Sentences of 8 to 40 tokens, translated to as many, in waves. */
static t5_status time_mixed(bench *b, int32_t n_sources, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t slots[SLOTS_MAX];
    int32_t n_waves = b->is_quick ? 1 : 10, n_tokens = 0;
    T5_TRY(b->backend->ops->sync(b->backend, err));
    int64_t start_ns = t5_clock_ns();
    for (int32_t wave = 0; wave < n_waves; wave++) {
        for (int32_t i = 0; i < n_sources; i++) {
            int32_t len = 8 + (i * 13 + wave * 5) % 33;
            slots[i] = i;
            T5_TRY(admit(b, len, 1, len, &slots[i], err));
            n_tokens += len;
        }
        T5_TRY(t5_batch_encode(b->batch, err));
        for (int32_t i = 0; i < n_sources; i++) {
            while (!t5_batch_is_done(b->batch, slots[i]))
                T5_TRY(t5_batch_step(b->batch, err));
        }
        release_all(b, slots, n_sources);
    }
    double seconds = (double)(t5_clock_ns() - start_ns) / 1e9;
    printf("{\"case\":\"mixed\",\"sources\":%d,\"sentences_per_s\":%.1f,\"tokens_per_s\":%.0f}\n", n_sources,
           n_sources * n_waves / seconds, n_tokens / seconds);
    fflush(stdout);
out:
    return status;
}

static t5_status run(bench *b, t5_error *err)
{
    t5_status status = T5_OK;
    static const int32_t rows[] = {1, 8, 32, 128};
    static const int32_t sources[] = {1, 8, 32};
    t5_batch_limits limits = {.n_rows_max = SLOTS_MAX,
                              .src_len_max = SRC_LEN_MAX,
                              .tgt_len_max = TGT_LEN_MAX,
                              .enc_tokens_max = SLOTS_MAX * 40};
    int64_t start_ns = t5_clock_ns();
    T5_TRY(t5_device_open(&b->device, &b->backend, err));
    T5_TRY(t5_model_open(b->model_dir, b->backend, SRC_LEN_MAX, TGT_LEN_MAX, &b->model, err));
    T5_TRY(t5_batch_create(b->model, &limits, &b->batch, err));
    T5_TRY(b->backend->ops->sync(b->backend, err));
    printf("{\"case\":\"open\",\"device\":\"%s\",\"seconds\":%.2f}\n", b->backend->device,
           (double)(t5_clock_ns() - start_ns) / 1e9);
    for (size_t i = 0; i < T5_COUNT(rows); i++)
        T5_TRY(time_steps(b, rows[i], 1, err));
    for (size_t i = 0; i < T5_COUNT(sources); i++)
        T5_TRY(time_steps(b, sources[i], 4, err));
    T5_TRY(time_encoder(b, 1, 32, err));
    T5_TRY(time_encoder(b, 64, 32, err));
    T5_TRY(time_encoder(b, 32, 128, err));
    T5_TRY(time_mixed(b, SLOTS_MAX, err));
out:
    return status;
}

int main(int argc, char **argv)
{
    static const struct option flags[] = {{"model", required_argument, NULL, 'm'},
                                          {"device", required_argument, NULL, 'd'},
                                          {"compute-type", required_argument, NULL, 'c'},
                                          {"quick", no_argument, NULL, 'q'},
                                          {0}};
    static bench b = {.device = {.device = "cuda", .compute_type = "float16"}};
    t5_error err = {0};
    for (int c = 0; (c = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        if (c == 'm') b.model_dir = optarg;
        if (c == 'd') b.device.device = optarg;
        if (c == 'c') b.device.compute_type = optarg;
        if (c == 'q') b.is_quick = true;
        if (c == '?') return 2;
    }
    if (b.model_dir == NULL) {
        fprintf(stderr, "bench_gpu: --model DIR is missing\n");
        return 2;
    }
    t5_status status = run(&b, &err);
    if (status != T5_OK) fprintf(stderr, "bench_gpu: %s: %s\n", t5_status_name(status), err.text);
    t5_batch_destroy(b.batch);
    t5_model_close(b.model);
    if (b.backend != NULL) b.backend->ops->destroy(b.backend);
    return status == T5_OK ? 0 : 1;
}
