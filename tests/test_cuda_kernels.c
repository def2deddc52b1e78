/* tests/test_cuda_kernels.c: each operation of the GPU backend against the reference, on the shapes of the model
 * families and on odd ones. Runs on the fibers of tests/simt and on a GPU alike (backend_pair.h). */
#include "tests/assert_ok.h"
#include "tests/backend_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t n_rows, d_in, d_out;
    bool is_normed, is_gated, adds;
    int32_t has_act;
    t5_act act;
} product_case;

static void run_product(backend_pair *pair, const product_case *c)
{
    char what[128];
    snprintf(what, sizeof what, "linear %d x %d -> %d%s%s%s", c->n_rows, c->d_in, c->d_out, c->is_normed ? " norm" : "",
             c->is_gated ? " gated" : "", c->adds ? " adds" : "");
    t5_error err = {0};
    t5_matrix *w[N_BACKENDS], *w_up[N_BACKENDS] = {NULL, NULL};
    size_t n_x = (size_t)c->n_rows * (size_t)c->d_in, n_y = (size_t)c->n_rows * (size_t)c->d_out;
    pair_matrix(pair, c->d_out, c->d_in, 0.2f, w);
    if (c->is_gated) pair_matrix(pair, c->d_out, c->d_in, 0.2f, w_up);
    pair_array x = c->is_normed ? pair_random_f32(pair, n_x, 3.0f) : pair_random_act(pair, n_x, 1.0f);
    pair_array gain = pair_random_f32(pair, (size_t)c->d_in, 1.5f);
    pair_array y = c->adds ? pair_random_f32(pair, n_y, 2.0f) : pair_zero_act(pair, n_y);
    pair_array scratch = pair_random_f32(pair, n_y, 2.0f);
    for (int i = 0; i < N_BACKENDS; i++) {
        t5_linear_args args = {.x = x.p[i],
                               .n_rows = c->n_rows,
                               .norm_gain = c->is_normed ? gain.p[i] : NULL,
                               .norm_eps = 1e-6f,
                               .w = w[i],
                               .w_up = w_up[i],
                               .has_act = c->has_act,
                               .act = c->act,
                               .y = y.p[i],
                               .adds = c->adds};
        const t5_backend_ops *ops = pair->b[i]->ops;
        t5_linear_args like = args;
        like.y = c->adds ? scratch.p[i] : y.p[i];
        if (ops->tune_linear != NULL) assert_ok(ops->tune_linear(pair->b[i], &like, &err), &err);
        assert_ok(ops->linear(pair->b[i], &args, &err), &err);
    }
    if (c->adds) {
        pair_expect_f32(pair, what, y);
    } else {
        /* What has an activation is stored divided by a power of two: undone by a product that says x_is_ffn. */
        float *ref = pair_read_act(pair, REF, y.p[REF], n_y), *dut = pair_read_act(pair, DUT, y.p[DUT], n_y);
        bool is_scaled = c->has_act && pair->b[DUT]->act_dtype == T5_F16;
        for (size_t i = 0; i < n_y && is_scaled; i++)
            dut[i] *= 64.0f;
        pair_expect(what, ref, dut, n_y, pair_tolerance(pair));
        free(ref);
        free(dut);
    }
    pair_matrix_destroy(pair, w);
    if (c->is_gated) pair_matrix_destroy(pair, w_up);
    pair_forget(pair);
}

/* Claim: products agree with the reference for every tail of rows, columns and outputs. Method: odd sizes, rows around
 * the tiles of 8 and 64 and past the change to cuBLAS. */
static void linear_odd_sizes(void **state)
{
    static const int32_t rows[] = {1, 7, 8, 9, 33, 64, 65, 130};
    static const int32_t sizes[][2] = {{37, 17}, {64, 16}, {100, 15}, {33, 50}, {8, 1}};
    for (size_t r = 0; r < T5_COUNT(rows); r++) {
        for (size_t s = 0; s < T5_COUNT(sizes); s++) {
            product_case c = {.n_rows = rows[r], .d_in = sizes[s][0], .d_out = sizes[s][1]};
            run_product(*state, &c);
            c.is_normed = true;
            run_product(*state, &c);
            c.has_act = true;
            c.is_gated = r % 2 == 0;
            c.act = (t5_act)(s % 4);
            run_product(*state, &c);
            product_case residual = {.n_rows = rows[r], .d_in = sizes[s][0], .d_out = sizes[s][1], .adds = true};
            run_product(*state, &residual);
        }
    }
}

/* Claim: the same on the shapes of T5-small, FLAN-T5-small, T5-base, ByT5-small and MADLAD-3B. Method: products of a
 * layer with few rows; of the widest outputs a part, since the rest repeats. */
static void linear_family_shapes(void **state)
{
    static const product_case cases[] = {
        {.n_rows = 1, .d_in = 512, .d_out = 1536, .is_normed = true},
        {.n_rows = 4, .d_in = 512, .d_out = 512, .adds = true},
        {.n_rows = 1, .d_in = 512, .d_out = 2048, .is_normed = true, .has_act = true, .act = T5_ACT_RELU},
        {.n_rows = 1, .d_in = 2048, .d_out = 512, .adds = true},
        {.n_rows = 2, .d_in = 512, .d_out = 1152, .is_normed = true},
        {.n_rows = 2, .d_in = 384, .d_out = 512, .adds = true},
        {.n_rows = 12,
         .d_in = 512,
         .d_out = 1024,
         .is_normed = true,
         .is_gated = true,
         .has_act = true,
         .act = T5_ACT_GELU_TANH},
        {.n_rows = 3, .d_in = 1024, .d_out = 512, .adds = true},
        {.n_rows = 1, .d_in = 768, .d_out = 768, .adds = true},
        {.n_rows = 1, .d_in = 2816, .d_out = 64, .adds = true},
        {.n_rows = 2, .d_in = 1472, .d_out = 1152, .is_normed = true},
        {.n_rows = 2, .d_in = 384, .d_out = 1472, .adds = true},
        {.n_rows = 1, .d_in = 3584, .d_out = 1472, .adds = true},
        {.n_rows = 2, .d_in = 1024, .d_out = 768, .is_normed = true},
        {.n_rows = 1, .d_in = 2048, .d_out = 1024, .adds = true},
        {.n_rows = 1,
         .d_in = 1024,
         .d_out = 1024,
         .is_normed = true,
         .is_gated = true,
         .has_act = true,
         .act = T5_ACT_GELU_TANH},
        {.n_rows = 2, .d_in = 8192, .d_out = 256, .adds = true},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++)
        run_product(*state, &cases[i]);
}

/* Claim: what an activation wrote and the next product reads cancel out. Method: a gated feed-forward whose inner
 * values leave the range of float16 a few times over. */
static void feed_forward_survives_large_values(void **state)
{
    backend_pair *pair = *state;
    const int32_t d = 64, d_ff = 96, n_rows = 3;
    t5_error err = {0};
    t5_matrix *wi[N_BACKENDS], *up[N_BACKENDS], *wo[N_BACKENDS];
    pair_matrix(pair, d_ff, d, 60.0f, wi);
    pair_matrix(pair, d_ff, d, 60.0f, up);
    pair_matrix(pair, d, d_ff, 0.1f, wo);
    pair_array x = pair_random_f32(pair, (size_t)(n_rows * d), 5.0f);
    pair_array gain = pair_random_f32(pair, (size_t)d, 2.0f);
    pair_array ffn = pair_zero_act(pair, (size_t)(n_rows * d_ff));
    for (int i = 0; i < N_BACKENDS; i++) {
        const t5_backend_ops *ops = pair->b[i]->ops;
        t5_linear_args in = {.x = x.p[i],
                             .n_rows = n_rows,
                             .norm_gain = gain.p[i],
                             .norm_eps = 1e-6f,
                             .w = wi[i],
                             .w_up = up[i],
                             .has_act = true,
                             .act = T5_ACT_GELU_TANH,
                             .y = ffn.p[i]};
        t5_linear_args out = {.x = ffn.p[i], .n_rows = n_rows, .w = wo[i], .y = x.p[i], .adds = true, .x_is_ffn = true};
        assert_ok(ops->linear(pair->b[i], &in, &err), &err);
        assert_ok(ops->linear(pair->b[i], &out, &err), &err);
    }
    float *inner = pair_read_act(pair, REF, ffn.p[REF], ffn.n);
    float largest = 0.0f;
    for (size_t i = 0; i < ffn.n; i++)
        largest = inner[i] > largest ? inner[i] : largest;
    assert_true(largest > 65504.0f); /* else this test shows nothing */
    free(inner);
    pair_expect_f32(pair, "feed-forward", x);
    pair_matrix_destroy(pair, wi);
    pair_matrix_destroy(pair, up);
    pair_matrix_destroy(pair, wo);
    pair_forget(pair);
}

/* Claim: a row's product does not depend on the rows beside it, bit for bit. Method: 1 to 64 rows, each compared with
 * the same row alone; own kernels only, which is what at most 64 rows get. */
static void linear_is_batch_invariant(void **state)
{
    backend_pair *pair = *state;
    enum { D_IN = 160, D_OUT = 40, ROWS = 64 };
    static const int32_t counts[] = {2, 8, 9, 31, 64};
    t5_error err = {0};
    t5_backend *b = pair->b[DUT];
    t5_matrix *w[N_BACKENDS];
    pair_matrix(pair, D_OUT, D_IN, 0.2f, w);
    pair_array x = pair_random_f32(pair, ROWS * D_IN, 3.0f), gain = pair_random_f32(pair, D_IN, 1.0f);
    pair_array alone = pair_zero_act(pair, ROWS * D_OUT), together = pair_zero_act(pair, ROWS * D_OUT);
    size_t act_bytes = t5_dtype_bytes(b->act_dtype);
    t5_linear_args args = {.n_rows = 1, .norm_gain = gain.p[DUT], .norm_eps = 1e-6f, .w = w[DUT]};
    for (int r = 0; r < ROWS; r++) {
        args.x = (const float *)x.p[DUT] + r * D_IN;
        args.y = (char *)alone.p[DUT] + (size_t)(r * D_OUT) * act_bytes;
        assert_ok(b->ops->linear(b, &args, &err), &err);
    }
    float *expected = pair_read_act(pair, DUT, alone.p[DUT], alone.n);
    for (size_t i = 0; i < T5_COUNT(counts); i++) {
        args.x = x.p[DUT];
        args.y = together.p[DUT];
        args.n_rows = counts[i];
        assert_ok(b->ops->linear(b, &args, &err), &err);
        float *got = pair_read_act(pair, DUT, together.p[DUT], together.n);
        assert_memory_equal(got, expected, (size_t)counts[i] * D_OUT * sizeof *got);
        free(got);
    }
    free(expected);
    pair_matrix_destroy(pair, w);
    pair_forget(pair);
}

/* Claim: the norm agrees. Method: the widths of the families and odd ones, with one outlier a row. */
static void rms_norm_matches(void **state)
{
    backend_pair *pair = *state;
    static const int32_t widths[] = {1, 37, 64, 512, 768, 1000, 1024};
    for (size_t i = 0; i < T5_COUNT(widths); i++) {
        t5_error err = {0};
        const int32_t n_rows = 5, d = widths[i];
        float *values = pair_random(pair, (size_t)(n_rows * d), 2.0f);
        for (int32_t r = 0; r < n_rows; r++)
            values[r * d + r % d] = 3000.0f;
        pair_array x = pair_f32(pair, values, (size_t)(n_rows * d)), gain = pair_random_f32(pair, (size_t)d, 1.0f);
        pair_array y = pair_zero_act(pair, (size_t)(n_rows * d));
        for (int k = 0; k < N_BACKENDS; k++)
            assert_ok(pair->b[k]->ops->rms_norm(pair->b[k], x.p[k], gain.p[k], 1e-6f, n_rows, d, y.p[k], &err), &err);
        pair_expect_act(pair, "rms_norm", y);
        free(values);
        pair_forget(pair);
    }
}

/* Claim: tokens find their rows of the table, and the head its logits. Method: random tokens; vocabularies that are no
 * multiple of the tiles, rows around the change to cuBLAS. */
static void embed_and_head_match(void **state)
{
    backend_pair *pair = *state;
    static const int32_t rows[] = {1, 9, 70};
    enum { D = 48, VOCAB = 203 };
    for (size_t r = 0; r < T5_COUNT(rows); r++) {
        t5_error err = {0};
        t5_matrix *w[N_BACKENDS], *tables[N_BACKENDS];
        int32_t tokens[70];
        for (int i = 0; i < 70; i++)
            tokens[i] = pair_below(pair, VOCAB);
        float *table = pair_random(pair, VOCAB * D, 4.0f);
        t5_tensor tensor = {.data = table, .dtype = T5_F32, .n_rows = VOCAB, .n_cols = D};
        pair_matrix(pair, VOCAB, D, 0.3f, w);
        pair_array ids = pair_bytes(pair, tokens, sizeof tokens), gain = pair_random_f32(pair, D, 1.0f);
        pair_array x = pair_random_f32(pair, (size_t)(rows[r] * D), 1.0f);
        pair_array logits = pair_random_f32(pair, (size_t)(rows[r] * VOCAB), 1.0f);
        for (int i = 0; i < N_BACKENDS; i++) {
            const t5_backend_ops *ops = pair->b[i]->ops;
            t5_packed packed = {.n_seqs = 1, .n_tokens = rows[r], .len_max = rows[r], .tokens = ids.p[i]};
            assert_ok(ops->table_create(pair->b[i], &tensor, &tables[i], &err), &err);
            assert_ok(ops->embed(pair->b[i], tables[i], NULL, &packed, x.p[i], &err), &err);
            assert_ok(ops->head(pair->b[i], x.p[i], rows[r], gain.p[i], 1e-6f, w[i], logits.p[i], &err), &err);
        }
        pair_expect_f32(pair, "embed", x);
        pair_expect_f32(pair, "head", logits);
        pair_matrix_destroy(pair, w);
        pair_matrix_destroy(pair, tables);
        free(table);
        pair_forget(pair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_odd_sizes),          cmocka_unit_test(linear_family_shapes),
        cmocka_unit_test(linear_is_batch_invariant), cmocka_unit_test(feed_forward_survives_large_values),
        cmocka_unit_test(rms_norm_matches),          cmocka_unit_test(embed_and_head_match),
    };
    return cmocka_run_group_tests_name("cuda kernels", tests, pair_setup, pair_teardown);
}
