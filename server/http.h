/* server/http.h: HTTP/1.1 over libmicrohttpd: connections, bodies, limits, and requests that wait for work elsewhere.
 * Knows nothing of translation: a table of routes says who answers what.
 *
 * A request goes   received -> route->handle -> reply
 * or, when the answer comes from another thread,
 *                  received -> route->handle: t5_exchange_suspend(), start the work
 *                  -> (any thread: t5_exchange_resume()) -> route->finish -> reply
 * handle and finish run on an HTTP thread, those of a large request on a worker (workers.h), and must not wait. While
 * it is suspended, route->cancel is called once if the client leaves, or if the server gives up waiting; resume must
 * still come.
 *
 * Each request has an id: the client's X-Request-Id when it is short and plain, else one of ours. Every reply names it.
 *
 * Limits: body (413), head (414, 431 by libmicrohttpd), time to receive, connections. Ambiguous heads that a proxy may
 * read differently than we do are refused (guard.h). */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct t5_http t5_http;
typedef struct t5_exchange t5_exchange; /* a request and its reply */

/* The forms of an error. OpenAI's is {"error": {"message": "text", "type": .., "param": null, "code": null}}; DeepL's
 * replies also carry X-Trace-ID. */
#define T5_ERROR_LIBRETRANSLATE "error"
#define T5_ERROR_DEEPL "message"
#define T5_ERROR_OPENAI "error.message"

typedef struct {
    const char *method; /* "GET" answers HEAD too */
    const char *path;   /* a last * stands for one character or more: t5_exchange_path() */
    /* Errors are {"<error_key>": "text"}, but for T5_ERROR_OPENAI. A path without a route takes that of its folder:
     * that of /v2/translate for /v2/nothing. */
    const char *error_key;
    bool is_work; /* refused with 503 while draining */
    void (*handle)(t5_exchange *x, void *server);
    void (*finish)(t5_exchange *x, void *server); /* NULL when handle never suspends */
    void (*cancel)(t5_exchange *x);               /* any thread, under a lock: must be short */
    void (*release)(void *state);                 /* frees what t5_exchange_set_state() was given */
} t5_http_route;

struct sockaddr;

/* What there is to say about a request that ended. */
typedef struct {
    const char *id;
    const t5_http_route *route;                        /* NULL: no such path, or not with this method */
    const char *method;                                /* one of HTTP's own; "other" in place of a client's invention */
    const char *path;                                  /* of a route; NULL: no route has it */
    unsigned status;                                   /* 0: the client left before there was an answer */
    int64_t ns;                                        /* since its head arrived */
    int64_t bytes_in, bytes_out;                       /* of the bodies */
    int64_t n_texts, n_source_tokens, n_target_tokens; /* -1: not known */
    const struct sockaddr *client;                     /* NULL: not known */
} t5_http_summary;

typedef struct {
    int listen_fd;  /* of listen.h; ours on T5_OK */
    bool is_shared; /* others may accept from it too */
    bool is_tls;    /* HTTPS, with what t5_tls_use() was given */
    int32_t n_threads, n_workers, connections_max, receive_timeout_ms;
    int64_t request_timeout_ms; /* for work, from the end of its body to its answer; 0: none */
    size_t connection_bytes, body_bytes_max;
    const char *cors_origin; /* "": no CORS headers */
    const char *path_prefix; /* "", or "/folder" in front of every path; what lies elsewhere is sent there */
    const t5_http_route *routes;
    int32_t n_routes;
    void *server; /* handed to the routes */
    /* T5_ERR_BUSY when work with that deadline (t5_clock_ms(); 0: none) is to be turned away before it is read: under
     * overload that is most of it. HTTP thread. */
    t5_status (*check_room)(void *server, int64_t deadline_ms, t5_error *err);
    void (*observe)(void *server, const t5_http_summary *summary); /* after each request; HTTP thread */
} t5_http_options;

/* Listens and serves. The options' pointers must outlive it. T5_ERR_IO: the address cannot be used. */
t5_status t5_http_start(const t5_http_options *options, t5_http **out, t5_error *err);
/* Changes what the options said; requests that have begun keep what they began with. Any thread. */
void t5_http_set_limits(t5_http *h, int64_t request_timeout_ms, size_t body_bytes_max);
/* "http://127.0.0.1:5000": with the real port. Lives as long as `h`. */
const char *t5_http_url(const t5_http *h);
/* Stops listening; what was received keeps its right to an answer, further work gets 503 and every reply closes. */
void t5_http_drain(t5_http *h);
bool t5_http_is_draining(const t5_http *h);
/* Requests received and not fully answered. */
int32_t t5_http_pending(const t5_http *h);
/* Requests received since the start, answered or not. */
int64_t t5_http_begun(const t5_http *h);
/* Connections that are open, idle ones too. */
int32_t t5_http_connections(const t5_http *h);
/* Calls route->cancel for every suspended request. */
void t5_http_give_up(t5_http *h);
/* After t5_http_drain(): closes all connections and frees. False, and nothing done, while a request is suspended:
 * libmicrohttpd would abort. Accepts NULL. */
bool t5_http_stop(t5_http *h);

/* What handle and finish use, on the thread that runs them; only resume comes from any thread. */
const t5_http *t5_exchange_http(const t5_exchange *x);
void t5_exchange_set_state(t5_exchange *x, void *state); /* freed by route->release when the exchange ends */
void *t5_exchange_state(const t5_exchange *x);
const char *t5_exchange_path(const t5_exchange *x); /* without path_prefix */
const char *t5_exchange_body(const t5_exchange *x, size_t *out_bytes);
const char *t5_exchange_header(const t5_exchange *x, const char *name); /* or NULL */
/* The value of a header that is a list, which may stand in several lines: joined with commas, in `out`, which it
 * returns. Of what is too long the end is kept. "": no such header. */
const char *t5_exchange_list(const t5_exchange *x, const char *name, char *out, size_t out_bytes);
const char *t5_exchange_id(const t5_exchange *x);
/* Whom the connection is from; NULL when that is not known. */
const struct sockaddr *t5_exchange_peer(const t5_exchange *x);
/* t5_clock_ms() when the answer to this work comes too late: the client's X-Request-Timeout-Ms or request_timeout_ms,
 * whichever ends first. 0: none. */
int64_t t5_exchange_deadline_ms(const t5_exchange *x);
/* For the summary; -1: not known. */
void t5_exchange_set_usage(t5_exchange *x, int64_t n_texts, int64_t n_source_tokens, int64_t n_target_tokens);

struct json_t;
/* The fields of the request: JSON, or query and form together (*out_is_form). In a form a name counts once, but for
 * `repeated` (NULL: none), which is an array. T5_ERR_ARG: not readable. The caller owns *out. */
t5_status t5_exchange_fields(t5_exchange *x, const char *repeated, struct json_t **out, bool *out_is_form,
                             t5_error *err);

/* Headers for the reply, besides those that every reply has: name, value, ..., NULL. Static texts. */
void t5_exchange_set_headers(t5_exchange *x, const char *const *headers);
/* For a 429 or 503: when it is worth asking again, 1 or more. */
void t5_exchange_set_retry_after(t5_exchange *x, int32_t s);
/* Exactly one of these ends an exchange. */
void t5_exchange_reply(t5_exchange *x, unsigned http_status, const char *content_type, char *body, size_t n_bytes);
void t5_exchange_reply_json(t5_exchange *x, unsigned http_status, const struct json_t *value);
/* {"error": "..."} with the HTTP status of err->status. 503 comes with Retry-After, which is err->retry_after_s if
 * that is known. */
void t5_exchange_fail(t5_exchange *x, const t5_error *err);
void t5_exchange_fail_status(t5_exchange *x, unsigned http_status, const char *text);

void t5_exchange_suspend(t5_exchange *x);
void t5_exchange_resume(t5_exchange *x); /* any thread; the last touch of that thread */
