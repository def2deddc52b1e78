/* tests/engine_wait.h: waiting for an engine, which the programs never do: they are told. */
#pragma once
#include "engine/engine.h"

/* Submits and waits for the end; uses the sequence's on_done and ctx. */
t5_status engine_run(t5_engine *e, t5_sequence *seq, t5_error *err);
/* Waits until nothing waits or runs. False when that takes longer than `ms`. */
bool engine_wait_idle(t5_engine *e, int64_t ms);
