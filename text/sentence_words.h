/* text/sentence_words.h: the words that decide about a dot before a capital letter or a digit, by language. Words are
 * in lower case; `language` is a public code, of which the part before "-" counts, or "". Not for other folders. Any
 * thread. */
#pragma once
#include "base/error.h"

T5_C_BEGIN

/* True when a dot after the word never ends a sentence: "mr", "z.b". */
bool t5_is_title(const char *language, const char *word);
/* True for a word that often starts a sentence and is seldom part of a name: "she", "the". */
bool t5_is_opener(const char *language, const char *word);
/* True when a number with a dot may be an ordinal: "am 3. Mai". */
bool t5_has_ordinals(const char *language);

T5_C_END
