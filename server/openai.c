/* server/openai.c: see openai.h. The way of a request is that of generate.c. A prompt is the encoder's text, a choice
 * one result; the choices of prompt i are i * n to i * n + n - 1. With best_of there are more results than choices:
 * beams come best first, samples are ranked by their score. */
#include "server/openai.h"
#include "base/assert.h"
#include "server/admit.h"
#include "server/openai_stop.h"
#include "server/routes.h"
#include "server/stream.h"
#include "translate/visit.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    int32_t n_prompts, n_choices; /* of each prompt */
    t5_stops stops;
    t5_told_text *told; /* [n_prompts] the first choice of each; NULL unless is_streamed */
    bool is_streamed, shows_logprobs, shows_usage;
    time_t created;
    char id[64];
    const char *model;
    t5_visit *visit;   /* NULL when it could not start */
    t5_error error;    /* why not */
    t5_stream *stream; /* NULL: the answer is sent whole */
} completion_state;

/* --- life --- */

static void destroy(void *work)
{
    completion_state *state = work;
    t5_visit_destroy(state->visit);
    for (int32_t i = 0; i < state->n_prompts && state->told != NULL; i++)
        t5_buffer_deinit(&state->told[i].held);
    free(state->told);
    free(state);
}

static void cancel(void *work)
{
    completion_state *state = work;
    t5_visit_cancel(state->visit);
}

void t5_completions_release(void *p)
{
    completion_state *state = p;
    t5_stream *stream = state->stream;
    if (stream == NULL) destroy(state);
    t5_stream_release(stream); /* destroys the state too, when the work is done */
}

void t5_completions_cancel(t5_exchange *x)
{
    cancel(t5_exchange_state(x));
}

/* --- the reply --- */

/* A reply, or an event, around its choices, which it steals. */
static json_t *wrap(const completion_state *state, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", state->id, "object", "text_completion", "created",
                     (json_int_t)state->created, "model", state->model, "choices", choices);
}

static json_t *make_choice(int32_t index, json_t *text, const char *finish_reason, json_t *logprobs)
{
    json_t *reason = finish_reason != NULL ? json_string(finish_reason) : json_null();
    return json_pack("{s:i, s:o, s:o, s:o}", "index", index, "text", text, "finish_reason", reason, "logprobs",
                     logprobs != NULL ? logprobs : json_null());
}

/* As far as it is known: the tokens and what each was given. */
static json_t *list_logprobs(const completion_state *state, const t5_output *output)
{
    const t5_tokenizer *tokenizer = t5_visit_tokenizer(state->visit);
    json_t *tokens = json_array(), *values = json_array();
    for (int32_t i = 0; i < output->n_ids; i++) {
        const char *piece = t5_tokenizer_piece(tokenizer, output->ids[i]);
        const float x = output->logprobs != NULL ? output->logprobs[i] : NAN;
        json_array_append_new(tokens, json_string(piece != NULL ? piece : ""));
        json_array_append_new(values, isfinite(x) ? json_real((double)x) : json_null());
    }
    return json_pack("{s:o, s:o, s:n, s:n}", "tokens", tokens, "token_logprobs", values, "top_logprobs", "text_offset");
}

/* The k-th best result of a prompt. Beams are in order already; of equal samples the earlier one is better. */
static const t5_generated *best_result(const completion_state *state, int32_t i_prompt, int32_t k)
{
    const t5_generation *generation = t5_visit_generation(state->visit);
    const int32_t n = t5_generation_n_results(generation, i_prompt);
    if (n <= state->n_choices) return t5_generation_get(generation, i_prompt, k);
    for (int32_t i = 0; i < n; i++) {
        const t5_generated *result = t5_generation_get(generation, i_prompt, i);
        int32_t n_better = 0;
        for (int32_t j = 0; j < n; j++) {
            const float other = t5_generation_get(generation, i_prompt, j)->output->score;
            n_better += other > result->output->score || (j < i && other == result->output->score);
        }
        if (n_better == k) return result;
    }
    return t5_generation_get(generation, i_prompt, k); /* scores that are no numbers have no order */
}

/* Choice k of a prompt, without what a stream has told of it. */
static json_t *describe_choice(const completion_state *state, int32_t i_prompt, int32_t k)
{
    const t5_generated *result = best_result(state, i_prompt, k);
    const size_t n_bytes = t5_stops_find(&state->stops, result->text, result->n_bytes);
    const size_t n_told = state->told != NULL && k == 0 ? state->told[i_prompt].n_told : 0;
    T5_ASSERT(n_told <= n_bytes);
    const bool is_cut = n_bytes == result->n_bytes && result->output->is_truncated;
    json_t *text = json_stringn(result->text + n_told, n_bytes - n_told);
    json_t *logprobs = state->shows_logprobs ? list_logprobs(state, result->output) : NULL;
    return make_choice(i_prompt * state->n_choices + k, text, is_cut ? "length" : "stop", logprobs);
}

static json_t *list_choices(const completion_state *state)
{
    json_t *choices = json_array();
    const t5_generation *generation = t5_visit_generation(state->visit);
    for (int32_t i = 0; i < state->n_prompts; i++)
        for (int32_t k = 0; k < state->n_choices && k < t5_generation_n_results(generation, i); k++)
            json_array_append_new(choices, describe_choice(state, i, k));
    return choices;
}

static json_t *describe_usage(const t5_usage *usage)
{
    return json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)usage->n_source_tokens, "completion_tokens",
                     (json_int_t)usage->n_target_tokens, "total_tokens",
                     (json_int_t)(usage->n_source_tokens + usage->n_target_tokens));
}

static t5_status finish(t5_exchange *x, completion_state *state, t5_usage *out_usage, t5_error *err)
{
    t5_status status = t5_visit_finish(state->visit, err);
    if (status != T5_OK) return status;
    t5_generation_usage(t5_visit_generation(state->visit), out_usage);
    t5_exchange_set_usage(x, state->n_prompts, out_usage->n_source_tokens, out_usage->n_target_tokens);
    return T5_OK;
}

/* On the device thread, or in start. */
static void on_done(void *ctx)
{
    t5_exchange_resume(ctx);
}

void t5_completions_finish(t5_exchange *x, void *server)
{
    completion_state *state = t5_exchange_state(x);
    t5_usage usage;
    (void)server;
    if (state->error.status != T5_OK || finish(x, state, &usage, &state->error) != T5_OK) {
        t5_exchange_fail(x, &state->error);
        return;
    }
    json_t *reply = wrap(state, list_choices(state));
    json_object_set_new(reply, "usage", describe_usage(&usage));
    t5_exchange_reply_json(x, 200, reply);
    json_decref(reply);
}

static t5_status read_pieces(void *work, t5_buffer *events, t5_error *err)
{
    completion_state *state = work;
    for (;;) {
        t5_piece piece;
        size_t n_bytes = 0;
        t5_status status = t5_visit_read(state->visit, &piece, err);
        if (status != T5_OK || piece.n_bytes == 0) return status;
        t5_told_text *told = &state->told[piece.i_text];
        status = t5_stops_tell(&state->stops, told, piece.bytes, piece.n_bytes, &n_bytes, err);
        if (status == T5_OK && n_bytes > 0) {
            json_t *text = json_stringn(told->held.bytes, n_bytes);
            json_t *choice = make_choice(piece.i_text * state->n_choices, text, NULL, NULL);
            status = t5_stream_event(events, NULL, wrap(state, json_pack("[o]", choice)), err);
        }
        if (status != T5_OK) return status;
        t5_told_text_drop(told, n_bytes);
    }
}

static t5_status append_end(void *work, t5_exchange *x, t5_buffer *events, t5_error *err)
{
    static const char done[] = "data: [DONE]\n\n";
    completion_state *state = work;
    t5_usage usage;
    t5_status status = T5_OK;
    T5_TRY(finish(x, state, &usage, err));
    T5_TRY(t5_stream_event(events, NULL, wrap(state, list_choices(state)), err));
    if (state->shows_usage) {
        json_t *last = wrap(state, json_array());
        json_object_set_new(last, "usage", describe_usage(&usage));
        T5_TRY(t5_stream_event(events, NULL, last, err));
    }
    T5_TRY(t5_buffer_append(events, done, sizeof done - 1, err));
out:
    return status;
}

static const t5_stream_ops stream_ops = {
    .read = read_pieces, .finish = append_end, .cancel = cancel, .destroy = destroy};

/* --- the request --- */

/* Sets a decoding option from the field `name`, when it is given. */
static t5_status set_option(const json_t *fields, const char *name, const char *option, t5_decoding *d, t5_error *err)
{
    const json_t *value = json_object_get(fields, name);
    return value == NULL ? T5_OK : t5_decoding_set_field(d, option, name, value, err);
}

/* `best_of` results are made and the best n of them are the choices. */
static t5_status read_best_of(const json_t *fields, completion_state *state, t5_decoding *d, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(set_option(fields, "n", "num_return_sequences", d, err));
    state->n_choices = d->num_return_sequences;
    T5_TRY(set_option(fields, "best_of", "num_return_sequences", d, err));
    const int32_t best_of = d->num_return_sequences;
    if (best_of < state->n_choices)
        T5_TRY(T5_FAIL(err, T5_ERR_ARG, "best_of: %d is less than n, which is %d", best_of, state->n_choices));
    if (d->do_sample && state->is_streamed && best_of > state->n_choices)
        T5_TRY(T5_FAIL(err, T5_ERR_ARG, "best_of: samples are ranked when all are there, which cannot be streamed"));
    if (!d->do_sample) d->num_return_sequences = state->n_choices;
    if (!d->do_sample && d->num_beams < best_of) d->num_beams = best_of;
out:
    return status;
}

/* OpenAI's names over ours. Without a temperature the model decodes as its folder wants; 0 is greedy. */
static t5_status read_options(const json_t *fields, completion_state *state, t5_generation_request *r, t5_error *err)
{
    t5_status status = T5_OK;
    t5_decoding *d = &r->decoding;
    const json_t *temperature = json_object_get(fields, "temperature");
    d->max_new_tokens = T5_SEQ_LEN_MAX - 1; /* shrinks to what the server allows */
    T5_TRY(set_option(fields, "max_tokens", "max_new_tokens", d, err));
    if (json_is_number(json_object_get(fields, "max_tokens"))) r->max_new_tokens_field = "max_tokens";
    if (d->min_new_tokens > d->max_new_tokens)
        d->min_new_tokens = d->max_new_tokens; /* the folder's: no field has it */
    T5_TRY(set_option(fields, "seed", "seed", d, err));
    if (temperature != NULL && !json_is_null(temperature)) {
        d->do_sample = !json_is_number(temperature) || json_number_value(temperature) != 0;
        d->num_beams = 1;
        if (d->do_sample) T5_TRY(set_option(fields, "temperature", "temperature", d, err));
        if (d->do_sample) T5_TRY(set_option(fields, "top_p", "top_p", d, err));
    }
    T5_TRY(read_best_of(fields, state, d, err));
    T5_TRY(t5_stops_read(json_object_get(fields, "stop"), &state->stops, err));
out:
    return status;
}

/* The value says nothing. */
static bool is_neutral(const json_t *value, double neutral)
{
    if (json_is_number(value)) return json_number_value(value) == neutral;
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

/* What would change the text and that we do not do. */
static t5_status check_unsupported(const json_t *fields, t5_error *err)
{
    static const struct {
        const char *name;
        double neutral;
    } names[] = {{"suffix", 0},
                 {"echo", 0}, /* a T5 does not go on with its prompt */
                 {"logit_bias", 0},
                 {"presence_penalty", 0},
                 {"frequency_penalty", 0}};
    for (size_t i = 0; i < T5_COUNT(names); i++)
        if (!is_neutral(json_object_get(fields, names[i].name), names[i].neutral))
            return T5_FAIL(err, T5_ERR_ARG, "%s is not supported", names[i].name);
    return T5_OK;
}

static void start(t5_exchange *x, const t5_server *s, completion_state *state, int32_t i_model,
                  t5_generation_request *request)
{
    if (!state->is_streamed) {
        request->on_done = on_done;
        request->ctx = x;
        t5_exchange_suspend(x);
        t5_status status = t5_visit_start(s->catalog, i_model, request, &state->visit, &state->error);
        if (status != T5_OK) t5_exchange_resume(x); /* on_done will not be called */
        return;
    }
    t5_stream *stream = t5_stream_create(x, &stream_ops, state);
    if (stream == NULL) T5_FAIL(&state->error, T5_ERR_NOMEM, "a stream");
    state->stream = stream;
    request->on_progress = t5_stream_progress;
    request->on_done = t5_stream_done;
    request->ctx = stream;
    if (stream != NULL && t5_visit_start(s->catalog, i_model, request, &state->visit, &state->error) == T5_OK) {
        t5_stream_answer(stream);
        return;
    }
    if (stream != NULL) t5_stream_abandon(stream);
    t5_exchange_fail(x, &state->error);
}

/* Reads the fields and starts. An error is to be answered; T5_OK: it goes on. */
static t5_status begin(t5_exchange *x, const t5_server *s, completion_state *state, int32_t i_model,
                       const json_t *fields, const t5_params_rules *rules, t5_error *err)
{
    t5_status status = T5_OK;
    t5_generation_input *inputs = NULL;
    const json_t *logprobs = json_object_get(fields, "logprobs");
    t5_generation_request request = {.decoding = *t5_catalog_generation_defaults(s->catalog, i_model),
                                     .deadline_ms = t5_exchange_deadline_ms(x)};
    T5_TRY(t5_params_read_inputs(fields, "prompt", rules, &inputs, &request.n_inputs, err));
    T5_TRY(check_unsupported(fields, err));
    T5_TRY(t5_params_read_bool(fields, false, "stream", &state->is_streamed, err));
    T5_TRY(read_options(fields, state, &request, err));
    state->shows_usage = json_is_true(json_object_get(json_object_get(fields, "stream_options"), "include_usage"));
    state->shows_logprobs = json_is_integer(logprobs);
    request.inputs = inputs;
    request.stops = state->stops;
    state->n_prompts = request.n_inputs;
    if (state->is_streamed) state->told = calloc((size_t)state->n_prompts, sizeof *state->told);
    if (state->is_streamed && state->told == NULL) T5_TRY(T5_FAIL(err, T5_ERR_NOMEM, "%d prompts", state->n_prompts));
    state->created = time(NULL);
    snprintf(state->id, sizeof state->id, "cmpl-%.50s", t5_exchange_id(x));
    state->model = t5_catalog_profile(s->catalog, i_model)->name;
    start(x, s, state, i_model, &request);
out:
    free(inputs);
    return status;
}

/* The model that is asked for, by default the first one. False: there is none, and the exchange is answered. */
static bool find_model(t5_exchange *x, const t5_server *s, const json_t *fields, int32_t *out)
{
    const json_t *model = json_object_get(fields, "model");
    char text[128], shown[T5_ECHO_BYTES];
    *out = 0;
    if (model == NULL || json_is_null(model)) return true;
    const char *name = json_string_value(model);
    if (name != NULL) *out = t5_catalog_find_model(s->catalog, name);
    if (name != NULL && *out >= 0) return true;
    if (name == NULL) snprintf(text, sizeof text, "model must be a string");
    if (name != NULL)
        snprintf(text, sizeof text, "The model `%s` does not exist; GET /v1/models lists those that do.",
                 t5_params_echo(shown, name));
    t5_exchange_fail_status(x, name != NULL ? 404 : 400, text);
    return false;
}

void t5_completions_handle(t5_exchange *x, void *server)
{
    t5_error err = {0};
    json_t *fields = NULL;
    bool is_form = false, is_answered = false;
    t5_params_rules rules;
    completion_state *state = calloc(1, sizeof *state);
    if (state == NULL) T5_FAIL(&err, T5_ERR_NOMEM, "completions: %zu bytes", sizeof *state);
    t5_exchange_set_state(x, state);
    if (err.status == T5_OK && t5_exchange_fields(x, NULL, &fields, &is_form, &err) == T5_OK) {
        const int64_t n_prompts = (int64_t)json_array_size(json_object_get(fields, "prompt"));
        is_answered = !t5_server_admits(x, server, &t5_refusals_openai, NULL, n_prompts, &rules);
        int32_t i_model = 0;
        is_answered = is_answered || !find_model(x, server, fields, &i_model);
        if (!is_answered) begin(x, server, state, i_model, fields, &rules, &err);
        json_decref(fields);
    }
    if (err.status != T5_OK) t5_exchange_fail(x, &err);
}

/* --- the models --- */

static json_t *describe_model(const t5_server *s, int32_t i_model)
{
    return json_pack("{s:s, s:s, s:i, s:s}", "id", t5_catalog_profile(s->catalog, i_model)->name, "object", "model",
                     "created", 0, "owned_by", "t5serve");
}

void t5_models_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    json_t *models = json_array();
    for (int32_t i = 0; i < t5_catalog_n_models(s->catalog); i++)
        json_array_append_new(models, describe_model(s, i));
    json_t *value = json_pack("{s:s, s:o}", "object", "list", "data", models);
    t5_exchange_reply_json(x, 200, value);
    json_decref(value);
}

void t5_model_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    const char *id = t5_exchange_path(x) + strlen("/v1/models/");
    const int32_t i_model = t5_catalog_find_model(s->catalog, id);
    if (i_model < 0) {
        t5_exchange_fail_status(x, 404, "The model does not exist");
        return;
    }
    json_t *value = describe_model(s, i_model);
    t5_exchange_reply_json(x, 200, value);
    json_decref(value);
}
