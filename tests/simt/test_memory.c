/* tests/simt/test_memory.c: what goes to the device's memory, when and how often. Only the host runtime can tell. */
#include "cuda/cuda_backend.h"
#include "model/memory.h"
#include "tests/assert_ok.h"
#include "tests/simt/simt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE(name) T5_SOURCE_DIR "/tests/fixtures/" name
#define MODEL FIXTURE("silu-buckets")
#define TIED FIXTURE("t5-v1.0")
#define UNTIED FIXTURE("t5-v1.1")

static const t5_batch_limits limits = {
    .n_rows_max = T5_BEAMS_MAX, .src_len_max = 16, .tgt_len_max = 12, .enc_tokens_max = 64};

static int setup(void **state)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    t5_cuda_options options = {.type = T5_F16};
    assert_ok(t5_cuda_create(&options, &backend, &err), &err);
    *state = backend;
    return 0;
}

static int teardown(void **state)
{
    t5_backend *backend = *state;
    backend->ops->destroy(backend);
    simt_memory_limit(UINT64_MAX);
    return 0;
}

static t5_model *open_model(t5_backend *backend, const char *dir)
{
    t5_error err = {0};
    t5_model *model = NULL;
    assert_ok(t5_model_open(dir, backend, limits.src_len_max, limits.tgt_len_max, &model, &err), &err);
    return model;
}

/* Claim: every weight goes up once, by way of pinned memory. Method: counts the bytes of uploads while a model is
 * opened: at least its parameters, at most what was allocated for it, none from pageable memory. */
static void weights_go_up_once(void **state)
{
    simt_totals before = simt_totals_get();
    t5_model *model = open_model(*state, MODEL);
    simt_totals after = simt_totals_get();
    t5_weights_summary summary;
    t5_weights_summarize(model->weights, model->hp.is_tied, &summary);
    uint64_t uploaded = after.uploaded_bytes - before.uploaded_bytes;
    assert_true(uploaded >= (uint64_t)summary.n_params * sizeof(uint16_t));
    assert_true(uploaded <= after.device_bytes - before.device_bytes);
    assert_int_equal(after.pageable_bytes, before.pageable_bytes);
    t5_model_close(model);
    assert_int_equal(simt_totals_get().device_bytes, before.device_bytes);
}

/* Claim: a tied head and the embedding table are one copy; an untied head is its own. */
static void tied_head_is_the_table(void **state)
{
    t5_model *tied = open_model(*state, TIED), *untied = open_model(*state, UNTIED);
    assert_true(tied->hp.is_tied && !untied->hp.is_tied);
    assert_ptr_equal(tied->head, tied->table);
    assert_ptr_not_equal(untied->head, untied->table);
    t5_model_close(tied);
    t5_model_close(untied);
}

/* Claim: a model that is too large is refused with both numbers before anything goes up, and one that just fits is not.
 * Method: learns what the model and its batch take, then gives the device a byte less, or that. */
static void what_does_not_fit_is_refused_at_once(void **state)
{
    t5_backend *backend = *state;
    t5_error err = {0}, refused = {0};
    t5_batch *batch = NULL;
    uint64_t before = simt_totals_get().device_bytes;
    t5_model *model = open_model(backend, MODEL);
    assert_ok(t5_batch_create(model, &limits, &batch, &err), &err);
    uint64_t full = simt_totals_get().device_bytes;
    t5_batch_destroy(batch);
    t5_model_close(model);

    simt_totals totals = simt_totals_get();
    simt_memory_limit(full - 1);
    assert_int_equal(t5_memory_check(MODEL, backend, &limits, &refused), T5_ERR_NOMEM);
    double needed = 0, available = 0;
    const char *numbers = strstr(refused.text, "needs ");
    assert_non_null(numbers);
    assert_int_equal(sscanf(numbers, "needs %lf MB for weights and cache", &needed), 1);
    numbers = strstr(refused.text, " has ");
    assert_non_null(numbers);
    assert_int_equal(sscanf(numbers, " has %lf MB free", &available), 1);
    assert_true(needed >= available && available > 0);
    assert_int_equal(simt_totals_get().uploaded_bytes, totals.uploaded_bytes);
    assert_int_equal(simt_totals_get().n_allocations, totals.n_allocations);

    simt_memory_limit(full + (full - before) / 20 + 100000); /* the check rounds each allocation up */
    assert_ok(t5_memory_check(MODEL, backend, &limits, &err), &err);
    assert_int_equal(simt_totals_get().n_allocations, totals.n_allocations);
    simt_memory_limit(UINT64_MAX);
}

/* One request to its end. */
static void decode(t5_batch *batch, int32_t num_beams)
{
    t5_error err = {0};
    static const int32_t ids[] = {5, 9, 12, 1};
    int32_t slot = -1;
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = num_beams;
    decoding.max_new_tokens = 6;
    decoding.min_new_tokens = 6;
    t5_batch_request request = {.input_ids = ids, .n_input_ids = T5_COUNT(ids), .decoding = &decoding};
    assert_ok(t5_batch_admit(batch, &request, &slot, &err), &err);
    assert_ok(t5_batch_encode(batch, &err), &err);
    while (!t5_batch_is_done(batch, slot))
        assert_ok(t5_batch_step(batch, &err), &err);
    t5_batch_release(batch, slot);
}

/* Claim: after warm-up nothing is allocated. Method: warm-up records steps; then requests of 1 to 32 rows. */
static void steps_allocate_nothing(void **state)
{
    t5_backend *backend = *state;
    t5_error err = {0};
    t5_batch *batch = NULL;
    static const int32_t beams[] = {1, 2, 3, 5, 8, 12, 32};
    t5_model *model = open_model(backend, MODEL);
    assert_ok(t5_batch_create(model, &limits, &batch, &err), &err);
    uint64_t before = simt_totals_get().n_allocations;
    assert_ok(t5_batch_warm_up(batch, &err), &err);
    uint64_t warm = simt_totals_get().n_allocations;
    assert_true(warm > before); /* recorded steps: else the count counts nothing */
    for (size_t i = 0; i < T5_COUNT(beams); i++)
        decode(batch, beams[i]);
    assert_int_equal(simt_totals_get().n_allocations, warm);
    t5_batch_destroy(batch);
    t5_model_close(model);
}

/* Claim: steps go on where there is no memory to record them, and do not ask again. Method: a device that refuses every
 * recording; requests as above. */
static void steps_go_on_unrecorded(void **state)
{
    t5_backend *backend = *state;
    t5_error err = {0};
    t5_batch *batch = NULL;
    t5_model *model = open_model(backend, MODEL);
    assert_ok(t5_batch_create(model, &limits, &batch, &err), &err);
    simt_refuse_graphs(true);
    assert_ok(t5_batch_warm_up(batch, &err), &err);
    simt_refuse_graphs(false);
    uint64_t before = simt_totals_get().n_allocations;
    decode(batch, 3);
    assert_int_equal(simt_totals_get().n_allocations, before);
    t5_batch_destroy(batch);
    t5_model_close(model);
}

/* Claim: a width of heads that no kernel has is refused when the model is opened, by name. Method: a folder with a
 * config.json alone: nothing else is looked at before. */
static void unknown_width_is_refused_at_open(void **state)
{
    t5_error err = {0};
    t5_model *model = NULL;
    char dir[] = "/tmp/t5-memory-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "{\"model_type\": \"t5\", \"d_model\": 64, \"d_kv\": 68, \"d_ff\": 64, \"num_heads\": 2, "
                  "\"num_layers\": 1, \"vocab_size\": 128, \"decoder_start_token_id\": 0}");
    fclose(file);
    t5_status status = t5_model_open(dir, *state, limits.src_len_max, limits.tgt_len_max, &model, &err);
    unlink(path);
    rmdir(dir);
    assert_int_equal(status, T5_ERR_ARG);
    assert_non_null(strstr(err.text, "d_kv is 68"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_go_up_once),
        cmocka_unit_test(tied_head_is_the_table),
        cmocka_unit_test(what_does_not_fit_is_refused_at_once),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(steps_go_on_unrecorded),
        cmocka_unit_test(unknown_width_is_refused_at_open),
    };
    return cmocka_run_group_tests_name("device memory", tests, setup, teardown);
}
