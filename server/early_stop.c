/* server/early_stop.c: see early_stop.h. The thread looks at signals through a file descriptor and takes none, so that
 * one which comes as it ends is not lost. */
#include "server/early_stop.h"
#include "base/log.h"
#include "server/systemd.h"

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
};

static void *run(void *arg)
{
    const t5_early_stop *s = arg;
    struct pollfd polls[] = {{.fd = s->end_fd, .events = POLLIN}, {.fd = s->signal_fd, .events = POLLIN}};
    while (poll(polls, T5_COUNT(polls), -1) < 0)
        ;
    if (polls[0].revents != 0) return NULL;
    t5_systemd_notify("STOPPING=1");
    t5_log(T5_LOG_INFO, "stopped text=\"the models were still being opened\"");
    t5_log_stop();
    _exit(EXIT_SUCCESS);
}

static void release(t5_early_stop *s)
{
    if (s->end_fd >= 0) close(s->end_fd);
    if (s->signal_fd >= 0) close(s->signal_fd);
    free(s);
}

t5_status t5_early_stop_create(const sigset_t *signals, t5_early_stop **out, t5_error *err)
{
    t5_early_stop *s = calloc(1, sizeof *s);
    if (s == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "early stop: %zu bytes", sizeof *s);
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
