/* tests/waiter.h: waits for the on_done of one request, which the programs never do: they are told. */
#pragma once
#include <pthread.h>

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int n_done; /* guarded by mutex */
} waiter;

#define WAITER_INIT \
    { \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER \
    }

/* The request's on_done; its ctx is the waiter. Any thread. */
void waiter_done(void *ctx);
/* Returns when the request is done; fails the cmocka test when it was told so twice. */
void waiter_wait(waiter *w);
