/* server/watch.h: a thread that watches connections for what libmicrohttpd does not: requests that take too long to
 * arrive, and clients that leave while their request is being worked on.
 *
 * Why: its timeout counts inactivity only, so that a byte a second holds a connection for ever; and a suspended
 * connection is not looked at at all. Past its deadline a socket is shut down, which libmicrohttpd then sees as the
 * client's end. A client that left shows as POLLRDHUP; one that only closed its sending half counts as gone too, as
 * with nginx. One mutex guards everything; callbacks run under it and must be short. Any thread may call. */
#pragma once
#include "base/error.h"
#include <stdint.h>

typedef struct t5_watch t5_watch;     /* all connections of a server */
typedef struct t5_watched t5_watched; /* one of them */

t5_status t5_watch_create(int32_t connections_max, t5_watch **out, t5_error *err);
void t5_watch_destroy(t5_watch *w); /* accepts NULL; no connection may be open */

/* A connection begins: `fd` is shut down at `deadline_ms` of t5_clock_ms(), 0: never. NULL when out of memory. */
t5_watched *t5_watch_open(t5_watch *w, int fd, int64_t deadline_ms);
/* It ends; call before its fd is closed. */
void t5_watch_close(t5_watch *w, t5_watched *c);
/* When it ends, what the client still sends is read and dropped for a while. Otherwise the kernel answers it with a
 * reset, and a client that sends a large body would lose the reply that told it to stop. */
void t5_watch_linger(t5_watch *w, t5_watched *c);
void t5_watch_set_deadline(t5_watch *w, t5_watched *c, int64_t deadline_ms);

/* Work on its request begins: no deadline from now on. */
void t5_watch_begin_work(t5_watch *w, t5_watched *c);
/* Calls on_gone(ctx) once if the client leaves before t5_watch_end_work(). Nothing when the work has ended already. */
void t5_watch_await_gone(t5_watch *w, t5_watched *c, void (*on_gone)(void *ctx), void *ctx);
/* After this returns on_gone is not called any more. Sets no deadline. */
void t5_watch_end_work(t5_watch *w, t5_watched *c);
/* True when the client left during the last work. */
bool t5_watch_is_gone(t5_watch *w, t5_watched *c);
/* Calls on_gone for each connection that awaits it, as if all clients had left. */
void t5_watch_give_up(t5_watch *w);
