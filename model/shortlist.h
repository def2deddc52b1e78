/* model/shortlist.h: what model/shortlist.c does for model/load.c. */
#pragma once
#include "model/model.h"

/* Frees every list of a model that is being closed. */
void t5_model_close_shortlists(t5_model *m);
