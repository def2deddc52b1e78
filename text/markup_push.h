/* text/markup_push.h: how a t5_markup grows, for those who write one. Not for other folders. One thread at a time. */
#pragma once
#include "text/markup.h"

T5_C_BEGIN

/* Appends a mark at the end of the plain text so far. *capacity is the room in `marks`, 0 at first. T5_ERR_ARG for more
 * than T5_MARKUP_TAGS_MAX, T5_ERR_NOMEM. */
t5_status t5_markup_push_mark(t5_markup *m, int32_t *capacity, t5_mark mark, t5_error *err);
/* Takes back the space that the plain text ends with; the marks behind it move before it. */
void t5_markup_drop_space(t5_markup *m);

T5_C_END
