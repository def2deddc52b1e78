/* tests/test_engine.c: the engine over both CPU backends and a small model. (Failures and the exact order of events
 * are in test_engine_faults.c.) */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "engine/engine.h"
#include "engine_wait.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MODEL_DIR T5_SOURCE_DIR "/tests/fixtures/t5-v1.0"
#define SRC_LEN_MAX 128
#define TGT_LEN_MAX 128
#define N_SEQS 128
#define N_THREADS 4
#define WAIT_MS 60000

typedef struct {
    t5_backend *backends[2]; /* [n_devices] */
    t5_model *models[2];     /* [n_devices] */
    int32_t n_devices;
    t5_engine *engine;
} fixture;

typedef t5_status (*open_fn)(t5_backend **out, t5_error *err);

static t5_status open_fast(t5_backend **out, t5_error *err)
{
    const t5_cpu_options two_threads = {.n_threads = 2};
    return t5_cpu_create(&two_threads, out, err);
}

static const t5_engine_options usual = {.n_rows_max = T5_BEAMS_MAX,
                                        .src_len_max = SRC_LEN_MAX,
                                        .tgt_len_max = TGT_LEN_MAX,
                                        .enc_tokens_max = 2 * SRC_LEN_MAX,
                                        .queue_depth_max = N_SEQS};

static void open_devices(fixture *f, open_fn open, int32_t n_devices, const t5_engine_options *options)
{
    t5_error err = {0};
    *f = (fixture){.n_devices = n_devices};
    t5_status status = T5_OK;
    for (int32_t i = 0; i < n_devices && status == T5_OK; i++) {
        status = open(&f->backends[i], &err);
        if (status == T5_OK)
            status = t5_model_open(MODEL_DIR, f->backends[i], SRC_LEN_MAX, TGT_LEN_MAX, &f->models[i], &err);
    }
    if (status == T5_OK) status = t5_engine_create(f->models, n_devices, options, &f->engine, &err);
    if (status != T5_OK) fail_msg("%s", err.text);
}

static void open_engine(fixture *f)
{
    open_devices(f, t5_cpu_ref_create, 1, &usual);
}

static void close_engine(fixture *f)
{
    t5_engine_destroy(f->engine);
    for (int32_t i = 0; i < f->n_devices; i++) {
        t5_model_close(f->models[i]);
        f->backends[i]->ops->destroy(f->backends[i]);
    }
}

/* A source of 1 to 40 tokens, always the same for the same `i`; eos is 1 in this model. */
static int32_t *make_source(int32_t i, int32_t *out_n)
{
    const int32_t n = 1 + (i * 7) % 40;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    assert_non_null(ids);
    for (int32_t k = 0; k < n - 1; k++)
        ids[k] = 3 + (i * 131 + k * k * 17 + k * 5) % 700;
    ids[n - 1] = 1;
    *out_n = n;
    return ids;
}

/* Greedy, beams of 2 and 4 with several results, sampling with a seed, a forced prompt, and scoring. */
static void make_sequence(int32_t i, t5_sequence *seq)
{
    static int32_t prompt[] = {12, 8, 11};
    *seq = (t5_sequence){0};
    seq->input_ids = make_source(i, &seq->n_input_ids);
    t5_decoding_init(&seq->decoding);
    seq->decoding.max_new_tokens = 4 + i % 21;
    switch (i % 6) {
    case 0:
        seq->wants_logprobs = true;
        break;
    case 1:
        seq->decoding.num_beams = 2;
        break;
    case 2:
        seq->decoding.num_beams = 4;
        seq->decoding.num_return_sequences = 4;
        break;
    case 3:
        seq->decoding.do_sample = true;
        seq->decoding.num_return_sequences = 2;
        seq->decoding.seed = (uint64_t)i;
        break;
    case 4:
        seq->prompt_ids = prompt;
        seq->n_prompt_ids = T5_COUNT(prompt);
        break;
    default:
        seq->is_score = true;
        seq->prompt_ids = prompt;
        seq->n_prompt_ids = T5_COUNT(prompt);
    }
}

static void free_sequence(t5_sequence *seq)
{
    t5_sequence_deinit(seq);
    free(seq->input_ids);
}

static void assert_same_results(const t5_sequence *a, const t5_sequence *b)
{
    assert_int_equal(a->error.status, T5_OK);
    assert_int_equal(b->error.status, T5_OK);
    assert_int_equal(a->n_outputs, b->n_outputs);
    assert_int_equal(a->n_outputs, a->is_score ? 1 : a->decoding.num_return_sequences);
    for (int32_t i = 0; i < a->n_outputs; i++) {
        const t5_output *x = &a->outputs[i];
        const t5_output *y = &b->outputs[i];
        assert_int_equal(x->n_ids, y->n_ids);
        assert_memory_equal(x->ids, y->ids, (size_t)x->n_ids * sizeof *x->ids);
        assert_memory_equal(&x->score, &y->score, sizeof x->score);
        assert_int_equal(x->is_truncated, y->is_truncated);
        assert_int_equal(x->logprobs == NULL, y->logprobs == NULL);
        if (x->logprobs != NULL) assert_memory_equal(x->logprobs, y->logprobs, (size_t)x->n_ids * sizeof *x->logprobs);
    }
}

/* One thread's share: submits its sequences as one group and waits for them. */
typedef struct {
    t5_engine *engine;
    t5_sequence *seqs;
    int32_t n_seqs, n_done; /* n_done: guarded by mutex */
    t5_status status;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} share;

static void on_share_done(t5_sequence *seq, void *ctx)
{
    (void)seq;
    share *s = ctx;
    pthread_mutex_lock(&s->mutex);
    s->n_done++;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

static void *run_share(void *arg)
{
    share *s = arg;
    t5_error err = {0};
    t5_sequence *list[N_SEQS];
    for (int32_t i = 0; i < s->n_seqs; i++) {
        s->seqs[i].on_done = on_share_done;
        s->seqs[i].ctx = s;
        list[i] = &s->seqs[i];
    }
    s->status = t5_engine_submit_all(s->engine, list, s->n_seqs, &err);
    pthread_mutex_lock(&s->mutex);
    while (s->status == T5_OK && s->n_done < s->n_seqs)
        pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static void check_batch_equals_alone(open_fn open, int32_t n_devices)
{
    fixture f;
    t5_error err = {0};
    t5_engine_stats before, after;
    static t5_sequence alone[N_SEQS], together[N_SEQS];
    open_devices(&f, open, n_devices, &usual);
    for (int32_t i = 0; i < N_SEQS; i++) {
        make_sequence(i, &alone[i]);
        make_sequence(i, &together[i]);
        if (engine_run(f.engine, &alone[i], &err) != T5_OK) fail_msg("%s", err.text);
    }
    t5_engine_stats_get(f.engine, &before);

    share shares[N_THREADS];
    pthread_t threads[N_THREADS];
    for (int32_t i = 0; i < N_THREADS; i++) {
        shares[i] = (share){.engine = f.engine,
                            .seqs = together + i * (N_SEQS / N_THREADS),
                            .n_seqs = N_SEQS / N_THREADS,
                            .mutex = PTHREAD_MUTEX_INITIALIZER,
                            .changed = PTHREAD_COND_INITIALIZER};
        assert_int_equal(pthread_create(&threads[i], NULL, run_share, &shares[i]), 0);
    }
    for (int32_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(shares[i].status, T5_OK);
    }
    t5_engine_stats_get(f.engine, &after);
    for (int32_t i = 0; i < N_SEQS; i++) {
        assert_same_results(&alone[i], &together[i]);
        free_sequence(&alone[i]);
        free_sequence(&together[i]);
    }
    /* Together took far fewer steps: they really shared them. */
    assert_true((after.step_ns.count - before.step_ns.count) * 3 < before.step_ns.count);
    assert_int_equal(after.n_target_tokens, 2 * before.n_target_tokens);
    assert_int_equal(after.n_failed + after.n_cancelled + after.n_rejected, 0);
    close_engine(&f);
}

/* Claim: what else is in the batch changes no bit of a result. Method: 128 mixed sequences one after the other, then
 * the same from 4 threads at once. */
static void batch_equals_alone_reference(void **state)
{
    (void)state;
    check_batch_equals_alone(t5_cpu_ref_create, 1);
}

/* The same for the fast backend. */
static void batch_equals_alone_fast(void **state)
{
    (void)state;
    check_batch_equals_alone(open_fast, 1);
}

/* The same for two devices behind one queue: what runs where changes nothing. */
static void two_devices_equal_one(void **state)
{
    (void)state;
    check_batch_equals_alone(t5_cpu_ref_create, 2);
}

typedef struct {
    atomic_int n_done, n_looks;
} crowd;

static void on_count(t5_sequence *seq, void *ctx)
{
    (void)seq;
    atomic_fetch_add(&((crowd *)ctx)->n_done, 1);
}

/* Holds up the device until somebody has looked at its blocks. */
static bool wait_for_a_look(t5_sequence *seq, const int32_t *ids, int32_t n_ids, void *ctx)
{
    (void)seq, (void)ids, (void)n_ids;
    crowd *c = ctx;
    const struct timespec nap = {.tv_nsec = 100000};
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    for (const int n = atomic_load(&c->n_looks); atomic_load(&c->n_looks) == n && t5_clock_ms() < until_ms;)
        nanosleep(&nap, NULL);
    return true;
}

/* Claim: a cache that holds little more than one sequence never runs out half-way: what does not fit waits, every
 * sequence ends right, and all blocks come back. Method: 128 mixed sequences at once through 24 blocks, some cancelled
 * at random moments; the blocks are looked at all the time, at least once in each step of one sequence amid the others.
 * (An allocation beyond a reservation is an assertion.) */
static void tiny_cache_never_runs_out(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    t5_engine_stats stats;
    crowd c = {.n_done = 0};
    static t5_sequence seqs[N_SEQS];
    t5_sequence *list[N_SEQS];
    t5_engine_options tiny = usual;
    tiny.kv_tokens = 24 * T5_KV_BLOCK;
    open_devices(&f, open_fast, 1, &tiny);
    for (int32_t i = 0; i < N_SEQS; i++) {
        make_sequence(i, &seqs[i]);
        seqs[i].on_done = on_count;
        seqs[i].ctx = &c;
        list[i] = &seqs[i];
    }
    seqs[N_SEQS / 2 + 2].on_tokens = wait_for_a_look;
    assert_int_equal(t5_engine_submit_all(f.engine, list, N_SEQS, &err), T5_OK);
    int32_t n_reserved_max = 0, i_next = 0;
    const struct timespec nap = {.tv_nsec = 100000};
    while (atomic_load(&c.n_done) < N_SEQS) {
        t5_engine_stats_get(f.engine, &stats);
        assert_int_equal(stats.kv.n_blocks, 24);
        assert_true(stats.kv.n_used <= stats.kv.n_reserved && stats.kv.n_reserved <= stats.kv.n_blocks);
        if (stats.kv.n_reserved > n_reserved_max) n_reserved_max = stats.kv.n_reserved;
        if (i_next < N_SEQS) atomic_store(&seqs[i_next].is_cancelled, true);
        i_next += 7;
        atomic_fetch_add(&c.n_looks, 1);
        nanosleep(&nap, NULL);
    }
    assert_true(engine_wait_idle(f.engine, WAIT_MS));
    t5_engine_stats_get(f.engine, &stats);
    assert_int_equal(stats.kv.n_used + stats.kv.n_reserved, 0);
    assert_int_equal(stats.n_failed, 0);
    assert_true(n_reserved_max > 12);
    for (int32_t i = 0; i < N_SEQS; i++) {
        assert_true(seqs[i].error.status == T5_OK || (i % 7 == 0 && seqs[i].error.status == T5_ERR_TIMEOUT));
        free_sequence(&seqs[i]);
    }
    close_engine(&f);
}

/* Claim: a sequence that cannot run is refused with a reason; nothing of its group runs. Method: one id outside the
 * vocabulary, one source too long, one target too long. */
static void impossible_requests_are_refused(void **state)
{
    (void)state;
    fixture f;
    open_engine(&f);
    for (int32_t i = 0; i < 3; i++) {
        t5_error err = {0};
        t5_sequence good, bad;
        make_sequence(0, &good);
        make_sequence(6, &bad);
        int32_t long_ids[SRC_LEN_MAX + 1];
        for (int32_t k = 0; k <= SRC_LEN_MAX; k++)
            long_ids[k] = 5;
        int32_t *const own_ids = bad.input_ids;
        if (i == 0) bad.input_ids[0] = 1 << 29;
        if (i == 1) {
            bad.input_ids = long_ids;
            bad.n_input_ids = SRC_LEN_MAX + 1;
        }
        if (i == 2) bad.decoding.max_new_tokens = TGT_LEN_MAX;
        t5_sequence *group[] = {&good, &bad};
        good.on_done = bad.on_done = on_share_done;
        assert_int_equal(t5_engine_submit_all(f.engine, group, 2, &err), T5_ERR_ARG);
        assert_true(strlen(err.text) > 0);
        bad.input_ids = own_ids;
        free_sequence(&good);
        free_sequence(&bad);
    }
    t5_engine_stats stats;
    t5_engine_stats_get(f.engine, &stats);
    assert_int_equal(stats.n_sequences + stats.step_ns.count, 0);
    close_engine(&f);
}

static void wait_for_steps(t5_engine *e, int64_t n)
{
    const struct timespec nap = {.tv_nsec = 200000};
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    t5_engine_stats stats;
    do {
        nanosleep(&nap, NULL);
        t5_engine_stats_get(e, &stats);
        assert_true(t5_clock_ms() < until_ms);
    } while (stats.step_ns.count < n);
}

/* Two that run for TGT_LEN_MAX - 1 steps. */
typedef struct {
    t5_sequence first, second;
    int32_t n_told; /* tokens of the second; the device's */
    atomic_int n_done;
} couple;

static void on_one_done(t5_sequence *seq, void *ctx)
{
    (void)seq;
    atomic_fetch_add(&((couple *)ctx)->n_done, 1);
}

/* Holds up the device, once the second has some tokens, until the first is cancelled. */
static bool wait_for_cancel(t5_sequence *seq, const int32_t *ids, int32_t n_ids, void *ctx)
{
    (void)seq, (void)ids;
    couple *c = ctx;
    const struct timespec nap = {.tv_nsec = 200000};
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    c->n_told += n_ids;
    while (c->n_told > 2 && !atomic_load(&c->first.is_cancelled) && t5_clock_ms() < until_ms)
        nanosleep(&nap, NULL);
    return true;
}

static void make_long(t5_sequence *seq, int32_t num_beams, couple *c)
{
    make_sequence(6, seq);
    seq->decoding.max_new_tokens = TGT_LEN_MAX - 1;
    seq->decoding.min_new_tokens = TGT_LEN_MAX - 1;
    seq->decoding.num_beams = num_beams;
    seq->on_done = on_one_done;
    seq->ctx = c;
}

/* Claim: cancelling and destroying in the middle of the real loop ends sequences early and frees everything. Method:
 * cancel one of two after a few steps; destroy while the other runs. */
static void cancel_then_destroy(void **state)
{
    (void)state;
    fixture f;
    t5_error err = {0};
    couple c = {.n_told = 0};
    const struct timespec nap = {.tv_nsec = 200000};
    open_engine(&f);
    make_long(&c.first, 4, &c);
    make_long(&c.second, 1, &c);
    c.second.on_tokens = wait_for_cancel;
    t5_sequence *group[] = {&c.first, &c.second};
    assert_int_equal(t5_engine_submit_all(f.engine, group, 2, &err), T5_OK);
    wait_for_steps(f.engine, 2);
    atomic_store(&c.first.is_cancelled, true);
    while (atomic_load(&c.n_done) < 1)
        nanosleep(&nap, NULL);
    close_engine(&f);
    assert_int_equal(atomic_load(&c.n_done), 2);
    assert_int_equal(c.first.error.status, T5_ERR_TIMEOUT);
    assert_true(c.second.error.status == T5_ERR_BUSY || c.second.error.status == T5_OK);
    free_sequence(&c.first);
    free_sequence(&c.second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_equals_alone_reference),    cmocka_unit_test(batch_equals_alone_fast),
        cmocka_unit_test(two_devices_equal_one),           cmocka_unit_test(tiny_cache_never_runs_out),
        cmocka_unit_test(impossible_requests_are_refused), cmocka_unit_test(cancel_then_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
