/* tests/simt/test_gemm.c: how products of many rows find their algorithm, which only the host runtime can show: its
 * cuBLASLt has a slow one, a right one and one that refuses. */
#include "cuda/cuda_backend.h"
#include "tests/assert_ok.h"
#include "tests/simt/simt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { D_IN = 32, D_OUT = 16, ROWS_MAX = 700 };

typedef struct {
    t5_backend *backend;
    t5_matrix *w;
    void *x, *y;
} rig;

static void open_rig(rig *r, int32_t d_in)
{
    t5_error err = {0};
    static float values[D_OUT * D_IN], rows[ROWS_MAX * D_IN];
    for (int32_t i = 0; i < D_OUT * D_IN; i++)
        values[i] = (float)(i % 7 - 3);
    for (int32_t i = 0; i < ROWS_MAX * D_IN; i++)
        rows[i] = (float)(i % 5 - 2);
    t5_cuda_options options = {.type = T5_F32};
    assert_ok(t5_cuda_create(&options, &r->backend, &err), &err);
    const t5_backend_ops *ops = r->backend->ops;
    t5_tensor tensor = {.data = values, .dtype = T5_F32, .n_rows = D_OUT, .n_cols = d_in};
    assert_ok(ops->matrix_create(r->backend, &tensor, 1, 1.0f, &r->w, &err), &err);
    assert_ok(ops->alloc(r->backend, sizeof rows, &r->x, &err), &err);
    assert_ok(ops->alloc(r->backend, ROWS_MAX * D_OUT * sizeof(float), &r->y, &err), &err);
    assert_ok(ops->upload(r->backend, r->x, rows, sizeof rows, &err), &err);
}

static void close_rig(rig *r)
{
    r->backend->ops->release(r->backend, r->x);
    r->backend->ops->release(r->backend, r->y);
    r->backend->ops->matrix_destroy(r->backend, r->w);
    r->backend->ops->destroy(r->backend);
    simt_lt_propose(1);
}

static void tune(rig *r, int32_t n_rows)
{
    t5_error err = {0};
    t5_linear_args args = {.x = r->x, .n_rows = n_rows, .w = r->w, .y = r->y};
    assert_ok(r->backend->ops->tune_linear(r->backend, &args, &err), &err);
}

/* Sum of y after a product of n_rows rows. */
static double product(rig *r, int32_t n_rows)
{
    t5_error err = {0};
    static float y[ROWS_MAX * D_OUT];
    size_t n = (size_t)n_rows * D_OUT;
    t5_linear_args args = {.x = r->x, .n_rows = n_rows, .w = r->w, .y = r->y};
    assert_ok(r->backend->ops->linear(r->backend, &args, &err), &err);
    assert_ok(r->backend->ops->download(r->backend, y, r->y, n * sizeof *y, &err), &err);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)y[i] * (double)(1 + i % 3);
    return sum;
}

/* Claim: the fastest of the proposals is kept, once for each power of two of rows, and one that refuses is not. Method:
 * looks at the table; the right one is two milliseconds faster. */
static void fastest_is_kept(void **state)
{
    (void)state;
    rig r;
    simt_lt_propose(3);
    open_rig(&r, D_IN);
    tune(&r, ROWS_MAX);
    const t5_cuda_backend *cuda = t5_cuda_of(r.backend);
    assert_int_equal(cuda->n_algorithms, 4); /* up to 128, 256, 512, 700 rows */
    for (int32_t i = 0; i < cuda->n_algorithms; i++) {
        assert_int_equal(cuda->algorithms[i].bucket, i);
        assert_int_equal(cuda->algorithms[i].algo.data[0], 1);
    }
    tune(&r, ROWS_MAX);
    assert_int_equal(cuda->n_algorithms, 4);
    close_rig(&r);
}

/* Claim: products are the same with cuBLASLt, without it, and where rows are too odd for it. Method: compares sums over
 * the results of row counts in several buckets; the numbers are small integers, exact in any order. */
static void ways_agree(void **state)
{
    (void)state;
    static const int32_t counts[] = {64, 65, 128, 129, 512, ROWS_MAX};
    static const int32_t widths[] = {D_IN, D_IN - 1};
    for (size_t i = 0; i < T5_COUNT(widths); i++) {
        double sums[2][T5_COUNT(counts)];
        for (int has_lt = 0; has_lt < 2; has_lt++) {
            rig r;
            simt_lt_propose(has_lt);
            open_rig(&r, widths[i]);
            tune(&r, ROWS_MAX);
            bool is_odd = widths[i] % 4 != 0;
            assert_int_equal(t5_cuda_of(r.backend)->n_algorithms, has_lt && !is_odd ? 4 : 0);
            for (size_t k = 0; k < T5_COUNT(counts); k++)
                sums[has_lt][k] = product(&r, counts[k]);
            close_rig(&r);
        }
        assert_memory_equal(sums[0], sums[1], sizeof sums[0]);
    }
}

/* Claim: an algorithm that refuses fewer rows than it was measured with leaves them to cuBLAS. Method: puts the one
 * that always refuses into the table. */
static void refusal_is_no_failure(void **state)
{
    (void)state;
    rig r;
    open_rig(&r, D_IN);
    double expected = product(&r, 100);
    tune(&r, 100);
    t5_cuda_of(r.backend)->algorithms[0].algo.data[0] = 2;
    assert_true(product(&r, 100) == expected);
    close_rig(&r);
}

/* Claim: whatever fails while algorithms are chosen is an error or costs an algorithm, and never leaves one that does
 * not work. Method: each call in turn. */
static void every_call_may_fail(void **state)
{
    (void)state;
    rig r;
    bool was_whole = false;
    simt_lt_propose(3);
    open_rig(&r, D_IN);
    t5_cuda_backend *cuda = t5_cuda_of(r.backend);
    t5_linear_args args = {.x = r.x, .n_rows = 100, .w = r.w, .y = r.y};
    double expected = product(&r, 100);
    for (uint64_t n = 0; !was_whole; n++) {
        t5_error err = {0};
        uint64_t before = simt_call_count();
        cuda->n_algorithms = 0;
        simt_fault_arm(n, cudaErrorLaunchFailure, false);
        t5_status status = r.backend->ops->tune_linear(r.backend, &args, &err);
        simt_fault_disarm();
        was_whole = simt_call_count() - before <= n;
        assert_true(status == T5_OK || status == T5_ERR_DEVICE);
        if (cuda->n_algorithms > 0) assert_int_not_equal(cuda->algorithms[0].algo.data[0], 2);
        assert_true(product(&r, 100) == expected);
    }
    assert_int_equal(cuda->n_algorithms, 1);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fastest_is_kept),
        cmocka_unit_test(ways_agree),
        cmocka_unit_test(refusal_is_no_failure),
        cmocka_unit_test(every_call_may_fail),
    };
    return cmocka_run_group_tests_name("products of many rows", tests, NULL, NULL);
}
