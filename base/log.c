/* base/log.c: see log.h. A line is built on the stack and written at once, so that lines of threads do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static t5_log_level level_max = T5_LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void t5_log_set_level(t5_log_level level)
{
    level_max = level;
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

void t5_log(t5_log_level level, const char *format, ...)
{
    if (level > level_max) return;
    char line[1024];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s ", now.tv_nsec / 1000000, level_names[level]);
    va_list args;
    va_start(args, format);
    int n_text = vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    n += n_text < 0 ? 0 : (size_t)n_text;
    if (n > sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    ssize_t n_written = write(STDERR_FILENO, line, n);
    (void)n_written; /* there is nowhere to report a log that cannot be written */
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
