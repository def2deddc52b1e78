/* tests/test_cuda_head.c: the GPU's head and search in one, against the definition: the same backend's whole logits
 * through model/search.c (the reference backend). Fibers and GPU alike (backend_pair.h). */
#include "tests/assert_ok.h"
#include "tests/backend_pair.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRIDE = 24, ROWS_MAX = 160, SLOTS_MAX = 40, QUERIES_MAX = 256 };

static const float SCORE_TOL = 1e-4f;
static const float UNTOUCHED = 12345.678f;

typedef struct {
    backend_pair *pair;
    int32_t vocab_size, d_model;
    int32_t n_distinct; /* words from here on repeat earlier ones: equal logits */
    int32_t n_slots, n_rows;
    t5_slot slots[SLOTS_MAX];
    int32_t tokens[ROWS_MAX * STRIDE];
    float scores[ROWS_MAX];
    t5_step_row rows[ROWS_MAX];
    int32_t q_row[QUERIES_MAX], q_pos[QUERIES_MAX], q_slot[QUERIES_MAX];
    int32_t n_queries, n_step_rows;
    bool is_tiled[QUERIES_MAX], is_wanted[QUERIES_MAX]; /* by query: logits are not needed; something is */
    t5_matrix *w[N_BACKENDS];
} scene;

/* ---- the scene: slots and a step over their rows ---- */

static t5_slot *add_slot(scene *s, t5_search_mode mode, int32_t n_rows, int32_t n_prompt)
{
    assert_true(s->n_slots < SLOTS_MAX && s->n_rows + n_rows <= ROWS_MAX);
    t5_slot *slot = &s->slots[s->n_slots++];
    *slot = (t5_slot){.mode = (int32_t)mode,
                      .row0 = s->n_rows,
                      .n_rows = n_rows,
                      .n_prompt = n_prompt,
                      .len = n_prompt,
                      .n_computed = n_prompt - 1,
                      .len_max = STRIDE,
                      .eos_id = 1,
                      .vocab_live = s->vocab_size,
                      .length_penalty = 1.0f,
                      .repetition_penalty = 1.0f,
                      .temperature = 1.0f,
                      .top_p = 1.0f,
                      .top_k = 50,
                      .seed = 3,
                      .phase = T5_SLOT_RUNNING};
    s->n_rows += n_rows;
    return slot;
}

/* Queries of the slot's first n_rows rows. */
static void add_to_step(scene *s, const t5_slot *slot, int32_t n_rows, int32_t q_len, bool is_tiled)
{
    int32_t i_slot = (int32_t)(slot - s->slots);
    for (int32_t i = 0; i < n_rows; i++) {
        s->rows[s->n_step_rows++] =
            (t5_step_row){.slot = i_slot, .row = slot->row0 + i, .q0 = s->n_queries, .q_len = q_len};
        for (int32_t k = 0; k < q_len; k++) {
            int32_t q = s->n_queries++;
            assert_true(q < QUERIES_MAX);
            bool is_running = slot->phase == T5_SLOT_RUNNING;
            s->q_row[q] = slot->row0 + i;
            s->q_pos[q] = slot->n_computed + k;
            s->q_slot[q] = i_slot;
            bool is_last = s->q_pos[q] == slot->len - 1;
            s->is_wanted[q] = is_running && (slot->mode == T5_SEARCH_SCORE ? !is_last : is_last);
            s->is_tiled[q] = s->is_wanted[q] && is_tiled;
        }
    }
}

static void add_padding(scene *s)
{
    int32_t q = s->n_queries++;
    s->rows[s->n_step_rows++] = (t5_step_row){.slot = -1, .row = -1, .q0 = q, .q_len = 1};
    s->q_row[q] = s->q_slot[q] = -1;
}

static void mask_much(const scene *s, t5_slot *slot)
{
    slot->min_new_tokens = 3;
    slot->vocab_live = s->vocab_size - s->vocab_size / 3;
    slot->n_suppress = 3;
    memcpy(slot->suppress_tokens, (int32_t[]){0, s->vocab_size / 2, 7}, 3 * sizeof(int32_t));
}

/* Every mode; greedy rows and beams that only mask words, and rows that need their logits. */
static void add_all_kinds(scene *s)
{
    add_to_step(s, add_slot(s, T5_SEARCH_GREEDY, 1, 1), 1, 1, true);
    t5_slot *slot = add_slot(s, T5_SEARCH_GREEDY, 1, 4);
    slot->wants_logprobs = 1;
    add_to_step(s, slot, 1, 1, true);
    slot = add_slot(s, T5_SEARCH_GREEDY, 1, 2);
    slot->wants_logprobs = 1;
    mask_much(s, slot);
    add_to_step(s, slot, 1, 1, true);
    slot = add_slot(s, T5_SEARCH_BEAM, 4, 3); /* the prompt's last three tokens are read */
    slot->n_computed = 0;
    add_to_step(s, slot, 1, 3, true);
    slot = add_slot(s, T5_SEARCH_BEAM, 2, 5); /* and of this one only the first two */
    slot->n_computed = 0;
    add_to_step(s, slot, 1, 2, true);
    slot = add_slot(s, T5_SEARCH_GREEDY, 1, 2);
    slot->repetition_penalty = 1.3f;
    add_to_step(s, slot, 1, 1, false);
    slot = add_slot(s, T5_SEARCH_BEAM, 2, 4);
    slot->no_repeat_ngram_size = 2;
    add_to_step(s, slot, 1, 1, false);
    add_padding(s);
    add_to_step(s, add_slot(s, T5_SEARCH_SAMPLE, 2, 1), 2, 1, false);
    slot = add_slot(s, T5_SEARCH_SCORE, 1, 6);
    slot->n_computed = 1;
    add_to_step(s, slot, 1, 4, false);
    slot = add_slot(s, T5_SEARCH_GREEDY, 1, 1);
    slot->phase = T5_SLOT_DONE;
    add_to_step(s, slot, 1, 1, false);
}

/* Running beams, whose rows have different histories. */
static t5_slot *add_beams(scene *s, int32_t num_beams, bool is_tiled)
{
    t5_slot *slot = add_slot(s, T5_SEARCH_BEAM, num_beams, 1);
    slot->len = 3;
    slot->n_computed = 2;
    add_to_step(s, slot, num_beams, 1, is_tiled);
    return slot;
}

/* ---- both sides ---- */

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

static t5_search_state open_state(scene *s, int which)
{
    t5_error err = {0};
    t5_backend *b = s->pair->b[which];
    allocator a = {s->pair, which};
    t5_search_state state = {.n_slots_max = SLOTS_MAX, .n_rows_max = ROWS_MAX, .stride = STRIDE};
    assert_true(t5_search_state_alloc(&state, allocate, &a));
    assert_ok(b->ops->upload(b, state.slots, s->slots, sizeof s->slots, &err), &err);
    assert_ok(b->ops->upload(b, state.tokens, s->tokens, sizeof s->tokens, &err), &err);
    assert_ok(b->ops->upload(b, state.scores, s->scores, sizeof s->scores, &err), &err);
    return state;
}

static void *download(scene *s, int which, const void *p, size_t n_bytes)
{
    t5_error err = {0};
    void *bytes = malloc(n_bytes);
    assert_non_null(bytes);
    assert_ok(s->pair->b[which]->ops->download(s->pair->b[which], bytes, p, n_bytes, &err), &err);
    return bytes;
}

static void make_weight(scene *s)
{
    t5_error err = {0};
    size_t d = (size_t)s->d_model, n_distinct = (size_t)s->n_distinct;
    float *values = pair_random(s->pair, n_distinct * d, 0.5f);
    values = realloc(values, (size_t)s->vocab_size * d * sizeof *values);
    assert_non_null(values);
    for (size_t i = n_distinct; i < (size_t)s->vocab_size; i++)
        memcpy(values + i * d, values + i * 7 % n_distinct * d, d * sizeof *values);
    t5_tensor tensor = {.data = values, .dtype = T5_F32, .n_rows = s->vocab_size, .n_cols = s->d_model};
    for (int i = 0; i < N_BACKENDS; i++)
        assert_ok(s->pair->b[i]->ops->matrix_create(s->pair->b[i], &tensor, 1, 1.0f, &s->w[i], &err), &err);
    free(values);
}

typedef struct {
    t5_candidate *candidates;
    int32_t *tokens;
    float *logprobs;
    t5_slot *slots;
} outcome;

static outcome read_outcome(scene *s, int which, const t5_search_state *state)
{
    return (outcome){.candidates =
                         download(s, which, state->candidates, ROWS_MAX * 2 * T5_BEAMS_MAX * sizeof(t5_candidate)),
                     .tokens = download(s, which, state->tokens, sizeof s->tokens),
                     .logprobs = download(s, which, state->logprobs, ROWS_MAX * STRIDE * sizeof(float)),
                     .slots = download(s, which, state->slots, sizeof s->slots)};
}

static void drop_outcome(outcome *o)
{
    free(o->candidates);
    free(o->tokens);
    free(o->logprobs);
    free(o->slots);
}

/* head_search over queries q0 .. of the device's x; the logits' room afterwards in *out_room unless NULL. */
static outcome run_device(scene *s, const float *x, const float *gain, const t5_step_row *rows, int32_t q0,
                          int32_t n_queries, int32_t n_rows, float **out_room)
{
    t5_error err = {0};
    t5_backend *b = s->pair->b[DUT];
    t5_search_state state = open_state(s, DUT);
    size_t n = (size_t)n_queries * (size_t)s->vocab_size, ints = (size_t)n_queries * sizeof(int32_t);
    float *room = malloc(n * sizeof *room);
    assert_non_null(room);
    for (size_t i = 0; i < n; i++)
        room[i] = UNTOUCHED;
    pair_array logits = pair_f32(s->pair, room, n), dev_rows = pair_bytes(s->pair, rows, (size_t)n_rows * sizeof *rows);
    pair_array row = pair_bytes(s->pair, s->q_row + q0, ints), pos = pair_bytes(s->pair, s->q_pos + q0, ints);
    pair_array slot = pair_bytes(s->pair, s->q_slot + q0, ints);
    t5_step step = {.n_queries = n_queries,
                    .n_rows = n_rows,
                    .row = row.p[DUT],
                    .pos = pos.p[DUT],
                    .slot = slot.p[DUT],
                    .rows = dev_rows.p[DUT],
                    .state = &state};
    assert_ok(
        b->ops->head_search(b, &step, x + (size_t)q0 * (size_t)s->d_model, gain, 1e-6f, s->w[DUT], logits.p[DUT], &err),
        &err);
    outcome o = read_outcome(s, DUT, &state);
    free(room);
    if (out_room != NULL) *out_room = download(s, DUT, logits.p[DUT], n * sizeof *room);
    t5_search_state_free(&state, release, &(allocator){s->pair, DUT});
    return o;
}

/* The device's own logits of all queries through model/search.c. */
static outcome run_definition(scene *s, const float *x, const float *gain)
{
    t5_error err = {0};
    size_t n = (size_t)s->n_queries * (size_t)s->vocab_size;
    pair_array device_logits = pair_random_f32(s->pair, n, 1.0f);
    t5_backend *dut = s->pair->b[DUT], *ref = s->pair->b[REF];
    assert_ok(dut->ops->head(dut, x, s->n_queries, gain, 1e-6f, s->w[DUT], device_logits.p[DUT], &err), &err);
    float *logits = download(s, DUT, device_logits.p[DUT], n * sizeof *logits);
    t5_search_state state = open_state(s, REF);
    t5_step step = {.n_queries = s->n_queries, .n_rows = s->n_step_rows, .rows = s->rows, .state = &state};
    assert_ok(ref->ops->search(ref, &step, logits, s->vocab_size, &err), &err);
    outcome o = read_outcome(s, REF, &state);
    t5_search_state_free(&state, release, &(allocator){s->pair, REF});
    free(logits);
    return o;
}

/* ---- comparisons ---- */

static void expect_float(const char *what, int32_t row, float ref, float dut)
{
    if (ref == dut || fabsf(ref - dut) <= SCORE_TOL * fmaxf(1.0f, fabsf(ref))) return;
    fail_msg("row %d: %s is %g, expected %g", row, what, (double)dut, (double)ref);
}

/* Candidates of the rows that choose: tokens and their order are equal, scores nearly. */
static void compare_candidates(const scene *s, const outcome *ref, const outcome *dut)
{
    for (int32_t i = 0; i < s->n_step_rows; i++) {
        const t5_step_row *row = &s->rows[i];
        int32_t last = row->q0 + row->q_len - 1;
        if (row->row < 0 || !s->is_wanted[last] || s->slots[row->slot].mode == T5_SEARCH_SCORE) continue;
        const t5_slot *slot = &s->slots[row->slot];
        int32_t n = slot->mode == T5_SEARCH_BEAM ? 2 * slot->n_rows : 1;
        for (int32_t k = 0; k < n; k++) {
            const t5_candidate *a = &ref->candidates[row->row * 2 * T5_BEAMS_MAX + k];
            const t5_candidate *b = &dut->candidates[row->row * 2 * T5_BEAMS_MAX + k];
            if (a->token != b->token || a->beam != b->beam)
                fail_msg("vocabulary %d, row %d, candidate %d is token %d (%g), expected %d (%g)", s->vocab_size,
                         row->row, k, b->token, (double)b->score, a->token, (double)a->score);
            expect_float("logprob", row->row, a->logprob, b->logprob);
            expect_float("score", row->row, a->score, b->score);
        }
    }
}

/* What the search made of them. */
static void compare_progress(const scene *s, const outcome *ref, const outcome *dut)
{
    for (int32_t i = 0; i < s->n_slots; i++) {
        const t5_slot *slot = &ref->slots[i];
        assert_memory_equal(&dut->slots[i], slot, sizeof *slot);
        for (int32_t row = slot->row0; row < slot->row0 + slot->n_rows; row++) {
            assert_memory_equal(dut->tokens + row * STRIDE, ref->tokens + row * STRIDE,
                                (size_t)slot->len * sizeof(int32_t));
            for (int32_t k = 0; k < slot->len; k++)
                expect_float("logprob of a token", row, ref->logprobs[row * STRIDE + k],
                             dut->logprobs[row * STRIDE + k]);
        }
    }
}

/* Rows of which nobody needs logits have room for most of them that is untouched; rows of which nobody needs anything
 * are untouched altogether. */
static void expect_little_written(const scene *s, const float *room)
{
    for (int32_t q = 0; q < s->n_queries; q++) {
        if (s->is_wanted[q] && !s->is_tiled[q]) continue;
        int32_t n_written = 0;
        for (int32_t i = 0; i < s->vocab_size; i++)
            n_written += room[(size_t)q * (size_t)s->vocab_size + (size_t)i] != UNTOUCHED;
        const t5_slot *slot = s->q_slot[q] >= 0 ? &s->slots[s->q_slot[q]] : NULL;
        int32_t n_best = slot != NULL && slot->mode == T5_SEARCH_BEAM ? 2 * slot->n_rows : 1;
        int32_t n_tiles = (s->vocab_size + 127) / 128;
        int32_t n_allowed = s->is_wanted[q] ? n_tiles * (2 + n_best + (n_best + 3) / 4) : 0;
        if (n_written > n_allowed)
            fail_msg("query %d: %d words are written, at most %d are needed", q, n_written, n_allowed);
    }
}

static void begin(scene **out, backend_pair *pair, int32_t vocab_size, int32_t d_model)
{
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->pair = pair;
    s->vocab_size = vocab_size;
    s->d_model = d_model;
    s->n_distinct = 61;
    for (size_t i = 0; i < T5_COUNT(s->tokens); i++)
        s->tokens[i] = pair_below(pair, vocab_size);
    for (size_t i = 0; i < T5_COUNT(s->scores); i++)
        s->scores[i] = pair_uniform(pair, -9.0f, 0.0f);
    *out = s;
}

/* Runs the step on both sides and compares; with `alone`, also each row's bits with those of the row alone. */
static void run_scene(scene *s, bool alone)
{
    backend_pair *pair = s->pair;
    make_weight(s);
    pair_array x = pair_random_f32(pair, (size_t)(s->n_queries * s->d_model), 3.0f);
    pair_array gain = pair_random_f32(pair, (size_t)s->d_model, 1.0f);
    float *room = NULL;
    outcome ref = run_definition(s, x.p[DUT], gain.p[DUT]);
    outcome dut = run_device(s, x.p[DUT], gain.p[DUT], s->rows, 0, s->n_queries, s->n_step_rows, &room);
    compare_candidates(s, &ref, &dut);
    compare_progress(s, &ref, &dut);
    expect_little_written(s, room);
    for (int32_t i = 0; alone && i < s->n_step_rows; i += 5) {
        t5_step_row row = s->rows[i];
        if (row.row < 0 || row.q_len > 1 || !s->is_tiled[row.q0]) continue;
        const t5_slot *slot = &s->slots[row.slot];
        size_t n = slot->mode == T5_SEARCH_BEAM ? 2 * (size_t)slot->n_rows : 1, at = (size_t)row.row * 2 * T5_BEAMS_MAX;
        int32_t q0 = row.q0;
        row.q0 = 0;
        outcome one = run_device(s, x.p[DUT], gain.p[DUT], &row, q0, 1, 1, NULL);
        assert_memory_equal(one.candidates + at, dut.candidates + at, n * sizeof *one.candidates);
        drop_outcome(&one);
    }
    free(room);
    drop_outcome(&ref);
    drop_outcome(&dut);
    pair_matrix_destroy(pair, s->w);
    pair_forget(pair);
    free(s);
}

/* ---- tests ---- */

/* Claim: rows of all kinds in one step get what the definition gives them, and only rows that need logits get logits.
 * Method: vocabularies around the tile of 128 words, and one of more than 32 tiles. */
static void all_kinds_match(void **state)
{
    static const int32_t sizes[][2] = {{127, 64}, {128, 37}, {129, 40}, {1000, 72}, {4231, 16}};
    for (size_t i = 0; i < T5_COUNT(sizes); i++) {
        scene *s;
        begin(&s, *state, sizes[i][0], sizes[i][1]);
        add_all_kinds(s);
        add_beams(s, 3, true);
        mask_much(s, add_beams(s, 5, true));
        run_scene(s, false);
    }
}

/* Claim: any number of beams. Method: 1 to 32, with and without masks; one slot has fewer live words than it needs
 * continuations, so that some are -inf. */
static void every_number_of_beams_matches(void **state)
{
    for (int32_t num_beams = 1; num_beams <= T5_BEAMS_MAX; num_beams += num_beams < 5 ? 1 : 9) {
        scene *s;
        begin(&s, *state, 700, 32);
        add_beams(s, num_beams, true);
        mask_much(s, add_beams(s, num_beams, true));
        add_beams(s, num_beams, true)->vocab_live = 2;
        run_scene(s, false);
    }
}

/* Claim: the same for any number of rows, and a row's result has the same bits in any company. Method: 1 to 64 rows and
 * more, greedy and beams, compared with each row alone. */
static void company_changes_no_bit(void **state)
{
    static const int32_t counts[] = {1, 8, 9, 31, 64, 65, 130};
    for (size_t i = 0; i < T5_COUNT(counts); i++) {
        scene *s;
        begin(&s, *state, 300, 96);
        while (s->n_queries < counts[i]) {
            if (counts[i] - s->n_queries >= 4 && s->n_slots % 2 == 0) {
                add_beams(s, 4, true);
            } else {
                t5_slot *slot = add_slot(s, T5_SEARCH_GREEDY, 1, 1);
                slot->wants_logprobs = s->n_slots % 3 == 0;
                add_to_step(s, slot, 1, 1, true);
            }
            if (s->n_slots + 1 < SLOTS_MAX && s->n_slots < 36) continue;
            add_beams(s, counts[i] - s->n_queries < 30 ? counts[i] - s->n_queries : 30, true);
        }
        run_scene(s, true);
    }
}

/* Claim: so do mT5's vocabulary, whose tiles are merged in many groups, and one with more tiles than are merged, whose
 * logits are written. */
static void large_vocabularies_match(void **state)
{
    for (int32_t vocab_size = 250112; vocab_size <= 262145; vocab_size += 12033) {
        scene *s;
        begin(&s, *state, vocab_size, 8);
        s->n_distinct = vocab_size;
        bool is_tiled = vocab_size <= 262144;
        t5_slot *slot = add_slot(s, T5_SEARCH_GREEDY, 1, 1);
        slot->wants_logprobs = 1;
        add_to_step(s, slot, 1, 1, is_tiled);
        add_beams(s, 2, is_tiled);
        run_scene(s, false);
    }
}

/* Claim: rows that a block cannot keep are normalized before. Method: a width of which 64 rows are too many, and one of
 * which 8 are. */
static void wide_models_match(void **state)
{
    static const int32_t cases[][2] = {{1000, 60}, {6400, 3}};
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        scene *s;
        begin(&s, *state, 140, cases[i][0]);
        for (int32_t k = 0; k < cases[i][1] / 3; k++)
            add_beams(s, 3, true);
        run_scene(s, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_match),          cmocka_unit_test(every_number_of_beams_matches),
        cmocka_unit_test(company_changes_no_bit),   cmocka_unit_test(wide_models_match),
        cmocka_unit_test(large_vocabularies_match),
    };
    return cmocka_run_group_tests_name("cuda head", tests, pair_setup, pair_teardown);
}
