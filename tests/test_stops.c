/* tests/test_stops.c: OpenAI's `stop`: what is read, and what of a text may be told when it comes piece by piece.
 */
#include "server/openai_stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RANDOM_TEXTS 20000
#define TEXT_BYTES_MAX 40

static t5_status read_stops(const char *json, t5_stops *out, t5_error *err)
{
    json_t *value = json != NULL ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    t5_error_clear(err);
    const t5_status status = t5_stops_read(value, out, err);
    json_decref(value);
    return status;
}

/* Claim: a string, or up to four; nothing is no stop; all else is refused by name. */
static void stops_are_read(void **state)
{
    static const struct {
        const char *json;
        int32_t n; /* -1: refused */
    } cases[] = {{NULL, 0},
                 {"null", 0},
                 {"\"\"", 0},
                 {"[]", 0},
                 {"\"a\"", 1},
                 {"[\"a\", \"\", \"bc\"]", 2},
                 {"[\"a\",\"b\",\"c\",\"d\"]", 4},
                 {"[\"a\",\"b\",\"c\",\"d\",\"e\"]", -1},
                 {"1", -1},
                 {"[1]", -1},
                 {"{}", -1},
                 {"[null]", -1}};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_stops stops;
        t5_error err;
        const t5_status status = read_stops(cases[i].json, &stops, &err);
        assert_int_equal(status, cases[i].n < 0 ? T5_ERR_ARG : T5_OK);
        if (status == T5_OK) assert_int_equal(stops.n, cases[i].n);
        if (status != T5_OK) assert_memory_equal(err.text, "stop", 4);
    }
    char json[T5_STOP_BYTES_MAX + 8];
    t5_stops stops;
    t5_error err;
    snprintf(json, sizeof json, "\"%0*d\"", T5_STOP_BYTES_MAX, 0);
    assert_int_equal(read_stops(json, &stops, &err), T5_OK);
    snprintf(json, sizeof json, "\"%0*d\"", T5_STOP_BYTES_MAX + 1, 0);
    assert_int_equal(read_stops(json, &stops, &err), T5_ERR_ARG);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

static size_t random_text(uint32_t *seed, size_t n_max, char *out)
{
    const size_t n = 1 + next_random(seed) % n_max;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)('a' + next_random(seed) % 3);
    out[n] = '\0';
    return n;
}

/* The start of the first stop by the plainest search. */
static size_t find_slowly(const t5_stops *s, const char *text, size_t n)
{
    for (size_t pos = 0; pos < n; pos++)
        for (int32_t i = 0; i < s->n; i++)
            if (strncmp(text + pos, s->texts[i], strlen(s->texts[i])) == 0) return pos;
    return n;
}

/* Claim: what is told is always a start of the text before its first stop, and of all of it what no stop can take back.
 * Method: random texts of three letters in random pieces, against the plainest search over the whole. */
static void pieces_are_the_start(void **state)
{
    uint32_t seed = 7;
    (void)state;
    for (int i = 0; i < RANDOM_TEXTS; i++) {
        t5_stops s = {.n = 1 + (int32_t)(next_random(&seed) % T5_STOPS_MAX)};
        char text[TEXT_BYTES_MAX + 1], told[TEXT_BYTES_MAX + 1] = "";
        t5_told_text t = {.n_told = 0};
        t5_error err = {0};
        for (int32_t k = 0; k < s.n; k++)
            random_text(&seed, 5, s.texts[k]);
        const size_t n = random_text(&seed, TEXT_BYTES_MAX, text), end = find_slowly(&s, text, n);
        assert_int_equal(t5_stops_find(&s, text, n), end);
        for (size_t pos = 0; pos < n;) {
            size_t n_piece = 1 + next_random(&seed) % 4, n_tell = 0;
            if (n_piece > n - pos) n_piece = n - pos;
            assert_int_equal(t5_stops_tell(&s, &t, text + pos, n_piece, &n_tell, &err), T5_OK);
            assert_true(t.n_told + n_tell <= end);
            memcpy(told + t.n_told, t.held.bytes, n_tell);
            t5_told_text_drop(&t, n_tell);
            pos += n_piece;
            assert_true(t.is_stopped || pos - t.n_told < 5); /* no more is held than a stop may begin with */
        }
        assert_memory_equal(told, text, t.n_told);
        if (t.is_stopped) assert_int_equal(t.n_told, end);
        t5_buffer_deinit(&t.held);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_are_read),
        cmocka_unit_test(pieces_are_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
