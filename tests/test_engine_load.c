/* tests/test_engine_load.c: the engine while there is too much to do and while there is nothing, over a fake batch: a
 * large request beside small ones, the time that a refused client is told, and what the engine adds to a lone request.
 */
#include "base/clock.h"
#include "engine/engine.h"
#include "engine_wait.h"
#include "fake_batch.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define N_BATCH 5000
#define N_SMALL 60
#define SRC_LEN 4
#define N_LONE 200
#define WAIT_MS 60000

static int32_t source[SRC_LEN] = {11, 12, 13, 1};
static t5_model *const no_models[1];
static const t5_engine_options options = {.n_rows_max = 32,
                                          .src_len_max = SRC_LEN,
                                          .tgt_len_max = 32,
                                          .enc_tokens_max = 32 * SRC_LEN,
                                          .queue_depth_max = N_BATCH + N_SMALL};

static t5_engine *open_engine(int step_us)
{
    t5_error err = {0};
    t5_engine *engine = NULL;
    fake_batch_reset();
    fake_batch_slow(step_us);
    assert_int_equal(t5_engine_create(no_models, 1, &options, &engine, &err), T5_OK);
    return engine;
}

static void fill(t5_sequence *seq, void (*on_done)(t5_sequence *seq, void *ctx), void *ctx)
{
    *seq = (t5_sequence){.input_ids = source, .n_input_ids = SRC_LEN, .on_done = on_done, .ctx = ctx};
    t5_decoding_init(&seq->decoding);
}

typedef struct {
    t5_sequence seqs[N_BATCH];
    t5_sequence *list[N_BATCH];
    atomic_int n_done;
} large;

static void count_large(t5_sequence *seq, void *ctx)
{
    (void)seq;
    atomic_fetch_add(&((large *)ctx)->n_done, 1);
}

static large *submit_large(t5_engine *engine)
{
    static large l;
    t5_error err = {0};
    atomic_store(&l.n_done, 0);
    for (int i = 0; i < N_BATCH; i++) {
        fill(&l.seqs[i], count_large, &l);
        l.list[i] = &l.seqs[i];
    }
    assert_int_equal(t5_engine_submit_all(engine, l.list, N_BATCH, &err), T5_OK);
    return &l;
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A small request, and what had been done when it ended: the device's thread counts, since the one that waits for the
 * answer may wait for its core as well. */
typedef struct {
    t5_sequence seq;
    const large *beside;
    sem_t has_ended;
    int n_steps, n_large;
} small;

static void end_small(t5_sequence *seq, void *ctx)
{
    (void)seq;
    small *s = ctx;
    s->n_steps = fake_batch_n_calls(FAKE_STEP);
    s->n_large = atomic_load(&s->beside->n_done);
    sem_post(&s->has_ended);
}

/* Claim: a small request is answered within a few steps while one of 5 000 sequences runs, which is done in the end,
 * and in the order of its sequences. Method: small ones one after the other; steps from submission to result are
 * counted. The first is submitted while the device stands in a step; later on the machine may stop this thread between
 * its look at the count and the submission, so nine of ten must hold. */
static void small_ones_beside_a_large_one(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_engine *engine = open_engine(100);
    fake_batch_close_gate();
    large *l = submit_large(engine);
    fake_batch_wait_at_gate();
    int64_t n_steps[N_SMALL];
    int n_beside = 0;
    for (int i = 0; i < N_SMALL; i++) {
        small s = {.beside = l};
        sem_init(&s.has_ended, 0, 0);
        fill(&s.seq, end_small, &s);
        const int n_before = fake_batch_n_calls(FAKE_STEP);
        assert_int_equal(t5_engine_submit(engine, &s.seq, &err), T5_OK);
        fake_batch_open_gate();
        while (sem_wait(&s.has_ended) != 0) {
        }
        assert_int_equal(s.seq.error.status, T5_OK);
        n_steps[i] = s.n_steps - n_before;
        n_beside += s.n_large < N_BATCH;
        sem_destroy(&s.has_ended);
        t5_sequence_deinit(&s.seq);
    }
    assert_true(engine_wait_idle(engine, WAIT_MS));
    assert_int_equal(atomic_load(&l->n_done), N_BATCH);
    qsort(n_steps, N_SMALL, sizeof *n_steps, compare);
    print_message("%d small requests beside a large one: %d steps in the median, %d at p90\n", n_beside,
                  (int)n_steps[N_SMALL / 2], (int)n_steps[N_SMALL * 9 / 10]);
    assert_true(n_beside > 0);
    /* A step that runs already, SRC_LEN until a place is free, SRC_LEN of its own; with 5 000 in front of it, 600. */
    assert_true(n_steps[N_SMALL * 9 / 10] <= 40);
    for (int i = 0; i < N_BATCH; i++) {
        assert_int_equal(l->seqs[i].error.status, T5_OK);
        if (i > 0) assert_true(l->seqs[i].started_ns >= l->seqs[i - 1].started_ns);
        t5_sequence_deinit(&l->seqs[i]);
    }
    t5_engine_destroy(engine);
}

/* Seconds that what waits takes at the mean time of a step so far. */
static double seconds_left(t5_engine *engine)
{
    t5_engine_stats stats;
    t5_engine_stats_get(engine, &stats);
    const double step_s = (double)stats.step_ns.sum / 1e9 / (double)stats.step_ns.count;
    return step_s * SRC_LEN * stats.queue_depth / options.n_rows_max;
}

/* Claim: a refused client is told to come back when what waits now is through, by the measured speed; never less than a
 * second, nor more than a minute. Method: 5 000 sequences at 32 in 4 steps of 10 ms (over 6 s), then at 200 ms (over
 * two minutes). A machine that is busy takes longer for its steps, now and then for one: half and twice the mean. */
static void retry_after_follows_the_queue(void **state)
{
    (void)state;
    const struct timespec nap = {.tv_nsec = 1000000};
    for (int round = 0; round < 2; round++) {
        t5_engine *engine = open_engine(round == 0 ? 10000 : 200000);
        large *l = submit_large(engine);
        const int64_t until_ms = t5_clock_ms() + WAIT_MS;
        while (fake_batch_n_calls(FAKE_STEP) < (round == 0 ? 20 : 6) && t5_clock_ms() < until_ms)
            nanosleep(&nap, NULL);
        t5_error err = {0};
        const double most_s = 2 * seconds_left(engine) + 1;
        const int64_t late_ms = t5_clock_ms() + 1; /* too soon for what waits */
        assert_int_equal(t5_engine_check_room(engine, late_ms, &err), T5_ERR_BUSY);
        const double least_s = seconds_left(engine) / 2;
        const int32_t seconds = err.retry_after_s;
        print_message("retry after %d s\n", seconds);
        assert_in_range(seconds, least_s < 1 ? 1 : least_s > 60 ? 60 : least_s, most_s > 60 ? 60 : most_s);
        if (round == 1) assert_int_equal(seconds, 60);
        t5_engine_destroy(engine);
        for (int i = 0; i < N_BATCH; i++)
            t5_sequence_deinit(&l->seqs[i]);
    }
}

/* A thread that answers as an engine would that has nothing to do at all. */
typedef struct {
    sem_t asked, answered;
    atomic_bool is_over;
} echo;

static void *run_echo(void *ctx)
{
    echo *e = ctx;
    while (sem_wait(&e->asked) != 0 || !atomic_load(&e->is_over))
        sem_post(&e->answered);
    return NULL;
}

static int64_t time_echo(echo *e)
{
    const int64_t start_ns = t5_clock_ns();
    sem_post(&e->asked);
    while (sem_wait(&e->answered) != 0) {
    }
    return t5_clock_ns() - start_ns;
}

static int64_t time_lone(t5_engine *engine)
{
    t5_error err = {0};
    t5_sequence seq;
    fill(&seq, NULL, NULL);
    const int64_t start_ns = t5_clock_ns();
    assert_int_equal(engine_run(engine, &seq, &err), T5_OK);
    const int64_t ns = t5_clock_ns() - start_ns;
    t5_sequence_deinit(&seq);
    return ns;
}

/* Claim: an idle engine adds well under a millisecond to a lone request: nothing waits for a time to pass. Method: the
 * time that 200 lone requests take with a model that takes none, in turns with a question to another thread, which
 * takes long where both wait for a core. */
static void idle_engine_answers_at_once(void **state)
{
    (void)state;
    int64_t ns[N_LONE], echo_ns[N_LONE];
    pthread_t thread;
    echo e = {.is_over = false};
    sem_init(&e.asked, 0, 0);
    sem_init(&e.answered, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, run_echo, &e), 0);
    t5_engine *engine = open_engine(0);
    for (int i = 0; i < N_LONE; i++) {
        ns[i] = time_lone(engine);
        echo_ns[i] = time_echo(&e);
    }
    t5_engine_destroy(engine);
    atomic_store(&e.is_over, true);
    sem_post(&e.asked);
    pthread_join(thread, NULL);
    qsort(ns, N_LONE, sizeof *ns, compare);
    qsort(echo_ns, N_LONE, sizeof *echo_ns, compare);
    print_message("a lone request: %.3f ms in the median, %.3f ms at p99; an echo %.3f ms\n",
                  (double)ns[N_LONE / 2] / 1e6, (double)ns[N_LONE - N_LONE / 100] / 1e6,
                  (double)echo_ns[N_LONE / 2] / 1e6);
    assert_true(ns[N_LONE / 2] < 1000000 + 4 * echo_ns[N_LONE / 2]);
}

typedef struct {
    t5_engine *engine;
    t5_sequence late;
    atomic_bool is_done;
} newcomer;

static void mark_done(t5_sequence *seq, void *ctx)
{
    (void)seq;
    atomic_store(&((newcomer *)ctx)->is_done, true);
}

static void submit_late(void *ctx)
{
    newcomer *n = ctx;
    t5_error err = {0};
    assert_int_equal(t5_engine_submit(n->engine, &n->late, &err), T5_OK);
}

/* Steps that two sequences take when the second comes while the first is encoded. */
static int n_steps_with_a_newcomer(int32_t enc_tokens_max)
{
    t5_error err = {0};
    t5_engine_options o = options;
    o.enc_tokens_max = enc_tokens_max;
    newcomer n = {.engine = NULL};
    t5_sequence first;
    fake_batch_reset();
    assert_int_equal(t5_engine_create(no_models, 1, &o, &n.engine, &err), T5_OK);
    fill(&first, NULL, NULL);
    fill(&n.late, mark_done, &n);
    fake_batch_during_encode(submit_late, &n);
    assert_int_equal(engine_run(n.engine, &first, &err), T5_OK);
    assert_true(engine_wait_idle(n.engine, WAIT_MS));
    assert_true(atomic_load(&n.is_done));
    const int n_steps = fake_batch_n_calls(FAKE_STEP);
    t5_engine_destroy(n.engine);
    t5_sequence_deinit(&first);
    t5_sequence_deinit(&n.late);
    return n_steps;
}

/* Claim: who comes while others are encoded takes part in the next step, unless the turn would encode more than its
 * tokens; then in the one after. Method: the number of steps, with tokens for two sources and for one. */
static void newcomers_take_part_in_the_next_step(void **state)
{
    (void)state;
    assert_int_equal(n_steps_with_a_newcomer(2 * SRC_LEN), SRC_LEN);
    assert_int_equal(n_steps_with_a_newcomer(2 * SRC_LEN - 1), SRC_LEN + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_beside_a_large_one),
        cmocka_unit_test(retry_after_follows_the_queue),
        cmocka_unit_test(idle_engine_answers_at_once),
        cmocka_unit_test(newcomers_take_part_in_the_next_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
