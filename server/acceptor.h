/* server/acceptor.h: the thread that takes clients from the listening socket and hands them to the HTTP threads.
 *
 * Why not leave that to libmicrohttpd: to stop listening it has MHD_quiesce_daemon(), which in 0.9.75 races with its
 * own epoll threads for the removal of the socket; under load about one stop in three hundred aborted the process. With
 * a thread of ours it is a join. It also keeps the limit of connections, and spreads them evenly. */
#pragma once
#include "base/error.h"
#include <sys/socket.h>

typedef struct t5_acceptor t5_acceptor;

typedef struct {
    bool (*has_room)(void *ctx); /* false: clients wait in the kernel's backlog */
    /* Owns `fd`, which does not block. */
    void (*take)(void *ctx, int fd, const struct sockaddr *address, socklen_t n_bytes);
    void *ctx;
    bool is_shared; /* somebody else listens on the socket too: who waits in its backlog at the end is theirs */
} t5_acceptor_calls;

/* Owns `listen_fd` on T5_OK only. The calls come from the acceptor's thread. */
t5_status t5_acceptor_create(int listen_fd, const t5_acceptor_calls *calls, t5_acceptor **out, t5_error *err);
/* Takes whom the kernel has connected already, so that they get an answer instead of a reset; then closes the socket.
 * Takes 50 ms. Accepts NULL. */
void t5_acceptor_destroy(t5_acceptor *a);
