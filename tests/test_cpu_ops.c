/* tests/test_cpu_ops.c: products, norms and embeddings of the fast CPU backend against the reference, for every
 * instruction set of this machine; and that a row's result never depends on the number of rows, bit for bit. Shapes:
 * those of the T5 families and odd ones. Attention is in test_cpu_attention.c. */
#include "cpu/kernels.h"
#include "cpu/threads.h"
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

/* ---- products ---- */

typedef struct {
    int32_t d_in, d_out, n_rows;
    t5_dtype dtype;
    bool has_norm, has_act, has_gate, adds;
    t5_act act;
    float scale;
} linear_case;

/* The case's product on `b`, over rows row0 .. row0 + n - 1 of x; y holds what `adds` adds to. */
static void run_linear(t5_backend *b, const linear_case *c, const rig_weight *w, const float *gain, const float *x,
                       int32_t n_rows, float *y)
{
    t5_error err = {0};
    t5_matrix *m = rig_matrix(b, w, 1, c->scale);
    t5_matrix *up = c->has_gate ? rig_matrix(b, w + 1, 1, 1.0f) : NULL;
    const t5_linear_args args = {.x = x,
                                 .n_rows = n_rows,
                                 .norm_gain = c->has_norm ? gain : NULL,
                                 .norm_eps = 1e-6f,
                                 .w = m,
                                 .w_up = up,
                                 .has_act = c->has_act,
                                 .act = c->act,
                                 .y = y,
                                 .adds = c->adds};
    assert_ok(b->ops->linear(b, &args, &err), &err);
    assert_ok(b->ops->sync(b, &err), &err);
    b->ops->matrix_destroy(b, m);
    b->ops->matrix_destroy(b, up);
}

/* T5_TEST_SCALE below 1 leaves out the larger products: emulators are slow. */
static bool is_too_long(const linear_case *c)
{
    const char *scale = getenv("T5_TEST_SCALE");
    return scale != NULL && (double)c->n_rows * c->d_in * c->d_out > 5e7 * atof(scale);
}

static void check_linear(const linear_case *c)
{
    if (is_too_long(c)) return;
    const size_t n_out = (size_t)c->n_rows * (size_t)c->d_out;
    rig_weight w[2] = {rig_weight_random(c->d_out, c->d_in, c->dtype), rig_weight_random(c->d_out, c->d_in, c->dtype)};
    float *x = rig_random_floats((size_t)c->n_rows * (size_t)c->d_in, 2.0f);
    float *gain = rig_random_floats((size_t)c->d_in, 1.0f);
    float *y0 = rig_random_floats(n_out, 1.0f);
    float *want = rig_copy(y0, n_out * sizeof *y0);
    run_linear(rig_reference, c, w, gain, x, c->n_rows, want);
    for (int32_t i = 0; i < rig_n_fast; i++) {
        char what[128];
        snprintf(what, sizeof what, "%s: %d x %d, %d rows, dtype %d, act %d", rig_fast[i]->device, c->d_out, c->d_in,
                 c->n_rows, (int)c->dtype, (int)c->act);
        float *y = rig_copy(y0, n_out * sizeof *y0);
        run_linear(rig_fast[i], c, w, gain, x, c->n_rows, y);
        rig_close(y, want, n_out, what);
        /* Alone, a row gives the same bits. */
        const int32_t row = c->n_rows / 2;
        float *alone = rig_copy(y0 + (size_t)row * (size_t)c->d_out, (size_t)c->d_out * sizeof *y0);
        run_linear(rig_fast[i], c, w, gain, x + (size_t)row * (size_t)c->d_in, 1, alone);
        if (memcmp(alone, y + (size_t)row * (size_t)c->d_out, (size_t)c->d_out * sizeof *y) != 0)
            fail_msg("%s: row %d differs alone", what, row);
        free(alone);
        free(y);
    }
    free(w[0].memory);
    free(w[1].memory);
    free(x);
    free(gain);
    free(y0);
    free(want);
}

/* Claim: linear is the reference's, for each shape, type, number of rows and epilogue, and bit for bit the same for a
 * row alone. Method: random values; shapes with and without a rest of panels, rows around the tile heights. */
static void linear_matches_reference(void **state)
{
    (void)state;
    static const int32_t shapes[][2] = {{48, 96}, {96, 48},  {512, 512}, {64, 1001},
                                        {7, 5},   {256, 65}, {1, 1},     {520, 192}};
    static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 13, 32, 70};
    for (size_t s = 0; s < T5_COUNT(shapes); s++) {
        for (size_t r = 0; r < T5_COUNT(rows); r++) {
            linear_case c = {.d_in = shapes[s][0], .d_out = shapes[s][1], .n_rows = rows[r], .scale = 1.0f};
            check_linear(&c);
            c.dtype = r % 2 == 0 ? T5_F16 : T5_BF16;
            c.has_norm = true;
            check_linear(&c);
        }
    }
}

static void linear_epilogues_match_reference(void **state)
{
    (void)state;
    for (int32_t act = T5_ACT_RELU; act <= T5_ACT_SILU; act++) {
        linear_case c = {.d_in = 96, .d_out = 200, .n_rows = 9, .scale = 1.0f, .has_act = true, .act = (t5_act)act};
        check_linear(&c);
        c.has_gate = c.has_norm = true;
        check_linear(&c);
        c.dtype = T5_F16;
        c.n_rows = 1;
        check_linear(&c);
    }
    check_linear(&(linear_case){.d_in = 96, .d_out = 70, .n_rows = 9, .scale = 1.0f, .adds = true});
    check_linear(&(linear_case){.d_in = 96, .d_out = 70, .n_rows = 9, .scale = 0.0442f, .has_norm = true});
}

static void check_nan_row(const linear_case *c, const rig_weight *w, const float *x, int32_t odd)
{
    static const t5_compute_type types[] = {T5_COMPUTE_AUTO, T5_COMPUTE_BF16, T5_COMPUTE_INT8};
    const int32_t n = c->n_rows * c->d_out;
    float *y = rig_random_floats((size_t)n, 1.0f);
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
        for (size_t i = 0; i < T5_COUNT(types); i++) {
            t5_backend *b = rig_create((*table)->name, 1, types[i]);
            if (b == NULL) continue;
            run_linear(b, c, w, NULL, x, c->n_rows, y);
            for (int32_t k = 0; k < n; k++)
                assert_true((isnan(y[k]) != 0) == (k / c->d_out == odd));
            b->ops->destroy(b);
        }
    }
    free(y);
}

/* Claim: a NaN in a row makes all outputs of that row NaN, in every activation, bfloat16 and int8, and no other's.
 * Method: the NaN in a register and in the rest of a row. */
static void linear_passes_nan_on(void **state)
{
    (void)state;
    linear_case c = {.d_in = 69, .d_out = 70, .n_rows = 4, .scale = 1.0f};
    const rig_weight w = rig_weight_random(c.d_out, c.d_in, T5_F32);
    float *x = rig_random_floats((size_t)(c.n_rows * c.d_in), 1.0f);
    for (int32_t act = T5_ACT_RELU - 1; act <= T5_ACT_SILU; act++) {
        c.has_act = act >= T5_ACT_RELU;
        if (c.has_act) c.act = (t5_act)act;
        for (int32_t place = 3; place < c.d_in; place += 65) {
            const int32_t odd = 2;
            const float kept = x[odd * c.d_in + place];
            x[odd * c.d_in + place] = NAN;
            check_nan_row(&c, &w, x, odd);
            x[odd * c.d_in + place] = kept;
        }
    }
    free(w.memory);
    free(x);
}

/* Claim: large work cut over rows and panels is still right. */
static void linear_many_rows(void **state)
{
    (void)state;
    check_linear(&(linear_case){.d_in = 128, .d_out = 64, .n_rows = 700, .scale = 1.0f, .has_norm = true});
    check_linear(&(linear_case){.d_in = 64, .d_out = 2500, .n_rows = 300, .scale = 1.0f, .adds = true});
}

/* Claim: a matrix of several parts is their rows one after another, also when their types differ. */
static void matrix_stacks_parts(void **state)
{
    (void)state;
    rig_weight parts[3] = {rig_weight_random(48, 40, T5_BF16), rig_weight_random(33, 40, T5_F32),
                           rig_weight_random(7, 40, T5_F16)};
    float *x = rig_random_floats(2 * 40, 1.0f);
    float want[2 * 88];
    float got[2 * 88];
    t5_error err = {0};
    t5_linear_args args = {.x = x, .n_rows = 2};
    t5_matrix *m = rig_matrix(rig_reference, parts, 3, 1.0f);
    args.w = m;
    args.y = want;
    assert_ok(rig_reference->ops->linear(rig_reference, &args, &err), &err);
    rig_reference->ops->matrix_destroy(rig_reference, m);
    for (int32_t i = 0; i < rig_n_fast; i++) {
        m = rig_matrix(rig_fast[i], parts, 3, 1.0f);
        args.w = m;
        args.y = got;
        assert_ok(rig_fast[i]->ops->linear(rig_fast[i], &args, &err), &err);
        rig_close(got, want, T5_COUNT(got), rig_fast[i]->device);
        rig_fast[i]->ops->matrix_destroy(rig_fast[i], m);
    }
    for (int32_t i = 0; i < 3; i++)
        free(parts[i].memory);
    free(x);
}

/* Claim: float16 and bfloat16 round each weight, and rows at most to bfloat16. Method: the reference on weights that
 * were rounded beforehand, and rows that bfloat16 holds exactly. */
static void compute_types_round_weights(void **state)
{
    (void)state;
    static const struct {
        t5_compute_type type;
        t5_dtype dtype;
    } types[] = {{T5_COMPUTE_F16, T5_F16}, {T5_COMPUTE_BF16, T5_BF16}, {T5_COMPUTE_F32, T5_F32}};
    const linear_case c = {.d_in = 80, .d_out = 100, .n_rows = 5, .scale = 1.0f};
    rig_weight w = rig_weight_random(c.d_out, c.d_in, T5_F32);
    rig_weight rounded = rig_weight_random(c.d_out, c.d_in, T5_F32);
    float *x = rig_random_floats((size_t)(c.n_rows * c.d_in), 1.0f);
    float *want = rig_random_floats((size_t)(c.n_rows * c.d_out), 1.0f);
    float *got = rig_random_floats((size_t)(c.n_rows * c.d_out), 1.0f);
    for (int32_t i = 0; i < c.n_rows * c.d_in; i++)
        x[i] = t5_bf16_to_f32(t5_f32_to_bf16(x[i]));
    for (size_t t = 0; t < T5_COUNT(types); t++) {
        for (size_t i = 0; i < (size_t)(c.d_in * c.d_out); i++) {
            float value = 0.0f;
            memcpy(&value, w.memory + 1 + i * 4, 4);
            if (types[t].dtype == T5_F16) value = t5_f16_to_f32(t5_f32_to_f16(value));
            if (types[t].dtype == T5_BF16) value = t5_bf16_to_f32(t5_f32_to_bf16(value));
            memcpy(rounded.memory + 1 + i * 4, &value, 4);
        }
        run_linear(rig_reference, &c, &rounded, NULL, x, c.n_rows, want);
        for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
            t5_backend *b = rig_create((*table)->name, 2, types[t].type);
            if (b == NULL) continue;
            run_linear(b, &c, &w, NULL, x, c.n_rows, got);
            rig_close(got, want, (size_t)(c.n_rows * c.d_out), b->device);
            b->ops->destroy(b);
        }
    }
    free(w.memory);
    free(rounded.memory);
    free(x);
    free(want);
    free(got);
}

/* Claim: a weight beyond float16 is an error, not an infinity. */
static void float16_refuses_large_weights(void **state)
{
    (void)state;
    t5_error err = {0};
    const float values[4] = {1.0f, 70000.0f, 0.0f, -1.0f};
    const t5_tensor tensor = {.data = values, .dtype = T5_F32, .n_rows = 2, .n_cols = 2};
    t5_backend *b = rig_create(NULL, 1, T5_COMPUTE_F16);
    t5_matrix *m = NULL;
    assert_int_equal(b->ops->matrix_create(b, &tensor, 1, 1.0f, &m, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "bfloat16"));
    assert_null(m);
    b->ops->destroy(b);
}

/* y of the definition: integers, exact sums, one scale for a row and one for a column. */
static void int8_product(const float *x, const float *w, int32_t n_rows, int32_t d_in, int32_t d_out, float *y)
{
    for (int32_t r = 0; r < n_rows; r++) {
        for (int32_t c = 0; c < d_out; c++) {
            float x_max = 0.0f, w_max = 0.0f;
            for (int32_t k = 0; k < d_in; k++) {
                x_max = fmaxf(x_max, fabsf(x[r * d_in + k]));
                w_max = fmaxf(w_max, fabsf(w[c * d_in + k]));
            }
            int64_t sum = 0;
            for (int32_t k = 0; k < d_in; k++)
                sum += lrintf(x[r * d_in + k] * (127.0f / x_max)) * lrintf(w[c * d_in + k] * (127.0f / w_max));
            y[r * d_out + c] = (float)sum * (x_max / 127.0f) * (w_max / 127.0f);
        }
    }
}

/* Claim: int8 is the definition above, the same bits for each instruction set, for a row alone, and near the product of
 * the real numbers. Method: extreme rows (all +127, all -127) would saturate a 16-bit sum. */
static void int8_matches_definition(void **state)
{
    (void)state;
    static const int32_t shapes[][3] = {{48, 96, 13},  {7, 5, 13},    {512, 130, 13}, {63, 64, 13},
                                        {128, 70, 33}, {64, 200, 57}, {192, 64, 16}};
    for (size_t s = 0; s < T5_COUNT(shapes); s++) {
        const linear_case c = {.d_in = shapes[s][0], .d_out = shapes[s][1], .n_rows = shapes[s][2], .scale = 1.0f};
        const size_t n_x = (size_t)(c.n_rows * c.d_in), n_y = (size_t)(c.n_rows * c.d_out);
        rig_weight w = rig_weight_random(c.d_out, c.d_in, T5_F32);
        float *w_values = rig_random_floats((size_t)(c.d_out * c.d_in), 1.0f);
        float *x = rig_random_floats(n_x, 2.0f);
        for (int32_t k = 0; k < c.d_in; k++) {
            const float one = 0.25f;
            x[k] = 3.0f;
            x[c.d_in + k] = -3.0f;
            memcpy(w.memory + 1 + (size_t)k * 4, &one, 4);
        }
        memcpy(w_values, w.memory + 1, (size_t)(c.d_out * c.d_in) * 4);
        float *want = malloc(n_y * sizeof *want), *real = malloc(n_y * sizeof *real);
        float *got = malloc(n_y * sizeof *got), *first = malloc(n_y * sizeof *first);
        float *alone = malloc((size_t)c.d_out * sizeof *alone);
        int8_product(x, w_values, c.n_rows, c.d_in, c.d_out, want);
        run_linear(rig_reference, &c, &w, NULL, x, c.n_rows, real);
        double worst = 0.0;
        bool has_first = false;
        for (size_t i = 0; i < n_y; i++)
            worst = fmax(worst, fabs((double)want[i] - (double)real[i]));
        assert_true(worst < 0.02 * 3.0 * 0.25 * c.d_in);
        for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
            t5_backend *b = rig_create((*table)->name, 2, T5_COMPUTE_INT8);
            if (b == NULL) continue;
            run_linear(b, &c, &w, NULL, x, c.n_rows, got);
            rig_close(got, want, n_y, b->device);
            if (!has_first) memcpy(first, got, n_y * sizeof *first);
            has_first = true;
            assert_memory_equal(got, first, n_y * sizeof *first);
            run_linear(b, &c, &w, NULL, x + 4 * c.d_in, 1, alone);
            assert_memory_equal(alone, got + 4 * c.d_out, (size_t)c.d_out * sizeof *alone);
            b->ops->destroy(b);
        }
        free(w.memory);
        free(w_values);
        free(x);
        free(want);
        free(real);
        free(got);
        free(first);
        free(alone);
    }
}

/* Claim: a weight that is not finite makes its int8 column NaN and no other. */
static void int8_passes_nan_weights_on(void **state)
{
    (void)state;
    const linear_case c = {.d_in = 30, .d_out = 70, .n_rows = 1, .scale = 1.0f};
    rig_weight w = rig_weight_random(c.d_out, c.d_in, T5_F32);
    float *x = rig_random_floats((size_t)c.d_in, 1.0f);
    float y[70];
    memcpy(w.memory + 1 + (size_t)(3 * c.d_in + 7) * 4, &(float){NAN}, 4);
    memcpy(w.memory + 1 + (size_t)(66 * c.d_in) * 4, &(float){-INFINITY}, 4);
    t5_backend *b = rig_create(NULL, 1, T5_COMPUTE_INT8);
    run_linear(b, &c, &w, NULL, x, 1, y);
    for (int32_t k = 0; k < c.d_out; k++)
        assert_true((isnan(y[k]) != 0) == (k == 3 || k == 66));
    b->ops->destroy(b);
    free(w.memory);
    free(x);
}

/* ---- norm and embedding ---- */

static void norm_matches_reference(void **state)
{
    (void)state;
    static const int32_t widths[] = {1, 5, 48, 64, 512, 768, 1000};
    t5_error err = {0};
    for (size_t i = 0; i < T5_COUNT(widths); i++) {
        const int32_t d = widths[i], n_rows = 40;
        const size_t n = (size_t)(d * n_rows);
        float *x = rig_random_floats(n, 3.0f), *gain = rig_random_floats((size_t)d, 1.0f);
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
        x[0] = 1e4f; /* T5's residual stream has outliers */
        assert_ok(rig_reference->ops->rms_norm(rig_reference, x, gain, 1e-6f, n_rows, d, want, &err), &err);
        for (int32_t b = 0; b < rig_n_fast; b++) {
            assert_ok(rig_fast[b]->ops->rms_norm(rig_fast[b], x, gain, 1e-6f, n_rows, d, got, &err), &err);
            for (int32_t r = 0; r < n_rows; r++)
                rig_close(got + r * d, want + r * d, (size_t)d, rig_fast[b]->device);
        }
        free(x);
        free(gain);
        free(want);
        free(got);
    }
}

/* Claim: embeddings are the table's rows, whatever its type and alignment. */
static void embed_copies_rows(void **state)
{
    (void)state;
    t5_error err = {0};
    int32_t tokens[50];
    const int32_t d = 48, vocab_size = 101;
    for (int32_t i = 0; i < 50; i++)
        tokens[i] = rig_random_below(vocab_size);
    tokens[7] = vocab_size - 1;
    const t5_packed packed = {.n_seqs = 1, .n_tokens = 50, .tokens = tokens};
    for (int32_t dtype = T5_F32; dtype <= T5_BF16; dtype++) {
        rig_weight w = rig_weight_random(vocab_size, d, (t5_dtype)dtype);
        for (int32_t i = 0; i < rig_n_fast; i++) {
            t5_matrix *table = NULL;
            float got[50 * 48];
            float want[48];
            assert_ok(rig_fast[i]->ops->table_create(rig_fast[i], &w.tensor, &table, &err), &err);
            assert_ok(rig_fast[i]->ops->embed(rig_fast[i], table, NULL, &packed, got, &err), &err);
            for (int32_t t = 0; t < 50; t++) {
                t5_tensor_row_f32(&w.tensor, tokens[t], want);
                assert_memory_equal(got + t * d, want, sizeof want);
            }
            rig_fast[i]->ops->matrix_destroy(rig_fast[i], table);
        }
        free(w.memory);
    }
}

/* ---- options ---- */

/* Claim: what this backend cannot do is refused with a text. */
static void options_are_checked(void **state)
{
    (void)state;
    static const t5_cpu_options wrong[] = {{.n_threads = -1}, {.n_threads = T5_THREADS_MAX + 1}, {.isa = "mmx"}};
    for (size_t i = 0; i < T5_COUNT(wrong); i++) {
        t5_error err = {0};
        t5_backend *b = NULL;
        assert_int_equal(t5_cpu_create(&wrong[i], &b, &err), T5_ERR_ARG);
        assert_null(b);
        assert_true(err.text[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_matches_reference),
        cmocka_unit_test(linear_epilogues_match_reference),
        cmocka_unit_test(linear_passes_nan_on),
        cmocka_unit_test(linear_many_rows),
        cmocka_unit_test(matrix_stacks_parts),
        cmocka_unit_test(compute_types_round_weights),
        cmocka_unit_test(float16_refuses_large_weights),
        cmocka_unit_test(int8_matches_definition),
        cmocka_unit_test(int8_passes_nan_weights_on),
        cmocka_unit_test(norm_matches_reference),
        cmocka_unit_test(embed_copies_rows),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, rig_open, rig_close_backends);
}
