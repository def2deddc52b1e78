/* tests/test_stop_watch.c: stops are seen while tokens come, and none that never came is, whatever allocation fails. */
#include "failing_alloc.h"
#include "translate/stop_watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Feeds the letters one by one, with the n-th allocation failing. True when the watch says that it has stopped. */
static bool watch(const t5_tokenizer *t, const char *text, const char *stop, int n, bool *out_is_reached)
{
    t5_stops stops = {.n = 1};
    t5_stop_watch w;
    bool is_stopped = false;
    strcpy(stops.texts[0], stop);
    t5_stop_watch_init(&w, &stops, t);
    failing_alloc_begin(n);
    for (const char *c = text; *c != '\0'; c++) {
        const char letter[] = {*c, '\0'};
        const int32_t id = t5_tokenizer_find(t, letter);
        assert_true(id >= 0);
        is_stopped = t5_stop_watch_add(&w, &id, 1);
    }
    *out_is_reached = failing_alloc_end();
    t5_stop_watch_deinit(&w);
    return is_stopped;
}

/* Claim: a stop that comes is seen; a text without one is never said to have come to it, whichever allocation fails,
 * and once memory ran out nothing is any more. Method: single letters, with each allocation failing in turn. */
static void lost_text_makes_no_stop(void **state)
{
    const t5_tokenizer_options options = {.vocab_size = 1024, .pad_id = 0, .eos_id = 1};
    t5_tokenizer *t = NULL;
    t5_error err = {0};
    bool is_reached = false;
    (void)state;
    if (t5_tokenizer_open(T5_SOURCE_DIR "/tests/fixtures/t5-v1.0", &options, &t, &err) != T5_OK)
        fail_msg("%s", err.text);
    assert_true(watch(t, "aab", "ab", -1, &is_reached));
    assert_false(watch(t, "axb", "ab", -1, &is_reached));
    int n = 0;
    for (is_reached = true; is_reached; n++) {
        if (watch(t, "axb", "ab", n, &is_reached)) fail_msg("allocation %d", n);
        if (n == 0) assert_false(watch(t, "aabab", "ab", n, &is_reached));
    }
    assert_true(n > 6);
    t5_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_text_makes_no_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
