/* tests/test_queue.c: the engine's bounded queue, and its measure of speed. */
#include "base/clock.h"
#include "engine/queue.h"
#include "engine/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define N_SEQS 6

typedef struct {
    t5_queue queue;
    t5_sequence seqs[N_SEQS];
    t5_sequence *list[N_SEQS];
} fixture;

static void setup(fixture *f, int32_t depth_max)
{
    memset(f, 0, sizeof *f);
    t5_queue_init(&f->queue, depth_max);
    for (int32_t i = 0; i < N_SEQS; i++)
        f->list[i] = &f->seqs[i];
}

/* Claim: first in, first out, across wrap to empty. Method: push, pop some, push more, pop all. */
static void order_is_kept(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    setup(&f, N_SEQS);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 3, &err), T5_OK);
    assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[0]);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 3, 3, &err), T5_OK);
    assert_int_equal(f.queue.depth, 5);
    for (int32_t i = 1; i < N_SEQS; i++)
        assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[i]);
    assert_int_equal(f.queue.depth, 0);
    assert_null(f.queue.first);
    assert_null(f.queue.last);
}

/* Claim: a group enters whole or not at all; a group that can never fit is the caller's error, not "try again".
 * Method: groups at, over and far over what is left. */
static void groups_are_all_or_none(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    setup(&f, 4);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 2, &err), T5_OK);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 2, 3, &err), T5_ERR_BUSY);
    assert_string_equal(err.text, "the queue is full: 2 of 4 sequences wait, the request has 3");
    assert_int_equal(f.queue.depth, 2);
    assert_ptr_equal(f.queue.last, &f.seqs[1]);
    assert_null(f.seqs[1].next);
    t5_error_clear(&err);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 5, &err), T5_ERR_ARG);
    t5_error_clear(&err);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 2, 2, &err), T5_OK);
    assert_int_equal(f.queue.depth, 4);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 0, &err), T5_OK);
}

/* Claim: cancelled and late sequences leave from any place, with their reason; the others keep their order. Method:
 * give up first, middle and last. */
static void given_up_leave(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    setup(&f, N_SEQS);
    const int64_t now_ms = t5_clock_ms();
    atomic_store(&f.seqs[0].is_cancelled, true);
    f.seqs[1].deadline_ms = now_ms; /* not yet passed */
    f.seqs[2].deadline_ms = now_ms - 1;
    atomic_store(&f.seqs[5].is_cancelled, true);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, N_SEQS, &err), T5_OK);

    const t5_sequence *taken = t5_queue_take_given_up(&f.queue, now_ms);
    assert_ptr_equal(taken, &f.seqs[0]);
    assert_ptr_equal(taken->next, &f.seqs[2]);
    assert_ptr_equal(taken->next->next, &f.seqs[5]);
    assert_null(taken->next->next->next);
    assert_int_equal(f.seqs[0].error.status, T5_ERR_TIMEOUT);
    assert_non_null(strstr(f.seqs[0].error.text, "cancelled"));
    assert_non_null(strstr(f.seqs[2].error.text, "deadline"));

    assert_int_equal(f.queue.depth, 3);
    assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[1]);
    assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[3]);
    assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[4]);
    assert_null(t5_queue_take_given_up(&f.queue, now_ms));
}

/* Claim: take_all empties the queue, which can be used again. Method: take, then push. */
static void take_all_empties(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    setup(&f, 3);
    assert_null(t5_queue_take_all(&f.queue));
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 3, &err), T5_OK);
    const t5_sequence *first = t5_queue_take_all(&f.queue);
    assert_ptr_equal(first, &f.seqs[0]);
    assert_ptr_equal(first->next->next, &f.seqs[2]);
    assert_int_equal(f.queue.depth, 0);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 3, 3, &err), T5_OK);
    assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[3]);
}

/* Claim: the rate is the work of the last seconds over their time, whatever came before. Method: a minute at 1 000 per
 * second, then a minute at 50, in turns of different length. */
static void rate_follows_the_speed(void **state)
{
    (void)state;
    t5_rate rate = {0};
    assert_true(t5_rate_per_s(&rate) == 0);
    for (int i = 0; i < 6000; i++)
        t5_rate_add(&rate, 10, 10000000);
    assert_true(t5_rate_per_s(&rate) > 999 && t5_rate_per_s(&rate) < 1001);
    for (int i = 0; i < 60; i++)
        t5_rate_add(&rate, 50, 1000000000);
    assert_true(t5_rate_per_s(&rate) > 49 && t5_rate_per_s(&rate) < 55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept),    cmocka_unit_test(groups_are_all_or_none), cmocka_unit_test(given_up_leave),
        cmocka_unit_test(take_all_empties), cmocka_unit_test(rate_follows_the_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
