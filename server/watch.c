/* server/watch.c: see watch.h. The thread ticks; while a request is worked on it ticks faster and polls. Polling with a
 * zero timeout under the lock costs microseconds for hundreds of sockets and leaves no stale event to guard against,
 * which an epoll set would. */
#include "server/watch.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/timed_cond.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_MS 500 /* deadlines */
#define POLL_MS 20  /* clients that may have left, or that linger */
#define LINGER_MS 5000
#define LINGERING_MAX 64 /* each holds a file descriptor */
#define DROP_BYTES (1 << 20)

struct t5_watched {
    int fd;
    int64_t deadline_ms; /* 0: none */
    bool is_working;     /* between begin_work and end_work */
    bool is_gone;
    bool must_linger;           /* when it ends */
    bool is_lingering;          /* it has ended; fd is our own copy */
    void (*on_gone)(void *ctx); /* NULL: not awaited */
    void *ctx;
    t5_watched *prev, *next;
};

struct t5_watch {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards everything below and every t5_watched */
    pthread_cond_t wake;   /* is_stopping was set, or the first connection awaits its end */
    bool is_stopping;
    t5_watched *first;
    int32_t n_awaited, n_lingering;
    struct pollfd *polls; /* [polls_max] */
    t5_watched **polled;  /* [polls_max] whose */
    int32_t polls_max;
};

static void call_gone(t5_watch *w, t5_watched *c)
{
    void (*on_gone)(void *ctx) = c->on_gone;
    c->on_gone = NULL;
    w->n_awaited--;
    on_gone(c->ctx);
}

static void poll_gone(t5_watch *w)
{
    nfds_t n = 0;
    for (t5_watched *c = w->first; c != NULL && (int32_t)n < w->polls_max; c = c->next) {
        if (c->on_gone == NULL) continue;
        w->polls[n] = (struct pollfd){.fd = c->fd, .events = POLLRDHUP};
        w->polled[n++] = c;
    }
    if (n == 0 || poll(w->polls, n, 0) <= 0) return;
    for (nfds_t i = 0; i < n; i++) {
        if ((w->polls[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) continue;
        w->polled[i]->is_gone = true;
        call_gone(w, w->polled[i]);
    }
}

static void unlink_watched(t5_watch *w, t5_watched *c)
{
    if (c->prev != NULL) c->prev->next = c->next;
    if (c->prev == NULL) w->first = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
}

/* Drops what has arrived, without copying it. Frees the connections whose client is done or out of time. */
static void drop_lingering(t5_watch *w, int64_t now_ms)
{
    t5_watched *next = NULL;
    for (t5_watched *c = w->first; c != NULL; c = next) {
        next = c->next;
        if (!c->is_lingering) continue;
        ssize_t n = recv(c->fd, NULL, DROP_BYTES, MSG_TRUNC | MSG_DONTWAIT);
        bool is_open = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
        if (is_open && now_ms < c->deadline_ms) continue;
        close(c->fd);
        unlink_watched(w, c);
        w->n_lingering--;
        free(c);
    }
}

static void sweep_deadlines(t5_watch *w, int64_t now_ms)
{
    for (t5_watched *c = w->first; c != NULL; c = c->next) {
        if (c->is_lingering || c->deadline_ms == 0 || now_ms < c->deadline_ms) continue;
        shutdown(c->fd, SHUT_RDWR);
        c->deadline_ms = 0;
    }
}

static void *run(void *arg)
{
    t5_watch *w = arg;
    int64_t swept_ms = 0;
    pthread_mutex_lock(&w->mutex);
    while (!w->is_stopping) {
        const int64_t tick_ms = w->n_awaited + w->n_lingering > 0 ? POLL_MS : TICK_MS;
        t5_timed_cond_wait(&w->wake, &w->mutex, t5_clock_ms() + tick_ms);
        int64_t now_ms = t5_clock_ms();
        if (w->n_awaited > 0) poll_gone(w);
        if (w->n_lingering > 0) drop_lingering(w, now_ms);
        if (now_ms - swept_ms < TICK_MS) continue;
        sweep_deadlines(w, now_ms);
        swept_ms = now_ms;
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static void init_locks(t5_watch *w)
{
    pthread_mutex_init(&w->mutex, NULL);
    t5_timed_cond_init(&w->wake);
}

static void release(t5_watch *w)
{
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w->polls);
    free(w->polled);
    free(w);
}

t5_status t5_watch_create(int32_t connections_max, t5_watch **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_watch *w = calloc(1, sizeof *w);
    if (w == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "watch: %zu bytes", sizeof *w);
    init_locks(w);
    w->polls_max = connections_max;
    w->polls = calloc((size_t)connections_max, sizeof *w->polls);
    w->polled = calloc((size_t)connections_max, sizeof(t5_watched *));
    if (w->polls == NULL || w->polled == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "watch: %d connections", connections_max);
    } else if (pthread_create(&w->thread, NULL, run, w) != 0) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "watch: cannot start a thread");
    }
    if (status != T5_OK) {
        release(w);
        return status;
    }
    *out = w;
    return T5_OK;
}

void t5_watch_destroy(t5_watch *w)
{
    if (w == NULL) return;
    pthread_mutex_lock(&w->mutex);
    w->is_stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    if (w->n_lingering > 0) drop_lingering(w, INT64_MAX);
    T5_ASSERT(w->first == NULL);
    release(w);
}

t5_watched *t5_watch_open(t5_watch *w, int fd, int64_t deadline_ms)
{
    t5_watched *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->fd = fd;
    c->deadline_ms = deadline_ms;
    pthread_mutex_lock(&w->mutex);
    c->next = w->first;
    if (w->first != NULL) w->first->prev = c;
    w->first = c;
    pthread_mutex_unlock(&w->mutex);
    return c;
}

void t5_watch_close(t5_watch *w, t5_watched *c)
{
    pthread_mutex_lock(&w->mutex);
    T5_ASSERT(c->on_gone == NULL && !c->is_lingering);
    int copy = c->must_linger && w->n_lingering < LINGERING_MAX ? fcntl(c->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy >= 0) {
        c->fd = copy;
        c->is_lingering = true;
        c->deadline_ms = t5_clock_ms() + LINGER_MS;
        if (w->n_lingering++ == 0) pthread_cond_signal(&w->wake);
    } else {
        unlink_watched(w, c);
    }
    pthread_mutex_unlock(&w->mutex);
    if (copy < 0) free(c);
}

void t5_watch_linger(t5_watch *w, t5_watched *c)
{
    pthread_mutex_lock(&w->mutex);
    c->must_linger = true;
    pthread_mutex_unlock(&w->mutex);
}

void t5_watch_set_deadline(t5_watch *w, t5_watched *c, int64_t deadline_ms)
{
    pthread_mutex_lock(&w->mutex);
    c->deadline_ms = deadline_ms;
    pthread_mutex_unlock(&w->mutex);
}

void t5_watch_begin_work(t5_watch *w, t5_watched *c)
{
    pthread_mutex_lock(&w->mutex);
    T5_ASSERT(!c->is_working);
    c->is_working = true;
    c->is_gone = false;
    c->deadline_ms = 0;
    pthread_mutex_unlock(&w->mutex);
}

void t5_watch_await_gone(t5_watch *w, t5_watched *c, void (*on_gone)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&w->mutex);
    if (c->is_working) {
        c->on_gone = on_gone;
        c->ctx = ctx;
        if (w->n_awaited++ == 0) pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->mutex);
}

void t5_watch_end_work(t5_watch *w, t5_watched *c)
{
    pthread_mutex_lock(&w->mutex);
    T5_ASSERT(c->is_working);
    c->is_working = false;
    if (c->on_gone != NULL) {
        c->on_gone = NULL;
        w->n_awaited--;
    }
    pthread_mutex_unlock(&w->mutex);
}

bool t5_watch_is_gone(t5_watch *w, t5_watched *c)
{
    pthread_mutex_lock(&w->mutex);
    bool is_gone = c->is_gone;
    pthread_mutex_unlock(&w->mutex);
    return is_gone;
}

void t5_watch_give_up(t5_watch *w)
{
    pthread_mutex_lock(&w->mutex);
    for (t5_watched *c = w->first; c != NULL; c = c->next)
        if (c->on_gone != NULL) call_gone(w, c);
    pthread_mutex_unlock(&w->mutex);
}
