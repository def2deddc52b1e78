/* model/memory.h: whether a model fits into a device's memory, before anything goes there. */
#pragma once
#include "model/batch.h"

T5_C_BEGIN

/* T5_ERR_NOMEM with both numbers when the weights in `dir` and a batch of `limits` need more than the device has free;
 * otherwise what opening the folder says. Always T5_OK on a backend without memory of its own. Allocates nothing on the
 * device. The thread that owns the backend. */
t5_status t5_memory_check(const char *dir, t5_backend *backend, const t5_batch_limits *limits, t5_error *err);

T5_C_END
