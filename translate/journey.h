/* translate/journey.h: a translation by the models of a catalog. Each text goes the way that its languages need:
 * through one model, or through two of them with English in between; the texts of a request may go different ways. The
 * order of calls and their threads are those of a translation (translator.h):
 *
 *   t5_journey_start -> (on_progress: t5_journey_read) -> (on_done) -> t5_journey_finish -> get -> destroy
 *
 * What is read along is the last translation of a text; of the one before nothing is told. */
#pragma once
#include "translate/catalog.h"

typedef struct t5_journey t5_journey;

/* As t5_translation_start(). Of request->decoding those options count whose bits (t5_decoding_bit) are among `given`;
 * the others are the defaults of each model. Alternatives, and suppress_tokens, are for the last translation of a text.
 * With texts that go different ways only what goes wrong before the first of them starts is told here; the rest by
 * t5_journey_finish(). */
t5_status t5_journey_start(t5_catalog *c, const t5_translation_request *request, uint32_t given, t5_journey **out,
                           t5_error *err);
/* As t5_translation_read(). */
t5_status t5_journey_read(t5_journey *j, t5_piece *out, t5_error *err);
/* As t5_translation_finish(): the first way that failed is the error. */
t5_status t5_journey_finish(t5_journey *j, t5_error *err);
const t5_translated *t5_journey_get(const t5_journey *j, int32_t i_text);
/* The language in between, or NULL. */
const char *t5_journey_pivot(const t5_journey *j, int32_t i_text);
void t5_journey_usage(const t5_journey *j, t5_usage *out); /* after finish; of all translations, also in between */
void t5_journey_cancel(t5_journey *j);                     /* as t5_translation_cancel() */
void t5_journey_destroy(t5_journey *j);                    /* accepts NULL; on_done must have been called */
