/* tests/test_fixtures.c DEVICE FOLDER: a model folder on a backend against what Hugging Face computed (tests/fixtures).
 */
#include "device/device.h"
#include "tests/assert_ok.h"
#include "tests/async_backend.h"
#include "tests/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double STATE_TOL = 2e-4; /* relative to the largest absolute value */
static const double SCORE_TOL = 1e-4;

static const char *device_name;
static const char *folder_name;
static json_t *alignments; /* [case][setting][result], by fixtures/alignment.py; NULL: the folder has none */
static int32_t n_aligned_tokens;

/* Every second case, so that there are neighbours without. */
static bool wants_alignment(size_t i_case)
{
    return i_case % 2 == 0;
}

static int setup(void **state)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    bool is_async = strcmp(device_name, "async") == 0;
    t5_device_options options = {
        .device = is_async ? "cpu-ref" : device_name, .compute_type = "float32", .n_threads = 2};
    assert_ok(t5_device_open(&options, &backend, &err), &err);
    if (is_async) async_backend_wrap(backend);
    fixture *f = malloc(sizeof *f);
    fixture_open(f, folder_name, backend);
    char path[640];
    snprintf(path, sizeof path, "%s/alignment.json", f->dir);
    alignments = json_load_file(path, 0, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    async_backend_counts counts = async_backend_counts_get();
    bool saw_all = counts.n_padded > 0 && counts.n_late > 0 && counts.n_unfinished > 0;
    if (strcmp(device_name, "async") == 0 && !saw_all) return -1; /* the look-ahead was not exercised */
    json_decref(alignments);
    fixture_close(*state);
    free(*state);
    return 0;
}

/* Claim: encoder states and teacher-forced logits equal Hugging Face's. Method: every case; the last one's 151 forced
 * tokens and long source reach past every bucket border, and every tenth row of its logits is given. */
static void states_match(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < fixture_n_cases(f); i++) {
        t5_error err = {0};
        int32_t n_in = 0, n_dec = 0, rows = 0, cols = 0;
        int32_t *input = fixture_ids(json_object_get(fixture_case(f, i), "input_ids"), &n_in);
        int32_t *forced = fixture_ids(json_object_get(fixture_case(f, i), "decoder_input_ids"), &n_dec);
        size_t vocab_size = (size_t)f->model->hp.vocab_size;
        float *encoder = malloc((size_t)n_in * (size_t)f->model->hp.d_model * sizeof *encoder);
        float *logits = malloc((size_t)n_dec * vocab_size * sizeof *logits);
        assert_ok(t5_batch_probe(f->batch, input, n_in, forced, n_dec, encoder, logits, &err), &err);

        float *expected = fixture_expected(f, i, "encoder", &rows, &cols);
        assert_int_equal(rows, n_in);
        assert_true(max_rel_error(encoder, expected, (size_t)rows * (size_t)cols) <= STATE_TOL);
        free(expected);

        expected = fixture_expected(f, i, "logits", &rows, &cols);
        int32_t stride = rows == n_dec ? 1 : 10;
        assert_int_equal(rows, (n_dec + stride - 1) / stride);
        for (int32_t r = 0; r < rows; r++) {
            double error = max_rel_error(logits + (size_t)(r * stride) * vocab_size, expected + (size_t)r * vocab_size,
                                         vocab_size);
            if (!(error <= STATE_TOL)) fail_msg("case %zu, logits of token %d: error %g", i, r * stride, error);
        }
        free(expected);
        free(encoder);
        free(logits);
        free(input);
        free(forced);
    }
}

/* False when the batch cannot take it right now. */
static bool admit_if_free(fixture *f, size_t i_case, const json_t *generate, int32_t *out_slot)
{
    t5_error err = {0};
    int32_t n = 0;
    t5_decoding decoding;
    fixture_decoding(generate, &decoding);
    int32_t *ids = fixture_ids(json_object_get(fixture_case(f, i_case), "input_ids"), &n);
    t5_batch_request request = {
        .input_ids = ids, .n_input_ids = n, .decoding = &decoding, .wants_alignment = wants_alignment(i_case)};
    assert_ok(t5_batch_check(f->batch, &request, &err), &err);
    t5_status status = t5_batch_admit(f->batch, &request, out_slot, &err);
    free(ids);
    if (status == T5_ERR_BUSY) return false;
    assert_ok(status, &err);
    return true;
}

static void admit(fixture *f, size_t i_case, const json_t *generate, int32_t *out_slot)
{
    assert_true(admit_if_free(f, i_case, generate, out_slot));
}

static void run_until_done(fixture *f, const int32_t *slots, size_t n_slots)
{
    t5_error err = {0};
    assert_ok(t5_batch_encode(f->batch, &err), &err);
    for (int32_t i_step = 0;; i_step++) {
        size_t n_done = 0;
        for (size_t i = 0; i < n_slots; i++)
            n_done += t5_batch_is_done(f->batch, slots[i]);
        if (n_done == n_slots) return;
        assert_true(i_step < 1000);
        assert_ok(t5_batch_step(f->batch, &err), &err);
    }
}

/* Compares a result with its entry of alignment.json, [[source token, ratio to the second best], ...] without eos. */
static void check_alignment(const t5_batch_result *result, const json_t *expected)
{
    const int32_t n_aligned = result->n_ids - (result->is_truncated ? 0 : 1);
    for (int32_t k = 0; k < n_aligned && json_array_size(expected) > 0; k++) {
        const json_t *pair = json_array_get(expected, (size_t)k);
        if (json_number_value(json_array_get(pair, 1)) < 1.001) continue; /* a near tie */
        assert_int_equal(result->alignment[k], json_integer_value(json_array_get(pair, 0)));
        n_aligned_tokens++;
    }
    if (!result->is_truncated) assert_int_equal(result->alignment[n_aligned], -1);
}

/* Compares what a done slot gives for a case and a setting, the alignments too when they were wanted and are known. */
static void check_results(fixture *f, int32_t slot, size_t i_case, size_t i_generate)
{
    const json_t *generate = json_array_get(json_object_get(fixture_case(f, i_case), "generate"), i_generate);
    const json_t *sequences = json_object_get(generate, "sequences");
    const json_t *expected = json_array_get(json_array_get(alignments, i_case), i_generate);
    fixture_check_results(f, slot, generate, SCORE_TOL);
    for (size_t k = 0; wants_alignment(i_case) && k < json_array_size(expected); k++) {
        t5_batch_result result;
        int32_t n_ids = 0;
        int32_t *ids = fixture_ids(json_array_get(sequences, k), &n_ids);
        n_ids = fixture_trim(f, ids, n_ids);
        t5_batch_result_get(f->batch, slot, (int32_t)k, &result);
        const bool is_same = result.n_ids == n_ids && memcmp(result.ids, ids, (size_t)n_ids * sizeof *ids) == 0;
        if (is_same) check_alignment(&result, json_array_get(expected, k)); /* else it hangs on rounding */
        free(ids);
    }
}

/* Claim: greedy and beam search find Hugging Face's sequences and scores, and the alignments of a plain computation
 * (fixtures/alignment.py), which three folders have. Method: every case with every setting, alone. */
static void alone_matches(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < fixture_n_cases(f); i++) {
        const json_t *generates = json_object_get(fixture_case(f, i), "generate");
        for (size_t g = 0; g < json_array_size(generates); g++) {
            int32_t slot = -1;
            admit(f, i, json_array_get(generates, g), &slot);
            run_until_done(f, &slot, 1);
            check_results(f, slot, i, g);
            t5_batch_release(f->batch, slot);
        }
    }
    assert_int_equal(t5_batch_n_running(f->batch), 0);
    if (alignments != NULL) assert_true(n_aligned_tokens > 300);
}

/* Claim: company does not change a result. Method: for each setting all cases at once, and one batch of mixed settings.
 */
static void together_matches(void **state)
{
    fixture *f = *state;
    size_t n_cases = fixture_n_cases(f);
    size_t n_settings = json_array_size(json_object_get(fixture_case(f, 0), "generate"));
    int32_t slots[16];
    assert_true(n_cases <= T5_COUNT(slots));
    for (size_t g = 0; g <= n_settings; g++) {
        size_t n = 0;
        size_t settings[16];
        int32_t n_rows = 0;
        for (size_t i = 0; i < n_cases; i++) {
            settings[n] = g < n_settings ? g : i % n_settings;
            const json_t *generate = json_array_get(json_object_get(fixture_case(f, i), "generate"), settings[n]);
            n_rows += (int32_t)json_integer_value(json_object_get(json_object_get(generate, "settings"), "num_beams"));
            if (n_rows > 64) break;
            admit(f, i, generate, &slots[n]);
            n++;
        }
        run_until_done(f, slots, n);
        for (size_t i = 0; i < n; i++) {
            check_results(f, slots[i], i, settings[i]);
            t5_batch_release(f->batch, slots[i]);
        }
    }
}

/* Claim: a sequence that joins while others are half-way, or that leaves half-way, changes nobody's result. Method:
 * cases enter one at a time every second step, each with another setting; every third is released early and entered
 * again. */
static void joining_and_leaving_matches(void **state)
{
    fixture *f = *state;
    t5_error err = {0};
    size_t n_cases = fixture_n_cases(f);
    size_t n_settings = json_array_size(json_object_get(fixture_case(f, 0), "generate"));
    int32_t slots[16];
    bool is_left[16] = {false};
    size_t n_entered = 0, n_ended = 0;
    for (int32_t i_step = 0; n_ended < n_cases; i_step++) {
        assert_true(i_step < 1000);
        if (i_step % 2 == 0 && n_entered < n_cases) {
            const json_t *generates = json_object_get(fixture_case(f, n_entered), "generate");
            if (admit_if_free(f, n_entered, json_array_get(generates, n_entered % n_settings), &slots[n_entered])) {
                n_entered++;
            }
            assert_ok(t5_batch_encode(f->batch, &err), &err);
        }
        if (i_step % 7 == 5 && n_entered % 3 == 2 && !is_left[n_entered - 1]) {
            is_left[n_entered - 1] = true;
            t5_batch_release(f->batch, slots[--n_entered]);
        }
        assert_ok(t5_batch_step(f->batch, &err), &err);
        while (n_ended < n_entered && t5_batch_is_done(f->batch, slots[n_ended])) {
            check_results(f, slots[n_ended], n_ended, n_ended % n_settings);
            t5_batch_release(f->batch, slots[n_ended++]);
        }
    }
}

/* Claim: scoring a sequence gives the sum of log-probabilities that beam search gave it. Method: the best beam of each
 * case is scored; its mean is compared with Hugging Face's score at length_penalty 1. */
static void score_matches_beam(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < fixture_n_cases(f); i++) {
        const json_t *generates = json_object_get(fixture_case(f, i), "generate");
        for (size_t g = 0; g < json_array_size(generates); g++) {
            const json_t *generate = json_array_get(generates, g);
            t5_decoding d;
            fixture_decoding(generate, &d);
            bool is_plain = d.length_penalty == 1.0 && d.repetition_penalty == 1.0;
            if (json_object_get(generate, "scores") == NULL || !is_plain) continue;
            t5_error err = {0};
            int32_t n = 0, n_target = 0, slot = -1;
            int32_t *ids = fixture_ids(json_object_get(fixture_case(f, i), "input_ids"), &n);
            int32_t *target = fixture_ids(json_array_get(json_object_get(generate, "sequences"), 0), &n_target);
            n_target = fixture_trim(f, target, n_target);
            t5_batch_request request = {
                .input_ids = ids, .n_input_ids = n, .prompt_ids = target, .n_prompt_ids = n_target, .is_score = true};
            assert_ok(t5_batch_check(f->batch, &request, &err), &err);
            assert_ok(t5_batch_admit(f->batch, &request, &slot, &err), &err);
            run_until_done(f, &slot, 1);
            t5_batch_result result;
            t5_batch_result_get(f->batch, slot, 0, &result);
            assert_int_equal(result.n_ids, n_target);
            double expected = json_real_value(json_array_get(json_object_get(generate, "scores"), 0));
            assert_float_equal(result.score / (float)n_target, (float)expected, (float)SCORE_TOL);
            t5_batch_release(f->batch, slot);
            free(ids);
            free(target);
        }
    }
}

/* Claim: a forced prefix that greedy search would have chosen anyway changes nothing. Method: the first k tokens of
 * each greedy result, for k up to past one chunk of T5_QUERY_LEN_MAX. */
static void forced_prefix_continues(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < fixture_n_cases(f); i++) {
        const json_t *generate = json_array_get(json_object_get(fixture_case(f, i), "generate"), 0);
        if (json_real_value(json_object_get(generate, "margin")) <= 1e-3) continue;
        int32_t n = 0, n_expected = 0;
        int32_t *ids = fixture_ids(json_object_get(fixture_case(f, i), "input_ids"), &n);
        int32_t *expected = fixture_ids(json_array_get(json_object_get(generate, "sequences"), 0), &n_expected);
        for (int32_t k = 1; k < n_expected && k < 14; k += 4) {
            t5_error err = {0};
            t5_decoding decoding;
            int32_t slot = -1;
            fixture_decoding(generate, &decoding);
            decoding.max_new_tokens -= k;
            t5_batch_request request = {
                .input_ids = ids, .n_input_ids = n, .prompt_ids = expected, .n_prompt_ids = k, .decoding = &decoding};
            assert_ok(t5_batch_check(f->batch, &request, &err), &err);
            assert_ok(t5_batch_admit(f->batch, &request, &slot, &err), &err);
            run_until_done(f, &slot, 1);
            t5_batch_result result;
            t5_batch_result_get(f->batch, slot, 0, &result);
            assert_int_equal(result.n_ids, n_expected);
            assert_memory_equal(result.ids, expected, (size_t)n_expected * sizeof *expected);
            t5_batch_release(f->batch, slot);
        }
        free(ids);
        free(expected);
    }
}

/* Claim: a result has the same alignment when it is given as a target and only scored. Method: the second best of a
 * beam search of each case that is aligned. */
static void scored_alignment_is_the_same(void **state)
{
    fixture *f = *state;
    t5_error err = {0};
    for (size_t i = 0; i < fixture_n_cases(f); i++) {
        if (!wants_alignment(i)) continue;
        int32_t n = 0, slot = -1, score_slot = -1;
        t5_batch_result result, scored;
        t5_decoding d;
        t5_decoding_init(&d);
        d.num_beams = d.num_return_sequences = 2;
        d.max_new_tokens = 20;
        int32_t *ids = fixture_ids(json_object_get(fixture_case(f, i), "input_ids"), &n);
        t5_batch_request r = {.input_ids = ids, .n_input_ids = n, .decoding = &d, .wants_alignment = true};
        assert_ok(t5_batch_admit(f->batch, &r, &slot, &err), &err);
        run_until_done(f, &slot, 1);
        t5_batch_result_get(f->batch, slot, 1, &result);
        r = (t5_batch_request){.input_ids = ids,
                               .n_input_ids = n,
                               .prompt_ids = result.ids,
                               .n_prompt_ids = result.n_ids,
                               .is_score = true,
                               .wants_alignment = true};
        assert_ok(t5_batch_admit(f->batch, &r, &score_slot, &err), &err);
        run_until_done(f, &score_slot, 1);
        t5_batch_result_get(f->batch, score_slot, 0, &scored);
        assert_int_equal(scored.n_ids, result.n_ids);
        assert_memory_equal(scored.alignment, result.alignment, (size_t)result.n_ids * sizeof *scored.alignment);
        t5_batch_release(f->batch, slot);
        t5_batch_release(f->batch, score_slot);
        free(ids);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: test_fixtures DEVICE FOLDER\n");
        return 2;
    }
    device_name = argv[1];
    folder_name = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_match),
        cmocka_unit_test(alone_matches),
        cmocka_unit_test(together_matches),
        cmocka_unit_test(score_matches_beam),
        cmocka_unit_test(forced_prefix_continues),
        cmocka_unit_test(joining_and_leaving_matches),
        cmocka_unit_test(scored_alignment_is_the_same),
    };
    return cmocka_run_group_tests_name(folder_name, tests, setup, teardown);
}
