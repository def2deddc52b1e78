/* engine/queue.h: the bounded FIFO of sequences that wait for a place in the batch.
 *
 * Why bounded: waiting costs a client less when it is refused early than when it is timed out late. The list runs
 * through t5_sequence.next, so that queueing allocates nothing. It has no lock of its own: the engine's lock guards it
 * together with the counters that must agree with it. */
#pragma once
#include "engine/engine.h"

typedef struct {
    t5_sequence *first, *last;
    int32_t depth, depth_max;
    int64_t cost; /* of all that wait, see t5_sequence_cost() */
} t5_queue;

void t5_queue_init(t5_queue *q, int32_t depth_max);
/* Appends all or none, in order. T5_ERR_BUSY when they do not fit now, T5_ERR_ARG when they never will. */
t5_status t5_queue_push_all(t5_queue *q, t5_sequence *const *seqs, int32_t n_seqs, t5_error *err);
/* Removes the first sequence; the queue must not be empty. */
t5_sequence *t5_queue_pop(t5_queue *q);
/* Removes every sequence that is cancelled or past its deadline; returns them in order, linked by `next`. */
t5_sequence *t5_queue_take_given_up(t5_queue *q, int64_t now_ms);
/* Removes everything; returns it in order, linked by `next`. */
t5_sequence *t5_queue_take_all(t5_queue *q);

/* True when nobody wants the sequence any more; its `error` and `is_late` then say why. */
bool t5_sequence_is_given_up(t5_sequence *seq, int64_t now_ms);
/* Positions that it computes at most: what it takes from the others. */
int64_t t5_sequence_cost(const t5_sequence *seq);
