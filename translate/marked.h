/* translate/marked.h: a text with markup on its way through a request: its plain text is planned and translated as any
 * other, and in the end put back among its tags, where the alignment of the tokens says. Any thread. */
#pragma once
#include "translate/plan.h"

/* Parses the text into plan->markup; *out_plain is what is to be translated. T5_ERR_ARG: too many tags. */
t5_status t5_marked_open(const t5_text *text, t5_sayings *sayings, t5_plan *plan, t5_text *out_plain, t5_error *err);
/* t5_sentences_split() for the plain text: also where line ends are no sentence ends, tags that end one do. */
t5_status t5_marked_split(t5_plan *plan, t5_split split, t5_error *err);
/* The units of sentences with tags among their words will be aligned. */
t5_status t5_marked_locate(const t5_plan *plan, t5_units *units, t5_error *err);

/* Every sentence of the text is over and has its results. */
bool t5_marked_is_over(const t5_plan *plan, const t5_units *units);
/* Appends the translated text with its tags. All its sentences must be over. */
t5_status t5_marked_join(const t5_plan *plan, const t5_units *units, t5_buffer *out, t5_error *err);
