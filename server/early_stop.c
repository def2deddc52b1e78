/* server/early_stop.c: see early_stop.h. The thread looks at signals through a file descriptor and takes none, so that
 * one which comes as it ends is not lost. */
#include "server/early_stop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct t5_early_stop {
    pthread_t thread;
    int end_fd;    /* readable when the thread must end */
    int signal_fd; /* readable when a signal has come */
    void (*stop)(void);
};

static void *run(void *arg)
{
    const t5_early_stop *s = arg;
    struct pollfd polls[] = {{.fd = s->end_fd, .events = POLLIN}, {.fd = s->signal_fd, .events = POLLIN}};
    int n_ready;
    do {
        n_ready = poll(polls, T5_COUNT(polls), -1);
    } while (n_ready < 0 && errno == EINTR);
    if (n_ready > 0 && polls[0].revents == 0) s->stop();
    return NULL;
}

static void release(t5_early_stop *s)
{
    if (s->end_fd >= 0) close(s->end_fd);
    if (s->signal_fd >= 0) close(s->signal_fd);
    free(s);
}

t5_status t5_early_stop_create(const sigset_t *signals, void (*stop)(void), t5_early_stop **out, t5_error *err)
{
    t5_early_stop *s = calloc(1, sizeof *s);
    if (s == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "early stop: %zu bytes", sizeof *s);
    s->stop = stop;
    s->end_fd = eventfd(0, EFD_CLOEXEC);
    s->signal_fd = signalfd(-1, signals, SFD_CLOEXEC);
    if (s->end_fd < 0 || s->signal_fd < 0 || pthread_create(&s->thread, NULL, run, s) != 0) {
        release(s);
        return T5_FAIL(err, T5_ERR_NOMEM, "early stop: cannot start a thread");
    }
    *out = s;
    return T5_OK;
}

void t5_early_stop_destroy(t5_early_stop *s)
{
    if (s == NULL) return;
    eventfd_write(s->end_fd, 1);
    pthread_join(s->thread, NULL);
    release(s);
}
