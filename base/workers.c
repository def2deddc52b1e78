/* base/workers.c: see workers.h. */
#include "base/workers.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/timed_cond.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct t5_workers {
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;   /* something waits, or is_stopping */
    t5_work *first, *last;
    t5_work *delayed; /* first of those that wait for their time, in no order */
    bool is_stopping;
    int32_t n_threads;
    pthread_t threads[];
};

/* Under the lock, as what follows. */
static void append(t5_workers *w, t5_work *work, bool is_first)
{
    work->next = is_first ? w->first : NULL;
    if (is_first || w->last == NULL) {
        w->first = work;
    } else {
        w->last->next = work;
    }
    if (work->next == NULL) w->last = work;
}

/* Its time has come. */
static void make_due(t5_workers *w, t5_work *work)
{
    if (work->previous != NULL) work->previous->next = work->next;
    if (work->previous == NULL) w->delayed = work->next;
    if (work->next != NULL) work->next->previous = work->previous;
    work->is_delayed = false;
    append(w, work, false);
}

/* When the next of the delayed ones is due, INT64_MAX for never; those that are due move into the queue. */
static int64_t look_at_delayed(t5_workers *w)
{
    int64_t first_ms = INT64_MAX;
    const int64_t now_ms = w->delayed != NULL ? t5_clock_ms() : 0;
    t5_work *next = NULL;
    for (t5_work *work = w->delayed; work != NULL; work = next) {
        next = work->next;
        if (work->due_ms <= now_ms)
            make_due(w, work);
        else if (work->due_ms < first_ms)
            first_ms = work->due_ms;
    }
    return first_ms;
}

/* Waits for the next. NULL: the pool stops. */
static t5_work *take(t5_workers *w)
{
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        const int64_t due_ms = look_at_delayed(w);
        if (w->first != NULL || w->is_stopping) break;
        t5_timed_cond_wait(&w->wake, &w->mutex, due_ms);
    }
    t5_work *work = w->first;
    if (work != NULL) w->first = work->next;
    if (w->first == NULL) w->last = NULL;
    if (w->first != NULL) pthread_cond_signal(&w->wake); /* several may have become due at once */
    pthread_mutex_unlock(&w->mutex);
    return work;
}

static void *run(void *arg)
{
    t5_workers *w = arg;
    for (t5_work *work = take(w); work != NULL; work = take(w))
        work->run(work->ctx); /* the last touch: its memory may be gone now */
    return NULL;
}

void t5_workers_push(t5_workers *w, t5_work *work, bool is_first)
{
    pthread_mutex_lock(&w->mutex);
    T5_ASSERT(!w->is_stopping);
    append(w, work, is_first);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

void t5_workers_push_at(t5_workers *w, t5_work *work, int64_t due_ms)
{
    pthread_mutex_lock(&w->mutex);
    T5_ASSERT(!w->is_stopping);
    work->due_ms = due_ms;
    work->is_delayed = true;
    work->previous = NULL;
    work->next = w->delayed;
    if (w->delayed != NULL) w->delayed->previous = work;
    w->delayed = work;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

void t5_workers_hurry(t5_workers *w, t5_work *work)
{
    pthread_mutex_lock(&w->mutex);
    if (work->is_delayed) {
        make_due(w, work);
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->mutex);
}

/* Signals are the main thread's business. */
static int start(t5_workers *w, pthread_t *out)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(out, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

t5_status t5_workers_create(int32_t n_threads, t5_workers **out, t5_error *err)
{
    t5_workers *w = calloc(1, sizeof *w + (size_t)n_threads * sizeof w->threads[0]);
    if (w == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "workers: out of memory for %d threads", n_threads);
    pthread_mutex_init(&w->mutex, NULL);
    t5_timed_cond_init(&w->wake);
    for (; w->n_threads < n_threads; w->n_threads++) {
        if (start(w, &w->threads[w->n_threads]) == 0) continue;
        t5_workers_destroy(w);
        return T5_FAIL(err, T5_ERR_NOMEM, "workers: cannot start %d threads", n_threads);
    }
    *out = w;
    return T5_OK;
}

void t5_workers_destroy(t5_workers *w)
{
    if (w == NULL) return;
    pthread_mutex_lock(&w->mutex);
    T5_ASSERT(w->first == NULL && w->delayed == NULL);
    w->is_stopping = true;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    for (int32_t i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
