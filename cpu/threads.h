/* cpu/threads.h: a pool that runs numbered tasks on several threads and waits for all of them.
 *
 * Made for calls of a few microseconds, hundreds of them per decode step: workers look out for work for a short while
 * before they sleep, and a call never waits for a worker that is still asleep, only for tasks that were begun. A worker
 * whose core another process wants too takes about its share of it, and does not work on the caller's core, so that a
 * busy neighbour does not make many threads slower than one. One thread at a time may call run; tasks must not. */
#pragma once
#include "base/error.h"
#include "base/limits.h"
#include <stdint.h>

T5_C_BEGIN

typedef struct t5_threads t5_threads;

/* `i_thread` is below n_threads and differs between tasks that run at the same time: for scratch. */
typedef void t5_task(void *ctx, int32_t i_task, int32_t i_thread);

/* n_threads, at most T5_THREADS_MAX, counts the caller: n_threads - 1 workers are started. 0: one per core that this
 * process may use, by its affinity and by the quota of its control groups: more threads than that would be stopped
 * half-way through a step. */
t5_status t5_threads_create(int32_t n_threads, t5_threads **out, t5_error *err);
void t5_threads_destroy(t5_threads *threads); /* accepts NULL */
int32_t t5_threads_count(const t5_threads *threads);
/* Runs task(ctx, 0 .. n_tasks - 1) in any order and returns when all are done. A thread takes its own share first, as
 * many tasks as any other's, neighbours: what tasks of the same place in each call read and write stays in one core's
 * cache. */
void t5_threads_run(t5_threads *threads, int32_t n_tasks, t5_task *task, void *ctx);

T5_C_END
