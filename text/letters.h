/* text/letters.h: whether a text has something of a language in it. Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* True when some character of the text is a letter, of any script; digits, signs and white space are none. */
bool t5_text_has_letter(const char *text, size_t n_bytes);

T5_C_END
