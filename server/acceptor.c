/* server/acceptor.c: see acceptor.h. */
#include "server/acceptor.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RETRY_MS 20     /* while there is no room, or no file descriptor, for another client */
#define HANDSHAKE_MS 50 /* for clients that have begun to connect when we stop */
/* What the kernel holds of replies that a client has not taken. Left to itself it takes up to 4 MB a client, and a few
 * hundred who read nothing use up the memory that it has for all connections. */
#define SEND_BUFFER_BYTES (256 * 1024)

struct t5_acceptor {
    pthread_t thread;
    int listen_fd;
    int stop_fd; /* readable when the thread must end */
    t5_acceptor_calls calls;
};

/* Takes one client. False when none waits, or none can be taken now (out of file descriptors or memory). */
static bool take_one(t5_acceptor *a)
{
    struct sockaddr_storage address;
    socklen_t n_bytes = sizeof address;
    int fd = accept4(a->listen_fd, (struct sockaddr *)&address, &n_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return errno == EINTR || errno == ECONNABORTED;
    a->calls.take(a->calls.ctx, fd, (struct sockaddr *)&address, n_bytes);
    return true;
}

/* From now on the kernel drops the first packet of new clients (TCP's SYN), which try again and are then refused.
 * Without this, one that connects between our last accept() and close() is reset with its request under way. The filter
 * sees packets from the TCP header on; byte 13 holds the flags, bit 1 of them is SYN. */
static void refuse_new_clients(int listen_fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog filter = {.len = T5_COUNT(code), .filter = code};
    /* Where it is not allowed a few clients may be reset, as everywhere else. */
    (void)setsockopt(listen_fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

/* Takes everybody who had begun to connect. */
static void take_last(t5_acceptor *a)
{
    const int64_t end_ms = t5_clock_ms() + HANDSHAKE_MS;
    refuse_new_clients(a->listen_fd);
    for (int64_t left_ms = HANDSHAKE_MS; left_ms > 0; left_ms = end_ms - t5_clock_ms()) {
        struct pollfd waiting = {.fd = a->listen_fd, .events = POLLIN};
        if (poll(&waiting, 1, (int)left_ms) <= 0) continue;
        while (take_one(a))
            ;
    }
}

static void *run(void *arg)
{
    t5_acceptor *a = arg;
    struct pollfd polls[] = {{.fd = a->stop_fd, .events = POLLIN}, {.fd = a->listen_fd, .events = POLLIN}};
    bool is_full = false;
    for (;;) {
        poll(polls, is_full ? 1 : 2, is_full ? RETRY_MS : -1);
        if (polls[0].revents != 0) break;
        bool has_more = true;
        while (has_more && a->calls.has_room(a->calls.ctx))
            has_more = take_one(a);
        is_full = has_more || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
    if (!a->calls.is_shared) take_last(a);
    return NULL;
}

t5_status t5_acceptor_create(int listen_fd, const t5_acceptor_calls *calls, t5_acceptor **out, t5_error *err)
{
    t5_acceptor *a = calloc(1, sizeof *a);
    if (a == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "acceptor: %zu bytes", sizeof *a);
    a->listen_fd = listen_fd;
    a->calls = *calls;
    const int n_bytes = SEND_BUFFER_BYTES; /* accepted sockets inherit it */
    (void)setsockopt(listen_fd, SOL_SOCKET, SO_SNDBUF, &n_bytes, sizeof n_bytes);
    a->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->stop_fd < 0 || pthread_create(&a->thread, NULL, run, a) != 0) {
        if (a->stop_fd >= 0) close(a->stop_fd);
        free(a);
        return T5_FAIL(err, T5_ERR_NOMEM, "acceptor: cannot start a thread");
    }
    *out = a;
    return T5_OK;
}

void t5_acceptor_destroy(t5_acceptor *a)
{
    if (a == NULL) return;
    eventfd_write(a->stop_fd, 1);
    pthread_join(a->thread, NULL);
    close(a->stop_fd);
    close(a->listen_fd);
    free(a);
}
