/* base/workers.c: see workers.h. */
#include "base/workers.h"
#include "base/assert.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct t5_workers {
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;   /* something waits, or is_stopping */
    t5_work *first, *last;
    bool is_stopping;
    int32_t n_threads;
    pthread_t threads[];
};

/* Waits for the next. NULL: the pool stops. */
static t5_work *take(t5_workers *w)
{
    pthread_mutex_lock(&w->mutex);
    while (w->first == NULL && !w->is_stopping)
        pthread_cond_wait(&w->wake, &w->mutex);
    t5_work *work = w->first;
    if (work != NULL) w->first = work->next;
    if (w->first == NULL) w->last = NULL;
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
    work->next = is_first ? w->first : NULL;
    if (is_first || w->last == NULL) {
        w->first = work;
    } else {
        w->last->next = work;
    }
    if (work->next == NULL) w->last = work;
    pthread_cond_signal(&w->wake);
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
    pthread_cond_init(&w->wake, NULL);
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
    T5_ASSERT(w->first == NULL);
    w->is_stopping = true;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    for (int32_t i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
