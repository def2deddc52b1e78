/* server/http.c: the daemon: start, its callbacks, drain and stop. See http.h. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/exchange.h"
#include "server/listen.h"
#include "server/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define CONNECTIONS_SPARE 1088 /* the backlog of t5_listen_start(), and an uneven division among 64 threads */
#define FULL_LOG_MS 60000      /* at most once in so long */
#define FDS_SPARE 128          /* besides connections: model files, epoll sets, logs, lingering clients */

/* In front of libc's, for the threads of libmicrohttpd. They take events by 128 and, when there were as many, ask for
 * more before they handle those, with the time limit of the first call: if there were exactly 128, those clients waited
 * until another one came, or were cut (all versions up to 0.9.77 at least). So a call behind one that filled its array
 * does not wait. The dynamic linker finds the program's function before libc's. */
int epoll_wait(int epoll_fd, struct epoll_event *events, int n_max, int timeout_ms)
{
    static _Thread_local bool was_full;
    const int n = epoll_pwait(epoll_fd, events, n_max, was_full ? 0 : timeout_ms, NULL);
    was_full = n == n_max;
    return n;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **request_ctx)
{
    t5_http *h = ctx;
    t5_exchange *x = *request_ctx;
    (void)version;
    if (x == NULL) {
        x = t5_exchange_create(h, connection);
        if (x == NULL) return MHD_NO;
        atomic_fetch_add(&h->n_exchanges, 1);
        atomic_fetch_add(&h->n_begun, 1);
        *request_ctx = x;
        return t5_exchange_begin(x, url, method);
    }
    if (*upload_bytes > 0) {
        size_t n_bytes = *upload_bytes;
        *upload_bytes = 0;
        return t5_exchange_append(x, upload, n_bytes);
    }
    return t5_exchange_advance(x);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **request_ctx,
                         enum MHD_RequestTerminationCode code)
{
    t5_http *h = ctx;
    t5_exchange *x = *request_ctx;
    (void)connection, (void)code;
    if (x == NULL) return;
    const t5_http_summary summary = {
        .id = x->id,
        .route = x->route,
        .method = x->method,
        .path = x->path_route,
        .status = x->http_status,
        .ns = t5_clock_ns() - x->started_ns,
        .bytes_in = (int64_t)x->body_bytes,
        .bytes_out = (int64_t)x->reply_bytes,
        .n_texts = x->n_texts,
        .n_source_tokens = x->n_source_tokens,
        .n_target_tokens = x->n_target_tokens,
        .client = t5_exchange_peer(x),
    };
    h->options.observe(h->options.server, &summary);
    t5_watch_set_deadline(h->watch, x->watched, t5_clock_ms() + h->options.receive_timeout_ms);
    t5_exchange_destroy(x);
    *request_ctx = NULL;
    atomic_fetch_sub(&h->n_exchanges, 1);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **socket_ctx,
                          enum MHD_ConnectionNotificationCode code)
{
    t5_http *h = ctx;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *socket_ctx = t5_watch_open(h->watch, info->connect_fd, t5_clock_ms() + h->options.receive_timeout_ms);
    } else if (*socket_ctx != NULL) {
        t5_watch_close(h->watch, *socket_ctx);
        *socket_ctx = NULL;
    }
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) atomic_fetch_sub(&h->n_connections, 1);
}

/* Who waits in the kernel's queue sees nothing, so the log names the setting. */
static void tell_full(t5_http *h)
{
    const int64_t now_ms = t5_clock_ms();
    if (h->full_ms != 0 && now_ms - h->full_ms < FULL_LOG_MS) return;
    h->full_ms = now_ms;
    t5_log(T5_LOG_WARN, "connections_full connections_max=%d text=\"new clients wait until others leave\"",
           h->options.connections_max);
}

static bool has_room(void *ctx)
{
    t5_http *h = ctx;
    if (atomic_load(&h->n_connections) < h->options.connections_max) return true;
    tell_full(h);
    return false;
}

static void take_client(void *ctx, int fd, const struct sockaddr *address, socklen_t n_bytes)
{
    t5_http *h = ctx;
    atomic_fetch_add(&h->n_connections, 1);
    /* On failure it closes fd and does not report the connection. */
    if (MHD_add_connection(h->daemon, fd, address, n_bytes) != MHD_YES) atomic_fetch_sub(&h->n_connections, 1);
}

/* libmicrohttpd speaks of what clients did wrong; that is of interest when one looks for it. */
static void on_log(void *ctx, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_log(void *ctx, const char *format, va_list args)
{
    char text[256], quoted[300];
    (void)ctx;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\r\n")] = '\0';
    t5_log(T5_LOG_DEBUG, "http text=%s", t5_log_quote(quoted, sizeof quoted, text));
}

static void on_panic(void *ctx, const char *file, unsigned line, const char *reason)
{
    (void)ctx;
    t5_log(T5_LOG_ERROR, "http_panic at=%s:%u reason=\"%s\"", file, line, reason != NULL ? reason : "");
    abort();
}

/* Each connection is a file descriptor; libmicrohttpd stops accepting silently when they run out. */
static void raise_fd_limit(int32_t connections_max)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections_max + FDS_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted)
        t5_log(T5_LOG_WARN, "few_file_descriptors limit=%llu wanted=%llu", (unsigned long long)limit.rlim_cur,
               (unsigned long long)wanted);
}

static t5_status start_daemon(t5_http *h, t5_error *err)
{
    const t5_http_options *o = &h->options;
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
                           MHD_USE_ITC | MHD_USE_ERROR_LOG | (o->is_tls ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (char *)(size_t)T5_TLS_PRIORITIES},
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(intptr_t)t5_tls_retrieve},
        {MHD_OPTION_END, 0, NULL},
    };
    /* A pool of one is a daemon with one thread; libmicrohttpd wants it said as 0. */
    unsigned n_pool = o->n_threads > 1 ? (unsigned)o->n_threads : 0;
    /* has_room() keeps the limit. This one is divided among the threads, and during a drain the backlog comes on top.
     */
    unsigned n_connections = (unsigned)o->connections_max + CONNECTIONS_SPARE;
    if (o->is_tls && MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
        return T5_FAIL(err, T5_ERR_ARG, "tls_cert: this libmicrohttpd was built without TLS");
    MHD_set_panic_func(on_panic, NULL);
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_THREAD_POOL_SIZE, n_pool,
        MHD_OPTION_CONNECTION_LIMIT, n_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->connection_bytes,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(o->receive_timeout_ms / 1000 + 1), MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_ARRAY, o->is_tls ? tls : tls + T5_COUNT(tls) - 1, MHD_OPTION_END);
    if (h->daemon == NULL) return T5_FAIL(err, T5_ERR_IO, "the HTTP server could not start: %s", strerror(errno));
    return T5_OK;
}

t5_status t5_http_start(const t5_http_options *options, t5_http **out, t5_error *err)
{
    t5_status status = T5_OK;
    const char *scheme = options->is_tls ? "https" : "http";
    t5_http *h = calloc(1, sizeof *h);
    if (h == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "http: %zu bytes", sizeof *h);
    h->options = *options;
    T5_ASSERT(strlen(options->path_prefix) <= T5_PATH_PREFIX_MAX);
    snprintf(h->home, sizeof h->home, "%s/", options->path_prefix);
    h->home_headers[0] = MHD_HTTP_HEADER_LOCATION;
    h->home_headers[1] = h->home;
    t5_http_set_limits(h, options->request_timeout_ms, options->body_bytes_max);
    const t5_acceptor_calls calls = {
        .has_room = has_room, .take = take_client, .ctx = h, .is_shared = options->is_shared};
    raise_fd_limit(options->connections_max);
    T5_TRY(t5_watch_create(options->connections_max + CONNECTIONS_SPARE, &h->watch, err));
    T5_TRY(t5_workers_create(options->n_workers, &h->workers, err));
    T5_TRY(t5_listen_start(options->listen_fd, scheme, h->url, sizeof h->url, err));
    T5_TRY(start_daemon(h, err));
    T5_TRY(t5_acceptor_create(options->listen_fd, &calls, &h->acceptor, err));
    *out = h;
    h = NULL; /* handed to the caller */
out:
    if (h != NULL && h->daemon != NULL) MHD_stop_daemon(h->daemon);
    if (h != NULL) t5_workers_destroy(h->workers);
    if (h != NULL) t5_watch_destroy(h->watch);
    free(h);
    return status;
}

void t5_http_set_limits(t5_http *h, int64_t request_timeout_ms, size_t body_bytes_max)
{
    atomic_store(&h->request_timeout_ms, request_timeout_ms);
    atomic_store(&h->body_bytes_max, body_bytes_max);
}

const char *t5_http_url(const t5_http *h)
{
    return h->url;
}

void t5_http_drain(t5_http *h)
{
    if (atomic_exchange(&h->is_draining, true)) return;
    t5_acceptor_destroy(h->acceptor);
    h->acceptor = NULL;
}

bool t5_http_is_draining(const t5_http *h)
{
    return atomic_load(&h->is_draining);
}

int32_t t5_http_pending(const t5_http *h)
{
    return atomic_load(&h->n_exchanges);
}

int64_t t5_http_begun(const t5_http *h)
{
    return atomic_load(&h->n_begun);
}

int32_t t5_http_connections(const t5_http *h)
{
    return atomic_load(&h->n_connections);
}

void t5_http_give_up(t5_http *h)
{
    t5_watch_give_up(h->watch);
}

bool t5_http_stop(t5_http *h)
{
    if (h == NULL) return true;
    T5_ASSERT(t5_http_is_draining(h));
    atomic_store(&h->is_stopping, true);
    if (atomic_load(&h->n_working) + atomic_load(&h->n_resuming) > 0) return false;
    MHD_stop_daemon(h->daemon);
    t5_workers_destroy(h->workers);
    t5_watch_destroy(h->watch);
    free(h);
    return true;
}
