/* engine/engine_internal.h: the engine's state, shared by engine.c (the callers' side) and loop.c (the device threads).
 */
#pragma once
#include "engine/queue.h"
#include "engine/speed.h"

#include <pthread.h>

/* One device: the batch of its model, and the thread that runs it. */
typedef struct {
    t5_engine *engine;
    int32_t i_device;
    pthread_t thread;

    /* The thread's own. */
    t5_batch *batch;
    t5_sequence **running; /* [running_max] in order of admission */
    int32_t n_running, running_max;
    int32_t n_encoded;                    /* the first n_encoded of them have been encoded */
    int64_t turn_cost;                    /* what was admitted in this turn */
    int64_t turn_tokens, turn_tokens_max; /* of sources that were encoded in this turn */

    t5_batch_memory memory; /* constant */

    /* Written by the thread, under the engine's mutex. */
    bool is_lost;
    int32_t n_rows_running;
    t5_kv_usage kv;
    int64_t n_nonfinite;
    t5_speed rate; /* of admission, while something waits */
} t5_worker;

/* Threads: `mutex` guards the queue, the counters and the flags. It is never held while a batch works or while a
 * callback runs, and it is the only lock. */
struct t5_engine {
    t5_worker *workers; /* [n_workers] one per device */
    int32_t n_workers;
    int32_t n_started; /* of their threads; create and destroy alone look */

    pthread_mutex_t mutex;
    pthread_cond_t has_work; /* the queue is not empty any more, or is_stopping */

    /* Guarded by mutex. */
    t5_queue queue;
    int32_t n_pending;    /* accepted sequences whose on_done has not returned */
    int32_t n_live;       /* devices that are not lost */
    int64_t sweep_now_ms; /* time of the last look through the queue */
    bool is_stopping;
    double run_s;          /* from admission to the end, a mean of the last sequences */
    t5_engine_stats stats; /* counters and is_lost; t5_engine_stats_get() fills in the rest */

    /* Atomic. */
    t5_histogram queue_wait_ns, encode_ns, step_ns, decode_ns, step_rows;
};

/* A device's thread; `arg` is its worker. */
void *t5_engine_loop(void *arg);
/* What the batch needs to know of a sequence; pointers are borrowed from it. */
t5_batch_request t5_engine_request_of(const t5_sequence *seq);
