/* engine/results.h: moves the results of a finished slot out of the batch into its sequence. */
#pragma once
#include "engine/engine.h"

/* Fills seq->outputs from slot seq->slot, which is done. One allocation holds all of it; T5_ERR_NOMEM goes to
 * seq->error. Returns the number of target tokens copied. Device thread. */
int32_t t5_results_copy(const t5_batch *batch, t5_sequence *seq);
