/* engine/run.c: t5_engine_run(), submit and wait in one call, over the public functions of engine.h. */
#include "engine/engine.h"

#include <pthread.h>

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_done; /* guarded by mutex */
} t5_waiter;

static void wake_waiter(t5_sequence *seq, void *ctx)
{
    (void)seq;
    t5_waiter *waiter = ctx;
    pthread_mutex_lock(&waiter->mutex);
    waiter->is_done = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

t5_status t5_engine_run(t5_engine *e, t5_sequence *seq, t5_error *err)
{
    t5_waiter waiter = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    seq->on_done = wake_waiter;
    seq->ctx = &waiter;
    t5_status status = t5_engine_submit(e, seq, err);
    if (status == T5_OK) {
        pthread_mutex_lock(&waiter.mutex);
        while (!waiter.is_done)
            pthread_cond_wait(&waiter.cond, &waiter.mutex);
        pthread_mutex_unlock(&waiter.mutex);
        status = seq->error.status;
        if (status != T5_OK) *err = seq->error;
    }
    pthread_cond_destroy(&waiter.cond);
    pthread_mutex_destroy(&waiter.mutex);
    return status;
}
