/* text/word_list.h: lists of words in one text, " each between spaces ". Not for other folders. Any thread. */
#pragma once
#include "base/error.h"

T5_C_BEGIN

/* True when `list` has the word, which is not "". */
bool t5_has_word(const char *list, const char *word);

T5_C_END
