/* base/log.c: t5_log() and what a caller needs for it; see log.h. A line is built on the stack and handed on whole, so
 * that lines of threads do not mix. */
#include "base/log.h"
#include "base/log_line.h"
#include "base/log_writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void emit(const char *line, size_t n_bytes)
{
    if (t5_log_writer_push(line, n_bytes)) return;
    ssize_t n_written = write(STDERR_FILENO, line, n_bytes);
    (void)n_written; /* there is nowhere to report a log that cannot be written */
}

void t5_log(t5_log_level level, const char *format, ...)
{
    if (!t5_log_is_wanted(level)) return;
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
