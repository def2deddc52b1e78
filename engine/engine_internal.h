/* engine/engine_internal.h: the engine's state, shared by engine.c (the callers' side) and loop.c (the device thread).
 */
#pragma once
#include "engine/queue.h"
#include "engine/rate.h"

#include <pthread.h>

/* Threads: `mutex` guards the queue, the counters and the flags. It is never held while the batch works or while a
 * callback runs, and it is the only lock. The head of the queue is removed by the device thread alone, so it may look
 * at the head without the lock once it has seen it. */
struct t5_engine {
    /* The device thread's own. */
    t5_batch *batch;
    t5_sequence **running; /* [running_max] in order of admission */
    int32_t n_running, running_max;
    int32_t n_encoded;    /* the first n_encoded of them have been encoded */
    int64_t sweep_now_ms; /* time of the last look through the queue */
    int64_t turn_cost;    /* what was admitted in this turn */

    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t has_work; /* the queue is not empty any more, or is_stopping */
    pthread_cond_t is_idle;  /* n_pending is 0 */

    /* Guarded by mutex. */
    t5_queue queue;
    int32_t n_pending; /* accepted sequences whose on_done has not returned */
    bool is_refusing;  /* draining or stopping */
    bool is_stopping;
    t5_engine_stats stats; /* t5_engine_stats_get() fills in queue_depth, n_running and the histograms */
    t5_rate rate;          /* of admission */

    /* Atomic. */
    t5_histogram queue_wait_ns, encode_ns, step_ns, decode_ns, step_rows;
};

/* The device thread; `arg` is the engine. */
void *t5_engine_loop(void *arg);
/* What the batch needs to know of a sequence; pointers are borrowed from it. */
t5_batch_request t5_engine_request_of(const t5_sequence *seq);
