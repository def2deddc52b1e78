/* translate/join.h: puts translated sentences back in their places. Any thread. */
#pragma once
#include "translate/plan.h"

/* The two sentences that meet at the start of span `i_span` get a space between them, which the source has not. */
bool t5_join_needs_space(const t5_text *text, const t5_plan *plan, size_t i_span);
/* Bytes of a translation of span `span` of `text` that stand in its place: without the white space at its end, and,
 * when the sentence goes on behind the span, without the dots that a model likes to put there. */
size_t t5_join_bytes(const char *text, const t5_span *span, const char *translation, size_t n_bytes);
/* The text with each sentence replaced by its i_result-th best translation (its last, when it has fewer): malloc'ed,
 * NUL-terminated, the caller frees it. What stands between the sentences is copied byte for byte. */
t5_status t5_join(const t5_text *text, const t5_plan *plan, const t5_units *units, int32_t i_result, char **out,
                  size_t *out_bytes, t5_error *err);
