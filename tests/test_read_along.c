/* tests/test_read_along.c: texts that are read while they are made: what was read, put together, is what comes in the
 * end, and that is what a request gives that is not read along. Over the bundled model and small models of random
 * weights, whose bytes and pieces come in any order. */
#include "base/buffer.h"
#include "base/utf8.h"
#include "translate/generation.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BUNDLED_DIR T5_SOURCE_DIR "/models/t5-tatoeba"
#define FIXTURES_DIR T5_SOURCE_DIR "/tests/fixtures/"
#define TEXTS_MAX 8

static t5_translator *open_model(const char *dir)
{
    t5_error err = {0};
    t5_translator *t = NULL;
    t5_translator_options options;
    t5_translator_options_init(&options);
    options.model_dir = dir;
    options.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    if (t5_translator_open(&options, &t, &err) != T5_OK) fail_msg("%s: %s", dir, err.text);
    return t;
}

/* ---- a reader that is woken ---- */

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool has_news, is_done; /* guarded by mutex */
    t5_buffer texts[TEXTS_MAX];
    int32_t n_pieces, n_early; /* pieces; those of them that came before the end */
} reader;

static void on_progress(void *ctx)
{
    reader *r = ctx;
    pthread_mutex_lock(&r->mutex);
    assert_false(r->is_done);
    r->has_news = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
}

static void on_done(void *ctx)
{
    reader *r = ctx;
    pthread_mutex_lock(&r->mutex);
    assert_false(r->is_done);
    r->is_done = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
}

/* Waits for news; true when there will be no more. */
static bool wait_news(reader *r)
{
    pthread_mutex_lock(&r->mutex);
    while (!r->has_news && !r->is_done)
        pthread_cond_wait(&r->changed, &r->mutex);
    const bool is_done = r->is_done;
    r->has_news = false;
    pthread_mutex_unlock(&r->mutex);
    return is_done;
}

static void take_piece(reader *r, const t5_piece *piece, bool is_done)
{
    t5_error err = {0};
    assert_in_range(piece->i_text, 0, TEXTS_MAX - 1);
    assert_true(t5_utf8_is_valid(piece->bytes, piece->n_bytes));
    assert_int_equal(t5_buffer_append(&r->texts[piece->i_text], piece->bytes, piece->n_bytes, &err), T5_OK);
    r->n_pieces++;
    if (!is_done) r->n_early++;
}

static void expect_text(const reader *r, int32_t i, const char *text, size_t n_bytes)
{
    const t5_buffer *read = &r->texts[i];
    if (read->n_bytes == n_bytes && (n_bytes == 0 || memcmp(read->bytes, text, n_bytes) == 0)) return;
    fail_msg("text %d: read \"%.*s\", is \"%s\"", i, (int)read->n_bytes, read->bytes != NULL ? read->bytes : "", text);
}

static void free_reader(reader *r)
{
    for (int32_t i = 0; i < TEXTS_MAX; i++)
        t5_buffer_deinit(&r->texts[i]);
}

#define READER_INIT \
    { \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER \
    }

/* ---- translations ---- */

/* The same request once read along and once not. Returns how many pieces came before the end. */
static int32_t expect_translation(t5_translator *t, t5_translation_request request)
{
    reader r = READER_INIT, silent = READER_INIT;
    t5_translation *tr = NULL, *plain = NULL;
    t5_error err = {0};
    t5_piece piece = {0};
    request.on_progress = on_progress;
    request.on_done = on_done;
    request.ctx = &r;
    if (t5_translation_start(t, &request, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    for (bool is_done = false; !is_done;) {
        is_done = wait_news(&r);
        do {
            assert_int_equal(t5_translation_read(tr, &piece, &err), T5_OK);
            if (piece.n_bytes > 0) take_piece(&r, &piece, is_done);
        } while (piece.n_bytes > 0);
    }
    assert_int_equal(t5_translation_finish(tr, &err), T5_OK);
    request.on_progress = NULL;
    request.ctx = &silent;
    assert_int_equal(t5_translation_start(t, &request, &plain, &err), T5_OK);
    while (!wait_news(&silent)) {
    }
    assert_int_equal(t5_translation_finish(plain, &err), T5_OK);
    for (int32_t i = 0; i < request.n_texts; i++) {
        const t5_translated *result = t5_translation_get(tr, i);
        expect_text(&r, i, result->text, result->n_bytes);
        assert_string_equal(t5_translation_get(plain, i)->text, result->text);
        assert_int_equal(t5_translation_get(plain, i)->n_alternatives, result->n_alternatives);
    }
    t5_usage read_usage, plain_usage;
    t5_translation_usage(tr, &read_usage);
    t5_translation_usage(plain, &plain_usage);
    assert_memory_equal(&read_usage, &plain_usage, sizeof read_usage);
    t5_translation_destroy(tr);
    t5_translation_destroy(plain);
    free_reader(&r);
    return r.n_early;
}

#define N_TEXTS 8

static const t5_text *make_texts(const char *target)
{
    static const char *const strings[] = {
        "  Good morning.  How are you?\n\n\tThe weather is nice today, and we are going to the park.\r\n",
        "One. Two. One. Two. One.",
        "",
        "   \n ",
        "Zürich, 42 — “yes”… 😀 No!",
        "A sentence that is repeated. A sentence that is repeated.\nA sentence that is repeated.",
    };
    static const char marked[] =
        "<p>Good <b>morning</b>. <i>How are</i> you?</p>\n<p>The <code>x</code> is nice.<br></p>";
    static const t5_markup_options html = {.kind = T5_MARKUP_HTML};
    static t5_text texts[N_TEXTS];
    for (size_t i = 0; i < T5_COUNT(strings); i++)
        texts[i] = (t5_text){
            .text = strings[i], .n_bytes = strlen(strings[i]), .source = i % 2 == 0 ? "en" : "auto", .target = target};
    texts[T5_COUNT(strings)] = (t5_text){.text = "As it is. ", .n_bytes = 10, .source = target, .target = target};
    texts[N_TEXTS - 1] =
        (t5_text){.text = marked, .n_bytes = sizeof marked - 1, .source = "en", .target = target, .markup = &html};
    return texts;
}

/* Claim: for every way of searching, pieces add up to the translation, and it is the same as without reading along;
 * text comes before the end. Method: eight texts at once and each alone: several sentences, lines, white space,
 * repeated ones, none, tags. */
static void translations_add_up(void **state)
{
    (void)state;
    t5_translator *t = open_model(BUNDLED_DIR);
    const t5_text *texts = make_texts("de");
    for (int32_t mode = 0; mode < 4; mode++) {
        t5_translation_request request = {
            .texts = texts, .n_texts = N_TEXTS, .decoding = t5_translator_profile(t)->defaults, .is_pinned = true};
        request.decoding.num_beams = mode == 1 ? 4 : 1;
        request.decoding.do_sample = mode == 2;
        request.decoding.seed = 7;
        request.n_alternatives = mode == 3 ? 2 : 0;
        /* On a busy machine the reader may only come at the end: it has several tries. */
        int32_t n_early = 0;
        for (int32_t i = 0; i < 50 && n_early < 3; i++)
            n_early = expect_translation(t, request);
        assert_true(n_early >= 3);
        request.n_texts = 1;
        for (int32_t i = 0; i < N_TEXTS; i++, request.texts++)
            expect_translation(t, request);
    }
    t5_translator_close(t);
}

/* Claim: the same where sentences touch, and with a model whose text is mostly bytes and strange pieces. Method:
 * MADLAD's fixture, Chinese sentences that touch. */
static void strange_text_adds_up(void **state)
{
    static const char zh[] = "你好。世界很大！我们走吧。";
    (void)state;
    t5_translator *t = open_model(FIXTURES_DIR "madlad");
    const t5_text texts[] = {{zh, sizeof zh - 1, "en", "de", NULL}, {"How? Why.", 9, "en", "fr", NULL}};
    for (int32_t beams = 1; beams <= 4; beams += 3) {
        t5_translation_request request = {
            .texts = texts, .n_texts = 2, .decoding = t5_translator_profile(t)->defaults, .has_max_new_tokens = true};
        request.decoding.num_beams = beams;
        request.decoding.max_new_tokens = 20;
        expect_translation(t, request);
    }
    t5_translator_close(t);
}

/* ---- generations ---- */

static void expect_generation(t5_translator *t, t5_generation_request request)
{
    reader r = READER_INIT;
    t5_generation *g = NULL;
    t5_error err = {0};
    t5_piece piece = {0};
    request.on_progress = on_progress;
    request.on_done = on_done;
    request.ctx = &r;
    if (t5_generation_start(t, &request, &g, &err) != T5_OK) fail_msg("%s", err.text);
    for (bool is_done = false; !is_done;) {
        is_done = wait_news(&r);
        do {
            assert_int_equal(t5_generation_read(g, &piece, &err), T5_OK);
            if (piece.n_bytes > 0) take_piece(&r, &piece, is_done);
        } while (piece.n_bytes > 0);
    }
    assert_int_equal(t5_generation_finish(g, &err), T5_OK);
    for (int32_t i = 0; i < request.n_inputs; i++) {
        assert_int_equal(t5_generation_n_results(g, i), request.decoding.num_return_sequences);
        const t5_generated *result = t5_generation_get(g, i, 0);
        expect_text(&r, i, result->text, result->n_bytes);
        assert_true(result->output->n_ids > request.n_prompt_ids);
        for (int32_t k = 0; k < request.n_prompt_ids; k++)
            assert_int_equal(result->output->ids[k], request.prompt_ids[k]);
    }
    t5_generation_destroy(g);
    free_reader(&r);
}

/* Claim: pieces of raw text to text add up too, a forced start included. Method: models of all kinds of tokens, texts
 * and ids as inputs; greedy, beams and samples with several results. */
static void generations_add_up(void **state)
{
    static const char *const dirs[] = {FIXTURES_DIR "byt5", FIXTURES_DIR "mt5", FIXTURES_DIR "umt5",
                                       FIXTURES_DIR "t5-v1.0", BUNDLED_DIR};
    static const char text[] = "translate: Grüße 😀";
    static const int32_t ids[] = {7, 8, 9, 1}, prompt_ids[] = {12, 200, 44};
    const t5_generation_input inputs[] = {
        {.text = text, .n_bytes = sizeof text - 1}, {.ids = ids, .n_ids = T5_COUNT(ids)}, {.text = "", .n_bytes = 0}};
    (void)state;
    for (size_t d = 0; d < T5_COUNT(dirs); d++) {
        t5_translator *t = open_model(dirs[d]);
        for (int32_t i = 0; i < 12; i++) {
            t5_generation_request request = {.inputs = inputs,
                                             .n_inputs = T5_COUNT(inputs),
                                             .prompt_ids = prompt_ids,
                                             .n_prompt_ids = i % 4,
                                             .decoding = *t5_translator_generation_defaults(t),
                                             .max_new_tokens_field = "max_new_tokens"};
            request.decoding.max_new_tokens = 30;
            request.decoding.num_beams = i % 3 == 1 ? 4 : 1;
            request.decoding.do_sample = i % 3 == 2;
            request.decoding.num_return_sequences = i % 3 == 0 ? 1 : 3;
            request.decoding.temperature = 3.0;
            request.decoding.seed = (uint64_t)i;
            expect_generation(t, request);
        }
        t5_translator_close(t);
    }
}

/* Runs a generation to its end; the caller destroys it. */
static t5_generation *run_generation(t5_translator *t, t5_generation_request request)
{
    reader r = READER_INIT;
    t5_generation *g = NULL;
    t5_error err = {0};
    request.on_done = on_done;
    request.ctx = &r;
    if (t5_generation_start(t, &request, &g, &err) != T5_OK) fail_msg("%s", err.text);
    while (!wait_news(&r)) {
    }
    assert_int_equal(t5_generation_finish(g, &err), T5_OK);
    return g;
}

/* One stop of n bytes from the middle of a text of one result, read along and not. Returns the tokens that it saved. */
static int32_t expect_stopped(t5_translator *t, t5_generation_request request, const t5_generated *whole, size_t n)
{
    const size_t begin = whole->n_bytes / 2;
    request.stops = (t5_stops){.n = 2, .texts = {"\x01 never"}};
    snprintf(request.stops.texts[1], T5_STOP_BYTES_MAX, "%.*s", (int)n, whole->text + begin);
    const size_t end = t5_stops_find(&request.stops, whole->text, whole->n_bytes);
    t5_generation *g = run_generation(t, request);
    const t5_generated *got = t5_generation_get(g, 0, 0);
    assert_int_equal(t5_stops_find(&request.stops, got->text, got->n_bytes), end);
    assert_true(got->n_bytes > end);
    assert_memory_equal(got->text, whole->text, end);
    const int32_t n_saved = whole->output->n_ids - got->output->n_ids;
    t5_generation_destroy(g);
    if (t5_utf8_is_valid(request.stops.texts[1], n)) expect_generation(t, request);
    return n_saved;
}

/* Claim: an input whose only result comes to a stop is not decoded to its end; its text up to there is that of a
 * request without stops, also where a stop spans tokens or characters; with several results nothing is saved, and a
 * stop that does not come changes nothing. Method: models of all kinds of tokens; greedy, samples and beams; stops of 1
 * to 12 bytes from the middle of the text. */
static void stops_end_the_decoding(void **state)
{
    static const char *const dirs[] = {FIXTURES_DIR "byt5", FIXTURES_DIR "mt5", BUNDLED_DIR};
    static const char text[] = "translate English to German: How are you today?";
    const t5_generation_input input = {.text = text, .n_bytes = sizeof text - 1};
    int32_t n_saved[3] = {0};
    (void)state;
    for (size_t d = 0; d < T5_COUNT(dirs); d++) {
        t5_translator *t = open_model(dirs[d]);
        for (int32_t mode = 0; mode < 4; mode++) {
            t5_generation_request request = {.inputs = &input,
                                             .n_inputs = 1,
                                             .decoding = *t5_translator_generation_defaults(t),
                                             .max_new_tokens_field = "max_new_tokens"};
            request.decoding.max_new_tokens = request.decoding.min_new_tokens = 60;
            request.decoding.num_beams = mode >= 2 ? 4 : 1;
            request.decoding.do_sample = mode == 1;
            request.decoding.num_return_sequences = mode == 3 ? 2 : 1;
            t5_generation *whole = run_generation(t, request);
            const t5_generated *result = t5_generation_get(whole, 0, 0);
            for (size_t n = 1; n <= 12 && result->n_bytes > 24; n++) {
                const int32_t saved = expect_stopped(t, request, result, n);
                assert_true(saved >= 0 && (mode < 3 || saved == 0));
                if (mode < 3) n_saved[mode] += saved;
            }
            t5_generation_destroy(whole);
        }
        t5_translator_close(t);
    }
    assert_true(n_saved[0] > 100 && n_saved[1] > 100 && n_saved[2] > 20);
}

/* Claim: what cannot run is refused, with the reason, and tells nobody. Method: ids out of range, a text that is too
 * long, a prompt that leaves no room. */
static void bad_generations_are_refused(void **state)
{
    static char long_text[8000];
    static const int32_t bad_ids[] = {5, 100000, 1}, long_prompt[600];
    (void)state;
    memset(long_text, 'a', sizeof long_text);
    t5_translator *t = open_model(FIXTURES_DIR "byt5");
    const t5_generation_input bad[] = {{.ids = bad_ids, .n_ids = 3},
                                       {.text = long_text, .n_bytes = sizeof long_text},
                                       {.text = "\xff", .n_bytes = 1},
                                       {.ids = bad_ids, .n_ids = 0}};
    for (size_t i = 0; i <= T5_COUNT(bad); i++) {
        reader r = READER_INIT;
        t5_generation *g = NULL;
        t5_error err = {0};
        const t5_generation_input fine = {.text = "a", .n_bytes = 1};
        const t5_generation_request request = {.inputs = i < T5_COUNT(bad) ? &bad[i] : &fine,
                                               .n_inputs = 1,
                                               .prompt_ids = long_prompt,
                                               .n_prompt_ids = i < T5_COUNT(bad) ? 0 : 600,
                                               .decoding = *t5_translator_generation_defaults(t),
                                               .on_progress = on_progress,
                                               .on_done = on_done,
                                               .ctx = &r};
        assert_int_equal(t5_generation_start(t, &request, &g, &err), T5_ERR_ARG);
        assert_null(g);
        assert_true(strlen(err.text) > 0 && !r.has_news && !r.is_done);
    }
    t5_translator_close(t);
}

/* Claim: a generation that is given up while it is read ends with its error, and what was read stays a start of nothing
 * else. Method: cancel at the first piece. */
static void cancelled_generations_end(void **state)
{
    (void)state;
    t5_translator *t = open_model(BUNDLED_DIR);
    const t5_generation_input input = {.text = "translate English to German: How are you today?", .n_bytes = 47};
    t5_generation_request request = {.inputs = &input,
                                     .n_inputs = 1,
                                     .decoding = *t5_translator_generation_defaults(t),
                                     .max_new_tokens_field = "max_new_tokens",
                                     .on_progress = on_progress,
                                     .on_done = on_done};
    request.decoding.max_new_tokens = request.decoding.min_new_tokens = 500;
    reader r = READER_INIT;
    t5_generation *g = NULL;
    t5_error err = {0};
    t5_piece piece = {0};
    request.ctx = &r;
    assert_int_equal(t5_generation_start(t, &request, &g, &err), T5_OK);
    while (!wait_news(&r))
        t5_generation_cancel(g);
    assert_int_equal(t5_generation_read(g, &piece, &err), T5_OK);
    assert_int_equal(t5_generation_finish(g, &err), T5_ERR_TIMEOUT);
    t5_generation_destroy(g);
    t5_translator_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translations_add_up),       cmocka_unit_test(strange_text_adds_up),
        cmocka_unit_test(generations_add_up),        cmocka_unit_test(bad_generations_are_refused),
        cmocka_unit_test(cancelled_generations_end), cmocka_unit_test(stops_end_the_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
