/* tests/test_catalog_nomem.c: every allocation of our own code fails once, in turn, while a catalog of two models reads
 * what is small of them, and while texts go through one of them and through both. */
#include "failing_alloc.h"
#include "tests/waiter.h"
#include "translate/journey.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- two folders ---- */

static char top[] = "/tmp/t5-catalog-XXXXXX";
static char dirs[2][64];
static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors", "spiece.model"};

static void make_model(int i, const char *name, const char *fixture, const char *pairs)
{
    char path[PATH_MAX], from[PATH_MAX];
    snprintf(dirs[i], sizeof dirs[i], "%s/%s", top, name);
    assert_int_equal(mkdir(dirs[i], 0700), 0);
    for (size_t k = 0; k < T5_COUNT(files); k++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], files[k]);
        snprintf(from, sizeof from, T5_SOURCE_DIR "/tests/fixtures/%s/%s", fixture, files[k]);
        assert_int_equal(symlink(from, path), 0);
    }
    snprintf(path, sizeof path, "%s/t5serve.json", dirs[i]);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "{\"template\": \"\", \"pairs\": %s}", pairs);
    assert_int_equal(fclose(file), 0);
}

static int make_models(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(top));
    make_model(0, "in", "t5-v1.0", "[[\"de\", \"en\"]]");
    make_model(1, "out", "flan-small-shape", "[[\"en\", \"fr\"]]");
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX];
        for (size_t k = 0; k < T5_COUNT(files); k++) {
            snprintf(path, sizeof path, "%s/%s", dirs[i], files[k]);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/t5serve.json", dirs[i]);
        unlink(path);
        rmdir(dirs[i]);
    }
    return rmdir(top);
}

static t5_status open_catalog(bool is_lazy, t5_catalog **out, t5_error *err)
{
    const char *folders[] = {dirs[0], dirs[1]};
    t5_catalog_options options = {.dirs = folders, .n_dirs = 2, .has_pivot = true, .is_lazy = is_lazy, .n_threads = 1};
    t5_translator_options_init(&options.each);
    options.each.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    options.each.engine = (t5_engine_options){.n_rows_max = T5_BEAMS_MAX, .src_len_max = 32, .tgt_len_max = 16};
    return t5_catalog_open(&options, out, err);
}

/* ---- a request ---- */

/* One text through both models, one through the second, one through none; all results go to `out`. */
static t5_status travel(t5_catalog *c, char *out, size_t out_bytes, t5_error *err)
{
    static const t5_text texts[] = {{.text = "Wie geht es dir? Gut.", .n_bytes = 21, .source = "de", .target = "fr"},
                                    {.text = "How are you?", .n_bytes = 12, .source = "auto", .target = "fr"},
                                    {.text = "fin", .n_bytes = 3, .source = "fr", .target = "fr"}};
    waiter w = WAITER_INIT;
    /* Pinned: a second round that finds no memory keeps what the first one said. */
    t5_translation_request r = {
        .texts = texts, .n_texts = 3, .is_pinned = true, .n_alternatives = 1, .on_done = waiter_done, .ctx = &w};
    t5_journey *j = NULL;
    size_t n = 0;
    t5_decoding_init(&r.decoding);
    t5_status status = t5_journey_start(c, &r, 0, &j, err);
    if (status != T5_OK) return status;
    waiter_wait(&w);
    status = t5_journey_finish(j, err);
    for (int32_t i = 0; i < 3 && status == T5_OK; i++)
        n += (size_t)snprintf(out + n, out_bytes - n, "%s|", t5_journey_get(j, i)->text);
    t5_journey_destroy(j);
    return status;
}

/* Claim: when memory runs out anywhere on the way, the caller gets T5_ERR_NOMEM or the right texts, nothing hangs, and
 * nothing leaks (the address sanitizer looks). Method: the n-th allocation fails, for every n until there are no more.
 */
static void each_allocation_of_a_journey_fails(void **state)
{
    (void)state;
    char expected[4096], got[4096];
    t5_catalog *c = NULL;
    t5_error err = {0};
    if (open_catalog(false, &c, &err) != T5_OK) fail_msg("%s", err.text);
    if (travel(c, expected, sizeof expected, &err) != T5_OK) fail_msg("%s", err.text);
    int n_failed = 0;
    for (int n = 0;; n++) {
        t5_error_clear(&err);
        failing_alloc_begin(n);
        const t5_status status = travel(c, got, sizeof got, &err);
        const bool was_reached = failing_alloc_end();
        if (!was_reached) break;
        if (status == T5_OK) assert_string_equal(got, expected);
        if (status != T5_OK && status != T5_ERR_NOMEM) fail_msg("allocation %d: %s", n, err.text);
        n_failed += status != T5_OK;
    }
    assert_true(n_failed > 20);
    t5_catalog_close(c);
}

/* Claim: the same while a lazy catalog is opened. */
static void each_allocation_of_a_start_fails(void **state)
{
    (void)state;
    int n_failed = 0;
    for (int n = 0;; n++) {
        t5_catalog *c = NULL;
        t5_error err = {0};
        failing_alloc_begin(n);
        const t5_status status = open_catalog(true, &c, &err);
        const bool was_reached = failing_alloc_end();
        t5_catalog_close(c);
        if (!was_reached) break;
        if (status != T5_OK && status != T5_ERR_NOMEM) fail_msg("allocation %d: %s", n, err.text);
        n_failed += status != T5_OK;
    }
    assert_true(n_failed > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_of_a_journey_fails),
        cmocka_unit_test(each_allocation_of_a_start_fails),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
