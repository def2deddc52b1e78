/* bench/bench_serve.c: load on a running t5serve from real sentences over HTTP: throughput, latency, time to the first
 * token, and goodput, with every reply compared with what the same request was answered alone before. Each LOAD prints
 * one JSON line on stdout and one row of a table on stderr; serve_load.h says what the loads and the numbers mean.
 *
 *   bench_serve --texts models/t5-tatoeba/data/test.en-de.tsv --target de --port 5000 closed:64 open:300
 *
 * With the operand "-" further loads are read from stdin, one a line, so that a script can choose the next one. */
#include "base/clock.h"
#include "bench/serve_load.h"
#include "config/config.h"
#include "model/hparams.h"
#include "tokenizer/tokenizer.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 4096               /* of one answer */
#define ALONE_SECONDS_MAX INT64_C(60) /* for the answer to a request that is alone */

typedef struct {
    t5_serve_texts_options texts;
    const char *model;
    int32_t connections_max;
    t5_load load; /* what all loads share */
} options;

typedef struct {
    const options *opt;
    t5_tokenizer *tokenizer;
    t5_serve_texts texts;
    t5_client *client;
    t5_client_reply alone; /* the reply being learnt; body is `alone_body` */
    char *alone_body;
} bench;

/* --- the command line --- */

typedef struct {
    const char *name, *help;
    const char **text;
    int32_t *number;
    double *real;
    bool *is_on;
} flag;

#define FLAGS_MAX 20

static void list_flags(options *o, flag *out)
{
    const flag flags[FLAGS_MAX] = {
        {"texts", "FILE: one sentence a line, up to the first tab", .text = &o->texts.path},
        {"host", "IPv4 address (default 127.0.0.1)", .text = &o->texts.host},
        {"port", "(default 5000)", .number = &o->texts.port},
        {"source", "language (default en)", .text = &o->texts.source},
        {"target", "language (default de)", .text = &o->texts.target},
        {"model", "DIR whose tokenizer counts the tokens of the answers (default: the bundled model)",
         .text = &o->model},
        {"requests", "different ones, at most (default 500)", .number = &o->texts.requests_max},
        {"texts-per-request", "(default 1)", .number = &o->texts.texts_per_request},
        {"num-beams", "(default: the model's)", .number = &o->texts.num_beams},
        {"stream", "ask for server-sent events", .is_on = &o->texts.is_streamed},
        {"seconds", "that each load is measured (default 10)", .real = &o->load.seconds},
        {"warm-up", "seconds before that (default 1)", .real = &o->load.warm_up_seconds},
        {"connections", "at most, in an open loop (default 512)", .number = &o->connections_max},
        {"bound-ms", "a good reply comes within this (default 200) ...", .real = &o->load.bound_ms},
        {"bound-token-ms", "... and this for each token of the answer (default 10)", .real = &o->load.bound_token_ms},
    };
    memcpy(out, flags, sizeof flags);
}

static void print_usage(const flag *flags)
{
    printf("usage: bench_serve --texts FILE [options] LOAD...\n\n"
           "LOAD is closed:CLIENTS, open:REQUESTS_PER_SECOND, or - for more of them on stdin.\n\n");
    for (const flag *f = flags; f->name != NULL; f++)
        printf("  --%-20s %s\n", f->name, f->help);
}

static t5_status read_number(const char *name, const char *text, double *out, t5_error *err)
{
    char *end = NULL;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !(*out >= 0 && *out <= 1e6))
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s is not a number from 0 to 1000000", name, text);
    return T5_OK;
}

static t5_status set_flag(const flag *f, const char *value, t5_error *err)
{
    double number = 0;
    if (f->is_on != NULL) *f->is_on = true;
    if (f->text != NULL) *f->text = value;
    if (f->number == NULL && f->real == NULL) return T5_OK;
    const t5_status status = read_number(f->name, value, &number, err);
    if (f->number != NULL) *f->number = (int32_t)number;
    if (f->real != NULL) *f->real = number;
    return status;
}

/* *out_is_help: it was all that was asked. */
static t5_status parse(int argc, char **argv, options *o, bool *out_is_help, t5_error *err)
{
    flag flags[FLAGS_MAX];
    struct option table[FLAGS_MAX + 1] = {0};
    *o = (options){.texts = {.host = "127.0.0.1",
                             .port = 5000,
                             .source = "en",
                             .target = "de",
                             .requests_max = 500,
                             .texts_per_request = 1},
                   .connections_max = 512,
                   .load = {.seconds = 10, .warm_up_seconds = 1, .bound_ms = 200, .bound_token_ms = 10, .seed = 1}};
    list_flags(o, flags);
    int n = 0;
    for (; flags[n].name != NULL; n++)
        table[n] = (struct option){flags[n].name, flags[n].is_on != NULL ? no_argument : required_argument, NULL, n};
    table[n] = (struct option){"help", no_argument, NULL, n};
    for (int i = 0; (i = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (i == '?') return T5_FAIL(err, T5_ERR_ARG, "see bench_serve --help");
        *out_is_help |= i == n;
        if (i < n && set_flag(&flags[i], optarg, err) != T5_OK) return err->status;
    }
    if (*out_is_help) {
        print_usage(flags);
        return T5_OK;
    }
    const t5_serve_texts_options *t = &o->texts;
    if (t->path == NULL || optind == argc) return T5_FAIL(err, T5_ERR_ARG, "--texts FILE or LOAD is missing");
    if (t->requests_max < 1 || t->texts_per_request < 1 || o->connections_max < 1)
        return T5_FAIL(err, T5_ERR_ARG, "requests, texts-per-request and connections are at least 1");
    o->load.is_streamed = t->is_streamed;
    return T5_OK;
}

/* "closed:64", "open:300". */
static t5_status parse_load(const char *text, t5_load *out, t5_error *err)
{
    double number = 0;
    const char *colon = strchr(text, ':');
    out->is_open = strncmp(text, "open:", 5) == 0;
    if (colon == NULL || (!out->is_open && strncmp(text, "closed:", 7) != 0))
        return T5_FAIL(err, T5_ERR_ARG, "%s: a load is closed:CLIENTS or open:REQUESTS_PER_SECOND", text);
    const t5_status status = read_number(text, colon + 1, &number, err);
    if (status != T5_OK) return status;
    if (number <= 0) return T5_FAIL(err, T5_ERR_ARG, "%s: must be above 0", text);
    out->rate = number;
    out->n_clients = (int32_t)number;
    return T5_OK;
}

/* --- the answers of requests that are alone --- */

static int32_t count_tokens(const bench *b, const json_t *text)
{
    int32_t ids[TOKENS_MAX], n_ids = 0;
    t5_error err = {0};
    if (json_is_array(text)) {
        for (size_t i = 0; i < json_array_size(text); i++)
            n_ids += count_tokens(b, json_array_get(text, i));
        return n_ids;
    }
    if (!json_is_string(text)) return 0;
    t5_tokenizer_encode(b->tokenizer, json_string_value(text), json_string_length(text), ids, TOKENS_MAX, &n_ids, &err);
    return n_ids;
}

static void on_alone(void *ctx, int64_t tag, const t5_client_reply *reply)
{
    bench *b = ctx;
    (void)tag;
    b->alone = *reply;
    b->alone_body = strndup(reply->body, reply->body_bytes);
}

/* The reply comes into b->alone and b->alone_body, which the caller frees. */
static t5_status ask_alone(bench *b, const t5_serve_request *request, t5_error *err)
{
    const t5_serve_texts_options *o = &b->opt->texts;
    b->alone = (t5_client_reply){0};
    const bool is_sent = t5_client_send(b->client, request->http, request->http_bytes, 0);
    const int64_t until_ns = t5_clock_ns() + ALONE_SECONDS_MAX * 1000000000;
    while (is_sent && t5_client_pending(b->client) > 0 && t5_clock_ns() < until_ns)
        t5_client_poll(b->client, until_ns, on_alone, b);
    if (b->alone.http_status != 200 || b->alone_body == NULL)
        return T5_FAIL(err, T5_ERR_IO, "%s:%d answered a request with %u: %.200s", o->host, o->port,
                       b->alone.http_status, b->alone_body != NULL ? b->alone_body : "");
    if (o->is_streamed && strstr(b->alone_body, "data: ") == NULL)
        return T5_FAIL(err, T5_ERR_FORMAT, "the reply is no stream of events: %.200s", b->alone_body);
    return T5_OK;
}

static t5_status keep_answer(const bench *b, t5_serve_request *request, t5_error *err)
{
    size_t n_bytes = 0;
    const char *answer = t5_serve_answer(b->alone_body, b->alone.body_bytes, b->opt->texts.is_streamed, &n_bytes);
    json_t *reply = json_loadb(answer, n_bytes, 0, NULL);
    const json_t *text = json_object_get(reply, "translatedText");
    if (text != NULL) {
        request->n_target_tokens = count_tokens(b, text);
        request->answer = strndup(answer, n_bytes);
        request->answer_bytes = n_bytes;
    }
    json_decref(reply);
    if (request->answer != NULL) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT, "no translatedText in: %.200s", answer);
}

static t5_status learn_answer(bench *b, t5_serve_request *request, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(ask_alone(b, request, err));
    T5_TRY(keep_answer(b, request, err));
out:
    free(b->alone_body);
    b->alone_body = NULL;
    return status;
}

/* Each once, one after the other: what a lone client sees, and what every later reply must be. */
static t5_status learn_answers(bench *b, t5_error *err)
{
    t5_status status = T5_OK;
    const int64_t start_ns = t5_clock_ns();
    int64_t n_tokens = 0;
    const int32_t n = b->texts.n_requests;
    for (int32_t i = 0; i < n && status == T5_OK; i++) {
        status = learn_answer(b, &b->texts.requests[i], err);
        n_tokens += b->texts.requests[i].n_target_tokens;
    }
    const double ms = (double)(t5_clock_ns() - start_ns) / 1e6 / n;
    if (status != T5_OK) return status;
    printf("{\"load\": \"alone\", \"requests\": %d, \"texts_per_request\": %d, \"ms_mean\": %.3f, "
           "\"target_tokens_mean\": %.2f}\n",
           n, b->opt->texts.texts_per_request, ms, (double)n_tokens / n);
    fflush(stdout);
    return T5_OK;
}

/* --- the loads --- */

static json_t *latencies_json(const t5_latencies *l)
{
    if (l->n == 0) return json_null();
    return json_pack("{s:f, s:f, s:f, s:f}", "p50", t5_latencies_percentile(l, 0.50), "p95",
                     t5_latencies_percentile(l, 0.95), "p99", t5_latencies_percentile(l, 0.99), "max", l->ms[l->n - 1]);
}

static void print_json(const bench *b, const char *name, const t5_load_result *r)
{
    json_t *statuses = json_object();
    for (int i = 0; i < T5_HTTP_STATUS_MAX; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        if (r->statuses[i] > 0) json_object_set_new(statuses, number, json_integer(r->statuses[i]));
    }
    const double texts = b->opt->texts.texts_per_request;
    json_t *line = json_pack(
        "{s:s, s:b, s:f, s:i, s:i, s:f, s:i, s:f, s:f, s:i, s:i, s:i, s:f, s:f, s:o, s:o, s:o, s:o, s:f}", "load", name,
        "stream", (int)b->opt->load.is_streamed, "seconds", r->seconds, "sent", r->n_sent, "offered", r->n_offered,
        "offered_per_s", r->n_offered / r->seconds, "right", r->n_right, "finished_per_s", r->n_finished / r->seconds,
        "sentences_per_s", texts * r->n_finished / r->seconds, "wrong", r->n_wrong, "unanswered", r->n_unanswered,
        "good", r->n_good, "good_share", r->n_offered > 0 ? (double)r->n_good / r->n_offered : 0.0, "good_per_s",
        r->n_good / r->seconds, "statuses", statuses, "latency_ms", latencies_json(&r->right), "first_token_ms",
        latencies_json(&r->first), "refused_ms", latencies_json(&r->refused), "client_cpu", r->client_cpu);
    json_dumpf(line, stdout, JSON_REAL_PRECISION(6));
    json_decref(line);
    printf("\n");
    fflush(stdout);
}

static const char table_head[] =
    "load            offered/s  right/s   good/s    p50 ms    p95 ms    p99 ms  first p50  "
    "503 p99   wrong  lost  cpu\n";

static void print_row(const char *name, const t5_load_result *r)
{
    const t5_latencies *l = &r->right;
    fprintf(stderr, "%-14s %10.1f %8.1f %8.1f %9.1f %9.1f %9.1f %10.1f %8.1f %7d %5d %4.2f\n", name,
            r->n_offered / r->seconds, r->n_finished / r->seconds, r->n_good / r->seconds,
            t5_latencies_percentile(l, 0.50), t5_latencies_percentile(l, 0.95), t5_latencies_percentile(l, 0.99),
            t5_latencies_percentile(&r->first, 0.50), t5_latencies_percentile(&r->refused, 0.99), r->n_wrong,
            r->n_unanswered, r->client_cpu);
}

static t5_status run_load(const bench *b, const char *name, t5_error *err)
{
    t5_status status = T5_OK;
    const options *o = b->opt;
    t5_load load = o->load;
    t5_load_result result = {0};
    t5_client *client = NULL;
    T5_TRY(parse_load(name, &load, err));
    const int32_t n_connections = load.is_open ? o->connections_max : load.n_clients;
    T5_TRY(t5_client_create(o->texts.host, o->texts.port, n_connections, &client, err));
    T5_TRY(t5_load_run(&load, &b->texts, client, &result, err));
    print_json(b, name, &result);
    print_row(name, &result);
out:
    t5_load_result_deinit(&result);
    t5_client_destroy(client);
    return status;
}

static t5_status run_stdin(const bench *b, t5_error *err)
{
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        const t5_status status = run_load(b, line, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

static t5_status open_bench(bench *b, t5_error *err)
{
    t5_status status = T5_OK;
    const options *o = b->opt;
    char bundled[T5_CONFIG_TEXT_MAX] = "";
    t5_hparams hp;
    if (o->model == NULL) T5_TRY(t5_config_bundled_model(bundled, sizeof bundled, err));
    const char *dir = o->model != NULL ? o->model : bundled;
    T5_TRY(t5_hparams_load(dir, &hp, err));
    const t5_tokenizer_options tokenizer = {.vocab_size = hp.vocab_size, .pad_id = hp.pad_id, .eos_id = hp.eos_id};
    T5_TRY(t5_tokenizer_open(dir, &tokenizer, &b->tokenizer, err));
    T5_TRY(t5_serve_texts_open(&o->texts, &b->texts, err));
    T5_TRY(t5_client_create(o->texts.host, o->texts.port, 1, &b->client, err));
out:
    return status;
}

static t5_status run(bench *b, char **loads, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(open_bench(b, err));
    T5_TRY(learn_answers(b, err));
    fputs(table_head, stderr);
    for (; *loads != NULL && status == T5_OK; loads++)
        status = strcmp(*loads, "-") == 0 ? run_stdin(b, err) : run_load(b, *loads, err);
out:
    t5_client_destroy(b->client);
    t5_serve_texts_close(&b->texts);
    t5_tokenizer_close(b->tokenizer);
    return status;
}

int main(int argc, char **argv)
{
    options opt;
    bench b = {.opt = &opt};
    t5_error err = {0};
    bool is_help = false;
    t5_status status = parse(argc, argv, &opt, &is_help, &err);
    if (status == T5_OK && !is_help) status = run(&b, argv + optind, &err);
    if (status != T5_OK) fprintf(stderr, "bench_serve: %s\n", err.text);
    return status == T5_OK ? 0 : 1;
}
