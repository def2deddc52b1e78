/* server/early_stop.h: signals to stop that come while the models are opened. That can take minutes and cannot be
 * broken off, and nobody has been promised anything yet: the process ends at once, with 0. The main thread calls. */
#pragma once
#include "base/error.h"
#include <signal.h>

typedef struct t5_early_stop t5_early_stop;

/* From now on the process ends when one of `signals` comes, which are blocked in every thread. */
t5_status t5_early_stop_create(const sigset_t *signals, t5_early_stop **out, t5_error *err);
/* What has come meanwhile, and comes from now on, is the caller's to take. Accepts NULL. */
void t5_early_stop_destroy(t5_early_stop *s);
