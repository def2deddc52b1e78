/* tests/test_utf8.c: UTF-8 as RFC 3629 has it. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Claim: every code point but the surrogates survives writing and reading, and nothing else does. Method: all of them.
 */
static void code_points_round_trip(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        char bytes[4];
        uint32_t back = 0;
        size_t length = t5_utf8_put(code, bytes);
        bool is_valid = code < 0xD800 || code > 0xDFFF;
        assert_int_equal(t5_utf8_is_valid(bytes, length), is_valid);
        if (!is_valid) continue;
        assert_int_equal(t5_utf8_next(bytes, length, &back), length);
        assert_int_equal(back, code);
        assert_int_equal(t5_utf8_valid_prefix(bytes, length - 1), 0);
    }
}

/* Claim: overlong, surrogate, too large, lone and cut bytes are found, and repaired as Python's "replace" does it.
 * Method: the table of such forms. */
static void broken_forms_are_repaired(void **state)
{
    static const struct {
        const char *text, *want;
        size_t valid;
    } cases[] = {
        {"abc", "abc", 3},
        {"a\x80z", "a\xEF\xBF\xBDz", 1},
        {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD", 0},
        {"\xC1\xBF", "\xEF\xBF\xBD\xEF\xBF\xBD", 0},
        {"\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0},
        {"\xF0\x80\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0},
        {"\xF5", "\xEF\xBF\xBD", 0},
        {"ab\xE2\x82", "ab\xEF\xBF\xBD", 2},
        {"\xF0\x9F\x99z", "\xEF\xBF\xBDz", 0},
        {"\xC3\xA9\xC3", "\xC3\xA9\xEF\xBF\xBD", 2},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        char *out = NULL;
        size_t n_out = 0, n_bytes = strlen(cases[i].text);
        t5_error err = {0};
        assert_int_equal(t5_utf8_valid_prefix(cases[i].text, n_bytes), cases[i].valid);
        assert_int_equal(t5_utf8_repair(cases[i].text, n_bytes, &out, &n_out, &err), T5_OK);
        assert_string_equal(out, cases[i].want);
        assert_int_equal(n_out, strlen(cases[i].want));
        free(out);
    }
}

/* Claim: counts, cuts and white space go by characters. Method: a text of one- to four-byte characters. */
static void characters_are_kept_whole(void **state)
{
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82"; /* ends of characters: 1, 3, 6, 10 */
    static const size_t cuts[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    static const char spaced[] = "\xE3\x80\x80 \t\xC2\xA0x y\xE2\x80\xA8\n";

    (void)state;
    assert_int_equal(t5_utf8_count(text, sizeof text - 1), 4);
    assert_int_equal(t5_utf8_count("a\0b", 3), 3);
    for (size_t i = 0; i < T5_COUNT(cuts); i++)
        assert_int_equal(t5_utf8_cut(text, sizeof text - 1, i), cuts[i]);
    assert_int_equal(t5_utf8_leading_space(spaced, sizeof spaced - 1), 7);
    assert_int_equal(t5_utf8_trailing_space(spaced, sizeof spaced - 1), 4);
    char lines[] = "a\r\nb\xC2\x85"
                   "c\xE2\x80\xA8"
                   "d\x0C\xC2\xA0"
                   "\x85 e";
    t5_utf8_flatten(lines, sizeof lines - 1);
    assert_string_equal(lines, "a  b  c   d \xC2\xA0"
                               "\x85 e");
    assert_int_equal(t5_utf8_leading_space(" \n ", 3), 3);
    assert_int_equal(t5_utf8_trailing_space(" \n ", 3), 3);
    assert_int_equal(t5_utf8_trailing_space("a\x85", 2), 0); /* a lone byte is no NEL */
    assert_int_equal(t5_utf8_leading_space("", 0), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_points_round_trip),
        cmocka_unit_test(broken_forms_are_repaired),
        cmocka_unit_test(characters_are_kept_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
