/* tests/test_told_tokens.c: t5_sequence.on_tokens over the engine: what is told while sequences run is the start of
 * what they give in the end, those that have enough end, and those that want an alignment get one. On the fast backend,
 * and on the reference backend made late (see async_backend.h). */
#include "cpu/cpu.h"
#include "engine/engine.h"
#include "engine_wait.h"
#include "tests/async_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL_DIR T5_SOURCE_DIR "/tests/fixtures/t5-v1.0"
#define LEN_MAX 64
#define N_SEQS 60

typedef struct {
    t5_sequence seq;
    int32_t input_ids[16], prompt_ids[3];
    int32_t told[LEN_MAX];
    int32_t n_told, n_calls;
    int32_t n_enough;    /* told tokens with which it has enough */
    int32_t told_enough; /* as many as it was told when it said so */
    bool is_done;
    atomic_int *n_left;
} client;

static bool on_tokens(t5_sequence *seq, const int32_t *ids, int32_t n_ids, void *ctx)
{
    client *c = ctx;
    assert_true(seq == &c->seq && !c->is_done);
    assert_in_range(n_ids, 1, T5_STABLE_MAX);
    assert_true(c->n_told + n_ids <= LEN_MAX);
    memcpy(c->told + c->n_told, ids, (size_t)n_ids * sizeof *ids);
    c->n_told += n_ids;
    c->n_calls++;
    if (c->n_told < c->n_enough) return true;
    if (c->told_enough == 0) c->told_enough = c->n_told;
    return false;
}

static void on_done(t5_sequence *seq, void *ctx)
{
    client *c = ctx;
    (void)seq;
    c->is_done = true;
    atomic_fetch_sub(c->n_left, 1);
}

/* Greedy, beams with one and several results, samples, a forced prompt. */
static void fill_client(client *c, int32_t i, atomic_int *n_left)
{
    static const int32_t beams[] = {1, 4, 1, 2, 8, 1};
    t5_sequence *seq = &c->seq;
    *c = (client){.n_left = n_left, .n_enough = LEN_MAX, .prompt_ids = {12, 8, 11}};
    seq->n_input_ids = 1 + i % 16;
    for (int32_t k = 0; k < seq->n_input_ids - 1; k++)
        c->input_ids[k] = 3 + (i * 131 + k * 57) % 700;
    c->input_ids[seq->n_input_ids - 1] = 1;
    seq->input_ids = c->input_ids;
    t5_decoding_init(&seq->decoding);
    seq->decoding.num_beams = beams[i % 6];
    seq->decoding.max_new_tokens = 5 + i % 40;
    seq->decoding.early_stopping = i % 3;
    seq->decoding.do_sample = i % 6 == 2;
    seq->decoding.num_return_sequences = i % 6 == 2 || i % 6 == 4 ? 3 : 1;
    seq->decoding.seed = (uint64_t)i;
    seq->prompt_ids = c->prompt_ids;
    seq->n_prompt_ids = i % 5 == 0 ? 3 : 0;
    seq->wants_alignment = i % 4 < 2;
    seq->align_begin = i % 8 == 1 ? seq->n_input_ids / 2 : 0;
    seq->on_tokens = on_tokens;
    seq->on_done = on_done;
    seq->ctx = c;
}

/* Claim: each generated token but eos belongs to a source token that may be chosen, all others to none. */
static void expect_alignment(const t5_sequence *seq)
{
    const int32_t end = seq->n_input_ids - 1; /* eos */
    for (int32_t i = 0; i < seq->n_outputs; i++) {
        const t5_output *out = &seq->outputs[i];
        assert_true((out->alignment != NULL) == seq->wants_alignment);
        for (int32_t k = 0; seq->wants_alignment && k < out->n_ids; k++) {
            const bool is_aligned = k >= seq->n_prompt_ids && out->ids[k] != 1 && seq->align_begin < end;
            if (is_aligned) assert_in_range(out->alignment[k], seq->align_begin, end - 1);
            if (!is_aligned) assert_int_equal(out->alignment[k], -1);
        }
    }
}

static void expect_prefix(const client *c)
{
    const t5_sequence *seq = &c->seq;
    assert_int_equal(seq->error.status, T5_OK);
    const t5_output *first = &seq->outputs[0];
    assert_true(seq->n_prompt_ids + c->n_told <= first->n_ids);
    assert_memory_equal(c->told, first->ids + seq->n_prompt_ids, (size_t)c->n_told * sizeof *c->told);
    expect_alignment(seq);
    /* Greedy tells every token at once; the last one comes with the result. */
    const bool is_greedy = seq->decoding.num_beams == 1 && !seq->decoding.do_sample;
    if (is_greedy) assert_int_equal(seq->n_prompt_ids + c->n_told, first->n_ids - 1);
    if (is_greedy) assert_int_equal(c->n_calls, c->n_told);
}

typedef enum { ALL_RUN, SOME_CANCEL, SOME_HAVE_ENOUGH } clients_do;

/* Every other client has enough after `i % 7` tokens. */
static bool has_enough(int32_t i)
{
    return i % 2 == 1;
}

static bool is_cancelled(int32_t i)
{
    return i % 7 == 3;
}

/* Runs all clients at once. */
static void run_clients(t5_backend *backend, clients_do what, client *clients)
{
    static t5_sequence *seqs[N_SEQS];
    t5_error err = {0};
    t5_model *model = NULL;
    t5_engine *engine = NULL;
    atomic_int n_left = N_SEQS;
    const t5_engine_options options = {.n_rows_max = T5_BEAMS_MAX,
                                       .src_len_max = LEN_MAX,
                                       .tgt_len_max = LEN_MAX,
                                       .enc_tokens_max = LEN_MAX,
                                       .queue_depth_max = N_SEQS};
    assert_int_equal(t5_model_open(MODEL_DIR, backend, LEN_MAX, LEN_MAX, &model, &err), T5_OK);
    assert_int_equal(t5_engine_create(&model, 1, &options, &engine, &err), T5_OK);
    for (int32_t i = 0; i < N_SEQS; i++) {
        fill_client(&clients[i], i, &n_left);
        seqs[i] = &clients[i].seq;
        if (what == SOME_CANCEL && is_cancelled(i)) atomic_store(&clients[i].seq.is_cancelled, true);
        if (what == SOME_HAVE_ENOUGH && has_enough(i)) clients[i].n_enough = 1 + i % 7;
    }
    assert_int_equal(t5_engine_submit_all(engine, seqs, N_SEQS, &err), T5_OK);
    assert_true(engine_wait_idle(engine, 60000));
    assert_int_equal(atomic_load(&n_left), 0);
    t5_engine_destroy(engine);
    int32_t n_by_beams = 0;
    for (int32_t i = 0; i < N_SEQS; i++) {
        if (what != SOME_CANCEL || !is_cancelled(i)) expect_prefix(&clients[i]);
        if (clients[i].seq.decoding.num_beams > 1) n_by_beams += clients[i].n_told;
    }
    assert_true(n_by_beams > 0);
    t5_model_close(model);
}

static void free_clients(client *clients)
{
    for (int32_t i = 0; i < N_SEQS; i++)
        t5_sequence_deinit(&clients[i].seq);
}

static bool is_same(const t5_sequence *a, const t5_sequence *b)
{
    if (a->n_outputs != b->n_outputs) return false;
    for (int32_t i = 0; i < a->n_outputs; i++) {
        const t5_output *x = &a->outputs[i], *y = &b->outputs[i];
        if (x->n_ids != y->n_ids || memcmp(x->ids, y->ids, (size_t)x->n_ids * sizeof *x->ids) != 0) return false;
    }
    return true;
}

/* Claim: who has enough ends with its next step: at most so many tokens behind what it was told, which begins its
 * result as it begins the result of the one that goes on to its end; the others are as if nobody had left. */
static void expect_enough(t5_backend *backend, int32_t n_late)
{
    static client whole[N_SEQS], cut[N_SEQS];
    int32_t n_shorter = 0, n_beams_shorter = 0;
    run_clients(backend, ALL_RUN, whole);
    run_clients(backend, SOME_HAVE_ENOUGH, cut);
    for (int32_t i = 0; i < N_SEQS; i++) {
        const t5_sequence *a = &whole[i].seq, *b = &cut[i].seq;
        if (!has_enough(i)) assert_true(is_same(a, b));
        const bool is_alone = a->decoding.num_beams == 1 && !a->decoding.do_sample;
        const int32_t n_told = b->n_prompt_ids + cut[i].told_enough;
        if (cut[i].told_enough == 0) continue;
        assert_memory_equal(a->outputs[0].ids, b->outputs[0].ids, (size_t)n_told * sizeof(int32_t));
        if (is_alone) assert_true(b->outputs[0].n_ids <= n_told + 1 + n_late);
        n_shorter += b->outputs[0].n_ids < a->outputs[0].n_ids;
        n_beams_shorter += a->decoding.num_beams > 1 && b->outputs[0].n_ids < a->outputs[0].n_ids;
    }
    assert_true(n_shorter >= 10 && n_beams_shorter > 0);
    free_clients(whole);
    free_clients(cut);
}

/* Claim: in every mode the tokens that are told, in order, begin the first result; greedy tells each as it comes.
 * Method: 60 sequences of all kinds at once, two threads. */
static void told_tokens_begin_the_result(void **state)
{
    (void)state;
    const t5_cpu_options two_threads = {.n_threads = 2};
    t5_error err = {0};
    t5_backend *backend = NULL;
    assert_int_equal(t5_cpu_create(&two_threads, &backend, &err), T5_OK);
    static client clients[N_SEQS];
    run_clients(backend, ALL_RUN, clients);
    free_clients(clients);
    run_clients(backend, SOME_CANCEL, clients);
    free_clients(clients);
    expect_enough(backend, 0);
    backend->ops->destroy(backend);
}

/* Claim: the same when the host learns a step late how a step ended. */
static void late_devices_tell_the_same(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *backend = NULL;
    assert_int_equal(t5_cpu_ref_create(&backend, &err), T5_OK);
    async_backend_wrap(backend);
    expect_enough(backend, 2); /* one step is queued, one is being told late */
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(told_tokens_begin_the_result),
        cmocka_unit_test(late_devices_tell_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
