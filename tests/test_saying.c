/* tests/test_saying.c: how a model writes a text, and what it costs to ask. The linker sends the tokenizer's calls past
 * a counter. */
#include "model/hparams.h"
#include "translate/saying.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BUNDLED T5_SOURCE_DIR "/models/t5-tatoeba"
#define BYTES T5_SOURCE_DIR "/tests/fixtures/byt5"
#define PLAIN T5_SOURCE_DIR "/tests/fixtures/t5-v1.1"

t5_status __wrap_t5_tokenizer_encode_alloc(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t ids_max,
                                           int32_t **out, int32_t *out_n, t5_error *err);
t5_status __real_t5_tokenizer_encode_alloc(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t ids_max,
                                           int32_t **out, int32_t *out_n, t5_error *err);
static int n_encoded;

t5_status __wrap_t5_tokenizer_encode_alloc(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t ids_max,
                                           int32_t **out, int32_t *out_n, t5_error *err)
{
    n_encoded++;
    return __real_t5_tokenizer_encode_alloc(t, text, n_bytes, ids_max, out, out_n, err);
}

typedef struct {
    t5_tokenizer *tokenizer;
    t5_sayings sayings;
} stage;

static void open_stage(stage *s, const char *dir)
{
    t5_hparams hparams;
    t5_error err = {0};
    if (t5_hparams_load(dir, &hparams, &err) != T5_OK) fail_msg("%s", err.text);
    const t5_tokenizer_options options = {
        .vocab_size = hparams.vocab_size, .pad_id = hparams.pad_id, .eos_id = hparams.eos_id};
    if (t5_tokenizer_open(dir, &options, &s->tokenizer, &err) != T5_OK) fail_msg("%s", err.text);
    s->sayings = (t5_sayings){.tokenizer = s->tokenizer};
}

static void close_stage(stage *s)
{
    t5_tokenizer_close(s->tokenizer);
}

static t5_saying ask(stage *s, const char *text)
{
    t5_error err = {0};
    t5_saying how;
    if (t5_sayings_ask(&s->sayings, text, strlen(text), &how, &err) != T5_OK) fail_msg("%s", err.text);
    return how;
}

/* Claim: what a model has pieces for is said, what it has bytes for is spelled, what it has neither for is not said.
 * Method: models with bytes beside pieces, with nothing but bytes, and with nothing but pieces. */
static void texts_are_said(void **state)
{
    static const struct {
        const char *dir, *text;
        t5_saying want;
    } cases[] = {{BUNDLED, "the", T5_SAID},
                 {BUNDLED, "\U0001F600", T5_SPELLED},
                 {BUNDLED, "a  b", T5_UNSAID},
                 {BYTES, "\U0001F600", T5_SAID},
                 {PLAIN, "\U0001F600", T5_UNSAID}};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        stage s;
        open_stage(&s, cases[i].dir);
        for (int k = 0; k < 2; k++) /* asked, then remembered */
            if (ask(&s, cases[i].text) != cases[i].want) fail_msg("%s: %s", cases[i].dir, cases[i].text);
        close_stage(&s);
    }
}

/* Claim: what is asked again and again is tokenized once, a text that is too long to remember each time; no answer is
 * that of another text. Method: the tokenizer's calls for a few texts in turn; then for more than are remembered. */
static void answers_are_remembered(void **state)
{
    enum { ROUNDS = 1000, N_TEXTS = 4 * T5_N_KNOWN };
    static const char *const texts[] = {"\U0001F600", "\U0001F44D\U0001F3FD", "the"};
    char text[T5_KNOWN_BYTES + 2];
    stage s;
    (void)state;
    open_stage(&s, BUNDLED);
    n_encoded = 0;
    for (int i = 0; i < ROUNDS; i++)
        for (size_t k = 0; k < T5_COUNT(texts); k++)
            ask(&s, texts[k]);
    assert_int_equal(n_encoded, T5_COUNT(texts));

    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&s, text), T5_SAID);
    assert_int_equal(n_encoded, T5_COUNT(texts) + 3);

    for (int i = 0; i < 2 * N_TEXTS; i++) {
        const bool is_spelled = i % 3 == 0; /* whatever the last digits are, and as long as one that is said */
        snprintf(text, sizeof text, "%s%d", is_spelled ? "\U0001F600" : "aaaa", i % N_TEXTS);
        assert_int_equal(ask(&s, text), is_spelled ? T5_SPELLED : T5_SAID);
    }
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_said),
        cmocka_unit_test(answers_are_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
