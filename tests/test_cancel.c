/* tests/test_cancel.c: clients that leave, with a real model: whether their sequence waits, is being encoded or is
 * being decoded, it ends, is counted once, and its neighbours' results stay the same bit for bit.
 *
 * Rounds of victims and neighbours that are submitted together through a batch too small for all; each victim is
 * cancelled at a random moment. Afterwards its times tell what it was doing. Rounds go on until each kind was hit often
 * enough. T5_TEST_SEED repeats the choices (not the timing). */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "engine/engine.h"
#include "engine_wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define N_WANTED 20
#else
#define N_WANTED 200
#endif
#define N_NEIGHBOURS 6
#define N_VICTIMS 6
#define N_SEQS (N_NEIGHBOURS + N_VICTIMS)
#define SRC_LEN 120
#define NEW_TOKENS 8
#define ROUNDS_MAX 20000
#define WAIT_MS 60000

static int32_t source[SRC_LEN];
static uint64_t random_state;

static uint32_t pick(uint32_t n)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(random_state >> 33) % n;
}

static void ignore(t5_sequence *seq, void *ctx)
{
    (void)seq;
    (void)ctx;
}

/* Greedy, beams and sampling; long sources, so that encoding takes its time. */
static void fill(t5_sequence *seq, int32_t i)
{
    *seq = (t5_sequence){.input_ids = source + i, .n_input_ids = SRC_LEN - i, .on_done = ignore};
    t5_decoding_init(&seq->decoding);
    seq->decoding.max_new_tokens = NEW_TOKENS;
    seq->decoding.min_new_tokens = NEW_TOKENS;
    seq->wants_logprobs = true;
    if (i % 3 == 1) seq->decoding.num_beams = 4;
    if (i % 3 == 2) {
        seq->decoding.do_sample = true;
        seq->decoding.num_return_sequences = 6;
        seq->decoding.seed = (uint64_t)i;
    }
}

static void assert_same(const t5_sequence *a, const t5_sequence *b)
{
    assert_int_equal(a->error.status, T5_OK);
    assert_int_equal(a->n_outputs, b->n_outputs);
    for (int32_t i = 0; i < a->n_outputs; i++) {
        const t5_output *x = &a->outputs[i], *y = &b->outputs[i];
        assert_int_equal(x->n_ids, y->n_ids);
        assert_memory_equal(x->ids, y->ids, (size_t)x->n_ids * sizeof *x->ids);
        assert_memory_equal(x->logprobs, y->logprobs, (size_t)x->n_ids * sizeof *x->logprobs);
        assert_memory_equal(&x->score, &y->score, sizeof x->score);
    }
}

typedef enum { QUEUED, ENCODING, DECODING, TOO_LATE, N_MOMENTS } moment;

static moment moment_of(const t5_sequence *seq, int64_t cancelled_ns)
{
    if (seq->error.status == T5_OK) return TOO_LATE;
    if (seq->started_ns == 0 || cancelled_ns < seq->started_ns) return QUEUED;
    return seq->encoded_ns == 0 || cancelled_ns < seq->encoded_ns ? ENCODING : DECODING;
}

static void sleep_until(int64_t ns)
{
    const struct timespec until = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* One round; *round_ns: how long one takes, a mean of the last ones. */
static void run_round(t5_engine *engine, const t5_sequence *alone, int64_t *round_ns, int n_hits[N_MOMENTS])
{
    t5_error err = {0};
    t5_sequence seqs[N_SEQS];
    t5_sequence *list[N_SEQS];
    int64_t cancelled_ns[N_VICTIMS];
    for (int32_t i = 0; i < N_SEQS; i++) { /* victims and neighbours take turns; every second round victims are first */
        fill(&seqs[i], i);
        list[i] = &seqs[i];
    }
    const int32_t first_victim = (int32_t)pick(2);
    const int64_t start_ns = t5_clock_ns();
    assert_int_equal(t5_engine_submit_all(engine, list, N_SEQS, &err), T5_OK);
    int64_t at_ns = start_ns;
    for (int32_t k = N_VICTIMS - 1; k >= 0; k--) { /* the last ones wait longest */
        at_ns += (int64_t)pick((uint32_t)(*round_ns / N_VICTIMS) + 1);
        sleep_until(at_ns);
        cancelled_ns[k] = t5_clock_ns();
        atomic_store(&seqs[2 * k + first_victim].is_cancelled, true);
    }
    assert_true(engine_wait_idle(engine, WAIT_MS));
    *round_ns = (7 * *round_ns + t5_clock_ns() - start_ns) / 8;
    for (int32_t i = 0; i < N_SEQS; i++) {
        const bool is_victim = i % 2 == first_victim;
        if (is_victim) n_hits[moment_of(&seqs[i], cancelled_ns[i / 2])]++;
        if (is_victim && seqs[i].error.status != T5_OK)
            assert_int_equal(seqs[i].error.status, T5_ERR_TIMEOUT);
        else
            assert_same(&seqs[i], &alone[i]);
        t5_sequence_deinit(&seqs[i]);
    }
}

static void clients_leave_at_any_moment(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *backend = NULL;
    t5_model *model = NULL;
    t5_engine *engine = NULL;
    t5_engine_stats stats;
    t5_sequence alone[N_SEQS];
    int n_hits[N_MOMENTS] = {0};
    const t5_cpu_options cpu = {.n_threads = 1};
    const t5_engine_options options = {.n_rows_max = T5_BEAMS_MAX,
                                       .src_len_max = SRC_LEN,
                                       .tgt_len_max = NEW_TOKENS + 1,
                                       .enc_tokens_max = 3 * SRC_LEN,
                                       .queue_depth_max = N_SEQS};
    assert_int_equal(t5_cpu_create(&cpu, &backend, &err), T5_OK);
    assert_int_equal(t5_model_open(T5_SOURCE_DIR "/tests/fixtures/t5-v1.0", backend, options.src_len_max,
                                   options.tgt_len_max, &model, &err),
                     T5_OK);
    assert_int_equal(t5_engine_create(&model, 1, &options, &engine, &err), T5_OK);
    for (int32_t i = 0; i < SRC_LEN; i++)
        source[i] = 3 + (i * 131) % 700;
    for (int32_t i = 0; i < N_SEQS; i++) {
        fill(&alone[i], i);
        assert_int_equal(engine_run(engine, &alone[i], &err), T5_OK);
    }
    int64_t round_ns = 1000000;
    int n_rounds = 0;
    while ((n_hits[QUEUED] < N_WANTED || n_hits[ENCODING] < N_WANTED || n_hits[DECODING] < N_WANTED) &&
           n_rounds++ < ROUNDS_MAX)
        run_round(engine, alone, &round_ns, n_hits);
    print_message("%d rounds: cancelled while queued %d, encoded %d, decoded %d; too late %d\n", n_rounds,
                  n_hits[QUEUED], n_hits[ENCODING], n_hits[DECODING], n_hits[TOO_LATE]);
    assert_true(n_rounds <= ROUNDS_MAX);
    t5_engine_stats_get(engine, &stats);
    assert_int_equal(stats.n_cancelled, n_hits[QUEUED] + n_hits[ENCODING] + n_hits[DECODING]);
    assert_int_equal(stats.n_late + stats.n_failed + stats.n_rejected, 0);
    assert_int_equal(stats.n_sequences, N_SEQS * (n_rounds + 1));
    assert_int_equal(stats.kv.n_reserved + stats.n_rows_running, 0);
    t5_engine_destroy(engine);
    for (int32_t i = 0; i < N_SEQS; i++)
        t5_sequence_deinit(&alone[i]);
    t5_model_close(model);
    backend->ops->destroy(backend);
}

int main(void)
{
    const char *seed = getenv("T5_TEST_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("T5_TEST_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {cmocka_unit_test(clients_leave_at_any_moment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
