/* tests/fake_translator.c: a translator that needs no model, for tests of the server: t5serve_fake is main.c linked
 * with this instead of translate/translator.c. The answer is "<target>:" + text. A text can ask for more:
 *   sleep=MS ...   the answer comes after MS milliseconds, or at once when it is given up
 *   hold=PATH      the answer comes when the file PATH is there, or at once when it is given up; who reads along gets
 *                  its first byte before
 *   drip=MS ...    who reads along gets a byte of the first answer every MS milliseconds
 *   busy           start answers T5_ERR_BUSY, for 7 seconds
 *   fail=io        finish answers T5_ERR_IO, with a path that no client may see
 *   fail=arg       start answers T5_ERR_ARG
 *   fail=pair      the same, for a detected language without this target
 *   lost           the device fails
 *   stuck          the engine seems to work on something for ever
 * A model folder called sleep=MS takes as long to open. Cancelled ones are counted in the engine's statistics. One
 * thread ends what is due. */
#include "base/clock.h"
#include "translate/generation.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct t5_translation {
    t5_translation_request request;
    int64_t start_ms, due_ms, drip_ms;
    const char *gate; /* a path in the request's text, or NULL */
    atomic_bool is_cancelled, is_done;
    bool was_given_up;
    int32_t i_read;         /* the text that is being read */
    int64_t n_read;         /* its bytes that were */
    t5_translated *results; /* [n_texts] */
    t5_translation *next;
};

struct t5_translator {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    t5_translation *first;
    bool is_stopping;
    t5_engine_stats stats;
    t5_profile profile;
    t5_pair pairs[3];
};

static t5_translator fake = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static bool is_due(const t5_translation *tr, int64_t now_ms)
{
    return tr->gate != NULL ? access(tr->gate, F_OK) == 0 : now_ms >= tr->due_ms;
}

/* Unlinks one translation that is due, or NULL. */
static t5_translation *take_due(int64_t now_ms)
{
    for (t5_translation **link = &fake.first; *link != NULL; link = &(*link)->next) {
        t5_translation *tr = *link;
        bool is_late = tr->request.deadline_ms != 0 && now_ms >= tr->request.deadline_ms;
        tr->was_given_up = atomic_load(&tr->is_cancelled) || is_late;
        if (!tr->was_given_up && !is_due(tr, now_ms)) continue;
        *link = tr->next;
        if (tr->was_given_up) *(is_late ? &fake.stats.n_late : &fake.stats.n_cancelled) += 1;
        return tr;
    }
    return NULL;
}

/* Somebody reads along, and there may be another byte. */
static void drip(void)
{
    for (t5_translation *tr = fake.first; tr != NULL; tr = tr->next)
        if ((tr->drip_ms > 0 || tr->gate != NULL) && tr->request.on_progress != NULL)
            tr->request.on_progress(tr->request.ctx);
}

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void *run(void *arg)
{
    (void)arg;
    for (bool is_stopping = false; !is_stopping;) {
        pthread_mutex_lock(&fake.mutex);
        t5_translation *tr = take_due(t5_clock_ms());
        if (tr == NULL) drip();
        is_stopping = fake.is_stopping;
        pthread_mutex_unlock(&fake.mutex);
        if (tr != NULL) {
            atomic_store(&tr->is_done, true);
            tr->request.on_done(tr->request.ctx);
        }
        if (tr == NULL) pause_ms(1);
    }
    return NULL;
}

void t5_translator_options_init(t5_translator_options *o)
{
    memset(o, 0, sizeof *o);
}

t5_status t5_translator_open(const t5_translator_options *options, t5_translator **out, t5_error *err)
{
    static const t5_pair pairs[] = {{"en", "de", ""}, {"en", "fr", ""}, {"en", "zh-Hant", ""}};
    long long open_ms = 0;
    if (sscanf(options->model_dir, "sleep=%lld", &open_ms) == 1) pause_ms(open_ms);
    memcpy(fake.pairs, pairs, sizeof pairs);
    snprintf(fake.profile.name, sizeof fake.profile.name, "fake");
    fake.profile.pairs = fake.pairs;
    fake.profile.n_pairs = (int32_t)T5_COUNT(pairs);
    t5_decoding_init(&fake.profile.defaults);
    if (pthread_create(&fake.thread, NULL, run, NULL) != 0) return T5_FAIL(err, T5_ERR_NOMEM, "fake: no thread");
    *out = &fake;
    return T5_OK;
}

t5_status t5_translator_describe(const t5_translator_options *options, t5_profile *out_profile,
                                 t5_decoding *out_defaults, t5_error *err)
{
    (void)options, (void)out_profile, (void)out_defaults;
    return T5_FAIL(err, T5_ERR_ARG, "the fake is open or not there");
}

void t5_translator_close(t5_translator *t)
{
    if (t == NULL) return;
    pthread_mutex_lock(&t->mutex);
    t->is_stopping = true;
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
}

const t5_profile *t5_translator_profile(const t5_translator *t)
{
    return &t->profile;
}

t5_engine *t5_translator_engine(t5_translator *t)
{
    (void)t;
    return NULL;
}

const char *t5_translator_device(const t5_translator *t)
{
    (void)t;
    return "fake";
}

void t5_translator_stats_get(const t5_translator *t, t5_translator_stats *out)
{
    (void)t;
    memset(out, 0, sizeof *out);
}

void t5_engine_stats_get(t5_engine *e, t5_engine_stats *out)
{
    (void)e;
    pthread_mutex_lock(&fake.mutex);
    *out = fake.stats;
    pthread_mutex_unlock(&fake.mutex);
}

t5_status t5_engine_check_room(t5_engine *e, int64_t deadline_ms, t5_error *err)
{
    (void)e, (void)deadline_ms, (void)err;
    return T5_OK;
}

t5_status t5_translation_start(t5_translator *t, const t5_translation_request *request, t5_translation **out,
                               t5_error *err)
{
    const char *text = request->texts[0].text;
    int64_t sleep_ms = strncmp(text, "sleep=", 6) == 0 ? strtoll(text + 6, NULL, 10) : 0;
    if (strcmp(text, "fail=arg") == 0) return T5_FAIL(err, T5_ERR_ARG, "max_new_tokens: 9, at most 8 are possible");
    if (strcmp(text, "fail=pair") == 0)
        return T5_FAIL(err, T5_ERR_ARG, "French (fr) is not available as a target language from German (de)");
    if (strcmp(text, "busy") == 0) {
        T5_FAIL(err, T5_ERR_BUSY, "the queue is full, try again later");
        return t5_error_retry_after(err, 7);
    }
    t5_translation *tr = calloc(1, sizeof *tr);
    if (tr == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "fake: out of memory");
    tr->request = *request;
    tr->start_ms = t5_clock_ms();
    if (strncmp(text, "hold=", 5) == 0) tr->gate = text + 5;
    if (strncmp(text, "drip=", 5) == 0) tr->drip_ms = strtoll(text + 5, NULL, 10);
    tr->due_ms = tr->start_ms + sleep_ms + tr->drip_ms * (int64_t)(request->texts[0].n_bytes + 3);
    *out = tr;
    pthread_mutex_lock(&t->mutex);
    tr->next = t->first;
    t->first = tr;
    t->stats.n_sequences += request->n_texts;
    if (strcmp(text, "lost") == 0) t->stats.is_lost = true;
    if (strcmp(text, "stuck") == 0) t->stats.n_running = 1;
    pthread_mutex_unlock(&t->mutex);
    return T5_OK;
}

static t5_status answer(const t5_text *text, t5_translated *out, t5_error *err)
{
    size_t n_prefix = strlen(text->target) + 1;
    char *bytes = malloc(n_prefix + text->n_bytes + 1);
    if (bytes == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "fake: out of memory");
    memcpy(bytes, text->target, n_prefix - 1);
    bytes[n_prefix - 1] = ':';
    memcpy(bytes + n_prefix, text->text, text->n_bytes);
    bytes[n_prefix + text->n_bytes] = '\0';
    out->text = bytes;
    out->n_bytes = n_prefix + text->n_bytes;
    if (strcmp(text->source, "auto") == 0) out->detected = "en";
    out->confidence = 95.3;
    return T5_OK;
}

static t5_status make_results(t5_translation *tr, t5_error *err)
{
    t5_status status = T5_OK;
    if (tr->results != NULL) return T5_OK;
    tr->results = calloc((size_t)tr->request.n_texts, sizeof *tr->results);
    if (tr->results == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "fake: out of memory");
    for (int32_t i = 0; i < tr->request.n_texts && status == T5_OK; i++)
        status = answer(&tr->request.texts[i], &tr->results[i], err);
    return status;
}

t5_status t5_translation_read(t5_translation *tr, t5_piece *out, t5_error *err)
{
    *out = (t5_piece){0};
    const bool is_done = atomic_load(&tr->is_done);
    if (is_done && tr->was_given_up) return T5_OK;
    if (make_results(tr, err) != T5_OK) return err->status;
    for (; tr->i_read < tr->request.n_texts; tr->i_read++, tr->n_read = 0) {
        const t5_translated *result = &tr->results[tr->i_read];
        int64_t n_certain = tr->drip_ms > 0 ? (t5_clock_ms() - tr->start_ms) / tr->drip_ms : tr->gate != NULL;
        if (is_done || n_certain > (int64_t)result->n_bytes) n_certain = (int64_t)result->n_bytes;
        *out = (t5_piece){
            .i_text = tr->i_read, .bytes = result->text + tr->n_read, .n_bytes = (size_t)(n_certain - tr->n_read)};
        tr->n_read = n_certain;
        if (out->n_bytes > 0 || n_certain < (int64_t)result->n_bytes) return T5_OK;
    }
    return T5_OK;
}

t5_status t5_translation_finish(t5_translation *tr, t5_error *err)
{
    if (tr->was_given_up) return T5_FAIL(err, T5_ERR_TIMEOUT, "the request took too long");
    if (strcmp(tr->request.texts[0].text, "fail=io") == 0) return T5_FAIL(err, T5_ERR_IO, "/secret/path: broken");
    return make_results(tr, err);
}

/* A token for each byte. */
void t5_translation_usage(const t5_translation *tr, t5_usage *out)
{
    *out = (t5_usage){0};
    for (int32_t i = 0; i < tr->request.n_texts; i++) {
        out->n_source_tokens += (int64_t)tr->request.texts[i].n_bytes;
        out->n_target_tokens += (int64_t)tr->results[i].n_bytes;
    }
}

const t5_translated *t5_translation_get(const t5_translation *tr, int32_t i_text)
{
    return &tr->results[i_text];
}

void t5_translation_cancel(t5_translation *tr)
{
    atomic_store(&tr->is_cancelled, true);
}

void t5_translation_destroy(t5_translation *tr)
{
    if (tr == NULL) return;
    for (int32_t i = 0; tr->results != NULL && i < tr->request.n_texts; i++)
        free((char *)(size_t)tr->results[i].text);
    free(tr->results);
    free(tr);
}

/* --- text to text: it has none --- */

const t5_decoding *t5_translator_generation_defaults(const t5_translator *t)
{
    return &t->profile.defaults;
}

t5_status t5_generation_start(t5_translator *t, const t5_generation_request *request, t5_generation **out,
                              t5_error *err)
{
    (void)t, (void)request;
    *out = NULL;
    return T5_FAIL(err, T5_ERR_ARG, "the fake has no model");
}

t5_status t5_generation_read(t5_generation *g, t5_piece *out, t5_error *err)
{
    (void)g, (void)out;
    return T5_FAIL(err, T5_ERR_ARG, "the fake has no model");
}

t5_status t5_generation_finish(t5_generation *g, t5_error *err)
{
    (void)g;
    return T5_FAIL(err, T5_ERR_ARG, "the fake has no model");
}

const int32_t *t5_generation_input_ids(const t5_generation *g, int32_t i_input, int32_t *out_n)
{
    (void)g, (void)i_input;
    *out_n = 0;
    return NULL;
}

int32_t t5_generation_n_results(const t5_generation *g, int32_t i_input)
{
    (void)g, (void)i_input;
    return 0;
}

const t5_generated *t5_generation_get(const t5_generation *g, int32_t i_input, int32_t i_result)
{
    (void)g, (void)i_input, (void)i_result;
    return NULL;
}

void t5_generation_usage(const t5_generation *g, t5_usage *out)
{
    (void)g;
    *out = (t5_usage){0};
}

void t5_generation_cancel(t5_generation *g)
{
    (void)g;
}

void t5_generation_destroy(t5_generation *g)
{
    (void)g;
}

const t5_tokenizer *t5_translator_tokenizer(const t5_translator *t)
{
    (void)t;
    return NULL;
}

int32_t t5_translator_tgt_len_max(const t5_translator *t)
{
    (void)t;
    return 1;
}
