/* tests/engine_wait.c: see engine_wait.h. */
#include "engine_wait.h"

#include "base/clock.h"

#include <pthread.h>

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_done; /* guarded by mutex */
} waiter;

static void wake_waiter(t5_sequence *seq, void *ctx)
{
    (void)seq;
    waiter *w = ctx;
    pthread_mutex_lock(&w->mutex);
    w->is_done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mutex);
}

t5_status engine_run(t5_engine *e, t5_sequence *seq, t5_error *err)
{
    waiter w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    seq->on_done = wake_waiter;
    seq->ctx = &w;
    t5_status status = t5_engine_submit(e, seq, err);
    if (status == T5_OK) {
        pthread_mutex_lock(&w.mutex);
        while (!w.is_done)
            pthread_cond_wait(&w.cond, &w.mutex);
        pthread_mutex_unlock(&w.mutex);
        status = seq->error.status;
        if (status != T5_OK) *err = seq->error;
    }
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.mutex);
    return status;
}

bool engine_wait_idle(t5_engine *e, int64_t ms)
{
    const struct timespec nap = {.tv_nsec = 200000};
    const int64_t until_ms = t5_clock_ms() + ms;
    t5_engine_stats stats;
    for (;;) {
        t5_engine_stats_get(e, &stats);
        if (stats.queue_depth + stats.n_running == 0) return true;
        if (t5_clock_ms() > until_ms) return false;
        nanosleep(&nap, NULL);
    }
}
