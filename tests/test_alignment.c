/* tests/test_alignment.c: alignments of plain sentences by the bundled model are sane. test_fixtures compares them with
 * a computation; this looks at what they are for. T5_TEST_SHOW=1 prints them. */
#include "cpu/cpu.h"
#include "model/batch.h"
#include "tests/assert_ok.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL_DIR T5_SOURCE_DIR "/models/t5-tatoeba"
#define PROMPT "translate English to German: "

enum { LEN_MAX = 128, N_PAIRS = 60 };

typedef struct {
    t5_backend *backend;
    t5_model *model;
    t5_batch *batch;
    t5_tokenizer *tokenizer;
    int32_t n_prompt;             /* tokens of PROMPT */
    int32_t n_moves, n_backwards; /* from a token to the next; those that go back by more than one source token */
    int32_t n_names, n_linked;    /* names that source and target have once each; those that belong together */
} rig;

static int setup(void **state)
{
    t5_error err = {0};
    rig *r = calloc(1, sizeof *r);
    const t5_cpu_options options = {.n_threads = 1};
    const t5_batch_limits limits = {
        .n_rows_max = T5_BEAMS_MAX, .src_len_max = LEN_MAX, .tgt_len_max = LEN_MAX, .enc_tokens_max = LEN_MAX};
    assert_non_null(r);
    assert_ok(t5_cpu_create(&options, &r->backend, &err), &err);
    assert_ok(t5_model_open(MODEL_DIR, r->backend, LEN_MAX, LEN_MAX, &r->model, &err), &err);
    assert_ok(t5_batch_create(r->model, &limits, &r->batch, &err), &err);
    const t5_tokenizer_options of_model = {.vocab_size = r->model->hp.vocab_size, .eos_id = r->model->hp.eos_id};
    assert_ok(t5_tokenizer_open(MODEL_DIR, &of_model, &r->tokenizer, &err), &err);
    int32_t ids[LEN_MAX];
    assert_ok(t5_tokenizer_encode(r->tokenizer, PROMPT, strlen(PROMPT), ids, LEN_MAX, &r->n_prompt, &err), &err);
    r->n_prompt--; /* eos */
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig *r = *state;
    t5_tokenizer_close(r->tokenizer);
    t5_batch_destroy(r->batch);
    t5_model_close(r->model);
    r->backend->ops->destroy(r->backend);
    free(r);
    return 0;
}

static int32_t count(const int32_t *ids, int32_t n, int32_t id, int32_t *out_last)
{
    int32_t n_found = 0;
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] != id) continue;
        *out_last = i;
        n_found++;
    }
    return n_found;
}

/* A word with a capital letter, and not just that. */
static bool is_name(const char *piece)
{
    static const char space[] = "\u2581";
    const size_t n = sizeof space - 1;
    return strncmp(piece, space, n) == 0 && piece[n] >= 'A' && piece[n] <= 'Z' && piece[n + 1] != '\0';
}

/* Source and target without prompt and eos. */
static void judge(rig *r, const int32_t *source, int32_t n_source, const int32_t *target, int32_t n_target,
                  const int32_t *alignment)
{
    const bool shows = getenv("T5_TEST_SHOW") != NULL;
    for (int32_t i = 0; i < n_target; i++) {
        int32_t at = 0, ignored = 0;
        assert_in_range(alignment[i], 0, n_source - 1);
        if (shows) {
            printf("%s=%s ", t5_tokenizer_piece(r->tokenizer, target[i]),
                   t5_tokenizer_piece(r->tokenizer, source[alignment[i]]));
        }
        r->n_moves += i > 0;
        r->n_backwards += i > 0 && alignment[i] < alignment[i - 1] - 1;
        if (!is_name(t5_tokenizer_piece(r->tokenizer, target[i]))) continue;
        if (count(source, n_source, target[i], &at) != 1 || count(target, n_target, target[i], &ignored) != 1) continue;
        r->n_names++;
        r->n_linked += alignment[i] == at;
    }
    if (shows) printf("\n");
}

static void align_pair(rig *r, const char *source, const char *target)
{
    t5_error err = {0};
    char prompted[2048];
    int32_t input_ids[LEN_MAX], target_ids[LEN_MAX], slot = -1;
    snprintf(prompted, sizeof prompted, PROMPT "%s", source);
    t5_batch_request request = {.input_ids = input_ids,
                                .prompt_ids = target_ids,
                                .is_score = true,
                                .wants_alignment = true,
                                .align_begin = r->n_prompt};
    assert_ok(
        t5_tokenizer_encode(r->tokenizer, prompted, strlen(prompted), input_ids, LEN_MAX, &request.n_input_ids, &err),
        &err);
    assert_ok(
        t5_tokenizer_encode(r->tokenizer, target, strlen(target), target_ids, LEN_MAX - 1, &request.n_prompt_ids, &err),
        &err);
    assert_ok(t5_batch_check(r->batch, &request, &err), &err);
    assert_ok(t5_batch_admit(r->batch, &request, &slot, &err), &err);
    assert_ok(t5_batch_encode(r->batch, &err), &err);
    while (!t5_batch_is_done(r->batch, slot))
        assert_ok(t5_batch_step(r->batch, &err), &err);
    t5_batch_result result;
    int32_t alignment[LEN_MAX];
    t5_batch_result_get(r->batch, slot, 0, &result);
    assert_int_equal(result.n_ids, request.n_prompt_ids);
    assert_int_equal(result.alignment[result.n_ids - 1], -1); /* eos */
    for (int32_t i = 0; i < result.n_ids - 1; i++)
        alignment[i] = result.alignment[i] - r->n_prompt;
    judge(r, input_ids + r->n_prompt, request.n_input_ids - r->n_prompt - 1, target_ids, result.n_ids - 1, alignment);
    t5_batch_release(r->batch, slot);
}

/* Claim: names belong to themselves, and the order of words mostly stays. Method: the first test sentences of the model
 * with their reference translations, which are often free; by chance one name in seven would find itself. */
static void plain_sentences_are_aligned(void **state)
{
    rig *r = *state;
    char line[1024];
    FILE *file = fopen(MODEL_DIR "/data/test.en-de.tsv", "r");
    assert_non_null(file);
    for (int32_t i = 0; i < N_PAIRS && fgets(line, sizeof line, file) != NULL; i++) {
        char *target = strchr(line, '\t');
        assert_non_null(target);
        *target++ = '\0';
        target[strcspn(target, "\t\n")] = '\0';
        align_pair(r, line, target);
    }
    fclose(file);
    print_message("%d of %d names belong to themselves, %d of %d moves go back\n", r->n_linked, r->n_names,
                  r->n_backwards, r->n_moves);
    assert_true(r->n_names >= 15 && r->n_moves > 300);
    assert_true(10 * r->n_linked >= 8 * r->n_names);
    assert_true(10 * r->n_backwards < 3 * r->n_moves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_sentences_are_aligned)};
    return cmocka_run_group_tests_name("alignment", tests, setup, teardown);
}
