/* tests/fake_batch.h: a stand-in for model/batch.c in tests of the engine. It does no arithmetic: a slot generates its
 * source backwards, one token a step. It checks the order in which the engine calls it, fails on command and can be
 * stopped before a step. Link tests/fake_batch.c into the test; its functions then stand for those of t5_model. */
#pragma once
#include "model/batch.h"

typedef enum { FAKE_CREATE, FAKE_CHECK, FAKE_ADMIT, FAKE_ENCODE, FAKE_STEP, FAKE_CUT, FAKE_N_OPS } fake_op;

/* No failure planned, no gate, counters at zero. */
void fake_batch_reset(void);
/* The i_call-th call of `op` from now on (0: the next) returns `status`. */
void fake_batch_fail(fake_op op, int i_call, t5_status status);
/* The next step waits until fake_batch_open_gate(); fake_batch_wait_at_gate() returns when it has got there. */
void fake_batch_close_gate(void);
void fake_batch_wait_at_gate(void);
void fake_batch_open_gate(void);
/* Calls f(ctx) in the next encoder pass, on the engine's thread, as something that happens meanwhile. */
void fake_batch_during_encode(void (*f)(void *ctx), void *ctx);
/* Each step takes so long. */
void fake_batch_slow(int step_us);
/* Calls of `op` since the reset. */
int fake_batch_n_calls(fake_op op);
/* Batches that have made a step since the reset. */
int fake_batch_n_at_work(void);
/* The largest number of rows that ran together, and of source tokens in one encoder pass. */
int fake_batch_rows_peak(void);
int fake_batch_enc_tokens_peak(void);
