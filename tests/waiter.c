/* tests/waiter.c: see waiter.h. */
#include "tests/waiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void waiter_done(void *ctx)
{
    waiter *w = ctx;
    pthread_mutex_lock(&w->mutex);
    w->n_done++;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

void waiter_wait(waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    while (w->n_done == 0)
        pthread_cond_wait(&w->changed, &w->mutex);
    const int n_done = w->n_done;
    pthread_mutex_unlock(&w->mutex);
    assert_int_equal(n_done, 1);
}
