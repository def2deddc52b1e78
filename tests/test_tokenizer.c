/* tests/test_tokenizer.c: text to ids and back as Hugging Face computes it, special tokens, and broken models. */
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURES T5_SOURCE_DIR "/tests/fixtures/"
#define IDS_MAX 4096

static json_t *load_json(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, FIXTURES "%s/%s", folder, name);
    json_t *json = json_load_file(path, 0, NULL);
    assert_non_null(json);
    return json;
}

static t5_tokenizer *open_fixture(const char *folder)
{
    char path[512];
    t5_tokenizer *t = NULL;
    t5_error err = {0};
    json_t *config = load_json(folder, "config.json");
    t5_tokenizer_options options = {
        .vocab_size = (int32_t)json_integer_value(json_object_get(config, "vocab_size")),
        .pad_id = (int32_t)json_integer_value(json_object_get(config, "pad_token_id")),
        .eos_id = (int32_t)json_integer_value(json_object_get(config, "eos_token_id")),
    };
    snprintf(path, sizeof path, FIXTURES "%s", folder);
    if (t5_tokenizer_open(path, &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    json_decref(config);
    return t;
}

/* The reference cut one text (of byt5) before it appended eos: there our ids continue where its eos stands. */
static void check_case(const char *folder, const t5_tokenizer *t, json_t *expected)
{
    json_t *text = json_object_get(expected, "text"), *want = json_object_get(expected, "input_ids");
    int32_t ids[IDS_MAX], n_ids = 0, n_want = (int32_t)json_array_size(want);
    t5_error err = {0};

    assert_int_equal(
        t5_tokenizer_encode(t, json_string_value(text), json_string_length(text), ids, IDS_MAX, &n_ids, &err), T5_OK);
    bool is_cut = n_want < n_ids && strcmp(folder, "byt5") == 0;
    if (!is_cut) assert_int_equal(n_ids, n_want);
    for (int32_t i = 0; i < n_want - is_cut; i++)
        if (ids[i] != json_integer_value(json_array_get(want, (size_t)i)))
            fail_msg("%s: \"%s\": id %" PRId32 " is %" PRId32, folder, json_string_value(text), i, ids[i]);
}

/* Claim: every model family gives Hugging Face's ids. Method: the text and input_ids of each fixture case. */
static void ids_match_reference(void **state)
{
    static const char *const folders[] = {"t5-v1.0", "t5-v1.1", "flan-small-shape", "mt5",
                                          "umt5",    "byt5",    "madlad",           "silu-buckets"};
    size_t n_cases = 0, i_case;
    json_t *expected;

    (void)state;
    for (size_t i = 0; i < T5_COUNT(folders); i++) {
        t5_tokenizer *t = open_fixture(folders[i]);
        json_t *file = load_json(folders[i], "expected.json");
        json_array_foreach(json_object_get(file, "cases"), i_case, expected)
        {
            check_case(folders[i], t, expected);
            n_cases++;
        }
        json_decref(file);
        t5_tokenizer_close(t);
    }
    assert_true(n_cases >= 50);
}

static char *decode(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids)
{
    char *text = NULL;
    size_t n_bytes = 0;
    t5_error err = {0};
    if (t5_tokenizer_decode(t, ids, n_ids, &text, &n_bytes, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(strlen(text), n_bytes);
    return text;
}

static void expect_text(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, const char *want)
{
    char *text = decode(t, ids, n_ids);
    assert_string_equal(text, want);
    free(text);
}

/* Claim: what a user types stays text: it gives no special id, and comes back as it was. Method: special names through
 * models that can spell every character. */
static void typed_names_are_text(void **state)
{
    static const char *const folders[] = {"mt5", "umt5", "byt5", "madlad"};
    static const char typed[] = "a </s> <pad> <unk> <extra_id_0> b";

    (void)state;
    for (size_t i = 0; i < T5_COUNT(folders); i++) {
        t5_tokenizer *t = open_fixture(folders[i]);
        t5_error err = {0};
        int32_t *ids = NULL, n_ids = 0;
        assert_int_equal(t5_tokenizer_encode_alloc(t, typed, sizeof typed - 1, IDS_MAX, &ids, &n_ids, &err), T5_OK);
        for (int32_t k = 0; k < n_ids - 1; k++)
            assert_true(ids[k] > 2 && ids[k] != t5_tokenizer_find(t, "<extra_id_0>"));
        expect_text(t, ids, n_ids, typed);
        free(ids);
        t5_tokenizer_close(t);
    }
}

/* Claim: pad, eos, unk, sentinels and ids without a piece leave no text. Method: "Hello" with each of them inside. */
static void special_ids_are_dropped(void **state)
{
    t5_tokenizer *t = open_fixture("t5-v1.0");
    int32_t ids[32], n_ids = 0, mixed[64], n_mixed = 0;
    static const int32_t special[] = {0, 1, 2, 900, 999, 1000, 1023, 1024, INT32_MAX, -1, INT32_MIN};
    t5_error err = {0};

    (void)state;
    assert_int_equal(t5_tokenizer_encode(t, "Hello", 5, ids, 32, &n_ids, &err), T5_OK);
    for (int32_t i = 0; i < n_ids; i++) {
        for (size_t k = 0; k < T5_COUNT(special) && n_mixed < 60; k++)
            mixed[n_mixed++] = special[k];
        mixed[n_mixed++] = ids[i];
    }
    char *plain = decode(t, ids, n_ids);
    assert_string_equal(plain, "Hello");
    free(plain);
    expect_text(t, mixed, n_mixed, "Hello");
    expect_text(t, special, T5_COUNT(special), "");
    expect_text(t, NULL, 0, "");
    t5_tokenizer_close(t);
}

/* Claim: bytes that are no UTF-8 are dropped by byte tokens and become U+FFFD in SentencePiece's byte pieces, as
 * Hugging Face has it. Method: a start byte alone, inside text, and before another; U+FFFD itself stays. */
static void broken_bytes_are_repaired(void **state)
{
    t5_tokenizer *bytes = open_fixture("byt5"), *pieces = open_fixture("mt5");
    int32_t piece_ids[] = {t5_tokenizer_find(pieces, "<0xC3>"), t5_tokenizer_find(pieces, "<0xA9>"),
                           t5_tokenizer_find(pieces, "<0xFF>")};

    (void)state;
    expect_text(bytes, (const int32_t[]){0xC3 + 3, 0xA9 + 3}, 2, "\xC3\xA9");
    expect_text(bytes, (const int32_t[]){'a' + 3, 0xC3 + 3, 'b' + 3}, 3, "ab");
    expect_text(bytes, (const int32_t[]){0xF0 + 3, 0x9F + 3, 1}, 3, "");
    expect_text(bytes, (const int32_t[]){0xFF + 3, 0xC3 + 3, 0xC3 + 3, 0xA9 + 3, 0x80 + 3}, 5, "\xC3\xA9");
    expect_text(bytes, (const int32_t[]){0xEF + 3, 0xBF + 3, 0xBD + 3}, 3, "\xEF\xBF\xBD");
    expect_text(pieces, piece_ids, 2, "\xC3\xA9");
    char *text = decode(pieces, piece_ids, 3);
    assert_true(t5_utf8_is_valid(text, strlen(text)));
    assert_non_null(strstr(text, "\xEF\xBF\xBD"));
    free(text);
    t5_tokenizer_close(bytes);
    t5_tokenizer_close(pieces);
}

/* Spans of a text and of what its ids say, checked against the text of each piece. */
static void check_spans(const t5_tokenizer *t, const char *text)
{
    int32_t ids[IDS_MAX], n_ids = 0;
    t5_token_span source[IDS_MAX], target[IDS_MAX];
    char *decoded = NULL;
    size_t decoded_bytes = 0;
    t5_error err = {0};
    assert_int_equal(t5_tokenizer_encode(t, text, strlen(text), ids, IDS_MAX, &n_ids, &err), T5_OK);
    assert_int_equal(t5_tokenizer_encode_spans(t, text, strlen(text), source, n_ids, &err), T5_OK);
    assert_int_equal(t5_tokenizer_decode(t, ids, n_ids, &decoded, &decoded_bytes, &err), T5_OK);
    assert_int_equal(t5_tokenizer_decode_spans(t, ids, n_ids, decoded_bytes, target, &err), T5_OK);
    size_t source_end = 0, target_end = 0;
    for (int32_t i = 0; i < n_ids; i++) {
        assert_true(source[i].begin >= source_end && source[i].end >= source[i].begin);
        assert_int_equal(target[i].begin, target_end);
        source_end = source[i].end;
        target_end = target[i].end;
        const char *piece = t5_tokenizer_piece(t, ids[i]);
        if (strncmp(piece, "▁", 3) == 0) piece += 3;
        const size_t n = strlen(piece);
        const bool is_text = i + 1 < n_ids && piece[0] != '<';
        if (is_text && source_end >= n) assert_memory_equal(text + source_end - n, piece, n);
        if (is_text) assert_memory_equal(decoded + target_end - n, piece, n);
    }
    assert_int_equal(source_end, strlen(text));
    assert_int_equal(target_end, decoded_bytes);
    free(decoded);
}

/* Claim: it is known which bytes a token stands for, in the source and in what a model said. Method: every kind of
 * tokenizer; the piece's own text stands there; spans follow each other without gaps in what is decoded. */
static void tokens_have_places(void **state)
{
    (void)state;
    static const char *const folders[] = {"t5-v1.0", "mt5", "byt5", "madlad"};
    for (size_t i = 0; i < T5_COUNT(folders); i++) {
        t5_tokenizer *t = open_fixture(folders[i]);
        check_spans(t, "");
        check_spans(t, "The house is big, and 3.5 times as old.");
        check_spans(t, "word");
        t5_tokenizer_close(t);
    }
    t5_tokenizer *t = open_fixture("t5-v1.0");
    static const int32_t ids[] = {0, 32000, 1, 0};
    t5_token_span spans[4];
    t5_error err = {0};
    assert_int_equal(t5_tokenizer_decode_spans(t, ids, 4, 0, spans, &err), T5_OK);
    assert_true(spans[3].begin == 0 && spans[3].end == 0);
    t5_tokenizer_close(t);
}

/* Claim: ids have names, names have ids, and the sentinels count down. Method: the ends of each range. */
static void pieces_have_names(void **state)
{
    t5_tokenizer *t = open_fixture("t5-v1.0"), *bytes = open_fixture("byt5"), *madlad = open_fixture("madlad");

    (void)state;
    assert_string_equal(t5_tokenizer_kind(t), "sentencepiece");
    assert_string_equal(t5_tokenizer_piece(t, 999), "<extra_id_0>");
    assert_string_equal(t5_tokenizer_piece(t, 900), "<extra_id_99>");
    assert_string_equal(t5_tokenizer_piece(t, 1), "</s>");
    assert_string_equal(t5_tokenizer_piece(t, 899), "v");
    assert_null(t5_tokenizer_piece(t, 1000));
    assert_null(t5_tokenizer_piece(t, -1));
    assert_int_equal(t5_tokenizer_find(t, "<extra_id_0>"), 999);
    assert_int_equal(t5_tokenizer_find(t, "v"), 899);
    assert_int_equal(t5_tokenizer_find(t, "no such piece"), -1);
    assert_int_equal(t5_tokenizer_vocab_live(t), 1000);
    assert_string_equal(t5_tokenizer_kind(bytes), "bytes");
    assert_string_equal(t5_tokenizer_piece(bytes, 'A' + 3), "<0x41>");
    assert_string_equal(t5_tokenizer_piece(bytes, 259), "<extra_id_0>");
    assert_int_equal(t5_tokenizer_find(bytes, "</s>"), 1);
    assert_int_equal(t5_tokenizer_vocab_live(bytes), 384);
    assert_int_equal(t5_tokenizer_find(madlad, "<2de>"), 3);
    assert_int_equal(t5_tokenizer_find(madlad, "<2xx>"), -1);
    assert_int_equal(t5_tokenizer_vocab_live(madlad), 1280); /* 80 sentinels are all that fits */
    t5_tokenizer_close(t);
    t5_tokenizer_close(bytes);
    t5_tokenizer_close(madlad);
}

/* Claim: texts of any bytes and length are ids or an error that says why. Method: limits, broken UTF-8, NUL, 100 kB. */
static void odd_texts_are_handled(void **state)
{
    t5_tokenizer *t = open_fixture("mt5");
    int32_t ids[4], n_ids = 0, *many = NULL;
    char *text = malloc(100000);
    t5_error err = {0}, utf8_err = {0};

    (void)state;
    assert_non_null(text);
    assert_int_equal(t5_tokenizer_encode(t, "a b c d e", 9, ids, 4, &n_ids, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "allowed are 4"));
    assert_int_equal(t5_tokenizer_encode(t, "ab\xFF", 3, ids, 4, &n_ids, &utf8_err), T5_ERR_ARG);
    assert_non_null(strstr(utf8_err.text, "byte 2"));
    err = (t5_error){0};
    assert_int_equal(t5_tokenizer_encode(t, "", 0, ids, 1, &n_ids, &err), T5_OK);
    assert_true(n_ids == 1 && ids[0] == 1);
    assert_int_equal(t5_tokenizer_encode(t, "", 0, ids, 0, &n_ids, &err), T5_ERR_ARG);
    err = (t5_error){0};
    assert_int_equal(t5_tokenizer_encode_alloc(t, "a\0b", 3, IDS_MAX, &many, &n_ids, &err), T5_OK);
    assert_true(n_ids >= 3);
    free(many);
    memset(text, 'x', 100000);
    assert_int_equal(t5_tokenizer_encode_alloc(t, text, 100000, 200000, &many, &n_ids, &err), T5_OK);
    assert_true(n_ids > 1000);
    free(many);
    free(text);
    t5_tokenizer_close(t);
}

typedef struct {
    const char *name, *text; /* text NULL: a link to a good model */
} folder_file;

static const char *make_folder(const folder_file *files, size_t n_files, bool is_removed)
{
    static char dir[] = "/tmp/t5-tokenizer-XXXXXX";
    char path[256];
    if (!is_removed) {
        memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
        assert_non_null(mkdtemp(dir));
    }
    for (size_t i = 0; i < n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        if (is_removed) {
            unlink(path);
        } else if (files[i].text == NULL) {
            assert_int_equal(symlink(FIXTURES "mt5/spiece.model", path), 0);
        } else {
            FILE *f = fopen(path, "w");
            assert_non_null(f);
            fputs(files[i].text, f);
            fclose(f);
        }
    }
    if (is_removed) rmdir(dir);
    return dir;
}

/* Claim: the folder's own tokenizer is found, and what is missing or broken is named. Method: small folders. */
static void folders_are_searched(void **state)
{
    static const struct {
        folder_file files[3];
        size_t n_files;
        int32_t vocab_size;
        const char *want; /* the kind, or a part of the error */
        t5_status status;
    } cases[] = {
        {{{"spiece.model", NULL}}, 1, 1344, "sentencepiece", T5_OK},
        {{{"x.spm", NULL}}, 1, 1344, "sentencepiece", T5_OK},
        {{{"sentencepiece.bpe.model", NULL}, {"y.model", "bad"}}, 2, 1344, "sentencepiece", T5_OK},
        {{{"spiece.model", NULL}, {"z.spm", "bad"}}, 2, 1344, "sentencepiece", T5_OK},
        {{{"a.vocab", NULL}, {"tokenizer_config.json", "{\"vocab_file\": \"a.vocab\"}"}},
         2,
         1344,
         "sentencepiece",
         T5_OK},
        {{{"config.json", "{\"tokenizer_class\": \"ByT5Tokenizer\"}"}}, 1, 500, "bytes", T5_OK},
        {{{"tokenizer_config.json", "{\"tokenizer_class\": \"ByT5Tokenizer\"}"}}, 1, 384, "bytes", T5_OK},
        {{{"config.json", "{}"}}, 1, 384, "bytes", T5_OK},
        {{{"tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656}"}},
         1,
         384,
         "bytes",
         T5_OK},
        {{{"config.json", "{}"}}, 1, 1344, "no tokenizer", T5_ERR_IO},
        {{{"tokenizer_config.json", "{\"vocab_file\": \"../spiece.model\"}"}}, 1, 1344, "no tokenizer", T5_ERR_IO},
        {{{"a.spm", NULL}, {"b.model", NULL}}, 2, 1344, "several tokenizers", T5_ERR_FORMAT},
        {{{"spiece.model", "not a model"}}, 1, 1344, "spiece.model", T5_ERR_FORMAT},
        {{{"spiece.model", ""}}, 1, 1344, "empty", T5_ERR_FORMAT},
        {{{"spiece.model", NULL}}, 1, 1199, "vocab_size 1199", T5_ERR_FORMAT},
        {{{"tokenizer_config.json", "{\"tokenizer_class\": \"ByT5Tokenizer\"}"}}, 1, 100, "259", T5_ERR_FORMAT},
        {{{"tokenizer_config.json", "{"}}, 1, 384, "tokenizer_config.json", T5_ERR_FORMAT},
        {{{"tokenizer_config.json", "{\"extra_ids\": -1}"}}, 1, 384, "extra_ids", T5_ERR_FORMAT},
        {{{"tokenizer_config.json", "{\"extra_ids\": \"many\"}"}}, 1, 384, "extra_ids", T5_ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        const char *dir = make_folder(cases[i].files, cases[i].n_files, false);
        t5_tokenizer_options options = {.vocab_size = cases[i].vocab_size, .pad_id = 0, .eos_id = 1};
        t5_tokenizer *t = NULL;
        t5_error err = {0};
        t5_status status = t5_tokenizer_open(dir, &options, &t, &err);
        const char *got = status == T5_OK ? t5_tokenizer_kind(t) : err.text;
        if (status != cases[i].status || strstr(got, cases[i].want) == NULL)
            fail_msg("case %zu: status %d, \"%s\"", i, (int)status, got);
        t5_tokenizer_close(t);
        make_folder(cases[i].files, cases[i].n_files, true);
    }
}

/* Claim: extra_ids of tokenizer_config.json says how many sentinels follow. Method: 0, and 10 as some write it: 10.0.
 */
static void extra_ids_are_counted(void **state)
{
    static const folder_file none[] = {{"spiece.model", NULL}, {"tokenizer_config.json", "{\"extra_ids\": 0}"}};
    static const folder_file ten[] = {{"spiece.model", NULL}, {"tokenizer_config.json", "{\"extra_ids\": 10.0}"}};
    const folder_file *folders[] = {none, ten};
    t5_tokenizer_options options = {.vocab_size = 1344, .pad_id = 0, .eos_id = 1};

    (void)state;
    for (int32_t i = 0; i < 2; i++) {
        t5_tokenizer *t = NULL;
        t5_error err = {0};
        assert_int_equal(t5_tokenizer_open(make_folder(folders[i], 2, false), &options, &t, &err), T5_OK);
        assert_int_equal(t5_tokenizer_vocab_live(t), 1200 + 10 * i);
        assert_int_equal(t5_tokenizer_find(t, "<extra_id_9>"), i == 0 ? -1 : 1200);
        t5_tokenizer_close(t);
        make_folder(folders[i], 2, true);
    }
}

static t5_tokenizer *open_folder(const folder_file *files, size_t n_files, t5_error *err)
{
    t5_tokenizer *t = NULL;
    const t5_tokenizer_options options = {.vocab_size = 1344, .pad_id = 0, .eos_id = 1};
    *err = (t5_error){0};
    (void)t5_tokenizer_open(make_folder(files, n_files, false), &options, &t, err);
    make_folder(files, n_files, true);
    return t;
}

/* Appends the ids of a text, without eos. */
static void add_ids(const t5_tokenizer *t, const char *text, int32_t *ids, int32_t *n_ids)
{
    int32_t n = 0;
    t5_error err = {0};
    assert_int_equal(t5_tokenizer_encode(t, text, strlen(text), ids + *n_ids, IDS_MAX - *n_ids, &n, &err), T5_OK);
    *n_ids += n - 1;
}

#define HL 1300
#define TAG 1310

/* What Hugging Face does: a token ends the text before it and begins another behind it. */
static void check_added(const t5_tokenizer *t)
{
    static const char text[] = "one <hl>two<hl> <2de> three <h";
    int32_t want[IDS_MAX], got[IDS_MAX], n_want = 0, n_got = 0;
    t5_token_span spans[IDS_MAX];
    t5_error err = {0};
    add_ids(t, "one", want, &n_want);
    want[n_want++] = HL;
    add_ids(t, "two", want, &n_want);
    want[n_want++] = HL;
    want[n_want++] = TAG;
    add_ids(t, "three <h", want, &n_want);
    want[n_want++] = 1;
    assert_int_equal(t5_tokenizer_encode(t, text, sizeof text - 1, got, IDS_MAX, &n_got, &err), T5_OK);
    assert_int_equal(n_got, n_want);
    assert_memory_equal(got, want, (size_t)n_want * sizeof *want);
    assert_int_equal(t5_tokenizer_encode_spans(t, text, sizeof text - 1, spans, n_got, &err), T5_OK);
    for (int32_t i = 0; i < n_got; i++)
        if (got[i] == HL) assert_memory_equal(text + spans[i].begin, "<hl>", spans[i].end - spans[i].begin);
    assert_int_equal(spans[n_got - 2].end, sizeof text - 1);
    expect_text(t, got, n_got, "one<hl> two<hl> three <h"); /* the tag is special */
    assert_string_equal(t5_tokenizer_piece(t, HL), "<hl>");
    assert_int_equal(t5_tokenizer_find(t, "<2de>"), TAG);
    assert_string_equal(t5_tokenizer_piece(t, 1200), "<extra_id_99>");
    assert_null(t5_tokenizer_piece(t, HL + 1));
    assert_int_equal(t5_tokenizer_vocab_live(t), TAG + 1);
}

/* Claim: tokens that a folder adds to its model are found in texts and come back, whichever file has them; names of
 * special tokens stay text, and what has no row in the embedding is left out. */
static void added_tokens_are_tokens(void **state)
{
    static const folder_file decoder[] = {
        {"spiece.model", NULL},
        {"tokenizer_config.json",
         "{\"added_tokens_decoder\": {\"0\": {\"content\": \"<pad>\", \"special\": true}, \"1300\": {\"content\": "
         "\"<hl>\"},"
         "\"1310\": {\"content\": \"<2de>\", \"special\": true}, \"1299\": {\"content\": \"<extra_id_0>\"},"
         "\"1344\": {\"content\": \"one\"}}}"}};
    static const folder_file map[] = {
        {"spiece.model", NULL},
        {"added_tokens.json", "{\"<hl>\": 1300, \"<2de>\": 1310, \"<extra_id_0>\": 1299, \"one\": 5000}"},
        {"special_tokens_map.json", "{\"additional_special_tokens\": [\"x\", {\"content\": \"<2de>\"}]}"}};
    static const folder_file list[] = {
        {"spiece.model", NULL},
        {"tokenizer.json",
         "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 1300, \"content\": \"<hl>\", \"special\": false},"
         "{\"id\": 1310, \"content\": \"<2de>\", \"special\": true}], \"model\": {\"type\": \"Unigram\", \"vocab\": "
         "[["}};
    const folder_file *folders[] = {decoder, map, list};
    const size_t n_files[] = {T5_COUNT(decoder), T5_COUNT(map), T5_COUNT(list)};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(folders); i++) {
        t5_error err;
        t5_tokenizer *t = open_folder(folders[i], n_files[i], &err);
        if (t == NULL) fail_msg("%s", err.text);
        check_added(t);
        t5_tokenizer_close(t);
    }
}

/* Claim: of tokens that begin alike the longest is taken, and one that strips takes the white space beside it. */
static void added_tokens_are_cut_out(void **state)
{
    static const folder_file files[] = {{"spiece.model", NULL},
                                        {"tokenizer_config.json",
                                         "{\"extra_ids\": 0, \"added_tokens_decoder\": {\"1200\": {\"content\": "
                                         "\"<a\"}, \"1202\": {\"content\": \"<a>\"},"
                                         "\"1203\": {\"content\": \"LR\", \"lstrip\": true, \"rstrip\": true}}}"}};
    int32_t ids[16], n_ids = 0;
    t5_token_span spans[16];
    t5_error err;
    (void)state;
    t5_tokenizer *t = open_folder(files, 2, &err);
    if (t == NULL) fail_msg("%s", err.text);
    assert_int_equal(t5_tokenizer_encode(t, "<a><a \xC2\xA0LR \n<a", 14, ids, 16, &n_ids, &err), T5_OK);
    static const int32_t want[] = {1202, 1200, 1203, 1200, 1};
    assert_int_equal(n_ids, T5_COUNT(want));
    assert_memory_equal(ids, want, sizeof want);
    assert_int_equal(t5_tokenizer_encode_spans(t, "<a><a \xC2\xA0LR \n<a", 14, spans, n_ids, &err), T5_OK);
    assert_true(spans[2].begin == 5 && spans[2].end == 12 && spans[3].begin == 12 && spans[3].end == 14);
    t5_tokenizer_close(t);
}

/* Claim: lists of added tokens that make no sense are named. */
static void bad_added_tokens_are_named(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } cases[] = {
        {"added_tokens.json", "{\"<a>\": 1300, \"<b>\": 1300}",
         "added_tokens.json: the added token 1300 is there twice"},
        {"added_tokens.json", "[", "added_tokens.json: not valid JSON at line 1"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"1300\": 7}}",
         "tokenizer_config.json: the added token 1300 must be a text of at most 256 bytes"},
        {"tokenizer_config.json",
         "{\"added_tokens_decoder\": {\"1300\": {\"content\": \"<a>\"}, \"1301\": {\"content\": \"<a>\"}}}",
         "tokenizer_config.json: the added token 130"},
        {"tokenizer.json", "{\"added_tokens\": [{\"id\": 1300, ", "tokenizer.json: added_tokens: "},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        const folder_file files[] = {{"spiece.model", NULL}, {cases[i].name, cases[i].text}};
        t5_error err;
        assert_null(open_folder(files, 2, &err));
        if (strstr(err.text, cases[i].want) == NULL) fail_msg("case %zu: \"%s\"", i, err.text);
    }
}

/* Claim: an added token that is a piece already, or no text, is passed over: the piece counts, as in Hugging Face.
 * Method: such tokens beside a good one. */
static void needless_added_tokens_are_left_out(void **state)
{
    static const folder_file files[] = {
        {"spiece.model", NULL},
        {"added_tokens.json", "{\"\": 1299, \"\xE2\x96\x81the\": 1300, \"<hl>\": 1301, \"\xE2\x96\x81\": 1305}"}};
    int32_t ids[IDS_MAX], n_ids = 0;
    t5_error err;
    (void)state;
    t5_tokenizer *t = open_folder(files, 2, &err);
    if (t == NULL) fail_msg("%s", err.text);
    add_ids(t, "the<hl>", ids, &n_ids);
    assert_int_equal(ids[n_ids - 1], 1301);
    for (int32_t i = 0; i < n_ids - 1; i++)
        assert_true(ids[i] < 1200);
    assert_null(t5_tokenizer_piece(t, 1300));
    assert_int_equal(t5_tokenizer_vocab_live(t), 1302);
    t5_tokenizer_close(t);
}

/* Claim: spans of another number of tokens than a text has are an error, also with added tokens. */
static void wrong_counts_are_errors(void **state)
{
    static const folder_file files[] = {{"spiece.model", NULL}, {"added_tokens.json", "{\"<hl>\": 1300}"}};
    static const char text[] = "one <hl> two";
    int32_t ids[IDS_MAX], n_ids = 0;
    t5_token_span spans[IDS_MAX];
    t5_error err;
    (void)state;
    t5_tokenizer *t = open_folder(files, 2, &err);
    if (t == NULL) fail_msg("%s", err.text);
    add_ids(t, text, ids, &n_ids);
    for (int32_t n = 1; n < n_ids + 3; n++) {
        err = (t5_error){0};
        assert_int_equal(t5_tokenizer_encode_spans(t, text, sizeof text - 1, spans, n, &err),
                         n == n_ids + 1 ? T5_OK : T5_ERR_ARG);
    }
    t5_tokenizer_close(t);
}

static char *read_text(const char *path)
{
    enum { BYTES_MAX = 4 << 20 };
    char *text = calloc(1, BYTES_MAX);
    FILE *f = fopen(path, "r");
    assert_non_null(text);
    assert_non_null(f);
    assert_true(fread(text, 1, BYTES_MAX - 1, f) > 0);
    fclose(f);
    return text;
}

/* Claim: a folder whose only tokenizer is tokenizer.json, as transformers 5 saves it, gives the ids of the
 * SentencePiece model that it was made from. Method: the bundled model has both; texts with white space, signs that are
 * mapped, and characters without a piece. */
static void json_alone_is_enough(void **state)
{
    static const char *const texts[] = {"",
                                        "Where is the station?",
                                        "  two  spaces\tand \xE3\x80\x80 more ",
                                        "\xEF\xAC\x81ne \xE2\x91\xA0 \xC2\xBD e\xCC\x81 \xEF\xBD\xB1",
                                        "\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x99\x82 \xE2\x96\x81 <0x41>",
                                        "a </s> <extra_id_0> b"};
    static const char dir[] = T5_SOURCE_DIR "/models/t5-tatoeba";
    char *json = read_text(T5_SOURCE_DIR "/models/t5-tatoeba/tokenizer.json");
    const folder_file files[] = {{"tokenizer.json", json}};
    const t5_tokenizer_options options = {.vocab_size = 8192, .pad_id = 0, .eos_id = 1};
    t5_tokenizer *t = NULL, *from_json = NULL;
    t5_error err = {0};
    (void)state;
    if (t5_tokenizer_open(dir, &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    if (t5_tokenizer_open(make_folder(files, 1, false), &options, &from_json, &err) != T5_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < T5_COUNT(texts); i++) {
        int32_t want[256], got[256], n_want = 0, n_got = 0;
        const size_t n = strlen(texts[i]);
        assert_int_equal(t5_tokenizer_encode(t, texts[i], n, want, 256, &n_want, &err), T5_OK);
        assert_int_equal(t5_tokenizer_encode(from_json, texts[i], n, got, 256, &n_got, &err), T5_OK);
        assert_int_equal(n_got, n_want);
        assert_memory_equal(got, want, (size_t)n_want * sizeof *want);
        char *decoded = decode(t, want, n_want);
        expect_text(from_json, got, n_got, decoded);
        free(decoded);
    }
    assert_int_equal(t5_tokenizer_vocab_live(from_json), t5_tokenizer_vocab_live(t));
    t5_tokenizer_close(t);
    t5_tokenizer_close(from_json);
    make_folder(files, 1, true);
    free(json);
}

#define METASPACE "{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": "
#define VOCAB "\"vocab\": [[\"<unk>\", 0], [\"\xE2\x96\x81\", -2.0], [\"a\", -3.5]]"
#define UNIGRAM "\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, " VOCAB "}"
#define STRIP "{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}"
#define REPLACE(kind, pattern, content) \
    "{\"type\": \"Replace\", \"pattern\": {\"" kind "\": \"" pattern "\"}, \"content\": \"" content "\"}"
#define NORMALIZERS(list) "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [" list "]}, "

/* Claim: the chain's way to treat white space is kept. Method: " a  a" with and without a prefix, spaces kept or not.
 */
static void json_says_how_spaces_are(void **state)
{
    static const struct {
        const char *json;
        int32_t ids[8], n_ids; /* 1 is a space, 2 is "a" */
    } cases[] = {
        {"{\"pre_tokenizer\": " METASPACE "\"always\"}, " UNIGRAM "}", {1, 1, 2, 1, 1, 2, 9}, 7},
        {"{\"pre_tokenizer\": " METASPACE "\"never\"}, " UNIGRAM "}", {1, 2, 1, 1, 2, 9}, 6},
        {NORMALIZERS("{\"type\": \"Precompiled\", \"precompiled_charsmap\": null}, " STRIP ", " REPLACE(
             "Regex", " {2,}", "\xE2\x96\x81")) "\"pre_tokenizer\": " METASPACE "\"first\"}, " UNIGRAM "}",
         {1, 2, 1, 2, 9},
         5},
        {NORMALIZERS(REPLACE("Regex", "\\\\A +| +\\\\z", "") ", " REPLACE("Regex", " {2,}", " ") ", " REPLACE(
             "String", " ", "\xE2\x96\x81") ", " REPLACE("Regex", "\\\\A\xE2\x96\x81",
                                                         "\xE2\x96\x81\xE2\x96\x81")) "\"pre_tokenizer\": " METASPACE
                                                                                      "\"first\"}, " UNIGRAM "}",
         {1, 2, 1, 2, 9},
         5},
        {"{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, " METASPACE
         "\"always\"}]}, " UNIGRAM "}",
         {1, 2, 1, 2, 9},
         5},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        const folder_file files[] = {{"tokenizer.json", cases[i].json}};
        const t5_tokenizer_options options = {.vocab_size = 10, .pad_id = 8, .eos_id = 9};
        int32_t ids[16], n_ids = 0;
        t5_tokenizer *t = NULL;
        t5_error err = {0};
        if (t5_tokenizer_open(make_folder(files, 1, false), &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
        make_folder(files, 1, true);
        assert_int_equal(t5_tokenizer_encode(t, " a  a", 5, ids, 16, &n_ids, &err), T5_OK);
        assert_int_equal(n_ids, cases[i].n_ids);
        assert_memory_equal(ids, cases[i].ids, (size_t)n_ids * sizeof *ids);
        t5_tokenizer_close(t);
    }
}

/* Claim: a piece of tokenizer.json that is an added token too is cut out of a text, as Hugging Face does; a special one
 * is left out of a decoded text, and eos, unk and a token that is not the piece of its id are text.
 * Method: the ids that Hugging Face's tokenizers gives for this file. */
static void json_pieces_can_be_added(void **state)
{
    static const folder_file files[] = {
        {"tokenizer.json",
         "{\"added_tokens\": [{\"id\": 3, \"content\": \"<2de>\", \"special\": false},"
         "{\"id\": 4, \"content\": \"<2fr>\", \"special\": true}, {\"id\": 5, \"content\": \"[end]\", \"special\": "
         "true},"
         "{\"id\": 0, \"content\": \"?\", \"special\": true}, {\"id\": 2, \"content\": \"bb\", \"special\": false},"
         "{\"id\": 6, \"content\": \"<s>\", \"special\": false}, {\"id\": 7, \"content\": \"<hl>\", \"special\": "
         "false}],"
         "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, " METASPACE
         "\"always\"}]}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"\xE2\x96\x81\", "
         "-2],"
         "[\"a\", -3], [\"<2de>\", -90], [\"<2fr>\", -90], [\"[end]\", 0], [\"<s>\", 0]]}}"}};
    static const struct {
        const char *text;
        int32_t ids[8], n_ids;
        const char *decoded;
    } cases[] = {
        {"a <2de>", {1, 2, 3, 5}, 4, "a<2de>"},
        {"a<2de>a", {1, 2, 3, 1, 2, 5}, 6, "a<2de> a"},
        {"<2fr> a", {4, 1, 2, 5}, 4, "a"},
        {"a<hl><2fr>", {1, 2, 7, 4, 5}, 5, "a<hl>"},
        {"?", {1, 0, 5}, 3, ""},
        {"[end]", {1, 0, 5}, 3, ""},
        {"<s>", {1, 0, 5}, 3, ""},
        {"bb", {1, 0, 5}, 3, ""},
    };
    const t5_tokenizer_options options = {.vocab_size = 12, .pad_id = 9, .eos_id = 5};
    t5_tokenizer *t = NULL;
    t5_error err = {0};
    (void)state;
    if (t5_tokenizer_open(make_folder(files, 1, false), &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    make_folder(files, 1, true);
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        int32_t ids[16], n_ids = 0;
        const size_t n = strlen(cases[i].text);
        assert_int_equal(t5_tokenizer_encode(t, cases[i].text, n, ids, 16, &n_ids, &err), T5_OK);
        if (n_ids != cases[i].n_ids || memcmp(ids, cases[i].ids, (size_t)n_ids * sizeof *ids) != 0)
            fail_msg("\"%s\": %" PRId32 " ids: %" PRId32 " %" PRId32 " %" PRId32, cases[i].text, n_ids, ids[0], ids[1],
                     ids[2]);
        expect_text(t, ids, n_ids, cases[i].decoded);
    }
    t5_tokenizer_close(t);
}

/* Claim: a tokenizer.json that is no SentencePiece model is refused, and says why. */
static void other_json_is_named(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"{", "tokenizer.json: not valid JSON at line 1"},
        {"{\"model\": {\"type\": \"BPE\"}}", "model.type is BPE, allowed is Unigram"},
        {"{" UNIGRAM "}", "pre_tokenizer has no Metaspace"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, " UNIGRAM "}",
         "the step ByteLevel is none of a SentencePiece"},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\"}, " UNIGRAM "}",
         "must have the replacement"},
        {"{\"pre_tokenizer\": " METASPACE "\"first\"}, \"model\": {\"type\": \"Unigram\", " VOCAB "}}",
         "unknown pieces"},
        {"{\"pre_tokenizer\": " METASPACE "\"first\"}, \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}",
         "piece 0 is not a text and a score"},
        {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"A*\"}, \"pre_tokenizer\": " METASPACE
         "\"first\"}, " UNIGRAM "}",
         "not base64"},
        {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}, "
         "\"pre_tokenizer\": " METASPACE "\"first\"}, " UNIGRAM "}",
         "tokenizer.json: "},
        {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": 7}, \"pre_tokenizer\": " METASPACE
         "\"first\"}, " UNIGRAM "}",
         "tokenizer.json: precompiled_charsmap must be a text or null"},
        {NORMALIZERS(REPLACE("String", "station", "bahnhof")) "\"pre_tokenizer\": " METASPACE "\"first\"}, " UNIGRAM
                                                              "}",
         "the step Replace is none of a SentencePiece"},
        {NORMALIZERS(REPLACE("String", " {2,}", " ")) "\"pre_tokenizer\": " METASPACE "\"first\"}, " UNIGRAM "}",
         "the step Replace is none of a SentencePiece"},
        {NORMALIZERS(
             "{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}") "\"pre_tokenizer\": " METASPACE
                                                                                    "\"first\"}, " UNIGRAM "}",
         "the step Strip is none of a SentencePiece"},
        {NORMALIZERS(STRIP) "\"pre_tokenizer\": " METASPACE "\"first\"}, " UNIGRAM "}",
         "spaces are taken away at the ends of a text or within it alone; SentencePiece does both or none"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        const folder_file files[] = {{"tokenizer.json", cases[i].json}};
        t5_error err;
        assert_null(open_folder(files, 1, &err));
        if (err.status != T5_ERR_FORMAT || strstr(err.text, cases[i].want) == NULL)
            fail_msg("case %zu: \"%s\"", i, err.text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_match_reference),      cmocka_unit_test(typed_names_are_text),
        cmocka_unit_test(special_ids_are_dropped),  cmocka_unit_test(broken_bytes_are_repaired),
        cmocka_unit_test(pieces_have_names),        cmocka_unit_test(odd_texts_are_handled),
        cmocka_unit_test(folders_are_searched),     cmocka_unit_test(extra_ids_are_counted),
        cmocka_unit_test(tokens_have_places),       cmocka_unit_test(added_tokens_are_tokens),
        cmocka_unit_test(added_tokens_are_cut_out), cmocka_unit_test(bad_added_tokens_are_named),
        cmocka_unit_test(json_alone_is_enough),     cmocka_unit_test(json_says_how_spaces_are),
        cmocka_unit_test(other_json_is_named),      cmocka_unit_test(needless_added_tokens_are_left_out),
        cmocka_unit_test(wrong_counts_are_errors),  cmocka_unit_test(json_pieces_can_be_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
