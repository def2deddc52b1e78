/* tests/test_kept.c: what a text must keep: lines, white space, sentences, placeholders. Random texts of many scripts
 * go through planner, second round and joiner. The model is ByT5's fixture, whose bytes are any text. In the first test
 * the linker sends the engine's submissions to a stand-in, which puts each sentence into brackets, and at times loses
 * its placeholders; so the text without brackets must be the source. In the second one the model itself answers, with
 * random bytes. */
#include "base/utf8.h"
#include "base/workers.h"
#include "tests/waiter.h"
#include "text/placeholders.h"
#include "text/sentences.h"
#include "translate/translator.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE_DIR T5_SOURCE_DIR "/tests/fixtures/byt5"
#define PROMPT "en>ja: "
#define TEXTS 2000
#define MODEL_TEXTS 80 /* a model takes longer */
#define TEXT_BYTES_MAX 8192
#define LOST "[?]"

static t5_translator *translator;
static t5_workers *device; /* NULL: the model itself answers */
static char model_dir[] = "/tmp/t5_kept_XXXXXX";

/* ---- the folder: the fixture, and pairs ---- */

static const char *const files[] = {"config.json", "generation_config.json", "pytorch_model.bin"};

static void path_in(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", model_dir, name);
}

static int open_folder(void **state)
{
    char from[512], to[256];
    t5_error err = {0};
    t5_translator_options options;
    (void)state;
    assert_non_null(mkdtemp(model_dir));
    for (size_t i = 0; i < T5_COUNT(files); i++) {
        snprintf(from, sizeof from, "%s/%s", FIXTURE_DIR, files[i]);
        path_in(to, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    path_in(to, "t5serve.json");
    FILE *profile = fopen(to, "w");
    assert_non_null(profile);
    fputs("{\"template\": \"{source}>{target}: \", \"pairs\": [[\"en\", \"ja\"]]}", profile);
    fclose(profile);
    t5_translator_options_init(&options);
    options.model_dir = model_dir;
    options.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    options.sentence_tokens_max = 96; /* bytes: many sentences are cut */
    if (t5_translator_open(&options, &translator, &err) != T5_OK) fail_msg("%s", err.text);
    return 0;
}

static int close_folder(void **state)
{
    char path[256];
    (void)state;
    t5_translator_close(translator);
    for (size_t i = 0; i < T5_COUNT(files); i++) {
        path_in(path, files[i]);
        unlink(path);
    }
    path_in(path, "t5serve.json");
    unlink(path);
    return rmdir(model_dir);
}

/* ---- the stand-in ---- */

typedef struct {
    t5_work work;
    t5_sequence *seq;
} finish_job;

static atomic_int n_lost;

static bool loses(const char *sentence, size_t n_bytes)
{
    t5_placeholder first;
    return sentence[n_bytes / 2] % 2 == 0 && t5_placeholder_next(sentence, n_bytes, 0, &first);
}

static void answer(t5_sequence *seq)
{
    t5_error err = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    enum { IDS_MAX = 256, N_PROMPT = sizeof PROMPT - 1 };
    char said[IDS_MAX];
    const t5_tokenizer *tokenizer = t5_translator_tokenizer(translator);
    assert_int_equal(t5_tokenizer_decode(tokenizer, seq->input_ids, seq->n_input_ids, &text, &n_bytes, &err), T5_OK);
    assert_true(n_bytes > N_PROMPT && n_bytes - N_PROMPT + 3 < IDS_MAX && memcmp(text, PROMPT, N_PROMPT) == 0);
    const bool is_lost = loses(text + N_PROMPT, n_bytes - N_PROMPT);
    atomic_fetch_add(&n_lost, is_lost);
    const size_t n_said =
        (size_t)(is_lost ? snprintf(said, IDS_MAX, LOST) : snprintf(said, IDS_MAX, "[%s]", text + N_PROMPT));
    seq->outputs = calloc(1, sizeof *seq->outputs + IDS_MAX * sizeof(int32_t));
    assert_non_null(seq->outputs);
    seq->outputs[0].ids = (int32_t *)(seq->outputs + 1);
    seq->n_outputs = 1;
    assert_int_equal(
        t5_tokenizer_encode(tokenizer, said, n_said, seq->outputs[0].ids, IDS_MAX, &seq->outputs[0].n_ids, &err),
        T5_OK);
    free(text);
}

static void finish(void *ctx)
{
    finish_job *job = ctx;
    t5_sequence *seq = job->seq;
    free(job);
    answer(seq);
    seq->on_done(seq, seq->ctx);
}

t5_status __wrap_t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err);
t5_status __real_t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err);

t5_status __wrap_t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    if (device == NULL) return __real_t5_engine_submit_all(e, seqs, n_seqs, err);
    for (int32_t i = 0; i < n_seqs; i++) {
        finish_job *job = calloc(1, sizeof *job);
        assert_non_null(job);
        *job = (finish_job){.work = {.run = finish, .ctx = job}, .seq = seqs[i]};
        t5_workers_push(device, &job->work, false);
    }
    return T5_OK;
}

/* ---- texts ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

typedef struct {
    char bytes[TEXT_BYTES_MAX];
    size_t n_bytes;
    int n_placeholders;
} random_text;

static void put(random_text *t, const char *part)
{
    const size_t n = strlen(part);
    assert_true(t->n_bytes + n < TEXT_BYTES_MAX);
    memcpy(t->bytes + t->n_bytes, part, n + 1);
    t->n_bytes += n;
}

static const char *const words[] = {"Hello",      "the",
                                    "cat",        "is",
                                    "No",         "Dr.",
                                    "e.g.",       "3",
                                    "42",         "U.S.",
                                    "Käse",       "für",
                                    "Größe",      "naïve",
                                    "Привет",     "мир",
                                    "как",        "Ελλάδα",
                                    "你好",       "世界很大",
                                    "こんにちは", "世界",
                                    "안녕하세요", "مرحبا",
                                    "بالعالم",    "नमस्ते",
                                    "สวัสดีครับ",    "გამარჯობა",
                                    "שלום",       "e\xCC\x81t\xC3\xA9",
                                    "🙂",       "👨‍👩‍👧",
                                    "🇩🇪",         "(now)",
                                    "\"quoted\"", "-",
                                    "*",          "50%off",
                                    "$5",         "and/or"};
static const char *const marks[] = {". ", "! ", "? ", "... ", "。", "！", ", ", ": ", "; ", "。」", "؟ ", "। "};
static const char *const gaps[] = {" ",    " ",      " ",    "  ",           "\t",       "\n",
                                   "\r\n", "\n\n",   "\r",   "\xE2\x80\xA8", "\xC2\xA0", "\xE3\x80\x80",
                                   " \n ", "\t\r\n", "\n- ", "\n\n\n  * ",   "\xC2\x85", "\x0C"};
/* Each has a number, so that it is told from all others. */
static const char *const placeholders[] = {"%%%d$s",           "{n%d}",
                                           "{{ n%d }}",        "${n%d}",
                                           "<x id=\"%d\"/>",   "@user%d",
                                           "#tag%d",           "%%(n%d)s",
                                           "</g%d>",           "https://example.org/%d?a=b",
                                           "me%d@example.org", "&#%d;",
                                           "/usr/lib/%d",      "C:\\x\\%d",
                                           ":smile%d:",        "{n%d, plural, one {# a} other {b}}"};
#define PICK(array) array[next_random(seed) % T5_COUNT(array)]

static void fill(random_text *t, uint32_t *seed)
{
    *t = (random_text){0};
    for (uint32_t n = next_random(seed) % 40; n > 0; n--) {
        char part[64];
        const uint32_t kind = next_random(seed) % 32;
        if (kind < 18) put(t, PICK(words));
        if (kind < 16) put(t, PICK(gaps));
        if (kind >= 18 && kind < 25) put(t, PICK(marks));
        if (kind >= 25 && kind < 31) {
            const char *format = PICK(placeholders);
            put(t, t->n_bytes == 0 || next_random(seed) % 8 > 0 ? " " : "\n");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(part, sizeof part, format, 1000 + t->n_placeholders++);
#pragma GCC diagnostic pop
            put(t, part);
            put(t, PICK(gaps));
        }
        if (kind == 31)
            for (uint32_t k = next_random(seed) % 100; k > 0; k--)
                put(t, kind % 2 == 0 ? "q" : "长");
    }
}

/* ---- requests ---- */

static t5_translation *translate(const random_text *texts, int32_t n_texts)
{
    t5_error err = {0};
    t5_translation *tr = NULL;
    waiter w = WAITER_INIT;
    t5_text *list = calloc((size_t)n_texts, sizeof *list);
    assert_non_null(list);
    for (int32_t i = 0; i < n_texts; i++)
        list[i] = (t5_text){.text = texts[i].bytes, .n_bytes = texts[i].n_bytes, .source = "en", .target = "ja"};
    t5_translation_request r = {.texts = list,
                                .n_texts = n_texts,
                                .decoding = t5_translator_profile(translator)->defaults,
                                .has_max_new_tokens = true,
                                .on_done = waiter_done,
                                .ctx = &w};
    r.decoding.max_new_tokens = 12;
    if (t5_translation_start(translator, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    waiter_wait(&w);
    if (t5_translation_finish(tr, &err) != T5_OK) fail_msg("%s", err.text);
    free(list);
    return tr;
}

static size_t count_sentences(const random_text *text)
{
    size_t n = 0;
    t5_error err = {0};
    t5_sentences s = {0};
    assert_int_equal(t5_sentences_split(text->bytes, text->n_bytes, "en", T5_SPLIT_LINES, &s, &err), T5_OK);
    for (size_t i = 0; i < s.n_spans; i++)
        n += s.spans[i].is_text;
    t5_sentences_deinit(&s);
    return n;
}

/* Removes the brackets of the stand-in; returns how many opened. */
static size_t remove_brackets(const t5_translated *from, char *out)
{
    size_t n_open = 0, n = 0;
    for (size_t i = 0; i < from->n_bytes; i++) {
        n_open += from->text[i] == '[';
        if (from->text[i] != '[' && from->text[i] != ']') out[n++] = from->text[i];
    }
    out[n] = '\0';
    return n_open;
}

/* Claim: nothing of a text is lost, doubled or moved on its way through planner, second round and joiner, and no
 * sentence is left out. Method: 2 000 random texts and a stand-in for the model; see above. */
static void nothing_is_lost(void **state)
{
    enum { BATCH = 50 };
    static random_text texts[BATCH];
    static char back[TEXT_BYTES_MAX];
    uint32_t number = 20260103, *seed = &number;
    size_t n_sentences = 0, n_brackets = 0, n_placeholders = 0;
    t5_error err = {0};
    (void)state;
    assert_int_equal(t5_workers_create(1, &device, &err), T5_OK);
    for (int32_t done = 0; done < TEXTS; done += BATCH) {
        for (int32_t i = 0; i < BATCH; i++)
            fill(&texts[i], seed);
        t5_translation *tr = translate(texts, BATCH);
        for (int32_t i = 0; i < BATCH; i++) {
            const t5_translated *result = t5_translation_get(tr, i);
            assert_true(result->n_bytes < TEXT_BYTES_MAX);
            const size_t n_open = remove_brackets(result, back), n_wanted = count_sentences(&texts[i]);
            assert_string_equal(back, texts[i].bytes);
            assert_true(n_open >= n_wanted);
            n_sentences += n_wanted;
            n_brackets += n_open;
            n_placeholders += (size_t)texts[i].n_placeholders;
        }
        t5_translation_destroy(tr);
    }
    t5_workers_destroy(device);
    device = NULL;
    printf("%d texts: %zu sentences in %zu parts, %zu placeholders, %d sentences lost theirs at first: all kept\n",
           TEXTS, n_sentences, n_brackets, n_placeholders, atomic_load(&n_lost));
    assert_true(atomic_load(&n_lost) > TEXTS / 20);
}

/* The next line end at or after `pos`, and its length; n_bytes and 0 at the end. */
static size_t find_line_end(const char *text, size_t n_bytes, size_t pos, size_t *out_length)
{
    for (; pos < n_bytes; pos += *out_length) {
        uint32_t code;
        *out_length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (t5_utf8_is_line_end(code)) return pos;
    }
    *out_length = 0;
    return n_bytes;
}

static bool has_letters(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if ((unsigned char)text[i] >= 0x80 || (text[i] >= 'A' && text[i] <= 'Z') || (text[i] >= 'a' && text[i] <= 'z'))
            return true;
    return false;
}

static void check_line(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    const size_t n_lead = t5_utf8_leading_space(a, a_bytes), n_trail = t5_utf8_trailing_space(a, a_bytes);
    assert_true(t5_placeholders_agree(a, a_bytes, b, b_bytes));
    if (!has_letters(a, a_bytes)) {
        assert_int_equal(a_bytes, b_bytes);
        assert_memory_equal(a, b, a_bytes);
    }
    if (n_lead == a_bytes) return;
    assert_true(b_bytes >= n_lead + n_trail);
    assert_memory_equal(a, b, n_lead);
    assert_memory_equal(a + a_bytes - n_trail, b + b_bytes - n_trail, n_trail);
}

/* Claim: whatever a model says, a text has as many lines as its source, with the same ends and the same white space
 * around them, and each line has its placeholders. Method: 80 random texts and a model that says random bytes. */
static void lines_keep_their_placeholders(void **state)
{
    static random_text text;
    uint32_t number = 20260104, *seed = &number;
    size_t n_lines = 0;
    (void)state;
    for (int32_t i = 0; i < MODEL_TEXTS; i++) {
        fill(&text, seed);
        t5_translation *tr = translate(&text, 1);
        const t5_translated *result = t5_translation_get(tr, 0);
        size_t pos = 0, pos_out = 0, length = 1, length_out = 1;
        while (length > 0) {
            const size_t end = find_line_end(text.bytes, text.n_bytes, pos, &length);
            const size_t end_out = find_line_end(result->text, result->n_bytes, pos_out, &length_out);
            assert_int_equal(length, length_out);
            assert_memory_equal(text.bytes + end, result->text + end_out, length);
            check_line(text.bytes + pos, end - pos, result->text + pos_out, end_out - pos_out);
            pos = end + length;
            pos_out = end_out + length_out;
            n_lines++;
        }
        assert_int_equal(pos_out, result->n_bytes);
        t5_translation_destroy(tr);
    }
    printf("%d texts: %zu lines kept\n", MODEL_TEXTS, n_lines);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost),
        cmocka_unit_test(lines_keep_their_placeholders),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
