/* tests/test_join.c: how translated sentences become a text again. Plans are made by hand: no model is needed. */
#include "translate/join.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Claim: sentences that touch get a space when the target is written with spaces, and only then. Method: a plan made by
 * hand, for three targets. */
static void touching_sentences(void **state)
{
    (void)state;
    static const struct {
        const char *target, *joined;
    } cases[] = {{"en", "A. B.\nA."}, {"ja", "A.B.\nA."}, {"zh-Hans", "A.B.\nA."}};
    t5_result results[][1] = {{{.text = "A.", .n_bytes = 2}}, {{.text = "B.", .n_bytes = 2}}};
    t5_unit two[] = {{.results = results[0], .n_results = 1}, {.results = results[1], .n_results = 1}};
    const t5_units units = {.units = two, .n_units = 2};
    static const char source[] = "\xe7\x94\xb2\xe3\x80\x82\xe4\xb9\x99\xe3\x80\x82\n\xe7\x94\xb2\xe3\x80\x82";
    const t5_text text = {.text = source, .n_bytes = sizeof source - 1};
    t5_span spans[] = {{0, 6, true, false}, {6, 6, true, false}, {12, 1, false, false}, {13, 6, true, false}};
    int32_t links[] = {0, 1, -1, 0};
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_error err = {0};
        char *joined = NULL;
        size_t n_bytes = 0;
        const t5_plan plan = {.route = {.target = cases[i].target},
                              .sentences = {.spans = spans, .n_spans = T5_COUNT(spans)},
                              .units = links};
        assert_int_equal(t5_join(&text, &plan, &units, 5, &joined, &n_bytes, &err), T5_OK);
        assert_string_equal(joined, cases[i].joined);
        assert_int_equal(n_bytes, strlen(joined));
        free(joined);
    }
}

/* Claim: alternative k takes each sentence's k-th result, or its last, and a text without spans comes back as it is,
 * NUL included. Method: two sentences with two and one results, one with a NUL; an empty plan. */
static void results_are_chosen(void **state)
{
    (void)state;
    t5_error err = {0};
    char *joined = NULL;
    size_t n_bytes = 0;
    t5_result first[] = {{.text = "A1", .n_bytes = 2}, {.text = "A\0002", .n_bytes = 3}};
    t5_result second[] = {{.text = "B1", .n_bytes = 2}};
    t5_unit two[] = {{.results = first, .n_results = 2}, {.results = second, .n_results = 1}};
    const t5_units units = {.units = two, .n_units = 2};
    t5_span spans[] = {{0, 1, true, false}, {1, 1, false, false}, {2, 1, true, false}};
    int32_t links[] = {0, -1, 1};
    const t5_text text = {.text = "x\0y", .n_bytes = 3};
    t5_plan plan = {.route = {.target = "en"}, .sentences = {.spans = spans, .n_spans = 3}, .units = links};
    assert_int_equal(t5_join(&text, &plan, &units, 1, &joined, &n_bytes, &err), T5_OK);
    assert_int_equal(n_bytes, 6);
    assert_memory_equal(joined, "A\0002\0B1", 7);
    free(joined);

    plan.sentences.n_spans = 0;
    assert_int_equal(t5_join(&text, &plan, &units, 0, &joined, &n_bytes, &err), T5_OK);
    assert_int_equal(n_bytes, 3);
    assert_memory_equal(joined, "x\0y", 4);
    free(joined);
}

/* Claim: a part of a sentence that goes on loses the dots that its source has not; nothing else loses any. Method: the
 * bytes that are left of translations with dots. */
static void added_dots_go(void **state)
{
    static const struct {
        const char *source, *translation, *left;
        bool is_part;
    } cases[] = {
        {"Hello", "Hallo.", "Hallo", true},        {"Hello", "Hallo. ..", "Hallo", true},
        {"Hello", "Hallo.", "Hallo.", false},      {"Hello.", "Hallo.", "Hallo.", true},
        {"Hello", "Hallo!", "Hallo!", true},       {"Hello", "你好。", "你好", true},
        {"Hello", "U.S. Army", "U.S. Army", true}, {"Hello", "...", "", true},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        const t5_span span = {0, strlen(cases[i].source), true, cases[i].is_part};
        const size_t n_bytes = strlen(cases[i].translation);
        assert_int_equal(t5_join_bytes(cases[i].source, &span, cases[i].translation, n_bytes), strlen(cases[i].left));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(touching_sentences),
        cmocka_unit_test(results_are_chosen),
        cmocka_unit_test(added_dots_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
