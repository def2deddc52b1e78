/* tests/test_agreement.c DEVICE FOLDER: a fixture folder in float16 and bfloat16 on a fast backend: how far states and
 * logits are from Hugging Face's float32, and how many sequences are the same. The models are tiny and were fitted to a
 * few sentences, so that near ties are many: the bounds say what is expected of rounding, not of a real model. */
#include "device/device.h"
#include "tests/assert_ok.h"
#include "tests/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *device_name, *folder_name;

static void open_fixture(fixture *f, const char *compute_type)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    t5_device_options options = {.device = device_name, .compute_type = compute_type};
    assert_ok(t5_device_open(&options, &backend, &err), &err);
    fixture_open(f, folder_name, backend);
}

/* Largest relative errors of encoder states and logits over the cases. */
static void measure_states(fixture *f, double *encoder_error, double *logits_error)
{
    *encoder_error = *logits_error = 0.0;
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
        double error = max_rel_error(encoder, expected, (size_t)rows * (size_t)cols);
        *encoder_error = error > *encoder_error ? error : *encoder_error;
        free(expected);
        expected = fixture_expected(f, i, "logits", &rows, &cols);
        int32_t stride = rows == n_dec ? 1 : 10;
        for (int32_t r = 0; r < rows; r++) {
            error = max_rel_error(logits + (size_t)(r * stride) * vocab_size, expected + (size_t)r * vocab_size,
                                  vocab_size);
            *logits_error = error > *logits_error ? error : *logits_error;
        }
        free(expected);
        free(encoder);
        free(logits);
        free(input);
        free(forced);
    }
}

static bool is_same_as_expected(const fixture *f, int32_t slot, const json_t *generate)
{
    int32_t n = 0;
    t5_batch_result result;
    int32_t *ids = fixture_ids(json_array_get(json_object_get(generate, "sequences"), 0), &n);
    n = fixture_trim(f, ids, n);
    t5_batch_result_get(f->batch, slot, 0, &result);
    bool is_same = result.n_ids == n;
    for (int32_t i = 0; i < n && is_same; i++)
        is_same = result.ids[i] == ids[i];
    free(ids);
    return is_same;
}

/* Runs every case with setting `g` together; returns how many best sequences are Hugging Face's. */
static size_t count_same(fixture *f, size_t g)
{
    int32_t slots[16];
    size_t n = fixture_n_cases(f), n_same = 0;
    t5_error err = {0};
    assert_true(n <= T5_COUNT(slots));
    for (size_t i = 0; i < n; i++) {
        int32_t n_ids = 0;
        t5_decoding decoding;
        fixture_decoding(json_array_get(json_object_get(fixture_case(f, i), "generate"), g), &decoding);
        int32_t *ids = fixture_ids(json_object_get(fixture_case(f, i), "input_ids"), &n_ids);
        t5_batch_request request = {.input_ids = ids, .n_input_ids = n_ids, .decoding = &decoding};
        assert_ok(t5_batch_admit(f->batch, &request, &slots[i], &err), &err);
        free(ids);
    }
    assert_ok(t5_batch_encode(f->batch, &err), &err);
    for (size_t i = 0; i < n; i++) {
        while (!t5_batch_is_done(f->batch, slots[i]))
            assert_ok(t5_batch_step(f->batch, &err), &err);
    }
    for (size_t i = 0; i < n; i++) {
        n_same += is_same_as_expected(f, slots[i], json_array_get(json_object_get(fixture_case(f, i), "generate"), g));
        t5_batch_release(f->batch, slots[i]);
    }
    return n_same;
}

/* The last setting whose beams all fit into the batch at once. */
static size_t last_setting(const fixture *f)
{
    const json_t *generates = json_object_get(fixture_case(f, 0), "generate");
    size_t g = json_array_size(generates);
    json_int_t num_beams = 0;
    do {
        g--;
        num_beams =
            json_integer_value(json_object_get(json_object_get(json_array_get(generates, g), "settings"), "num_beams"));
    } while (num_beams * (json_int_t)fixture_n_cases(f) > 64);
    return g;
}

static void run(const char *type, double error_max, double same_min)
{
    fixture f;
    double encoder_error, logits_error;
    open_fixture(&f, type);
    measure_states(&f, &encoder_error, &logits_error);
    size_t n_same = count_same(&f, 0) + count_same(&f, last_setting(&f));
    size_t n = 2 * fixture_n_cases(&f);
    printf("%s %s %s: encoder error %.2g, logits error %.2g, %zu of %zu sequences equal\n", device_name, folder_name,
           type, encoder_error, logits_error, n_same, n);
    fixture_close(&f);
    assert_true(encoder_error <= error_max && logits_error <= error_max);
    assert_true((double)n_same >= same_min * (double)n);
}

/* Claim: float16 with the float32 residual stream stays close to float32. */
static void float16_agrees(void **state)
{
    (void)state;
    run("float16", 1e-2, 0.8);
}

/* Claim: bfloat16, with 8 bits of mantissa, stays as close as these allow. */
static void bfloat16_agrees(void **state)
{
    (void)state;
    run("bfloat16", 8e-2, 0.5);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: test_agreement DEVICE FOLDER\n");
        return 2;
    }
    device_name = argv[1];
    folder_name = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float16_agrees),
        cmocka_unit_test(bfloat16_agrees),
    };
    return cmocka_run_group_tests_name(folder_name, tests, NULL, NULL);
}
