/* base/timed_cond.c: see timed_cond.h. */
#include "base/timed_cond.h"

#include <time.h>

void t5_timed_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(c, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void t5_timed_cond_wait(pthread_cond_t *c, pthread_mutex_t *mutex, int64_t ms)
{
    const struct timespec until = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    if (ms == INT64_MAX)
        pthread_cond_wait(c, mutex);
    else
        pthread_cond_timedwait(c, mutex, &until);
}
