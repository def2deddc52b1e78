/* base/workers.h: threads for what would hold up a thread that serves many: reading, tokenizing and joining large
 * requests, what goes on between two models, and checks of translations. Any thread may push.
 *
 * Why: an HTTP thread serves many connections, and a body of 2 MB takes it seconds; small requests, which are most,
 * must not wait for that. The queue needs no bound of its own: who pushes is in it once, and connections are bounded.
 */
#pragma once
#include "base/error.h"
#include <stdint.h>

typedef struct t5_workers t5_workers;

/* One thing to do; the caller's memory, until `run` was called. */
typedef struct t5_work t5_work;
struct t5_work {
    void (*run)(void *ctx); /* on a worker */
    void *ctx;
    /* The queue's; nobody else's. */
    t5_work *next, *previous;
    int64_t due_ms;
    bool is_delayed;
};

t5_status t5_workers_create(int32_t n_threads, t5_workers **out, t5_error *err);
/* Runs `work` soon. Any thread, a worker too. `is_first`: before what waits already. */
void t5_workers_push(t5_workers *w, t5_work *work, bool is_first);
/* Runs `work` at due_ms of t5_clock_ms(), INT64_MAX for never, or when it is hurried. Any thread. */
void t5_workers_push_at(t5_workers *w, t5_work *work, int64_t due_ms);
/* Runs soon what waits for its time; nothing when it does not, or has not been pushed since it was zeroed. Any thread.
 */
void t5_workers_hurry(t5_workers *w, t5_work *work);
void t5_workers_destroy(t5_workers *w); /* accepts NULL; nothing may wait or be pushed any more */
