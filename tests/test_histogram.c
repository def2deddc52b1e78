/* tests/test_histogram.c: counts between bounds. */
#include "base/histogram.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const int64_t bounds[] = {1, 10, 100};

/* Claim: a bound belongs to the bucket below it, and what is above every bound is counted too. Method: values at, under
 * and over each bound. */
static void bounds_are_inclusive(void **state)
{
    (void)state;
    static const int64_t values[] = {0, 1, 2, 10, 11, 100, 101, INT64_C(1) << 40};
    t5_histogram h;
    t5_histogram_counts counts;
    t5_histogram_init(&h, bounds, 3);
    for (int i = 0; i < 8; i++)
        t5_histogram_add(&h, values[i]);
    t5_histogram_read(&h, &counts);
    assert_int_equal(counts.n_bounds, 3);
    assert_ptr_equal(counts.bounds, bounds);
    for (int i = 0; i < 4; i++)
        assert_int_equal(counts.buckets[i], 2);
    assert_int_equal(counts.count, 8);
    assert_int_equal(counts.sum, 225 + (INT64_C(1) << 40));
}

static void *add_many(void *arg)
{
    for (int i = 0; i < 10000; i++)
        t5_histogram_add(arg, i % 20);
    return NULL;
}

/* Claim: no add is lost, whatever the number of threads. Method: 4 threads, 10 000 adds each. */
static void threads_add_up(void **state)
{
    (void)state;
    t5_histogram h;
    t5_histogram_counts counts;
    pthread_t threads[4];
    t5_histogram_init(&h, bounds, 3);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &h), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    t5_histogram_read(&h, &counts);
    assert_int_equal(counts.count, 40000);
    assert_int_equal(counts.buckets[0], 4000);
    assert_int_equal(counts.buckets[1], 18000);
    assert_int_equal(counts.buckets[2], 18000);
    assert_int_equal(counts.sum, 380000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_inclusive),
        cmocka_unit_test(threads_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
