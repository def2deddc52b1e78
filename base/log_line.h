/* base/log_line.h: which lines the log wants and how one looks; private to base/. Any thread. */
#pragma once
#include "base/log.h"
#include <stdbool.h>
#include <stddef.h>

#define T5_LOG_TEXT_MAX 2048
#define T5_LOG_TIME_BYTES 32
/* A byte of text becomes three at most: U+FFFD in place of a broken one. */
#define T5_LOG_LINE_MAX (3 * T5_LOG_TEXT_MAX + 256)

/* Both are pure. They write one line with its newline into `out` and return its length. `text`: `event key=value
 * key="quoted" ...`, shorter than T5_LOG_TEXT_MAX, without control characters.
 * JSON: a bare value that is a plain number, true or false keeps its type, a quoted one is always a string; what is not
 * of that form from some place on becomes the field "text". Invalid UTF-8 becomes U+FFFD. */
size_t t5_log_line_text(const char *time, const char *level, const char *text, char out[T5_LOG_LINE_MAX]);
size_t t5_log_line_json(const char *time, const char *level, const char *text, char out[T5_LOG_LINE_MAX]);

/* False: t5_log_set_level() drops events of that level. */
bool t5_log_is_wanted(t5_log_level level);
/* The line of an event that happens now, in the format of t5_log_set_format(), into `out`; returns its length, 0 when
 * its level is not wanted. `text` as above. */
size_t t5_log_make_line(t5_log_level level, const char *text, char out[T5_LOG_LINE_MAX]);
