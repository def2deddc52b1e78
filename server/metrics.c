/* server/metrics.c: see metrics.h. Counting; what comes of it is written by metrics_format.c. */
#include "base/assert.h"
#include "server/metrics_internal.h"

#include <stdlib.h>
#include <time.h>

#define MS INT64_C(1000000)

/* From a health check to a text of many sentences that waits for its turn. */
static const int64_t request_bounds_ns[] = {1 * MS,    2 * MS,    5 * MS,     10 * MS,    25 * MS,
                                            50 * MS,   100 * MS,  250 * MS,   500 * MS,   1000 * MS,
                                            2500 * MS, 5000 * MS, 10000 * MS, 30000 * MS, 60000 * MS};
t5_status t5_metrics_create(const t5_http_route *routes, int32_t n_routes, t5_metrics **out, t5_error *err)
{
    size_t n_bytes = sizeof(t5_metrics) + (size_t)(n_routes + 1) * sizeof(t5_route_metrics);
    t5_metrics *m = calloc(1, n_bytes);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "metrics: %zu bytes", n_bytes);
    m->routes = routes;
    m->n_routes = n_routes;
    m->start_s = (int64_t)time(NULL);
    for (int32_t i = 0; i <= n_routes; i++)
        t5_histogram_init(&m->series[i].duration_ns, request_bounds_ns, T5_COUNT(request_bounds_ns));
    *out = m;
    return T5_OK;
}

void t5_metrics_destroy(t5_metrics *m)
{
    free(m);
}

void t5_metrics_count(t5_metrics *m, const t5_http_route *route, unsigned http_status, int64_t ns)
{
    t5_route_metrics *s = &m->series[route != NULL ? route - m->routes : m->n_routes];
    T5_ASSERT(http_status < T5_HTTP_STATUSES);
    atomic_fetch_add_explicit(&s->n_requests[http_status], 1, memory_order_relaxed);
    t5_histogram_add(&s->duration_ns, ns);
}
