/* server/reply.c: how an exchange is answered: headers, JSON, and what each failure looks like to a client. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/exchange.h"
#include "server/json_memory.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_INTERNAL "The server encountered an internal error and was unable to complete your request."
#define RETRY_DRAINING_S 5 /* another process may take over then */
#define RETRY_S 1
#define DUMP_BYTES 2048

typedef struct {
    struct MHD_Response *response;
    bool is_broken;
} reply_head;

/* The route's, or that of a route in the same folder, so that clients of each API can read "not found". */
static const char *error_key(const t5_exchange *x)
{
    const t5_http_options *o = &x->http->options;
    if (x->route != NULL) return x->route->error_key;
    const char *slash = x->path != NULL && x->path[0] == '/' ? strchr(x->path + 1, '/') : NULL;
    for (int32_t i = 0; i < o->n_routes && slash != NULL; i++)
        if (strncmp(o->routes[i].path, x->path, (size_t)(slash + 1 - x->path)) == 0) return o->routes[i].error_key;
    return T5_ERROR_LIBRETRANSLATE;
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

/* Adds one header. It may lack memory: a reply without a header that it should have is not sent. */
static void add_header(reply_head *head, const char *name, const char *value)
{
    if (MHD_add_response_header(head->response, name, value) != MHD_YES) head->is_broken = true;
}

static void add_cors(reply_head *head, const char *origin)
{
    if (origin[0] == '\0') return;
    add_header(head, "Access-Control-Allow-Origin", origin);
    add_header(head, "Access-Control-Allow-Headers",
               "Authorization, Content-Type, " T5_HEADER_REQUEST_ID ", " T5_HEADER_REQUEST_TIMEOUT);
    add_header(head, "Access-Control-Expose-Headers", "Authorization, Retry-After, X-Trace-ID, " T5_HEADER_REQUEST_ID);
    add_header(head, "Access-Control-Allow-Methods", "GET, POST");
    add_header(head, "Access-Control-Max-Age", "1728000");
}

static void add_retry_after(reply_head *head, const t5_exchange *x, bool is_draining)
{
    char seconds[16];
    int32_t s = is_draining ? RETRY_DRAINING_S : x->retry_after_s > 0 ? x->retry_after_s : RETRY_S;
    snprintf(seconds, sizeof seconds, "%" PRId32, s);
    add_header(head, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
}

static void add_headers(reply_head *head, const t5_exchange *x, const char *content_type)
{
    if (content_type != NULL) add_header(head, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    add_header(head, "X-Content-Type-Options", "nosniff");
    add_header(head, T5_HEADER_REQUEST_ID, x->id);
    if (strcmp(error_key(x), T5_ERROR_DEEPL) == 0) add_header(head, "X-Trace-ID", x->id);
    for (const char *const *h = x->headers; h != NULL && *h != NULL; h += 2)
        add_header(head, h[0], h[1]);
    add_cors(head, x->http->options.cors_origin);
    bool wants_allow = x->http_status == MHD_HTTP_METHOD_NOT_ALLOWED || x->is_options;
    if (wants_allow) {
        char allow[64];
        format_allow(x, allow, sizeof allow);
        add_header(head, MHD_HTTP_HEADER_ALLOW, allow);
    }
    bool is_draining = t5_http_is_draining(x->http);
    bool is_later = x->http_status == MHD_HTTP_SERVICE_UNAVAILABLE || x->http_status == MHD_HTTP_TOO_MANY_REQUESTS;
    if (is_later) add_retry_after(head, x, is_draining);
    if (x->must_close || is_draining) add_header(head, MHD_HTTP_HEADER_CONNECTION, "close");
}

void t5_exchange_set_headers(t5_exchange *x, const char *const *headers)
{
    x->headers = headers;
}

void t5_exchange_set_retry_after(t5_exchange *x, int32_t s)
{
    x->retry_after_s = s;
}

void t5_exchange_send(t5_exchange *x)
{
    int64_t deadline_ms = t5_clock_ms() + x->http->options.receive_timeout_ms;
    t5_watch_set_deadline(x->http->watch, x->watched, deadline_ms);
    if (MHD_queue_response(x->connection, x->http_status, x->response) == MHD_YES) x->phase = T5_EXCHANGE_REPLIED;
    MHD_destroy_response(x->response);
    x->response = NULL;
}

void t5_exchange_answer(t5_exchange *x, unsigned http_status, const char *content_type, struct MHD_Response *response)
{
    T5_ASSERT(x->phase != T5_EXCHANGE_REPLIED && !x->is_awaiting && x->response == NULL);
    x->http_status = http_status;
    reply_head head = {.response = response};
    add_headers(&head, x, content_type);
    if (head.is_broken) { /* the connection closes, as without memory for a response */
        MHD_destroy_response(response);
        return;
    }
    x->response = response;
    if (!x->is_parked) t5_exchange_send(x);
}

/* Takes over `body`, which is malloc'ed (NULL for an empty one). */
void t5_exchange_reply(t5_exchange *x, unsigned http_status, const char *content_type, char *body, size_t n_bytes)
{
    static char empty[1];
    struct MHD_Response *response = MHD_create_response_from_buffer(
        n_bytes, body != NULL ? body : empty, body != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response == NULL) { /* the phase tells begin and advance that nothing was queued */
        x->http_status = http_status;
        free(body);
        return;
    }
    x->reply_bytes = n_bytes;
    t5_exchange_answer(x, http_status, content_type, response);
}

/* Compact, keys sorted, newline: what LibreTranslate sends. Owned by the caller; NULL when out of memory. */
static char *dump_line(const json_t *value, size_t *out_bytes)
{
    char small[DUMP_BYTES]; /* most replies fit, and are written once */
    size_t n = json_dumpb(value, small, sizeof small, T5_REPLY_JSON);
    char *line = n > 0 ? malloc(n + 1) : NULL;
    if (line == NULL) return NULL;
    if (n <= sizeof small)
        memcpy(line, small, n);
    else
        json_dumpb(value, line, n, T5_REPLY_JSON);
    line[n] = '\n';
    *out_bytes = n + 1;
    return line;
}

void t5_exchange_reply_json(t5_exchange *x, unsigned http_status, const json_t *value)
{
    size_t n_bytes = 0;
    char *line = value != NULL ? dump_line(value, &n_bytes) : NULL;
    if (t5_json_memory_ran_out()) { /* while the value was made, or now: parts of it may be missing */
        free(line);
        line = NULL;
        n_bytes = 0;
    }
    if (line == NULL) http_status = MHD_HTTP_SERVICE_UNAVAILABLE; /* out of memory: an empty body is all we can send */
    t5_exchange_reply(x, http_status, "application/json", line, n_bytes);
}

json_t *t5_exchange_failure(const t5_exchange *x, unsigned http_status, const char *text)
{
    const char *key = error_key(x);
    const char *type = http_status < MHD_HTTP_INTERNAL_SERVER_ERROR ? "invalid_request_error" : "server_error";
    if (strcmp(key, T5_ERROR_OPENAI) != 0) return json_pack("{s:s}", key, text);
    const bool is_model = http_status == MHD_HTTP_NOT_FOUND && x->path_route != NULL; /* the path itself is known */
    const char *code = is_model ? "model_not_found" : NULL;
    return json_pack("{s:{s:s, s:s, s:n, s:s?}}", "error", "message", text, "type", type, "param", "code", code);
}

void t5_exchange_fail_status(t5_exchange *x, unsigned http_status, const char *text)
{
    json_t *value = t5_exchange_failure(x, http_status, text);
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

const char *t5_exchange_explain(const t5_exchange *x, const t5_error *err)
{
    T5_ASSERT((size_t)err->status < T5_COUNT(failures));
    const char *text = failures[err->status].text;
    char quoted[2 * T5_ERROR_TEXT_MAX];
    if (text != NULL)
        t5_log(T5_LOG_ERROR, "request_failed id=\"%s\" path=%s at=%s:%d error=%s", x->id, x->path_route, err->file,
               err->line, t5_log_quote(quoted, sizeof quoted, err->text));
    return text != NULL ? text : err->text;
}

void t5_exchange_fail(t5_exchange *x, const t5_error *err)
{
    const char *text = t5_exchange_explain(x, err);
    if (err->retry_after_s > 0) x->retry_after_s = err->retry_after_s;
    t5_exchange_fail_status(x, failures[err->status].http_status, text);
}
