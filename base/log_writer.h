/* base/log_writer.h: the thread behind t5_log_start(); private to base/. */
#pragma once
#include "base/log.h"
#include "base/log_line.h"
#include <stdbool.h>
#include <stddef.h>

/* Takes a line of at most T5_LOG_LINE_MAX bytes, or drops and counts it; never waits. False when no writer runs: the
 * caller writes. Any thread. */
bool t5_log_writer_push(const char *line, size_t n_bytes);

/* Of log.c: makes the line of an event that happens now, in the format of now; returns its length, 0 when events of
 * that level are not wanted. Any thread. */
size_t t5_log_make_line(t5_log_level level, const char *text, char out[T5_LOG_LINE_MAX]);
