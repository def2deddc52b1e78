/* base/timed_cond.h: condition variables whose waits end by the monotonic clock, t5_clock_ms(): a wall clock that is
 * set ends no wait and prolongs none. Signal and destroy them as any other. */
#pragma once
#include <pthread.h>
#include <stdint.h>

void t5_timed_cond_init(pthread_cond_t *c);
/* Waits for a signal, or until t5_clock_ms() is `ms`; INT64_MAX: for a signal alone. It may also end for no reason. */
void t5_timed_cond_wait(pthread_cond_t *c, pthread_mutex_t *mutex, int64_t ms);
