/* server/exchange.c: one request from its head to its reply. See http.h for the life of an exchange. */
#include "server/exchange.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/fields.h"
#include "server/guard.h"

#include <stdlib.h>
#include <string.h>

#define BODY_BYTES_FIRST 4096
#define TEXT_STOPPING "the server is stopping"
#define TEXT_INTERNAL "The server encountered an internal error and was unable to complete your request."

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
    return x;
}

/* One that still counts as suspended was resumed: libmicrohttpd runs no connection before that, and the thread that
 * resumes touches nothing of ours afterwards. Then the client left before t5_exchange_advance() was called again. */
void t5_exchange_destroy(t5_exchange *x)
{
    if (x->is_suspended) atomic_fetch_sub(&x->http->n_working, 1);
    if (x->state != NULL) x->route->release(x->state);
    free(x->body);
    free(x);
}

/* --- the reply --- */

static const char *error_key(const t5_exchange *x)
{
    return x->route != NULL ? x->route->error_key : "error";
}

/* "GET, HEAD, OPTIONS" of every route on the request's path. */
static void format_allow(const t5_exchange *x, char *out, size_t out_bytes)
{
    const t5_http_options *o = &x->http->options;
    size_t n = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < o->n_routes; i++) {
        if (x->path_route == NULL || strcmp(o->routes[i].path, x->path_route) != 0) continue;
        bool is_get = strcmp(o->routes[i].method, "GET") == 0;
        n += (size_t)snprintf(out + n, out_bytes - n, "%s, %s", o->routes[i].method, is_get ? "HEAD, " : "");
        T5_ASSERT(n < out_bytes);
    }
    snprintf(out + n, out_bytes - n, "OPTIONS");
}

static void add_headers(t5_exchange *x, struct MHD_Response *response, const char *content_type)
{
    const char *origin = x->http->options.cors_origin;
    if (content_type != NULL) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    for (const char *const *h = x->headers; h != NULL && *h != NULL; h += 2)
        MHD_add_response_header(response, h[0], h[1]);
    if (origin[0] != '\0') {
        MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "Authorization, Content-Type");
        MHD_add_response_header(response, "Access-Control-Expose-Headers", "Authorization, Retry-After");
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST");
        MHD_add_response_header(response, "Access-Control-Max-Age", "1728000");
    }
    bool wants_allow = x->http_status == MHD_HTTP_METHOD_NOT_ALLOWED || x->is_options;
    if (wants_allow) {
        char allow[64];
        format_allow(x, allow, sizeof allow);
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    }
    bool is_draining = t5_http_is_draining(x->http);
    if (x->http_status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, is_draining ? "5" : "1");
    if (x->must_close || is_draining) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

void t5_exchange_set_headers(t5_exchange *x, const char *const *headers)
{
    x->headers = headers;
}

/* Takes over `body`, which is malloc'ed (NULL for an empty one). */
void t5_exchange_reply(t5_exchange *x, unsigned http_status, const char *content_type, char *body, size_t n_bytes)
{
    static char empty[1];
    T5_ASSERT(x->phase != T5_EXCHANGE_REPLIED && !x->is_suspended);
    x->http_status = http_status;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        n_bytes, body != NULL ? body : empty, body != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response == NULL) { /* the phase tells begin and advance that nothing was queued */
        free(body);
        return;
    }
    add_headers(x, response, content_type);
    int64_t deadline_ms = t5_clock_ms() + x->http->options.receive_timeout_ms;
    t5_watch_set_deadline(x->http->watch, x->watched, deadline_ms);
    if (MHD_queue_response(x->connection, http_status, response) == MHD_YES) x->phase = T5_EXCHANGE_REPLIED;
    MHD_destroy_response(response);
}

/* Compact, keys sorted, newline: what LibreTranslate sends. Owned by the caller; NULL when out of memory. */
static char *dump_line(const json_t *value, size_t *out_bytes)
{
    const size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6);
    size_t n = json_dumpb(value, NULL, 0, flags);
    char *line = n > 0 ? malloc(n + 1) : NULL;
    if (line == NULL) return NULL;
    json_dumpb(value, line, n, flags);
    line[n] = '\n';
    *out_bytes = n + 1;
    return line;
}

void t5_exchange_reply_json(t5_exchange *x, unsigned http_status, const json_t *value)
{
    size_t n_bytes = 0;
    char *line = value != NULL ? dump_line(value, &n_bytes) : NULL;
    if (line == NULL) http_status = MHD_HTTP_SERVICE_UNAVAILABLE; /* out of memory: an empty body is all we can send */
    t5_exchange_reply(x, http_status, "application/json", line, n_bytes);
}

void t5_exchange_fail_status(t5_exchange *x, unsigned http_status, const char *text)
{
    json_t *value = json_pack("{s:s}", error_key(x), text);
    t5_exchange_reply_json(x, http_status, value);
    json_decref(value);
}

/* How each status looks to a client. Our own failures are logged in full and told in general: their texts may name
 * files and devices. */
static const struct {
    unsigned http_status;
    const char *text; /* NULL: the error's own */
} failures[] = {
    [T5_OK] = {MHD_HTTP_INTERNAL_SERVER_ERROR, TEXT_INTERNAL},
    [T5_ERR_ARG] = {MHD_HTTP_BAD_REQUEST, NULL},
    [T5_ERR_NOMEM] = {MHD_HTTP_SERVICE_UNAVAILABLE, "the server is out of memory, try again later"},
    [T5_ERR_IO] = {MHD_HTTP_INTERNAL_SERVER_ERROR, TEXT_INTERNAL},
    [T5_ERR_FORMAT] = {MHD_HTTP_INTERNAL_SERVER_ERROR, TEXT_INTERNAL},
    [T5_ERR_DEVICE] = {MHD_HTTP_SERVICE_UNAVAILABLE, "the device failed, try again later"},
    [T5_ERR_BUSY] = {MHD_HTTP_SERVICE_UNAVAILABLE, NULL},
    [T5_ERR_TIMEOUT] = {MHD_HTTP_SERVICE_UNAVAILABLE, NULL},
};

void t5_exchange_fail(t5_exchange *x, const t5_error *err)
{
    T5_ASSERT((size_t)err->status < T5_COUNT(failures));
    const char *text = failures[err->status].text;
    if (text != NULL)
        t5_log(T5_LOG_ERROR, "request_failed path=%s at=%s:%d error=\"%s\"", x->path_route, err->file, err->line,
               err->text);
    t5_exchange_fail_status(x, failures[err->status].http_status, text != NULL ? text : err->text);
}

/* --- the request --- */

static bool is_method(const t5_http_route *route, const char *method)
{
    bool is_head = strcmp(method, "HEAD") == 0;
    return strcmp(route->method, is_head ? "GET" : method) == 0;
}

static void find_route(t5_exchange *x, const char *path, const char *method)
{
    const t5_http_options *o = &x->http->options;
    for (int32_t i = 0; i < o->n_routes; i++) {
        if (strcmp(o->routes[i].path, path) != 0) continue;
        x->path_route = o->routes[i].path;
        if (is_method(&o->routes[i], method)) x->route = &o->routes[i];
    }
    x->is_options = x->path_route != NULL && strcmp(method, "OPTIONS") == 0;
}

/* The declared length of the body is over the limit. libmicrohttpd has checked that it is a number. */
static bool is_declared_too_large(const t5_exchange *x)
{
    const char *length = t5_exchange_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length != NULL && strtoull(length, NULL, 10) > x->http->options.body_bytes_max;
}

static enum MHD_Result queued(const t5_exchange *x)
{
    return x->phase == T5_EXCHANGE_REPLIED ? MHD_YES : MHD_NO; /* no memory for a reply: the connection closes */
}

enum MHD_Result t5_exchange_begin(t5_exchange *x, const char *path, const char *method)
{
    const char *refusal = NULL;
    unsigned http_status = MHD_HTTP_OK;
    find_route(x, path, method);
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
    bool is_wanted = x->route != NULL && strcmp(x->route->method, "GET") != 0;
    if (n_bytes > x->http->options.body_bytes_max - x->body_bytes) x->is_too_large = true;
    if (x->is_too_large) return MHD_YES;
    if (is_wanted && !grow(x, x->body_bytes + n_bytes)) return MHD_NO;
    if (is_wanted) memcpy(x->body + x->body_bytes, bytes, n_bytes);
    x->body_bytes += n_bytes;
    return MHD_YES;
}

static void gone(void *ctx)
{
    t5_exchange *x = ctx;
    x->route->cancel(x);
}

/* Counts first and looks then, as t5_http_stop() marks first and counts then: one of the two sees the other. */
static void hand_over(t5_exchange *x)
{
    atomic_fetch_add(&x->http->n_working, 1);
    if (x->route->is_work && atomic_load(&x->http->is_stopping)) {
        t5_exchange_fail_status(x, MHD_HTTP_SERVICE_UNAVAILABLE, TEXT_STOPPING);
    } else {
        x->route->handle(x, x->http->options.server);
    }
    if (!x->is_suspended) atomic_fetch_sub(&x->http->n_working, 1);
}

static void dispatch(t5_exchange *x)
{
    x->phase = T5_EXCHANGE_WORKING;
    if (x->is_too_large) {
        x->must_close = true;
        t5_exchange_fail_status(x, MHD_HTTP_CONTENT_TOO_LARGE, "Invalid request: the body is too large");
    } else if (x->is_options) {
        t5_exchange_reply(x, MHD_HTTP_OK, NULL, NULL, 0);
    } else if (x->path_route == NULL) {
        t5_exchange_fail_status(x, MHD_HTTP_NOT_FOUND, "not found");
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
        if (!x->is_suspended) return queued(x);
        t5_watch_await_gone(x->http->watch, x->watched, gone, x);
        return MHD_YES;
    }
    /* While it stops, libmicrohttpd takes a response without keeping it, and calls again. */
    if (x->phase == T5_EXCHANGE_REPLIED) return MHD_NO;
    T5_ASSERT(x->is_suspended);
    x->is_suspended = false;
    bool is_gone = t5_watch_is_gone(x->http->watch, x->watched);
    if (!is_gone) x->route->finish(x, x->http->options.server);
    atomic_fetch_sub(&x->http->n_working, 1);
    return is_gone ? MHD_NO : queued(x);
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

/* --- waiting for other threads --- */

/* Before the work starts, so that a resume can never come first. */
void t5_exchange_suspend(t5_exchange *x)
{
    T5_ASSERT(x->phase == T5_EXCHANGE_WORKING && !x->is_suspended && x->route->finish != NULL);
    x->is_suspended = true;
    t5_watch_begin_work(x->http->watch, x->watched);
    MHD_suspend_connection(x->connection);
}

void t5_exchange_resume(t5_exchange *x)
{
    struct MHD_Connection *connection = x->connection;
    t5_watch_end_work(x->http->watch, x->watched);
    MHD_resume_connection(connection);
}
