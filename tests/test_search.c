/* tests/test_search.c: the search on hand-made logits: what the fixtures do not show (sampling, suppressed tokens,
 * scoring, limits), driven without any model. The fake model's logits depend on the row's last token only. */
#include "base/assert.h"
#include "model/search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VOCAB 40
#define EOS 1

static void *plain_alloc(void *ctx, size_t n_bytes)
{
    (void)ctx;
    return calloc(1, n_bytes);
}

static void plain_free(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

static int setup(void **state)
{
    t5_search_state *s = calloc(1, sizeof *s);
    s->n_slots_max = 2;
    s->n_rows_max = 2 * T5_BEAMS_MAX;
    s->stride = 64;
    if (!t5_search_state_alloc(s, plain_alloc, NULL)) return -1;
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    t5_search_state_free(*state, plain_free, NULL);
    free(*state);
    return 0;
}

/* A slot that starts from token 0 with neutral options. */
static t5_slot neutral_slot(t5_search_mode mode, int32_t row0, int32_t n_rows)
{
    return (t5_slot){.mode = (int32_t)mode,
                     .row0 = row0,
                     .n_rows = n_rows,
                     .n_prompt = 1,
                     .len_max = 21,
                     .eos_id = EOS,
                     .vocab_live = VOCAB,
                     .wants_logprobs = 1,
                     .length_penalty = 1.0f,
                     .repetition_penalty = 1.0f,
                     .temperature = 1.0f,
                     .top_p = 1.0f,
                     .len = 1,
                     .phase = T5_SLOT_RUNNING};
}

/* Logits after `token`: pseudo-random but fixed. */
static void fake_logits(int32_t token, float *x)
{
    uint32_t z = 12345u + (uint32_t)token * 2654435761u;
    for (int32_t i = 0; i < VOCAB; i++) {
        z = z * 1664525u + 1013904223u;
        x[i] = (float)(z >> 8) / 16777216.0f * 6.0f - 3.0f;
    }
}

static void start_slot(t5_search_state *s, int32_t i_slot, const t5_slot *slot)
{
    s->slots[i_slot] = *slot;
    for (int32_t r = slot->row0; r < slot->row0 + slot->n_rows; r++) {
        memset(s->tokens + r * s->stride, 0, (size_t)s->stride * sizeof *s->tokens);
        memset(s->ancestors + r * s->stride, 0, (size_t)s->stride);
        s->ancestors[r * s->stride] = slot->mode == T5_SEARCH_SAMPLE ? (uint8_t)(r - slot->row0) : 0;
        s->scores[r] = 0.0f;
        s->row_done[r] = 0;
    }
}

/* One step of the slot, with the plain vocabulary operations. */
static void step_slot(t5_search_state *s, int32_t i_slot)
{
    const t5_slot *slot = &s->slots[i_slot];
    t5_candidate scratch[VOCAB];
    float logits[T5_BEAMS_MAX * VOCAB];
    t5_step_row rows[T5_BEAMS_MAX];
    bool is_one = slot->mode == T5_SEARCH_BEAM && slot->len == slot->n_prompt;
    int32_t n_rows = 0;
    for (int32_t r = 0; r < (is_one ? 1 : slot->n_rows); r++) {
        int32_t row = slot->row0 + r;
        if (s->row_done[row]) continue;
        fake_logits(s->tokens[row * s->stride + slot->n_computed], logits + n_rows * VOCAB);
        rows[n_rows] = (t5_step_row){.slot = i_slot, .row = row, .q0 = n_rows, .q_len = 1};
        n_rows++;
    }
    for (int32_t r = 0; r < n_rows; r++)
        t5_search_row(s, &rows[r], logits, VOCAB, &t5_vocab_ops_plain, scratch);
    t5_search_slot(s, i_slot, rows, n_rows);
}

/* Steps the slot until it is done. */
static void run_slot(t5_search_state *s, int32_t i_slot)
{
    for (int32_t i = 0; s->slots[i_slot].phase == T5_SLOT_RUNNING; i++) {
        assert_true(i < 64);
        step_slot(s, i_slot);
    }
}

static int32_t argmax_after(int32_t token)
{
    float x[VOCAB];
    fake_logits(token, x);
    return t5_vocab_ops_plain.argmax(x, VOCAB);
}

/* Claim: greedy follows the argmax chain and stops at len_max. Method: compare with the chain computed by hand. */
static void greedy_follows_argmax(void **state)
{
    t5_search_state *s = *state;
    t5_slot slot = neutral_slot(T5_SEARCH_GREEDY, 3, 1);
    start_slot(s, 0, &slot);
    run_slot(s, 0);
    int32_t token = 0;
    for (int32_t i = 1; i < s->fin_lens[3]; i++) {
        token = argmax_after(token);
        assert_int_equal(s->fin_tokens[3 * s->stride + i], token);
    }
    assert_true(token == EOS || s->fin_lens[3] == slot.len_max);
}

/* Claim: a beam's score is the sum of its tokens' log-probabilities, and its ancestors name the rows that computed its
 * past. Method: recompute every result's sum; replay the ancestors table against a log of which row held which token
 * when. */
static void beam_scores_add_up(void **state)
{
    t5_search_state *s = *state;
    t5_slot slot = neutral_slot(T5_SEARCH_BEAM, 8, 5);
    slot.length_penalty = 0.0f;
    start_slot(s, 0, &slot);
    run_slot(s, 0);
    assert_int_equal(s->slots[0].n_finished, 5);
    for (int32_t r = 8; r < 13; r++) {
        float sum = 0.0f;
        for (int32_t i = 1; i < s->fin_lens[r]; i++) {
            float x[VOCAB];
            fake_logits(s->fin_tokens[r * s->stride + i - 1], x);
            float logprob = x[s->fin_tokens[r * s->stride + i]] - t5_vocab_ops_plain.log_sum_exp(x, VOCAB);
            assert_float_equal(s->fin_logprobs[r * s->stride + i], logprob, 1e-5f);
            sum += logprob;
        }
        assert_float_equal(s->fin_scores[r], sum, 1e-4f);
        if (r > 8) assert_true(s->fin_scores[r] <= s->fin_scores[r - 1]);
    }
}

/* Claim: ancestors[row][t] names the sibling that held, at step t, the token that is now at position t of the row.
 * Method: keep every step's tokens of every row and look them up through the table after each step. */
static void ancestors_lead_to_the_past(void **state)
{
    t5_search_state *s = *state;
    t5_slot slot = neutral_slot(T5_SEARCH_BEAM, 0, 4);
    int32_t held[64][4] = {{0}};
    t5_candidate scratch[VOCAB];
    float logits[4 * VOCAB];
    start_slot(s, 0, &slot);
    for (int32_t t = 0; s->slots[0].phase == T5_SLOT_RUNNING && t < 20; t++) {
        t5_step_row rows[4];
        int32_t n_rows = t == 0 ? 1 : 4;
        for (int32_t r = 0; r < n_rows; r++) {
            held[t][r] = s->tokens[r * s->stride + t];
            fake_logits(held[t][r], logits + r * VOCAB);
            rows[r] = (t5_step_row){.slot = 0, .row = r, .q0 = r, .q_len = 1};
            t5_search_row(s, &rows[r], logits, VOCAB, &t5_vocab_ops_plain, scratch);
        }
        t5_search_slot(s, 0, rows, n_rows);
        if (s->slots[0].phase != T5_SLOT_RUNNING) break;
        for (int32_t r = 0; r < 4; r++) {
            for (int32_t i = 0; i <= t; i++) {
                int32_t owner = s->ancestors[r * s->stride + i];
                assert_int_equal(held[i][owner], s->tokens[r * s->stride + i]);
            }
            assert_int_equal(s->ancestors[r * s->stride + t + 1], r);
        }
    }
}

/* Claim: the same seed gives the same samples in whatever slot and rows, another seed or row others. */
static void sampling_depends_on_seed_only(void **state)
{
    t5_search_state *s = *state;
    t5_slot slot = neutral_slot(T5_SEARCH_SAMPLE, 0, 3);
    slot.seed = 42;
    start_slot(s, 0, &slot);
    run_slot(s, 0);
    slot.row0 = 20;
    start_slot(s, 1, &slot);
    run_slot(s, 1);
    for (int32_t r = 0; r < 3; r++) {
        assert_int_equal(s->fin_lens[r], s->fin_lens[20 + r]);
        assert_memory_equal(s->fin_tokens + r * s->stride, s->fin_tokens + (20 + r) * s->stride,
                            (size_t)s->fin_lens[r] * sizeof(int32_t));
    }
    assert_memory_not_equal(s->fin_tokens, s->fin_tokens + s->stride, 6 * sizeof(int32_t));
    slot.seed = 43;
    start_slot(s, 1, &slot);
    run_slot(s, 1);
    assert_memory_not_equal(s->fin_tokens, s->fin_tokens + 20 * s->stride, 6 * sizeof(int32_t));
}

/* Claim: samples follow the softmax, cut by top_k and top_p. Method: 20 000 first tokens against their probabilities.
 */
static void sampling_follows_probabilities(void **state)
{
    t5_search_state *s = *state;
    enum { N = 20000 };
    float x[VOCAB];
    t5_candidate best[VOCAB];
    fake_logits(0, x);
    t5_vocab_ops_plain.top_k(x, VOCAB, VOCAB, best);
    int32_t counts[VOCAB] = {0};
    t5_slot slot = neutral_slot(T5_SEARCH_SAMPLE, 0, 1);
    slot.len_max = 2;
    slot.top_k = 10;
    slot.top_p = 0.9f;
    slot.temperature = 0.7f;
    for (int32_t i = 0; i < N; i++) {
        slot.seed = (uint64_t)i;
        start_slot(s, 0, &slot);
        run_slot(s, 0);
        counts[s->fin_tokens[1]]++;
    }
    double sum10 = 0.0;
    for (int32_t i = 0; i < 10; i++)
        sum10 += exp((double)best[i].score / 0.7);
    int32_t n_kept = 0;
    double kept = 0.0;
    while (kept < 0.9)
        kept += exp((double)best[n_kept++].score / 0.7) / sum10;
    assert_in_range(n_kept, 2, 10);
    for (int32_t i = 0; i < VOCAB; i++) {
        double p = i < n_kept ? exp((double)best[i].score / 0.7) / sum10 / kept : 0.0;
        double deviation = sqrt(p * (1.0 - p) / N);
        assert_true(fabs((double)counts[best[i].token] / N - p) <= 5.0 * deviation);
    }
}

/* Claim: an unlimited draw reaches every token, though only the best are sorted at first. Method: 5 000 equal logits;
 * 300 draws must be spread evenly (mean and extremes of a uniform distribution). */
static void unlimited_draws_reach_all(void **state)
{
    t5_search_state *s = *state;
    enum { WIDE = 5000, N = 300 };
    static float logits[WIDE];
    static t5_candidate scratch[WIDE];
    double sum = 0.0;
    int32_t n_late = 0;
    for (int32_t i = 0; i < N; i++) {
        t5_slot slot = neutral_slot(T5_SEARCH_SAMPLE, 0, 1);
        slot.vocab_live = WIDE;
        slot.len_max = 2;
        slot.seed = (uint64_t)i;
        slot.top_p = i % 2 == 0 ? 1.0f : 0.9999f;
        start_slot(s, 0, &slot);
        memset(logits, 0, sizeof logits);
        const t5_step_row row = {.slot = 0, .row = 0, .q0 = 0, .q_len = 1};
        t5_search_row(s, &row, logits, WIDE, &t5_vocab_ops_plain, scratch);
        assert_in_range(s->candidates[0].token, 0, WIDE - 1);
        assert_float_equal(s->candidates[0].logprob, -logf((float)WIDE), 1e-3f);
        sum += s->candidates[0].token;
        n_late += s->candidates[0].token >= WIDE * 9 / 10;
    }
    assert_true(fabs(sum / N / WIDE - 0.5) < 5.0 * sqrt(1.0 / 12.0 / N));
    assert_true(n_late > 5 && n_late < 80);
}

/* Claim: suppressed tokens, tokens without a piece and an early eos never appear, in any mode. */
static void bans_hold(void **state)
{
    t5_search_state *s = *state;
    for (int32_t mode = T5_SEARCH_GREEDY; mode <= T5_SEARCH_SAMPLE; mode++) {
        t5_slot slot = neutral_slot((t5_search_mode)mode, 0, mode == T5_SEARCH_GREEDY ? 1 : 4);
        slot.vocab_live = 30;
        slot.min_new_tokens = 12;
        slot.n_suppress = 2;
        slot.suppress_tokens[0] = argmax_after(0);
        slot.suppress_tokens[1] = 7;
        slot.no_repeat_ngram_size = 2;
        start_slot(s, 0, &slot);
        run_slot(s, 0);
        for (int32_t r = 0; r < s->slots[0].n_finished; r++) {
            const int32_t *tokens = s->fin_tokens + r * s->stride;
            assert_true(s->fin_lens[r] >= 1 + 12);
            for (int32_t i = 1; i < s->fin_lens[r]; i++) {
                assert_true(tokens[i] < 30 && tokens[i] != 7 && tokens[i] != slot.suppress_tokens[0]);
                for (int32_t k = 1; k < i; k++) {
                    assert_false(tokens[k - 1] == tokens[i - 1] && tokens[k] == tokens[i]);
                }
            }
        }
    }
}

/* Claim: every banned token at once still ends, with a result. Method: all logits -inf after the first mask. */
static void all_banned_ends(void **state)
{
    t5_search_state *s = *state;
    for (int32_t mode = T5_SEARCH_GREEDY; mode <= T5_SEARCH_SAMPLE; mode++) {
        t5_slot slot = neutral_slot((t5_search_mode)mode, 0, mode == T5_SEARCH_GREEDY ? 1 : 2);
        slot.vocab_live = 0;
        start_slot(s, 0, &slot);
        run_slot(s, 0);
        assert_true(s->slots[0].n_finished >= 1);
        assert_true(s->fin_lens[0] <= slot.len_max);
    }
}

/* Claim: top_k agrees with sorting, ties by lower index. Method: many sizes with many equal values. */
static void top_k_sorts(void **state)
{
    (void)state;
    enum { N = 500 };
    float x[N];
    t5_candidate out[N];
    uint32_t z = 7;
    for (int32_t i = 0; i < N; i++) {
        z = z * 1664525u + 1013904223u;
        x[i] = (float)((z >> 24) % 40);
    }
    for (int32_t k = 1; k <= N; k += 13) {
        assert_int_equal(t5_vocab_ops_plain.top_k(x, N, k, out), k);
        for (int32_t i = 0; i < k; i++) {
            int32_t n_better = 0;
            for (int32_t j = 0; j < N; j++) {
                n_better += x[j] > x[out[i].token] || (x[j] == x[out[i].token] && j < out[i].token);
            }
            assert_int_equal(n_better, i);
            assert_true(out[i].score == x[out[i].token]);
        }
    }
}

/* Steps a slot to its end; what it reports as certain must be the start of its first result. Returns how much that was.
 */
static int32_t follow_stable(t5_search_state *s, int32_t i_slot)
{
    const t5_slot *slot = &s->slots[i_slot];
    int32_t told[64];
    int32_t n_told = slot->n_stable;
    memcpy(told, s->tokens + slot->row0 * s->stride, (size_t)n_told * sizeof *told);
    while (slot->phase == T5_SLOT_RUNNING) {
        step_slot(s, i_slot);
        int32_t n_new = slot->n_stable - n_told;
        assert_in_range(n_new, 0, T5_STABLE_MAX);
        memcpy(told + n_told, slot->stable, (size_t)n_new * sizeof *told);
        n_told += n_new;
        bool is_greedy = slot->mode == T5_SEARCH_GREEDY && slot->phase == T5_SLOT_RUNNING;
        if (is_greedy) assert_int_equal(slot->n_stable, slot->len);
    }
    assert_true(n_told <= s->fin_lens[slot->row0]);
    assert_memory_equal(told, s->fin_tokens + slot->row0 * s->stride, (size_t)n_told * sizeof *told);
    return n_told - slot->n_prompt;
}

/* Claim: what is told while a search runs is the start of its first result, in every mode; greedy tells each token at
 * once, beams tell something before their end. Method: many prompts, penalties and numbers of rows. */
static void told_tokens_begin_the_result(void **state)
{
    t5_search_state *s = *state;
    static const float penalties[] = {0.0f, 1.0f, 2.0f, -1.0f};
    int32_t n_by_beams = 0;
    for (int32_t i = 0; i < 400; i++) {
        t5_search_mode mode = i % 4 == 0 ? T5_SEARCH_GREEDY : i % 4 == 1 ? T5_SEARCH_SAMPLE : T5_SEARCH_BEAM;
        t5_slot slot = neutral_slot(mode, 0, mode == T5_SEARCH_GREEDY ? 1 : 1 + i % 5);
        slot.wants_stream = 1;
        slot.n_stable = 1;
        slot.length_penalty = penalties[i / 4 % 4];
        slot.early_stopping = i / 16 % 3;
        slot.seed = (uint64_t)i;
        slot.temperature = 2.0f;
        start_slot(s, 0, &slot);
        for (int32_t r = 0; r < slot.n_rows; r++)
            s->tokens[r * s->stride] = 2 + i % (VOCAB - 2);
        int32_t n_told = follow_stable(s, 0);
        if (mode == T5_SEARCH_BEAM && slot.n_rows > 1) n_by_beams += n_told;
    }
    assert_true(n_by_beams > 100);
}

/* Claim: nothing is told to who does not ask. Method: the same slot without wants_stream. */
static void nothing_is_told_unasked(void **state)
{
    t5_search_state *s = *state;
    t5_slot slot = neutral_slot(T5_SEARCH_GREEDY, 0, 1);
    slot.n_stable = 1;
    start_slot(s, 0, &slot);
    run_slot(s, 0);
    assert_int_equal(s->slots[0].n_stable, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_follows_argmax),
        cmocka_unit_test(beam_scores_add_up),
        cmocka_unit_test(ancestors_lead_to_the_past),
        cmocka_unit_test(sampling_depends_on_seed_only),
        cmocka_unit_test(sampling_follows_probabilities),
        cmocka_unit_test(unlimited_draws_reach_all),
        cmocka_unit_test(bans_hold),
        cmocka_unit_test(all_banned_ends),
        cmocka_unit_test(top_k_sorts),
        cmocka_unit_test(told_tokens_begin_the_result),
        cmocka_unit_test(nothing_is_told_unasked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
