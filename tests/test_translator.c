/* tests/test_translator.c: texts in, texts out, over the bundled model and a small MADLAD fixture. Nothing here depends
 * on what the models say: results are compared with results of the same model, or with the fixture's ids. */
#include "base/clock.h"
#include "base/utf8.h"
#include "tests/waiter.h"
#include "translate/translator.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BUNDLED_DIR T5_SOURCE_DIR "/models/t5-tatoeba"
#define FIXTURES_DIR T5_SOURCE_DIR "/tests/fixtures"
#define NEW_TOKENS 12 /* most of these tests need no more, and are faster so */

static t5_translator *bundled; /* opened once: it is the slow part */

static t5_translator *open_model(const char *dir, const t5_engine_options *engine, int32_t sentences_max)
{
    t5_error err = {0};
    t5_translator *t = NULL;
    t5_translator_options options;
    t5_translator_options_init(&options);
    options.model_dir = dir;
    options.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 2};
    if (engine != NULL) options.engine = *engine;
    options.sentences_max = sentences_max;
    if (t5_translator_open(&options, &t, &err) != T5_OK) fail_msg("%s: %s", dir, err.text);
    return t;
}

static int open_bundled(void **state)
{
    (void)state;
    bundled = open_model(BUNDLED_DIR, NULL, 0);
    return 0;
}

static int close_bundled(void **state)
{
    (void)state;
    t5_translator_close(bundled);
    return 0;
}

/* ---- one request and its end ---- */

/* Greedy and short. */
static t5_translation_request make_request(const t5_translator *t, const t5_text *texts, int32_t n_texts)
{
    t5_translation_request r = {
        .texts = texts, .n_texts = n_texts, .decoding = t5_translator_profile(t)->defaults, .has_max_new_tokens = true};
    r.decoding.num_beams = 1;
    r.decoding.max_new_tokens = NEW_TOKENS;
    return r;
}

/* Runs a request to its end. *out is NULL when it was refused. */
static t5_status run(t5_translator *t, t5_translation_request *r, t5_translation **out, t5_error *err)
{
    waiter w = WAITER_INIT;
    r->on_done = waiter_done;
    r->ctx = &w;
    t5_error_clear(err);
    t5_status status = t5_translation_start(t, r, out, err);
    if (status != T5_OK) {
        assert_null(*out);
        assert_int_equal(w.n_done, 0);
        assert_true(strlen(err->text) > 0);
        return status;
    }
    waiter_wait(&w);
    return t5_translation_finish(*out, err);
}

static t5_text make_text(const char *text, const char *source, const char *target)
{
    return (t5_text){.text = text, .n_bytes = strlen(text), .source = source, .target = target};
}

/* The translation of one text; the caller frees it. */
static char *translate(t5_translator *t, const char *text, const char *source, const char *target)
{
    t5_error err = {0};
    t5_translation *tr = NULL;
    const t5_text one = make_text(text, source, target);
    t5_translation_request r = make_request(t, &one, 1);
    if (run(t, &r, &tr, &err) != T5_OK) fail_msg("%s: %s", text, err.text);
    const t5_translated *result = t5_translation_get(tr, 0);
    assert_int_equal(strlen(result->text), result->n_bytes);
    char *copy = strdup(result->text);
    assert_non_null(copy);
    t5_translation_destroy(tr);
    return copy;
}

/* Starting a request for one text fails like this. */
static void assert_refused(t5_translator *t, t5_translation_request *r, t5_status expected, const char *words)
{
    t5_error err = {0};
    t5_translation *tr = NULL;
    assert_int_equal(run(t, r, &tr, &err), expected);
    if (strstr(err.text, words) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, words);
}

static int64_t n_sequences(t5_translator *t)
{
    t5_engine_stats stats;
    t5_engine_stats_get(t5_translator_engine(t), &stats);
    return stats.n_sequences;
}

/* Tokens of a sentence, with the prompt for German and the end token. */
static int64_t count_tokens(t5_translator *t, const char *sentence)
{
    char text[256];
    int32_t *ids = NULL, n_ids = 0;
    t5_error err = {0};
    snprintf(text, sizeof text, "translate English to German: %s", sentence);
    assert_int_equal(t5_tokenizer_encode_alloc(t5_translator_tokenizer(t), text, strlen(text), 256, &ids, &n_ids, &err),
                     T5_OK);
    free(ids);
    return n_ids;
}

/* ---- tests ---- */

/* Claim: sentences are translated one by one and what stands between them is kept byte for byte; a sentence that occurs
 * twice is translated once. Method: a text of four lines equals its parts put together by hand; sequences are counted.
 */
static void white_space_is_kept(void **state)
{
    (void)state;
    static const char *const parts[] = {"Tom is at home today.", "Where do you live now?", "I like my new red car."};
    char *done[3], expected[2048];
    const char *text = "  Tom is at home today.\n\n\tWhere do you live now?\r\n \xc2\xa0I like my new red car.  \n"
                       "Tom is at home today.";
    for (int i = 0; i < 3; i++)
        done[i] = translate(bundled, parts[i], "en", "de");
    const int64_t n_before = n_sequences(bundled);
    char *got = translate(bundled, text, "en", "de");
    assert_int_equal(n_sequences(bundled) - n_before, 3);
    snprintf(expected, sizeof expected, "  %s\n\n\t%s\r\n \xc2\xa0%s  \n%s", done[0], done[1], done[2], done[0]);
    assert_string_equal(got, expected);
    for (int i = 0; i < 3; i++)
        free(done[i]);
    free(got);
}

/* Claim: texts with nothing to translate come back as they are, with no work for the engine, and on_done comes within
 * start. Method: such texts in one request, NUL included. */
static void nothing_to_translate(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *tr = NULL;
    static const char with_nul[] = " \0 \n";
    t5_text texts[] = {make_text("", "en", "de"),
                       make_text(" \n\t\xe3\x80\x80\n", "en", "fr"),
                       make_text("\xf0\x9f\x99\x82 \xe2\x9c\xa8!", "en", "de"),
                       make_text("--- * ---\n", "auto", "de"),
                       make_text("Guten Tag, meine Damen.", "de", "de"),
                       make_text("Hello there, my friend.", "EN", "en-US"),
                       {.text = with_nul, .n_bytes = sizeof with_nul - 1, .source = "en", .target = "de"}};
    t5_translation_request r = make_request(bundled, texts, T5_COUNT(texts));
    waiter w = WAITER_INIT;
    r.on_done = waiter_done;
    r.ctx = &w;
    r.n_alternatives = 3;
    const int64_t n_before = n_sequences(bundled);
    assert_int_equal(t5_translation_start(bundled, &r, &tr, &err), T5_OK);
    assert_int_equal(w.n_done, 1);
    assert_int_equal(n_sequences(bundled), n_before);
    assert_int_equal(t5_translation_finish(tr, &err), T5_OK);
    for (int32_t i = 0; i < (int32_t)T5_COUNT(texts); i++) {
        const t5_translated *result = t5_translation_get(tr, i);
        assert_int_equal(result->n_bytes, texts[i].n_bytes);
        assert_memory_equal(result->text, texts[i].text, texts[i].n_bytes);
        assert_int_equal(result->n_alternatives, 0);
        assert_false(result->is_truncated);
    }
    t5_translation_destroy(tr);

    r = make_request(bundled, NULL, 0); /* no texts at all */
    assert_int_equal(run(bundled, &r, &tr, &err), T5_OK);
    t5_translation_destroy(tr);
}

/* Claim: unknown languages and missing pairs get LibreTranslate's words. Method: a table. */
static void languages_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *source, *target, *words;
    } cases[] = {
        {"en", "zz", "zz is not supported"},
        {"ZZ", "de", "zz is not supported"},
        {"en", "auto", "auto is not supported"},
        {"auto", "auto", "auto is not supported"},
        {"", "de", " is not supported"},
        {"en", "xx\n", "xx? is not supported"},
        {"en", "\xff\xfe", "language is not supported"},
        {"en", "a-code-that-is-much-too-long-for-anybody", "a-code-that-is-much-too-long-for is not supported"},
        {"de", "fr", "French (fr) is not available as a target language from German (de)"},
        {"fr", "de", "German (de) is not available as a target language from French (fr)"},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        const t5_text text = make_text("Hello, my friend.", cases[i].source, cases[i].target);
        t5_translation_request r = make_request(bundled, &text, 1);
        assert_refused(bundled, &r, T5_ERR_ARG, cases[i].words);
    }
}

/* Claim: codes are understood in the forms that clients send, and "auto" is decided for each text. Method: the same
 * sentence under several codes. */
static void codes_and_detection(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *tr = NULL;
    const char *sentence = "The weather is very nice today.";
    const t5_text texts[] = {make_text(sentence, "en", "de"), make_text(sentence, "EN_us", "DE-at"),
                             make_text(sentence, "auto", "de"), make_text(sentence, "AUTO", "fr"),
                             make_text("12 345", "auto", "de")};
    t5_translation_request r = make_request(bundled, texts, T5_COUNT(texts));
    if (run(bundled, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    const t5_translated *first = t5_translation_get(tr, 0);
    assert_null(first->detected);
    assert_true(first->n_bytes > 0);
    assert_string_equal(t5_translation_get(tr, 1)->text, first->text);
    for (int32_t i = 2; i < 5; i++) {
        const t5_translated *result = t5_translation_get(tr, i);
        assert_string_equal(result->detected, "en");
        assert_true(result->confidence >= 0 && result->confidence <= 100);
        if (i == 2) assert_string_equal(result->text, first->text);
        if (i == 4) assert_string_equal(result->text, "12 345");
    }
    assert_true(t5_translation_get(tr, 2)->confidence > 0);
    t5_translation_destroy(tr);
}

/* Claim: "auto" knows the languages that the model only writes, too: a text in the target language comes back as it is,
 * one in a language without a way to the target is refused by name; what is too short to tell takes a language that
 * leads there. */
static void detection_knows_targets(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *tr = NULL;
    const char *german = "Das Wetter ist heute sehr schön, und ich gehe mit meinem Bruder in den Park.";
    const t5_text texts[] = {make_text(german, "auto", "de"), make_text("Hi", "auto", "de"),
                             make_text("OK", "auto", "fr")};
    t5_translation_request r = make_request(bundled, texts, T5_COUNT(texts));
    if (run(bundled, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    assert_string_equal(t5_translation_get(tr, 0)->detected, "de");
    assert_string_equal(t5_translation_get(tr, 0)->text, german);
    assert_string_equal(t5_translation_get(tr, 1)->detected, "en");
    assert_string_equal(t5_translation_get(tr, 2)->detected, "en");
    t5_translation_destroy(tr);

    const t5_text no_way = make_text(german, "auto", "fr");
    r = make_request(bundled, &no_way, 1);
    assert_refused(bundled, &r, T5_ERR_ARG, "French (fr) is not available as a target language from German (de)");
}

/* Claim: alternatives are different from each other and from the text, and at most as many as asked; beams are raised
 * for them. Method: 0, 3 and more than the engine has, for one sentence and for two. */
static void alternatives_are_different(void **state)
{
    (void)state;
    static const int32_t asked[] = {-1, 0, 3, 1000};
    const t5_text texts[] = {make_text("Where is my brother?", "en", "de"),
                             make_text("Where is my brother?\nI am very tired.", "en", "fr")};
    for (size_t i = 0; i < T5_COUNT(asked); i++) {
        t5_error err = {0};
        t5_translation *tr = NULL;
        t5_translation_request r = make_request(bundled, texts, 2);
        r.decoding.max_new_tokens = 6;
        r.n_alternatives = asked[i];
        if (run(bundled, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
        for (int32_t k = 0; k < 2; k++) {
            const t5_translated *result = t5_translation_get(tr, k);
            assert_true(result->n_alternatives <= (asked[i] > 0 ? asked[i] : 0));
            if (asked[i] > 0) assert_true(result->n_alternatives > 0);
            for (int32_t a = 0; a < result->n_alternatives; a++) {
                const char *alternative = result->alternatives[a].text;
                assert_true(strlen(alternative) > 0);
                assert_int_equal(strlen(alternative), result->alternatives[a].n_bytes);
                assert_string_not_equal(alternative, result->text);
                for (int32_t b = 0; b < a; b++)
                    assert_string_not_equal(alternative, result->alternatives[b].text);
            }
        }
        t5_translation_destroy(tr);
    }
}

/* Claim: alternatives which half of the cache has no room for are fewer, whatever other option is named, so that others
 * find room; beams that are named, or the model's own, stay. Method: a small cache and a sentence which it has room for
 * 10 times, with 31 alternatives: searched, punished and sampled; then with beams, up to more than there is room for.
 */
static void alternatives_fit(void **state)
{
    (void)state;
    enum { N_FIT = 10, N_TOKENS = 100 };
    const t5_engine_options engine = {.kv_tokens = (N_FIT + 1) * 112}; /* whole blocks; the source is in one of them */
    t5_translator *t = open_model(BUNDLED_DIR, &engine, 0);
    const t5_text text = make_text("Where is my brother?", "en", "de");
    static const int32_t beams[] = {1, 1, 1, 7, N_FIT};
    for (size_t i = 0; i < T5_COUNT(beams); i++) {
        t5_error err = {0};
        t5_translation *tr = NULL;
        t5_translation_request r = make_request(t, &text, 1);
        r.decoding.max_new_tokens = N_TOKENS;
        r.decoding.num_beams = beams[i];
        r.is_pinned = true;
        if (i == 1) r.decoding.repetition_penalty = 1.1;
        r.decoding.do_sample = i == 2;
        r.decoding.temperature = 10; /* samples differ */
        r.n_alternatives = T5_BEAMS_MAX - 1;
        if (run(t, &r, &tr, &err) != T5_OK) fail_msg("%zu: %s", i, err.text);
        const int32_t n_rows = beams[i] > N_FIT / 2 ? beams[i] : N_FIT / 2;
        assert_in_range(t5_translation_get(tr, 0)->n_alternatives, 1, n_rows - 1);
        t5_translation_destroy(tr);
    }
    t5_translation_request r = make_request(t, &text, 1);
    r.decoding.max_new_tokens = N_TOKENS;
    r.decoding.num_beams = T5_BEAMS_MAX;
    r.n_alternatives = T5_BEAMS_MAX - 1;
    assert_refused(t, &r, T5_ERR_ARG, "32 beams");
    t5_translator_close(t);
}

/* Claim: a sentence of any length is cut and translated whole. Method: 20 kB of words without an end; the engine gets
 * many sequences, none too long, and the reply has the parts. */
static void long_text_is_cut(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *tr = NULL;
    enum { N_WORDS = 2500 };
    char *text = malloc(N_WORDS * 8 + 1);
    assert_non_null(text);
    for (size_t i = 0; i < N_WORDS; i++)
        memcpy(text + i * 8, i % 2 == 0 ? "red car " : "my dogs ", 9);
    const t5_text one = make_text(text, "en", "de");
    t5_translation_request r = make_request(bundled, &one, 1);
    r.decoding.max_new_tokens = 4;
    const int64_t n_before = n_sequences(bundled);
    if (run(bundled, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    assert_true(n_sequences(bundled) > n_before);
    const t5_translated *result = t5_translation_get(tr, 0);
    assert_true(result->is_truncated);
    assert_true(result->n_bytes > 20);
    t5_translation_destroy(tr);
    free(text);

    char *clusters = malloc(20001); /* one word without a place to cut, except between letters */
    assert_non_null(clusters);
    memset(clusters, 'q', 20000);
    clusters[20000] = '\0';
    char *got = translate(bundled, clusters, "en", "de");
    assert_true(strlen(got) > 0);
    free(got);
    free(clusters);
}

/* Claim: the bytes of a sentence are bounded as well as its tokens, since a tokenizer drops white space. Method: a
 * sentence with 100 kB of it is two, and it is kept. */
static void wide_sentence_is_cut(void **state)
{
    enum { N_SPACES = 100000 };
    (void)state;
    char *text = malloc(N_SPACES + 64);
    assert_non_null(text);
    const int n = sprintf(text, "Tom has a car%*sin the garden.", N_SPACES, "");
    assert_int_equal((size_t)n, strlen(text));
    const int64_t n_before = n_sequences(bundled);
    char *got = translate(bundled, text, "en", "de");
    assert_int_equal(n_sequences(bundled) - n_before, 2);
    const char *gap = strstr(got, "  ");
    assert_non_null(gap);
    assert_int_equal(strspn(gap, " "), N_SPACES);
    free(got);
    free(text);
}

/* Claim: bad input is refused with a reason: broken UTF-8, bad options, too many sentences or more than the queue ever
 * holds. Method: one of each. */
static void bad_requests_are_refused(void **state)
{
    (void)state;
    t5_text text = make_text("Hello \xc3", "en", "de");
    t5_translation_request r = make_request(bundled, &text, 1);
    assert_refused(bundled, &r, T5_ERR_ARG, "UTF-8");

    text = make_text("Hello my friend.", "en", "de");
    r = make_request(bundled, &text, 1);
    r.decoding.num_beams = 0;
    assert_refused(bundled, &r, T5_ERR_ARG, "num_beams");
    r = make_request(bundled, &text, 1);
    r.decoding.max_new_tokens = t5_translator_tgt_len_max(bundled) + 1;
    assert_refused(bundled, &r, T5_ERR_ARG, "max_new_tokens");

    t5_translator *none = NULL;
    t5_translator_options small_cache;
    t5_translator_options_init(&small_cache);
    small_cache.model_dir = BUNDLED_DIR;
    small_cache.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    small_cache.kv_bytes = 1 << 20;
    t5_error err = {0};
    assert_int_equal(t5_translator_open(&small_cache, &none, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "kv_memory: 1048576 bytes, but the longest sentence alone needs "));

    const t5_engine_options narrow = {.queue_depth_max = 2};
    t5_translator *t = open_model(BUNDLED_DIR, &narrow, 3);
    text = make_text("Hello my friend.\nI am here.\nYou are there.\nWe are not.", "en", "de");
    r = make_request(t, &text, 1);
    assert_refused(t, &r, T5_ERR_ARG, "more than 3 sentences");
    text = make_text("Hello my friend.\nI am here.\nYou are there.\nI am here.", "en", "de");
    r = make_request(t, &text, 1);
    assert_refused(t, &r, T5_ERR_ARG, "at most 2 can wait");
    t5_translator_close(t);
}

/* Claim: a request whose sentences are too many only in the parts that pictures make of them is translated, each
 * picture in its sentence; its limit is that of sentences. Method: a limit of three, and texts of three sentences with
 * pictures: as many sequences, and the tokens of the whole sentences; then a fourth. */
static void pictures_refuse_no_request(void **state)
{
    (void)state;
    static const char *const sentences[] = {"I am here 😀 my friend.", "You are there 👍 my brother.", "We are 😀 not."};
    static const t5_markup_options html = {.kind = T5_MARKUP_HTML};
    char lines[256];
    snprintf(lines, sizeof lines, "%s\n%s", sentences[1], sentences[2]);
    t5_translator *t = open_model(BUNDLED_DIR, NULL, 3);
    t5_text texts[] = {make_text(sentences[0], "en", "de"), make_text(lines, "en", "de"),
                       make_text("<p>I am here.</p>", "en", "de"), make_text("He is tired.", "en", "de")};
    texts[2].markup = &html;
    t5_error err = {0};
    t5_translation *tr = NULL;
    t5_usage usage;
    int64_t n_tokens = 0;
    for (size_t i = 0; i < T5_COUNT(sentences); i++)
        n_tokens += count_tokens(t, sentences[i]);
    t5_translation_request r = make_request(t, texts, 2);
    r.is_pinned = true; /* no second round */
    if (run(t, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(err.status, T5_OK);
    assert_int_equal(n_sequences(t), T5_COUNT(sentences));
    t5_translation_usage(tr, &usage);
    assert_int_equal(usage.n_source_tokens, n_tokens);
    t5_translation_destroy(tr);
    r = make_request(t, texts, T5_COUNT(texts));
    assert_refused(t, &r, T5_ERR_ARG, "more than 3 sentences");
    t5_translator_close(t);
}

/* Claim: a long text without an end of a sentence is not cut and tokenized to its end when the deadline passes
 * meanwhile: the start says so. Method: half a second of work, and 20 ms for it. */
static void planning_heeds_the_deadline(void **state)
{
    (void)state;
    static const char words[] = "lorem ipsum dolor ";
    const size_t n_bytes = 400 << 10;
    char *lorem = malloc(n_bytes + 1);
    t5_error err = {0};
    t5_translation *tr = NULL;
    t5_translator *t = open_model(BUNDLED_DIR, NULL, 0);
    assert_non_null(lorem);
    for (size_t i = 0; i < n_bytes; i++)
        lorem[i] = words[i % (sizeof words - 1)];
    lorem[n_bytes] = '\0';
    const t5_text text = make_text(lorem, "en", "de");
    t5_translation_request r = make_request(t, &text, 1);
    r.deadline_ms = t5_clock_ms() + 20;
    assert_int_equal(run(t, &r, &tr, &err), T5_ERR_TIMEOUT);
    assert_null(tr); /* it has not begun */
    t5_translator_close(t);
    free(lorem);
}

/* Claim: a passed deadline and a cancelled request end with T5_ERR_TIMEOUT. Method: a deadline in the past; cancel at
 * once. */
static void requests_can_be_given_up(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *tr = NULL;
    t5_translator *t = open_model(BUNDLED_DIR, NULL, 0);
    const t5_text text = make_text("Hello my friend.\nI am here.\nYou are there.\nWe are not.", "en", "de");
    t5_translation_request r = make_request(t, &text, 1);
    r.deadline_ms = 1;
    assert_int_equal(run(t, &r, &tr, &err), T5_ERR_TIMEOUT);
    t5_translation_destroy(tr);

    waiter w = WAITER_INIT;
    r = make_request(t, &text, 1);
    r.decoding.num_beams = T5_BEAMS_MAX;
    r.decoding.max_new_tokens = r.decoding.min_new_tokens = 400;
    r.on_done = waiter_done;
    r.ctx = &w;
    t5_error_clear(&err);
    assert_int_equal(t5_translation_start(t, &r, &tr, &err), T5_OK);
    t5_translation_cancel(tr);
    waiter_wait(&w);
    assert_int_equal(t5_translation_finish(tr, &err), T5_ERR_TIMEOUT);
    t5_translation_destroy(tr);
    t5_translator_close(t);
}

static void never_end(const t5_translator *t, t5_decoding *d)
{
    d->n_suppress = 1;
    d->suppress_tokens[0] = t5_translator_hparams(t)->eos_id;
}

/* Claim: the output limit grows with the source unless the client sets one. Method: a model that
 * never ends, because its end token is suppressed, stops at the limit, which the number of target tokens shows. */
static void output_limit(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *tr = NULL;
    t5_engine_stats before, after;
    const t5_text text = make_text("I am here now.", "en", "de");
    t5_translation_request r = make_request(bundled, &text, 1);
    r.has_max_new_tokens = true;
    r.decoding.max_new_tokens = 50;
    never_end(bundled, &r.decoding);
    t5_engine_stats_get(t5_translator_engine(bundled), &before);
    assert_int_equal(run(bundled, &r, &tr, &err), T5_OK);
    assert_true(t5_translation_get(tr, 0)->is_truncated);
    t5_engine_stats_get(t5_translator_engine(bundled), &after);
    assert_int_equal(after.n_target_tokens - before.n_target_tokens, 50);
    t5_translation_destroy(tr);

    r.is_pinned = true;
    r.has_max_new_tokens = false; /* the 128 of the bundled profile does not count */
    t5_engine_stats_get(t5_translator_engine(bundled), &before);
    assert_int_equal(run(bundled, &r, &tr, &err), T5_OK);
    t5_engine_stats_get(t5_translator_engine(bundled), &after);
    assert_int_equal(after.n_target_tokens - before.n_target_tokens,
                     2 * (after.n_source_tokens - before.n_source_tokens) + 32);
    t5_translation_destroy(tr);

    r.decoding.min_new_tokens = 200; /* above the folder's limit, which still does not count */
    t5_engine_stats_get(t5_translator_engine(bundled), &before);
    assert_int_equal(run(bundled, &r, &tr, &err), T5_OK);
    t5_engine_stats_get(t5_translator_engine(bundled), &after);
    assert_int_equal(after.n_target_tokens - before.n_target_tokens, 200);
    t5_translation_destroy(tr);
    r.decoding.min_new_tokens = t5_translator_tgt_len_max(bundled);
    assert_refused(bundled, &r, T5_ERR_ARG, "min_new_tokens");
}

enum { N_THREADS = 4, N_ROUNDS = 3 };
static const char *const thread_texts[N_THREADS] = {"Tom is at home today.", "Where do you live now?",
                                                    "I like my new red car.\nIt is fast.", "Good morning, my friends!"};
static char *thread_expected[N_THREADS];

static void *run_thread(void *arg)
{
    const size_t i = *(const size_t *)arg;
    size_t n_same = 0;
    for (int k = 0; k < N_ROUNDS; k++) {
        t5_error err = {0};
        t5_translation *tr = NULL;
        const t5_text one = make_text(thread_texts[i], "en", i % 2 == 0 ? "de" : "fr");
        t5_translation_request r = make_request(bundled, &one, 1);
        if (run(bundled, &r, &tr, &err) == T5_OK)
            n_same += strcmp(t5_translation_get(tr, 0)->text, thread_expected[i]) == 0;
        t5_translation_destroy(tr);
    }
    return n_same == N_ROUNDS ? arg : NULL;
}

/* Claim: requests of several threads share the engine and get each their own text. Method: each thread's text alone
 * first, then all at once. */
static void threads_share_the_engine(void **state)
{
    (void)state;
    pthread_t threads[N_THREADS];
    size_t indexes[N_THREADS];
    for (size_t i = 0; i < N_THREADS; i++)
        thread_expected[i] = translate(bundled, thread_texts[i], "en", i % 2 == 0 ? "de" : "fr");
    for (size_t i = 0; i < N_THREADS; i++) {
        indexes[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, run_thread, &indexes[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_non_null(result);
        free(thread_expected[i]);
    }
}

/* The text of ids that Hugging Face computed for a case of the fixture, greedy; the caller frees it. NULL when there is
 * none, or when the choice was too close to call. */
static char *expected_text(const t5_tokenizer *tokenizer, const json_t *one_case)
{
    const json_t *generated = json_array_get(json_object_get(one_case, "generate"), 0);
    if (json_number_value(json_object_get(generated, "margin")) < 1e-3) return NULL;
    const json_t *sequence = json_array_get(json_object_get(generated, "sequences"), 0);
    int32_t ids[256];
    const size_t n_ids = json_array_size(sequence);
    assert_true(n_ids > 0 && n_ids <= T5_COUNT(ids));
    for (size_t i = 0; i < n_ids; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(sequence, i));
    t5_error err = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    assert_int_equal(t5_tokenizer_decode(tokenizer, ids, (int32_t)n_ids, &text, &n_bytes, &err), T5_OK);
    const size_t n_leading = t5_utf8_leading_space(text, n_bytes);
    memmove(text, text + n_leading, n_bytes - n_leading + 1);
    n_bytes -= n_leading;
    text[n_bytes - t5_utf8_trailing_space(text, n_bytes)] = '\0';
    return text;
}

/* Behind its tag: one sentence of ASCII. */
static bool is_one_sentence(const char *text)
{
    const size_t n_bytes = strlen(text);
    for (size_t i = 0; i < n_bytes; i++) {
        const bool is_end = strchr(".!?", text[i]) != NULL;
        if ((unsigned char)text[i] >= 0x80 || (is_end && i + 1 < n_bytes)) return false;
    }
    return n_bytes > 10;
}

/* Claim: MADLAD's target tag stands before the text, any source is taken, and the translation is the reference's.
 * Method: those cases of the fixture that are one sentence behind a tag. */
static void madlad_as_the_reference(void **state)
{
    (void)state;
    json_error_t json_err;
    int n_compared = 0;
    t5_translator *t = open_model(FIXTURES_DIR "/madlad", NULL, 0);
    json_t *expected = json_load_file(FIXTURES_DIR "/madlad/expected.json", 0, &json_err);
    assert_non_null(expected);
    size_t i;
    const json_t *one_case;
    json_array_foreach(json_object_get(expected, "cases"), i, one_case)
    {
        const char *text = json_string_value(json_object_get(one_case, "text"));
        if (strncmp(text, "<2", 2) != 0 || strncmp(text + 4, "> ", 2) != 0) continue;
        if (!is_one_sentence(text)) continue;
        const char target[] = {text[2], text[3], '\0'};
        char *wanted = expected_text(t5_translator_tokenizer(t), one_case);
        if (wanted == NULL) continue;
        t5_error err = {0};
        t5_translation *tr = NULL;
        const t5_text one = make_text(text + 6, strcmp(target, "en") == 0 ? "de" : "en", target);
        t5_translation_request r = make_request(t, &one, 1);
        r.decoding.max_new_tokens = 24;
        if (run(t, &r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
        assert_string_equal(t5_translation_get(tr, 0)->text, wanted);
        t5_translation_destroy(tr);
        free(wanted);
        n_compared++;
    }
    assert_true(n_compared >= 3);
    json_decref(expected);

    const t5_text bad = make_text("Hello.", "en", "zz");
    t5_translation_request r = make_request(t, &bad, 1);
    assert_refused(t, &r, T5_ERR_ARG, "zz is not supported");
    t5_translator_close(t);
}

/* Claim: a limit that the prompt alone fills is named as such, not as the text's fault. Method: a limit of one token.
 */
static void prompt_is_too_long(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translator *t = NULL;
    t5_translator_options options;
    t5_translator_options_init(&options);
    options.model_dir = BUNDLED_DIR;
    options.device.device = "cpu";
    options.sentence_tokens_max = 1;
    if (t5_translator_open(&options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    const t5_text text = make_text("Hello.", "en", "de");
    t5_translation_request r = make_request(t, &text, 1);
    assert_refused(t, &r, T5_ERR_ARG, "prompt");
    t5_translator_close(t);
}

/* Claim: a folder that cannot be opened is an error that names it; one without languages opens and translates nothing.
 * Method: a missing folder, a bad limit, the T5 v1.0 fixture. */
static void folders(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translator *t = NULL;
    t5_translator_options options;
    t5_translator_options_init(&options);
    options.device.device = "cpu-ref";
    options.model_dir = FIXTURES_DIR "/no-such-model";
    assert_int_equal(t5_translator_open(&options, &t, &err), T5_ERR_IO);
    assert_non_null(strstr(err.text, "no-such-model"));
    options.model_dir = FIXTURES_DIR "/t5-v1.0";
    options.engine.n_rows_max = 1;
    t5_error_clear(&err);
    assert_int_equal(t5_translator_open(&options, &t, &err), T5_ERR_ARG);
    options.engine.n_rows_max = 0;
    options.sentences_max = -1;
    t5_error_clear(&err);
    assert_int_equal(t5_translator_open(&options, &t, &err), T5_ERR_ARG);
    assert_null(t);

    options.sentences_max = 0;
    t5_error_clear(&err);
    if (t5_translator_open(&options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(t5_translator_profile(t)->n_pairs, 0);
    assert_non_null(strstr(t5_translator_device(t), "cpu"));
    assert_true(t5_translator_n_rows_max(t) >= T5_BEAMS_MAX);
    assert_true(t5_translator_src_len_max(t) >= 512);
    const t5_text text = make_text("Hello.", "auto", "de");
    t5_translation_request r = make_request(t, &text, 1);
    assert_refused(t, &r, T5_ERR_ARG, "de is not supported");
    t5_translator_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space_is_kept),        cmocka_unit_test(nothing_to_translate),
        cmocka_unit_test(languages_are_checked),      cmocka_unit_test(codes_and_detection),
        cmocka_unit_test(detection_knows_targets),    cmocka_unit_test(alternatives_are_different),
        cmocka_unit_test(alternatives_fit),           cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(wide_sentence_is_cut),       cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(pictures_refuse_no_request), cmocka_unit_test(planning_heeds_the_deadline),
        cmocka_unit_test(requests_can_be_given_up),   cmocka_unit_test(output_limit),
        cmocka_unit_test(threads_share_the_engine),   cmocka_unit_test(madlad_as_the_reference),
        cmocka_unit_test(prompt_is_too_long),         cmocka_unit_test(folders),
    };
    return cmocka_run_group_tests(tests, open_bundled, close_bundled);
}
