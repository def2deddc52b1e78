/* translate/text_thread.c: see text_thread.h. */
#include "translate/text_thread.h"

#include "base/assert.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct t5_text_thread {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
    t5_text_job *first, *last; /* guarded by mutex */
    bool is_stopping;          /* guarded by mutex */
};

/* NULL: none is left, and none will come. */
static t5_text_job *wait_for_job(t5_text_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    while (t->first == NULL && !t->is_stopping)
        pthread_cond_wait(&t->has_work, &t->mutex);
    t5_text_job *job = t->first;
    if (job != NULL) t->first = job->next;
    pthread_mutex_unlock(&t->mutex);
    return job;
}

static void *run(void *arg)
{
    t5_text_thread *t = arg;
    for (t5_text_job *job; (job = wait_for_job(t)) != NULL;)
        job->run(job);
    return NULL;
}

/* Signals are the main thread's business. */
static int start(t5_text_thread *t)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

t5_status t5_text_thread_create(t5_text_thread **out, t5_error *err)
{
    t5_text_thread *t = calloc(1, sizeof *t);
    if (t == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "text thread: %zu bytes", sizeof *t);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->has_work, NULL);
    const int code = start(t);
    if (code != 0) {
        pthread_cond_destroy(&t->has_work);
        pthread_mutex_destroy(&t->mutex);
        free(t);
        return T5_FAIL(err, T5_ERR_NOMEM, "cannot start a text thread (error %d)", code);
    }
    pthread_setname_np(t->thread, "t5-text");
    *out = t;
    return T5_OK;
}

void t5_text_thread_destroy(t5_text_thread *t)
{
    if (t == NULL) return;
    pthread_mutex_lock(&t->mutex);
    t->is_stopping = true;
    pthread_cond_signal(&t->has_work);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    T5_ASSERT(t->first == NULL);
    pthread_cond_destroy(&t->has_work);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

void t5_text_thread_push(t5_text_thread *t, t5_text_job *job)
{
    pthread_mutex_lock(&t->mutex);
    T5_ASSERT(!t->is_stopping);
    job->next = NULL;
    *(t->first != NULL ? &t->last->next : &t->first) = job;
    t->last = job;
    pthread_cond_signal(&t->has_work);
    pthread_mutex_unlock(&t->mutex);
}
