/* server/metrics.h: counters of the HTTP side, and the Prometheus text of everything. Labels have few values: a route's
 * method and path, a status, a stage, a model; never an address or a key. Counting is atomic adds without a lock: any
 * thread. docs/operations.md has the table of what is shown; docker/grafana-dashboard.json draws it. */
#pragma once
#include "server/http.h"
#include "translate/catalog.h"

typedef struct t5_metrics t5_metrics;

/* One series per route; `routes` must outlive it. */
t5_status t5_metrics_create(const t5_http_route *routes, int32_t n_routes, t5_metrics **out, t5_error *err);
void t5_metrics_destroy(t5_metrics *m); /* accepts NULL */
/* `route` NULL: a path or method that no route has. */
void t5_metrics_count(t5_metrics *m, const t5_http_route *route, unsigned http_status, int64_t ns);

typedef struct {
    const char *version;
    t5_catalog *catalog;
    int32_t requests_pending, n_connections;
    bool is_ready;
    int64_t n_log_lines_dropped;
} t5_metrics_gauges;
/* A malloc'ed text, which the caller frees; NULL when out of memory. */
char *t5_metrics_format(const t5_metrics *m, const t5_metrics_gauges *gauges, size_t *out_bytes);
