/* tests/test_engine_faults.c: the engine's control flow over a fake batch: failures at every call, cancellation,
 * deadlines, a full queue, draining and stopping. Each sequence must end exactly once, with the right status. */
#include "base/clock.h"
#include "engine/engine_internal.h"
#include "engine_wait.h"
#include "fake_batch.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SRC_LEN 6
#define N_SEQS 8
#define WAIT_MS 20000

/* A batch for four sequences of ROWS beams. */
#define ROWS (T5_BEAMS_MAX / 4)
static const t5_engine_options small = {.n_rows_max = 4 * ROWS,
                                        .src_len_max = SRC_LEN,
                                        .tgt_len_max = 32,
                                        .enc_tokens_max = 2 * SRC_LEN,
                                        .queue_depth_max = N_SEQS};

/* The fake batch looks at no model. */
static t5_model *const no_models[T5_DEVICES_MAX];

static const int32_t source[SRC_LEN] = {11, 12, 13, 14, 15, 1};

/* Sequences and who has ended. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    t5_engine *engine;
    t5_sequence seqs[N_SEQS];
    t5_sequence *list[N_SEQS];
    int n_done[N_SEQS]; /* guarded by mutex: calls of on_done */
    int n_told_early;   /* guarded by mutex: heard of a lost device before the engine's counters say it */
} fixture;

static void on_done(t5_sequence *seq, void *ctx)
{
    fixture *f = ctx;
    t5_engine_stats stats;
    t5_engine_stats_get(f->engine, &stats);
    pthread_mutex_lock(&f->mutex);
    f->n_done[seq - f->seqs]++;
    f->n_told_early += seq->error.status == T5_ERR_DEVICE && !stats.is_lost;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void open_devices(fixture *f, const t5_engine_options *options, int32_t n_devices)
{
    t5_error err = {0};
    *f = (fixture){.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    for (int32_t i = 0; i < N_SEQS; i++) {
        t5_sequence *seq = &f->seqs[i];
        t5_decoding_init(&seq->decoding);
        seq->decoding.num_beams = ROWS;
        seq->input_ids = (int32_t *)source;
        seq->n_input_ids = SRC_LEN;
        seq->on_done = on_done;
        seq->ctx = f;
        f->list[i] = seq;
    }
    fake_batch_reset();
    assert_int_equal(t5_engine_create(no_models, n_devices, options, &f->engine, &err), T5_OK);
}

static void open_engine(fixture *f, const t5_engine_options *options)
{
    open_devices(f, options, 1);
}

static int n_done(fixture *f, int i)
{
    pthread_mutex_lock(&f->mutex);
    const int n = f->n_done[i];
    pthread_mutex_unlock(&f->mutex);
    return n;
}

/* Waits for the end of sequence `i`. */
static void wait_done(fixture *f, int i)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    int code = 0;
    pthread_mutex_lock(&f->mutex);
    while (f->n_done[i] == 0 && code == 0)
        code = pthread_cond_timedwait(&f->changed, &f->mutex, &until);
    pthread_mutex_unlock(&f->mutex);
    assert_int_equal(code, 0); /* else it hangs */
}

static void wait_all(fixture *f)
{
    for (int i = 0; i < N_SEQS; i++)
        wait_done(f, i);
}

static void close_engine(fixture *f)
{
    t5_engine_destroy(f->engine);
    for (int i = 0; i < N_SEQS; i++) {
        assert_true(f->n_done[i] <= 1);
        t5_sequence_deinit(&f->seqs[i]);
    }
}

static void assert_reversed(const t5_sequence *seq)
{
    assert_int_equal(seq->error.status, T5_OK);
    assert_int_equal(seq->outputs[0].n_ids, SRC_LEN);
    for (int i = 0; i < SRC_LEN; i++)
        assert_int_equal(seq->outputs[0].ids[i], source[SRC_LEN - 1 - i]);
    assert_true(seq->submitted_ns <= seq->started_ns && seq->started_ns <= seq->encoded_ns);
    assert_true(seq->encoded_ns <= seq->finished_ns);
}

/* Claim: everything that is submitted comes back right, through a batch too small for all; rows and encoder tokens stay
 * within their limits; counters agree. Method: 8 sequences of 8 to 29 beams through 32 rows. */
static void all_come_back(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    t5_engine_stats stats;
    open_engine(&f, &small);
    for (int i = 0; i < N_SEQS; i++) {
        f.seqs[i].decoding.num_beams = ROWS + 3 * i;
        f.seqs[i].decoding.num_return_sequences = 1 + i;
    }
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, N_SEQS, &err), T5_OK);
    wait_all(&f);
    for (int i = 0; i < N_SEQS; i++) {
        assert_reversed(&f.seqs[i]);
        assert_int_equal(f.seqs[i].n_outputs, 1 + i);
    }
    assert_true(fake_batch_rows_peak() <= small.n_rows_max);
    assert_true(fake_batch_enc_tokens_peak() <= small.enc_tokens_max);
    assert_true(engine_wait_idle(f.engine, WAIT_MS));
    t5_engine_stats_get(f.engine, &stats);
    assert_int_equal(stats.n_sequences, N_SEQS);
    assert_int_equal(stats.n_failed + stats.n_cancelled + stats.n_late + stats.n_rejected, 0);
    assert_int_equal(stats.n_source_tokens, N_SEQS * SRC_LEN);
    assert_int_equal(stats.step_ns.count, fake_batch_n_calls(FAKE_STEP));
    assert_int_equal(stats.encode_ns.count, fake_batch_n_calls(FAKE_ENCODE));
    assert_int_equal(stats.queue_depth + stats.n_running + stats.n_rows_running, 0);
    close_engine(&f);
}

/* Claim: a freed slot is refilled before the next step. Method: a sequence of one token beside long ones in a full
 * batch; a fifth waits; the number of steps is the least possible. */
static void free_slot_is_refilled_at_once(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    t5_engine_options options = small;
    options.enc_tokens_max = 5 * SRC_LEN;
    open_engine(&f, &options);
    f.seqs[0].n_input_ids = 1; /* done after the first step, so that sequence 4 runs from step 2 to SRC_LEN + 1 */
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, 5, &err), T5_OK);
    for (int i = 0; i < 5; i++)
        wait_done(&f, i);
    assert_int_equal(fake_batch_n_calls(FAKE_STEP), SRC_LEN + 1);
    close_engine(&f);
}

/* Claim: whatever call fails, at whatever time, every sequence ends once; a device error ends all that runs on
 * it, and what waits when it was the last one, and is final, and the engine's counters say so before anybody hears of
 * it; another error ends only those in that pass and the engine goes on. Method: each batch call of the run fails once,
 * in turn, with each kind of error, on one device and on two.
 */
/* Has enough with the token before its last one, so that a cut changes nothing. */
static bool on_tokens(t5_sequence *seq, const int32_t *ids, int32_t n_ids, void *ctx)
{
    (void)seq;
    (void)ctx;
    return ids[n_ids - 1] != source[1];
}

/* One case: the i_call-th call of `op` fails. False when it was not reached. */
static bool call_fails(int32_t n_devices, fake_op op, int i_call, t5_status failure)
{
    fixture f;
    t5_error err = {0};
    t5_engine_stats stats;
    open_devices(&f, &small, n_devices);
    fake_batch_fail(op, i_call, failure);
    for (int i = 0; i < N_SEQS; i += 2)
        f.seqs[i].on_tokens = on_tokens;
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, N_SEQS, &err), T5_OK);
    wait_all(&f);
    assert_int_equal(f.n_told_early, 0);
    const bool has_failed = fake_batch_n_calls(op) > i_call;
    t5_engine_stats_get(f.engine, &stats);
    int n_failed = 0;
    for (int i = 0; i < N_SEQS; i++) {
        n_failed += f.seqs[i].error.status != T5_OK;
        if (f.seqs[i].error.status == T5_OK)
            assert_reversed(&f.seqs[i]);
        else
            assert_int_equal(f.seqs[i].error.status, failure);
    }
    assert_int_equal(stats.n_failed, n_failed);
    assert_int_equal(n_failed > 0, has_failed);
    fake_batch_reset(); /* drops a failure that was not reached */
    /* The next request: served, or refused for good. */
    const bool is_lost = has_failed && failure == T5_ERR_DEVICE;
    assert_int_equal(stats.is_lost, is_lost);
    t5_sequence_deinit(&f.seqs[0]);
    t5_sequence again = f.seqs[0];
    assert_int_equal(engine_run(f.engine, &again, &err), is_lost ? T5_ERR_DEVICE : T5_OK);
    t5_sequence_deinit(&again);
    close_engine(&f);
    return has_failed;
}

static void each_call_fails_once(void **state)
{
    (void)state;
    static const t5_status statuses[] = {T5_ERR_NOMEM, T5_ERR_DEVICE};
    static const fake_op ops[] = {FAKE_ADMIT, FAKE_ENCODE, FAKE_STEP, FAKE_CUT};
    int n_cases = 0;
    for (int32_t n_devices = 1; n_devices <= 2; n_devices++)
        for (size_t i_status = 0; i_status < T5_COUNT(statuses); i_status++)
            for (size_t i_op = 0; i_op < T5_COUNT(ops); i_op++)
                for (int i_call = 0; call_fails(n_devices, ops[i_op], i_call, statuses[i_status]); i_call++)
                    n_cases++;
    assert_true(n_cases > 50);
}

/* Claim: when an encoder pass fails, sequences that were running already are not harmed. Method: one runs at the gate,
 * two more come, their pass fails. */
static void failed_encode_spares_the_running(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    open_engine(&f, &small);
    fake_batch_close_gate();
    assert_int_equal(t5_engine_submit(f.engine, &f.seqs[0], &err), T5_OK);
    fake_batch_wait_at_gate();
    assert_int_equal(t5_engine_submit_all(f.engine, f.list + 1, 2, &err), T5_OK);
    fake_batch_fail(FAKE_ENCODE, 0, T5_ERR_NOMEM);
    fake_batch_open_gate();
    for (int i = 0; i < 3; i++)
        wait_done(&f, i);
    assert_reversed(&f.seqs[0]);
    assert_int_equal(f.seqs[1].error.status, T5_ERR_NOMEM);
    assert_int_equal(f.seqs[2].error.status, T5_ERR_NOMEM);
    close_engine(&f);
}

/* Claim: create fails cleanly, a bad option is an error, and a request that the batch refuses is refused whole. Method:
 * order the failure. */
static void refused_at_the_door(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    t5_engine *none = NULL;
    fake_batch_reset();
    fake_batch_fail(FAKE_CREATE, 0, T5_ERR_NOMEM);
    assert_int_equal(t5_engine_create(no_models, 1, &small, &none, &err), T5_ERR_NOMEM);
    assert_null(none);

    for (int i = 0; i < 6; i++) {
        t5_engine_options bad = small;
        int32_t *const fields[] = {&bad.queue_depth_max, &bad.n_rows_max,     &bad.src_len_max,
                                   &bad.tgt_len_max,     &bad.enc_tokens_max, &bad.kv_tokens};
        *fields[i] = i == 5 ? -1 : 0;
        t5_error_clear(&err);
        assert_int_equal(t5_engine_create(no_models, 1, &bad, &none, &err), T5_ERR_ARG);
    }

    open_engine(&f, &small);
    fake_batch_fail(FAKE_CHECK, 2, T5_ERR_ARG);
    t5_error_clear(&err);
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, N_SEQS, &err), T5_ERR_ARG);
    assert_true(engine_wait_idle(f.engine, WAIT_MS));
    for (int i = 0; i < N_SEQS; i++)
        assert_int_equal(n_done(&f, i), 0);
    close_engine(&f);
}

/* Claim: cancelled and late sequences leave before the next step, running and waiting ones alike, and the others are
 * not disturbed. Method: a full batch at the gate with the rest waiting; give up one of each kind each way. */
static void given_up_leave_before_the_next_step(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    t5_engine_stats stats;
    open_engine(&f, &small);
    fake_batch_close_gate();
    f.seqs[1].deadline_ms = t5_clock_ms() + 200;
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, 2, &err), T5_OK);
    fake_batch_wait_at_gate(); /* 0 and 1 run */
    f.seqs[6].deadline_ms = t5_clock_ms() + 1;
    assert_int_equal(t5_engine_submit_all(f.engine, f.list + 2, N_SEQS - 2, &err), T5_OK);
    atomic_store(&f.seqs[0].is_cancelled, true);
    atomic_store(&f.seqs[7].is_cancelled, true);
    const struct timespec nap = {.tv_nsec = 1000000};
    while (t5_clock_ms() <= f.seqs[1].deadline_ms || t5_clock_ms() <= f.seqs[6].deadline_ms)
        nanosleep(&nap, NULL);
    fake_batch_open_gate();
    wait_all(&f);
    for (int i = 0; i < N_SEQS; i++)
        if (i == 0 || i == 1 || i == 6 || i == 7)
            assert_int_equal(f.seqs[i].error.status, T5_ERR_TIMEOUT);
        else
            assert_reversed(&f.seqs[i]);
    /* 4 places at once after the gate's step: one more round of SRC_LEN steps does the other four. */
    assert_int_equal(fake_batch_n_calls(FAKE_STEP), 1 + SRC_LEN + 1); /* enc_tokens_max lets two in a turn */
    t5_engine_stats_get(f.engine, &stats);
    assert_int_equal(stats.n_cancelled, 2);
    assert_int_equal(stats.n_late, 2);
    assert_int_equal(stats.n_failed, 0);
    close_engine(&f);
}

/* Claim: a full queue refuses at once and takes again when there is room. Method: fill it behind the gate. */
static void full_queue_refuses(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    t5_engine_stats stats;
    t5_engine_options options = small;
    options.queue_depth_max = 3;
    open_engine(&f, &options);
    fake_batch_close_gate();
    assert_int_equal(t5_engine_submit(f.engine, &f.seqs[0], &err), T5_OK);
    fake_batch_wait_at_gate();
    assert_int_equal(t5_engine_submit_all(f.engine, f.list + 1, 2, &err), T5_OK);
    assert_int_equal(t5_engine_check_room(f.engine, 0, &err), T5_OK);
    assert_int_equal(t5_engine_submit(f.engine, &f.seqs[3], &err), T5_OK);
    assert_int_equal(t5_engine_check_room(f.engine, 0, &err), T5_ERR_BUSY);
    t5_error_clear(&err);
    assert_int_equal(t5_engine_submit(f.engine, &f.seqs[4], &err), T5_ERR_BUSY);
    t5_engine_stats_get(f.engine, &stats);
    assert_int_equal(stats.queue_depth, 3);
    assert_int_equal(stats.n_running, 1);
    assert_int_equal(stats.n_rejected, 2);
    fake_batch_open_gate();
    for (int i = 0; i < 4; i++)
        wait_done(&f, i);
    t5_error_clear(&err);
    assert_int_equal(t5_engine_submit(f.engine, &f.seqs[4], &err), T5_OK);
    wait_done(&f, 4);
    assert_reversed(&f.seqs[4]);
    close_engine(&f);
}

/* Opens the gate once the engine stops, which then waits for who stands there. */
static void *open_gate_at_the_stop(void *arg)
{
    t5_engine *e = arg;
    const struct timespec nap = {.tv_nsec = 200000};
    for (bool is_stopping = false; !is_stopping; nanosleep(&nap, NULL)) {
        pthread_mutex_lock(&e->mutex);
        is_stopping = e->is_stopping;
        pthread_mutex_unlock(&e->mutex);
    }
    fake_batch_open_gate();
    return NULL;
}

/* Claim: two devices share what waits, in one go and evenly enough that both work, and all comes back right. Method: 8
 * sequences of which one batch could take four; the gate is closed until both devices stand before it. */
static void devices_share_the_work(void **state)
{
    (void)state;
    const struct timespec nap = {.tv_nsec = 1000000};
    fixture f;
    t5_error err = {0};
    t5_engine_stats stats;
    open_devices(&f, &small, 2);
    fake_batch_close_gate();
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, N_SEQS, &err), T5_OK);
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    while (fake_batch_n_at_work() < 2 && t5_clock_ms() < until_ms)
        nanosleep(&nap, NULL);
    assert_int_equal(fake_batch_n_at_work(), 2);
    fake_batch_open_gate();
    wait_all(&f);
    for (int i = 0; i < N_SEQS; i++)
        assert_reversed(&f.seqs[i]);
    assert_true(engine_wait_idle(f.engine, WAIT_MS));
    t5_engine_stats_get(f.engine, &stats);
    assert_int_equal(stats.n_devices, 2);
    assert_int_equal(stats.n_rows_running + stats.kv.n_reserved, 0);
    assert_int_equal(stats.kv.n_blocks, 2 * small.n_rows_max);
    close_engine(&f);
}

/* Claim: when one of two devices is lost, what ran on it ends with T5_ERR_DEVICE, what waits is finished by the other,
 * and nothing new is accepted. Method: two sequences at the gate, one on each device; six wait; the first step after
 * the gate fails. */
static void one_of_two_devices_is_lost(void **state)
{
    (void)state;
    const struct timespec nap = {.tv_nsec = 1000000};
    fixture f;
    t5_error err = {0};
    open_devices(&f, &small, 2);
    fake_batch_close_gate();
    fake_batch_fail(FAKE_STEP, 0, T5_ERR_DEVICE);
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, 2, &err), T5_OK);
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    while (fake_batch_n_at_work() < 2 && t5_clock_ms() < until_ms)
        nanosleep(&nap, NULL);
    assert_int_equal(fake_batch_n_at_work(), 2);
    assert_int_equal(t5_engine_submit_all(f.engine, f.list + 2, N_SEQS - 2, &err), T5_OK);
    fake_batch_open_gate();
    wait_all(&f);
    const bool is_first_lost = f.seqs[0].error.status == T5_ERR_DEVICE;
    assert_int_equal(f.seqs[is_first_lost ? 0 : 1].error.status, T5_ERR_DEVICE);
    assert_reversed(&f.seqs[is_first_lost ? 1 : 0]);
    for (int i = 2; i < N_SEQS; i++)
        assert_reversed(&f.seqs[i]);
    t5_sequence_deinit(&f.seqs[2]);
    t5_sequence again = f.seqs[2];
    f.seqs[2] = (t5_sequence){0};
    assert_int_equal(engine_run(f.engine, &again, &err), T5_ERR_DEVICE);
    close_engine(&f);
}

static void destroy_busy(int32_t n_devices)
{
    fixture f;
    t5_error err = {0};
    pthread_t opener;
    open_devices(&f, &small, n_devices);
    fake_batch_close_gate();
    assert_int_equal(t5_engine_submit_all(f.engine, f.list, N_SEQS, &err), T5_OK);
    fake_batch_wait_at_gate();
    assert_int_equal(pthread_create(&opener, NULL, open_gate_at_the_stop, f.engine), 0);
    close_engine(&f);
    for (int i = 0; i < N_SEQS; i++) {
        assert_int_equal(f.n_done[i], 1);
        assert_int_equal(f.seqs[i].error.status, T5_ERR_BUSY);
    }
    pthread_join(opener, NULL);
}

/* Claim: destroying a busy engine ends running and waiting sequences with T5_ERR_BUSY. Method: destroy it at
 * the gate, with one device and with two.
 */
static void destroy_while_running(void **state)
{
    (void)state;
    destroy_busy(1);
    destroy_busy(2);
}

enum { N_CLIENTS = 6, N_CALLS = 200 };

typedef struct {
    t5_engine *engine;
    int n_ok, n_timeout;
} client;

/* Runs sequence `i`, again and again while the queue is full. Every tenth is late from the start. */
static void run_one(client *c, int i)
{
    const struct timespec nap = {.tv_nsec = 50000};
    t5_error err = {0};
    t5_sequence seq = {.input_ids = (int32_t *)source, .n_input_ids = 1 + i % SRC_LEN};
    t5_decoding_init(&seq.decoding);
    seq.decoding.num_beams = ROWS + i % 3;
    seq.deadline_ms = i % 10 == 0 ? 1 : 0;
    t5_status status = engine_run(c->engine, &seq, &err);
    while (status == T5_ERR_BUSY) {
        nanosleep(&nap, NULL);
        t5_error_clear(&err);
        status = engine_run(c->engine, &seq, &err);
    }
    if (status == T5_OK) {
        const t5_output *best = &seq.outputs[0];
        c->n_ok += best->n_ids == seq.n_input_ids && best->ids[0] == source[i % SRC_LEN];
    }
    c->n_timeout += status == T5_ERR_TIMEOUT && err.status == T5_ERR_TIMEOUT;
    t5_sequence_deinit(&seq);
}

static void *run_client(void *arg)
{
    for (int i = 0; i < N_CALLS; i++)
        run_one(arg, i);
    return NULL;
}

static void run_clients(int32_t n_devices)
{
    fixture f;
    pthread_t threads[N_CLIENTS];
    client clients[N_CLIENTS] = {0};
    t5_engine_options options = small;
    options.queue_depth_max = 4;
    open_devices(&f, &options, n_devices);
    for (int i = 0; i < N_CLIENTS; i++) {
        clients[i].engine = f.engine;
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &clients[i]), 0);
    }
    for (int i = 0; i < N_CLIENTS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < N_CLIENTS; i++) {
        assert_int_equal(clients[i].n_timeout, N_CALLS / 10);
        assert_int_equal(clients[i].n_ok, N_CALLS - N_CALLS / 10);
    }
    close_engine(&f);
}

/* Claim: many threads that submit and wait get each its own result. Method: 6 threads x 200 through a queue of 4, so
 * that some are refused and try again; on one device and on two. */
static void threads_get_their_own(void **state)
{
    (void)state;
    run_clients(1);
    run_clients(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_come_back),
        cmocka_unit_test(free_slot_is_refilled_at_once),
        cmocka_unit_test(each_call_fails_once),
        cmocka_unit_test(failed_encode_spares_the_running),
        cmocka_unit_test(refused_at_the_door),
        cmocka_unit_test(given_up_leave_before_the_next_step),
        cmocka_unit_test(full_queue_refuses),
        cmocka_unit_test(destroy_while_running),
        cmocka_unit_test(threads_get_their_own),
        cmocka_unit_test(devices_share_the_work),
        cmocka_unit_test(one_of_two_devices_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
