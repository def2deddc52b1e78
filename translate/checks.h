/* translate/checks.h: how a translation shows that the decoder lost its way. Pure functions; any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* True when a stretch of at most 32 tokens follows itself three times or more, and that for ten tokens: a loop. */
bool t5_check_repeats(const int32_t *ids, int32_t n_ids);
/* True for a text that is more than three times as wide as its source, and a line more. Wide characters, which say as
 * much as a syllable or a word, count as three. */
bool t5_check_is_too_long(const char *source, size_t source_bytes, const char *text, size_t n_bytes);
/* True for a text with U+FFFD, which stands for bytes that are no character, when its source has none. */
bool t5_check_is_broken(const char *source, size_t source_bytes, const char *text, size_t n_bytes);
/* True when `text` is its source, which has three words or more; fewer are often a name. */
bool t5_check_is_echo(const char *source, size_t source_bytes, const char *text, size_t n_bytes);
/* Share of the words of `text` that are words of `source`, 0 to 1; 0 without words. */
double t5_check_likeness(const char *source, size_t source_bytes, const char *text, size_t n_bytes);
