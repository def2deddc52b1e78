/* bench/bench_decode.c: translation speed of the CPU backend without server, queue or tokenizer, in a form that another
 * engine can be run against: bench/compare alternates between the two.
 *
 *   bench_decode --model DIR --sources FILE [--threads N] [--compute-type TYPE] [--isa NAME] [--shortlist N]
 *
 * FILE has a source a line, ids between spaces, eos included. The program loads the model and prints {"load_ms",
 * "device"}. Each line "n_sources batch num_beams min_new max_new" on stdin then runs a load: the first n_sources of
 * the file, `batch` of them admitted, encoded and decoded at once, until all are done. One line is printed for it:
 * time, processor time of all threads, and the ids of every first result. A sixth number 1 lets them choose from a
 * shortlist of N words from all over the vocabulary. */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "model/batch.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SOURCES_MAX 128
#define SRC_LEN_MAX 256
#define TGT_LEN_MAX 65

typedef struct {
    const char *model, *sources;
    t5_cpu_options cpu;
    int32_t n_listed;
} options;

typedef struct {
    int32_t n_sources, batch, num_beams, min_new, max_new;
    int32_t shortlist; /* number; 0: none */
} load;

typedef struct {
    t5_backend *backend;
    t5_model *model;
    t5_batch *batch;
    int32_t ids[SOURCES_MAX][SRC_LEN_MAX];
    int32_t src_len[SOURCES_MAX];
    int32_t n_sources;
    int32_t slots[SOURCES_MAX];
} bench;

static const char *const type_names[] = {"auto", "float32", "float16", "bfloat16", "int8", "int4"};

static t5_status parse(int argc, char **argv, options *opt, t5_error *err)
{
    static const struct option flags[] = {{"model", required_argument, NULL, 'm'},
                                          {"sources", required_argument, NULL, 's'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"compute-type", required_argument, NULL, 'c'},
                                          {"isa", required_argument, NULL, 'i'},
                                          {"shortlist", required_argument, NULL, 'l'},
                                          {0}};
    *opt = (options){.cpu.n_threads = 1};
    for (int c = 0; (c = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        int32_t type = 0;
        switch (c) {
        case 'm':
            opt->model = optarg;
            break;
        case 's':
            opt->sources = optarg;
            break;
        case 't':
            opt->cpu.n_threads = atoi(optarg);
            break;
        case 'i':
            opt->cpu.isa = optarg;
            break;
        case 'l':
            opt->n_listed = atoi(optarg);
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
    if (opt->model == NULL || opt->sources == NULL)
        return T5_FAIL(err, T5_ERR_ARG, "--model DIR and --sources FILE are needed");
    return T5_OK;
}

static t5_status read_sources(bench *b, const char *path, t5_error *err)
{
    char line[16 * SRC_LEN_MAX];
    FILE *file = fopen(path, "re");
    if (file == NULL) return T5_FAIL(err, T5_ERR_IO, "%s cannot be opened", path);
    while (b->n_sources < SOURCES_MAX && fgets(line, sizeof line, file) != NULL) {
        int32_t n = 0;
        char *rest = line;
        for (char *end = NULL; n < SRC_LEN_MAX; rest = end, n++) {
            b->ids[b->n_sources][n] = (int32_t)strtol(rest, &end, 10);
            if (end == rest) break;
        }
        b->src_len[b->n_sources++] = n;
    }
    fclose(file);
    return T5_OK;
}

/* n words, as far from each other as they can be. */
static t5_status add_shortlist(t5_model *m, int32_t n, t5_error *err)
{
    int32_t number = 0, n_ids = 0;
    const int64_t end = m->hp.vocab_size;
    if (n < 1 || n > end) return T5_FAIL(err, T5_ERR_ARG, "a shortlist of %d words of %d", n, m->hp.vocab_size);
    int32_t *ids = malloc(((size_t)n + 1) * sizeof *ids);
    if (ids == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d ids", n);
    for (int32_t i = 0; i < n; i++) {
        const int32_t id = (int32_t)(end * i / n), eos = m->hp.eos_id;
        if (eos < id && (n_ids == 0 || ids[n_ids - 1] < eos)) ids[n_ids++] = eos;
        ids[n_ids++] = id;
    }
    const t5_status status = t5_model_add_shortlist(m, ids, n_ids, &number, err);
    free(ids);
    return status;
}

static t5_status open_bench(bench *b, const options *opt, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t n_tokens = 0;
    T5_TRY(read_sources(b, opt->sources, err));
    for (int32_t i = 0; i < b->n_sources; i++)
        n_tokens += b->src_len[i];
    const t5_batch_limits limits = {.n_rows_max = SOURCES_MAX,
                                    .src_len_max = SRC_LEN_MAX,
                                    .tgt_len_max = TGT_LEN_MAX,
                                    .enc_tokens_max = n_tokens > SRC_LEN_MAX ? n_tokens : SRC_LEN_MAX,
                                    .kv_tokens = n_tokens + SOURCES_MAX * (TGT_LEN_MAX + 2 * T5_KV_BLOCK)};
    const int64_t start_ns = t5_clock_ns();
    T5_TRY(t5_cpu_create(&opt->cpu, &b->backend, err));
    T5_TRY(t5_model_open(opt->model, b->backend, SRC_LEN_MAX, TGT_LEN_MAX, &b->model, err));
    if (opt->n_listed != 0) T5_TRY(add_shortlist(b->model, opt->n_listed, err));
    T5_TRY(t5_batch_create(b->model, &limits, &b->batch, err));
    printf("{\"load_ms\": %.1f, \"device\": \"%s\"}\n", (double)(t5_clock_ns() - start_ns) / 1e6, b->backend->device);
    fflush(stdout);
out:
    return status;
}

static void close_bench(bench *b)
{
    t5_batch_destroy(b->batch);
    t5_model_close(b->model);
    if (b->backend != NULL) b->backend->ops->destroy(b->backend);
    free(b);
}

/* Of all threads of this process: what others take of the machine is not in it. */
static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Sources begin .. end - 1 at once. Their slots stay taken. */
static t5_status translate(bench *b, const load *l, int32_t begin, int32_t end, t5_error *err)
{
    t5_status status = T5_OK;
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = l->num_beams;
    decoding.min_new_tokens = l->min_new;
    decoding.max_new_tokens = l->max_new;
    decoding.early_stopping = T5_EARLY_TRUE; /* as CTranslate2 ends a beam search */
    for (int32_t i = begin; i < end; i++) {
        const t5_batch_request request = {
            .input_ids = b->ids[i], .n_input_ids = b->src_len[i], .decoding = &decoding, .shortlist = l->shortlist};
        T5_TRY(t5_batch_check(b->batch, &request, err));
        T5_TRY(t5_batch_admit(b->batch, &request, &b->slots[i], err));
    }
    T5_TRY(t5_batch_encode(b->batch, err));
    for (int32_t i = begin; i < end; i++) {
        while (!t5_batch_is_done(b->batch, b->slots[i]))
            T5_TRY(t5_batch_step(b->batch, err));
    }
out:
    return status;
}

static void print_ids(const bench *b, int32_t i)
{
    t5_batch_result result;
    t5_batch_result_get(b->batch, b->slots[i], 0, &result);
    printf("%s[", i == 0 ? "" : ", ");
    for (int32_t j = 0; j < result.n_ids; j++)
        printf("%s%d", j == 0 ? "" : ", ", result.ids[j]);
    printf("]");
}

static t5_status run_load(bench *b, const load *l, t5_error *err)
{
    t5_status status = T5_OK;
    int64_t used_ns = 0, used_cpu_ns = 0;
    if (l->n_sources < 1 || l->n_sources > b->n_sources || l->batch < 1)
        return T5_FAIL(err, T5_ERR_ARG, "%d sources by %d of a file with %d", l->n_sources, l->batch, b->n_sources);
    printf("{\"ids\": [");
    for (int32_t i = 0; i < l->n_sources; i += l->batch) {
        const int32_t end = i + l->batch < l->n_sources ? i + l->batch : l->n_sources;
        const int64_t start_ns = t5_clock_ns(), start_cpu_ns = cpu_ns();
        T5_TRY(translate(b, l, i, end, err));
        used_ns += t5_clock_ns() - start_ns;
        used_cpu_ns += cpu_ns() - start_cpu_ns;
        for (int32_t j = i; j < end; j++) {
            print_ids(b, j);
            t5_batch_release(b->batch, b->slots[j]);
        }
    }
    printf("], \"ms\": %.3f, \"cpu_ms\": %.3f}\n", (double)used_ns / 1e6, (double)used_cpu_ns / 1e6);
    fflush(stdout);
out:
    return status;
}

int main(int argc, char **argv)
{
    t5_status status = T5_OK;
    t5_error error = {0};
    options opt;
    load l;
    char line[80];
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) return 1;
    T5_TRY(parse(argc, argv, &opt, &error));
    T5_TRY(open_bench(b, &opt, &error));
    while (fgets(line, sizeof line, stdin) != NULL) {
        l.shortlist = 0;
        if (sscanf(line, "%d %d %d %d %d %d", &l.n_sources, &l.batch, &l.num_beams, &l.min_new, &l.max_new,
                   &l.shortlist) < 5) {
            status = T5_FAIL(&error, T5_ERR_FORMAT, "a load is five numbers or six");
            goto out;
        }
        T5_TRY(run_load(b, &l, &error));
    }
out:
    if (status != T5_OK) fprintf(stderr, "bench_decode: %s\n", error.text);
    close_bench(b);
    return status == T5_OK ? 0 : 1;
}
