/* translate/text_reader.h: one text of a request, read while its sentences are translated. The sentence that comes
 * first is read as its tokens become certain, those behind it, and any with placeholders, when it is over; what stands
 * between them is copied. A text with markup is read when all of it is over. All that is read, put together, is what
 * t5_join() gives in the end. One thread at a time. */
#pragma once
#include "translate/live.h"
#include "translate/plan.h"

typedef struct {
    size_t i_span;         /* that is being read */
    bool is_begun;         /* something of it was read, if only its separator */
    bool has_text;         /* more than white space was read of it */
    t5_live_reader reader; /* of its sentence */
    t5_buffer held;        /* white space that is left out if nothing follows it in the sentence */
} t5_text_reader;          /* zeroed at the start */

void t5_text_reader_deinit(t5_text_reader *r); /* accepts a zeroed one */
/* Appends to `out` what is new. *out_is_over: that was all. */
t5_status t5_text_read(t5_text_reader *r, const t5_text *text, const t5_plan *plan, t5_units *units, t5_buffer *out,
                       bool *out_is_over, t5_error *err);
