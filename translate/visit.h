/* translate/visit.h: text to text on one model of a catalog. The order of calls and their threads are those of a
 * generation (generation.h):
 *
 *   t5_visit_start -> (on_progress: t5_visit_read) -> (on_done) -> t5_visit_finish -> t5_visit_generation -> destroy */
#pragma once
#include "translate/catalog.h"
#include "translate/generation.h"

typedef struct t5_visit t5_visit;

/* As t5_generation_start(), with texts alone: no ids. A model that is closed is opened first; then what goes wrong is
 * told by t5_visit_finish(). */
t5_status t5_visit_start(t5_catalog *c, int32_t i_model, const t5_generation_request *request, t5_visit **out,
                         t5_error *err);
t5_status t5_visit_read(t5_visit *v, t5_piece *out, t5_error *err); /* as t5_generation_read() */
t5_status t5_visit_finish(t5_visit *v, t5_error *err);              /* as t5_generation_finish() */
/* After finish: the results. */
const t5_generation *t5_visit_generation(const t5_visit *v);
/* After finish: the tokenizer of the model, until the visit is destroyed. */
const t5_tokenizer *t5_visit_tokenizer(const t5_visit *v);
void t5_visit_cancel(t5_visit *v);  /* as t5_generation_cancel() */
void t5_visit_destroy(t5_visit *v); /* accepts NULL; on_done must have been called */
