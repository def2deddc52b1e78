/* tests/test_cuda_search.c: the GPU's search step against model/search.c (through the reference backend): the same
 * logits, step after step, and after each the whole state of both is compared. Fibers and GPU alike. */
#include "tests/assert_ok.h"
#include "tests/backend_pair.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRIDE = 40, ROWS_MAX = 64, SLOTS_MAX = 16 };

static const float SCORE_TOL = 1e-4f;

typedef struct {
    backend_pair *pair;
    int32_t vocab_size, n_slots, n_rows;
    t5_slot slots[SLOTS_MAX]; /* as the reference has them after the last step */
    int32_t row_done[ROWS_MAX];
    t5_search_state state[N_BACKENDS];
} race;

typedef struct {
    backend_pair *pair;
    int which;
} allocator;

static void *allocate(void *ctx, size_t n_bytes)
{
    allocator *a = ctx;
    t5_error err = {0};
    void *p = NULL;
    assert_ok(a->pair->b[a->which]->ops->alloc(a->pair->b[a->which], n_bytes, &p, &err), &err);
    return p;
}

static void release(void *ctx, void *p)
{
    allocator *a = ctx;
    a->pair->b[a->which]->ops->release(a->pair->b[a->which], p);
}

/* A slot of `n_rows` rows with the defaults of greedy search; the test changes what it is about. */
static t5_slot *add_slot(race *r, t5_search_mode mode, int32_t n_rows, int32_t n_prompt)
{
    assert_true(r->n_slots < SLOTS_MAX && r->n_rows + n_rows <= ROWS_MAX);
    t5_slot *slot = &r->slots[r->n_slots++];
    *slot = (t5_slot){.mode = (int32_t)mode,
                      .row0 = r->n_rows,
                      .n_rows = n_rows,
                      .n_prompt = n_prompt,
                      .len = n_prompt,
                      .n_stable = n_prompt,
                      .wants_stream = mode != T5_SEARCH_SCORE,
                      .len_max = n_prompt + 16,
                      .eos_id = 1,
                      .top_k = 50,
                      .vocab_live = r->vocab_size,
                      .length_penalty = 1.0f,
                      .repetition_penalty = 1.0f,
                      .temperature = 1.0f,
                      .top_p = 1.0f,
                      .seed = 7 + (uint64_t)r->n_slots,
                      .phase = T5_SLOT_RUNNING};
    r->n_rows += n_rows;
    return slot;
}

/* Every mode and every processor, several prompts; the first slot does not stream. */
static void add_all_settings(race *r)
{
    add_slot(r, T5_SEARCH_GREEDY, 1, 1)->wants_stream = 0;
    t5_slot *s = add_slot(r, T5_SEARCH_GREEDY, 1, 5);
    s->wants_logprobs = 1;
    s->repetition_penalty = 1.7f;
    s->no_repeat_ngram_size = 1;
    s->min_new_tokens = 6;
    s->vocab_live = r->vocab_size - 23;
    s->n_suppress = 3;
    memcpy(s->suppress_tokens, (int32_t[]){0, 7, 9}, 3 * sizeof(int32_t));
    add_slot(r, T5_SEARCH_BEAM, 4, 1);
    s = add_slot(r, T5_SEARCH_BEAM, 4, 11);
    s->length_penalty = 2.0f;
    s->early_stopping = T5_EARLY_TRUE;
    s = add_slot(r, T5_SEARCH_BEAM, 3, 1);
    s->length_penalty = 1.2f;
    s->early_stopping = T5_EARLY_NEVER;
    s = add_slot(r, T5_SEARCH_BEAM, 8, 2);
    s->length_penalty = 0.0f;
    s->repetition_penalty = 1.2f;
    s->no_repeat_ngram_size = 2;
    s->min_new_tokens = 3;
    s = add_slot(r, T5_SEARCH_BEAM, 1, 1);
    s->length_penalty = -1.0f;
    add_slot(r, T5_SEARCH_SAMPLE, 4, 1);
    s = add_slot(r, T5_SEARCH_SAMPLE, 2, 1);
    s->top_k = 0;
    s = add_slot(r, T5_SEARCH_SAMPLE, 2, 3);
    s->top_k = 0;
    s->top_p = 0.8f;
    s->temperature = 0.7f;
    s = add_slot(r, T5_SEARCH_SAMPLE, 2, 1);
    s->top_k = 150;
    s->top_p = 0.5f;
    s->temperature = 1.5f;
    s = add_slot(r, T5_SEARCH_SAMPLE, 1, 1);
    s->top_k = 5;
    s->top_p = 0.0f;
    add_slot(r, T5_SEARCH_SCORE, 1, 14);
}

static void race_start(race *r)
{
    t5_error err = {0};
    int32_t tokens[ROWS_MAX * STRIDE];
    for (size_t i = 0; i < T5_COUNT(tokens); i++)
        tokens[i] = pair_below(r->pair, r->vocab_size);
    for (int32_t s = 0; s < r->n_slots; s++) { /* rows of a slot begin alike */
        for (int32_t i = 1; i < r->slots[s].n_rows; i++)
            memcpy(tokens + (r->slots[s].row0 + i) * STRIDE, tokens + r->slots[s].row0 * STRIDE,
                   STRIDE * sizeof *tokens);
    }
    for (int which = 0; which < N_BACKENDS; which++) {
        t5_backend *b = r->pair->b[which];
        allocator a = {r->pair, which};
        r->state[which] = (t5_search_state){.n_slots_max = SLOTS_MAX, .n_rows_max = ROWS_MAX, .stride = STRIDE};
        assert_true(t5_search_state_alloc(&r->state[which], allocate, &a));
        assert_ok(b->ops->upload(b, r->state[which].slots, r->slots, sizeof r->slots, &err), &err);
        assert_ok(b->ops->upload(b, r->state[which].tokens, tokens, sizeof tokens, &err), &err);
    }
}

/* The rows of a step, as model/batch_step.c plans them. */
static int32_t plan(const race *r, t5_step_row *rows, int32_t *n_queries)
{
    int32_t n = 0;
    *n_queries = 0;
    for (int32_t s = 0; s < r->n_slots; s++) {
        const t5_slot *slot = &r->slots[s];
        if (slot->phase != T5_SLOT_RUNNING) continue;
        bool beams_are_one = slot->mode == T5_SEARCH_BEAM && slot->len == slot->n_prompt;
        int32_t pending = slot->len - slot->n_computed - (slot->mode == T5_SEARCH_SCORE);
        int32_t q_len = pending < T5_QUERY_LEN_MAX ? pending : T5_QUERY_LEN_MAX;
        for (int32_t i = 0; i < (beams_are_one ? 1 : slot->n_rows); i++) {
            if (r->row_done[slot->row0 + i]) continue;
            rows[n++] = (t5_step_row){.slot = s, .row = slot->row0 + i, .q0 = *n_queries, .q_len = q_len};
            *n_queries += q_len;
        }
    }
    return n;
}

static float *random_logits(race *r, int32_t n_queries)
{
    float *logits = malloc((size_t)(n_queries * r->vocab_size) * sizeof *logits);
    assert_non_null(logits);
    for (int32_t i = 0; i < n_queries * r->vocab_size; i++)
        logits[i] = pair_uniform(r->pair, -6.0f, 6.0f);
    for (int32_t q = 0; q < n_queries; q++) /* the end of the sequence is likely now and then */
        logits[q * r->vocab_size + 1] = pair_uniform(r->pair, 0.0f, 6.5f);
    return logits;
}

static void *read_all(race *r, int which, const void *p, size_t n_bytes)
{
    t5_error err = {0};
    void *values = malloc(n_bytes);
    assert_non_null(values);
    assert_ok(r->pair->b[which]->ops->download(r->pair->b[which], values, p, n_bytes, &err), &err);
    return values;
}

static void expect_ints(const char *what, int32_t slot, const int32_t *ref, const int32_t *dut, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (ref[i] != dut[i]) fail_msg("slot %d: %s %d is %d, expected %d", slot, what, i, dut[i], ref[i]);
    }
}

static void expect_floats(const char *what, int32_t slot, const float *ref, const float *dut, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (ref[i] == dut[i] || fabsf(ref[i] - dut[i]) <= SCORE_TOL * fmaxf(1.0f, fabsf(ref[i]))) continue;
        fail_msg("slot %d: %s %d is %g, expected %g", slot, what, i, (double)dut[i], (double)ref[i]);
    }
}

/* Both states, downloaded. */
typedef struct {
    t5_slot *slots;
    int32_t *tokens, *row_done, *fin_tokens, *fin_lens;
    float *logprobs, *scores, *fin_logprobs, *fin_scores;
    uint8_t *ancestors;
} snapshot;

static snapshot take_snapshot(race *r, int which)
{
    const t5_search_state *s = &r->state[which];
    size_t cells = ROWS_MAX * STRIDE;
    return (snapshot){.slots = read_all(r, which, s->slots, sizeof r->slots),
                      .tokens = read_all(r, which, s->tokens, cells * sizeof(int32_t)),
                      .row_done = read_all(r, which, s->row_done, ROWS_MAX * sizeof(int32_t)),
                      .fin_tokens = read_all(r, which, s->fin_tokens, cells * sizeof(int32_t)),
                      .fin_lens = read_all(r, which, s->fin_lens, ROWS_MAX * sizeof(int32_t)),
                      .logprobs = read_all(r, which, s->logprobs, cells * sizeof(float)),
                      .scores = read_all(r, which, s->scores, ROWS_MAX * sizeof(float)),
                      .fin_logprobs = read_all(r, which, s->fin_logprobs, cells * sizeof(float)),
                      .fin_scores = read_all(r, which, s->fin_scores, ROWS_MAX * sizeof(float)),
                      .ancestors = read_all(r, which, s->ancestors, cells)};
}

static void drop_snapshot(snapshot *s)
{
    void *arrays[] = {s->slots,    s->tokens, s->row_done,     s->fin_tokens, s->fin_lens,
                      s->logprobs, s->scores, s->fin_logprobs, s->fin_scores, s->ancestors};
    for (size_t i = 0; i < T5_COUNT(arrays); i++)
        free(arrays[i]);
}

static void compare_slot(int32_t i_slot, const snapshot *ref, const snapshot *dut)
{
    const t5_slot *slot = &ref->slots[i_slot];
    assert_memory_equal(&dut->slots[i_slot], slot, sizeof *slot);
    for (int32_t row = slot->row0; row < slot->row0 + slot->n_rows; row++) {
        size_t at = (size_t)row * STRIDE;
        expect_ints("token", i_slot, ref->tokens + at, dut->tokens + at, slot->len);
        expect_floats("logprob", i_slot, ref->logprobs + at, dut->logprobs + at, slot->len);
        for (int32_t i = 0; i < slot->len; i++)
            assert_int_equal(dut->ancestors[at + (size_t)i], ref->ancestors[at + (size_t)i]);
        expect_floats("score of row", i_slot, ref->scores + row, dut->scores + row, 1);
        expect_ints("end of row", i_slot, ref->row_done + row, dut->row_done + row, 1);
        bool is_result = slot->mode == T5_SEARCH_BEAM ? row - slot->row0 < slot->n_finished : ref->fin_lens[row] > 0;
        if (!is_result) continue;
        expect_ints("result length", i_slot, ref->fin_lens + row, dut->fin_lens + row, 1);
        expect_ints("result token", i_slot, ref->fin_tokens + at, dut->fin_tokens + at, ref->fin_lens[row]);
        expect_floats("result logprob", i_slot, ref->fin_logprobs + at, dut->fin_logprobs + at, ref->fin_lens[row]);
        expect_floats("result score", i_slot, ref->fin_scores + row, dut->fin_scores + row, 1);
    }
}

/* One step on both; false when nothing runs any more. */
static bool race_step(race *r)
{
    t5_error err = {0};
    t5_step_row rows[ROWS_MAX];
    int32_t n_queries = 0;
    int32_t n_rows = plan(r, rows, &n_queries);
    if (n_rows == 0) return false;
    float *logits = random_logits(r, n_queries);
    int n_kept = r->pair->n_owned;
    pair_array step_rows = pair_bytes(r->pair, rows, (size_t)n_rows * sizeof *rows);
    pair_array step_logits = pair_f32(r->pair, logits, (size_t)(n_queries * r->vocab_size));
    for (int which = 0; which < N_BACKENDS; which++) {
        t5_backend *b = r->pair->b[which];
        t5_step step = {
            .n_queries = n_queries, .n_rows = n_rows, .rows = step_rows.p[which], .state = &r->state[which]};
        assert_ok(b->ops->search(b, &step, step_logits.p[which], r->vocab_size, &err), &err);
    }
    snapshot ref = take_snapshot(r, REF), dut = take_snapshot(r, DUT);
    for (int32_t s = 0; s < r->n_slots; s++)
        compare_slot(s, &ref, &dut);
    memcpy(r->slots, ref.slots, sizeof r->slots);
    memcpy(r->row_done, ref.row_done, sizeof r->row_done);
    drop_snapshot(&ref);
    drop_snapshot(&dut);
    free(logits);
    assert_int_equal(n_kept, 0);
    pair_forget(r->pair);
    return true;
}

static void run_race(backend_pair *pair, int32_t vocab_size)
{
    race *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->pair = pair;
    r->vocab_size = vocab_size;
    add_all_settings(r);
    race_start(r);
    int n_steps = 0;
    while (race_step(r))
        assert_true(++n_steps < 64);
    assert_true(n_steps > 10);
    for (int which = 0; which < N_BACKENDS; which++) {
        allocator a = {pair, which};
        t5_search_state_free(&r->state[which], release, &a);
    }
    free(r);
}

/* Claim: every mode, with every processor, chooses the same tokens, ancestors and results, and scores agree to 1e-4.
 * Method: 13 slots of all kinds side by side on random logits, from the first step until all are done. */
static void all_settings_match(void **state)
{
    run_race(*state, 300);
    run_race(*state, 301);
}

/* Claim: the same with a vocabulary that takes more threads than a warp's lists were made for. */
static void large_vocabulary_matches(void **state)
{
    run_race(*state, 9001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_settings_match),
        cmocka_unit_test(large_vocabulary_matches),
    };
    return cmocka_run_group_tests_name("cuda search", tests, pair_setup, pair_teardown);
}
