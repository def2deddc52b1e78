/* tests/test_batch.c: the running batch: limits, releasing half-way, block accounting, independence from company; the
 * KV block allocator; T5's buckets. Reference backend, fixture t5-v1.0. */
#include "cpu/cpu.h"
#include "model/kv_cache.h"
#include "tests/assert_ok.h"
#include "tests/async_backend.h"
#include "tests/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    assert_ok(t5_cpu_ref_create(&backend, &err), &err);
    fixture *f = malloc(sizeof *f);
    fixture_open(f, "t5-v1.0", backend);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static const int32_t INPUT[] = {104, 30, 38, 22, 50, 50, 110, 44, 56, 73, 55, 44, 22, 53, 26, 61, 20, 1};

static t5_batch_request request_of(const t5_decoding *decoding)
{
    return (t5_batch_request){.input_ids = INPUT, .n_input_ids = (int32_t)T5_COUNT(INPUT), .decoding = decoding};
}

static void expect_refused(const fixture *f, const t5_batch_request *r, const char *says)
{
    t5_error err = {0};
    assert_int_equal(t5_batch_check(f->batch, r, &err), T5_ERR_ARG);
    if (strstr(err.text, says) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

/* Claim: each thing that cannot run is refused with a text that names it. */
static void check_names_what_is_wrong(void **state)
{
    const fixture *f = *state;
    t5_decoding d;
    t5_decoding_init(&d);
    d.max_new_tokens = 20;
    int32_t long_ids[600];
    for (size_t i = 0; i < T5_COUNT(long_ids); i++)
        long_ids[i] = 5;
    int32_t bad_ids[] = {5, 1024, 1};
    int32_t negative_ids[] = {-1};
    t5_batch_request r = request_of(&d);
    t5_error err = {0};
    assert_ok(t5_batch_check(f->batch, &r, &err), &err);

    r.n_input_ids = 0;
    expect_refused(f, &r, "input_ids: empty");
    r = request_of(&d);
    r.input_ids = long_ids;
    r.n_input_ids = 513;
    expect_refused(f, &r, "513 tokens exceeds the limit of 512");
    r.input_ids = bad_ids;
    r.n_input_ids = 3;
    expect_refused(f, &r, "id 1024 at index 1");
    r = request_of(&d);
    r.prompt_ids = negative_ids;
    r.n_prompt_ids = 1;
    expect_refused(f, &r, "decoder_input_ids: id -1");
    r.prompt_ids = long_ids;
    r.n_prompt_ids = 256;
    expect_refused(f, &r, "decoder_input_ids of 256 tokens");
    r.n_prompt_ids = 250;
    expect_refused(f, &r, "max_new_tokens: 20");
    r = request_of(NULL);
    r.is_score = true;
    expect_refused(f, &r, "target: empty");
    d.num_return_sequences = 3;
    r = request_of(&d);
    expect_refused(f, &r, "num_return_sequences");
}

static void run_to_end(fixture *f, int32_t slot)
{
    t5_error err = {0};
    assert_ok(t5_batch_encode(f->batch, &err), &err);
    for (int32_t i = 0; !t5_batch_is_done(f->batch, slot); i++) {
        assert_true(i < 300);
        assert_ok(t5_batch_step(f->batch, &err), &err);
    }
}

/* Claim: nothing leaks when slots leave at any time. Method: 200 rounds of admitting until full, some steps, releasing
 * in different orders; afterwards as much fits as at first. */
static void release_at_any_time(void **state)
{
    fixture *f = *state;
    t5_decoding d;
    t5_decoding_init(&d);
    d.max_new_tokens = 40;
    int32_t n_first = 0;
    for (int32_t round = 0; round < 200; round++) {
        t5_error err = {0};
        int32_t slots[64];
        int32_t n = 0;
        d.num_beams = 1 + round % 5;
        t5_batch_request r = request_of(&d);
        while (n < 64 && t5_batch_admit(f->batch, &r, &slots[n], &err) == T5_OK)
            n++;
        if (round == 0) n_first = n;
        if (round % 3 == 0) t5_batch_release(f->batch, slots[--n]); /* before it was encoded */
        t5_error_clear(&err);
        assert_ok(t5_batch_encode(f->batch, &err), &err);
        for (int32_t i = 0; round % 40 == 0 && i < 3; i++)
            assert_ok(t5_batch_step(f->batch, &err), &err);
        for (int32_t i = 0; i < n; i++)
            t5_batch_release(f->batch, slots[round % 2 == 0 ? i : n - 1 - i]);
        assert_int_equal(t5_batch_n_running(f->batch), 0);
        assert_int_equal(t5_batch_n_rows_running(f->batch), 0);
    }
    t5_error err = {0};
    int32_t slots[64];
    int32_t n = 0;
    d.num_beams = 1;
    t5_batch_request r = request_of(&d);
    while (n < 64 && t5_batch_admit(f->batch, &r, &slots[n], &err) == T5_OK)
        n++;
    assert_int_equal(n, n_first);
    for (int32_t i = 0; i < n; i++)
        t5_batch_release(f->batch, slots[i]);
}

/* Claim: sampled texts depend on their seed, not on company or on when they were admitted. Method: alone, then admitted
 * while three others are half-way. */
static void samples_ignore_company(void **state)
{
    fixture *f = *state;
    t5_error err = {0};
    t5_decoding sampled, other;
    t5_decoding_init(&sampled);
    t5_decoding_init(&other);
    sampled.do_sample = true;
    sampled.num_return_sequences = 3;
    sampled.seed = 7;
    sampled.max_new_tokens = 30;
    other.num_beams = 3;
    other.max_new_tokens = 60;
    int32_t slot = -1;
    t5_batch_request r = request_of(&sampled);
    assert_ok(t5_batch_admit(f->batch, &r, &slot, &err), &err);
    run_to_end(f, slot);
    assert_int_equal(t5_batch_n_results(f->batch, slot), 3);
    int32_t alone[3][64], n_alone[3];
    for (int32_t i = 0; i < 3; i++) {
        t5_batch_result result;
        t5_batch_result_get(f->batch, slot, i, &result);
        n_alone[i] = result.n_ids;
        memcpy(alone[i], result.ids, (size_t)result.n_ids * sizeof(int32_t));
    }
    t5_batch_release(f->batch, slot);

    int32_t others[3];
    r = request_of(&other);
    for (int32_t i = 0; i < 3; i++)
        assert_ok(t5_batch_admit(f->batch, &r, &others[i], &err), &err);
    assert_ok(t5_batch_encode(f->batch, &err), &err);
    for (int32_t i = 0; i < 2; i++)
        assert_ok(t5_batch_step(f->batch, &err), &err);
    r = request_of(&sampled);
    assert_ok(t5_batch_admit(f->batch, &r, &slot, &err), &err);
    run_to_end(f, slot);
    for (int32_t i = 0; i < 3; i++) {
        t5_batch_result result;
        t5_batch_result_get(f->batch, slot, i, &result);
        assert_int_equal(result.n_ids, n_alone[i]);
        assert_memory_equal(result.ids, alone[i], (size_t)n_alone[i] * sizeof(int32_t));
    }
    t5_batch_release(f->batch, slot);
    for (int32_t i = 0; i < 3; i++)
        t5_batch_release(f->batch, others[i]);
}

/* Claim: a result that max_new_tokens cut says so, one that ended by itself does not. */
static void truncation_is_told(void **state)
{
    fixture *f = *state;
    for (int32_t max = 3; max <= 30; max += 27) {
        t5_error err = {0};
        t5_decoding d;
        t5_decoding_init(&d);
        d.max_new_tokens = max;
        int32_t slot = -1;
        t5_batch_request r = request_of(&d);
        assert_ok(t5_batch_admit(f->batch, &r, &slot, &err), &err);
        run_to_end(f, slot);
        t5_batch_result result;
        t5_batch_result_get(f->batch, slot, 0, &result);
        assert_int_equal(result.is_truncated, max == 3);
        assert_int_equal(result.ids[result.n_ids - 1] == f->model->hp.eos_id, max != 3);
        t5_batch_release(f->batch, slot);
    }
}

/* Claim: a result has a finite score where a step had every token banned: T5_SCORE_NONE, as generate() of beams gives.
 * Method: no token of a small vocabulary may come twice, and eos not at all. */
static void banned_tokens_leave_a_score(void **state)
{
    fixture *f = *state;
    for (int32_t i_way = 0; i_way < 3; i_way++) {
        t5_error err = {0};
        t5_batch_result result;
        t5_decoding d;
        int32_t slot = -1;
        t5_decoding_init(&d);
        d.max_new_tokens = d.min_new_tokens = 30;
        d.no_repeat_ngram_size = 1;
        d.num_beams = i_way == 1 ? 3 : 1;
        d.do_sample = i_way == 2;
        t5_batch_request r = request_of(&d);
        r.vocab_live = 20;
        r.wants_logprobs = true;
        assert_ok(t5_batch_admit(f->batch, &r, &slot, &err), &err);
        run_to_end(f, slot);
        assert_ok(t5_batch_outcome(f->batch, slot, &err), &err);
        t5_batch_result_get(f->batch, slot, 0, &result);
        assert_int_equal(result.n_ids, 30);
        assert_true(result.score == T5_SCORE_NONE);
        assert_true(isfinite(result.logprobs[5]) && isinf(result.logprobs[29]));
        t5_batch_release(f->batch, slot);
    }
}

/* Claim: beams that are still one row leave the others' queries to the prompt. Method: two slots whose beams are all
 * rows of the batch; the steps that prompts of three chunks and one token take. */
static void prompts_of_beams_are_read_in_chunks(void **state)
{
    fixture *f = *state;
    t5_error err = {0};
    t5_decoding d;
    t5_decoding_init(&d);
    d.num_beams = T5_BEAMS_MAX;
    d.max_new_tokens = 1;
    int32_t prompt[3 * T5_QUERY_LEN_MAX], slots[2], n_steps = 0;
    for (size_t i = 0; i < T5_COUNT(prompt); i++)
        prompt[i] = 5 + (int32_t)i;
    t5_batch_request r = request_of(&d);
    r.prompt_ids = prompt;
    r.n_prompt_ids = (int32_t)T5_COUNT(prompt);
    for (size_t i = 0; i < T5_COUNT(slots); i++)
        assert_ok(t5_batch_admit(f->batch, &r, &slots[i], &err), &err);
    assert_false(t5_batch_fits(f->batch, &r));
    assert_ok(t5_batch_encode(f->batch, &err), &err);
    for (; !t5_batch_is_done(f->batch, slots[0]) || !t5_batch_is_done(f->batch, slots[1]); n_steps++)
        assert_ok(t5_batch_step(f->batch, &err), &err);
    assert_int_equal(n_steps, 4);
    for (size_t i = 0; i < T5_COUNT(slots); i++)
        t5_batch_release(f->batch, slots[i]);
}

/* Claim: a device that fails while a slot leaves is not forgotten. Method: one slot runs, one is being encoded, both
 * leave while polls fail; the next admission says so, and with the device back everything fits again. */
static void late_errors_come_back(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *backend = NULL;
    fixture f;
    assert_ok(t5_cpu_ref_create(&backend, &err), &err);
    async_backend_wrap(backend);
    fixture_open(&f, "t5-v1.0", backend);
    t5_decoding d;
    t5_decoding_init(&d);
    int32_t running = -1, encoding = -1;
    t5_batch_request r = request_of(&d);
    assert_ok(t5_batch_admit(f.batch, &r, &running, &err), &err);
    assert_ok(t5_batch_encode(f.batch, &err), &err);
    for (int32_t i = 0; i < 4; i++)
        assert_ok(t5_batch_step(f.batch, &err), &err);
    assert_ok(t5_batch_admit(f.batch, &r, &encoding, &err), &err);
    assert_ok(t5_batch_encode(f.batch, &err), &err);
    async_backend_lose(true);
    t5_batch_release(f.batch, encoding);
    t5_batch_release(f.batch, running);
    int32_t slot = -1;
    assert_int_equal(t5_batch_admit(f.batch, &r, &slot, &err), T5_ERR_DEVICE);
    async_backend_lose(false);
    t5_error_clear(&err);
    assert_ok(t5_batch_admit(f.batch, &r, &slot, &err), &err);
    t5_batch_release(f.batch, slot);
    fixture_close(&f);
}

/* Claim: blocks are promised before they are taken, and never twice. */
static void kv_blocks_add_up(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_kv_cache c;
    bool is_taken[10] = {false};
    assert_ok(t5_kv_cache_init(&c, 10, &err), &err);
    assert_int_equal(t5_kv_blocks_for(0), 0);
    assert_int_equal(t5_kv_blocks_for(16), 1);
    assert_int_equal(t5_kv_blocks_for(17), 2);
    assert_true(t5_kv_reserve(&c, 7));
    assert_false(t5_kv_reserve(&c, 4));
    assert_true(t5_kv_reserve(&c, 3));
    for (int32_t i = 0; i < 10; i++) {
        int32_t block = t5_kv_take(&c);
        assert_in_range(block, 0, 9);
        assert_false(is_taken[block]);
        is_taken[block] = true;
    }
    assert_false(t5_kv_reserve(&c, 1));
    t5_kv_give(&c, 4);
    assert_true(t5_kv_reserve(&c, 1));
    assert_false(t5_kv_reserve(&c, 1));
    t5_kv_unreserve(&c, 1);
    assert_true(t5_kv_reserve(&c, 1));
    assert_int_equal(t5_kv_take(&c), 4);
    t5_kv_cache_deinit(&c);
}

/* Claim: buckets are those of transformers. Method: values printed by its _relative_position_bucket at the borders. */
static void buckets_match(void **state)
{
    (void)state;
    static const struct {
        int32_t distance, encoder, decoder;
    } rows[] = {{0, 0, 0},      {-1, 1, 1},     {1, 17, 0},     {-7, 7, 7},    {7, 23, 0},
                {-8, 8, 8},     {-11, 8, 11},   {-12, 9, 12},   {-15, 9, 15},  {-16, 10, 16},
                {-31, 11, 21},  {-32, 12, 21},  {-64, 14, 26},  {-90, 14, 29}, {-91, 15, 29},
                {-127, 15, 31}, {-128, 15, 31}, {-500, 15, 31}, {500, 31, 0}};
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        assert_int_equal(t5_rel_bucket(rows[i].distance, true, 32, 128), rows[i].encoder);
        assert_int_equal(t5_rel_bucket(rows[i].distance, false, 32, 128), rows[i].decoder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_names_what_is_wrong),
        cmocka_unit_test(release_at_any_time),
        cmocka_unit_test(samples_ignore_company),
        cmocka_unit_test(truncation_is_told),
        cmocka_unit_test(banned_tokens_leave_a_score),
        cmocka_unit_test(prompts_of_beams_are_read_in_chunks),
        cmocka_unit_test(kv_blocks_add_up),
        cmocka_unit_test(late_errors_come_back),
        cmocka_unit_test(buckets_match),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
