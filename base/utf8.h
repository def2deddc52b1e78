/* base/utf8.h: checks and walks UTF-8 text, which has a length and may contain NUL. Any thread.
 * Valid means RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

#define T5_UTF8_REPLACEMENT 0xFFFDu

/* Length of the longest valid prefix of whole characters; n_bytes when all of the text is valid. */
size_t t5_utf8_valid_prefix(const char *text, size_t n_bytes);
bool t5_utf8_is_valid(const char *text, size_t n_bytes);
/* Reads the character at `text` (n_bytes >= 1 are left) and returns its length in bytes. A broken one gives U+FFFD and
 * the length of its longest well-formed start, at least 1: what Unicode and Python replace by one U+FFFD. */
size_t t5_utf8_next(const char *text, size_t n_bytes, uint32_t *out_code);
/* Bytes of the byte order mark that the text begins with: 3, or 0. Some editors begin a file with one. */
size_t t5_utf8_mark(const char *text, size_t n_bytes);
/* Writes a code point as 1 to 4 bytes. */
size_t t5_utf8_put(uint32_t code, char out[4]);
/* Code points of the text; a broken character counts as one. */
size_t t5_utf8_count(const char *text, size_t n_bytes);
/* Length of the longest prefix of at most `bytes_max` bytes that does not cut a character of valid text in two. */
size_t t5_utf8_cut(const char *text, size_t n_bytes, size_t bytes_max);
/* A malloc'ed, NUL-terminated copy with each broken character replaced by U+FFFD; the caller frees it. */
t5_status t5_utf8_repair(const char *text, size_t n_bytes, char **out_text, size_t *out_bytes, t5_error *err);

/* Unicode's White_Space: spaces of all widths, tab, line and paragraph ends. */
bool t5_utf8_is_space(uint32_t code);
/* LF, VT, FF, CR, NEL, line and paragraph separator. */
bool t5_utf8_is_line_end(uint32_t code);
/* Makes each of them as many spaces as it has bytes. */
void t5_utf8_flatten(char *text, size_t n_bytes);
/* Bytes of white space at the start, and at the end of the text. Both are n_bytes when there is nothing else. */
size_t t5_utf8_leading_space(const char *text, size_t n_bytes);
size_t t5_utf8_trailing_space(const char *text, size_t n_bytes);

T5_C_END
