/* tests/test_fixtures.c DEVICE FOLDER: a model folder on a backend against what Hugging Face computed (tests/fixtures).
 */
#include "device/device.h"
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
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    async_backend_counts counts = async_backend_counts_get();
    bool saw_all = counts.n_padded > 0 && counts.n_late > 0 && counts.n_unfinished > 0;
    if (strcmp(device_name, "async") == 0 && !saw_all) return -1; /* the look-ahead was not exercised */
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
    t5_batch_request request = {.input_ids = ids, .n_input_ids = n, .decoding = &decoding};
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

/* Claim: greedy and beam search find Hugging Face's sequences and scores. Method: every case with every setting, alone.
 */
static void alone_matches(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < fixture_n_cases(f); i++) {
        const json_t *generates = json_object_get(fixture_case(f, i), "generate");
        for (size_t g = 0; g < json_array_size(generates); g++) {
            int32_t slot = -1;
            admit(f, i, json_array_get(generates, g), &slot);
            run_until_done(f, &slot, 1);
            fixture_check_results(f, slot, json_array_get(generates, g), SCORE_TOL);
            t5_batch_release(f->batch, slot);
        }
    }
    assert_int_equal(t5_batch_n_running(f->batch), 0);
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
            const json_t *generate = json_array_get(json_object_get(fixture_case(f, i), "generate"), settings[i]);
            fixture_check_results(f, slots[i], generate, SCORE_TOL);
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
            const json_t *generates = json_object_get(fixture_case(f, n_ended), "generate");
            fixture_check_results(f, slots[n_ended], json_array_get(generates, n_ended % n_settings), SCORE_TOL);
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
    };
    return cmocka_run_group_tests_name(folder_name, tests, setup, teardown);
}
