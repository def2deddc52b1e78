/* cli/bench.c: `t5 bench`: how fast a model runs here. Sources are random token ids of one length, and every result has
 * exactly the wanted number of tokens (min_new_tokens = max_new_tokens), so that runs are comparable between models,
 * machines and versions whatever the weights say. With --sentences they are real ones with results of their own length
 * and the limits of a server: the engine's own speed, beside which bench/bench_serve sets the server's. All sources of
 * a round are submitted at once, or as many as --in-flight says, and the next when one is done, as clients would; the
 * first round warms up and is not counted. */
#include "base/clock.h"
#include "cli/bench_sources.h"
#include "cli/commands.h"
#include "cli/request_lines.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t n_sources, src_len, n_new_tokens, n_rounds;
    int32_t n_in_flight;                     /* 0: all at once */
    const char *sentences, *source, *target; /* a file of real ones and their languages; NULL: random ids */
} load;

typedef struct {
    t5_translator *translator;
    load load;
    t5_decoding decoding;
    t5_bench_sources sources;
    t5_sequence *seqs; /* [n_sources] */
    t5_sequence **pointers;
    double *round_ms;    /* [n_rounds] */
    double *sentence_ms; /* [n_rounds * n_sources] from submission to result */
    double cpu_s;        /* of all threads, in the rounds measured */
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int32_t n_done; /* of this round; guarded by mutex */
} bench;

static t5_status bench_init(bench *b, t5_error *err)
{
    size_t n = (size_t)b->load.n_sources, n_rounds = (size_t)b->load.n_rounds;
    b->seqs = calloc(n, sizeof *b->seqs);
    b->pointers = calloc(n, sizeof *b->pointers);
    b->round_ms = calloc(n_rounds, sizeof *b->round_ms);
    b->sentence_ms = calloc(n_rounds * n, sizeof *b->sentence_ms);
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->done, NULL);
    if (!b->seqs || !b->pointers || !b->round_ms || !b->sentence_ms)
        return T5_FAIL(err, T5_ERR_NOMEM, "%zu sources, %zu rounds", n, n_rounds);
    const load *l = &b->load;
    if (l->sentences != NULL)
        return t5_bench_sources_read(b->translator, l->sentences, l->source, l->target, l->n_sources, &b->sources, err);
    b->decoding.min_new_tokens = b->decoding.max_new_tokens = l->n_new_tokens;
    return t5_bench_sources_random(b->translator, l->n_sources, l->src_len, &b->sources, err);
}

static void bench_deinit(bench *b)
{
    pthread_cond_destroy(&b->done);
    pthread_mutex_destroy(&b->mutex);
    t5_bench_sources_deinit(&b->sources);
    free(b->seqs);
    free(b->pointers);
    free(b->round_ms);
    free(b->sentence_ms);
}

static void on_sequence_done(t5_sequence *seq, void *ctx)
{
    (void)seq;
    bench *b = ctx;
    pthread_mutex_lock(&b->mutex);
    b->n_done++;
    pthread_cond_signal(&b->done);
    pthread_mutex_unlock(&b->mutex);
}

static void wait_until_done(bench *b, int32_t n)
{
    pthread_mutex_lock(&b->mutex);
    while (b->n_done < n)
        pthread_cond_wait(&b->done, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
}

/* Keeps the times of one finished sequence. */
static t5_status take_result(bench *b, int32_t i_round, int32_t i, t5_error *err)
{
    t5_sequence *seq = &b->seqs[i];
    t5_status status = seq->error.status;
    if (status != T5_OK) T5_FAIL(err, status, "%s", seq->error.text);
    double ms = (double)(seq->finished_ns - seq->submitted_ns) / 1e6;
    if (i_round >= 0) b->sentence_ms[(size_t)i_round * (size_t)b->load.n_sources + (size_t)i] = ms;
    t5_sequence_deinit(seq);
    return status;
}

static void prepare_sequence(bench *b, int32_t i)
{
    const t5_bench_sources *s = &b->sources;
    t5_sequence *seq = &b->seqs[i];
    *seq = (t5_sequence){.input_ids = s->ids + s->begin[i],
                         .n_input_ids = s->begin[i + 1] - s->begin[i],
                         .decoding = b->decoding,
                         .on_done = on_sequence_done,
                         .ctx = b};
    if (b->load.sentences == NULL) return;
    const int32_t n_live = t5_tokenizer_vocab_live(t5_translator_tokenizer(b->translator));
    const int32_t vocab_size = t5_translator_hparams(b->translator)->vocab_size;
    seq->vocab_live = n_live < vocab_size ? n_live : vocab_size;
    const int32_t n_max = t5_translator_tgt_len_max(b->translator) - 1, n = t5_new_tokens_max(seq->n_input_ids);
    seq->decoding.max_new_tokens = n < n_max ? n : n_max;
}

/* Hands all sequences to the engine; *out says how many it took. */
static t5_status submit(bench *b, int32_t *out, t5_error *err)
{
    t5_engine *engine = t5_translator_engine(b->translator);
    const int32_t n = b->load.n_sources;
    t5_status status = T5_OK;
    *out = 0;
    if (b->load.n_in_flight == 0) {
        status = t5_engine_submit_all(engine, b->pointers, n, err);
        if (status == T5_OK) *out = n;
        return status;
    }
    for (int32_t i = 0; i < n && status == T5_OK; i++) {
        wait_until_done(b, i + 1 - b->load.n_in_flight);
        status = t5_engine_submit(engine, b->pointers[i], err);
        *out += status == T5_OK;
    }
    return status;
}

/* Runs all sources once. Round -1 is the warm-up. */
static t5_status run_round(bench *b, int32_t i_round, t5_error *err)
{
    int32_t n = b->load.n_sources, n_submitted;
    for (int32_t i = 0; i < n; i++) {
        prepare_sequence(b, i);
        b->pointers[i] = &b->seqs[i];
    }
    b->n_done = 0;
    int64_t start_ns = t5_clock_ns();
    t5_status status = submit(b, &n_submitted, err);
    wait_until_done(b, n_submitted);
    if (i_round >= 0) b->round_ms[i_round] = (double)(t5_clock_ns() - start_ns) / 1e6;
    for (int32_t i = 0; i < n_submitted; i++) {
        t5_status one = take_result(b, i_round, i, err);
        if (status == T5_OK) status = one;
    }
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts `x`. The smallest value that at least the share p of all values do not exceed. */
static json_t *percentiles_json(double *x, size_t n)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"min", 0.0}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1.0}};
    double sum = 0.0;
    json_t *object = json_object();
    qsort(x, n, sizeof *x, compare_doubles);
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    json_object_set_new(object, "mean", json_real(sum / (double)n));
    for (size_t i = 0; i < T5_COUNT(points); i++) {
        size_t rank = (size_t)(points[i].share * (double)n + 0.999999);
        json_object_set_new(object, points[i].name, json_real(x[rank == 0 ? 0 : rank > n ? n - 1 : rank - 1]));
    }
    return object;
}

static json_t *report_json(bench *b, const t5_model_flags *model, const t5_engine_stats *before,
                           const t5_engine_stats *after)
{
    double n_results = (double)b->load.n_sources, n_rounds = (double)b->load.n_rounds;
    double n_tokens = (double)(after->n_target_tokens - before->n_target_tokens) / n_rounds;
    double step_ms = (double)(after->step_ns.sum - before->step_ns.sum) / 1e6,
           encode_ms = (double)(after->encode_ns.sum - before->encode_ns.sum) / 1e6;
    double n_steps = (double)(after->step_ns.count - before->step_ns.count);
    json_t *round_ms = percentiles_json(b->round_ms, (size_t)b->load.n_rounds);
    double median_s = json_real_value(json_object_get(round_ms, "p50")) / 1e3;
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "model",
        t5_translator_profile(b->translator)->name, "device", t5_translator_device(b->translator), "compute_type",
        model->compute_type, "threads", model->n_threads, "num_beams", b->decoding.num_beams, "batch",
        b->load.n_sources, "src_len", (double)b->sources.begin[b->load.n_sources] / n_results, "new_tokens",
        n_tokens / n_results, "repeat", b->load.n_rounds, "tokens_per_s", n_tokens / median_s, "sentences_per_s",
        n_results / median_s, "cpu_ms_per_sentence", b->cpu_s * 1e3 / (n_results * n_rounds), "ms_per_step",
        step_ms / n_steps, "rows_per_step", (double)(after->step_rows.sum - before->step_rows.sum) / n_steps,
        "encoder_tokens_per_s", (double)(after->n_source_tokens - before->n_source_tokens) / encode_ms * 1e3,
        "ms_per_round", round_ms, "ms_per_sentence",
        percentiles_json(b->sentence_ms, (size_t)b->load.n_rounds * (size_t)b->load.n_sources));
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static t5_status run(bench *b, const t5_model_flags *model, t5_error *err)
{
    t5_engine *engine = t5_translator_engine(b->translator);
    t5_engine_stats before, after;
    t5_status status = run_round(b, -1, err);
    t5_engine_stats_get(engine, &before);
    const double cpu_before_s = cpu_seconds();
    for (int32_t i = 0; status == T5_OK && i < b->load.n_rounds; i++)
        status = run_round(b, i, err);
    b->cpu_s = cpu_seconds() - cpu_before_s;
    t5_engine_stats_get(engine, &after);
    if (status != T5_OK) return status;
    return t5_json_put(stdout, report_json(b, model, &before, &after), err);
}

/* The engine's limits follow from the load; real sentences run within a server's. */
static void fit_limits(t5_model_flags *model, const load *l, int32_t num_beams)
{
    if (l->sentences != NULL) return;
    int64_t n_rows = (int64_t)l->n_sources * num_beams;
    if (model->n_rows_max == 0)
        model->n_rows_max = (int32_t)(n_rows < T5_BEAMS_MAX ? T5_BEAMS_MAX : n_rows > 1024 ? 1024 : n_rows);
    if (model->src_len_max < l->src_len) model->src_len_max = l->src_len;
    if (model->max_target_tokens < l->n_new_tokens) model->max_target_tokens = l->n_new_tokens;
}

static int run_bench(t5_model_flags *model, const t5_decoding_flags *flags, const load *l)
{
    t5_error err = {0};
    bench b = {.load = *l};
    int exit_code = T5_EXIT_USAGE;
    t5_decoding_init(&b.decoding);
    t5_status status = t5_decoding_flags_apply(flags, T5_VOCAB_MAX, &b.decoding, &err);
    if (status != T5_OK) goto out;
    exit_code = T5_EXIT_FAILED;
    fit_limits(model, l, b.decoding.num_beams);
    T5_TRY(t5_model_flags_open(model, &b.translator, &err));
    if (l->sentences != NULL) {
        b.decoding = t5_translator_profile(b.translator)->defaults;
        T5_TRY(t5_decoding_flags_apply(flags, t5_translator_hparams(b.translator)->vocab_size, &b.decoding, &err));
    }
    status = bench_init(&b, &err);
    if (status == T5_OK) status = run(&b, model, &err);
    bench_deinit(&b);
out:
    t5_translator_close(b.translator);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail("bench", exit_code, &err);
}

#define BENCH_FLAGS 8

static void list_flags(load *l, t5_flag *out)
{
    const t5_flag flags[BENCH_FLAGS] = {
        {.name = "--batch",
         .value_name = "N",
         .help = "sources at once (default 1)",
         .number = &l->n_sources,
         .min = 1,
         .max = 65536},
        {.name = "--in-flight",
         .value_name = "N",
         .help = "sources that are with the engine at a time, as those of N clients (default: all)",
         .number = &l->n_in_flight,
         .min = 1,
         .max = 65536},
        {.name = "--src-len",
         .value_name = "N",
         .help = "tokens of each source (default 32)",
         .number = &l->src_len,
         .min = 1,
         .max = T5_SEQ_LEN_MAX},
        {.name = "--new-tokens",
         .value_name = "N",
         .help = "tokens of each result (default 64)",
         .number = &l->n_new_tokens,
         .min = 1,
         .max = T5_SEQ_LEN_MAX - 1},
        {.name = "--repeat",
         .value_name = "N",
         .help = "rounds measured, after one to warm up (default 5)",
         .number = &l->n_rounds,
         .min = 1,
         .max = 100000},
        {.name = "--sentences",
         .value_name = "FILE",
         .help = "translate the first --batch lines of FILE, up to a tab each, instead of random ids",
         .text = &l->sentences},
        {.name = "--source", .value_name = "CODE", .help = "their language (default en)", .text = &l->source},
        {.name = "--target",
         .value_name = "CODE",
         .help = "language to translate into (default de)",
         .text = &l->target},
    };
    memcpy(out, flags, sizeof flags);
}

int t5_command_bench(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    t5_decoding_flags decoding = {0};
    static const char *const fixed[] = {"max_new_tokens", "min_new_tokens", "num_return_sequences"};
    load l = {.n_sources = 1, .src_len = 32, .n_new_tokens = 64, .n_rounds = 5, .source = "en", .target = "de"};
    t5_flag flags[BENCH_FLAGS];
    list_flags(&l, flags);
    const t5_command_line line = {
        .name = "bench",
        .operands = "",
        .about =
            "Measures a model on this machine with random sources of one length and results of exactly --new-tokens\n"
            "tokens, and prints one JSON object: tokens_per_s (of the median round), ms_per_step, and percentiles of\n"
            "ms_per_round and ms_per_sentence (from submission to result). With --sentences: real sentences, results\n"
            "of their own length, the model's decoding defaults and the limits of a server.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = T5_MODEL_FLAGS,
        .decoding = &decoding,
        .fixed = fixed,
        .n_fixed = T5_COUNT(fixed),
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK || t5_model_flags_check(&model, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    return run_bench(&model, &decoding, &l);
}
