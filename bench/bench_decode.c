/* bench/bench_decode.c: translation speed of the CPU backend without server, queue or tokenizer, in a form that another
 * engine can be run against: each line on stdin runs the load once and prints one JSON line with the milliseconds and
 * the ids of the first result, so that a script can alternate between engines (vs_ctranslate2.py).
 *
 * The load: `batch` sources of `src_len` ids (source i, position j: 3 + (i * 7919 + j * 104729) % (vocab_size - 200),
 * then eos), admitted at once, encoded, and decoded to exactly `new_tokens` tokens. */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "model/batch.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *model;
    int32_t batch, src_len, new_tokens, num_beams;
    t5_cpu_options cpu;
} options;

typedef struct {
    const options *opt;
    t5_backend *backend;
    t5_model *model;
    t5_batch *batch;
    int32_t *ids; /* [batch][src_len] */
    int32_t *slots;
} bench;

static const char *const type_names[] = {"auto", "float32", "float16", "bfloat16", "int8"};

static t5_status parse(int argc, char **argv, options *opt, t5_error *err)
{
    static const struct option flags[] = {{"model", required_argument, NULL, 'm'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"src-len", required_argument, NULL, 's'},
                                          {"new-tokens", required_argument, NULL, 'n'},
                                          {"num-beams", required_argument, NULL, 'k'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"compute-type", required_argument, NULL, 'c'},
                                          {"isa", required_argument, NULL, 'i'},
                                          {0}};
    *opt = (options){.batch = 32, .src_len = 20, .new_tokens = 32, .num_beams = 1};
    for (int c = 0; (c = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        const int32_t number = optarg != NULL ? atoi(optarg) : 0;
        int32_t type = 0;
        switch (c) {
        case 'm':
            opt->model = optarg;
            break;
        case 'b':
            opt->batch = number;
            break;
        case 's':
            opt->src_len = number;
            break;
        case 'n':
            opt->new_tokens = number;
            break;
        case 'k':
            opt->num_beams = number;
            break;
        case 't':
            opt->cpu.n_threads = number;
            break;
        case 'i':
            opt->cpu.isa = optarg;
            break;
        case 'c':
            while (type < (int32_t)T5_COUNT(type_names) && strcmp(optarg, type_names[type]) != 0)
                type++;
            if (type == (int32_t)T5_COUNT(type_names)) return T5_FAIL(err, T5_ERR_ARG, "compute type %s", optarg);
            opt->cpu.compute_type = (t5_compute_type)type;
            break;
        default:
            return T5_FAIL(err, T5_ERR_ARG, "unknown flag");
        }
    }
    if (opt->model == NULL) return T5_FAIL(err, T5_ERR_ARG, "--model DIR is missing");
    if (opt->batch < 1 || opt->src_len < 1 || opt->new_tokens < 1 || opt->num_beams < 1)
        return T5_FAIL(err, T5_ERR_ARG, "batch, src-len, new-tokens and num-beams are at least 1");
    return T5_OK;
}

static t5_status open_bench(bench *b, t5_error *err)
{
    t5_status status = T5_OK;
    const options *opt = b->opt;
    T5_TRY(t5_cpu_create(&opt->cpu, &b->backend, err));
    T5_TRY(t5_model_open(opt->model, b->backend, opt->src_len, opt->new_tokens + 1, &b->model, err));
    const int32_t n_rows = opt->batch * opt->num_beams;
    const t5_batch_limits limits = {.n_rows_max = n_rows > T5_BEAMS_MAX ? n_rows : T5_BEAMS_MAX,
                                    .src_len_max = opt->src_len,
                                    .tgt_len_max = opt->new_tokens + 1,
                                    .enc_tokens_max = opt->batch * opt->src_len,
                                    .kv_tokens = n_rows * (opt->new_tokens + 1 + T5_KV_BLOCK) +
                                                 opt->batch * (opt->src_len + T5_KV_BLOCK)};
    T5_TRY(t5_batch_create(b->model, &limits, &b->batch, err));
    b->ids = calloc((size_t)opt->batch * (size_t)opt->src_len, sizeof *b->ids);
    b->slots = calloc((size_t)opt->batch, sizeof *b->slots);
    if (b->ids == NULL || b->slots == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%d sources", opt->batch);
        goto out;
    }
    const int64_t n_choices = b->model->hp.vocab_size > 400 ? b->model->hp.vocab_size - 200 : 100;
    for (int32_t i = 0; i < opt->batch; i++) {
        int32_t *ids = b->ids + (size_t)i * (size_t)opt->src_len;
        for (int32_t j = 0; j < opt->src_len - 1; j++)
            ids[j] = 3 + (int32_t)((i * INT64_C(7919) + j * INT64_C(104729)) % n_choices);
        ids[opt->src_len - 1] = b->model->hp.eos_id;
    }
out:
    return status;
}

static void close_bench(bench *b)
{
    free(b->ids);
    free(b->slots);
    t5_batch_destroy(b->batch);
    t5_model_close(b->model);
    if (b->backend != NULL) b->backend->ops->destroy(b->backend);
}

static void print_result(const bench *b, double encode_ms, double total_ms)
{
    printf("{\"ms\": %.3f, \"encode_ms\": %.3f, \"device\": \"%s\", \"ids\": [", total_ms, encode_ms,
           b->backend->device);
    for (int32_t i = 0; i < b->opt->batch; i++) {
        t5_batch_result result;
        t5_batch_result_get(b->batch, b->slots[i], 0, &result);
        for (int32_t j = 0; j < result.n_ids; j++)
            printf("%s%d", j == 0 ? (i == 0 ? "[" : ", [") : ", ", result.ids[j]);
        printf("]");
    }
    printf("]}\n");
    fflush(stdout);
}

static t5_status run_once(bench *b, t5_error *err)
{
    t5_status status = T5_OK;
    const options *opt = b->opt;
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = opt->num_beams;
    decoding.min_new_tokens = decoding.max_new_tokens = opt->new_tokens;
    const int64_t start_ns = t5_clock_ns();
    for (int32_t i = 0; i < opt->batch; i++) {
        const t5_batch_request request = {
            .input_ids = b->ids + (size_t)i * (size_t)opt->src_len, .n_input_ids = opt->src_len, .decoding = &decoding};
        T5_TRY(t5_batch_check(b->batch, &request, err));
        T5_TRY(t5_batch_admit(b->batch, &request, &b->slots[i], err));
    }
    T5_TRY(t5_batch_encode(b->batch, err));
    const int64_t encoded_ns = t5_clock_ns();
    while (!t5_batch_is_done(b->batch, b->slots[opt->batch - 1]))
        T5_TRY(t5_batch_step(b->batch, err));
    const int64_t end_ns = t5_clock_ns();
    print_result(b, (double)(encoded_ns - start_ns) / 1e6, (double)(end_ns - start_ns) / 1e6);
    for (int32_t i = 0; i < opt->batch; i++)
        t5_batch_release(b->batch, b->slots[i]);
out:
    return status;
}

int main(int argc, char **argv)
{
    t5_status status = T5_OK;
    t5_error error = {0};
    options opt;
    bench b = {.opt = &opt};
    char line[16];
    T5_TRY(parse(argc, argv, &opt, &error));
    T5_TRY(open_bench(&b, &error));
    while (fgets(line, sizeof line, stdin) != NULL)
        T5_TRY(run_once(&b, &error));
out:
    if (status != T5_OK) fprintf(stderr, "bench_decode: %s\n", error.text);
    close_bench(&b);
    return status == T5_OK ? 0 : 1;
}
