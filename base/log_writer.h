/* base/log_writer.h: the thread behind t5_log_start(); private to base/. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Takes a line of at most T5_LOG_LINE_MAX bytes, or drops and counts it; never waits. False when no writer runs: the
 * caller writes. Any thread. */
bool t5_log_writer_push(const char *line, size_t n_bytes);
