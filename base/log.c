/* base/log.c: makes lines; see log.h. A line is built on the stack and handed on whole, so that lines of threads do not
 * mix. Level and format are atomics: they may change while others log. */
#include "base/log.h"
#include "base/log_line.h"
#include "base/log_writer.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int level_max = T5_LOG_INFO;
static atomic_int format_now = T5_LOG_TEXT;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void t5_log_set_level(t5_log_level level)
{
    atomic_store(&level_max, (int)level);
}

void t5_log_set_format(t5_log_format format)
{
    atomic_store(&format_now, (int)format);
}

bool t5_log_parse_level(const char *name, t5_log_level *out)
{
    for (size_t i = 0; i < T5_COUNT(level_names); i++) {
        if (strcmp(name, level_names[i]) != 0) continue;
        *out = (t5_log_level)i;
        return true;
    }
    return false;
}

/* "2026-01-02T03:04:05.678Z": the wall clock, which serves people only. */
static void format_time(char out[T5_LOG_TIME_BYTES])
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out, T5_LOG_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + n, T5_LOG_TIME_BYTES - n, ".%03ldZ", now.tv_nsec / 1000000);
}

static void emit(const char *line, size_t n_bytes)
{
    if (t5_log_writer_push(line, n_bytes)) return;
    ssize_t n_written = write(STDERR_FILENO, line, n_bytes);
    (void)n_written; /* there is nowhere to report a log that cannot be written */
}

static bool is_wanted(t5_log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

size_t t5_log_make_line(t5_log_level level, const char *text, char out[T5_LOG_LINE_MAX])
{
    char time[T5_LOG_TIME_BYTES];
    if (!is_wanted(level)) return 0;
    format_time(time);
    bool is_json = atomic_load_explicit(&format_now, memory_order_relaxed) == T5_LOG_JSON;
    return is_json ? t5_log_line_json(time, level_names[level], text, out)
                   : t5_log_line_text(time, level_names[level], text, out);
}

void t5_log(t5_log_level level, const char *format, ...)
{
    if (!is_wanted(level)) return;
    char text[T5_LOG_TEXT_MAX], line[T5_LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    int n_text = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n_text < 0) return;
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = ' ';
    size_t n = t5_log_make_line(level, text, line);
    if (n > 0) emit(line, n);
}

void t5_log_plain(const char *text)
{
    char line[T5_LOG_TEXT_MAX];
    int n = snprintf(line, sizeof line - 1, "%s", text);
    size_t n_bytes = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    line[n_bytes++] = '\n';
    emit(line, n_bytes);
}

const char *t5_log_quote(char *out, size_t out_bytes, const char *text)
{
    size_t n = 0;
    out[n++] = '"';
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && n + 6 < out_bytes; p++) {
        if (*p == '"' || *p == '\\') {
            out[n++] = '\\';
            out[n++] = (char)*p;
        } else if (*p < 0x20 || *p == 0x7f) {
            n += (size_t)snprintf(out + n, out_bytes - n, "\\x%02x", *p);
        } else {
            out[n++] = (char)*p;
        }
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
