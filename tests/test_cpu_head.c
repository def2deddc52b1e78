/* tests/test_cpu_head.c: the head that computes only the panels which can hold a row's largest logit, against the whole
 * head: the same search must come out, bit for bit, on every instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/fast.h"
#include "cpu_rig.h"
#include "tests/assert_ok.h"

enum { VOCAB = 1100, D = 52, STRIDE = 16, SLOTS_MAX = 24, QUERIES_MAX = 64 }; /* neither whole panels nor vectors */

typedef struct {
    rig_weight w;
    float x[QUERIES_MAX * D], gain[D];
    t5_slot slots[SLOTS_MAX];
    int32_t tokens[SLOTS_MAX * STRIDE];
    t5_step_row rows[SLOTS_MAX];
    int32_t n_slots, n_queries;
} scene;

/* ---- the scene: greedy rows that are enough of each kind to be wrong in ---- */

static void free_scene(scene *s)
{
    free(s->w.memory);
    free(s);
}

/* A running row whose last q_len tokens are read. */
static t5_slot *add_row(scene *s, t5_search_mode mode, int32_t len, int32_t q_len)
{
    const int32_t i = s->n_slots++;
    assert_true(s->n_slots <= SLOTS_MAX && s->n_queries + q_len <= QUERIES_MAX);
    s->rows[i] = (t5_step_row){.slot = i, .row = i, .q0 = s->n_queries, .q_len = q_len};
    s->n_queries += q_len;
    s->slots[i] = (t5_slot){.mode = (int32_t)mode,
                            .row0 = i,
                            .n_rows = 1,
                            .n_prompt = 1,
                            .len = len,
                            .n_computed = len - q_len,
                            .len_max = STRIDE,
                            .eos_id = 1,
                            .vocab_live = VOCAB,
                            .length_penalty = 1.0f,
                            .repetition_penalty = 1.0f,
                            .temperature = 1.0f,
                            .top_p = 1.0f,
                            .seed = 3,
                            .phase = T5_SLOT_RUNNING};
    return &s->slots[i];
}

static void add_greedy_rows(scene *s)
{
    for (int32_t i = 0; i < 8; i++) /* so that all are few enough for any vector instructions */
        add_row(s, T5_SEARCH_GREEDY, 1 + i % 4, 1);
    add_row(s, T5_SEARCH_GREEDY, 5, 3);
    add_row(s, T5_SEARCH_GREEDY, 7, 2)->n_computed = 2; /* the prompt goes on after these two */
    add_row(s, T5_SEARCH_GREEDY, 3, 1)->phase = T5_SLOT_DONE;
    add_row(s, T5_SEARCH_GREEDY, 3, 1);
    s->rows[s->n_slots - 1].row = s->rows[s->n_slots - 1].slot = -1; /* fills a recorded step */
}

/* Random rows and a random weight; a test then makes of them what it wants. */
static scene *make_scene(t5_dtype dtype)
{
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->w = rig_weight_random(VOCAB, D, dtype);
    for (int32_t i = 0; i < QUERIES_MAX * D; i++)
        s->x[i] = rig_random(1.0f);
    for (int32_t i = 0; i < D; i++)
        s->gain[i] = 1.0f + rig_random(0.2f);
    for (int32_t i = 0; i < SLOTS_MAX * STRIDE; i++)
        s->tokens[i] = rig_random_below(VOCAB);
    add_greedy_rows(s);
    return s;
}

static void set_weight(scene *s, int32_t i_row, int32_t i_column, float value)
{
    memcpy(s->w.memory + 1 + ((size_t)i_row * D + (size_t)i_column) * sizeof value, &value, sizeof value);
}

static float get_weight(const scene *s, int32_t i_row, int32_t i_column)
{
    float value = 0.0f;
    memcpy(&value, s->w.memory + 1 + ((size_t)i_row * D + (size_t)i_column) * sizeof value, sizeof value);
    return value;
}

/* ---- both ways ---- */

static void *allocate(void *ctx, size_t n_bytes)
{
    (void)ctx;
    return calloc(1, n_bytes);
}

static void release(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

static t5_search_state open_state(const scene *s)
{
    t5_search_state state = {.n_slots_max = SLOTS_MAX, .n_rows_max = SLOTS_MAX, .stride = STRIDE};
    assert_true(t5_search_state_alloc(&state, allocate, NULL));
    memcpy(state.slots, s->slots, sizeof s->slots);
    memcpy(state.tokens, s->tokens, sizeof s->tokens);
    return state;
}

/* Some of the rows as a step: head and search in one, or one after the other. Returns how many logits became -inf. */
static int32_t run(const scene *s, t5_backend *b, const t5_matrix *w, int32_t i_row, int32_t n_rows, bool is_in_one,
                   t5_search_state *state)
{
    t5_error err = {0};
    t5_step_row rows[SLOTS_MAX];
    const t5_step_row *last = &s->rows[i_row + n_rows - 1];
    const int32_t q0 = s->rows[i_row].q0, n_queries = last->q0 + last->q_len - q0;
    const float *x = s->x + (size_t)q0 * D;
    for (int32_t i = 0; i < n_rows; i++) {
        rows[i] = s->rows[i_row + i];
        rows[i].q0 -= q0;
    }
    const t5_step step = {.n_queries = n_queries, .n_rows = n_rows, .rows = rows, .state = state};
    float *logits = calloc((size_t)n_queries * VOCAB, sizeof *logits);
    assert_non_null(logits);
    if (is_in_one) {
        assert_ok(b->ops->head_search(b, &step, x, s->gain, 1e-6f, w, logits, &err), &err);
    } else {
        assert_ok(b->ops->head(b, x, n_queries, s->gain, 1e-6f, w, logits, &err), &err);
        assert_ok(b->ops->search(b, &step, logits, VOCAB, &err), &err);
    }
    int32_t n_left_out = 0;
    for (int32_t i = 0; i < n_queries * VOCAB; i++)
        n_left_out += logits[i] == -INFINITY;
    free(logits);
    return n_left_out;
}

static void assert_same(const scene *s, const t5_backend *b, const t5_search_state *got, const t5_search_state *want)
{
    for (int32_t i = 0; i < s->n_slots; i++) {
        const size_t at = (size_t)i * STRIDE;
        if (memcmp(got->tokens + at, want->tokens + at, STRIDE * sizeof *got->tokens) != 0)
            fail_msg("%s: row %d: token %d, not %d", b->device, i, got->tokens[at + (size_t)s->slots[i].len],
                     want->tokens[at + (size_t)s->slots[i].len]);
        assert_memory_equal(&got->slots[i], &want->slots[i], sizeof want->slots[i]);
        assert_memory_equal(got->logprobs + at, want->logprobs + at, STRIDE * sizeof *got->logprobs);
        assert_memory_equal(got->fin_tokens + at, want->fin_tokens + at, STRIDE * sizeof *got->fin_tokens);
    }
}

/* All rows at once and each row alone, against the whole head. Returns what part of the logits was left out,
 * the smaller of both ways; alone where the instruction set does it for few rows only. *out_state, unless NULL, is the
 * caller's to free. */
static double check(const scene *s, t5_backend *b, t5_search_state *out_state)
{
    t5_error err = {0};
    t5_matrix *w = NULL;
    assert_ok(b->ops->head_create(b, &s->w.tensor, 0.7f, &w, &err), &err);
    t5_search_state whole = open_state(s), company = open_state(s), alone = open_state(s);
    int32_t n_left_out = -run(s, b, w, 0, s->n_slots, false, &whole);
    const int32_t n_in_company = n_left_out + run(s, b, w, 0, s->n_slots, true, &company);
    for (int32_t i = 0; i < s->n_slots; i++)
        n_left_out += run(s, b, w, i, 1, true, &alone);
    assert_same(s, b, &company, &whole);
    assert_same(s, b, &alone, &whole);
    if (s->n_queries <= ((const t5_fast *)b)->kernels->rough_rows_max && n_in_company < n_left_out)
        n_left_out = n_in_company;
    b->ops->matrix_destroy(b, w);
    t5_search_state_free(&company, release, NULL);
    t5_search_state_free(&alone, release, NULL);
    if (out_state != NULL) {
        *out_state = whole;
    } else {
        t5_search_state_free(&whole, release, NULL);
    }
    return (double)n_left_out / (double)s->n_queries / VOCAB;
}

/* On all backends; fails unless about `least` of the logits or more are left out. */
static void check_all(const scene *s, double least)
{
    for (int32_t i = 0; i < rig_n_fast; i++) {
        const double left_out = check(s, rig_fast[i], NULL);
        if (left_out < least) fail_msg("%s: only %.2f of the logits were left out", rig_fast[i]->device, left_out);
    }
}

/* ---- claims ---- */

/* Claim: greedy rows choose the same tokens, and most logits are never computed, whatever type the weights have. */
static void greedy_rows_leave_out_most(void **state)
{
    (void)state;
    const t5_dtype dtypes[] = {T5_F32, T5_F16, T5_BF16};
    for (size_t i = 0; i < T5_COUNT(dtypes); i++) {
        scene *s = make_scene(dtypes[i]);
        check_all(s, 0.4);
        free_scene(s);
    }
}

/* Claim: words that a row may not choose are out of the question, the best ones above all. */
static void banned_words_open_nothing(void **state)
{
    (void)state;
    t5_search_state first;
    scene *s = make_scene(T5_F32);
    for (int32_t i_round = 0; i_round < 6; i_round++) {
        check(s, rig_fast[0], &first); /* bans what was chosen, in one way after the other */
        for (int32_t i = 0; i < s->n_slots; i++) {
            t5_slot *slot = &s->slots[i];
            const int32_t token = first.tokens[i * STRIDE + slot->len];
            if (i % 3 == 0 && slot->n_suppress < T5_SUPPRESS_MAX) slot->suppress_tokens[slot->n_suppress++] = token;
            if (i % 3 == 1 && token > VOCAB / 2) slot->vocab_live = token;
            if (i % 3 == 2) {
                slot->eos_id = token;
                slot->min_new_tokens = STRIDE - 1;
                slot->no_repeat_ngram_size = 1;
            }
        }
        t5_search_state_free(&first, release, NULL);
        check_all(s, 0.2); /* besides what is banned */
    }
    free_scene(s);
}

/* Claim: equal logits and logits that differ in the last bits are told apart as the whole head does. */
static void ties_are_exact(void **state)
{
    (void)state;
    for (int32_t i_round = 0; i_round < 20; i_round++) {
        scene *s = make_scene(T5_F32);
        for (int32_t i = 0; i < VOCAB; i++) { /* a few words, over and over */
            for (int32_t k = 0; k < D; k++) {
                const float value = get_weight(s, i % 37, k);
                set_weight(s, i, k, i_round % 2 == 0 ? value : value * (1.0f + rig_random(1e-6f)));
            }
        }
        check_all(s, 0.0);
        free_scene(s);
    }
}

/* Claim: outliers in rows and in weights, which integers hold badly, cost time at most. */
static void outliers_are_exact(void **state)
{
    (void)state;
    for (int32_t i_round = 0; i_round < 20; i_round++) {
        scene *s = make_scene(T5_F32);
        for (int32_t q = 0; q < s->n_queries; q++)
            s->x[q * D + rig_random_below(D)] *= powf(10.0f, (float)(i_round % 5));
        for (int32_t i = 0; i < VOCAB; i += 1 + i_round % 7)
            set_weight(s, i, rig_random_below(D), rig_random(powf(10.0f, (float)(i_round % 4) - 2.0f)));
        check_all(s, 0.0);
        free_scene(s);
    }
}

/* Claim: the same where it is the row that lies half a step from its integers, and the weights are exact. */
static void worst_row_is_held(void **state)
{
    (void)state;
    scene *s = make_scene(T5_F32);
    const int32_t high = 100, low = 900;
    for (int32_t k = 0; k < D; k++) {
        const float sign = k % 2 == 0 ? 1.0f : -1.0f;
        s->gain[k] = 1.0f;
        for (int32_t q = 0; q < s->n_queries; q++)
            s->x[q * D + k] = k == 0 ? 127.0f : k == 1 ? 47.0f : 5.0f + 0.49f * sign; /* 127: a step is 1 */
        for (int32_t i = 0; i < VOCAB; i++)
            set_weight(s, i, k, i == high && k > 1 ? sign : i == low && k > 0 ? (k == 1 ? 1.0f : -sign) : 0.0f);
    }
    check_all(s, 0.4);
    free_scene(s);
}

/* Claim: the bound is one. Two words of the same size whose weights all lie nearly half a step from their integers, to
 * opposite sides, and a row that adds all of it up: the rough logits have them in the wrong order by nearly twice that.
 */
static void worst_rounding_is_held(void **state)
{
    (void)state;
    for (int32_t i_round = 0; i_round < 20; i_round++) {
        scene *s = make_scene(T5_F32);
        const int32_t high = rig_random_below(VOCAB / 2), low = VOCAB / 2 + rig_random_below(VOCAB / 2);
        for (int32_t k = 0; k < D; k++) {
            const float sign = rig_random_below(2) ? 1.0f : -1.0f, integer = k == 0 ? 127.0f : (float)(k % 7);
            s->gain[k] = 1.0f;
            for (int32_t q = 0; q < s->n_queries; q++)
                s->x[q * D + k] = sign;
            set_weight(s, high, k, sign * (integer + (k == 0 ? 0.0f : 0.49f)));
            set_weight(s, low, k, sign * (integer + (k == 0 ? 0.0f : 0.52f))); /* the next integer, less 0.48 */
        }
        set_weight(s, low, 1, get_weight(s, low, 1) - copysignf(2.0f, s->x[1])); /* what lifts `low` too high */
        check_all(s, 0.4);
        free_scene(s);
    }
}

/* Claim: where all words are alike, all are computed. */
static void flat_logits_open_everything(void **state)
{
    (void)state;
    scene *s = make_scene(T5_F32);
    memset(s->x, 0, sizeof s->x);
    check_all(s, 0.0);
    for (int32_t i = 0; i < QUERIES_MAX * D; i++)
        s->x[i] = rig_random(1.0f);
    for (int32_t i = 0; i < VOCAB * D; i++)
        set_weight(s, i / D, i % D, 0.0f);
    check_all(s, 0.0);
    for (int32_t i = 0; i < VOCAB * D; i++)
        set_weight(s, i / D, i % D, rig_random(1e-41f)); /* nothing is left of their squares */
    check_all(s, 0.0);
    free_scene(s);
}

/* Claim: what is no number ends a slot as it does with the whole head. */
static void not_finite_is_noticed(void **state)
{
    (void)state;
    const float values[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (size_t i = 0; i < T5_COUNT(values); i++) {
        scene *s = make_scene(T5_F32);
        s->x[2 * D + 5] = s->x[4 * D] = values[i];
        check_all(s, 0.0);
        set_weight(s, 700, 3, values[i]);
        check_all(s, 0.0);
        for (int32_t k = 0; k < D; k++)
            set_weight(s, 20, k, values[i]);
        check_all(s, 0.0);
        free_scene(s);
    }
}

/* Claim: a neighbour that needs all logits gets them. */
static void neighbours_that_need_all_get_all(void **state)
{
    (void)state;
    for (int32_t i_kind = 0; i_kind < 5; i_kind++) {
        scene *s = make_scene(T5_F32);
        t5_slot *slot = add_row(s,
                                i_kind == 0   ? T5_SEARCH_SAMPLE
                                : i_kind == 1 ? T5_SEARCH_SCORE
                                              : T5_SEARCH_GREEDY,
                                4, 1);
        if (i_kind == 1) slot->n_computed = 1;
        if (i_kind == 2) slot->wants_logprobs = 1;
        if (i_kind == 3) slot->repetition_penalty = 1.3f;
        if (i_kind == 4) slot->repetition_penalty = 0.5f;
        check_all(s, 0.0);
        free_scene(s);
    }
}

/* Claim: weights that are rounded when they are loaded have the whole head, on machines too that keep them as float32;
 * the same type in the file is not rounded. */
static void rounded_weights_have_the_whole_head(void **state)
{
    (void)state;
    const char *const isas[] = {NULL, "generic"};
    const t5_compute_type types[] = {T5_COMPUTE_F32, T5_COMPUTE_F16, T5_COMPUTE_BF16, T5_COMPUTE_INT8, T5_COMPUTE_INT4};
    const t5_dtype dtypes[] = {T5_F32, T5_F16, T5_BF16};
    for (size_t i = 0; i < T5_COUNT(isas) * T5_COUNT(types) * T5_COUNT(dtypes); i++) {
        const t5_dtype dtype = dtypes[i % T5_COUNT(dtypes)];
        const t5_compute_type type = types[i / T5_COUNT(dtypes) % T5_COUNT(types)];
        t5_backend *b = rig_create(isas[i / T5_COUNT(dtypes) / T5_COUNT(types)], 2, type);
        scene *s = make_scene(dtype);
        const bool rounds_rows = type == T5_COMPUTE_BF16 && ((const t5_fast *)b)->kernels->round_row != NULL;
        const bool is_as_stored = type == T5_COMPUTE_F32 || (type == T5_COMPUTE_F16 && dtype == T5_F16) ||
                                  (type == T5_COMPUTE_BF16 && dtype == T5_BF16 && !rounds_rows);
        const double left_out = check(s, b, NULL);
        if (is_as_stored ? left_out < 0.4 : left_out != 0.0)
            fail_msg("%s: %.2f of the logits were left out, the file has type %d", b->device, left_out, (int)dtype);
        free_scene(s);
        b->ops->destroy(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_rows_leave_out_most),
        cmocka_unit_test(banned_words_open_nothing),
        cmocka_unit_test(ties_are_exact),
        cmocka_unit_test(outliers_are_exact),
        cmocka_unit_test(worst_rounding_is_held),
        cmocka_unit_test(worst_row_is_held),
        cmocka_unit_test(flat_logits_open_everything),
        cmocka_unit_test(not_finite_is_noticed),
        cmocka_unit_test(neighbours_that_need_all_get_all),
        cmocka_unit_test(rounded_weights_have_the_whole_head),
    };
    return cmocka_run_group_tests(tests, rig_open, rig_close_backends);
}
