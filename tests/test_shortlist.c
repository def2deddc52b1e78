/* tests/test_shortlist.c: sequences that choose from a list of words. That nobody's tokens depend on the lists of
 * others is shown by test_neighbours. */
#include "cpu/cpu.h"
#include "model/quantize_folder.h"
#include "tests/assert_ok.h"
#include "tests/async_backend.h"
#include "tests/fixture.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEW_MAX 24
#define LEFT_OUT T5_SUPPRESS_MAX

static t5_backend *open_backend(t5_compute_type type, bool is_ref)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    const t5_cpu_options options = {.n_threads = 2, .compute_type = type};
    assert_ok(is_ref ? t5_cpu_ref_create(&backend, &err) : t5_cpu_create(&options, &backend, &err), &err);
    return backend;
}

/* All ids but those of `without`. Returns the number of the list. */
static int32_t add_list(fixture *f, const int32_t *without, int32_t n_without)
{
    t5_error err = {0};
    int32_t n = 0, number = 0;
    int32_t *ids = malloc((size_t)f->model->hp.vocab_size * sizeof *ids);
    assert_non_null(ids);
    for (int32_t id = 0; id < f->model->hp.vocab_size; id++) {
        bool is_out = false;
        for (int32_t i = 0; i < n_without; i++)
            is_out = is_out || without[i] == id;
        if (!is_out) ids[n++] = id;
    }
    assert_ok(t5_model_add_shortlist(f->model, ids, n, &number, &err), &err);
    free(ids);
    return number;
}

/* Runs the first case's source to its end; the slot is to be released. */
static int32_t run(fixture *f, const t5_decoding *decoding, const int32_t *prompt_ids, int32_t n_prompt_ids,
                   int32_t shortlist)
{
    t5_error err = {0};
    int32_t slot = -1, n = 0;
    int32_t *ids = fixture_ids(json_object_get(fixture_case(f, 0), "input_ids"), &n);
    const t5_batch_request request = {.input_ids = ids,
                                      .n_input_ids = n,
                                      .prompt_ids = prompt_ids,
                                      .n_prompt_ids = n_prompt_ids,
                                      .decoding = decoding,
                                      .wants_logprobs = true,
                                      .shortlist = shortlist};
    assert_ok(t5_batch_check(f->batch, &request, &err), &err);
    assert_ok(t5_batch_admit(f->batch, &request, &slot, &err), &err);
    assert_ok(t5_batch_encode(f->batch, &err), &err);
    while (!t5_batch_is_done(f->batch, slot))
        assert_ok(t5_batch_step(f->batch, &err), &err);
    free(ids);
    return slot;
}

static void check_same(const fixture *f, int32_t a, int32_t b, bool have_same_scores)
{
    assert_int_equal(t5_batch_n_results(f->batch, a), t5_batch_n_results(f->batch, b));
    for (int32_t i = 0; i < t5_batch_n_results(f->batch, a); i++) {
        t5_batch_result x, y;
        t5_batch_result_get(f->batch, a, i, &x);
        t5_batch_result_get(f->batch, b, i, &y);
        assert_int_equal(x.n_ids, y.n_ids);
        assert_memory_equal(x.ids, y.ids, (size_t)x.n_ids * sizeof *x.ids);
        if (!have_same_scores) continue;
        assert_memory_equal(x.logprobs, y.logprobs, (size_t)x.n_ids * sizeof *x.logprobs);
        assert_memory_equal(&x.score, &y.score, sizeof x.score);
    }
}

/* Greedy, beams and samples, with every processor. */
static t5_decoding decoding_of(int32_t i)
{
    t5_decoding d;
    t5_decoding_init(&d);
    d.max_new_tokens = NEW_MAX;
    d.min_new_tokens = 4;
    if (i % 3 == 1) d.num_beams = d.num_return_sequences = 4;
    if (i % 3 == 2) {
        d.do_sample = true;
        d.num_return_sequences = 3;
        d.top_k = i % 2 == 0 ? 0 : 20;
        d.seed = (uint64_t)i;
    }
    if (i >= 3) d.repetition_penalty = 1.5;
    if (i >= 6) d.no_repeat_ngram_size = 2;
    return d;
}

static void check_list_of_all(fixture *f)
{
    const int32_t all = add_list(f, NULL, 0);
    for (int32_t k = 0; k < 9; k++) {
        const t5_decoding d = decoding_of(k);
        const int32_t exact = run(f, &d, NULL, 0, 0), listed = run(f, &d, NULL, 0, all);
        check_same(f, exact, listed, true);
        t5_batch_release(f->batch, exact);
        t5_batch_release(f->batch, listed);
    }
}

/* Claim: with a list of the whole vocabulary nothing changes, not a bit. Method: the same request without a list and
 * with it, for each way to search, type of weights and backend. */
static void list_of_all_changes_nothing(void **state)
{
    (void)state;
    static const char *const families[] = {"t5-v1.0", "t5-v1.1", "mt5", "byt5", "madlad"};
    static const t5_compute_type types[] = {T5_COMPUTE_AUTO, T5_COMPUTE_F32, T5_COMPUTE_BF16, T5_COMPUTE_INT8,
                                            T5_COMPUTE_INT4};
    for (size_t i = 0; i < T5_COUNT(families) * (T5_COUNT(types) + 1); i++) {
        fixture f;
        const size_t i_type = i / T5_COUNT(families);
        const bool is_ref = i_type == T5_COUNT(types);
        fixture_open(&f, families[i % T5_COUNT(families)],
                     open_backend(is_ref ? T5_COMPUTE_F32 : types[i_type], is_ref));
        check_list_of_all(&f);
        fixture_close(&f);
    }
}

/* Claim: so it is with a quantised folder, whose head is in panels, whether the backend maps them, packs them anew or
 * expands them. Method: tied and untied heads, each width, each type of weights. */
static void lists_of_quantized_folders(void **state)
{
    static const char *const families[] = {"t5-v1.0", "t5-v1.1", "byt5"};
    static const t5_dtype types[] = {T5_I8, T5_I4};
    static const int32_t panels[] = {16, 32, 64};
    for (size_t i = 0; i < T5_COUNT(families) * T5_COUNT(types) * T5_COUNT(panels); i++) {
        char dir[512];
        t5_error err = {0};
        t5_quantize_report report;
        const char *family = families[i / (T5_COUNT(types) * T5_COUNT(panels))];
        const t5_quantize_args args = {.dir = dir,
                                       .out_dir = *state,
                                       .type = types[i / T5_COUNT(panels) % T5_COUNT(types)],
                                       .panel = panels[i % T5_COUNT(panels)]};
        snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, family);
        folder_clear(*state);
        assert_ok(t5_quantize_folder(&args, &report, &err), &err);
        for (int32_t k = 0; k < 3; k++) {
            fixture f;
            fixture_open_at(&f, family, *state, open_backend(k == 0 ? T5_COMPUTE_AUTO : T5_COMPUTE_F32, k == 2));
            check_list_of_all(&f);
            fixture_close(&f);
        }
    }
}

/* Claim: words that are not on the list are as good as banned; in a forced prompt, and for the processors, they are
 * words like others. Method: greedy search chooses the same when they are suppressed instead; they are the words that
 * it chooses without a list, so that this is no empty claim. */
static void unlisted_words_are_banned(void **state)
{
    (void)state;
    static const char *const families[] = {"t5-v1.0", "mt5", "madlad", "umt5"};
    int32_t n_changed = 0;
    for (size_t i = 0; i < 2 * T5_COUNT(families); i++) {
        fixture f;
        t5_batch_result first;
        fixture_open(&f, families[i / 2], open_backend(T5_COMPUTE_F32, i % 2 == 1));
        t5_decoding d = decoding_of(6);
        const int32_t free_slot = run(&f, &d, NULL, 0, 0);
        t5_batch_result_get(f.batch, free_slot, 0, &first);
        for (int32_t k = 0; k < first.n_ids && d.n_suppress < LEFT_OUT; k += 2)
            if (first.ids[k] != f.model->hp.eos_id) d.suppress_tokens[d.n_suppress++] = first.ids[k];
        const int32_t list = add_list(&f, d.suppress_tokens, d.n_suppress);
        const int32_t banned = run(&f, &d, first.ids, 3, 0);
        d.n_suppress = 1; /* what is not on the list may be named all the same */
        const int32_t listed = run(&f, &d, first.ids, 3, list);
        check_same(&f, banned, listed, false);
        t5_batch_result result;
        t5_batch_result_get(f.batch, listed, 0, &result);
        n_changed += result.n_ids != first.n_ids || memcmp(result.ids, first.ids, (size_t)first.n_ids * 4) != 0;
        fixture_close(&f);
    }
    assert_true(n_changed > 0);
}

static void expect_refused(t5_model *m, const int32_t *ids, int32_t n, const char *text)
{
    t5_error err = {0};
    int32_t number = -1;
    assert_int_equal(t5_model_add_shortlist(m, ids, n, &number, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, text));
    assert_int_equal(number, -1);
}

/* Claim: a list that is none is refused, and so is a request that its list cannot serve. */
static void wrong_lists_are_refused(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    fixture_open(&f, "t5-v1.0", open_backend(T5_COMPUTE_F32, false));
    const int32_t eos = f.model->hp.eos_id, end = f.model->hp.vocab_size;
    expect_refused(f.model, (const int32_t[]){eos, 5, 5}, 3, "index 2");
    expect_refused(f.model, (const int32_t[]){eos, 7, 5}, 3, "index 2");
    expect_refused(f.model, (const int32_t[]){-1, eos}, 2, "index 0");
    expect_refused(f.model, (const int32_t[]){eos, end}, 2, "index 1");
    expect_refused(f.model, (const int32_t[]){eos + 1}, 1, "end of sequence");
    expect_refused(f.model, NULL, 0, "end of sequence");
    int32_t number = 0;
    assert_ok(t5_model_add_shortlist(f.model, (const int32_t[]){eos, 5, 7}, 3, &number, &err), &err);
    t5_decoding d = decoding_of(0);
    t5_batch_request request = {.input_ids = &eos, .n_input_ids = 1, .decoding = &d, .shortlist = number + 1};
    assert_int_equal(t5_batch_check(f.batch, &request, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "shortlist 2, there are 1"));
    t5_error_clear(&err);
    request.shortlist = number;
    d.num_beams = 2;
    assert_int_equal(t5_batch_check(f.batch, &request, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "the shortlist has 3"));
    t5_error_clear(&err);
    request.is_score = true; /* has no use for a list */
    request.prompt_ids = &eos;
    request.n_prompt_ids = 1;
    assert_ok(t5_batch_check(f.batch, &request, &err), &err);
    async_backend_wrap(f.backend);
    expect_refused(f.model, (const int32_t[]){eos, 5}, 2, "has no shortlists");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_of_all_changes_nothing),
        IN_FOLDER(lists_of_quantized_folders),
        cmocka_unit_test(unlisted_words_are_banned),
        cmocka_unit_test(wrong_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
