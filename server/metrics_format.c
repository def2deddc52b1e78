/* server/metrics_format.c: the text that GET /metrics answers, in Prometheus' format 0.0.4: each family opens with HELP
 * and TYPE, times are in seconds, counters end in _total. A route that was never asked for has no samples. */
#include "server/metrics_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1e9
#define LABELS_MAX 256

void t5_metrics_put_head(FILE *file, const char *name, const char *type, const char *help)
{
    fprintf(file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void t5_metrics_put_value(FILE *file, const char *name, const char *type, const char *help, double value)
{
    t5_metrics_put_head(file, name, type, help);
    fprintf(file, "%s %.15g\n", name, value);
}

/* One histogram of a family; `labels` is "" or `name="value"`, bounds and sum are divided by `unit`. */
static void put_histogram(FILE *file, const char *name, const char *labels, const t5_histogram_counts *h, double unit)
{
    const char *comma = labels[0] != '\0' ? "," : "", *open = labels[0] != '\0' ? "{" : "",
               *close = labels[0] != '\0' ? "}" : "";
    int64_t n = 0;
    for (int32_t i = 0; i < h->n_bounds; i++) {
        n += h->buckets[i];
        fprintf(file, "%s_bucket{%s%sle=\"%g\"} %" PRId64 "\n", name, labels, comma, (double)h->bounds[i] / unit, n);
    }
    fprintf(file, "%s_bucket{%s%sle=\"+Inf\"} %" PRId64 "\n", name, labels, comma, h->count);
    fprintf(file, "%s_sum%s%s%s %.15g\n", name, open, labels, close, (double)h->sum / unit);
    fprintf(file, "%s_count%s%s%s %" PRId64 "\n", name, open, labels, close, h->count);
}

/* A label's value: quotes, backslashes and newlines would end it early. */
static void put_label_value(FILE *file, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\') fputc('\\', file);
        fputc(*value == '\n' ? ' ' : *value, file);
    }
}

/* --- HTTP --- */

static const char *endpoint_labels(const t5_metrics *m, int32_t i, char *out)
{
    const char *method = i < m->n_routes ? m->routes[i].method : "other";
    const char *path = i < m->n_routes ? m->routes[i].path : "other";
    snprintf(out, LABELS_MAX, "method=\"%s\",endpoint=\"%s\"", method, path);
    return out;
}

static void put_requests(const t5_metrics *m, FILE *file)
{
    static const char name[] = "t5serve_http_requests_total";
    char labels[LABELS_MAX];
    t5_metrics_put_head(file, name, "counter", "Requests answered; status 0: the client left before its answer.");
    for (int32_t i = 0; i <= m->n_routes; i++) {
        for (int status = 0; status < T5_HTTP_STATUSES; status++) {
            const long long n = atomic_load_explicit(&m->series[i].n_requests[status], memory_order_relaxed);
            if (n > 0) fprintf(file, "%s{%s,status=\"%d\"} %lld\n", name, endpoint_labels(m, i, labels), status, n);
        }
    }
}

static void put_durations(const t5_metrics *m, FILE *file)
{
    static const char name[] = "t5serve_http_request_duration_seconds";
    char labels[LABELS_MAX];
    t5_metrics_put_head(file, name, "histogram", "From the head of a request to the end of its reply.");
    for (int32_t i = 0; i <= m->n_routes; i++) {
        t5_histogram_counts counts;
        t5_histogram_read(&m->series[i].duration_ns, &counts);
        if (counts.count > 0) put_histogram(file, name, endpoint_labels(m, i, labels), &counts, NS_PER_S);
    }
}

/* --- the way of a sentence --- */

static void put_stages(const t5_translator_stats *t, const t5_engine_stats *e, FILE *file)
{
    static const char name[] = "t5serve_stage_duration_seconds";
    const struct {
        const char *labels;
        const t5_histogram_counts *counts;
    } stages[] = {{"stage=\"tokenize\"", &t->tokenize_ns},
                  {"stage=\"queue\"", &e->queue_wait_ns},
                  {"stage=\"encode\"", &e->encode_ns},
                  {"stage=\"decode\"", &e->decode_ns},
                  {"stage=\"detokenize\"", &t->detokenize_ns}};
    t5_metrics_put_head(file, name, "histogram",
                        "Time in each stage: tokenize and detokenize per request, queue and decode per sentence, "
                        "encode per encoder pass.");
    for (size_t i = 0; i < T5_COUNT(stages); i++)
        put_histogram(file, name, stages[i].labels, stages[i].counts, NS_PER_S);
}

static void put_steps(const t5_engine_stats *e, FILE *file)
{
    static const char duration[] = "t5serve_decode_step_duration_seconds", rows[] = "t5serve_decode_step_rows";
    t5_metrics_put_head(file, duration, "histogram", "One decode step of the whole batch.");
    put_histogram(file, duration, "", &e->step_ns, NS_PER_S);
    t5_metrics_put_head(file, rows, "histogram", "Hypotheses that a decode step moved on together.");
    put_histogram(file, rows, "", &e->step_rows, 1);
}

static void put_tokens(const t5_engine_stats *e, FILE *file)
{
    static const char name[] = "t5serve_tokens_total";
    t5_metrics_put_head(file, name, "counter", "Tokens encoded (source) and returned (target).");
    fprintf(file, "%s{kind=\"source\"} %" PRId64 "\n", name, e->n_source_tokens);
    fprintf(file, "%s{kind=\"target\"} %" PRId64 "\n", name, e->n_target_tokens);
}

static void put_second_rounds(const t5_translator_stats *t, FILE *file)
{
    static const char name[] = "t5serve_second_rounds_total";
    t5_metrics_put_head(
        file, name, "counter",
        "Sentences translated again: in parts after a lost placeholder, by another search after a flaw.");
    fprintf(file, "%s{kind=\"parts\"} %" PRId64 "\n", name, t->n_in_parts);
    fprintf(file, "%s{kind=\"search\"} %" PRId64 "\n", name, t->n_searched_again);
}

static void put_memory(const t5_batch_memory *m, FILE *file)
{
    static const char name[] = "t5serve_memory_bytes";
    t5_metrics_put_head(file, name, "gauge", "Memory taken at the start, by what it is for; all devices together.");
    fprintf(file, "%s{kind=\"weights\"} %zu\n%s{kind=\"kv_cache\"} %zu\n", name, m->weights, name, m->kv);
    fprintf(file, "%s{kind=\"scratch\"} %zu\n%s{kind=\"host\"} %zu\n", name, m->scratch, name, m->host);
}

static void put_counts(const t5_metrics_gauges *g, const t5_engine_stats *e, FILE *file)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } values[] = {
        {"t5serve_requests_pending", "gauge", "Requests received and not fully answered.", g->requests_pending},
        {"t5serve_connections", "gauge", "Open connections, idle ones too.", g->n_connections},
        {"t5serve_devices", "gauge", "Devices that share the queue.", e->n_devices},
        {"t5serve_ready", "gauge", "1 when new work is welcome.", g->is_ready ? 1 : 0},
        {"t5serve_queue_depth", "gauge", "Sentences that wait for a place in the batch.", e->queue_depth},
        {"t5serve_sequences_running", "gauge", "Sentences in the batch.", e->n_running},
        {"t5serve_batch_rows", "gauge", "Hypotheses in the batch.", e->n_rows_running},
        {"t5serve_kv_blocks", "gauge", "Blocks of 16 positions in the key-value cache.", e->kv.n_blocks},
        {"t5serve_kv_blocks_reserved", "gauge", "Of these, promised to running sentences.", e->kv.n_reserved},
        {"t5serve_kv_blocks_used", "gauge", "Of these, holding keys and values.", e->kv.n_used},
        {"t5serve_sequences_total", "counter", "Sentences accepted.", (double)e->n_sequences},
        {"t5serve_cancelled_total", "counter", "Sentences given up because their client left.", (double)e->n_cancelled},
        {"t5serve_deadline_missed_total", "counter", "Sentences given up because their time had passed.",
         (double)e->n_late},
        {"t5serve_failed_total", "counter", "Sentences that ended by another error.", (double)e->n_failed},
        {"t5serve_nonfinite_total", "counter", "Of these, sentences for which the model gave no finite scores.",
         (double)e->n_nonfinite},
        {"t5serve_rejected_total", "counter", "Sentences not accepted: queue full, stopping, device lost.",
         (double)e->n_rejected},
        {"t5serve_log_lines_dropped_total", "counter", "Log lines that could not be written.",
         (double)g->n_log_lines_dropped},
    };
    for (size_t i = 0; i < T5_COUNT(values); i++)
        t5_metrics_put_value(file, values[i].name, values[i].type, values[i].help, values[i].value);
}

/* --- models --- */

static void put_model_label(const t5_metrics_gauges *g, int32_t i_model, FILE *file)
{
    fprintf(file, "model=\"");
    put_label_value(file, t5_catalog_profile(g->catalog, i_model)->name);
    fputc('"', file);
}

static double n_sequences(const t5_model_stats *m)
{
    return (double)m->engine.n_sequences;
}

static double n_target_tokens(const t5_model_stats *m)
{
    return (double)m->engine.n_target_tokens;
}

static double queue_depth(const t5_model_stats *m)
{
    return m->engine.queue_depth;
}

static double is_open(const t5_model_stats *m)
{
    return m->is_open ? 1 : 0;
}

static double n_opened(const t5_model_stats *m)
{
    return (double)m->n_opened;
}

static double n_failed(const t5_model_stats *m)
{
    return (double)m->n_failed;
}

/* Families with a sample for each model; the others are of all models together. */
static void put_models(const t5_metrics_gauges *g, const t5_model_stats *models, FILE *file)
{
    static const struct {
        const char *name, *type, *help;
        double (*value)(const t5_model_stats *m);
    } families[] = {
        {"t5serve_model_sequences_total", "counter", "Sentences that the model accepted.", n_sequences},
        {"t5serve_model_target_tokens_total", "counter", "Tokens that the model returned.", n_target_tokens},
        {"t5serve_model_queue_depth", "gauge", "Sentences that wait for a place in the model's batch.", queue_depth},
        {"t5serve_model_open", "gauge", "1 while the model is open.", is_open},
        {"t5serve_model_opens_total", "counter", "How often the model was opened.", n_opened},
        {"t5serve_model_open_failures_total", "counter", "How often it could not be.", n_failed},
    };
    for (size_t i = 0; i < T5_COUNT(families); i++) {
        t5_metrics_put_head(file, families[i].name, families[i].type, families[i].help);
        for (int32_t k = 0; k < t5_catalog_n_models(g->catalog); k++) {
            fprintf(file, "%s{", families[i].name);
            put_model_label(g, k, file);
            fprintf(file, "} %.15g\n", families[i].value(&models[k]));
        }
    }
}

static void put_infos(const t5_metrics_gauges *g, const t5_model_stats *models, FILE *file)
{
    t5_metrics_put_head(file, "t5serve_build_info", "gauge", "Always 1; which program this is.");
    fprintf(file, "t5serve_build_info{version=\"%s\"} 1\n", g->version);
    t5_metrics_put_head(file, "t5serve_model_info", "gauge",
                        "Always 1; what is served, on what; none while it is not open.");
    for (int32_t i = 0; i < t5_catalog_n_models(g->catalog); i++) {
        fprintf(file, "t5serve_model_info{");
        put_model_label(g, i, file);
        fprintf(file, ",device=\"");
        put_label_value(file, models[i].device);
        fprintf(file, "\"} 1\n");
    }
}

/* Of each model, and of all together. */
static void put_gauges(const t5_metrics_gauges *g, t5_model_stats *models, FILE *file)
{
    t5_model_stats all = {0};
    for (int32_t i = 0; i < t5_catalog_n_models(g->catalog); i++) {
        t5_catalog_stats(g->catalog, i, &models[i]);
        t5_model_stats_add(&all, &models[i]);
    }
    put_stages(&all.translator, &all.engine, file);
    put_steps(&all.engine, file);
    put_tokens(&all.engine, file);
    put_second_rounds(&all.translator, file);
    put_memory(&all.engine.memory, file);
    put_counts(g, &all.engine, file);
    put_models(g, models, file);
    put_infos(g, models, file);
}

char *t5_metrics_format(const t5_metrics *m, const t5_metrics_gauges *gauges, size_t *out_bytes)
{
    char *text = NULL;
    t5_model_stats *models = calloc((size_t)t5_catalog_n_models(gauges->catalog), sizeof *models);
    FILE *file = models != NULL ? open_memstream(&text, out_bytes) : NULL;
    if (file == NULL) {
        free(models);
        return NULL;
    }
    put_requests(m, file);
    put_durations(m, file);
    put_gauges(gauges, models, file);
    t5_metrics_put_process(file, m->start_s);
    free(models);
    const bool is_complete = !ferror(file);
    if (fclose(file) == 0 && is_complete) return text;
    free(text);
    return NULL;
}
