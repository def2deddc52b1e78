/* translate/second_round.h: looks at a request's sentences as they come from the engine, and has those translated again
 * whose translation fails a check, before the request is told that they are over. The device's thread looks at tokens
 * alone; whatever needs text is done on the translator's text thread.
 *
 *   device: t5_second_round_takes -> text thread: decode, check, submit -> device: done -> text thread: choose, end
 *
 * What is submitted again has the deadline of the request and waits in the same queue, at most one group of a request
 * at a time, so that a request does not get more turns than others. A full queue takes it all the same: what a request
 * gets must not depend on the others. A server that is stopping may refuse it; then the first translation stands, or,
 * when it lacks a placeholder, the sentence comes back as it is.
 */
#pragma once
#include "base/workers.h"
#include "translate/retry.h"

#include <pthread.h>

typedef struct {
    t5_retry_context context;
    t5_work work;
    bool may_search_again; /* a flaw of the search alone is a reason */
    atomic_int n_left;     /* sequences of `active` */
    pthread_mutex_t mutex;
    /* Guarded by mutex. */
    t5_unit *waiting, *waiting_last; /* over in the engine, not looked at yet; linked by `next` */
    t5_unit *active;                 /* being translated again; linked by `next` */
    bool is_scheduled;               /* `work` is pushed, or will be when `active` is over */
    bool is_cancelled;
} t5_second_round;

/* The context is borrowed until deinit. */
void t5_second_round_init(t5_second_round *r, const t5_retry_context *context);
void t5_second_round_deinit(t5_second_round *r); /* all sequences are over */
/* t5_live.takes: true for a sentence that has to be looked at; t5_live_end() will be called for it. */
bool t5_second_round_takes(t5_live_sequence *s, void *round);
/* Any thread: what is being translated again is given up. */
void t5_second_round_cancel(t5_second_round *r);
