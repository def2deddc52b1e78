/* server/exchange.c: one request from its head to its reply. See http.h for the life of an exchange.
 *
 * A large request is parked: libmicrohttpd leaves its connection alone while a worker runs handle, while the engine
 * works, and while a worker runs finish; then the HTTP thread sends what they made. A small one is parked while the
 * engine works only. */
#include "server/exchange.h"
#include "base/assert.h"
#include "base/clock.h"
#include "server/fields.h"
#include "server/guard.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_BYTES_FIRST 4096
#define LARGE_BYTES 8192 /* of text: some 2 ms of reading, splitting and tokenizing */
#define TEXT_STOPPING "the server is stopping"

t5_exchange *t5_exchange_create(t5_http *h, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    t5_exchange *x = calloc(1, sizeof *x);
    if (x == NULL || info == NULL || info->socket_context == NULL) {
        free(x);
        return NULL;
    }
    x->http = h;
    x->connection = connection;
    x->watched = info->socket_context;
    x->started_ns = t5_clock_ns();
    x->body_bytes_max = h->body_bytes_max;
    x->n_texts = x->n_source_tokens = x->n_target_tokens = -1;
    t5_head_request_id(t5_exchange_header(x, T5_HEADER_REQUEST_ID), x->id);
    return x;
}

/* One that is still parked was resumed: libmicrohttpd runs no connection before that, and the thread that resumes
 * touches nothing of ours afterwards. Then the client left before t5_exchange_advance() was called again. */
void t5_exchange_destroy(t5_exchange *x)
{
    if (x->is_parked) atomic_fetch_sub(&x->http->n_working, 1);
    if (x->response != NULL) MHD_destroy_response(x->response);
    if (x->state != NULL) x->route->release(x->state);
    free(x->body);
    free(x);
}

/* --- the request --- */

static bool is_method(const t5_http_route *route, const char *method)
{
    bool is_head = strcmp(method, "HEAD") == 0;
    return strcmp(route->method, is_head ? "GET" : method) == 0;
}

static bool is_path(const t5_http_route *route, const char *path)
{
    const size_t n = strlen(route->path);
    const bool is_folder = route->path[n - 1] == '*';
    return is_folder ? strncmp(route->path, path, n - 1) == 0 && path[n - 1] != '\0' : strcmp(route->path, path) == 0;
}

/* The path of an absolute form, "http://host/path": what a client sends that takes us for its proxy (RFC 9112, 3.2.2).
 */
static const char *skip_authority(const char *url)
{
    const size_t n = strncasecmp(url, "http://", 7) == 0 ? 7 : strncasecmp(url, "https://", 8) == 0 ? 8 : 0;
    const char *path = n > 0 ? strchr(url + n, '/') : url;
    return path != NULL ? path : "/";
}

/* The path below the prefix. */
static const char *strip_prefix(t5_exchange *x, const char *path)
{
    const char *prefix = x->http->options.path_prefix;
    const size_t n = strlen(prefix);
    x->is_elsewhere = n > 0 && (strncmp(path, prefix, n) != 0 || path[n] != '/');
    return x->is_elsewhere ? path : path + n;
}

static void find_route(t5_exchange *x, const char *method)
{
    const t5_http_options *o = &x->http->options;
    for (int32_t i = 0; i < o->n_routes && !x->is_elsewhere; i++) {
        if (!is_path(&o->routes[i], x->path)) continue;
        x->path_route = o->routes[i].path;
        if (is_method(&o->routes[i], method)) x->route = &o->routes[i];
    }
    x->is_options = x->path_route != NULL && strcmp(method, "OPTIONS") == 0;
}

/* The declared length of the body is over the limit. libmicrohttpd has checked that it is a number. */
static bool is_declared_too_large(const t5_exchange *x)
{
    const char *length = t5_exchange_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length != NULL && strtoull(length, NULL, 10) > x->body_bytes_max;
}

static enum MHD_Result queued(const t5_exchange *x)
{
    return x->phase == T5_EXCHANGE_REPLIED ? MHD_YES : MHD_NO; /* no memory for a reply: the connection closes */
}

enum MHD_Result t5_exchange_begin(t5_exchange *x, const char *path, const char *method)
{
    const char *refusal = NULL;
    unsigned http_status = MHD_HTTP_OK;
    x->method = t5_head_method(method);
    x->path = strip_prefix(x, skip_authority(path));
    find_route(x, method);
    if (!t5_guard_check(x->connection)) {
        http_status = MHD_HTTP_BAD_REQUEST;
        refusal = "Invalid request: ambiguous or broken headers";
    } else if (is_declared_too_large(x)) {
        http_status = MHD_HTTP_CONTENT_TOO_LARGE;
        refusal = "Invalid request: the body is too large";
    } else if (x->route != NULL && x->route->is_work && t5_http_is_draining(x->http)) {
        http_status = MHD_HTTP_SERVICE_UNAVAILABLE;
        refusal = TEXT_STOPPING;
    }
    if (refusal != NULL) {
        x->must_close = true; /* the body is not read */
        t5_watch_linger(x->http->watch, x->watched);
        t5_exchange_fail_status(x, http_status, refusal);
        return queued(x);
    }
    int64_t deadline_ms = t5_clock_ms() + x->http->options.receive_timeout_ms;
    t5_watch_set_deadline(x->http->watch, x->watched, deadline_ms);
    return MHD_YES;
}

static bool grow(t5_exchange *x, size_t n_bytes)
{
    size_t capacity = x->body_capacity > 0 ? x->body_capacity : BODY_BYTES_FIRST;
    while (capacity < n_bytes)
        capacity *= 2;
    if (capacity == x->body_capacity) return true;
    char *body = realloc(x->body, capacity);
    if (body == NULL) return false;
    x->body = body;
    x->body_capacity = capacity;
    return true;
}

/* A body that nobody will read, or that is too large, is counted and dropped; the answer comes at its end. */
enum MHD_Result t5_exchange_append(t5_exchange *x, const char *bytes, size_t n_bytes)
{
    bool is_wanted = x->route != NULL; /* also with GET: clients of DeepL send a form there */
    if (n_bytes > x->body_bytes_max - x->body_bytes) x->is_too_large = true;
    if (x->is_too_large) return MHD_YES;
    if (is_wanted && !grow(x, x->body_bytes + n_bytes)) return MHD_NO;
    if (is_wanted) memcpy(x->body + x->body_bytes, bytes, n_bytes);
    x->body_bytes += n_bytes;
    return MHD_YES;
}

/* --- waiting for other threads --- */

static void gone(void *ctx)
{
    t5_exchange *x = ctx;
    x->route->cancel(x);
}

static void park(t5_exchange *x)
{
    x->is_parked = true;
    t5_watch_begin_work(x->http->watch, x->watched);
    MHD_suspend_connection(x->connection);
}

void t5_exchange_unpark(t5_http *h, struct MHD_Connection *connection)
{
    atomic_fetch_add(&h->n_resuming, 1);
    MHD_resume_connection(connection);
    atomic_fetch_sub(&h->n_resuming, 1);
}

static void finish(t5_exchange *x)
{
    x->is_awaiting = false;
    x->route->finish(x, x->http->options.server);
}

/* On a worker. */
static void run_finish(void *ctx)
{
    t5_exchange *x = ctx;
    if (!t5_watch_is_gone(x->http->watch, x->watched)) finish(x);
    t5_exchange_unpark(x->http, x->connection);
}

/* The last to let go moves it on; nobody else may touch it then. */
static void let_go(t5_exchange *x)
{
    if (atomic_fetch_sub(&x->n_holds, 1) > 1) return;
    t5_watch_end_work(x->http->watch, x->watched);
    if (x->is_large && x->is_awaiting) {
        x->work = (t5_work){.run = run_finish, .ctx = x};
        t5_workers_push(x->http->workers, &x->work, true);
    } else {
        t5_exchange_unpark(x->http, x->connection);
    }
}

/* Before the work starts, so that a resume can never come first. */
void t5_exchange_suspend(t5_exchange *x)
{
    T5_ASSERT(x->phase == T5_EXCHANGE_WORKING && !x->is_awaiting && x->route->finish != NULL);
    x->is_awaiting = true;
    atomic_fetch_add(&x->n_holds, 1);
    if (!x->is_parked) park(x);
}

void t5_exchange_resume(t5_exchange *x)
{
    let_go(x);
}

/* What waited for a worker longer than its client would is not begun. */
static void handle(t5_exchange *x)
{
    t5_error err = {0};
    bool is_late = x->deadline_ms != 0 && t5_clock_ms() >= x->deadline_ms;
    if (is_late) {
        T5_FAIL(&err, T5_ERR_TIMEOUT, "the request took too long");
        t5_exchange_fail(x, &err);
    } else {
        x->route->handle(x, x->http->options.server);
    }
}

/* On a worker. */
static void run_handle(void *ctx)
{
    t5_exchange *x = ctx;
    handle(x);
    bool is_working = x->is_awaiting && atomic_load(&x->n_holds) > 1;
    if (is_working) t5_watch_await_gone(x->http->watch, x->watched, gone, x);
    let_go(x);
}

static enum MHD_Result add_length(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
    size_t *n_bytes = ctx;
    (void)kind, (void)name;
    *n_bytes += value != NULL ? strlen(value) : 0;
    return MHD_YES;
}

/* Too much text for an HTTP thread, whichever way it came: clients of DeepL also send a body with GET. */
static bool is_large(const t5_exchange *x)
{
    size_t n_bytes = x->body_bytes;
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, add_length, &n_bytes);
    return n_bytes > LARGE_BYTES;
}

/* Sets the deadline of work, and finds whether it can be done by then. */
static t5_status admit(t5_exchange *x, t5_error *err)
{
    const t5_http *h = x->http;
    int64_t ms = 0;
    const t5_status status =
        t5_head_timeout(t5_exchange_header(x, T5_HEADER_REQUEST_TIMEOUT), h->request_timeout_ms, &ms, err);
    if (status != T5_OK) return status;
    x->deadline_ms = ms > 0 ? t5_clock_ms() + ms : 0;
    return h->options.check_room(h->options.server, x->deadline_ms, err);
}

/* Counts first and looks then, as t5_http_stop() marks first and counts then: one of the two sees the other. */
static void hand_over(t5_exchange *x)
{
    t5_error err = {0};
    atomic_fetch_add(&x->http->n_working, 1);
    if (x->route->is_work && atomic_load(&x->http->is_stopping)) {
        t5_exchange_fail_status(x, MHD_HTTP_SERVICE_UNAVAILABLE, TEXT_STOPPING);
    } else if (x->route->is_work && admit(x, &err) != T5_OK) {
        t5_exchange_fail(x, &err);
    } else {
        x->is_large = is_large(x);
        if (!x->is_large) handle(x);
    }
    if (x->is_large) {
        atomic_store(&x->n_holds, 1);
        park(x);
        x->work = (t5_work){.run = run_handle, .ctx = x};
        t5_workers_push(x->http->workers, &x->work, false);
    } else if (x->is_awaiting) {
        t5_watch_await_gone(x->http->watch, x->watched, gone, x);
    } else {
        atomic_fetch_sub(&x->http->n_working, 1);
    }
}

/* A base address with a slash at its end, to which a client adds "/translate", is a common slip. */
static const char *why_not_found(const t5_exchange *x)
{
    const size_t n = strlen(x->path);
    const bool has_spare = strstr(x->path, "//") != NULL || (n > 1 && x->path[n - 1] == '/');
    return has_spare ? "not found: the path has a slash too many" : "not found";
}

static void dispatch(t5_exchange *x)
{
    x->phase = T5_EXCHANGE_WORKING;
    if (x->is_too_large) {
        x->must_close = true;
        t5_exchange_fail_status(x, MHD_HTTP_CONTENT_TOO_LARGE, "Invalid request: the body is too large");
    } else if (x->is_options) {
        t5_exchange_reply(x, MHD_HTTP_OK, NULL, NULL, 0);
    } else if (x->is_elsewhere && (strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0)) {
        t5_exchange_set_headers(x, x->http->home_headers);
        t5_exchange_reply(x, MHD_HTTP_MOVED_PERMANENTLY, NULL, NULL, 0);
    } else if (x->path_route == NULL) {
        t5_exchange_fail_status(x, MHD_HTTP_NOT_FOUND, why_not_found(x));
    } else if (x->route == NULL) {
        t5_exchange_fail_status(x, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
    } else {
        hand_over(x);
    }
}

enum MHD_Result t5_exchange_advance(t5_exchange *x)
{
    if (x->phase == T5_EXCHANGE_RECEIVING) {
        dispatch(x);
        return x->is_parked ? MHD_YES : queued(x);
    }
    /* While it stops, libmicrohttpd takes a response without keeping it, and calls again. */
    if (x->phase == T5_EXCHANGE_REPLIED) return MHD_NO;
    T5_ASSERT(x->is_parked);
    x->is_parked = false;
    bool is_gone = t5_watch_is_gone(x->http->watch, x->watched);
    if (!is_gone && x->is_awaiting) finish(x);
    if (!is_gone && x->response != NULL) t5_exchange_send(x);
    atomic_fetch_sub(&x->http->n_working, 1);
    return is_gone ? MHD_NO : queued(x);
}

const struct sockaddr *t5_exchange_peer(const t5_exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info != NULL ? info->client_addr : NULL;
}

const t5_http *t5_exchange_http(const t5_exchange *x)
{
    return x->http;
}

void t5_exchange_set_state(t5_exchange *x, void *state)
{
    x->state = state;
}

void *t5_exchange_state(const t5_exchange *x)
{
    return x->state;
}

const char *t5_exchange_body(const t5_exchange *x, size_t *out_bytes)
{
    *out_bytes = x->body != NULL ? x->body_bytes : 0;
    return x->body != NULL ? x->body : "";
}

const char *t5_exchange_header(const t5_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

typedef struct {
    const char *name;
    char *out;
    size_t out_bytes, n_bytes;
} list_joiner;

static enum MHD_Result add_line(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
    list_joiner *j = ctx;
    (void)kind;
    if (value == NULL || strcasecmp(name, j->name) != 0) return MHD_YES;
    const size_t n_max = j->out_bytes - 2, n_given = strlen(value), n = n_given < n_max ? n_given : n_max;
    if (j->n_bytes + n > n_max) j->n_bytes = 0;
    if (j->n_bytes > 0) j->out[j->n_bytes++] = ',';
    memcpy(j->out + j->n_bytes, value + n_given - n, n + 1);
    j->n_bytes += n;
    return MHD_YES;
}

const char *t5_exchange_list(const t5_exchange *x, const char *name, char *out, size_t out_bytes)
{
    list_joiner j = {.name = name, .out = out, .out_bytes = out_bytes};
    out[0] = '\0';
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, add_line, &j);
    return out;
}

const char *t5_exchange_path(const t5_exchange *x)
{
    return x->path;
}

const char *t5_exchange_id(const t5_exchange *x)
{
    return x->id;
}

int64_t t5_exchange_deadline_ms(const t5_exchange *x)
{
    return x->deadline_ms;
}

void t5_exchange_set_usage(t5_exchange *x, int64_t n_texts, int64_t n_source_tokens, int64_t n_target_tokens)
{
    x->n_texts = n_texts;
    x->n_source_tokens = n_source_tokens;
    x->n_target_tokens = n_target_tokens;
}
