/* tests/async_backend.h: makes the reference backend look like a device that runs behind the host, so that the running
 * batch's look-ahead is tested without a GPU: outcomes appear only after the wait, encoder passes take several polls,
 * steps are padded. */
#pragma once
#include "model/backend.h"

/* Gives `b` asynchronous operations. One such backend at a time. */
void async_backend_wrap(t5_backend *b);
/* How often a step was padded, an outcome was read late and an encoder pass was found unfinished: a test must see them.
 */
typedef struct {
    int32_t n_padded, n_late, n_unfinished;
} async_backend_counts;
async_backend_counts async_backend_counts_get(void);
/* From now on (or no longer) each poll of the encoder fails as on a lost device. */
void async_backend_lose(bool is_lost);
