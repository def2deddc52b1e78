/* server/idle.h: gives back the memory of connections that wait for their client's next request.
 *
 * Why: between two requests libmicrohttpd writes zeros over all of a connection's memory (connection_bytes), used or
 * not, so that 10 000 connections of 64 kB that were used once would hold 640 MB. A page of zeros can go back to the
 * kernel at any time; it reads as zeros again when it is touched next. Only pages that are checked to be zeros go, and
 * only on the HTTP thread that runs their connection, so that nothing can be lost. HTTP threads only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A connection, in the list of those of its thread that wait. Zero it at the start; it must not move while it waits. */
typedef struct t5_idle t5_idle;
struct t5_idle {
    char *memory; /* NULL: not known, or not to be given back */
    size_t n_bytes;
    int64_t since_ms;
    bool is_looked_at; /* the first request has come */
    bool is_waiting;
    t5_idle *prev, *next;
};

/* A request's head has come: the connection waits no more. `start` is where its request line lies, `n_bytes` the size
 * of libmicrohttpd's memory for a connection. */
void t5_idle_begin(t5_idle *idle, int fd, const char *start, size_t n_bytes);
/* The request is done, at `now_ms` of t5_clock_ms(): the connection waits. Gives back memory of others that have waited
 * for a while; `is_crowded` says that it is worth it. */
void t5_idle_end(t5_idle *idle, int64_t now_ms, bool is_crowded);
/* The connection closes. */
void t5_idle_close(t5_idle *idle);
