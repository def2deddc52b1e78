/* engine/queue.h: the bounded queue of sequences that wait for a place in the batch, fair between requests.
 *
 * Why bounded: waiting costs a client less when it is refused early than when it is timed out late.
 *
 * Why fair: a request of thousands of sentences must not hold up one of a single sentence, and no stream of small
 * requests may starve a large one. What enters together is a group, which waits in its own order. Of four places three
 * go to the groups in turn, one sequence each, the oldest first, and one goes to the oldest group. So single sequences
 * come in order of age; a newcomer waits for one turn of those before it, however much they have; and the oldest has a
 * fourth of all places, whatever arrives.
 *
 * The lists run through the sequences, so that queueing allocates nothing. It has no lock of its own: the engine's lock
 * guards it together with the counters that must agree with it. */
#pragma once
#include "engine/engine.h"

typedef struct {
    t5_sequence *first, *last; /* the first of each group, in order of age */
    t5_sequence *turn;         /* the group whose turn it is; NULL: the oldest again */
    uint32_t n_taken;          /* places given so far: every fourth goes to the oldest */
    int32_t depth, depth_max;  /* sequences; those that are is_again may exceed it */
    int32_t n_groups;          /* that they belong to */
    int64_t cost;              /* of all that wait, see t5_sequence_cost() */
} t5_queue;

void t5_queue_init(t5_queue *q, int32_t depth_max);
/* Appends a group, all or none. T5_ERR_BUSY when it does not fit now, T5_ERR_ARG when it never will; one that is_again
 * always fits. */
t5_status t5_queue_push_all(t5_queue *q, t5_sequence *const *seqs, int32_t n_seqs, t5_error *err);
/* About what is taken up until a new group of n_seqs is through: of each group before it as many sequences, and one
 * more in four of the oldest; at most what waits, and as much again that may come and take its turns. */
double t5_queue_cost_until(const t5_queue *q, int32_t n_seqs);
/* Who gets the next place; NULL when nobody waits. */
t5_sequence *t5_queue_first(const t5_queue *q);
/* Removes that sequence; the queue must not be empty. */
t5_sequence *t5_queue_pop(t5_queue *q);
/* Removes every sequence that is cancelled or past its deadline; returns them linked by `next`, each group in order. */
t5_sequence *t5_queue_take_given_up(t5_queue *q, int64_t now_ms);
/* Removes everything; returns it linked by `next`, each group in order. */
t5_sequence *t5_queue_take_all(t5_queue *q);

/* True when nobody wants the sequence any more; its `error` and `is_late` then say why. */
bool t5_sequence_is_given_up(t5_sequence *seq, int64_t now_ms);
/* Positions that it computes at most: what it takes from the others. */
int64_t t5_sequence_cost(const t5_sequence *seq);
