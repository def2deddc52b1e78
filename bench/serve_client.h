/* bench/serve_client.h: an HTTP/1.1 client that makes load: one thread, many keep-alive connections over epoll, one
 * request at a time on each. A connection is opened when a request finds none idle, and kept. Not for several threads.
 */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct t5_client t5_client;

typedef struct {
    unsigned http_status; /* 0: the connection broke, or what came was no HTTP */
    const char *body;     /* without chunk marks, NUL-terminated; valid during the callback */
    size_t body_bytes;
    int64_t first_ns, end_ns; /* t5_clock_ns() of the body's first byte and of the reply's end */
} t5_client_reply;

/* `tag` is what t5_client_send() was given. May send. */
typedef void (*t5_client_on_reply)(void *ctx, int64_t tag, const t5_client_reply *reply);

/* `host` is an IPv4 address. T5_ERR_ARG when it is not. Opens no connection yet. */
t5_status t5_client_create(const char *host, int32_t port, int32_t connections_max, t5_client **out, t5_error *err);
void t5_client_destroy(t5_client *c); /* accepts NULL; closes what is open, without a callback */
/* Sends a whole request, head and body, which is borrowed until its reply. False when all connections are busy. */
bool t5_client_send(t5_client *c, const char *request, size_t n_bytes, int64_t tag);
/* Deals with what has arrived, waiting for it until `until_ns` at most; returns after the first batch of events. */
void t5_client_poll(t5_client *c, int64_t until_ns, t5_client_on_reply on_reply, void *ctx);
/* Requests without a reply. */
int32_t t5_client_pending(const t5_client *c);
/* Closes the connections whose reply has not come: their requests are forgotten. */
void t5_client_forget(t5_client *c);
