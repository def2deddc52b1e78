/* server/exchange.h: inside of t5_http and t5_exchange; private to http.c, exchange.c and exchange_fields.c. */
#pragma once
#include "server/acceptor.h"
#include "server/http.h"
#include "server/watch.h"
#include <microhttpd.h>
#include <stdatomic.h>

struct t5_http {
    t5_http_options options;
    struct MHD_Daemon *daemon;
    t5_watch *watch;
    t5_acceptor *acceptor; /* NULL after t5_http_drain() */
    char url[160];
    atomic_bool is_draining;
    atomic_int n_connections;
    atomic_int n_exchanges;  /* received and not completely answered */
    atomic_bool is_stopping; /* no more work may begin */
    atomic_int n_working;    /* in a route's hands, maybe suspended: libmicrohttpd must not be stopped */
};

typedef enum {
    T5_EXCHANGE_RECEIVING,
    T5_EXCHANGE_WORKING, /* handle was called; suspended, or about to reply */
    T5_EXCHANGE_REPLIED, /* a response is queued */
} t5_exchange_phase;

/* Owned by libmicrohttpd's thread for its connection; a suspended one by whoever will resume it. */
struct t5_exchange {
    t5_http *http;
    struct MHD_Connection *connection;
    t5_watched *watched;
    const t5_http_route *route; /* NULL: no such path, or not with this method */
    const char *path_route;     /* the path, when some route has it */
    bool is_options;
    t5_exchange_phase phase;
    bool is_suspended;
    bool is_too_large; /* a chunked body passed the limit */
    bool must_close;
    int64_t started_ns;
    unsigned http_status;
    const char *const *headers; /* of the route's own: name, value, ..., NULL */
    char *body;
    size_t body_bytes, body_capacity;
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
