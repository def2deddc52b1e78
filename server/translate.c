/* server/translate.c: POST /translate, as LibreTranslate has it. handle: fields -> params -> start; the device thread
 * resumes; finish: detokenize, join, reply. With "stream" the answer begins at once and goes on as the translation
 * does. */
#include "server/admit.h"
#include "server/routes.h"
#include "server/stream.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    t5_params params;
    t5_journey *journey; /* NULL when it could not start */
    t5_error error;      /* why not */
    t5_stream *stream;   /* NULL: the answer is sent whole */
} translate_state;

static void destroy(void *work)
{
    translate_state *state = work;
    t5_journey_destroy(state->journey);
    t5_params_deinit(&state->params);
    free(state);
}

static void cancel(void *work)
{
    translate_state *state = work;
    t5_journey_cancel(state->journey);
}

void t5_translate_release(void *p)
{
    translate_state *state = p;
    t5_stream *stream = state->stream;
    if (stream == NULL) destroy(state);
    t5_stream_release(stream); /* destroys the state too, when the work is done */
}

void t5_translate_cancel(t5_exchange *x)
{
    cancel(t5_exchange_state(x));
}

static json_t *describe_text(const t5_journey *journey, int32_t i_text)
{
    const t5_translated *result = t5_journey_get(journey, i_text);
    return json_stringn(result->text, result->n_bytes);
}

static json_t *describe_detected(const t5_journey *journey, int32_t i_text)
{
    const t5_translated *result = t5_journey_get(journey, i_text);
    return json_pack("{s:f, s:s}", "confidence", result->confidence, "language", result->detected);
}

static json_t *list_alternatives(const t5_journey *journey, int32_t i_text)
{
    const t5_translated *result = t5_journey_get(journey, i_text);
    json_t *list = json_array();
    for (int32_t i = 0; i < result->n_alternatives; i++)
        json_array_append_new(list, json_stringn(result->alternatives[i].text, result->alternatives[i].n_bytes));
    return list;
}

/* The language in between, for each text that has one. */
static json_t *describe_pivot(const t5_journey *journey, int32_t i_text)
{
    const char *pivot = t5_journey_pivot(journey, i_text);
    return pivot != NULL ? json_string(pivot) : json_null();
}

/* The values of all texts under `key`: an array in a batch, else the only one. Steals `values`. */
static void set_values(json_t *reply, const char *key, json_t *values, bool is_batch)
{
    if (is_batch) json_object_set(reply, key, values);
    if (!is_batch) json_object_set(reply, key, json_array_get(values, 0));
    json_decref(values);
}

/* Some text went through a language in between. */
static bool has_pivot(const t5_params *p, const t5_journey *journey)
{
    for (int32_t i = 0; i < p->n_texts; i++)
        if (t5_journey_pivot(journey, i) != NULL) return true;
    return false;
}

/* Sets `key` to what `describe` says of each text. False when out of memory. */
static bool set_described(json_t *reply, const char *key, const t5_params *p, const t5_journey *journey,
                          json_t *(*describe)(const t5_journey *journey, int32_t i_text))
{
    json_t *values = json_array();
    for (int32_t i = 0; i < p->n_texts; i++)
        json_array_append_new(values, describe(journey, i));
    const bool is_complete = json_array_size(values) == (size_t)p->n_texts;
    set_values(reply, key, values, p->is_batch);
    return is_complete;
}

/* Fields stand only where they were asked for: clients look at which are there. NULL when out of memory. */
static json_t *make_reply(const t5_params *p, const t5_journey *journey)
{
    json_t *reply = json_object();
    bool is_auto = p->n_texts > 0 && t5_journey_get(journey, 0)->detected != NULL;
    const bool is_complete = set_described(reply, "translatedText", p, journey, describe_text);
    if (is_auto) set_described(reply, "detectedLanguage", p, journey, describe_detected);
    if (p->n_alternatives > 0) set_described(reply, "alternatives", p, journey, list_alternatives);
    if (has_pivot(p, journey)) set_described(reply, "pivot", p, journey, describe_pivot);
    if (is_complete) return reply;
    json_decref(reply);
    return NULL;
}

/* What the translator refuses reads like every bad request. Only a pair that a detected language lacks has words of
 * LibreTranslate's, which clients match on. */
static void word_error(t5_error *err)
{
    const t5_error cause = *err;
    bool is_pair = strstr(cause.text, "is not available as a target language") != NULL;
    if (cause.status != T5_ERR_ARG || is_pair) return;
    t5_error_clear(err);
    T5_FAIL(err, cause.status, "Invalid request: %s", cause.text);
}

/* Texts, results and tokens. NULL, and *err, when the translation failed. */
static json_t *finish(t5_exchange *x, translate_state *state, t5_usage *out_usage, t5_error *err)
{
    if (t5_journey_finish(state->journey, err) != T5_OK) return NULL;
    t5_journey_usage(state->journey, out_usage);
    t5_exchange_set_usage(x, state->params.n_texts, out_usage->n_source_tokens, out_usage->n_target_tokens);
    return make_reply(&state->params, state->journey);
}

/* "length" when a text was cut short by max_new_tokens. */
static const char *finish_reason(const translate_state *state)
{
    for (int32_t i = 0; i < state->params.n_texts; i++)
        if (t5_journey_get(state->journey, i)->is_truncated) return "length";
    return "stop";
}

/* --- whole --- */

/* On the device thread, or in start. */
static void on_done(void *ctx)
{
    t5_exchange_resume(ctx);
}

void t5_translate_finish(t5_exchange *x, void *server)
{
    translate_state *state = t5_exchange_state(x);
    t5_usage usage;
    json_t *reply = NULL;
    (void)server;
    if (state->error.status == T5_OK) reply = finish(x, state, &usage, &state->error);
    if (state->error.status == T5_OK) {
        const char *reason = finish_reason(state);
        if (strcmp(reason, "stop") != 0) json_object_set_new(reply, "finish_reason", json_string(reason));
        t5_exchange_reply_json(x, 200, reply);
    } else {
        word_error(&state->error);
        t5_exchange_fail(x, &state->error);
    }
    json_decref(reply);
}

/* --- as a stream --- */

static t5_status read_pieces(void *work, t5_buffer *events, t5_error *err)
{
    translate_state *state = work;
    for (;;) {
        t5_piece piece;
        t5_status status = t5_journey_read(state->journey, &piece, err);
        if (status != T5_OK || piece.n_bytes == 0) return status;
        status = t5_stream_piece(events, &piece, state->params.is_batch, err);
        if (status != T5_OK) return status;
    }
}

/* The reply as it would be without a stream, and how it came about. */
static t5_status append_reply(void *work, t5_exchange *x, t5_buffer *events, t5_error *err)
{
    translate_state *state = work;
    t5_usage usage;
    json_t *reply = finish(x, state, &usage, err);
    if (err->status != T5_OK) {
        word_error(err);
        return err->status;
    }
    json_object_set_new(reply, "finish_reason", json_string(finish_reason(state)));
    json_object_set_new(reply, "usage", t5_stream_usage(&usage));
    return t5_stream_event(events, NULL, reply, err);
}

static const t5_stream_ops stream_ops = {
    .read = read_pieces, .finish = append_reply, .cancel = cancel, .destroy = destroy};

static void start_stream(t5_exchange *x, const t5_server *s, translate_state *state, t5_translation_request *request)
{
    t5_stream *stream = t5_stream_create(x, &stream_ops, state);
    if (stream == NULL) T5_FAIL(&state->error, T5_ERR_NOMEM, "a stream");
    state->stream = stream;
    request->on_progress = t5_stream_progress;
    request->on_done = t5_stream_done;
    request->ctx = stream;
    if (stream != NULL &&
        t5_journey_start(s->catalog, request, state->params.given, &state->journey, &state->error) == T5_OK) {
        t5_stream_answer(stream);
        return;
    }
    if (stream != NULL) t5_stream_abandon(stream);
    word_error(&state->error);
    t5_exchange_fail(x, &state->error);
}

/* --- the request --- */

/* False: the exchange is answered. */
static bool read_params(t5_exchange *x, const t5_server *s, t5_params *out)
{
    json_t *fields = NULL;
    bool is_form = false, is_answered = false;
    t5_error err = {0};
    t5_params_rules rules;
    if (t5_exchange_fields(x, NULL, &fields, &is_form, &err) == T5_OK) {
        const char *key = json_string_value(json_object_get(fields, "api_key"));
        const int64_t n_texts = (int64_t)json_array_size(json_object_get(fields, "q"));
        is_answered = !t5_server_admits(x, s, &t5_refusals_libretranslate, key, n_texts, &rules);
        if (!is_answered) t5_params_read(fields, is_form, &rules, out, &err);
        json_decref(fields);
    }
    if (err.status != T5_OK) t5_exchange_fail(x, &err);
    return !is_answered && err.status == T5_OK;
}

void t5_translate_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    t5_error err = {0};
    translate_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        T5_FAIL(&err, T5_ERR_NOMEM, "translate: %zu bytes", sizeof *state);
        t5_exchange_fail(x, &err);
        return;
    }
    t5_exchange_set_state(x, state);
    if (!read_params(x, s, &state->params)) return;
    const t5_params *p = &state->params;
    t5_translation_request request = {
        .texts = p->texts,
        .n_texts = p->n_texts,
        .split = p->split,
        .decoding = p->decoding,
        .has_max_new_tokens = p->has_max_new_tokens,
        .is_pinned = p->given != 0,
        .n_alternatives = p->is_html ? 0 : p->n_alternatives, /* the reply has empty lists */
        .deadline_ms = t5_exchange_deadline_ms(x),
        .on_done = on_done,
        .ctx = x,
    };
    if (p->is_streamed) {
        start_stream(x, s, state, &request);
        return;
    }
    t5_exchange_suspend(x);
    t5_status status = t5_journey_start(s->catalog, &request, p->given, &state->journey, &state->error);
    if (status != T5_OK) t5_exchange_resume(x); /* on_done will not be called */
}
