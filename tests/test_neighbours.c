/* tests/test_neighbours.c: the tokens of a request never depend on who else is in the batch.
 *
 * Requests of every kind (greedy, beams, sampling, scoring, forced prompts, processors, some with an alignment, some
 * with one of two shortlists) from a pool run once alone;
 * then they come and go at random in a batch that never empties, some are released half-way, and whatever ends must
 * equal its lone run bit for bit. A batch here is a set of sequences that make a step together: each time somebody
 * comes or goes it is another one. 10 000 and more in all, over all model families, float32, bfloat16, int8 and int4,
 * on the fast backend. T5_TEST_SEED repeats a run; under a sanitizer there are fewer. */
#include "cpu/cpu.h"
#include "tests/assert_ok.h"
#include "tests/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define N_BATCHES 45
#else
#define N_BATCHES 600
#endif
#define N_POOL 40
#define N_LISTS 2
#define SRC_MAX 24
#define PROMPT_MAX 12
#define NEW_MAX 16
#define RUNNING_MAX 64
#define RESULTS_MAX 6
#define RESULT_LEN_MAX (PROMPT_MAX + NEW_MAX)

typedef struct {
    int32_t n_ids;
    int32_t ids[RESULT_LEN_MAX];
    float logprobs[RESULT_LEN_MAX];
    bool is_aligned;
    int32_t alignment[RESULT_LEN_MAX];
    float score;
    bool is_truncated;
} kept_result;

/* A request and what it gives alone. */
typedef struct {
    int32_t input_ids[SRC_MAX], prompt_ids[PROMPT_MAX];
    t5_decoding decoding;
    t5_batch_request request;
    int32_t n_results;
    kept_result results[RESULTS_MAX];
} pool_entry;

typedef struct {
    fixture f;
    pool_entry pool[N_POOL];
    int32_t slots[RUNNING_MAX], entries[RUNNING_MAX]; /* [n_running] */
    int32_t n_running;
    uint64_t random;
} stage;

static uint64_t seed_of_run;

static int32_t pick(stage *s, int32_t n)
{
    s->random = s->random * 6364136223846793005U + 1442695040888963407U;
    return (int32_t)((s->random >> 33) % (uint64_t)n);
}

static void random_ids(stage *s, int32_t *ids, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = 3 + pick(s, s->f.model->hp.vocab_size - 3);
}

static void make_entry(stage *s, pool_entry *e, int32_t i)
{
    t5_decoding *d = &e->decoding;
    t5_decoding_init(d);
    d->max_new_tokens = 1 + pick(s, NEW_MAX);
    d->min_new_tokens = pick(s, 1 + d->max_new_tokens / 2);
    if (pick(s, 4) == 0) d->repetition_penalty = 1.3;
    if (pick(s, 4) == 0) d->no_repeat_ngram_size = 2;
    e->request = (t5_batch_request){.input_ids = e->input_ids,
                                    .n_input_ids = 1 + pick(s, SRC_MAX),
                                    .prompt_ids = e->prompt_ids,
                                    .n_prompt_ids = pick(s, 2) * pick(s, PROMPT_MAX),
                                    .decoding = d,
                                    .wants_logprobs = pick(s, 2) == 0,
                                    .wants_alignment = pick(s, 3) == 0,
                                    .shortlist = pick(s, 1 + N_LISTS)};
    if (pick(s, 3) == 0) e->request.align_begin = pick(s, e->request.n_input_ids);
    if (i % 4 == 1) {
        d->num_beams = 2 + pick(s, RESULTS_MAX - 1);
        d->num_return_sequences = 1 + pick(s, d->num_beams);
    }
    if (i % 4 == 2) {
        d->do_sample = true;
        d->num_return_sequences = 1 + pick(s, RESULTS_MAX);
        d->top_k = 5 * pick(s, 3);
        d->seed = (uint64_t)i;
    }
    if (i % 4 == 3) {
        e->request.decoding = NULL;
        e->request.is_score = true;
        if (e->request.n_prompt_ids == 0) e->request.n_prompt_ids = PROMPT_MAX;
    }
    random_ids(s, e->input_ids, e->request.n_input_ids - 1);
    e->input_ids[e->request.n_input_ids - 1] = s->f.model->hp.eos_id;
    random_ids(s, e->prompt_ids, e->request.n_prompt_ids);
}

/* Each has about half of the words, a quarter are on both. */
static void add_lists(stage *s)
{
    const t5_hparams *hp = &s->f.model->hp;
    t5_error err = {0};
    int32_t *ids = malloc((size_t)hp->vocab_size * sizeof *ids);
    assert_non_null(ids);
    for (int32_t i = 1; i <= N_LISTS; i++) {
        int32_t n = 0, number = 0;
        for (int32_t id = 0; id < hp->vocab_size; id++)
            if (id == hp->eos_id || pick(s, 2) == 0) ids[n++] = id;
        assert_ok(t5_model_add_shortlist(s->f.model, ids, n, &number, &err), &err);
        assert_int_equal(number, i);
    }
    free(ids);
}

static bool is_listed(const t5_shortlist *list, int32_t id)
{
    for (int32_t i = 0; i < list->n; i++)
        if (list->ids[i] == id) return true;
    return false;
}

/* What was generated is on the list; a forced prompt need not be. */
static void check_listed(const stage *s, const t5_batch_request *r, const kept_result *kept)
{
    if (r->shortlist == 0 || r->is_score) return;
    for (int32_t i = r->n_prompt_ids; i < kept->n_ids; i++)
        assert_true(is_listed(&s->f.model->shortlists[r->shortlist - 1], kept->ids[i]));
}

static void encode_and_step(stage *s)
{
    t5_error err = {0};
    assert_ok(t5_batch_encode(s->f.batch, &err), &err);
    assert_ok(t5_batch_step(s->f.batch, &err), &err);
}

static void admit(stage *s, int32_t i_entry)
{
    t5_error err = {0};
    const int32_t i = s->n_running++;
    s->entries[i] = i_entry;
    assert_ok(t5_batch_admit(s->f.batch, &s->pool[i_entry].request, &s->slots[i], &err), &err);
}

static void release(stage *s, int32_t i)
{
    t5_batch_release(s->f.batch, s->slots[i]);
    s->n_running--;
    s->slots[i] = s->slots[s->n_running];
    s->entries[i] = s->entries[s->n_running];
}

static void run_alone(stage *s, int32_t i_entry)
{
    pool_entry *e = &s->pool[i_entry];
    admit(s, i_entry);
    while (!t5_batch_is_done(s->f.batch, s->slots[0]))
        encode_and_step(s);
    e->n_results = t5_batch_n_results(s->f.batch, s->slots[0]);
    assert_in_range(e->n_results, 1, RESULTS_MAX);
    for (int32_t i = 0; i < e->n_results; i++) {
        t5_batch_result r;
        kept_result *kept = &e->results[i];
        t5_batch_result_get(s->f.batch, s->slots[0], i, &r);
        assert_in_range(r.n_ids, 0, RESULT_LEN_MAX);
        *kept = (kept_result){.n_ids = r.n_ids, .score = r.score, .is_truncated = r.is_truncated};
        memcpy(kept->ids, r.ids, (size_t)r.n_ids * sizeof *r.ids);
        memcpy(kept->logprobs, r.logprobs, (size_t)r.n_ids * sizeof *r.logprobs);
        kept->is_aligned = r.alignment != NULL;
        if (kept->is_aligned) memcpy(kept->alignment, r.alignment, (size_t)r.n_ids * sizeof *r.alignment);
        check_listed(s, &e->request, kept);
    }
    release(s, 0);
}

static void check_equals_alone(const stage *s, int32_t i)
{
    const pool_entry *e = &s->pool[s->entries[i]];
    assert_int_equal(t5_batch_n_results(s->f.batch, s->slots[i]), e->n_results);
    for (int32_t k = 0; k < e->n_results; k++) {
        t5_batch_result r;
        const kept_result *kept = &e->results[k];
        t5_batch_result_get(s->f.batch, s->slots[i], k, &r);
        assert_int_equal(r.n_ids, kept->n_ids);
        assert_memory_equal(r.ids, kept->ids, (size_t)r.n_ids * sizeof *r.ids);
        assert_memory_equal(r.logprobs, kept->logprobs, (size_t)r.n_ids * sizeof *r.logprobs);
        assert_true((r.alignment != NULL) == kept->is_aligned);
        if (kept->is_aligned) assert_memory_equal(r.alignment, kept->alignment, (size_t)r.n_ids * sizeof *r.alignment);
        assert_memory_equal(&r.score, &kept->score, sizeof r.score);
        assert_int_equal(r.is_truncated, kept->is_truncated);
    }
}

/* Lets newcomers in as chance has it. The crowd grows and shrinks: now one is welcome, now a dozen. */
static bool let_in(stage *s)
{
    const int32_t n_welcome = 1 + pick(s, 4) * pick(s, 5);
    bool is_changed = false;
    while (s->n_running < n_welcome && s->n_running < RUNNING_MAX) {
        const int32_t i_entry = pick(s, N_POOL);
        if (!t5_batch_fits(s->f.batch, &s->pool[i_entry].request)) break;
        admit(s, i_entry);
        is_changed = true;
    }
    return is_changed;
}

/* Lets go who is done, and one in a hundred who is not. */
static bool let_go(stage *s, int32_t *out_n_checked)
{
    const int32_t n_before = s->n_running;
    for (int32_t i = s->n_running - 1; i >= 0; i--) {
        const bool is_done = t5_batch_is_done(s->f.batch, s->slots[i]);
        if (is_done) check_equals_alone(s, i);
        *out_n_checked += is_done;
        if (is_done || pick(s, 100) == 0) release(s, i);
    }
    return s->n_running != n_before;
}

static int32_t run_family(const char *name, t5_compute_type type, int32_t *out_n_checked)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    const t5_cpu_options options = {.n_threads = 1, .compute_type = type};
    stage *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->random = seed_of_run;
    assert_ok(t5_cpu_create(&options, &backend, &err), &err);
    fixture_open(&s->f, name, backend);
    add_lists(s);
    for (int32_t i = 0; i < N_POOL; i++) {
        make_entry(s, &s->pool[i], i);
        assert_ok(t5_batch_check(s->f.batch, &s->pool[i].request, &err), &err);
        run_alone(s, i);
    }
    int32_t n_batches = 0;
    bool is_other = true; /* than that of the step before */
    while (n_batches < N_BATCHES) {
        is_other |= let_in(s);
        encode_and_step(s);
        n_batches += is_other;
        is_other = let_go(s, out_n_checked);
    }
    while (s->n_running > 0)
        release(s, 0);
    assert_int_equal(t5_batch_kv_usage(s->f.batch).n_reserved, 0);
    fixture_close(&s->f);
    free(s);
    return n_batches;
}

static void tokens_do_not_depend_on_neighbours(void **state)
{
    (void)state;
    static const char *const families[] = {"t5-v1.0", "t5-v1.1", "flan-small-shape", "mt5",
                                           "umt5",    "byt5",    "madlad",           "silu-buckets"};
    int32_t n_batches = 0, n_checked = 0;
    for (size_t i = 0; i < T5_COUNT(families); i++) {
        n_batches += run_family(families[i], T5_COMPUTE_F32, &n_checked);
        n_batches += run_family(families[i], T5_COMPUTE_BF16, &n_checked);
        n_batches += run_family(families[i], T5_COMPUTE_INT8, &n_checked);
        n_batches += run_family(families[i], T5_COMPUTE_INT4, &n_checked);
    }
    print_message("%d batches, %d results equal their lone runs\n", n_batches, n_checked);
    assert_true(n_checked > n_batches / 4);
}

int main(void)
{
    const char *seed = getenv("T5_TEST_SEED");
    seed_of_run = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("T5_TEST_SEED=%llu\n", (unsigned long long)seed_of_run);
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_do_not_depend_on_neighbours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
