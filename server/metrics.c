/* server/metrics.c: see metrics.h. */
#include "server/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Statuses that we send; others count under the last, 0. */
static const unsigned statuses[] = {200, 400, 404, 405, 413, 500, 503, 0};
/* Upper bounds of the histogram, in milliseconds. */
static const int64_t bounds_ms[] = {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000};

typedef struct {
    atomic_llong n_requests[T5_COUNT(statuses)];
    atomic_llong n_within[T5_COUNT(bounds_ms) + 1]; /* the last: longer than every bound */
    atomic_llong total_ns;
} series;

struct t5_metrics {
    const t5_http_route *routes;
    int32_t n_routes;
    series series[]; /* one per route, and one for no route */
};

t5_status t5_metrics_create(const t5_http_route *routes, int32_t n_routes, t5_metrics **out, t5_error *err)
{
    size_t n_bytes = sizeof(t5_metrics) + (size_t)(n_routes + 1) * sizeof(series);
    t5_metrics *m = calloc(1, n_bytes);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "metrics: %zu bytes", n_bytes);
    m->routes = routes;
    m->n_routes = n_routes;
    *out = m;
    return T5_OK;
}

void t5_metrics_destroy(t5_metrics *m)
{
    free(m);
}

void t5_metrics_count(t5_metrics *m, const t5_http_route *route, unsigned http_status, int64_t ns)
{
    series *s = &m->series[route != NULL ? route - m->routes : m->n_routes];
    size_t i_status = 0, i_bound = 0;
    while (i_status + 1 < T5_COUNT(statuses) && statuses[i_status] != http_status)
        i_status++;
    while (i_bound < T5_COUNT(bounds_ms) && ns > bounds_ms[i_bound] * 1000000)
        i_bound++;
    atomic_fetch_add_explicit(&s->n_requests[i_status], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->n_within[i_bound], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->total_ns, ns, memory_order_relaxed);
}

static const char *endpoint(const t5_metrics *m, int32_t i)
{
    return i < m->n_routes ? m->routes[i].path : "other";
}

static void print_requests(const t5_metrics *m, FILE *file)
{
    fprintf(file, "# TYPE t5serve_http_requests_total counter\n");
    for (int32_t i = 0; i <= m->n_routes; i++) {
        for (size_t k = 0; k < T5_COUNT(statuses); k++) {
            long long n = atomic_load_explicit(&m->series[i].n_requests[k], memory_order_relaxed);
            if (n > 0)
                fprintf(file, "t5serve_http_requests_total{endpoint=\"%s\",status=\"%u\"} %lld\n", endpoint(m, i),
                        statuses[k], n);
        }
    }
}

static void print_durations(const t5_metrics *m, FILE *file)
{
    static const char name[] = "t5serve_http_request_duration_seconds";
    fprintf(file, "# TYPE %s histogram\n", name);
    for (int32_t i = 0; i <= m->n_routes; i++) {
        const series *s = &m->series[i];
        long long n = 0;
        for (size_t k = 0; k <= T5_COUNT(bounds_ms); k++)
            n += atomic_load_explicit(&s->n_within[k], memory_order_relaxed);
        if (n == 0) continue;
        n = 0;
        for (size_t k = 0; k < T5_COUNT(bounds_ms); k++) {
            n += atomic_load_explicit(&s->n_within[k], memory_order_relaxed);
            fprintf(file, "%s_bucket{endpoint=\"%s\",le=\"%g\"} %lld\n", name, endpoint(m, i),
                    (double)bounds_ms[k] / 1e3, n);
        }
        n += atomic_load_explicit(&s->n_within[T5_COUNT(bounds_ms)], memory_order_relaxed);
        fprintf(file, "%s_bucket{endpoint=\"%s\",le=\"+Inf\"} %lld\n", name, endpoint(m, i), n);
        fprintf(file, "%s_count{endpoint=\"%s\"} %lld\n", name, endpoint(m, i), n);
        long long total_ns = atomic_load_explicit(&s->total_ns, memory_order_relaxed);
        fprintf(file, "%s_sum{endpoint=\"%s\"} %.6f\n", name, endpoint(m, i), (double)total_ns / 1e9);
    }
}

static void print_value(FILE *file, const char *type, const char *name, double value)
{
    fprintf(file, "# TYPE %s %s\n%s %.15g\n", name, type, name, value);
}

static void print_engine(const t5_engine_stats *e, FILE *file)
{
    print_value(file, "gauge", "t5serve_queue_depth", e->queue_depth);
    print_value(file, "gauge", "t5serve_sequences_running", e->n_running);
    print_value(file, "gauge", "t5serve_batch_rows", e->n_rows_running);
    print_value(file, "counter", "t5serve_sequences_total", (double)e->n_sequences);
    print_value(file, "counter", "t5serve_failed_total", (double)e->n_failed);
    print_value(file, "counter", "t5serve_cancelled_total", (double)(e->n_cancelled + e->n_late));
    print_value(file, "counter", "t5serve_steps_total", (double)e->step_ns.count);
    print_value(file, "counter", "t5serve_step_rows_total", (double)e->step_rows.sum);
    print_value(file, "counter", "t5serve_step_seconds_total", (double)e->step_ns.sum / 1e9);
    print_value(file, "counter", "t5serve_encode_seconds_total", (double)e->encode_ns.sum / 1e9);
    print_value(file, "counter", "t5serve_queue_wait_seconds_total", (double)e->queue_wait_ns.sum / 1e9);
    fprintf(file, "# TYPE t5serve_tokens_total counter\n");
    fprintf(file, "t5serve_tokens_total{kind=\"source\"} %" PRId64 "\n", e->n_source_tokens);
    fprintf(file, "t5serve_tokens_total{kind=\"target\"} %" PRId64 "\n", e->n_target_tokens);
    fprintf(file, "# TYPE t5serve_rejected_total counter\n");
    fprintf(file, "t5serve_rejected_total{reason=\"queue_full\"} %" PRId64 "\n", e->n_rejected);
}

/* A label's value: quotes, backslashes and newlines would end it early. */
static void print_label(FILE *file, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\') fputc('\\', file);
        fputc(*value == '\n' ? ' ' : *value, file);
    }
}

char *t5_metrics_format(const t5_metrics *m, const t5_metrics_gauges *gauges, size_t *out_bytes)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, out_bytes);
    if (file == NULL) return NULL;
    print_requests(m, file);
    print_durations(m, file);
    print_value(file, "gauge", "t5serve_requests_pending", gauges->requests_pending);
    print_value(file, "gauge", "t5serve_ready", gauges->is_ready ? 1 : 0);
    print_engine(&gauges->engine, file);
    fprintf(file, "# TYPE t5serve_build_info gauge\nt5serve_build_info{version=\"%s\"} 1\n", gauges->version);
    fprintf(file, "# TYPE t5serve_model_info gauge\nt5serve_model_info{model=\"");
    print_label(file, gauges->model);
    fprintf(file, "\",device=\"");
    print_label(file, gauges->device);
    fprintf(file, "\"} 1\n");
    if (fclose(file) == 0) return text;
    free(text);
    return NULL;
}
