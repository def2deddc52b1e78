/* base/log_line.c: see log_line.h. JSON is made from the text, so that the many places that log write one form only and
 * a line says the same in both. Level and format are atomics: they may change while others log. */
#include "base/log_line.h"
#include "base/utf8.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NUMBER_BYTES_MAX 15 /* what a double holds exactly */

static atomic_int level_max = T5_LOG_INFO;
static atomic_int format_now = T5_LOG_TEXT;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* --- a line --- */

size_t t5_log_line_text(const char *time, const char *level, const char *text, char out[T5_LOG_LINE_MAX])
{
    return (size_t)snprintf(out, T5_LOG_LINE_MAX, "%s %s %s\n", time, level, text);
}

typedef struct {
    char *bytes;
    size_t n;
} line_writer;

static void put(line_writer *w, const char *bytes, size_t n)
{
    memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static void put_name(line_writer *w, const char *name, size_t n)
{
    put(w, ",\"", 2);
    put(w, name, n);
    put(w, "\":", 2);
}

/* One character of a JSON string. */
static void put_character(line_writer *w, uint32_t code)
{
    char bytes[8];
    if (code == '"' || code == '\\') {
        put(w, "\\", 1);
        put(w, (const char[]){(char)code}, 1);
    } else if (code < 0x20 || code == 0x7f) {
        put(w, bytes, (size_t)snprintf(bytes, sizeof bytes, "\\u%04x", (unsigned)code));
    } else {
        put(w, bytes, t5_utf8_put(code, bytes));
    }
}

static void put_string(line_writer *w, const char *text, size_t n)
{
    put(w, "\"", 1);
    for (size_t i = 0; i < n;) {
        uint32_t code = 0;
        i += t5_utf8_next(text + i, n - i, &code);
        put_character(w, code);
    }
    put(w, "\"", 1);
}

/* A value that t5_log_quote() made; `p` is behind its first quote. Returns behind its last. */
static const char *put_quoted(line_writer *w, const char *p)
{
    const char *end = p + strlen(p);
    put(w, "\"", 1);
    while (*p != '\0' && *p != '"') {
        uint32_t code = 0;
        if (p[0] == '\\' && p[1] == 'x' && isxdigit((unsigned char)p[2]) && isxdigit((unsigned char)p[3])) {
            const char digits[] = {p[2], p[3], '\0'};
            code = (uint32_t)strtoul(digits, NULL, 16);
            p += 4;
        } else {
            if (p[0] == '\\' && p[1] != '\0') p++;
            p += t5_utf8_next(p, (size_t)(end - p), &code);
        }
        put_character(w, code);
    }
    put(w, "\"", 1);
    return *p == '"' ? p + 1 : p;
}

/* A number as JSON writes it, short enough to be exact; true; false. */
static bool is_literal(const char *value, size_t n)
{
    size_t i = n > 1 && value[0] == '-' ? 1 : 0, n_digits = 0, n_points = 0;
    if ((n == 4 && memcmp(value, "true", 4) == 0) || (n == 5 && memcmp(value, "false", 5) == 0)) return true;
    bool has_leading_zero = n > i + 1 && value[i] == '0' && value[i + 1] != '.';
    if (n > NUMBER_BYTES_MAX || has_leading_zero) return false;
    for (; i < n; i++) {
        bool is_point = value[i] == '.' && n_points == 0 && n_digits > 0 && i + 1 < n;
        n_points += is_point;
        n_digits += isdigit((unsigned char)value[i]) != 0;
        if (!is_point && !isdigit((unsigned char)value[i])) return false;
    }
    return n_digits > 0;
}

static size_t name_bytes(const char *p)
{
    size_t n = 0;
    while (isalnum((unsigned char)p[n]) || p[n] == '_')
        n++;
    return n;
}

/* `key=value` at `p`. Returns behind it, or NULL when it has another form. */
static const char *put_pair(line_writer *w, const char *p)
{
    size_t n = name_bytes(p);
    if (n == 0 || p[n] != '=') return NULL;
    put_name(w, p, n);
    p += n + 1;
    if (*p == '"') return put_quoted(w, p + 1);
    n = strcspn(p, " ");
    if (is_literal(p, n)) put(w, p, n);
    if (!is_literal(p, n)) put_string(w, p, n);
    return p + n;
}

size_t t5_log_line_json(const char *time, const char *level, const char *text, char out[T5_LOG_LINE_MAX])
{
    line_writer w = {.bytes = out};
    const char *p = text;
    w.n = (size_t)snprintf(out, T5_LOG_LINE_MAX, "{\"time\":\"%s\",\"level\":\"%s\"", time, level);
    size_t n = name_bytes(p);
    if (n > 0 && (p[n] == ' ' || p[n] == '\0')) {
        put_name(&w, "event", 5);
        put_string(&w, p, n);
        p += n;
    }
    while (*p != '\0') {
        p += *p == ' ';
        const char *next = *p != '\0' ? put_pair(&w, p) : p;
        if (next == NULL) {
            put_name(&w, "text", 4);
            put_string(&w, p, strlen(p));
            break;
        }
        p = next;
    }
    put(&w, "}\n", 2);
    return w.n;
}

/* --- of now --- */

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

bool t5_log_is_wanted(t5_log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

size_t t5_log_make_line(t5_log_level level, const char *text, char out[T5_LOG_LINE_MAX])
{
    char time[T5_LOG_TIME_BYTES];
    if (!t5_log_is_wanted(level)) return 0;
    format_time(time);
    bool is_json = atomic_load_explicit(&format_now, memory_order_relaxed) == T5_LOG_JSON;
    return is_json ? t5_log_line_json(time, level_names[level], text, out)
                   : t5_log_line_text(time, level_names[level], text, out);
}
