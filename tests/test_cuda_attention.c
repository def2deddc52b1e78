/* tests/test_cuda_attention.c: the GPU backend's attention against the reference: packed encoder, paged self-attention
 * with beams that share history, cross-attention and its weights. Runs on the fibers of tests/simt and on a GPU alike.
 */
#include "tests/assert_ok.h"
#include "tests/backend_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_encoder(backend_pair *pair, int32_t n_heads, int32_t d_kv, const int32_t *lens, int32_t n_seqs)
{
    char what[64];
    snprintf(what, sizeof what, "encoder attention, %d heads x %d", n_heads, d_kv);
    t5_error err = {0};
    int32_t first[16] = {0}, len_max = 0;
    for (int32_t i = 0; i < n_seqs; i++) {
        first[i + 1] = first[i] + lens[i];
        len_max = lens[i] > len_max ? lens[i] : len_max;
    }
    const int32_t bias_len = len_max + 3;
    size_t n = (size_t)(first[n_seqs] * n_heads * d_kv);
    pair_array qkv = pair_random_act(pair, 3 * n, 1.0f), ctx = pair_zero_act(pair, n);
    pair_array bias = pair_random_f32(pair, (size_t)(n_heads * (2 * bias_len - 1)), 2.0f);
    pair_array firsts = pair_bytes(pair, first, sizeof first);
    for (int i = 0; i < N_BACKENDS; i++) {
        t5_packed packed = {.n_seqs = n_seqs, .n_tokens = first[n_seqs], .len_max = len_max, .first = firsts.p[i]};
        t5_encoder_attention_args args = {.packed = &packed,
                                          .qkv = qkv.p[i],
                                          .bias = bias.p[i],
                                          .bias_len = bias_len,
                                          .n_heads = n_heads,
                                          .d_kv = d_kv,
                                          .ctx = ctx.p[i]};
        assert_ok(pair->b[i]->ops->encoder_attention(pair->b[i], &args, &err), &err);
    }
    pair_expect_act(pair, what, ctx);
    pair_forget(pair);
}

/* Claim: packed sources of any length attend within themselves only. Method: every head width that has a kernel of its
 * own, odd ones, and lengths around the tiles of 64 and 32. */
static void encoder_matches(void **state)
{
    static const int32_t widths[] = {16, 32, 64, 128, 8, 12, 48, 5};
    static const int32_t lens[] = {1, 17, 64, 65, 40};
    static const int32_t long_lens[] = {150};
    for (size_t i = 0; i < T5_COUNT(widths); i++) {
        run_encoder(*state, 2, widths[i], lens, T5_COUNT(lens));
    }
    run_encoder(*state, 1, 64, long_lens, 1);
    run_encoder(*state, 6, 8, long_lens, 1);
}

enum { SLOTS_MAX = 64, STRIDE_MAX = 400, ROWS_MAX = 64, BLOCK_STRIDE_MAX = STRIDE_MAX / T5_KV_BLOCK };

/* Slots of a running batch and the length of the longest context. */
typedef struct {
    int32_t n_slots, n_rows[SLOTS_MAX], src_lens[SLOTS_MAX], stride;
} scene_shape;

static const scene_shape mixed = {3, {1, 11, 4}, {100, 1, 65}, 112};
static const scene_shape long_alone = {1, {1}, {399}, STRIDE_MAX};
static const scene_shape two_parts = {1, {1}, {176}, 176};
static const scene_shape full = {7, {1, 8, 9, 32, 2, 5, 7}, {48, 1, 17, 33, 16, 5, 47}, 48}; /* 64 rows */
static const scene_shape long_few = {3, {2, 1, 9}, {300, 129, 257}, 320};

/* A running batch that no search moves. */
typedef struct {
    scene_shape shape;
    int32_t n_rows;
    t5_slot slots[SLOTS_MAX];
    uint8_t ancestors[ROWS_MAX * STRIDE_MAX];
    int32_t self_blocks[ROWS_MAX * BLOCK_STRIDE_MAX], cross_blocks[SLOTS_MAX * BLOCK_STRIDE_MAX];
    int32_t q_row[ROWS_MAX * 8], q_pos[ROWS_MAX * 8], q_slot[ROWS_MAX * 8], n_queries;
    t5_kv_view kv[N_BACKENDS];
    t5_search_state state[N_BACKENDS];
    t5_step step[N_BACKENDS];
} scene;

/* The pool is random where nothing was stored. The first slot and the first row have its first blocks. */
static scene *scene_create(backend_pair *pair, const scene_shape *shape, int32_t n_heads, int32_t d_kv)
{
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->shape = *shape;
    int32_t block_stride = shape->stride / T5_KV_BLOCK;
    for (int i = 0; i < shape->n_slots; i++) {
        s->slots[i] = (t5_slot){
            .row0 = s->n_rows, .n_rows = shape->n_rows[i], .src_len = shape->src_lens[i], .phase = T5_SLOT_RUNNING};
        s->n_rows += shape->n_rows[i];
    }
    assert_true(s->n_rows <= ROWS_MAX);
    int32_t n_blocks = 0;
    for (int i = 0; i < s->n_rows * block_stride; i++) {
        s->self_blocks[i] = n_blocks++;
        if (i < shape->n_slots * block_stride) s->cross_blocks[i] = n_blocks++;
    }
    size_t block_elements = 2 * 2 * T5_KV_BLOCK * (size_t)(n_heads * d_kv);
    pair_array pool = pair_random_act(pair, (size_t)n_blocks * block_elements, 1.0f);
    for (int i = 0; i < N_BACKENDS; i++) {
        s->kv[i] = (t5_kv_view){.pool = pool.p[i],
                                .block_bytes = block_elements * t5_dtype_bytes(pair->b[i]->act_dtype),
                                .n_layers = 2,
                                .n_heads = n_heads,
                                .d_kv = d_kv,
                                .self_stride = block_stride,
                                .cross_stride = block_stride};
        s->state[i] =
            (t5_search_state){.n_slots_max = shape->n_slots, .n_rows_max = s->n_rows, .stride = shape->stride};
    }
    return s;
}

/* q_len queries for every row, at the positions after those that are in the cache. */
static void scene_plan(backend_pair *pair, scene *s, int32_t q_len)
{
    s->n_queries = 0;
    for (int i = 0; i < s->shape.n_slots; i++) {
        for (int32_t r = s->slots[i].row0; r < s->slots[i].row0 + s->slots[i].n_rows; r++) {
            for (int32_t k = 0; k < q_len; k++) {
                s->q_row[s->n_queries] = r;
                s->q_pos[s->n_queries] = s->slots[i].n_computed + k;
                s->q_slot[s->n_queries++] = i;
            }
        }
    }
    pair_array slots = pair_bytes(pair, s->slots, sizeof s->slots);
    pair_array ancestors = pair_bytes(pair, s->ancestors, sizeof s->ancestors);
    pair_array self = pair_bytes(pair, s->self_blocks, sizeof s->self_blocks);
    pair_array cross = pair_bytes(pair, s->cross_blocks, sizeof s->cross_blocks);
    pair_array row = pair_bytes(pair, s->q_row, sizeof s->q_row), pos = pair_bytes(pair, s->q_pos, sizeof s->q_pos);
    pair_array slot = pair_bytes(pair, s->q_slot, sizeof s->q_slot);
    for (int i = 0; i < N_BACKENDS; i++) {
        s->state[i].slots = slots.p[i];
        s->state[i].ancestors = ancestors.p[i];
        s->kv[i].self_blocks = self.p[i];
        s->kv[i].cross_blocks = cross.p[i];
        s->step[i] = (t5_step){
            .n_queries = s->n_queries, .row = row.p[i], .pos = pos.p[i], .slot = slot.p[i], .state = &s->state[i]};
    }
}

/* What a step leaves behind: the positions are in the cache, and beams have taken over each other's history. */
static void scene_advance(backend_pair *pair, scene *s, int32_t q_len)
{
    const size_t stride = (size_t)s->shape.stride;
    for (int i = 0; i < s->shape.n_slots; i++) {
        t5_slot *slot = &s->slots[i];
        static uint8_t before[ROWS_MAX * STRIDE_MAX];
        memcpy(before, s->ancestors, sizeof before);
        for (int32_t r = slot->row0; r < slot->row0 + slot->n_rows; r++) {
            int32_t parent = pair_below(pair, slot->n_rows);
            uint8_t *to = s->ancestors + (size_t)r * stride;
            memcpy(to, before + (size_t)(slot->row0 + parent) * stride, stride);
            for (int32_t k = 0; k < q_len; k++)
                to[slot->n_computed + k] = (uint8_t)parent;
        }
        slot->n_computed += q_len;
    }
}

/* T5_TEST_SCALE below 1: a sanitizer looks on, to which one shape is like another that takes the same way. */
static bool is_sanitizers(void)
{
    const char *scale = getenv("T5_TEST_SCALE");
    return scale != NULL && atof(scale) < 1;
}

static void forget_since(backend_pair *pair, int n_kept)
{
    for (int k = n_kept; k < pair->n_owned; k++)
        pair->b[pair->owners[k]]->ops->release(pair->b[pair->owners[k]], pair->owned[k]);
    pair->n_owned = n_kept;
}

/* Steps of the given lengths, again and again, until the rows are full. */
static void run_self(backend_pair *pair, const scene_shape *shape, int32_t n_heads, int32_t d_kv, const int32_t *q_lens,
                     size_t n_q_lens)
{
    char what[64];
    scene *s = scene_create(pair, shape, n_heads, d_kv);
    int n_kept = pair->n_owned; /* the pool stays, the arrays of a step go */
    for (size_t i_step = 0;; i_step++) {
        int32_t q_len = q_lens[i_step % n_q_lens];
        if (s->slots[0].n_computed + q_len > shape->stride) break;
        t5_error err = {0};
        const int32_t bias_len = shape->stride;
        scene_plan(pair, s, q_len);
        size_t n = (size_t)(s->n_queries * n_heads * d_kv);
        pair_array qkv = pair_random_act(pair, 3 * n, 1.0f), ctx = pair_zero_act(pair, n);
        pair_array bias = pair_random_f32(pair, (size_t)(n_heads * bias_len), 2.0f);
        for (int i = 0; i < N_BACKENDS; i++) {
            t5_self_attention_args args = {.step = &s->step[i],
                                           .kv = &s->kv[i],
                                           .layer = 1,
                                           .qkv = qkv.p[i],
                                           .bias = bias.p[i],
                                           .bias_len = bias_len,
                                           .ctx = ctx.p[i]};
            assert_ok(pair->b[i]->ops->self_attention(pair->b[i], &args, &err), &err);
        }
        snprintf(what, sizeof what, "self-attention, d_kv %d, step %d", d_kv, (int)i_step);
        pair_expect_act(pair, what, ctx);
        scene_advance(pair, s, q_len);
        forget_since(pair, n_kept);
    }
    free(s);
    pair_forget(pair);
}

/* Claim: self-attention stores keys and values and reads each position from the sibling that wrote it. Method: steps of
 * 1 to 8 queries a row, with beams that take over each other's history between the steps, past one chunk of 64 keys;
 * 16 rows and 64. */
static void self_matches(void **state)
{
    static const int32_t q_lens[] = {5, 8, 1, 8, 1, 8, 8, 1, 1, 8, 8, 8, 8, 8, 8}, odd[] = {7, 6, 4, 3, 2};
    run_self(*state, &mixed, 2, 64, q_lens, T5_COUNT(q_lens));
    run_self(*state, &mixed, 1, 128, odd, T5_COUNT(odd));
    run_self(*state, &mixed, 3, 8, q_lens, T5_COUNT(q_lens));
    run_self(*state, &mixed, 2, 12, odd, T5_COUNT(odd));
    run_self(*state, &mixed, 1, 7, q_lens, T5_COUNT(q_lens));
    run_self(*state, &full, 2, 16, odd, T5_COUNT(odd));
}

/* Heads of FLAN-T5-small and MADLAD, odd ones, and of T5-small, base and 3B, whose widths came before. */
static const int32_t family_heads[][2] = {{6, 64}, {16, 128}, {3, 8}, {5, 12}, {1, 7}, {8, 64}, {12, 64}, {32, 128}};

/* How many heads there are changes nothing that a sanitizer looks for. */
static size_t n_families(void)
{
    return is_sanitizers() ? 5 : T5_COUNT(family_heads);
}

/* Claim: the same where several blocks share a context. Method: contexts of two to four parts, which one row and a few
 * fill in steps of up to 8 queries. */
static void self_matches_on_long_contexts(void **state)
{
    static const int32_t q_lens[] = {8, 8, 8, 8, 8, 8, 8, 7}, few[] = {8, 8, 8, 8, 3};
    for (size_t i = 0; i < n_families(); i++)
        run_self(*state, &two_parts, family_heads[i][0], family_heads[i][1], q_lens, T5_COUNT(q_lens));
    run_self(*state, &long_alone, 2, 16, q_lens, T5_COUNT(q_lens));
    run_self(*state, &long_few, 1, 8, few, T5_COUNT(few));
}

static void run_cross(backend_pair *pair, const scene_shape *shape, int32_t n_heads, int32_t d_kv, int32_t q_len)
{
    char what[64];
    snprintf(what, sizeof what, "cross-attention, d_kv %d, %d queries a row", d_kv, q_len);
    t5_error err = {0};
    scene *s = scene_create(pair, shape, n_heads, d_kv);
    scene_plan(pair, s, q_len);
    int32_t n_slots = shape->n_slots, first[SLOTS_MAX + 1] = {0}, slots[SLOTS_MAX], len_max = 0;
    for (int i = 0; i < n_slots; i++) {
        slots[i] = (i + 2) % n_slots;
        int32_t len = s->slots[slots[i]].src_len;
        first[i + 1] = first[i] + len;
        len_max = len > len_max ? len : len_max;
    }
    pair_array firsts = pair_bytes(pair, first, sizeof first), i_slots = pair_bytes(pair, slots, sizeof slots);
    size_t inner = (size_t)(n_heads * d_kv), n = (size_t)s->n_queries * inner;
    pair_array kv_rows = pair_random_act(pair, (size_t)first[n_slots] * 2 * inner, 1.0f);
    pair_array q = pair_random_act(pair, n, 1.0f), ctx = pair_zero_act(pair, n);
    pair_array weights = pair_random_f32(pair, (size_t)(s->n_queries * shape->stride), 1.0f);
    for (int i = 0; i < N_BACKENDS; i++) {
        const t5_backend_ops *ops = pair->b[i]->ops;
        t5_packed packed = {.n_seqs = n_slots,
                            .n_tokens = first[n_slots],
                            .len_max = len_max,
                            .first = firsts.p[i],
                            .slots = i_slots.p[i]};
        t5_cross_attention_args args = {.step = &s->step[i], .kv = &s->kv[i], .layer = 1, .q = q.p[i], .ctx = ctx.p[i]};
        assert_ok(ops->store_cross_kv(pair->b[i], &packed, &s->kv[i], 1, kv_rows.p[i], &err), &err);
        assert_ok(ops->cross_attention(pair->b[i], &args, &err), &err);
        t5_cross_weights_args look = {
            .step = &s->step[i], .kv = &s->kv[i], .layer = 1, .q = q.p[i], .weights = weights.p[i]};
        assert_ok(ops->cross_weights(pair->b[i], &look, &err), &err); /* over what was there */
        look.adds = true;
        assert_ok(ops->cross_weights(pair->b[i], &look, &err), &err);
    }
    pair_expect_act(pair, what, ctx);
    pair_expect_f32(pair, what, weights);
    free(s);
    pair_forget(pair);
}

/* Claim: the queries of a source read what was stored for it, and say how much of each token. Method: sources of 1 to
 * 100 tokens, 1, 4 and 11 rows (more than share one reading), one and several queries a row; 64 rows. */
static void cross_matches(void **state)
{
    run_cross(*state, &mixed, 2, 64, 1);
    run_cross(*state, &mixed, 1, 128, 1);
    run_cross(*state, &mixed, 2, 8, 3);
    run_cross(*state, &mixed, 1, 12, 2);
    run_cross(*state, &mixed, 1, 7, 8);
    for (int32_t q_len = 1; q_len <= 8; q_len += is_sanitizers() ? 7 : 1)
        run_cross(*state, &full, 3, 8, q_len);
}

/* Claim and method as for self-attention; sources of 129 to 399 tokens. */
static void cross_matches_on_long_sources(void **state)
{
    for (size_t i = 0; i < n_families(); i++) {
        run_cross(*state, &two_parts, family_heads[i][0], family_heads[i][1], 1 + (int32_t)i);
        run_cross(*state, &long_alone, 1, family_heads[i][1], 1);
        run_cross(*state, &long_few, 1 + (int32_t)i % 3, family_heads[i][1], 1);
    }
}

enum { TWIN_HEADS = 8, TWIN_D_KV = 8, TWIN_LEN = 300 };

/* What row 0 gets from both attentions of a step of n_rows rows, of one source each, at position TWIN_LEN; *out
 * [2][q_len][heads][d_kv]. The caller frees. */
static float *first_row_among(backend_pair *pair, const float *qkv_values, int32_t n_rows, int32_t q_len)
{
    t5_error err = {0};
    t5_backend *b = pair->b[DUT];
    scene_shape shape = {.n_slots = n_rows, .stride = 320};
    for (int i = 0; i < n_rows; i++) {
        shape.n_rows[i] = 1;
        shape.src_lens[i] = TWIN_LEN - i % 290;
    }
    pair->random = 7; /* row 0 finds the same in the pool each time */
    scene *s = scene_create(pair, &shape, TWIN_HEADS, TWIN_D_KV);
    for (int i = 0; i < n_rows; i++)
        s->slots[i].n_computed = TWIN_LEN;
    scene_plan(pair, s, q_len);
    const size_t inner = TWIN_HEADS * TWIN_D_KV, n_first = (size_t)q_len * inner, n = (size_t)n_rows * n_first;
    pair_array qkv = pair_act(pair, qkv_values, 3 * n), ctx = pair_zero_act(pair, n), cross = pair_zero_act(pair, n);
    pair->random = 9;
    pair_array bias = pair_random_f32(pair, TWIN_HEADS * 320, 2.0f);
    t5_self_attention_args self_args = {.step = &s->step[DUT],
                                        .kv = &s->kv[DUT],
                                        .qkv = qkv.p[DUT],
                                        .bias = bias.p[DUT],
                                        .bias_len = 320,
                                        .ctx = ctx.p[DUT]};
    t5_cross_attention_args cross_args = {
        .step = &s->step[DUT], .kv = &s->kv[DUT], .q = qkv.p[DUT], .ctx = cross.p[DUT]};
    assert_ok(b->ops->self_attention(b, &self_args, &err), &err);
    assert_ok(b->ops->cross_attention(b, &cross_args, &err), &err);
    float *out = calloc(2 * n_first, sizeof *out);
    float *of_self = pair_read_act(pair, DUT, ctx.p[DUT], n_first);
    float *of_cross = pair_read_act(pair, DUT, cross.p[DUT], n_first);
    assert_non_null(out);
    memcpy(out, of_self, n_first * sizeof *out);
    memcpy(out + n_first, of_cross, n_first * sizeof *out);
    free(of_self);
    free(of_cross);
    free(s);
    pair_forget(pair);
    return out;
}

/* Claim: a row's attention has the same bits whether many blocks share its context, few, or one. Method: contexts of
 * three parts, 1 to 64 rows, of which row 0 is always the same; at 64 rows every block works alone. */
static void company_changes_no_bit(void **state)
{
    backend_pair *pair = *state;
    static const int32_t rows[] = {2, 8, 33, 64};
    static const int32_t q_lens[] = {1, 3, 8};
    const size_t inner = TWIN_HEADS * TWIN_D_KV;
    float *qkv = pair_random(pair, 64 * 8 * 3 * inner, 1.0f);
    for (size_t k = 0; k < T5_COUNT(q_lens); k++) {
        float *alone = first_row_among(pair, qkv, 1, q_lens[k]);
        for (size_t i = 0; i < T5_COUNT(rows) && rows[i] * q_lens[k] <= 64; i++) {
            if (is_sanitizers() && i > 0 && i + 1 < T5_COUNT(rows)) continue;
            float *among = first_row_among(pair, qkv, rows[i], q_lens[k]);
            assert_memory_equal(among, alone, 2 * (size_t)q_lens[k] * inner * sizeof *alone);
            free(among);
        }
        free(alone);
    }
    free(qkv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder_matches),
        cmocka_unit_test(self_matches),
        cmocka_unit_test(self_matches_on_long_contexts),
        cmocka_unit_test(cross_matches),
        cmocka_unit_test(cross_matches_on_long_sources),
        cmocka_unit_test(company_changes_no_bit),
    };
    return cmocka_run_group_tests_name("cuda attention", tests, pair_setup, pair_teardown);
}
