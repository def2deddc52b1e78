/* tests/test_queue.c: the engine's bounded queue, and its measure of speed. */
#include "base/clock.h"
#include "engine/queue.h"
#include "engine/speed.h"

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

/* A sequence of that cost. */
static t5_sequence *make(t5_sequence *seq, int32_t cost)
{
    *seq = (t5_sequence){.n_input_ids = cost / 2};
    t5_decoding_init(&seq->decoding);
    seq->decoding.max_new_tokens = cost - cost / 2;
    return seq;
}

static void setup(fixture *f, int32_t depth_max)
{
    memset(f, 0, sizeof *f);
    t5_queue_init(&f->queue, depth_max);
    for (int32_t i = 0; i < N_SEQS; i++)
        f->list[i] = make(&f->seqs[i], 20);
}

/* Claim: a group's sequences come in order; groups take turns, and every fourth place is for the oldest. Method: groups
 * of three, one and two; the second and third enter after the first has had one. */
static void groups_take_turns(void **state)
{
    (void)state;
    static const int expected[] = {3, 4, 1, 2, 5};
    fixture f;
    t5_error err = {0};
    setup(&f, N_SEQS);
    assert_null(t5_queue_first(&f.queue));
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 3, &err), T5_OK);
    assert_ptr_equal(t5_queue_first(&f.queue), &f.seqs[0]);
    assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[0]);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 3, 1, &err), T5_OK);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 4, 2, &err), T5_OK);
    assert_int_equal(f.queue.depth, 5);
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(t5_queue_pop(&f.queue), &f.seqs[expected[i]]);
    assert_int_equal(f.queue.depth + f.queue.cost, 0);
    assert_null(t5_queue_first(&f.queue));
    assert_null(f.queue.last);
}

/* Claim: what is taken up before a newcomer is through counts each group with no more than the newcomer's own number,
 * and is never more than twice of all. Method: a group of four and a single one, all of cost 20. */
static void cost_until_a_newcomer_is_through(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    setup(&f, N_SEQS);
    assert_true(t5_queue_cost_until(&f.queue, 1) == 0);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 4, &err), T5_OK);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 4, 1, &err), T5_OK);
    assert_true(t5_queue_cost_until(&f.queue, 1) == 3 * 20 * 4 / 3);
    assert_true(t5_queue_cost_until(&f.queue, 100) == (2 * 5 + 100) * 20);
    t5_queue_pop(&f.queue);
    t5_queue_pop(&f.queue);
    assert_int_equal(f.queue.n_groups, 1);
    t5_queue_take_all(&f.queue);
    assert_int_equal(f.queue.n_groups, 0);
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
    assert_ptr_equal(f.queue.first, &f.seqs[0]);
    assert_ptr_equal(f.seqs[0].next, &f.seqs[1]);
    assert_null(f.seqs[1].next);
    t5_error_clear(&err);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 5, &err), T5_ERR_ARG);
    t5_error_clear(&err);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 2, 2, &err), T5_OK);
    assert_int_equal(f.queue.depth, 4);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 0, &err), T5_OK);
}

/* Claim: a second round of an accepted request enters a full queue, which stays full for others until it has gone. */
static void second_rounds_always_enter(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    setup(&f, 2);
    assert_int_equal(t5_queue_push_all(&f.queue, f.list, 2, &err), T5_OK);
    for (int i = 2; i < 5; i++)
        f.seqs[i].is_again = true;
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 2, 3, &err), T5_OK);
    assert_int_equal(f.queue.depth, 5);
    f.seqs[5].is_again = false;
    for (int left = 5; left >= 2; left--) {
        assert_int_equal(t5_queue_push_all(&f.queue, f.list + 5, 1, &err), T5_ERR_BUSY);
        t5_error_clear(&err);
        assert_non_null(t5_queue_pop(&f.queue));
    }
    assert_int_equal(t5_queue_push_all(&f.queue, f.list + 5, 1, &err), T5_OK);
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

enum { N_BATCH = 2000, N_SINGLES = 400 };

/* A large request, which enters first, and single sentences. */
typedef struct {
    t5_queue queue;
    t5_sequence batch[N_BATCH], singles[N_SINGLES];
    t5_sequence *list[N_BATCH];
} crowd;

static crowd *make_crowd(void)
{
    static crowd c;
    t5_error err = {0};
    t5_queue_init(&c.queue, N_BATCH + N_SINGLES);
    for (int i = 0; i < N_BATCH; i++)
        c.list[i] = make(&c.batch[i], 20 + i % 60);
    assert_int_equal(t5_queue_push_all(&c.queue, c.list, N_BATCH, &err), T5_OK);
    return &c;
}

static void push_single(crowd *c, int i)
{
    t5_error err = {0};
    t5_sequence *seq = make(&c->singles[i], 20 + i % 60);
    assert_int_equal(t5_queue_push_all(&c->queue, &seq, 1, &err), T5_OK);
}

static bool is_single(const crowd *c, const t5_sequence *seq)
{
    return seq >= c->singles && seq < c->singles + N_SINGLES;
}

/* Claim: a single sentence waits for a few others at most while a request of thousands is there, which is served in
 * order. Method: a new one after every tenth pop; count the pops until it comes. */
static void small_ones_pass_a_large_one(void **state)
{
    (void)state;
    crowd *c = make_crowd();
    int n_batch = 0, n_waited_max = 0;
    for (int i = 0; i < 150; i++) {
        push_single(c, i);
        bool has_come = false;
        for (int n_pops = 1; n_pops <= 10; n_pops++) {
            const t5_sequence *seq = t5_queue_pop(&c->queue);
            if (!is_single(c, seq)) {
                assert_ptr_equal(seq, &c->batch[n_batch++]);
                continue;
            }
            assert_ptr_equal(seq, &c->singles[i]);
            has_come = true;
            if (n_pops > n_waited_max) n_waited_max = n_pops;
        }
        assert_true(has_come);
    }
    assert_true(n_waited_max <= 3); /* a turn of each, and once the oldest */
    t5_queue_take_all(&c->queue);
}

/* Claim: a stream of single sentences that never ends does not starve a large request: it has a fourth of all places;
 * and the single ones keep their order of age. Method: a new one for each that was taken, 20 wait. */
static void small_ones_starve_nobody(void **state)
{
    (void)state;
    crowd *c = make_crowd();
    int n_pushed = 0, n_singles = 0, n_batch = 0;
    while (n_pushed < 20)
        push_single(c, n_pushed++);
    while (n_pushed < N_SINGLES) {
        const t5_sequence *seq = t5_queue_pop(&c->queue);
        if (!is_single(c, seq)) {
            assert_ptr_equal(seq, &c->batch[n_batch++]);
            continue;
        }
        assert_ptr_equal(seq, &c->singles[n_singles++]);
        push_single(c, n_pushed++);
    }
    assert_true(n_batch * 3 >= n_singles && n_batch * 2 <= n_singles);
    t5_queue_take_all(&c->queue);
}

/* Claim: the rate is the work of the last seconds over their time, whatever came before. Method: a minute at 1 000 per
 * second, then a minute at 50, in turns of different length. */
static void rate_follows_the_speed(void **state)
{
    (void)state;
    t5_speed rate = {0};
    assert_true(t5_speed_per_s(&rate) == 0);
    for (int i = 0; i < 6000; i++)
        t5_speed_add(&rate, 10, 10000000);
    assert_true(t5_speed_per_s(&rate) > 999 && t5_speed_per_s(&rate) < 1001);
    for (int i = 0; i < 60; i++)
        t5_speed_add(&rate, 50, 1000000000);
    assert_true(t5_speed_per_s(&rate) > 49 && t5_speed_per_s(&rate) < 55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_take_turns),
        cmocka_unit_test(cost_until_a_newcomer_is_through),
        cmocka_unit_test(groups_are_all_or_none),
        cmocka_unit_test(second_rounds_always_enter),
        cmocka_unit_test(given_up_leave),
        cmocka_unit_test(take_all_empties),
        cmocka_unit_test(small_ones_pass_a_large_one),
        cmocka_unit_test(small_ones_starve_nobody),
        cmocka_unit_test(rate_follows_the_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
