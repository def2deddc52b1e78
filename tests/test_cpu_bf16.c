/* tests/test_cpu_bf16.c: products of rows and weights in bfloat16 by the matrix unit: the bits of the definition below,
 * whatever the number of rows and threads. Skipped on machines without one, where bfloat16 is how weights are stored
 * (test_cpu_ops.c). */
#include "cpu/kernels.h"
#include "cpu/matrix.h"
#include "cpu_rig.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_ROWS = 70 };

/* The kernels that this is about; skips the test where there are none. */
static const t5_kernels *find_kernels(void)
{
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++)
        if ((*table)->round_row != NULL && (*table)->is_supported()) return *table;
    skip();
    return NULL;
}

static float rounded(float x)
{
    return t5_bf16_to_f32(t5_f32_to_bf16(x));
}

/* Steps of 32 elements; in each the even products apart from the odd ones. Products of two bfloat16 are exact. */
static float definition(const float *x, const float *w, int32_t d_in)
{
    float sum = 0.0f;
    for (int32_t begin = 0; begin < d_in; begin += T5_ROW16_STEP) {
        float parts[2] = {0.0f, 0.0f};
        for (int32_t k = begin; k < d_in && k < begin + T5_ROW16_STEP; k++)
            parts[k % 2] += rounded(x[k]) * rounded(w[k]);
        sum += parts[0] + parts[1];
    }
    return sum;
}

static void run(t5_backend *b, const t5_matrix *m, const float *x, int32_t n_rows, float *y)
{
    t5_error err = {0};
    const t5_linear_args args = {.x = x, .n_rows = n_rows, .w = m, .y = y};
    assert_ok(b->ops->linear(b, &args, &err), &err);
}

/* All rows in batches of n_rows. */
static void check_batches(t5_backend *b, const t5_matrix *m, const float *x, int32_t n_rows, const float *want)
{
    const size_t n = (size_t)N_ROWS * (size_t)m->d_out;
    float *got = malloc(n * sizeof *got);
    assert_non_null(got);
    for (int32_t begin = 0; begin < N_ROWS; begin += n_rows) {
        const int32_t n_left = N_ROWS - begin;
        run(b, m, x + (size_t)begin * (size_t)m->d_in, n_left < n_rows ? n_left : n_rows,
            got + (size_t)begin * (size_t)m->d_out);
    }
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: %d x %d, %d rows: value %zu is %.9g, not %.9g", b->device, m->d_out, m->d_in, n_rows, i,
                     (double)got[i], (double)want[i]);
    }
    free(got);
}

static void check_shape(const char *isa, int32_t d_in, int32_t d_out)
{
    static const int32_t batches[] = {1, 2, 5, 15, 16, 17, 31, 32, 33, 48, N_ROWS};
    const size_t n_y = (size_t)(N_ROWS * d_out);
    const rig_weight w = rig_weight_random(d_out, d_in, T5_F32);
    float *x = rig_random_floats((size_t)(N_ROWS * d_in), 2.0f);
    float *row = malloc((size_t)d_in * sizeof *row), *want = malloc(n_y * sizeof *want);
    assert_non_null(row);
    assert_non_null(want);
    for (size_t i = 0; i < n_y; i++) {
        t5_tensor_row_f32(&w.tensor, (int32_t)(i % (size_t)d_out), row);
        want[i] = definition(x + i / (size_t)d_out * (size_t)d_in, row, d_in);
    }
    for (int32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
        t5_backend *b = rig_create(isa, n_threads, T5_COMPUTE_BF16);
        t5_matrix *m = rig_matrix(b, &w, 1, 1.0f);
        for (size_t i = 0; i < T5_COUNT(batches); i++)
            check_batches(b, m, x, batches[i], want);
        b->ops->matrix_destroy(b, m);
        b->ops->destroy(b);
    }
    free(w.memory);
    free(x);
    free(row);
    free(want);
}

/* Claim: products are their definition, bit for bit, alone and in company. Method: widths and heights with and without
 * a rest of tiles and panels, batches around the heights of tiles. */
static void products_are_their_definition(void **state)
{
    (void)state;
    static const int32_t shapes[][2] = {{64, 128}, {48, 130}, {7, 5}, {1, 1}, {512, 65}, {1000, 64}, {33, 300}};
    const t5_kernels *kernels = find_kernels();
    for (size_t i = 0; i < T5_COUNT(shapes); i++)
        check_shape(kernels->name, shapes[i][0], shapes[i][1]);
}

/* Claim: the norm, activation, gate, scale and residual are those of other weights, and a row alone has the bits it has
 * in company. Method: the reference with rounded weights; the norm's result is rounded, which sets the bound. */
static void epilogues_match_reference(void **state)
{
    (void)state;
    enum { D_IN = 96, D_OUT = 200, N = 37, ODD = 20 };
    t5_error err = {0};
    const rig_weight w[2] = {rig_weight_random(D_OUT, D_IN, T5_BF16), rig_weight_random(D_OUT, D_IN, T5_BF16)};
    float *x = rig_random_floats(N * D_IN, 2.0f), *gain = rig_random_floats(D_IN, 1.0f);
    float *y0 = rig_random_floats(N * D_OUT, 1.0f);
    float *y[2] = {rig_copy(y0, N * D_OUT * sizeof *y0), rig_copy(y0, N * D_OUT * sizeof *y0)};
    float *alone = rig_copy(y0 + ODD * D_OUT, D_OUT * sizeof *y0);
    const char *isa = find_kernels()->name;
    t5_backend *const backends[2] = {rig_create("generic", 1, T5_COMPUTE_F32), rig_create(isa, 3, T5_COMPUTE_BF16)};
    for (int32_t i = 0; i < 2; i++) {
        t5_backend *b = backends[i];
        t5_linear_args args = {.x = x,
                               .n_rows = N,
                               .norm_gain = gain,
                               .norm_eps = 1e-6f,
                               .w = rig_matrix(b, &w[0], 1, 0.5f),
                               .w_up = rig_matrix(b, &w[1], 1, 1.0f),
                               .has_act = true,
                               .act = T5_ACT_GELU_TANH,
                               .y = y[i],
                               .adds = true};
        assert_ok(b->ops->linear(b, &args, &err), &err);
        args.x = x + ODD * D_IN;
        args.n_rows = 1;
        args.y = alone;
        memcpy(alone, y0 + ODD * D_OUT, D_OUT * sizeof *y0);
        assert_ok(b->ops->linear(b, &args, &err), &err);
        assert_memory_equal(alone, y[i] + ODD * D_OUT, D_OUT * sizeof *alone);
        b->ops->matrix_destroy(b, (t5_matrix *)(uintptr_t)args.w);
        b->ops->matrix_destroy(b, (t5_matrix *)(uintptr_t)args.w_up);
        b->ops->destroy(b);
    }
    for (int32_t i = 0; i < N * D_OUT; i++)
        assert_true(fabsf(y[1][i] - y[0][i]) <= 0.02f);
    free(w[0].memory);
    free(w[1].memory);
    free(x);
    free(gain);
    free(y0);
    free(y[0]);
    free(y[1]);
    free(alone);
}

/* Claim: rows are rounded to the nearest bfloat16, ties to even, NaN stays NaN. Method: every upper half of a float32,
 * with lower halves around the tie; the rest of a row is zeros. */
static void rows_are_rounded(void **state)
{
    (void)state;
    static const uint32_t low_halves[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    enum { D = 65536, REST = 9 };
    const t5_kernels *kernels = find_kernels();
    float *x = malloc(D * sizeof *x);
    uint16_t *y = malloc(D * sizeof *y), rest[T5_ROW16_STEP];
    assert_non_null(x);
    assert_non_null(y);
    for (size_t i = 0; i < T5_COUNT(low_halves); i++) {
        for (uint32_t high = 0; high < D; high++) {
            const uint32_t bits = high << 16 | low_halves[i];
            memcpy(&x[high], &bits, sizeof bits);
        }
        kernels->round_row(x, D, y);
        for (int32_t k = 0; k < D; k++)
            assert_int_equal(y[k], t5_f32_to_bf16(x[k]));
    }
    memset(rest, 0xff, sizeof rest);
    kernels->round_row(x + 1, REST, rest);
    for (int32_t k = 0; k < T5_ROW16_STEP; k++)
        assert_int_equal(rest[k], k < REST ? t5_f32_to_bf16(x[1 + k]) : 0);
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_their_definition),
        cmocka_unit_test(epilogues_match_reference),
        cmocka_unit_test(rows_are_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
