/* tests/test_workers.c: threads for large work: what is pushed runs once, what is delayed when its time comes or when
 * it is hurried. */
#include "base/clock.h"
#include "base/workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#define N_WORKS 300

typedef struct {
    t5_work work;
    atomic_int n_runs;
    _Atomic int64_t ran_ms;
} item;

static void run(void *ctx)
{
    item *it = ctx;
    atomic_store(&it->ran_ms, t5_clock_ms());
    atomic_fetch_add(&it->n_runs, 1);
}

static void prepare(item *it)
{
    *it = (item){.work = {.run = run, .ctx = it}};
}

static void wait_for_run(item *it)
{
    const int64_t until_ms = t5_clock_ms() + 30000;
    while (atomic_load(&it->n_runs) == 0 && t5_clock_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    assert_int_equal(atomic_load(&it->n_runs), 1);
}

/* Claim: a delayed work runs once, not before its time, however many wait. Method: many due times in mixed order. */
static void delayed_work_runs_in_time(void **state)
{
    static item items[N_WORKS];
    t5_workers *w = NULL;
    t5_error err = {0};
    (void)state;
    assert_int_equal(t5_workers_create(3, &w, &err), T5_OK);
    const int64_t begin_ms = t5_clock_ms();
    for (int i = 0; i < N_WORKS; i++) {
        prepare(&items[i]);
        t5_workers_push_at(w, &items[i].work, begin_ms + i * 37 % 60);
    }
    for (int i = 0; i < N_WORKS; i++) {
        wait_for_run(&items[i]);
        assert_true(atomic_load(&items[i].ran_ms) >= begin_ms + i * 37 % 60);
    }
    t5_workers_destroy(w);
}

/* Claim: hurried work runs soon and once, also when it is hurried again, has run, or was never pushed; works that have
 * no time wait for that, and hold up nothing. Method: works without a time between others. */
static void hurried_work_runs_once(void **state)
{
    static item items[N_WORKS];
    item other;
    t5_workers *w = NULL;
    t5_error err = {0};
    (void)state;
    assert_int_equal(t5_workers_create(2, &w, &err), T5_OK);
    for (int i = 0; i < N_WORKS; i++) {
        prepare(&items[i]);
        t5_workers_push_at(w, &items[i].work, INT64_MAX);
    }
    prepare(&other);
    t5_workers_hurry(w, &other.work);
    assert_int_equal(atomic_load(&other.n_runs), 0);
    t5_workers_push(w, &other.work, false);
    wait_for_run(&other);
    for (int i = 0; i < N_WORKS; i++)
        assert_int_equal(atomic_load(&items[i].n_runs), 0);
    for (int i = 0; i < N_WORKS; i++) { /* from both ends and the middle */
        item *it = &items[i * 7 % N_WORKS];
        t5_workers_hurry(w, &it->work);
        t5_workers_hurry(w, &it->work);
    }
    for (int i = 0; i < N_WORKS; i++)
        wait_for_run(&items[i]);
    t5_workers_hurry(w, &items[0].work);
    t5_workers_destroy(w);
    for (int i = 0; i < N_WORKS; i++)
        assert_int_equal(atomic_load(&items[i].n_runs), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delayed_work_runs_in_time),
        cmocka_unit_test(hurried_work_runs_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
