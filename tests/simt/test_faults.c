/* tests/simt/test_faults.c: bad luck. Every call of the CUDA runtime and of cuBLAS that a translation makes fails once,
 * in turn: alone, and as a device that stays lost. Every amount of memory too small is tried as well. */
#include "cuda/cuda_backend.h"
#include "model/batch.h"
#include "tests/simt/simt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MODEL T5_SOURCE_DIR "/tests/fixtures/silu-buckets"

/* A result, for who wants to compare it. */
typedef struct {
    int32_t n_ids, ids[16], alignment[16];
} outcome;

static t5_status decode(t5_batch *batch, outcome *out, t5_error *err)
{
    t5_status status = T5_OK;
    static const int32_t ids[66] = {[0] = 5, [1] = 9, [64] = 12, [65] = 1}; /* rows enough for cuBLASLt */
    t5_decoding decoding;
    int32_t slot = -1;
    *out = (outcome){0};
    t5_decoding_init(&decoding);
    decoding.num_beams = 2;
    decoding.max_new_tokens = 5; /* a step of 2 rows runs, is recorded, is replayed */
    t5_batch_request request = {
        .input_ids = ids, .n_input_ids = T5_COUNT(ids), .decoding = &decoding, .wants_alignment = true};
    T5_TRY(t5_batch_admit(batch, &request, &slot, err));
    T5_TRY(t5_batch_encode(batch, err));
    while (!t5_batch_is_done(batch, slot))
        T5_TRY(t5_batch_step(batch, err));
    t5_batch_result result;
    t5_batch_result_get(batch, slot, 0, &result);
    out->n_ids = result.n_ids;
    memcpy(out->ids, result.ids, (size_t)result.n_ids * sizeof *result.ids);
    memcpy(out->alignment, result.alignment, (size_t)result.n_ids * sizeof *result.alignment);
out:
    if (slot >= 0) t5_batch_release(batch, slot);
    return status;
}

static const t5_batch_limits limits = {
    .n_rows_max = T5_BEAMS_MAX, .src_len_max = 66, .tgt_len_max = 8, .enc_tokens_max = 66};

/* From nothing to a translation and back. */
static t5_status translate(t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = NULL;
    t5_model *model = NULL;
    t5_batch *batch = NULL;
    outcome ignored;
    t5_cuda_options options = {.type = T5_F16};
    T5_TRY(t5_cuda_create(&options, &backend, err));
    T5_TRY(t5_model_open(MODEL, backend, limits.src_len_max, limits.tgt_len_max, &model, err));
    T5_TRY(t5_batch_create(model, &limits, &batch, err));
    T5_TRY(decode(batch, &ignored, err));
out:
    t5_batch_destroy(batch);
    t5_model_close(model);
    if (backend != NULL) backend->ops->destroy(backend);
    return status;
}

static uint64_t count_calls(void)
{
    t5_error err = {0};
    uint64_t before = simt_call_count();
    assert_int_equal(translate(&err), T5_OK);
    return simt_call_count() - before;
}

static uint64_t memory_taken(void)
{
    simt_totals totals = simt_totals_get();
    return totals.device_bytes + totals.pinned_bytes;
}

/* Returns whether the run failed. */
static bool run_with_fault(uint64_t n, int error, bool is_sticky)
{
    t5_error err = {0};
    simt_fault_arm(n, error, is_sticky);
    t5_status status = translate(&err);
    simt_fault_disarm();
    if (memory_taken() != 0) fail_msg("call %llu: memory was not given back", (unsigned long long)n);
    if (status == T5_OK) return false;
    t5_status expected = error == cudaErrorMemoryAllocation ? T5_ERR_NOMEM : T5_ERR_DEVICE;
    if (status != expected && status != T5_ERR_DEVICE)
        fail_msg("call %llu: %s: %s", (unsigned long long)n, t5_status_name(status), err.text);
    assert_int_equal(err.status, status);
    assert_true(strlen(err.text) > 8);
    return true;
}

/* Claim: a call that fails is an error with a text, and nothing leaks or hangs. Method: call 0, 1, 2, ... of a whole
 * translation fails; only calls that give something back may fail unnoticed. */
static void every_call_fails_once(void **state)
{
    (void)state;
    uint64_t n_calls = count_calls();
    uint64_t n_noticed = 0;
    for (uint64_t n = 0; n < n_calls; n++)
        n_noticed += run_with_fault(n, cudaErrorLaunchFailure, false);
    printf("%llu of %llu failed calls were errors\n", (unsigned long long)n_noticed, (unsigned long long)n_calls);
    assert_true(n_noticed * 10 > n_calls * 6);
}

/* Claim: the same when the device stays lost. */
static void device_is_lost_at_every_call(void **state)
{
    (void)state;
    uint64_t n_calls = count_calls();
    for (uint64_t n = 0; n < n_calls; n += 7)
        run_with_fault(n, cudaErrorLaunchFailure, true);
}

/* Claim: memory that is too small is said so, with the numbers. Method: limits from nothing to just too little. */
static void memory_runs_out(void **state)
{
    (void)state;
    int n_failed = 0;
    for (uint64_t n_bytes = 1 << 20; n_bytes < (uint64_t)256 << 20; n_bytes += n_bytes / 6) {
        t5_error err = {0};
        simt_memory_limit(n_bytes);
        t5_status status = translate(&err);
        simt_memory_limit(UINT64_MAX);
        assert_int_equal(memory_taken(), 0);
        if (status == T5_OK) continue;
        assert_int_equal(status, T5_ERR_NOMEM);
        if (strstr(err.text, "MB free") == NULL) fail_msg("%s", err.text);
        n_failed++;
    }
    assert_true(n_failed > 10);
}

/* Claim: memory that runs out in the middle of the work fails the sequences of that step, and the next ones get what
 * they always get. Method: each call of a translation says so once, in turn, then one runs undisturbed; with a new
 * batch now and then, whose steps are recorded anew. */
static void work_goes_on_after_memory_ran_out(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *backend = NULL;
    t5_model *model = NULL;
    t5_batch *batch = NULL;
    outcome expected, got;
    t5_cuda_options options = {.type = T5_F16};
    assert_int_equal(t5_cuda_create(&options, &backend, &err), T5_OK);
    assert_int_equal(t5_model_open(MODEL, backend, limits.src_len_max, limits.tgt_len_max, &model, &err), T5_OK);
    uint64_t n_failed = 0, n_calls = 1;
    for (uint64_t n = 0; n < n_calls; n++) {
        t5_error refused = {0};
        if (n % 8 == 0) {
            t5_batch_destroy(batch);
            assert_int_equal(t5_batch_create(model, &limits, &batch, &err), T5_OK);
        }
        simt_fault_arm(n, cudaErrorMemoryAllocation, false);
        t5_status status = decode(batch, &got, &refused);
        simt_fault_disarm();
        if (status != T5_OK) {
            assert_true(status == T5_ERR_NOMEM || status == T5_ERR_DEVICE); /* cuBLAS does not tell */
            assert_true(strlen(refused.text) > 8);
            n_failed++;
        }
        uint64_t before = simt_call_count();
        if (decode(batch, &got, &err) != T5_OK) fail_msg("after call %d failed: %s", (int)n, err.text);
        n_calls = simt_call_count() - before;
        if (n == 0) expected = got;
        assert_memory_equal(&got, &expected, sizeof got);
    }
    assert_true(n_failed > 50);
    t5_batch_destroy(batch);
    t5_model_close(model);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(device_is_lost_at_every_call),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(work_goes_on_after_memory_ran_out),
    };
    return cmocka_run_group_tests_name("bad luck", tests, NULL, NULL);
}
