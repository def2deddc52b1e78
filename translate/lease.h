/* translate/lease.h: the use of one model of a catalog. While somebody has a lease the model is not closed; one that is
 * closed is opened first, and who wants it waits. Not for other folders. */
#pragma once
#include "base/workers.h"
#include "translate/catalog.h"

typedef struct t5_lease t5_lease;

/* Zeroed before the first use. */
struct t5_lease {
    t5_translator *translator; /* from T5_OK until the lease is given back; else NULL */
    /* The catalog's own. */
    t5_catalog *catalog;
    int32_t i_model;
    t5_work work;
    t5_lease *next, *previous; /* who waits for the same model */
    bool is_waiting, is_refused;
};

/* *out_waits false: the model can be used. True: on_ready(ctx) will be called once, on a thread of the catalog: when it
 * is open, when it cannot be opened, at the deadline (0: none), or when the lease is hurried. T5_ERR_BUSY: it could not
 * be opened a moment ago. Any thread; waits for nothing. */
t5_status t5_lease_take(t5_catalog *c, int32_t i_model, int64_t deadline_ms, void (*on_ready)(void *ctx), void *ctx,
                        t5_lease *l, bool *out_waits, t5_error *err);
/* In on_ready: T5_OK when the model can be used, else why not: T5_ERR_BUSY, T5_ERR_TIMEOUT. */
t5_status t5_lease_check(t5_lease *l, t5_error *err);
/* Whoever waits need not wait any longer. Any thread. */
void t5_lease_hurry(t5_lease *l); /* accepts a zeroed one */
/* Gives the model back. on_ready must have been called if it was to come. */
void t5_lease_return(t5_lease *l); /* accepts a zeroed one */
