/* tests/test_shortlist_file.c: shortlists made from text, and the file that keeps them. */
#include "translate/shortlist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static t5_tokenizer *open_tokenizer(const char *fixture, int32_t vocab_size, int32_t pad_id, int32_t eos_id)
{
    char dir[512];
    t5_error err = {0};
    t5_tokenizer *t = NULL;
    const t5_tokenizer_options options = {.vocab_size = vocab_size, .pad_id = pad_id, .eos_id = eos_id};
    snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, fixture);
    if (t5_tokenizer_open(dir, &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    return t;
}

typedef struct {
    t5_shortlist_vocab vocab;
    char path[64];
} stage;

static int set_up(void **state)
{
    stage *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->vocab = t5_shortlist_vocab_of(open_tokenizer("t5-v1.0", 1024, 0, 1), 1024, 1);
    strcpy(s->path, "/tmp/t5-shortlist-XXXXXX");
    const int fd = mkstemp(s->path);
    assert_true(fd >= 0);
    close(fd);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    stage *s = *state;
    unlink(s->path);
    t5_tokenizer_close((t5_tokenizer *)(uintptr_t)s->vocab.tokenizer);
    free(s);
    return 0;
}

static bool has(const int32_t *ids, int32_t n, int32_t id)
{
    for (int32_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static int32_t make(const stage *s, const char *const *lines, size_t n_lines, int64_t count_min, int32_t **out)
{
    t5_error err = {0};
    t5_shortlist_maker m;
    int32_t n = 0;
    assert_int_equal(t5_shortlist_maker_init(&m, &s->vocab, &err), T5_OK);
    for (size_t i = 0; i < n_lines; i++)
        assert_int_equal(t5_shortlist_maker_add(&m, lines[i], strlen(lines[i]), &err), T5_OK);
    assert_int_equal(t5_shortlist_maker_list(&m, count_min, out, &n, &err), T5_OK);
    t5_shortlist_maker_deinit(&m);
    return n;
}

/* Whether every token of the text is on the list. */
static bool can_say(const stage *s, const int32_t *list, int32_t n_list, const char *text)
{
    t5_error err = {0};
    int32_t ids[64], n = 0;
    bool can = true;
    assert_int_equal(t5_tokenizer_encode(s->vocab.tokenizer, text, strlen(text), ids, 64, &n, &err), T5_OK);
    for (int32_t i = 0; i < n; i++)
        can = can && has(list, n_list, ids[i]);
    return can;
}

/* Claim: a list has what the text has, and what spells and counts; not the rest; count_min leaves out what is rare. */
static void list_is_what_the_text_needs(void **state)
{
    const stage *s = *state;
    static const char *const lines[] = {"The house is small.", "The house is small.", "Das Wetter ist heute gut."};
    int32_t *all = NULL, *twice = NULL;
    const int32_t n_all = make(s, lines, 3, 1, &all), n_twice = make(s, lines, 3, 2, &twice);
    assert_true(can_say(s, all, n_all, lines[0]) && can_say(s, all, n_all, lines[2]));
    assert_true(can_say(s, twice, n_twice, lines[0]));
    assert_true(n_twice < n_all && n_all < s->vocab.n_words / 2);
    for (int32_t i = 0; i < n_all; i++)
        assert_true(all[i] > (i > 0 ? all[i - 1] : -1) && all[i] < s->vocab.n_words);
    assert_true(has(all, n_all, 1));
    for (int32_t id = 0; id < s->vocab.n_words; id++) {
        const char *piece = t5_tokenizer_piece(s->vocab.tokenizer, id);
        if (piece == NULL) continue;
        const bool is_ascii = piece[0] != '\0' && piece[1] == '\0' && (unsigned char)piece[0] < 0x80;
        if (is_ascii) assert_true(has(twice, n_twice, id));
        if (strncmp(piece, "<extra_id", 9) == 0) assert_false(has(all, n_all, id));
    }
    free(all);
    free(twice);
}

static void nothing_can_be_left_out_of_bytes(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_shortlist_maker m;
    t5_tokenizer *bytes = open_tokenizer("byt5", 384, 0, 1);
    const t5_shortlist_vocab vocab = t5_shortlist_vocab_of(bytes, 384, 1);
    assert_int_equal(t5_shortlist_maker_init(&m, &vocab, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "byte"));
    t5_shortlist_maker_deinit(&m);
    t5_tokenizer_close(bytes);
}

static void file_keeps_the_list(void **state)
{
    const stage *s = *state;
    t5_error err = {0};
    int32_t *read = NULL, n = 0;
    int32_t ids[200];
    for (int32_t i = 0; i < 200; i++)
        ids[i] = 1 + 5 * i;
    assert_int_equal(t5_shortlist_write(s->path, &s->vocab, ids, 200, &err), T5_OK);
    assert_int_equal(t5_shortlist_read(s->path, &s->vocab, &read, &n, &err), T5_OK);
    assert_int_equal(n, 200);
    assert_memory_equal(read, ids, sizeof ids);
    free(read);
    t5_tokenizer *other = open_tokenizer("mt5", 1344, 0, 1);
    const t5_shortlist_vocab vocab = t5_shortlist_vocab_of(other, 1344, 1);
    assert_int_equal(t5_shortlist_read(s->path, &vocab, &read, &n, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "another vocabulary"));
    t5_tokenizer_close(other);
}

static void expect_refused(const stage *s, const char *text, const char *named)
{
    t5_error err = {0};
    int32_t *ids = NULL, n = 0;
    FILE *file = fopen(s->path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(t5_shortlist_read(s->path, &s->vocab, &ids, &n, &err), T5_ERR_FORMAT);
    if (strstr(err.text, named) == NULL) fail_msg("%s: not in \"%s\"", named, err.text);
    assert_null(ids);
}

/* Claim: a file that is no list is refused, and the error names file and field. */
static void wrong_files_are_refused(void **state)
{
    const stage *s = *state;
    t5_error err = {0};
    char text[256], sum[17] = "";
    FILE *file = NULL;
    assert_int_equal(t5_shortlist_write(s->path, &s->vocab, (const int32_t[]){1}, 1, &err), T5_OK);
    file = fopen(s->path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "{\"tokenizer\": \"%16[0-9a-f]", sum), 1);
    fclose(file);
    expect_refused(s, "", s->path);
    expect_refused(s, "[1, 2]", s->path);
    expect_refused(s, "{\"ids\": [1]}", "tokenizer: must be");
    expect_refused(s, "{\"tokenizer\": 7, \"ids\": [1]}", "tokenizer: must be");
    expect_refused(s, "{\"tokenizer\": \"0123456789abcdef\", \"ids\": [1]}", "another vocabulary");
    static const char *const ids[][2] = {
        {"", "ids: the end of sequence"},
        {"3, 4", "ids: the end of sequence"},
        {"1, 1", "ids[1]: 1"},
        {"5, 1", "ids[1]: 1"},
        {"-1, 1", "ids[0]: -1"},
        {"1, 99999999999", "ids[1]"},
        {"1, 1.5", "ids[1]: 1.5"},
        {"1, \"2\"", "ids[1]: \"2\""},
        {"1, null", "ids[1]: null"},
        {"1, 1024", "ids[1]: 1024"},
        {"1, [2]", "ids[1]"},
    };
    for (size_t i = 0; i < T5_COUNT(ids); i++) {
        snprintf(text, sizeof text, "{\"tokenizer\": \"%s\", \"ids\": [%s]}", sum, ids[i][0]);
        expect_refused(s, text, ids[i][1]);
    }
    int32_t few[T5_SHORTLIST_WORDS_MIN], *read = NULL, n_read = 0;
    for (int32_t i = 0; i < T5_SHORTLIST_WORDS_MIN; i++)
        few[i] = i;
    assert_int_equal(t5_shortlist_write(s->path, &s->vocab, few, T5_SHORTLIST_WORDS_MIN, &err), T5_OK);
    assert_int_equal(t5_shortlist_read(s->path, &s->vocab, &read, &n_read, &err), T5_OK);
    free(read);
    assert_int_equal(t5_shortlist_write(s->path, &s->vocab, few, T5_SHORTLIST_WORDS_MIN - 1, &err), T5_OK);
    assert_int_equal(t5_shortlist_read(s->path, &s->vocab, &read, &n_read, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "ids: 63 words, at least 64"));
    t5_error_clear(&err);
    snprintf(text, sizeof text, "{\"tokenizer\": \"%s\", \"ids\": {\"1\": 2}}", sum);
    expect_refused(s, text, "ids: must be an array");
    snprintf(text, sizeof text, "{\"tokenizer\": \"%s\"}", sum);
    expect_refused(s, text, "ids: must be an array");
    snprintf(text, sizeof text, "{\"tokenizer\": \"%s\", \"ids\": [1], \"words\": []}", sum);
    expect_refused(s, text, "words: no such key");
    assert_int_equal(t5_shortlist_write("/nowhere/shortlist.de.json", &s->vocab, (const int32_t[]){1}, 1, &err),
                     T5_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(list_is_what_the_text_needs, set_up, tear_down),
        cmocka_unit_test(nothing_can_be_left_out_of_bytes),
        cmocka_unit_test_setup_teardown(file_keeps_the_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_files_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
