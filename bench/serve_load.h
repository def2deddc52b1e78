/* bench/serve_load.h: one load on a server and what came of it.
 *
 *   closed:N  N clients, each of which sends its next request when its reply has come: what the server can do
 *   open:R    R requests a second at random times (Poisson), whether earlier ones were answered or not: what clients
 * who know nothing of each other see. Latency counts from the moment at which a request was due, so that a slow server
 * can not slow down its own measurement (no coordinated omission).
 *
 * The first seconds warm up and are not counted. A request counts in full when it was due in the measured time. One
 * thread. */
#pragma once
#include "bench/serve_client.h"
#include "bench/serve_texts.h"

#define T5_HTTP_STATUS_MAX 600

typedef struct {
    bool is_open;
    double rate; /* open: requests a second */
    int32_t n_clients;
    double seconds, warm_up_seconds;
    bool is_streamed;
    double bound_ms, bound_token_ms; /* a good reply comes within bound + tokens x token */
    uint64_t seed;
} t5_load;

typedef struct {
    double *ms; /* sorted */
    int32_t n;
} t5_latencies;

typedef struct {
    double seconds;       /* measured */
    int32_t n_sent;       /* in all, warm-up included */
    int32_t n_offered;    /* requests that were due in it */
    int32_t n_right;      /* answered with 200 and the expected text */
    int32_t n_wrong;      /* answered with 200 and something else */
    int32_t n_good;       /* right, and within the bound */
    int32_t n_unanswered; /* no reply at all: the connection broke, or nothing came until the end */
    int32_t n_finished;   /* right replies that came within the measured time, whenever they were due */
    double client_cpu;    /* share of a core that this program used: near 1 it is the client that is measured */
    t5_latencies right;   /* whole reply, of right answers */
    t5_latencies first;   /* streamed: first event, of right answers */
    t5_latencies refused; /* replies with 503 */
    int32_t statuses[T5_HTTP_STATUS_MAX];
} t5_load_result;

/* Runs the load to its end, and waits a little for the last replies. T5_ERR_ARG: too many requests. Release the result
 * with t5_load_result_deinit(). */
t5_status t5_load_run(const t5_load *load, const t5_serve_texts *texts, t5_client *client, t5_load_result *out,
                      t5_error *err);
void t5_load_result_deinit(t5_load_result *r);
/* The smallest that at least the share `p` of all do not exceed; 0 of none. */
double t5_latencies_percentile(const t5_latencies *l, double p);
