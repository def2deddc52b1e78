/* base/log.h: one line per event, `event key=value ...`, to stderr, as text or as JSON. Any thread. No user text at the
 * default level. Values that come from outside are quoted and escaped by the caller through t5_log_quote(). */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

typedef enum { T5_LOG_ERROR, T5_LOG_WARN, T5_LOG_INFO, T5_LOG_DEBUG } t5_log_level;
typedef enum { T5_LOG_TEXT, T5_LOG_JSON } t5_log_format;

/* Events above `level` are dropped. The default is T5_LOG_INFO. At any time. */
void t5_log_set_level(t5_log_level level);
/* Text is the default: "2026-01-02T03:04:05.678Z info listening port=5000". JSON has the same fields under their names:
 * {"time":"2026-01-02T03:04:05.678Z","level":"info","event":"listening","port":5000}. At any time. */
void t5_log_set_format(t5_log_format format);
/* "error", "warn", "info", "debug" -> level. False when `name` is none of them. */
bool t5_log_parse_level(const char *name, t5_log_level *out);

/* Writes one line; control characters become spaces, more than 2 kB are cut. A full disk or closed stderr is ignored;
 * the write may wait for a pipe that nobody reads, unless t5_log_start() was called. */
void t5_log(t5_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes `text` and a newline as they are, the same way: a program's last words. */
void t5_log_plain(const char *text);
/* Copies `text` into `out` as "..." with quotes, backslashes and control bytes escaped, cut to fit. Returns `out`. */
const char *t5_log_quote(char *out, size_t out_bytes, const char *text);

/* From now on lines go through a buffer of bounded size to a thread that writes them, so that no t5_log() ever waits
 * for a disk or a pipe. What does not fit, or cannot be written, is dropped and counted; a line `log_dropped lines=N`
 * says so as soon as the log can be written again. */
t5_status t5_log_start(t5_error *err);
/* Writes what is buffered, for at most a second, and ends the thread. Nothing when it was not started. */
void t5_log_stop(void);
/* Lines dropped since the start. */
int64_t t5_log_dropped(void);

T5_C_END
