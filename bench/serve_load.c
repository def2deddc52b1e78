/* bench/serve_load.c: see serve_load.h. All due times of an open loop are drawn before it starts; every request then
 * has a number, which is its tag, and a place for what became of it. */
#include "bench/serve_load.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define REQUESTS_MAX 4000000
#define CLOSED_RATE_MAX 40000 /* requests a second that a closed loop has places for */
#define LAST_REPLIES_S 15     /* to wait for replies after the last request */

typedef struct {
    int64_t due_ns; /* since the start */
    int64_t first_ns, end_ns;
    int32_t i_text;
    int32_t http_status; /* 0: no reply */
    bool is_right;
} sample;

typedef struct {
    const t5_load *load;
    const t5_serve_texts *texts;
    t5_client *client;
    sample *samples;
    int32_t n_samples, n_sent;
    int64_t start_ns;
    uint64_t random;
} run;

static uint64_t random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15U; /* splitmix64 */
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static double random_exponential(uint64_t *state, double mean)
{
    const double uniform = ((double)(random_next(state) >> 11) + 1.0) / 9007199254740993.0; /* above 0, below 1 */
    return -log(uniform) * mean;
}

static void on_reply(void *ctx, int64_t tag, const t5_client_reply *reply)
{
    run *r = ctx;
    sample *s = &r->samples[tag];
    const t5_serve_request *request = &r->texts->requests[s->i_text];
    size_t n_bytes = 0;
    const char *answer = t5_serve_answer(reply->body, reply->body_bytes, r->load->is_streamed, &n_bytes);
    s->http_status = (int32_t)reply->http_status;
    s->is_right =
        reply->http_status == 200 && n_bytes == request->answer_bytes && memcmp(answer, request->answer, n_bytes) == 0;
    s->first_ns = reply->first_ns - r->start_ns;
    s->end_ns = reply->end_ns - r->start_ns;
}

/* Places for all requests; those of an open loop are due at random times. */
static t5_status plan(run *r, t5_error *err)
{
    const t5_load *load = r->load;
    const double seconds = load->warm_up_seconds + load->seconds;
    const double n_max = seconds * (load->is_open ? 1.5 * load->rate : CLOSED_RATE_MAX) + 100;
    if (n_max > REQUESTS_MAX) return T5_FAIL(err, T5_ERR_ARG, "more than %d requests", REQUESTS_MAX);
    r->samples = calloc((size_t)n_max, sizeof *r->samples);
    if (r->samples == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%.0f requests", n_max);
    double due_s = 0;
    for (r->n_samples = 0; r->n_samples < (int32_t)n_max; r->n_samples++) {
        sample *s = &r->samples[r->n_samples];
        if (load->is_open) due_s += random_exponential(&r->random, 1 / load->rate);
        if (due_s >= seconds) break;
        s->due_ns = (int64_t)(due_s * 1e9);
        s->i_text = (int32_t)(random_next(&r->random) % (uint64_t)r->texts->n_requests);
    }
    return T5_OK;
}

/* Sends whatever is due and has a connection; returns when to look again, at `end_ns` at the latest. */
static int64_t send_due(run *r, int64_t end_ns)
{
    for (; r->n_sent < r->n_samples; r->n_sent++) {
        sample *s = &r->samples[r->n_sent];
        const int64_t now_ns = t5_clock_ns();
        if (now_ns >= end_ns) return end_ns;
        if (r->load->is_open && r->start_ns + s->due_ns > now_ns) return r->start_ns + s->due_ns;
        const t5_serve_request *request = &r->texts->requests[s->i_text];
        if (!t5_client_send(r->client, request->http, request->http_bytes, r->n_sent)) return end_ns;
        if (!r->load->is_open) s->due_ns = now_ns - r->start_ns;
    }
    return end_ns;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* All requests of an open loop are sent, those too that find a connection only after the end. */
static void make_load(run *r)
{
    const double seconds = r->load->warm_up_seconds + r->load->seconds;
    r->start_ns = t5_clock_ns();
    const int64_t end_ns = r->start_ns + (int64_t)(seconds * 1e9);
    const int64_t last_ns = end_ns + (int64_t)LAST_REPLIES_S * 1000000000;
    const int64_t last_send_ns = r->load->is_open ? last_ns : end_ns;
    while (t5_clock_ns() < last_send_ns && r->n_sent < r->n_samples)
        t5_client_poll(r->client, send_due(r, last_send_ns), on_reply, r);
    while (t5_client_pending(r->client) > 0 && t5_clock_ns() < last_ns)
        t5_client_poll(r->client, last_ns, on_reply, r);
    t5_client_forget(r->client);
}

/* --- what came of it --- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double t5_latencies_percentile(const t5_latencies *l, double p)
{
    if (l->n == 0) return 0;
    const int32_t rank = (int32_t)ceil(p * (double)l->n);
    return l->ms[rank > 0 ? rank - 1 : 0];
}

static void count_sample(const run *r, const sample *s, t5_load_result *out)
{
    const int64_t from_ns = (int64_t)(r->load->warm_up_seconds * 1e9);
    const int64_t to_ns = from_ns + (int64_t)(r->load->seconds * 1e9);
    const double ms = (double)(s->end_ns - s->due_ns) / 1e6;
    out->n_finished += s->is_right && s->end_ns >= from_ns && s->end_ns < to_ns;
    if (s->due_ns < from_ns) return;
    out->n_offered++;
    out->n_unanswered += s->http_status == 0;
    out->n_wrong += s->http_status == 200 && !s->is_right;
    if (s->http_status > 0 && s->http_status < T5_HTTP_STATUS_MAX) out->statuses[s->http_status]++;
    if (s->http_status == 503) out->refused.ms[out->refused.n++] = ms;
    if (!s->is_right) return;
    const double n_tokens = r->texts->requests[s->i_text].n_target_tokens;
    out->n_right++;
    out->n_good += ms <= r->load->bound_ms + r->load->bound_token_ms * n_tokens;
    out->right.ms[out->right.n++] = ms;
    if (r->load->is_streamed) out->first.ms[out->first.n++] = (double)(s->first_ns - s->due_ns) / 1e6;
}

/* A request that never found a connection was offered too. */
static t5_status count_all(const run *r, t5_load_result *out, t5_error *err)
{
    const int32_t n = r->load->is_open ? r->n_samples : r->n_sent;
    t5_latencies *const lists[] = {&out->right, &out->first, &out->refused};
    for (size_t i = 0; i < T5_COUNT(lists); i++) {
        lists[i]->ms = calloc((size_t)n + 1, sizeof(double));
        if (lists[i]->ms == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d latencies", n);
    }
    for (int32_t i = 0; i < n; i++)
        count_sample(r, &r->samples[i], out);
    for (size_t i = 0; i < T5_COUNT(lists); i++)
        qsort(lists[i]->ms, (size_t)lists[i]->n, sizeof(double), compare_doubles);
    out->seconds = r->load->seconds;
    out->n_sent = r->n_sent;
    return T5_OK;
}

t5_status t5_load_run(const t5_load *load, const t5_serve_texts *texts, t5_client *client, t5_load_result *out,
                      t5_error *err)
{
    t5_status status = T5_OK;
    run r = {.load = load, .texts = texts, .client = client, .random = load->seed};
    *out = (t5_load_result){0};
    T5_TRY(plan(&r, err));
    const double cpu_before = cpu_seconds();
    make_load(&r);
    out->client_cpu = (cpu_seconds() - cpu_before) / (load->warm_up_seconds + load->seconds);
    T5_TRY(count_all(&r, out, err));
out:
    free(r.samples);
    if (status != T5_OK) t5_load_result_deinit(out);
    return status;
}

void t5_load_result_deinit(t5_load_result *r)
{
    free(r->right.ms);
    free(r->first.ms);
    free(r->refused.ms);
    *r = (t5_load_result){0};
}
