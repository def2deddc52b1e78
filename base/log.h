/* base/log.h: one line per event, `event key=value ...`, to stderr. Any thread. No user text at the default level.
 * Values that come from outside are quoted and escaped by the caller through t5_log_quote(). */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

typedef enum { T5_LOG_ERROR, T5_LOG_WARN, T5_LOG_INFO, T5_LOG_DEBUG } t5_log_level;

/* Events above `level` are dropped. The default is T5_LOG_INFO. Call before threads start. */
void t5_log_set_level(t5_log_level level);
/* "error", "warn", "info", "debug" -> level. False when `name` is none of them. */
bool t5_log_parse_level(const char *name, t5_log_level *out);
/* Writes "2026-01-02T03:04:05.678Z info " + text + "\n" with one write(2). A full disk or closed stderr is ignored. */
void t5_log(t5_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Copies `text` into `out` as "..." with quotes, backslashes and control bytes escaped, cut to fit. Returns `out`. */
const char *t5_log_quote(char *out, size_t out_bytes, const char *text);

T5_C_END
