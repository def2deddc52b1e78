/* tests/test_cpu_int4.c: products with 4-bit weights: for every instruction set of this machine the bits of the
 * definition below, whatever the number of rows and threads. */
#include "cpu/kernels.h"
#include "cpu_rig.h"
#include "model/quantize.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GROUPS_MAX 32

/* y of one row and one column: an exact sum for each group, groups added in rising order, one scale for the row. */
static float definition(const float *x, const float *w, int32_t d_in)
{
    uint8_t q[GROUPS_MAX * T5_INT4_GROUP];
    uint16_t scales[GROUPS_MAX];
    float x_max = 0.0f, sum = 0.0f;
    t5_quantize_int4(w, d_in, q, scales);
    for (int32_t k = 0; k < d_in; k++)
        x_max = fmaxf(x_max, fabsf(x[k]));
    for (int32_t begin = 0; begin < d_in; begin += T5_INT4_GROUP) {
        int32_t exact = 0;
        for (int32_t k = begin; k < d_in && k < begin + T5_INT4_GROUP; k++)
            exact += (int32_t)lrintf(x[k] * (127.0f / x_max)) * (q[k] - T5_INT4_ZERO);
        const volatile float product = (float)exact * t5_bf16_to_f32(scales[begin / T5_INT4_GROUP]); /* rounded */
        sum += product;
    }
    return sum * (x_max / 127.0f);
}

static void run(t5_backend *b, const t5_matrix *m, const float *x, int32_t n_rows, float *y)
{
    t5_error err = {0};
    const t5_linear_args args = {.x = x, .n_rows = n_rows, .w = m, .y = y};
    assert_ok(b->ops->linear(b, &args, &err), &err);
}

static void check_shape(int32_t d_in, int32_t d_out)
{
    enum { N_ROWS = 70 };
    const size_t n_y = (size_t)(N_ROWS * d_out);
    rig_weight w = rig_weight_random(d_out, d_in, T5_F32);
    float *x = rig_random_floats((size_t)(N_ROWS * d_in), 2.0f);
    float *row = malloc((size_t)d_in * sizeof *row), *want = malloc(n_y * sizeof *want),
          *got = malloc(n_y * sizeof *got);
    for (int32_t k = 0; k < d_in; k++) { /* the largest sums that there are */
        x[k] = 3.0f;
        x[d_in + k] = -3.0f;
        x[2 * d_in + k] = k % 4 < 2 ? 3.0f : -3.0f; /* and of half the products */
        memcpy(w.memory + 1 + (size_t)k * 4, &(float){0.25f}, 4);
    }
    for (size_t i = 0; i < n_y; i++) {
        t5_tensor_row_f32(&w.tensor, (int32_t)(i % (size_t)d_out), row);
        want[i] = definition(x + i / (size_t)d_out * (size_t)d_in, row, d_in);
    }
    for (size_t i = 0; t5_kernel_tables[i / 2] != NULL; i++) {
        t5_backend *b = rig_create(t5_kernel_tables[i / 2]->name, i % 2 == 0 ? 1 : 3, T5_COMPUTE_INT4);
        if (b == NULL) continue;
        t5_matrix *m = rig_matrix(b, &w, 1, 1.0f);
        static const int32_t batches[] = {1, 2, 3, 4, 5, 6, 7, 14, 33, N_ROWS}; /* of tiles that differ */
        for (size_t i_batch = 0; i_batch < T5_COUNT(batches); i_batch++) {
            const int32_t n_rows = batches[i_batch];
            for (int32_t begin = 0; begin + n_rows <= N_ROWS; begin += n_rows)
                run(b, m, x + begin * d_in, n_rows, got + begin * d_out);
            const size_t n = (size_t)(N_ROWS / n_rows * n_rows * d_out);
            for (size_t k = 0; k < n; k++)
                if (memcmp(&got[k], &want[k], sizeof *got) != 0)
                    fail_msg("%s: %d x %d, %d rows: value %zu is %g, not %g", b->device, d_out, d_in, n_rows, k,
                             (double)got[k], (double)want[k]);
        }
        b->ops->matrix_destroy(b, m);
        b->ops->destroy(b);
    }
    free(w.memory);
    free(x);
    free(row);
    free(want);
    free(got);
}

static void int4_is_its_definition(void **state)
{
    (void)state;
    static const int32_t shapes[][2] = {{64, 96}, {48, 130}, {7, 5}, {512, 65}, {1000, 64}, {33, 300}};
    for (size_t i = 0; i < T5_COUNT(shapes); i++)
        check_shape(shapes[i][0], shapes[i][1]);
}

/* Claim: parts are stacked, the norm, activation, gate and residual of int4 are those of other weights. Method: the
 * reference with the weights that the integers stand for, and rows that 8 bits hold exactly. */
static void epilogues_match_reference(void **state)
{
    (void)state;
    enum { D_IN = 64, D_OUT = 80, N_ROWS = 5 };
    t5_error err = {0};
    rig_weight w[2] = {rig_weight_random(D_OUT, D_IN, T5_F32), rig_weight_random(D_OUT, D_IN, T5_F32)};
    float x[N_ROWS * D_IN], want[N_ROWS * D_OUT], got[N_ROWS * D_OUT];
    for (int32_t i = 0; i < N_ROWS * D_IN; i++)
        x[i] = i % D_IN == 0 ? 127.0f : (float)(rig_random_below(255) - 127);
    t5_backend *exact = rig_create("generic", 1, T5_COMPUTE_F32);
    for (size_t i = 0; t5_kernel_tables[i] != NULL; i++) {
        t5_backend *b = rig_create(t5_kernel_tables[i]->name, 1, T5_COMPUTE_INT4);
        if (b == NULL) continue;
        rig_weight rounded[2];
        for (int32_t k = 0; k < 2; k++) {
            rounded[k] = rig_weight_random(D_OUT, D_IN, T5_F32);
            for (int32_t r = 0; r < D_OUT; r++) {
                float row[D_IN];
                uint8_t q[D_IN];
                uint16_t scales[D_IN / T5_INT4_GROUP];
                t5_tensor_row_f32(&w[k].tensor, r, row);
                t5_quantize_int4(row, D_IN, q, scales);
                for (int32_t c = 0; c < D_IN; c++)
                    row[c] = (float)(q[c] - T5_INT4_ZERO) * t5_bf16_to_f32(scales[c / T5_INT4_GROUP]);
                memcpy(rounded[k].memory + 1 + (size_t)r * sizeof row, row, sizeof row);
            }
        }
        t5_backend *const backends[2] = {exact, b};
        for (int32_t k = 0; k < 2; k++) {
            t5_matrix *m = rig_matrix(backends[k], k == 0 ? rounded : w, 1, 0.5f);
            t5_matrix *up = rig_matrix(backends[k], k == 0 ? rounded + 1 : w + 1, 1, 1.0f);
            float *y = k == 0 ? want : got;
            for (int32_t n = 0; n < N_ROWS * D_OUT; n++)
                y[n] = 1.0f;
            const t5_linear_args args = {.x = x,
                                         .n_rows = N_ROWS,
                                         .w = m,
                                         .w_up = up,
                                         .has_act = true,
                                         .act = T5_ACT_GELU_TANH,
                                         .y = y,
                                         .adds = true};
            assert_ok(backends[k]->ops->linear(backends[k], &args, &err), &err);
            backends[k]->ops->matrix_destroy(backends[k], m);
            backends[k]->ops->matrix_destroy(backends[k], up);
        }
        rig_close(got, want, N_ROWS * D_OUT, b->device);
        free(rounded[0].memory);
        free(rounded[1].memory);
        b->ops->destroy(b);
    }
    exact->ops->destroy(exact);
    free(w[0].memory);
    free(w[1].memory);
}

/* Claim: what is not finite spreads over its row of x, or its column of w, and no further. */
static void nan_is_passed_on(void **state)
{
    (void)state;
    enum { D_IN = 70, D_OUT = 70, N_ROWS = 3 };
    rig_weight w = rig_weight_random(D_OUT, D_IN, T5_F32);
    float *x = rig_random_floats((size_t)(N_ROWS * D_IN), 1.0f);
    float y[N_ROWS * D_OUT];
    x[D_IN + 69] = NAN;
    memcpy(w.memory + 1 + (size_t)(66 * D_IN + 40) * 4, &(float){INFINITY}, 4);
    for (size_t i = 0; t5_kernel_tables[i] != NULL; i++) {
        t5_backend *b = rig_create(t5_kernel_tables[i]->name, 1, T5_COMPUTE_INT4);
        if (b == NULL) continue;
        t5_matrix *m = rig_matrix(b, &w, 1, 1.0f);
        run(b, m, x, N_ROWS, y);
        b->ops->matrix_destroy(b, m);
        for (int32_t k = 0; k < N_ROWS * D_OUT; k++)
            assert_true((isnan(y[k]) != 0) == (k / D_OUT == 1 || k % D_OUT == 66));
        b->ops->destroy(b);
    }
    free(w.memory);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int4_is_its_definition),
        cmocka_unit_test(epilogues_match_reference),
        cmocka_unit_test(nan_is_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
