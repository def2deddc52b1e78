/* tests/test_log.c: lines as text and as JSON, and a log that nobody takes does not hold up those who log. */
#include "base/clock.h"
#include "base/log.h"
#include "base/log_line.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cmocka.h>

#define LINES 5000
#define DRAIN_BYTES (1 << 20)
#define PATIENCE_MS 60000 /* for what comes at once, on any machine */

/* Claim: JSON says what the text says, and is valid for every text. Method: a table, odd and cut values in it. */
static void json_has_the_same_fields(void **state)
{
    (void)state;
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"stopped", "\"event\":\"stopped\""},
        {"stopped ms=12 rate=0.5 is_ok=true id=\"12\"",
         "\"event\":\"stopped\",\"ms\":12,\"rate\":0.5,\"is_ok\":true,\"id\":\"12\""},
        {"x a=-3 b=- c=1. d=.5 e=007 f=1.2.3 g=0", "\"event\":\"x\",\"a\":-3,\"b\":\"-\",\"c\":\"1.\",\"d\":\".5\","
                                                   "\"e\":\"007\",\"f\":\"1.2.3\",\"g\":0"},
        {"x a=1234567890123456789 b= c=d", "\"event\":\"x\",\"a\":\"1234567890123456789\",\"b\":\"\",\"c\":\"d\""},
        {"x a=\"b \\\"c\\\" \\\\ \\x0a\" d=1", "\"event\":\"x\",\"a\":\"b \\\"c\\\" \\\\ \\u000a\",\"d\":1"},
        {"x a=\"b", "\"event\":\"x\",\"a\":\"b\""},
        {"x a=\"b\\", "\"event\":\"x\",\"a\":\"b\\\\\""},
        {"x a=\"\\x4\"", "\"event\":\"x\",\"a\":\"x4\""},
        {"x a=\377\"", "\"event\":\"x\",\"a\":\"\357\277\275\\\"\""},
        {"device: cpu", "\"text\":\"device: cpu\""},
        {"x some words a=b", "\"event\":\"x\",\"text\":\"some words a=b\""},
        {"", ""},
    };
    char line[T5_LOG_LINE_MAX], expected[1024];
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        size_t n = t5_log_line_json("T", "info", cases[i].text, line);
        snprintf(expected, sizeof expected, "{\"time\":\"T\",\"level\":\"info\"%s%s}\n", cases[i].json[0] ? "," : "",
                 cases[i].json);
        assert_int_equal(n, strlen(expected));
        assert_memory_equal(line, expected, n);
    }
}

/* Claim: the longest line of the worst bytes fits its buffer. Method: broken bytes only, under the sanitizer. */
static void longest_line_fits(void **state)
{
    (void)state;
    char text[T5_LOG_TEXT_MAX], line[T5_LOG_LINE_MAX];
    for (const char *start = "x a=", *byte = "\377\"\\"; *byte != '\0'; byte++) {
        memset(text, *byte, sizeof text);
        memcpy(text, start, strlen(start));
        text[sizeof text - 1] = '\0';
        size_t n = t5_log_line_json("2026-01-02T03:04:05.678Z", "error", text, line);
        assert_true(n <= sizeof line && line[n - 1] == '\n');
    }
}

typedef struct {
    int saved, read_end;
} captured;

/* stderr becomes a pipe that nobody reads yet. */
static captured capture(void)
{
    int ends[2];
    captured c = {.saved = dup(STDERR_FILENO)};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    c.read_end = ends[0];
    return c;
}

static void restore(const captured *c)
{
    dup2(c->saved, STDERR_FILENO);
    close(c->saved);
    close(c->read_end);
}

/* Numbers behind each `what` in a text. */
static int64_t sum_of(const char *text, const char *what, int64_t *out_n)
{
    int64_t sum = 0;
    *out_n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; ++*out_n) {
        p += strlen(what);
        sum += strtoll(p, NULL, 10);
    }
    return sum;
}

/* Lines that have arrived, and those that are told as dropped. */
static int64_t lines_in(const char *text, int64_t *out_n_told)
{
    int64_t n_lines = 0, n_tellings = 0;
    *out_n_told = sum_of(text, " log_dropped lines=", &n_tellings);
    sum_of(text, " info line ", &n_lines);
    return n_lines;
}

/* Reads until all lines have arrived or are told as dropped. */
static void read_all(int fd, char text[DRAIN_BYTES])
{
    size_t n = 0;
    int64_t n_told = 0;
    text[0] = '\0';
    while (n == 0 || text[n - 1] != '\n' || lines_in(text, &n_told) + n_told < LINES) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
        ssize_t n_read = read(fd, text + n, DRAIN_BYTES - 1 - n);
        assert_true(n_read > 0);
        n += (size_t)n_read;
        text[n] = '\0';
    }
}

/* One full pipe and lines with texts of n_bytes. */
static void fill_pipe(int n_bytes)
{
    static char text[DRAIN_BYTES];
    t5_error err = {0};
    int64_t n_told = 0;
    const int64_t n_before = t5_log_dropped();
    captured c = capture();
    assert_int_equal(t5_log_start(&err), T5_OK);
    int64_t begin_ms = t5_clock_ms();
    for (int i = 0; i < LINES; i++)
        t5_log(T5_LOG_INFO, "line text=\"%0*d\"", n_bytes, i);
    int64_t ms = t5_clock_ms() - begin_ms;
    read_all(c.read_end, text);
    t5_log_stop();
    restore(&c);
    const int64_t n_lines = lines_in(text, &n_told);
    print_message("%d lines in %lld ms, %lld arrived, %lld dropped\n", LINES, (long long)ms, (long long)n_lines,
                  (long long)n_told);
    assert_true(ms < PATIENCE_MS);
    assert_true(n_told > 0);
    assert_int_equal(n_lines + n_told, LINES);
    assert_int_equal(t5_log_dropped() - n_before, n_told);
}

/* Claim: a full pipe holds up nobody; what is lost is counted and told, also when the buffer has no room for one more
 * line. Method: 5 000 lines into a pipe of 64 kB that is read only afterwards; lines told as dropped and lines that
 * arrived are all; several lengths, which leave more or less room at the end of the buffer. */
static void full_pipe_holds_up_nobody(void **state)
{
    (void)state;
    for (int n_bytes = 200; n_bytes < 216; n_bytes++)
        fill_pipe(n_bytes);
}

/* Claim: the end of a program does not wait for a full pipe, or one without a reader. Method: stop with both. */
static void stop_is_bounded(void **state)
{
    (void)state;
    t5_error err = {0};
    for (int has_reader = 0; has_reader < 2; has_reader++) {
        captured c = capture();
        if (!has_reader) {
            close(c.read_end);
            c.read_end = -1;
        }
        assert_int_equal(t5_log_start(&err), T5_OK);
        for (int i = 0; i < LINES; i++)
            t5_log(T5_LOG_INFO, "line text=\"%0200d\"", i);
        int64_t begin_ms = t5_clock_ms();
        t5_log_stop();
        int64_t ms = t5_clock_ms() - begin_ms;
        restore(&c);
        assert_true(ms < PATIENCE_MS); /* a second, on a machine with time for it */
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_has_the_same_fields),
        cmocka_unit_test(longest_line_fits),
        cmocka_unit_test(full_pipe_holds_up_nobody),
        cmocka_unit_test(stop_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
