/* text/entities.h: characters that markup writes by name or number. Any thread. */
#pragma once
#include "text/markup.h"

T5_C_BEGIN

/* Length of the entity at `text`, which begins with "&": "&amp;", "&#233;", "&#xE9;"; 0 when there is none, only the
 * character. *out_code is 0 for one that is not known, or that stands for no character of a text. XML knows five names.
 */
size_t t5_entity_read(const char *text, size_t n_bytes, t5_markup_kind kind, uint32_t *out_code);

T5_C_END
