/* tests/test_error.c: what an error's text says. */
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Claim: who reads that memory ran out is told so, once, whatever the text names, and a text that fills the struct
 * stays a string. Method: texts as the code has them, one passed on by another error, and the longest. */
static void memory_is_told(void **state)
{
    (void)state;
    char longest[2 * T5_ERROR_TEXT_MAX];
    t5_error err = {0}, outer = {0};
    assert_int_equal(T5_FAIL(&err, T5_ERR_NOMEM, "matrix %d x %d", 2, 3), T5_ERR_NOMEM);
    assert_string_equal(err.text, "out of memory: matrix 2 x 3");
    T5_FAIL(&outer, err.status, "api_keys: %s", err.text);
    assert_string_equal(outer.text, "api_keys: out of memory: matrix 2 x 3");

    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    t5_error_clear(&err);
    T5_FAIL(&err, T5_ERR_NOMEM, "%s", longest);
    assert_int_equal(strlen(err.text), T5_ERROR_TEXT_MAX - 1);
    assert_memory_equal(err.text, "out of memory: xxx", 18);
}

/* Claim: other errors have the text that they were given, and the first one stays. */
static void first_text_stays(void **state)
{
    (void)state;
    t5_error err = {0};
    T5_FAIL(&err, T5_ERR_IO, "%s: gone", "a");
    assert_int_equal(T5_FAIL(&err, T5_ERR_NOMEM, "b"), T5_ERR_NOMEM);
    assert_string_equal(err.text, "a: gone");
    assert_int_equal(err.status, T5_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_is_told), cmocka_unit_test(first_text_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
