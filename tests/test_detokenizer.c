/* tests/test_detokenizer.c: text of ids that come one after another, against the text of all of them at once. */
#include "base/utf8.h"
#include "tokenizer/detokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IDS_MAX 256
#define N_RANDOM 1500

static const char *const folders[] = {
    "tests/fixtures/t5-v1.0", "tests/fixtures/mt5",  "tests/fixtures/madlad",
    "tests/fixtures/umt5",    "tests/fixtures/byt5", "models/t5-tatoeba",
};

static uint32_t seed;

static int32_t below(int32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int32_t)((uint64_t)(seed >> 4) * (uint64_t)n >> 28);
}

static t5_tokenizer *open_folder(const char *folder, int32_t *out_vocab_size)
{
    char path[512];
    t5_tokenizer *t = NULL;
    t5_error err = {0};
    snprintf(path, sizeof path, T5_SOURCE_DIR "/%s/config.json", folder);
    json_t *config = json_load_file(path, 0, NULL);
    assert_non_null(config);
    *out_vocab_size = (int32_t)json_integer_value(json_object_get(config, "vocab_size"));
    const t5_tokenizer_options options = {
        .vocab_size = *out_vocab_size,
        .pad_id = (int32_t)json_integer_value(json_object_get(config, "pad_token_id")),
        .eos_id = (int32_t)json_integer_value(json_object_get(config, "eos_token_id")),
    };
    json_decref(config);
    snprintf(path, sizeof path, T5_SOURCE_DIR "/%s", folder);
    if (t5_tokenizer_open(path, &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    return t;
}

/* True when the last byte tokens are the start of a character. */
static bool is_unfinished(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids)
{
    for (int32_t n = 0; n_ids > 0; n_ids--) {
        uint8_t byte = 0;
        const t5_token_kind kind = t5_tokenizer_token(t, ids[n_ids - 1], &byte);
        if (kind == T5_TOKEN_NOTHING) continue;
        if (kind != T5_TOKEN_BYTE || byte < 0x80) return false;
        if (byte >= 0xc0) return byte >= 0xf0 ? n < 3 : byte >= 0xe0 ? n < 2 : n < 1;
        if (++n == 4) return false;
    }
    return false;
}

/* Feeds ids in steps of 1 to `step_max`; each step gives whole characters, all at once what decode gives, and holds
 * nothing back but unfinished characters. */
static void expect_same(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, int32_t step_max)
{
    t5_detokenizer d;
    t5_buffer out = {0};
    t5_error err = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    t5_detokenizer_init(&d, t);
    for (int32_t i = 0; i < n_ids;) {
        const int32_t n_rest = n_ids - i, n_step = 1 + below(step_max);
        const int32_t n = n_step < n_rest ? n_step : n_rest;
        assert_int_equal(t5_detokenizer_add(&d, ids + i, n, false, &out, &err), T5_OK);
        i += n;
        assert_true(t5_utf8_is_valid(out.bytes, out.n_bytes));
        if (is_unfinished(t, ids, i)) continue;
        assert_int_equal(t5_tokenizer_decode(t, ids, i, &text, &n_bytes, &err), T5_OK);
        assert_int_equal(out.n_bytes, n_bytes);
        free(text);
    }
    assert_int_equal(t5_detokenizer_add(&d, NULL, 0, true, &out, &err), T5_OK);
    assert_int_equal(t5_tokenizer_decode(t, ids, n_ids, &text, &n_bytes, &err), T5_OK);
    assert_int_equal(out.n_bytes, n_bytes);
    if (n_bytes > 0) assert_memory_equal(out.bytes, text, n_bytes);
    free(text);
    t5_buffer_deinit(&out);
    t5_detokenizer_deinit(&d);
}

/* Bytes of characters of all lengths, whole and broken, lone spaces, special tokens, and any other piece. */
static int32_t random_id(const t5_tokenizer *t, int32_t vocab_size)
{
    static const char *const names[] = {"<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xE2>", "<0x82>", "<0xAC>", "<0xC3>",
                                        "<0xA9>", "<0x41>", "<0xFF>", "<0xED>", "<0xA0>", "▁",      "▁a"};
    const int32_t choice = below(4);
    if (choice == 0) return below(vocab_size);
    if (choice == 1) return below(8); /* special ones, and the most frequent */
    return t5_tokenizer_find(t, names[below((int32_t)T5_COUNT(names))]);
}

/* Claim: pieces add up to the text, for every tokenizer, whatever the ids and however they come. Method: random ids,
 * half of them bytes that are often broken, one by one and several at a time. */
static void any_ids_add_up(void **state)
{
    (void)state;
    for (size_t f = 0; f < T5_COUNT(folders); f++) {
        int32_t vocab_size = 0, ids[IDS_MAX];
        t5_tokenizer *t = open_folder(folders[f], &vocab_size);
        for (int32_t i = 0; i < N_RANDOM; i++) {
            const int32_t n_ids = below(24);
            for (int32_t k = 0; k < n_ids; k++)
                ids[k] = random_id(t, vocab_size);
            expect_same(t, ids, n_ids, i % 2 == 0 ? 1 : 5);
        }
        t5_tokenizer_close(t);
    }
}

/* Claim: real texts come out whole, emoji and their joiners too. Method: texts in several scripts through each
 * tokenizer; bytes stand for what it has no piece for. */
static void texts_add_up(void **state)
{
    static const char *const texts[] = {
        "Hello, world!",
        "  two  spaces ",
        "Grüße aus Köln\nund Łódź",
        "日本語のテキスト。",
        "👩‍👩‍👧‍👦 e\xCC\x81 🇩🇪!",
        "",
        " ",
    };
    (void)state;
    for (size_t f = 0; f < T5_COUNT(folders); f++) {
        int32_t vocab_size = 0, n_ids = 0, ids[IDS_MAX];
        t5_error err = {0};
        t5_tokenizer *t = open_folder(folders[f], &vocab_size);
        for (size_t i = 0; i < T5_COUNT(texts); i++) {
            assert_int_equal(t5_tokenizer_encode(t, texts[i], strlen(texts[i]), ids, IDS_MAX, &n_ids, &err), T5_OK);
            expect_same(t, ids, n_ids, 1);
            expect_same(t, ids, n_ids, 7);
        }
        t5_tokenizer_close(t);
    }
}

/* Claim: what a token costs does not grow with the text, be it bytes or spaces. Method: long runs of a character of two
 * bytes, of broken bytes and of spaces, behind a piece or not; the window stays short, the text the same. */
static void windows_stay_short(void **state)
{
    static const char *const runs[][3] = {{"▁a", "<0xC3>", "<0xA9>"},
                                          {"<0xC3>", "<0xA9>", "<0xC3>"},
                                          {"▁a", "<0xFF>", "<0xA9>"},
                                          {"▁a", "▁", "▁"},
                                          {"▁a", "<0xA9>", "▁"}};
    (void)state;
    for (size_t f = 0; f < T5_COUNT(folders); f++) {
        int32_t vocab_size = 0, ids[IDS_MAX];
        t5_tokenizer *t = open_folder(folders[f], &vocab_size);
        for (size_t r = 0; r < T5_COUNT(runs); r++) {
            t5_detokenizer d;
            t5_buffer out = {0};
            t5_error err = {0};
            t5_detokenizer_init(&d, t);
            for (int32_t i = 0; i < IDS_MAX; i++) {
                ids[i] = t5_tokenizer_find(t, runs[r][i == 0 ? 0 : 2 - i % 2]);
                assert_int_equal(t5_detokenizer_add(&d, &ids[i], 1, false, &out, &err), T5_OK);
                if (d.n_window > 4) fail_msg("%s, run %zu, id %d: a window of %d", folders[f], r, i, d.n_window);
            }
            expect_same(t, ids, IDS_MAX, 7);
            t5_buffer_deinit(&out);
            t5_detokenizer_deinit(&d);
        }
        t5_tokenizer_close(t);
    }
}

/* Claim: a character is given with its last byte, not before, and one that never ends is not given as it stands.
 * Method: an emoji byte by byte in ByT5, then its first three bytes and the end. */
static void characters_stay_whole(void **state)
{
    static const int32_t emoji[] = {0xF0 + 3, 0x9F + 3, 0x98 + 3, 0x80 + 3};
    int32_t vocab_size = 0;
    t5_tokenizer *t = open_folder("tests/fixtures/byt5", &vocab_size);
    t5_detokenizer d;
    t5_buffer out = {0};
    t5_error err = {0};
    (void)state;
    t5_detokenizer_init(&d, t);
    for (int32_t i = 0; i < 4; i++) {
        assert_int_equal(out.n_bytes, 0);
        assert_int_equal(t5_detokenizer_add(&d, &emoji[i], 1, false, &out, &err), T5_OK);
    }
    assert_int_equal(out.n_bytes, 4);
    assert_memory_equal(out.bytes, "\xF0\x9F\x98\x80", 4);
    assert_int_equal(t5_detokenizer_add(&d, emoji, 3, false, &out, &err), T5_OK);
    assert_int_equal(t5_detokenizer_add(&d, NULL, 0, true, &out, &err), T5_OK);
    assert_int_equal(out.n_bytes, 4);
    t5_detokenizer_deinit(&d);
    t5_buffer_deinit(&out);
    t5_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_ids_add_up),
        cmocka_unit_test(texts_add_up),
        cmocka_unit_test(windows_stay_short),
        cmocka_unit_test(characters_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
