/* tests/test_second_round.c: sentences whose first translation fails a check. The linker sends the engine's submissions
 * to a script, so that each kind of failure happens: it knows what "the model" says to a sentence, first and when it is
 * asked again, and ends the sequences on a thread of its own, as a device would. The tokenizer is the bundled model's,
 * which can say anything in bytes. */
#include "base/workers.h"
#include "model/hparams.h"
#include "tests/model_files.h"
#include "tests/waiter.h"
#include "translate/checks.h"
#include "translate/shortlist.h"
#include "translate/translator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL_DIR T5_SOURCE_DIR "/models/t5-tatoeba"
#define PROMPT "translate English to German: "
#define ANSWERS_MAX 4
#define DEADLINE_MS (INT64_MAX / 4) /* of every request, and so of every sequence */
#define BROKEN "!"                  /* what follows ends in half a character */
#define NUL '|'                     /* within an answer: a NUL, which has a token as every byte */
#define LOOP "ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja"

/* ---- the script ---- */

static const struct {
    const char *source;
    bool is_again; /* when the decoder may not repeat itself */
    const char *answers[ANSWERS_MAX];
} script[] = {
    {"Hello %s, how are you?", false, {"Hallo %s, wie geht es dir?"}},
    {"You have %d new files.", false, {"Du hast neue Dateien."}},
    {"You have", false, {"Du hast.", "Ihr habt"}},
    {"new files.", false, {"neue Dateien.", "neue Akten."}},
    {"See %s now.", false, {"Siehe nun.", "Siehe %s jetzt.", "Sieh %s an.", "Sieh %s %s an."}},
    {"Tell me more.", false, {"Sag " LOOP}},
    {"Tell me more.", true, {"Sag " LOOP " ja", "Tell me mehr.", "Sag mir mehr.", "Erzähl mir mehr."}},
    {"Tell me less.", false, {"Sag " LOOP}},
    {"Tell me less.", true, {"Sag " LOOP, "", "Tell me less.", "Tell me mehr."}},
    {"It costs %s today.", false, {"Es kostet %s " LOOP}},
    {"It costs %s today.", true, {"Es kostet heute.", "Es kostet heute %s."}},
    {"Where are my keys now?", false, {"Where are my keys now?"}},
    {"Where are my keys now?",
     true,
     {"Where are my keys now?", "Where are my Schlüssel now?", "Wo ist mein Schlüssel?"}},
    {"Wo sind denn nur meine Schlüssel?", false, {"Wo sind denn nur meine Schlüssel?"}},
    {"New York", false, {"New York"}},
    {"No no no no no no no no no no no no", false, {"Nein nein nein nein nein nein nein nein nein nein"}},
    {"It is.",
     false,
     {"Es ist so, wie es ist, und wie es war, so wird es wieder sein, wenn es erst so ist, wie es sei."}},
    {"It is.", true, {"Es ist so."}},
    {"We like %s here.", false, {"Wir sind hier."}},
    {"We like", false, {"Wir mögen #eins", "Wir mögen"}},
    {"here.", false, {"hier.", "hier"}},
    {"Come in.", false, {BROKEN "Komm"}},
    {"Come in.", true, {BROKEN "Komm", "Kommen Sie herein."}},
    {"Come out.", false, {BROKEN LOOP}},
    {"Come out.", true, {BROKEN LOOP, BROKEN "Kommen", BROKEN "Komm", LOOP}},
    {"Good.", false, {"Gut."}},
    {"Well done.", false, {"Gut", "Gut|so", "Gut|ja", "Gut|so"}},
    {"%s.example.com", false, {"Beispiel."}},
    {"$host.example.com", false, {"Gastgeber."}},
    {"\\nExample.com", false, {"Beispiel."}},
};

/* "Number 12 is %s." and its part "Number 12 is": the model loses the placeholder. */
#define NUMBERED "Number "
static const char *const numbered[ANSWERS_MAX] = {"Nummer"};

static struct {
    t5_translator *translator;
    t5_workers *device;
    atomic_int n_calls, n_seqs, n_again;
    atomic_int n_unbounded; /* sequences that a full queue takes */
    atomic_int n_listed;    /* sequences that choose from a shortlist */
    atomic_int n_second;    /* sequences of second rounds that run */
    int32_t i_refused;      /* the call that is refused; -1: none */
    t5_status status;
    bool cancels; /* the second call finds the request cancelled */
    t5_translation *_Atomic *translation;
} stage;

typedef struct {
    t5_work work;
    t5_sequence *seq;
    bool is_second; /* not of a request's first submission */
} finish_job;

static bool is_asked_again(const t5_sequence *seq)
{
    return seq->decoding.no_repeat_ngram_size > 0;
}

static const char *const *answers_of(const t5_sequence *seq)
{
    t5_error err = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    const char *const *answers = NULL;
    const t5_tokenizer *tokenizer = t5_translator_tokenizer(stage.translator);
    assert_int_equal(t5_tokenizer_decode(tokenizer, seq->input_ids, seq->n_input_ids, &text, &n_bytes, &err), T5_OK);
    assert_true(strncmp(text, PROMPT, strlen(PROMPT)) == 0);
    for (size_t i = 0; i < T5_COUNT(script); i++) {
        const bool is_meant = strcmp(text + strlen(PROMPT), script[i].source) == 0;
        if (is_meant && script[i].is_again == is_asked_again(seq)) answers = script[i].answers;
    }
    if (strncmp(text + strlen(PROMPT), NUMBERED, strlen(NUMBERED)) == 0) answers = numbered;
    if (answers == NULL) fail_msg("no answer to \"%s\"", text);
    free(text);
    return answers;
}

/* Appends the tokens of an answer. */
static void spell(const char *text, int32_t ids_max, t5_output *out)
{
    t5_error err = {0};
    const t5_tokenizer *tokenizer = t5_translator_tokenizer(stage.translator);
    const bool is_broken = text[0] == BROKEN[0];
    for (const char *part = text + is_broken, *end = part; end != NULL; part = end + 1) {
        int32_t n = 0;
        end = strchr(part, NUL);
        const size_t n_bytes = end != NULL ? (size_t)(end - part) : strlen(part);
        assert_int_equal(
            t5_tokenizer_encode(tokenizer, part, n_bytes, out->ids + out->n_ids, ids_max - out->n_ids, &n, &err),
            T5_OK);
        out->n_ids += n;
        if (end != NULL) out->ids[out->n_ids++] = t5_tokenizer_find(tokenizer, "<0x00>");
    }
    if (is_broken) out->ids[out->n_ids++] = t5_tokenizer_find(tokenizer, "<0xE4>");
}

/* As many answers as there are, and as are wanted, in the engine's layout: one block. */
static void answer(t5_sequence *seq)
{
    enum { IDS_MAX = 256 };
    const char *const *answers = answers_of(seq);
    const int32_t n_wanted = seq->decoding.num_return_sequences;
    t5_output *outputs = calloc(1, ANSWERS_MAX * (sizeof *outputs + IDS_MAX * sizeof(int32_t)));
    assert_non_null(outputs);
    int32_t *ids = (int32_t *)(outputs + ANSWERS_MAX);
    for (int32_t i = 0; i < n_wanted && i < ANSWERS_MAX && answers[i] != NULL; i++, ids += IDS_MAX) {
        outputs[i].ids = ids;
        spell(answers[i], IDS_MAX, &outputs[i]);
        seq->n_outputs = i + 1;
    }
    seq->outputs = outputs;
}

static void finish(void *ctx)
{
    finish_job *job = ctx;
    t5_sequence *seq = job->seq;
    atomic_fetch_sub(&stage.n_second, job->is_second);
    free(job);
    if (atomic_load(&seq->is_cancelled))
        T5_FAIL(&seq->error, T5_ERR_TIMEOUT, "the request was cancelled");
    else
        answer(seq);
    seq->on_done(seq, seq->ctx);
}

t5_status __wrap_t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err);

t5_status __wrap_t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    (void)e;
    const int32_t i_call = atomic_fetch_add(&stage.n_calls, 1);
    if (i_call == stage.i_refused) return T5_FAIL(err, stage.status, "refused by the test");
    if (i_call == 1 && stage.cancels) t5_translation_cancel(*stage.translation);
    if (i_call > 0) assert_int_equal(atomic_fetch_add(&stage.n_second, n_seqs), 0); /* one group at a time */
    for (int32_t i = 0; i < n_seqs; i++) {
        finish_job *job = calloc(1, sizeof *job);
        assert_non_null(job);
        *job = (finish_job){.work = {.run = finish, .ctx = job}, .seq = seqs[i], .is_second = i_call > 0};
        assert_int_equal(seqs[i]->deadline_ms, DEADLINE_MS);
        assert_true(seqs[i]->is_again || !is_asked_again(seqs[i]));
        atomic_fetch_add(&stage.n_unbounded, seqs[i]->is_again);
        atomic_fetch_add(&stage.n_again, is_asked_again(seqs[i]));
        atomic_fetch_add(&stage.n_listed, seqs[i]->shortlist > 0);
        atomic_fetch_add(&stage.n_seqs, 1);
        t5_workers_push(stage.device, &job->work, false);
    }
    return T5_OK;
}

/* The bundled model with a shortlist of all German pieces. */
static void make_folder(const char *dir)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors", "spiece.model",
                                        "t5serve.json"};
    char from[512], to[512];
    t5_error err = {0};
    t5_hparams hp;
    t5_tokenizer *tokenizer = NULL;
    for (size_t i = 0; i < T5_COUNT(files); i++) {
        snprintf(from, sizeof from, "%s/%s", MODEL_DIR, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    assert_int_equal(t5_hparams_load(dir, &hp, &err), T5_OK);
    const t5_tokenizer_options options = {.vocab_size = hp.vocab_size, .pad_id = hp.pad_id, .eos_id = hp.eos_id};
    assert_int_equal(t5_tokenizer_open(dir, &options, &tokenizer, &err), T5_OK);
    const t5_shortlist_vocab vocab = t5_shortlist_vocab_of(tokenizer, hp.vocab_size, hp.eos_id);
    int32_t *ids = malloc((size_t)vocab.n_words * sizeof *ids);
    assert_non_null(ids);
    for (int32_t i = 0; i < vocab.n_words; i++)
        ids[i] = i;
    snprintf(to, sizeof to, "%s/shortlist.de.json", dir);
    assert_int_equal(t5_shortlist_write(to, &vocab, ids, vocab.n_words, &err), T5_OK);
    free(ids);
    t5_tokenizer_close(tokenizer);
}

static int open_stage(void **state)
{
    t5_error err = {0};
    t5_translator_options options;
    char dir[256];
    (void)state;
    folder_make(dir, sizeof dir);
    make_folder(dir);
    t5_translator_options_init(&options);
    options.model_dir = dir;
    options.uses_shortlists = true;
    options.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    if (t5_translator_open(&options, &stage.translator, &err) != T5_OK) fail_msg("%s", err.text);
    folder_remove(dir); /* the weights are mapped */
    return t5_workers_create(1, &stage.device, &err) == T5_OK ? 0 : -1;
}

static int close_stage(void **state)
{
    (void)state;
    t5_workers_destroy(stage.device);
    t5_translator_close(stage.translator);
    return 0;
}

static void set_stage(int32_t i_refused, t5_status status, bool cancels)
{
    atomic_store(&stage.n_calls, 0);
    atomic_store(&stage.n_seqs, 0);
    atomic_store(&stage.n_again, 0);
    stage.i_refused = i_refused;
    stage.status = status;
    stage.cancels = cancels;
}

/* ---- one request and its end ---- */

static void on_progress(void *ctx)
{
    (void)ctx;
}

static t5_translation_request make_request(const t5_text *text)
{
    t5_translation_request r = {
        .texts = text, .n_texts = 1, .decoding = t5_translator_profile(stage.translator)->defaults};
    r.decoding.num_beams = 1;
    r.deadline_ms = DEADLINE_MS;
    return r;
}

static t5_text make_text(const char *text)
{
    return (t5_text){.text = text, .n_bytes = strlen(text), .source = "en", .target = "de"};
}

static t5_status run(t5_translation_request *r, t5_translation *_Atomic *out, t5_error *err)
{
    waiter w = WAITER_INIT;
    t5_translation *tr = NULL;
    r->on_done = waiter_done;
    r->ctx = &w;
    t5_error_clear(err);
    stage.translation = out;
    assert_int_equal(t5_translation_start(stage.translator, r, (t5_translation **)out, err), T5_OK);
    tr = *out;
    waiter_wait(&w);
    return t5_translation_finish(tr, err);
}

/* The translation of a text with a request as it is made here, after `n_seqs` sequences. */
static void check(t5_translation_request *r, const char *want, int32_t n_seqs)
{
    t5_error err = {0};
    t5_translation *_Atomic tr = NULL;
    atomic_store(&stage.n_seqs, 0);
    atomic_store(&stage.n_unbounded, 0);
    if (run(r, &tr, &err) != T5_OK) fail_msg("%s", err.text);
    assert_string_equal(t5_translation_get(tr, 0)->text, want);
    assert_int_equal(atomic_load(&stage.n_seqs), n_seqs);
    t5_translation_destroy(tr);
}

static void check_text(const char *source, const char *want, int32_t n_seqs)
{
    const t5_text text = make_text(source);
    t5_translation_request r = make_request(&text);
    set_stage(-1, T5_OK, false);
    check(&r, want, n_seqs);
}

/* Claim: a lost placeholder comes back, and when the parts say others the sentence stays as it is: the words around it
 * are translated, without the dots that the model adds, and it stands where it stood. One that was kept, or that
 * another result kept, needs no second round. Method: one of each.
 */
static void lost_placeholders_come_back(void **state)
{
    (void)state;
    check_text("Hello %s, how are you?", "Hallo %s, wie geht es dir?", 1);
    check_text("You have %d new files.", "Du hast %d neue Dateien.", 3);
    check_text("Good.\tYou have %d new files.\r\n\r\n%s (%d)\n", "Gut.\tDu hast %d neue Dateien.\r\n\r\n%s (%d)\n", 4);
    check_text("We like %s here.", "We like %s here.", 3);
    static const char *const sources[] = {"See %s now.", "We like %s here."};
    static const char *const wanted[] = {"Siehe %s jetzt.", "Wir mögen %s hier"};
    for (int i = 0; i < 2; i++) { /* the second of several results */
        const t5_text text = make_text(sources[i]);
        t5_translation_request r = make_request(&text);
        r.n_alternatives = 3;
        check(&r, wanted[i], i == 0 ? 1 : 3);
    }
}

/* Claim: only the first round chooses from the language's shortlist, which may be what was wrong. Method: sentences
 * that are translated again whole and in parts. */
static void second_rounds_have_no_list(void **state)
{
    (void)state;
    atomic_store(&stage.n_listed, 0);
    check_text("You have %d new files.", "Du hast %d neue Dateien.", 3);
    assert_int_equal(atomic_load(&stage.n_listed), 1);
    check_text("Tell me more.", "Sag mir mehr.", 2);
    assert_int_equal(atomic_load(&stage.n_listed), 2);
}

/* Claim: a sentence that is nothing but placeholders once it is in parts stays as it is. Method: what follows a
 * placeholder is another one only when it stands alone. */
static void sentences_without_parts_stay(void **state)
{
    (void)state;
    check_text("%s.example.com", "%s.example.com", 1);
    check_text("$host.example.com", "$host.example.com", 1);
    check_text("\\nExample.com", "\\nExample.com", 1);
}

/* Claim: alternatives that lose a placeholder are dropped; those of parts are joined. Method: both kinds. */
static void alternatives_keep_placeholders(void **state)
{
    static const struct {
        const char *source, *alternative;
    } cases[] = {{"See %s now.", "Sieh %s an."}, {"You have %d new files.", "Ihr habt %d neue Akten."}};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_error err = {0};
        t5_translation *_Atomic tr = NULL;
        const t5_text text = make_text(cases[i].source);
        t5_translation_request r = make_request(&text);
        r.n_alternatives = 3;
        set_stage(-1, T5_OK, false);
        assert_int_equal(run(&r, &tr, &err), T5_OK);
        assert_int_equal(t5_translation_get(tr, 0)->n_alternatives, 1);
        assert_string_equal(t5_translation_get(tr, 0)->alternatives[0].text, cases[i].alternative);
        t5_translation_destroy(tr);
    }
}

/* Claim: a NUL that the model spells is a character of an alternative like any other. Method: some that only differ
 * behind it, from the translation and from each other, and two that do not. */
static void alternatives_go_on_behind_a_nul(void **state)
{
    static const char *const wanted[] = {"Gut\0 so", "Gut\0 ja"};
    const size_t wanted_bytes = 7;
    (void)state;
    t5_error err = {0};
    t5_translation *_Atomic tr = NULL;
    const t5_text text = make_text("Well done.");
    t5_translation_request r = make_request(&text);
    r.n_alternatives = 3;
    set_stage(-1, T5_OK, false);
    assert_int_equal(run(&r, &tr, &err), T5_OK);
    const t5_translated *result = t5_translation_get(tr, 0);
    assert_string_equal(result->text, "Gut");
    assert_int_equal(result->n_alternatives, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(result->alternatives[i].n_bytes, wanted_bytes);
        assert_memory_equal(result->alternatives[i].text, wanted[i], wanted_bytes);
    }
    t5_translation_destroy(tr);
}

/* Claim: a loop, a text out of proportion, broken characters and an echo are translated again, and the first better
 * result is taken; when none is better the first translation stays. Loops and echoes of the source itself are fine.
 * Method: one of each. */
static void flaws_are_searched_again(void **state)
{
    (void)state;
    check_text("Tell me more.", "Sag mir mehr.", 2);
    check_text("Tell me less.", "Sag " LOOP, 2);
    check_text("It costs %s today.", "Es kostet heute %s.", 2);
    check_text("It is.", "Es ist so.", 2);
    check_text("Come out.", "Kommen\xEF\xBF\xBD", 2);
    check_text("Come in.", "Kommen Sie herein.", 2);
    check_text("Where are my keys now?", "Wo ist mein Schlüssel?", 2);
    check_text("Wo sind denn nur meine Schlüssel?", "Wo sind denn nur meine Schlüssel?", 1);
    check_text("New York", "New York", 1);
    check_text("No no no no no no no no no no no no", "Nein nein nein nein nein nein nein nein nein nein", 1);
}

/* Claim: a request that pins its search, or is read along, keeps what the search said; placeholders are still kept.
 * Method: a loop, and a lost placeholder, with each reason. */
static void pinned_requests_are_left_alone(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        const t5_text texts[] = {make_text("Tell me more."), make_text("You have %d new files.")};
        static const char *const wanted[] = {"Sag " LOOP, "Du hast %d neue Dateien."};
        for (size_t k = 0; k < T5_COUNT(texts); k++) {
            t5_translation_request r = make_request(&texts[k]);
            set_stage(-1, T5_OK, false);
            r.is_pinned = i == 0;
            r.has_max_new_tokens = i == 1;
            r.on_progress = i == 2 ? on_progress : NULL;
            check(&r, wanted[k], k == 0 ? 1 : 3);
            assert_int_equal(atomic_load(&stage.n_again), 0);
        }
    }
}

/* Claim: what is read along has all placeholders, and is what comes in the end. Method: pieces put together. */
static void held_sentences_are_read(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *_Atomic tr = NULL;
    t5_piece piece = {0};
    char read[256] = "";
    const t5_text text = make_text("Good. You have %d new files. Good.\nHello %s, how are you?");
    t5_translation_request r = make_request(&text);
    r.on_progress = on_progress;
    set_stage(-1, T5_OK, false);
    assert_int_equal(run(&r, &tr, &err), T5_OK);
    do {
        assert_int_equal(t5_translation_read(tr, &piece, &err), T5_OK);
        strncat(read, piece.bytes != NULL ? piece.bytes : "", piece.n_bytes);
    } while (piece.n_bytes > 0);
    assert_string_equal(read, "Gut. Du hast %d neue Dateien. Gut.\nHallo %s, wie geht es dir?");
    assert_string_equal(t5_translation_get(tr, 0)->text, read);
    t5_translation_destroy(tr);
}

/* Claim: when a server that stops refuses the second round a flawed translation stands, and a sentence that lost a
 * placeholder comes back as it is; when memory runs out or a device is lost it is an error. Method: the second call is
 * refused. */
static void second_round_may_be_refused(void **state)
{
    static const t5_status failures[] = {T5_ERR_NOMEM, T5_ERR_DEVICE};
    (void)state;
    t5_text text = make_text("Good. You have %d new files.");
    t5_translation_request r = make_request(&text);
    set_stage(1, T5_ERR_BUSY, false);
    check(&r, "Gut. You have %d new files.", 2);
    for (size_t i = 0; i < T5_COUNT(failures); i++) {
        t5_error err = {0};
        t5_translation *_Atomic tr = NULL;
        set_stage(1, failures[i], false);
        assert_int_equal(run(&r, &tr, &err), failures[i]);
        t5_translation_destroy(tr);
    }
    text = make_text("Tell me more.");
    r = make_request(&text);
    set_stage(1, T5_ERR_BUSY, false);
    check(&r, "Sag " LOOP, 1);
}

/* Claim: a request with many second rounds has one group of them in the queue at a time, and gets all. Method: 300
 * sentences that lose their placeholder; the script looks at each submission. */
static void one_group_at_a_time(void **state)
{
    enum { N_SENTENCES = 300 };
    static char source[N_SENTENCES * 32], want[N_SENTENCES * 32];
    size_t n_source = 0, n_want = 0;
    (void)state;
    for (int i = 0; i < N_SENTENCES; i++) {
        n_source += (size_t)snprintf(source + n_source, sizeof source - n_source, NUMBERED "%d is %%s.\n", i);
        n_want += (size_t)snprintf(want + n_want, sizeof want - n_want, "Nummer %%s.\n");
    }
    check_text(source, want, 2 * N_SENTENCES);
    assert_int_equal(atomic_load(&stage.n_unbounded), N_SENTENCES);
    assert_true(atomic_load(&stage.n_calls) >= 2);
}

/* Claim: a request can be cancelled in its second round, and one whose time passes there is late: it never answers with
 * what the first round said, which depends on how busy the server is. Method: cancelled while it is submitted, which
 * ends it as its deadline would; a sentence that lost a placeholder, one that loops. */
static void second_round_is_cancelled(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_translation *_Atomic tr = NULL;
    t5_text text = make_text("You have %d new files.");
    t5_translation_request r = make_request(&text);
    set_stage(-1, T5_OK, true);
    assert_int_equal(run(&r, &tr, &err), T5_ERR_TIMEOUT);
    t5_translation_destroy(tr);
    text = make_text("Tell me more.");
    r = make_request(&text);
    set_stage(-1, T5_OK, true);
    assert_int_equal(run(&r, &tr, &err), T5_ERR_TIMEOUT);
    t5_translation_destroy(tr);
}

/* Claim: the second round is counted. Method: the tokens of a sentence whose
 * parts are translated are more than those of the sentence and its first translation. */
static void usage_counts_both_rounds(void **state)
{
    (void)state;
    t5_usage usage[2];
    static const char *const sources[] = {"Good.", "You have %d new files."};
    for (size_t i = 0; i < 2; i++) {
        t5_error err = {0};
        t5_translation *_Atomic tr = NULL;
        const t5_text text = make_text(sources[i]);
        t5_translation_request r = make_request(&text);
        set_stage(-1, T5_OK, false);
        assert_int_equal(run(&r, &tr, &err), T5_OK);
        t5_translation_usage(tr, &usage[i]);
        t5_translation_destroy(tr);
    }
    assert_true(usage[1].n_source_tokens > 2 * usage[0].n_source_tokens);
    assert_true(usage[1].n_target_tokens > 2 * usage[0].n_target_tokens);
}

/* Claim: loops, proportions, echoes and likeness are what checks.h says. Method: both sides of each border. */
static void checks(void **state)
{
    (void)state;
    int32_t ids[64];
    for (int32_t i = 0; i < 64; i++)
        ids[i] = i;
    assert_false(t5_check_repeats(ids, 64));
    assert_false(t5_check_repeats(ids, 0));
    for (int32_t i = 10; i < 64; i++)
        ids[i] = ids[i - 7];
    assert_true(t5_check_repeats(ids, 3 + 4 * 7));
    assert_false(t5_check_repeats(ids, 3 + 4 * 7 - 1));
    for (int32_t i = 0; i < 9; i++)
        ids[i] = 5;
    assert_false(t5_check_repeats(ids, 9));
    ids[9] = 5;
    assert_true(t5_check_repeats(ids, 10));
    assert_false(t5_check_is_too_long("Yes", 3, "Aber ja doch, mein lieber Freund!", 33));
    assert_true(t5_check_is_too_long("Yes", 3, "Aber ja doch, mein lieber Freund, das ist es ja gerade!", 54));
    assert_false(t5_check_is_too_long("我们明天再来看看这个", 30,
                                      "We will come back tomorrow to take another look at this one.", 60));
    assert_true(t5_check_is_broken("a", 1, "b\xEF\xBF\xBD", 4));
    assert_false(t5_check_is_broken("a\xEF\xBF\xBD", 4, "b\xEF\xBF\xBD", 4));
    assert_false(t5_check_is_broken("a", 1, "b", 1));
    assert_true(t5_check_is_echo("one two three", 13, "one two three", 13));
    assert_false(t5_check_is_echo("one two three", 13, "one two Three", 13));
    assert_false(t5_check_is_echo("one two", 7, "one two", 7));
    assert_true(t5_check_is_echo("我们明天再来", 18, "我们明天再来", 18));
    assert_true(t5_check_likeness("a b c", 5, "a b x y", 7) == 0.5);
    assert_true(t5_check_likeness("a b c", 5, "", 0) == 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_placeholders_come_back),
        cmocka_unit_test(second_rounds_have_no_list),
        cmocka_unit_test(sentences_without_parts_stay),
        cmocka_unit_test(alternatives_keep_placeholders),
        cmocka_unit_test(alternatives_go_on_behind_a_nul),
        cmocka_unit_test(flaws_are_searched_again),
        cmocka_unit_test(pinned_requests_are_left_alone),
        cmocka_unit_test(held_sentences_are_read),
        cmocka_unit_test(second_round_may_be_refused),
        cmocka_unit_test(one_group_at_a_time),
        cmocka_unit_test(second_round_is_cancelled),
        cmocka_unit_test(usage_counts_both_rounds),
        cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, open_stage, close_stage);
}
