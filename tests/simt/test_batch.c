/* tests/simt/test_batch.c: properties of whole decode steps on the GPU backend that only the host runtime can show: how
 * many kernels a step has, and that company changes no bit of a result. */
#include "cuda/cuda_backend.h"
#include "model/batch.h"
#include "tests/assert_ok.h"
#include "tests/simt/simt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL T5_SOURCE_DIR "/tests/fixtures/silu-buckets"

enum { N_SENTENCES = 48, N_BATCHINGS = 4, SRC_LEN_MAX = 24, TGT_LEN_MAX = 12, ROWS_MAX = 64 };

typedef struct {
    t5_backend *backend;
    t5_model *model;
    t5_batch *batch;
    uint64_t random;
} rig;

/* One result, to compare bit for bit. */
typedef struct {
    int32_t n_ids, ids[TGT_LEN_MAX], alignment[TGT_LEN_MAX];
    float score, logprobs[TGT_LEN_MAX];
} outcome;

typedef struct {
    int32_t n_ids, ids[SRC_LEN_MAX];
    int32_t num_beams;
    bool wants_alignment;
} sentence;

static int setup(void **state)
{
    t5_error err = {0};
    rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    t5_cuda_options options = {.type = T5_F16, .is_deterministic = true};
    t5_batch_limits limits = {.n_rows_max = ROWS_MAX,
                              .src_len_max = SRC_LEN_MAX,
                              .tgt_len_max = TGT_LEN_MAX,
                              .enc_tokens_max = ROWS_MAX * SRC_LEN_MAX};
    r->random = 42;
    assert_ok(t5_cuda_create(&options, &r->backend, &err), &err);
    assert_ok(t5_model_open(MODEL, r->backend, SRC_LEN_MAX, TGT_LEN_MAX, &r->model, &err), &err);
    assert_ok(t5_batch_create(r->model, &limits, &r->batch, &err), &err);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig *r = *state;
    t5_batch_destroy(r->batch);
    t5_model_close(r->model);
    r->backend->ops->destroy(r->backend);
    free(r);
    return 0;
}

static int32_t below(rig *r, int32_t n)
{
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((r->random >> 33) % (uint64_t)n);
}

static int32_t admit(rig *r, const sentence *s)
{
    t5_error err = {0};
    int32_t slot = -1;
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = s->num_beams;
    decoding.max_new_tokens = TGT_LEN_MAX - 2;
    t5_batch_request request = {.input_ids = s->ids,
                                .n_input_ids = s->n_ids,
                                .decoding = &decoding,
                                .wants_logprobs = true,
                                .wants_alignment = s->wants_alignment};
    assert_ok(t5_batch_admit(r->batch, &request, &slot, &err), &err);
    return slot;
}

static void finish(rig *r, int32_t slot, outcome *out)
{
    t5_batch_result result;
    t5_batch_result_get(r->batch, slot, 0, &result);
    memset(out, 0, sizeof *out);
    out->n_ids = result.n_ids;
    out->score = result.score;
    assert_in_range(result.n_ids, 1, TGT_LEN_MAX);
    memcpy(out->ids, result.ids, (size_t)result.n_ids * sizeof *out->ids);
    memcpy(out->logprobs, result.logprobs, (size_t)result.n_ids * sizeof *out->logprobs);
    if (result.alignment != NULL)
        memcpy(out->alignment, result.alignment, (size_t)result.n_ids * sizeof *out->alignment);
    t5_batch_release(r->batch, slot);
}

/* Runs sentences order[0 .. n - 1] together, all admitted at once. */
static void run_together(rig *r, const sentence *sentences, const int32_t *order, int32_t n, outcome *out)
{
    t5_error err = {0};
    int32_t slots[ROWS_MAX];
    for (int32_t i = 0; i < n; i++)
        slots[i] = admit(r, &sentences[order[i]]);
    assert_ok(t5_batch_encode(r->batch, &err), &err);
    for (int32_t i = 0; i < n; i++) {
        while (!t5_batch_is_done(r->batch, slots[i]))
            assert_ok(t5_batch_step(r->batch, &err), &err);
    }
    for (int32_t i = 0; i < n; i++)
        finish(r, slots[i], &out[order[i]]);
}

static void shuffle(rig *r, int32_t *order)
{
    for (int32_t i = N_SENTENCES - 1; i > 0; i--) {
        int32_t j = below(r, i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* Claim: the same sentence gives the same tokens, scores, log-probabilities and alignments, bit for bit, alone and in
 * any company. Method: sentences of all lengths, greedy and beams mixed, every second with an alignment, alone and then
 * in batches drawn at random. */
static void company_changes_no_bit(void **state)
{
    rig *r = *state;
    static sentence sentences[N_SENTENCES];
    static outcome alone[N_SENTENCES], together[N_SENTENCES];
    int32_t order[N_SENTENCES];
    for (int32_t i = 0; i < N_SENTENCES; i++) {
        sentence *s = &sentences[i];
        s->n_ids = 1 + below(r, SRC_LEN_MAX);
        s->num_beams = i % 3 == 0 ? 3 : 1;
        s->wants_alignment = i % 2 == 0;
        for (int32_t k = 0; k < s->n_ids; k++)
            s->ids[k] = 3 + below(r, r->model->hp.vocab_size - 3);
        s->ids[s->n_ids - 1] = r->model->hp.eos_id;
        order[i] = i;
        run_together(r, sentences, &order[i], 1, alone);
    }
    for (int i_batching = 0; i_batching < N_BATCHINGS; i_batching++) {
        shuffle(r, order);
        for (int32_t i = 0; i < N_SENTENCES;) {
            int32_t n = 1 + below(r, ROWS_MAX / 3);
            n = n < N_SENTENCES - i ? n : N_SENTENCES - i;
            run_together(r, sentences, order + i, n, together);
            i += n;
        }
        for (int32_t i = 0; i < N_SENTENCES; i++)
            assert_memory_equal(&together[i], &alone[i], sizeof alone[i]);
    }
}

/* Kernels of the second, third and fourth step of n greedy sentences. */
static void expect_kernels(rig *r, int32_t n, uint64_t n_kernels)
{
    t5_error err = {0};
    sentence s = {.n_ids = 5, .ids = {9, 8, 7, 6, 1}, .num_beams = 1};
    outcome out;
    int32_t slots[ROWS_MAX];
    for (int32_t i = 0; i < n; i++)
        slots[i] = admit(r, &s);
    assert_ok(t5_batch_encode(r->batch, &err), &err);
    assert_ok(r->backend->ops->sync(r->backend, &err), &err);
    assert_ok(t5_batch_step(r->batch, &err), &err);
    for (int i = 0; i < 3; i++) {
        assert_ok(r->backend->ops->sync(r->backend, &err), &err);
        simt_totals before = simt_totals_get();
        assert_ok(t5_batch_step(r->batch, &err), &err);
        assert_ok(r->backend->ops->sync(r->backend, &err), &err);
        assert_int_equal(simt_totals_get().n_launches - before.n_launches, n_kernels);
        assert_int_equal(simt_totals_get().n_overlapping - before.n_overlapping, n_kernels);
    }
    for (int32_t i = 0; i < n; i++) {
        while (!t5_batch_is_done(r->batch, slots[i]))
            assert_ok(t5_batch_step(r->batch, &err), &err);
        finish(r, slots[i], &out);
    }
}

/* Claim: a decoder layer is 8 kernels up to 64 rows, and a step has 4 more: embedding, head, two of the search; the
 * launches of a recorded step are those of the step itself, and each may begin before the one before ended. Method:
 * counts kernels over steps of 1, 9 and 64 rows. */
static void step_has_few_kernels(void **state)
{
    rig *r = *state;
    uint64_t n_kernels = (uint64_t)(8 * r->model->hp.n_dec_layers + 4);
    expect_kernels(r, 1, n_kernels);
    expect_kernels(r, 9, n_kernels);
    expect_kernels(r, ROWS_MAX, n_kernels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(step_has_few_kernels),
    };
    return cmocka_run_group_tests_name("decode steps", tests, setup, teardown);
}
