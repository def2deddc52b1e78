/* tests/test_cuda_attention.c: the GPU backend's attention against the reference: packed encoder, paged self-attention
 * with beams that share history, cross-attention. Runs on the fibers of tests/simt and on a GPU alike. */
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
        pair_ok(pair->b[i]->ops->encoder_attention(pair->b[i], &args, &err), &err);
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

enum { SLOTS = 3, STRIDE = 112, ROWS = 16, BLOCKS = 256, BLOCK_STRIDE = STRIDE / T5_KV_BLOCK };

/* A running batch that no search moves: 3 slots of 1, 11 and 4 rows. */
typedef struct {
    t5_slot slots[SLOTS];
    uint8_t ancestors[ROWS][STRIDE];
    int32_t self_blocks[ROWS][BLOCK_STRIDE], cross_blocks[SLOTS][BLOCK_STRIDE];
    int32_t q_row[ROWS * 8], q_pos[ROWS * 8], q_slot[ROWS * 8], n_queries;
    t5_kv_view kv[N_BACKENDS];
    t5_search_state state[N_BACKENDS];
    t5_step step[N_BACKENDS];
} scene;

static void scene_init(backend_pair *pair, scene *s, int32_t n_heads, int32_t d_kv)
{
    static const int32_t n_rows[SLOTS] = {1, 11, 4};
    static const int32_t src_lens[SLOTS] = {100, 1, 65};
    memset(s, 0, sizeof *s);
    int32_t row = 0, block = BLOCKS;
    for (int i = 0; i < SLOTS; i++) {
        s->slots[i] = (t5_slot){.row0 = row, .n_rows = n_rows[i], .src_len = src_lens[i], .phase = T5_SLOT_RUNNING};
        row += n_rows[i];
        for (int k = 0; k < BLOCK_STRIDE; k++)
            s->cross_blocks[i][k] = --block;
    }
    assert_int_equal(row, ROWS);
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < BLOCK_STRIDE; k++)
            s->self_blocks[r][k] = --block;
    }
    assert_true(block >= 0);
    pair_array pool = pair_zero_act(pair, (size_t)BLOCKS * 2 * 2 * T5_KV_BLOCK * (size_t)(n_heads * d_kv));
    for (int i = 0; i < N_BACKENDS; i++) {
        size_t element = t5_dtype_bytes(pair->b[i]->act_dtype);
        s->kv[i] = (t5_kv_view){.pool = pool.p[i],
                                .block_bytes = 2 * 2 * T5_KV_BLOCK * (size_t)(n_heads * d_kv) * element,
                                .n_layers = 2,
                                .n_heads = n_heads,
                                .d_kv = d_kv,
                                .self_stride = BLOCK_STRIDE,
                                .cross_stride = BLOCK_STRIDE};
        s->state[i] = (t5_search_state){.n_slots_max = SLOTS, .n_rows_max = ROWS, .stride = STRIDE};
    }
}

/* q_len queries for every row, at the positions after those that are in the cache. */
static void scene_plan(backend_pair *pair, scene *s, int32_t q_len)
{
    s->n_queries = 0;
    for (int i = 0; i < SLOTS; i++) {
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
    for (int i = 0; i < SLOTS; i++) {
        t5_slot *slot = &s->slots[i];
        uint8_t before[ROWS][STRIDE];
        memcpy(before, s->ancestors, sizeof before);
        for (int32_t r = 0; r < slot->n_rows; r++) {
            int32_t parent = pair_below(pair, slot->n_rows);
            uint8_t *to = s->ancestors[slot->row0 + r];
            memcpy(to, before[slot->row0 + parent], STRIDE);
            for (int32_t k = 0; k < q_len; k++)
                to[slot->n_computed + k] = (uint8_t)parent;
        }
        slot->n_computed += q_len;
    }
}

static void run_self(backend_pair *pair, int32_t n_heads, int32_t d_kv, int32_t n_steps)
{
    char what[64];
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    scene_init(pair, s, n_heads, d_kv);
    int n_kept = pair->n_owned; /* the pool stays, the arrays of a step go */
    for (int32_t i_step = 0; i_step < n_steps; i_step++) {
        static const int32_t q_lens[] = {5, 8, 1, 8, 1, 8, 8, 1, 1, 8, 8, 8, 8, 8, 8};
        int32_t q_len = q_lens[(size_t)i_step % T5_COUNT(q_lens)];
        t5_error err = {0};
        const int32_t bias_len = STRIDE;
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
            pair_ok(pair->b[i]->ops->self_attention(pair->b[i], &args, &err), &err);
        }
        snprintf(what, sizeof what, "self-attention, d_kv %d, step %d", d_kv, i_step);
        pair_expect_act(pair, what, ctx);
        scene_advance(pair, s, q_len);
        for (int k = n_kept; k < pair->n_owned; k++)
            pair->b[pair->owners[k]]->ops->release(pair->b[pair->owners[k]], pair->owned[k]);
        pair->n_owned = n_kept;
    }
    free(s);
    pair_forget(pair);
}

/* Claim: self-attention stores keys and values and reads each position from the sibling that wrote it. Method: steps of
 * 1 to 8 queries a row, with beams that take over each other's history between the steps, past one chunk of 64 keys. */
static void self_matches(void **state)
{
    run_self(*state, 2, 64, 12);
    run_self(*state, 1, 128, 3);
    run_self(*state, 3, 8, 5);
    run_self(*state, 2, 12, 3);
    run_self(*state, 1, 7, 3);
}

static void run_cross(backend_pair *pair, int32_t n_heads, int32_t d_kv, int32_t q_len)
{
    char what[64];
    snprintf(what, sizeof what, "cross-attention, d_kv %d, %d queries a row", d_kv, q_len);
    t5_error err = {0};
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    scene_init(pair, s, n_heads, d_kv);
    scene_plan(pair, s, q_len);
    int32_t first[SLOTS + 1] = {0}, slots[SLOTS] = {2, 0, 1}, len_max = 0;
    for (int i = 0; i < SLOTS; i++) {
        int32_t len = s->slots[slots[i]].src_len;
        first[i + 1] = first[i] + len;
        len_max = len > len_max ? len : len_max;
    }
    pair_array firsts = pair_bytes(pair, first, sizeof first), i_slots = pair_bytes(pair, slots, sizeof slots);
    size_t inner = (size_t)(n_heads * d_kv), n = (size_t)s->n_queries * inner;
    pair_array kv_rows = pair_random_act(pair, (size_t)first[SLOTS] * 2 * inner, 1.0f);
    pair_array q = pair_random_act(pair, n, 1.0f), ctx = pair_zero_act(pair, n);
    for (int i = 0; i < N_BACKENDS; i++) {
        const t5_backend_ops *ops = pair->b[i]->ops;
        t5_packed packed = {
            .n_seqs = SLOTS, .n_tokens = first[SLOTS], .len_max = len_max, .first = firsts.p[i], .slots = i_slots.p[i]};
        t5_cross_attention_args args = {.step = &s->step[i], .kv = &s->kv[i], .layer = 1, .q = q.p[i], .ctx = ctx.p[i]};
        pair_ok(ops->store_cross_kv(pair->b[i], &packed, &s->kv[i], 1, kv_rows.p[i], &err), &err);
        pair_ok(ops->cross_attention(pair->b[i], &args, &err), &err);
    }
    pair_expect_act(pair, what, ctx);
    free(s);
    pair_forget(pair);
}

/* Claim: the queries of a source read what was stored for it. Method: sources of 1 to 100 tokens, 1, 4 and 11 rows
 * (more than share one reading), one and several queries a row. */
static void cross_matches(void **state)
{
    run_cross(*state, 2, 64, 1);
    run_cross(*state, 1, 128, 1);
    run_cross(*state, 2, 8, 3);
    run_cross(*state, 1, 12, 2);
    run_cross(*state, 1, 7, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder_matches),
        cmocka_unit_test(self_matches),
        cmocka_unit_test(cross_matches),
    };
    return cmocka_run_group_tests_name("cuda attention", tests, pair_setup, pair_teardown);
}
