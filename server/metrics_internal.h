/* server/metrics_internal.h: what metrics.c counts and metrics_format.c writes. */
#pragma once
#include "base/histogram.h"
#include "server/metrics.h"

#include <stdio.h>

#define T5_HTTP_STATUSES 600 /* 0: the client left before its answer */

typedef struct {
    atomic_llong n_requests[T5_HTTP_STATUSES];
    t5_histogram duration_ns;
} t5_route_metrics;

struct t5_metrics {
    const t5_http_route *routes;
    int32_t n_routes;
    int64_t start_s;           /* since 1970 */
    t5_route_metrics series[]; /* one per route, and one for no route */
};

/* The two lines that open a family. */
void t5_metrics_put_head(FILE *file, const char *name, const char *type, const char *help);
/* A family of one sample. */
void t5_metrics_put_value(FILE *file, const char *name, const char *type, const char *help, double value);
/* metrics_process.c: memory, time, descriptors and threads of this process, as far as /proc tells. */
void t5_metrics_put_process(FILE *file, int64_t start_s);
