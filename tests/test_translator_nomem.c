/* tests/test_translator_nomem.c: every allocation of our own code fails once, in turn, while a model folder is opened
 * and a request is translated. */
#include "failing_alloc.h"
#include "tests/waiter.h"
#include "translate/translator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL_DIR T5_SOURCE_DIR "/tests/fixtures/madlad"

/* Translates four sentences, one of them too long, one twice and one with placeholders, and a text with tags, with
 * alternatives. All are cut
 * short, so each has a second round. The text is copied to `out`. */
static t5_status translate(t5_translator *t, char *out, size_t out_bytes, t5_error *err)
{
    char source[160] = "Nobody understands you.\nHello, world! See me@example.org, {x}!\nNobody understands you.\n";
    while (strlen(source) < sizeof source - 8)
        strcat(source, "a b, ");
    static const t5_markup_options html = {.kind = T5_MARKUP_HTML};
    static const char marked[] = "<p>See <b>a <i>b</i></b> &amp; <br>c<img></p>";
    const t5_text texts[] = {
        {.text = source, .n_bytes = strlen(source), .source = "auto", .target = "de"},
        {.text = marked, .n_bytes = sizeof marked - 1, .source = "en", .target = "de", .markup = &html}};
    waiter w = WAITER_INIT;
    t5_translation_request r = {.texts = texts,
                                .n_texts = T5_COUNT(texts),
                                .decoding = t5_translator_profile(t)->defaults,
                                .n_alternatives = 2,
                                .on_done = waiter_done,
                                .ctx = &w};
    t5_translation *tr = NULL;
    t5_status status = t5_translation_start(t, &r, &tr, err);
    if (status != T5_OK) return status;
    waiter_wait(&w);
    status = t5_translation_finish(tr, err);
    for (int32_t i = 0; status == T5_OK && i < r.n_texts; i++)
        strncat(out, t5_translation_get(tr, i)->text, out_bytes - 1 - strlen(out));
    t5_translation_destroy(tr);
    return status;
}

static t5_status open_and_translate(char *out, size_t out_bytes, t5_error *err)
{
    t5_translator *t = NULL;
    t5_translator_options options;
    t5_translator_options_init(&options);
    options.model_dir = MODEL_DIR;
    options.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    /* Small, so that several hundred of them are quick. */
    options.engine = (t5_engine_options){.n_rows_max = T5_BEAMS_MAX, .src_len_max = 32, .tgt_len_max = 3};
    memset(out, 0, out_bytes);
    t5_status status = t5_translator_open(&options, &t, err);
    if (status == T5_OK) status = translate(t, out, out_bytes, err);
    t5_translator_close(t);
    return status;
}

/* Claim: when memory runs out anywhere, the caller gets T5_ERR_NOMEM (or the right text, where the memory was only a
 * help), nothing hangs, and nothing leaks (the address sanitizer looks). Method: the n-th allocation fails, for every n
 * until there are no more. */
static void each_allocation_fails_once(void **state)
{
    (void)state;
    char expected[4096], got[4096];
    t5_error err = {0};
    if (open_and_translate(expected, sizeof expected, &err) != T5_OK) fail_msg("%s", err.text);
    assert_true(strlen(expected) > 0);

    int n_failed = 0;
    for (int n = 0;; n++) {
        t5_error_clear(&err);
        failing_alloc_begin(n);
        const t5_status status = open_and_translate(got, sizeof got, &err);
        const bool was_reached = failing_alloc_end();
        if (!was_reached) break;
        if (status == T5_OK) {
            assert_string_equal(got, expected);
            continue;
        }
        if (status != T5_ERR_NOMEM) fail_msg("allocation %d: %s: %s", n, t5_status_name(status), err.text);
        assert_int_equal(err.status, T5_ERR_NOMEM);
        n_failed++;
    }
    assert_true(n_failed > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
