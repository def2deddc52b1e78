/* tests/test_cpu_attention.c: the three attentions of the fast CPU backend against the reference, for every instruction
 * set of this machine and all kinds of head shapes; and that a sequence's result never depends on what else is in the
 * batch, bit for bit. */
#include "cpu_rig.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void run_encoder_attention(t5_backend *b, const int32_t *first, int32_t n_seqs, int32_t n_heads, int32_t d_kv,
                                  const float *qkv, const float *bias, int32_t bias_len, float *ctx)
{
    t5_error err = {0};
    t5_packed packed = {.n_seqs = n_seqs, .n_tokens = first[n_seqs], .first = first};
    for (int32_t i = 0; i < n_seqs; i++) {
        const int32_t len = first[i + 1] - first[i];
        packed.len_max = len > packed.len_max ? len : packed.len_max;
    }
    const t5_encoder_attention_args args = {.packed = &packed,
                                            .qkv = qkv,
                                            .bias = bias,
                                            .bias_len = bias_len,
                                            .n_heads = n_heads,
                                            .d_kv = d_kv,
                                            .ctx = ctx};
    assert_ok(b->ops->encoder_attention(b, &args, &err), &err);
    assert_ok(b->ops->sync(b, &err), &err);
}

static const int32_t head_shapes[][2] = {{6, 8}, {3, 16}, {1, 5}, {2, 20}, {8, 64}, {2, 128}}; /* n_heads, d_kv */

/* Claim: encoder attention is the reference's for each head shape and length, and a source alone gives the same bits.
 * Method: eight sources packed together; the bias reaches the longest distance. */
static void encoder_attention_matches_reference(void **state)
{
    (void)state;
    static const int32_t lens[] = {1, 2, 15, 16, 17, 64, 65, 130};
    int32_t first[T5_COUNT(lens) + 1] = {0};
    for (size_t i = 0; i < T5_COUNT(lens); i++)
        first[i + 1] = first[i] + lens[i];
    const int32_t n_seqs = T5_COUNT(lens), n_tokens = first[n_seqs], bias_len = 130;
    for (size_t s = 0; s < T5_COUNT(head_shapes); s++) {
        const int32_t n_heads = head_shapes[s][0], d_kv = head_shapes[s][1];
        const size_t inner = (size_t)(n_heads * d_kv), n = (size_t)n_tokens * inner;
        float *qkv = rig_random_floats(3 * n, 0.7f);
        float *bias = rig_random_floats((size_t)(n_heads * (2 * bias_len - 1)), 2.0f);
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
        float *alone = malloc((size_t)bias_len * inner * sizeof *alone);
        run_encoder_attention(rig_reference, first, n_seqs, n_heads, d_kv, qkv, bias, bias_len, want);
        for (int32_t b = 0; b < rig_n_fast; b++) {
            run_encoder_attention(rig_fast[b], first, n_seqs, n_heads, d_kv, qkv, bias, bias_len, got);
            rig_close(got, want, n, rig_fast[b]->device);
            for (int32_t i = 0; i < n_seqs; i++) {
                const int32_t one[2] = {0, lens[i]};
                const size_t at = (size_t)first[i] * inner;
                run_encoder_attention(rig_fast[b], one, 1, n_heads, d_kv, qkv + 3 * at, bias, bias_len, alone);
                assert_memory_equal(alone, got + at, (size_t)lens[i] * inner * sizeof *got);
            }
        }
        free(qkv);
        free(bias);
        free(want);
        free(got);
        free(alone);
    }
}

/* Claim: a NaN in a query makes its own context NaN and no other. Method: two sources, three heads; a query in the
 * middle of a tile. */
static void encoder_attention_passes_nan_on(void **state)
{
    (void)state;
    enum { N_HEADS = 3, D_KV = 16, INNER = N_HEADS * D_KV, N_TOKENS = 23, BIAS_LEN = 20, ODD = 5 };
    static const int32_t first[] = {0, 20, N_TOKENS};
    float *qkv = rig_random_floats((size_t)(3 * N_TOKENS * INNER), 0.7f);
    float *bias = rig_random_floats((size_t)(N_HEADS * (2 * BIAS_LEN - 1)), 2.0f);
    float ctx[N_TOKENS * INNER];
    qkv[3 * ODD * INNER + D_KV + 1] = NAN; /* of the second head */
    for (int32_t b = 0; b < rig_n_fast; b++) {
        run_encoder_attention(rig_fast[b], first, 2, N_HEADS, D_KV, qkv, bias, BIAS_LEN, ctx);
        for (int32_t i = 0; i < N_TOKENS * INNER; i++)
            assert_true((isnan(ctx[i]) != 0) == (i / D_KV == ODD * N_HEADS + 1));
    }
    free(qkv);
    free(bias);
}

#define ROWS 7
#define STRIDE 70
#define BLOCKS ((STRIDE + T5_KV_BLOCK - 1) / T5_KV_BLOCK)
#define LAYERS 2

/* Two slots, of 4 and 3 rows, in the middle of a search. */
typedef struct {
    t5_search_state search;
    t5_slot slots[2];
    uint8_t ancestors[ROWS][STRIDE];
    int32_t blocks[ROWS][BLOCKS];
    int32_t row[ROWS * T5_QUERY_LEN_MAX], pos[ROWS * T5_QUERY_LEN_MAX], slot[ROWS * T5_QUERY_LEN_MAX];
    t5_step_row rows[ROWS];
    t5_step step;
} scene;

static void init_scene(scene *s)
{
    memset(s, 0, sizeof *s);
    s->slots[0] = (t5_slot){.row0 = 0, .n_rows = 4, .src_len = 37};
    s->slots[1] = (t5_slot){.row0 = 4, .n_rows = 3, .src_len = 16};
    s->search = (t5_search_state){
        .n_slots_max = 2, .n_rows_max = ROWS, .stride = STRIDE, .slots = s->slots, .ancestors = &s->ancestors[0][0]};
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t i = 0; i < BLOCKS; i++)
            s->blocks[r][i] = i * ROWS + (r * 3) % ROWS; /* any injective order */
    }
}

/* The next step of every row: q_len queries for the slots that are not full. Beams were reordered before: random
 * ancestors, mostly one's own so that blocks of one owner occur too. */
static void next_step(scene *s, int32_t q_len)
{
    s->step = (t5_step){.row = s->row, .pos = s->pos, .slot = s->slot, .rows = s->rows, .state = &s->search};
    int32_t n = 0;
    for (int32_t r = 0; r < ROWS; r++) {
        const int32_t slot = r >= s->slots[1].row0;
        const int32_t n_computed = s->slots[slot].n_computed;
        for (int32_t j = 0; j < n_computed; j++) {
            s->ancestors[r][j] = (uint8_t)(r - s->slots[slot].row0);
            if (j % (3 * T5_KV_BLOCK) > T5_KV_BLOCK)
                s->ancestors[r][j] = (uint8_t)rig_random_below(s->slots[slot].n_rows);
        }
        s->rows[r] = (t5_step_row){.slot = slot, .row = r, .q0 = n, .q_len = q_len};
        for (int32_t i = 0; i < q_len; i++, n++) {
            s->row[n] = r;
            s->pos[n] = n_computed + i;
            s->slot[n] = slot;
        }
    }
    s->step.n_queries = n;
    s->step.n_rows = ROWS;
}

static t5_kv_view make_kv(const scene *s, int32_t n_heads, int32_t d_kv, int32_t n_blocks)
{
    const size_t layer_len = (size_t)(2 * T5_KV_BLOCK * n_heads * d_kv);
    t5_kv_view kv = {.block_bytes = LAYERS * layer_len * sizeof(float),
                     .n_layers = LAYERS,
                     .n_heads = n_heads,
                     .d_kv = d_kv,
                     .self_blocks = &s->blocks[0][0],
                     .self_stride = BLOCKS};
    kv.pool = calloc((size_t)n_blocks, kv.block_bytes);
    assert_non_null(kv.pool);
    return kv;
}

static void run_self_attention(t5_backend *b, const scene *s, const t5_kv_view *kv, int32_t layer, const float *qkv,
                               const float *bias, float *ctx)
{
    t5_error err = {0};
    const t5_self_attention_args args = {
        .step = &s->step, .kv = kv, .layer = layer, .qkv = qkv, .bias = bias, .bias_len = STRIDE, .ctx = ctx};
    assert_ok(b->ops->self_attention(b, &args, &err), &err);
    assert_ok(b->ops->sync(b, &err), &err);
}

/* Claim: the same, when the step has only one row: bit for bit what it was among others. */
static void check_row_alone(t5_backend *b, const scene *s, const t5_kv_view *kv, const float *qkv, const float *bias,
                            const float *ctx, int32_t q_len)
{
    const size_t inner = (size_t)(kv->n_heads * kv->d_kv);
    const int32_t r = rig_random_below(ROWS);
    const int32_t q0 = s->rows[r].q0;
    scene one = *s;
    one.search.slots = one.slots;
    one.search.ancestors = &one.ancestors[0][0];
    one.rows[0] = (t5_step_row){.slot = s->rows[r].slot, .row = r, .q0 = 0, .q_len = q_len};
    one.step = (t5_step){.n_queries = q_len,
                         .n_rows = 1,
                         .row = s->row + q0,
                         .pos = s->pos + q0,
                         .slot = s->slot + q0,
                         .rows = one.rows,
                         .state = &one.search};
    float *alone = malloc((size_t)q_len * inner * sizeof *alone);
    run_self_attention(b, &one, kv, 1, qkv + (size_t)q0 * 3 * inner, bias, alone);
    assert_memory_equal(alone, ctx + (size_t)q0 * inner, (size_t)q_len * inner * sizeof *alone);
    free(alone);
}

/* Claim: decoder self-attention is the reference's over a whole search with changing ancestors and with several queries
 * of a row in one step. Method: both run the same steps on their own caches. */
static void self_attention_matches_reference(void **state)
{
    (void)state;
    static const int32_t q_lens[] = {5, 1, 1, 8, 1, 3, 1, 8, 8, 1, 1, 8, 1, 2, 1, 8, 4, 1, 1};
    for (size_t shape = 0; shape < T5_COUNT(head_shapes); shape++) {
        const int32_t n_heads = head_shapes[shape][0], d_kv = head_shapes[shape][1];
        const size_t inner = (size_t)(n_heads * d_kv);
        scene s;
        init_scene(&s);
        t5_kv_view ref_kv = make_kv(&s, n_heads, d_kv, ROWS * BLOCKS);
        t5_kv_view kvs[T5_COUNT(rig_fast)];
        for (int32_t b = 0; b < rig_n_fast; b++)
            kvs[b] = make_kv(&s, n_heads, d_kv, ROWS * BLOCKS);
        float *bias = rig_random_floats((size_t)(n_heads * STRIDE), 1.0f);
        for (size_t i = 0; i < T5_COUNT(q_lens); i++) {
            next_step(&s, q_lens[i]);
            const size_t n = (size_t)s.step.n_queries * inner;
            float *qkv = rig_random_floats(3 * n, 0.7f);
            float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
            run_self_attention(rig_reference, &s, &ref_kv, 1, qkv, bias, want);
            for (int32_t b = 0; b < rig_n_fast; b++) {
                run_self_attention(rig_fast[b], &s, &kvs[b], 1, qkv, bias, got);
                rig_close(got, want, n, rig_fast[b]->device);
                check_row_alone(rig_fast[b], &s, &kvs[b], qkv, bias, got, q_lens[i]);
            }
            s.slots[0].n_computed += q_lens[i];
            s.slots[1].n_computed += q_lens[i];
            free(qkv);
            free(want);
            free(got);
        }
        assert_in_range(s.slots[0].n_computed, 4 * T5_KV_BLOCK, STRIDE);
        for (int32_t b = 0; b < rig_n_fast; b++)
            free(kvs[b].pool);
        free(ref_kv.pool);
        free(bias);
    }
}

/* Claim: stored sources and cross-attention over them are the reference's. */
static void cross_attention_matches_reference(void **state)
{
    (void)state;
    t5_error err = {0};
    static const int32_t first[] = {0, 16, 53}, slots[] = {1, 0};
    static const int32_t cross_blocks[2][3] = {{4, 0, 2}, {3, 1, 1}};
    const t5_packed packed = {.n_seqs = 2, .n_tokens = 53, .len_max = 37, .first = first, .slots = slots};
    for (size_t shape = 0; shape < T5_COUNT(head_shapes); shape++) {
        const int32_t n_heads = head_shapes[shape][0], d_kv = head_shapes[shape][1];
        const size_t inner = (size_t)(n_heads * d_kv);
        scene s;
        init_scene(&s);
        next_step(&s, 2);
        const size_t n = (size_t)s.step.n_queries * inner;
        float *kv_rows = rig_random_floats(53 * 2 * inner, 0.7f), *q = rig_random_floats(n, 0.7f);
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
        for (int32_t b = -1; b < rig_n_fast; b++) {
            t5_backend *backend = b < 0 ? rig_reference : rig_fast[b];
            float *ctx = b < 0 ? want : got;
            t5_kv_view kv = make_kv(&s, n_heads, d_kv, 5);
            kv.cross_blocks = &cross_blocks[0][0];
            kv.cross_stride = 3;
            assert_ok(backend->ops->store_cross_kv(backend, &packed, &kv, 1, kv_rows, &err), &err);
            const t5_cross_attention_args args = {.step = &s.step, .kv = &kv, .layer = 1, .q = q, .ctx = ctx};
            assert_ok(backend->ops->cross_attention(backend, &args, &err), &err);
            assert_ok(backend->ops->sync(backend, &err), &err);
            if (b >= 0) rig_close(got, want, n, backend->device);
            free(kv.pool);
        }
        free(kv_rows);
        free(q);
        free(want);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder_attention_matches_reference),
        cmocka_unit_test(encoder_attention_passes_nan_on),
        cmocka_unit_test(self_attention_matches_reference),
        cmocka_unit_test(cross_attention_matches_reference),
    };
    return cmocka_run_group_tests(tests, rig_open, rig_close_backends);
}
