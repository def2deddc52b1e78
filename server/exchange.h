/* server/exchange.h: inside of t5_http and t5_exchange; private to http.c, exchange*.c and reply.c. */
#pragma once
#include "base/workers.h"
#include "server/acceptor.h"
#include "server/head.h"
#include "server/http.h"
#include "server/watch.h"
#include <microhttpd.h>
#include <stdatomic.h>

struct t5_http {
    t5_http_options options; /* but for these two, which may change */
    _Atomic int64_t request_timeout_ms;
    atomic_size_t body_bytes_max;
    struct MHD_Daemon *daemon;
    t5_watch *watch;
    t5_workers *workers;
    t5_acceptor *acceptor; /* NULL after t5_http_drain() */
    char url[160];
    char home[T5_PATH_PREFIX_MAX + 2]; /* path_prefix and a slash */
    const char *home_headers[3];       /* Location: home, NULL */
    atomic_bool is_draining;
    atomic_int n_connections;
    int64_t full_ms;         /* the acceptor's: when the log was told last that there is no room; 0: never */
    atomic_int n_exchanges;  /* received and not completely answered */
    _Atomic int64_t n_begun; /* of them, those that were answered too */
    atomic_bool is_stopping; /* no more work may begin */
    atomic_int n_working;    /* in a route's hands, maybe parked: libmicrohttpd must not be stopped */
    atomic_int n_resuming;   /* threads within MHD_resume_connection(): the same */
};

typedef enum {
    T5_EXCHANGE_RECEIVING,
    T5_EXCHANGE_WORKING, /* handle was called, or will be on a worker */
    T5_EXCHANGE_REPLIED, /* a response is queued */
} t5_exchange_phase;

/* Owned by libmicrohttpd's thread for its connection. While it is parked libmicrohttpd leaves the connection alone, and
 * the owner is who holds it: the worker that runs handle or finish, or whoever will call t5_exchange_resume(). */
struct t5_exchange {
    t5_http *http;
    struct MHD_Connection *connection;
    t5_watched *watched;
    const t5_http_route *route; /* NULL: no such path, or not with this method */
    const char *path;           /* without path_prefix; libmicrohttpd's */
    const char *path_route;     /* that of a route which has it */
    const char *method;         /* see t5_http_summary */
    char id[T5_REQUEST_ID_BYTES];
    bool is_options;
    bool is_elsewhere; /* not below path_prefix */
    t5_exchange_phase phase;
    bool is_large;      /* handle and finish run on a worker */
    bool is_parked;     /* libmicrohttpd's connection is suspended, or was and waits for t5_exchange_advance() */
    bool is_awaiting;   /* between t5_exchange_suspend() and finish */
    atomic_int n_holds; /* who must let go before a parked exchange moves on: handle's worker, t5_exchange_resume() */
    t5_work work;       /* its place in the queue of the workers */
    bool is_too_large;  /* a chunked body passed the limit */
    bool must_close;
    int64_t started_ns;
    int64_t deadline_ms;
    int32_t retry_after_s;
    unsigned http_status;
    struct MHD_Response *response; /* made on a worker, to be queued by the HTTP thread */
    const char *const *headers;    /* of the route's own: name, value, ..., NULL */
    char *body;
    size_t body_bytes_max; /* the limit when its head arrived */
    size_t body_bytes, body_capacity, reply_bytes;
    int64_t n_texts, n_source_tokens, n_target_tokens;
    void *state;
};

/* A request whose head has arrived, on `connection`. NULL when out of memory. */
t5_exchange *t5_exchange_create(t5_http *h, struct MHD_Connection *connection);
void t5_exchange_destroy(t5_exchange *x);
/* The head is complete: finds the route; answers what must not wait for a body. */
enum MHD_Result t5_exchange_begin(t5_exchange *x, const char *path, const char *method);
/* A piece of the body. MHD_NO: no memory, the connection must close. */
enum MHD_Result t5_exchange_append(t5_exchange *x, const char *bytes, size_t n_bytes);
/* The body is complete, or the exchange was resumed. MHD_NO: the connection must close. */
enum MHD_Result t5_exchange_advance(t5_exchange *x);
/* Queues x->response, on the HTTP thread. */
void t5_exchange_send(t5_exchange *x);
/* Ends an exchange as t5_exchange_reply() does, with any response, which it takes over. */
void t5_exchange_answer(t5_exchange *x, unsigned http_status, const char *content_type, struct MHD_Response *response);
/* What a client is told of an error; one of our own failures is logged. Lives as long as `err`. */
const char *t5_exchange_explain(const t5_exchange *x, const t5_error *err);
/* The JSON of a failure in the form of its API; NULL when out of memory. */
struct json_t *t5_exchange_failure(const t5_exchange *x, unsigned http_status, const char *text);
/* A suspended connection goes back to its HTTP thread, which may end the exchange at once. */
void t5_exchange_unpark(t5_http *h, struct MHD_Connection *connection);

/* How replies write JSON: what LibreTranslate sends. */
#define T5_REPLY_JSON (JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6))
