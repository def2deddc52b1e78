/* server/early_stop.h: signals to stop that come while the models are opened. That can take minutes and cannot be
 * broken off, and nobody has been promised anything yet: whoever runs the process may end it. The main thread calls. */
#pragma once
#include "base/error.h"
#include <signal.h>

typedef struct t5_early_stop t5_early_stop;

/* From now on `stop` is called, once and on a thread of its own, when one of `signals` comes, which are blocked in
 * every thread. Should waiting for them fail, they stay for the caller to take afterwards. */
t5_status t5_early_stop_create(const sigset_t *signals, void (*stop)(void), t5_early_stop **out, t5_error *err);
/* Waits for a `stop` that runs. What has come meanwhile, and comes from now on, is the caller's. Accepts NULL. */
void t5_early_stop_destroy(t5_early_stop *s);
