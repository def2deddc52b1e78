/* tests/simt/test_counters.c: the memory behaviour of the kernels, measured without a GPU (counters.h), on the bundled
 * model: encodes a few sources and decodes them, greedy and with beams. Prints the table of docs/performance.md. */
#include "cuda/cuda_backend.h"
#include "model/batch.h"
#include "tests/assert_ok.h"
#include "tests/simt/counters.h"
#include "tests/simt/simt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MODEL T5_SOURCE_DIR "/models/t5-tatoeba"

enum { SRC_LEN = 40, TGT_LEN_MAX = 24 };

static void run(t5_batch *batch, int32_t n_sources, int32_t num_beams, bool aligns)
{
    t5_error err = {0};
    int32_t slots[8], ids[SRC_LEN];
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = num_beams;
    decoding.max_new_tokens = decoding.min_new_tokens = 4;
    for (int32_t i = 0; i < n_sources; i++) {
        for (int32_t k = 0; k < SRC_LEN; k++)
            ids[k] = 10 + (i * 97 + k * 31) % 5000;
        ids[SRC_LEN - 1] = 1;
        t5_batch_request request = {
            .input_ids = ids, .n_input_ids = SRC_LEN, .decoding = &decoding, .wants_alignment = aligns};
        assert_ok(t5_batch_admit(batch, &request, &slots[i], &err), &err);
    }
    assert_ok(t5_batch_encode(batch, &err), &err);
    for (int32_t i = 0; i < n_sources; i++) {
        while (!t5_batch_is_done(batch, slots[i]))
            assert_ok(t5_batch_step(batch, &err), &err);
        t5_batch_release(batch, slots[i]);
    }
}

/* Claim: weights, keys and values are read in whole sectors, and shared memory is read without many conflicts. Method:
 * counts the accesses of real decode steps; the bounds are what the kernels reach today, rounded down. */
static void accesses_are_coalesced(void **state)
{
    (void)state;
    t5_error err = {0};
    simt_config config = simt_config_get();
    config.is_serial = true; /* counts are those of one block at a time */
    simt_config_set(&config);
    t5_backend *backend = NULL;
    t5_model *model = NULL;
    t5_batch *batch = NULL;
    t5_cuda_options options = {.type = T5_F16};
    t5_batch_limits limits = {
        .n_rows_max = 32, .src_len_max = SRC_LEN, .tgt_len_max = TGT_LEN_MAX, .enc_tokens_max = 4 * SRC_LEN};
    assert_ok(t5_cuda_create(&options, &backend, &err), &err);
    assert_ok(t5_model_open(MODEL, backend, limits.src_len_max, limits.tgt_len_max, &model, &err), &err);
    assert_ok(t5_batch_create(model, &limits, &batch, &err), &err);
    run(batch, 1, 1, false);
    run(batch, 2, 4, false);
    simt_counters_print();
    assert_true(simt_counters_share("(linear_kernel", 0, 0) > 0.98);
    assert_true(simt_counters_share("(cross_attention_kernel", 0, 0) > 0.98);
    assert_true(simt_counters_share("(self_attention_kernel", 0, 0) > 0.8);
    assert_true(simt_counters_share("(cross_attention_kernel", 1, 1) > 0.9);
    assert_true(simt_counters_share("(encoder_attention_kernel", 1, 0) > 0.98);
    run(batch, 1, 1, true);
    assert_true(simt_counters_share("(cross_weights_kernel", 0, 0) > 0.9);
    t5_batch_destroy(batch);
    t5_model_close(model);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accesses_are_coalesced)};
    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
