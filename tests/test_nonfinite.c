/* tests/test_nonfinite.c [DEVICE TYPE]: a model whose scores are no numbers. Without arguments on every CPU backend. */
#include "device/device.h"
#include "model/batch.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL T5_SOURCE_DIR "/tests/fixtures/silu-buckets"

enum { MAX_NEW_TOKENS = 6 };

static const char *const cpu_devices[][2] = {
    {"cpu-ref", "float32"}, {"cpu", "float32"}, {"cpu", "float16"}, {"cpu", "bfloat16"}, {"cpu", "int8"}};
static const char *chosen_device[2];

typedef struct {
    const char *name;
    t5_decoding decoding;
    bool is_score, wants_logprobs;
} way;

/* Every mode of the search; words are masked in some, so that not every score is NaN. */
static int list_ways(way *out)
{
    t5_decoding plain;
    t5_decoding_init(&plain);
    plain.max_new_tokens = MAX_NEW_TOKENS;
    t5_decoding masked = plain, beams = plain, sample = plain, limited = plain, processed = plain;
    masked.min_new_tokens = 2;
    masked.n_suppress = 1;
    masked.suppress_tokens[0] = 0;
    beams.num_beams = 4;
    beams.n_suppress = 1;
    sample.do_sample = true;
    sample.num_return_sequences = 3;
    limited = sample;
    limited.top_k = 5;
    limited.top_p = 0.9f;
    processed.repetition_penalty = 1.2f;
    processed.no_repeat_ngram_size = 2;
    const way ways[] = {
        {"greedy", plain, false, false},   {"greedy, masked", masked, false, false},
        {"log-probs", plain, false, true}, {"beams", beams, false, false},
        {"sampling", sample, false, true}, {"limited sampling", limited, false, false},
        {"score", plain, true, false},     {"processors", processed, false, false},
    };
    memcpy(out, ways, sizeof ways);
    return (int)T5_COUNT(ways);
}

/* Runs one request to its end; bounded, as every step computes a token or ends the slot. */
static t5_status run(t5_batch *batch, const way *w, t5_error *out_reason)
{
    static const int32_t ids[] = {5, 9, 12, 1}, target[] = {7, 8, 1};
    t5_error err = {0};
    int32_t slot = -1;
    t5_batch_request request = {.input_ids = ids,
                                .n_input_ids = T5_COUNT(ids),
                                .decoding = w->is_score ? NULL : &w->decoding,
                                .wants_logprobs = w->wants_logprobs,
                                .is_score = w->is_score};
    if (w->is_score) {
        request.prompt_ids = target;
        request.n_prompt_ids = T5_COUNT(target);
    }
    assert_ok(t5_batch_check(batch, &request, &err), &err);
    assert_ok(t5_batch_admit(batch, &request, &slot, &err), &err);
    assert_ok(t5_batch_encode(batch, &err), &err);
    for (int i = 0; i < MAX_NEW_TOKENS + 4 && !t5_batch_is_done(batch, slot); i++)
        assert_ok(t5_batch_step(batch, &err), &err);
    if (!t5_batch_is_done(batch, slot)) fail_msg("%s: does not end", w->name);
    t5_status status = t5_batch_outcome(batch, slot, out_reason);
    if ((status == T5_OK) != (t5_batch_n_results(batch, slot) > 0)) fail_msg("%s: results and outcome differ", w->name);
    t5_batch_release(batch, slot);
    return status;
}

/* Puts `value` in place of one gain of the last norm: then no score is a number. Returns what was there. */
static float poison(t5_model *model, float value)
{
    t5_error err = {0};
    t5_backend *b = model->backend;
    float old = 0.0f;
    assert_ok(b->ops->sync(b, &err), &err);
    assert_ok(b->ops->download(b, &old, model->dec_norm + 3, sizeof old, &err), &err);
    assert_ok(b->ops->upload(b, model->dec_norm + 3, &value, sizeof value, &err), &err);
    return old;
}

static void run_on(const char *device, const char *type)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    t5_model *model = NULL;
    t5_batch *batch = NULL;
    way ways[16];
    int n_ways = list_ways(ways);
    t5_device_options options = {.device = device, .compute_type = type, .n_threads = 1};
    t5_batch_limits limits = {.n_rows_max = T5_BEAMS_MAX, .src_len_max = 8, .tgt_len_max = 12, .enc_tokens_max = 8};
    assert_ok(t5_device_open(&options, &backend, &err), &err);
    assert_ok(t5_model_open(MODEL, backend, limits.src_len_max, limits.tgt_len_max, &model, &err), &err);
    assert_ok(t5_batch_create(model, &limits, &batch, &err), &err);
    static const float values[] = {NAN, -NAN, INFINITY};
    for (size_t k = 0; k < T5_COUNT(values); k++) {
        float old = poison(model, values[k]);
        for (int i = 0; i < n_ways; i++) {
            t5_error reason = {0};
            int64_t before = t5_batch_n_nonfinite(batch);
            if (run(batch, &ways[i], &reason) != T5_ERR_FORMAT)
                fail_msg("%s: %s, %g", device, ways[i].name, (double)values[k]);
            assert_non_null(strstr(reason.text, "finite"));
            assert_int_equal(t5_batch_n_nonfinite(batch), before + 1);
        }
        poison(model, old);
        int64_t before = t5_batch_n_nonfinite(batch);
        for (int i = 0; i < n_ways; i++)
            assert_ok(run(batch, &ways[i], &err), &err);
        assert_int_equal(t5_batch_n_nonfinite(batch), before);
    }
    t5_batch_destroy(batch);
    t5_model_close(model);
    backend->ops->destroy(backend);
}

/* Claim: a sequence for which the model gives no numbers ends with an error and is counted, in every mode; the next
 * ones are not touched. Method: a NaN, of either sign, or an infinity in the last norm; then the norm as it was. */
static void broken_scores_end_the_sequence(void **state)
{
    (void)state;
    if (chosen_device[0] != NULL) {
        run_on(chosen_device[0], chosen_device[1]);
        return;
    }
    for (size_t i = 0; i < T5_COUNT(cpu_devices); i++)
        run_on(cpu_devices[i][0], cpu_devices[i][1]);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        chosen_device[0] = argv[1];
        chosen_device[1] = argv[2];
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(broken_scores_end_the_sequence)};
    return cmocka_run_group_tests_name("scores that are no numbers", tests, NULL, NULL);
}
