/* server/generate.c: see generate.h. The way of a request is that of translate.c; its fields and those of the reply
 * have the names of `t5 generate --json`. */
#include "server/generate.h"
#include "server/admit.h"
#include "server/routes.h"
#include "server/stream.h"
#include "translate/visit.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t n_inputs;
    bool is_batch, is_streamed, shows_logprobs, shows_alignment;
    t5_visit *visit;   /* NULL when it could not start */
    t5_error error;    /* why not */
    t5_stream *stream; /* NULL: the answer is sent whole */
} generate_state;

/* --- life --- */

static void destroy(void *work)
{
    generate_state *state = work;
    t5_visit_destroy(state->visit);
    free(state);
}

static void cancel(void *work)
{
    generate_state *state = work;
    t5_visit_cancel(state->visit);
}

void t5_generate_release(void *p)
{
    generate_state *state = p;
    t5_stream *stream = state->stream;
    if (stream == NULL) destroy(state);
    t5_stream_release(stream); /* destroys the state too, when the work is done */
}

void t5_generate_cancel(t5_exchange *x)
{
    cancel(t5_exchange_state(x));
}

/* --- the reply --- */

/* JSON has no infinities. */
static json_t *number(float x)
{
    return isfinite(x) ? json_real((double)x) : json_null();
}

static json_t *list_integers(const int32_t *values, int32_t n)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *list_logprobs(const t5_output *output)
{
    json_t *list = json_array();
    for (int32_t i = 0; output->logprobs != NULL && i < output->n_ids; i++)
        json_array_append_new(list, number(output->logprobs[i]));
    return list;
}

/* All results of one input, best first. */
static json_t *describe_input(const generate_state *state, int32_t i_input)
{
    json_t *texts = json_array(), *sequences = json_array(), *scores = json_array();
    json_t *reasons = json_array(), *logprobs = json_array(), *alignments = json_array();
    const t5_generation *generation = t5_visit_generation(state->visit);
    for (int32_t i = 0; i < t5_generation_n_results(generation, i_input); i++) {
        const t5_generated *result = t5_generation_get(generation, i_input, i);
        const t5_output *output = result->output;
        json_array_append_new(texts, json_stringn(result->text, result->n_bytes));
        json_array_append_new(sequences, list_integers(output->ids, output->n_ids));
        json_array_append_new(scores, number(output->score));
        json_array_append_new(reasons, json_string(output->is_truncated ? "length" : "stop"));
        json_array_append_new(logprobs, list_logprobs(output));
        if (output->alignment != NULL)
            json_array_append_new(alignments, list_integers(output->alignment, output->n_ids));
    }
    json_t *value = json_pack("{s:o, s:o, s:o, s:o}", "texts", texts, "sequences", sequences, "scores", scores,
                              "finish_reasons", reasons);
    if (state->shows_logprobs) json_object_set(value, "token_logprobs", logprobs);
    if (state->shows_alignment) {
        int32_t n_ids = 0;
        const int32_t *ids = t5_generation_input_ids(generation, i_input, &n_ids);
        json_object_set_new(value, "input_ids", list_integers(ids, n_ids));
        json_object_set(value, "alignment", alignments);
    }
    json_decref(logprobs);
    json_decref(alignments);
    return value;
}

/* NULL, and *err, when the generation failed. */
static json_t *finish(t5_exchange *x, generate_state *state, t5_error *err)
{
    t5_usage usage;
    if (t5_visit_finish(state->visit, err) != T5_OK) return NULL;
    t5_generation_usage(t5_visit_generation(state->visit), &usage);
    t5_exchange_set_usage(x, state->n_inputs, usage.n_source_tokens, usage.n_target_tokens);
    json_t *outputs = json_array(), *reply = NULL;
    for (int32_t i = 0; i < state->n_inputs && state->is_batch; i++)
        json_array_append_new(outputs, describe_input(state, i));
    reply = state->is_batch ? json_pack("{s:O}", "outputs", outputs) : describe_input(state, 0);
    json_decref(outputs);
    json_object_set_new(reply, "usage", t5_stream_usage(&usage));
    return reply;
}

/* What the translator refuses reads like every bad request. */
static void word_error(t5_error *err)
{
    const t5_error cause = *err;
    if (cause.status != T5_ERR_ARG) return;
    t5_error_clear(err);
    T5_FAIL(err, cause.status, "Invalid request: %s", cause.text);
}

/* On the device thread, or in start. */
static void on_done(void *ctx)
{
    t5_exchange_resume(ctx);
}

void t5_generate_finish(t5_exchange *x, void *server)
{
    generate_state *state = t5_exchange_state(x);
    json_t *reply = NULL;
    (void)server;
    if (state->error.status == T5_OK) reply = finish(x, state, &state->error);
    if (state->error.status == T5_OK) {
        t5_exchange_reply_json(x, 200, reply);
    } else {
        word_error(&state->error);
        t5_exchange_fail(x, &state->error);
    }
    json_decref(reply);
}

static t5_status read_pieces(void *work, t5_buffer *events, t5_error *err)
{
    generate_state *state = work;
    for (;;) {
        t5_piece piece;
        t5_status status = t5_visit_read(state->visit, &piece, err);
        if (status != T5_OK || piece.n_bytes == 0) return status;
        status = t5_stream_piece(events, &piece, state->is_batch, err);
        if (status != T5_OK) return status;
    }
}

static t5_status append_reply(void *work, t5_exchange *x, t5_buffer *events, t5_error *err)
{
    json_t *reply = finish(x, work, err);
    if (err->status == T5_OK) return t5_stream_event(events, NULL, reply, err);
    word_error(err);
    return err->status;
}

static const t5_stream_ops stream_ops = {
    .read = read_pieces, .finish = append_reply, .cancel = cancel, .destroy = destroy};

/* --- the request --- */

/* What the output must begin with, borrowed from the fields. */
static t5_status read_prefix(const json_t *fields, t5_generation_request *request, t5_error *err)
{
    const json_t *prefix = json_object_get(fields, "prefix");
    if (prefix == NULL || json_is_null(prefix)) return T5_OK;
    if (!json_is_string(prefix)) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: prefix must be a string");
    request->prefix = json_string_value(prefix);
    request->prefix_bytes = json_string_length(prefix);
    return T5_OK;
}

/* Which model is meant: the first one unless `model` names one. */
static t5_status read_model(const json_t *fields, const t5_server *s, int32_t *out, t5_error *err)
{
    const char *name = NULL;
    *out = 0;
    const t5_status status = t5_params_read_string(fields, "model", &name, err);
    if (status != T5_OK || name == NULL) return status;
    *out = t5_catalog_find_model(s->catalog, name);
    if (*out >= 0) return T5_OK;
    char shown[T5_ECHO_BYTES];
    return T5_FAIL(err, T5_ERR_ARG, "Invalid request: model %s is not served", t5_params_echo(shown, name));
}

static void start_whole(t5_exchange *x, const t5_server *s, generate_state *state, int32_t i_model,
                        t5_generation_request *request)
{
    request->on_done = on_done;
    request->ctx = x;
    t5_exchange_suspend(x);
    t5_status status = t5_visit_start(s->catalog, i_model, request, &state->visit, &state->error);
    if (status != T5_OK) t5_exchange_resume(x); /* on_done will not be called */
}

static void start_stream(t5_exchange *x, const t5_server *s, generate_state *state, int32_t i_model,
                         t5_generation_request *request)
{
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
    word_error(&state->error);
    t5_exchange_fail(x, &state->error);
}

/* Reads the fields and starts. An error is to be answered; T5_OK: it goes on. */
static t5_status begin(t5_exchange *x, const t5_server *s, generate_state *state, const json_t *fields, bool is_form,
                       const t5_params_rules *rules, t5_error *err)
{
    t5_status status = T5_OK;
    t5_generation_input *inputs = NULL;
    int32_t i_model = 0;
    uint32_t given = 0;
    t5_generation_request request = {.deadline_ms = t5_exchange_deadline_ms(x)};
    T5_TRY(t5_params_read_inputs(fields, "input", rules, &inputs, &request.n_inputs, err));
    T5_TRY(read_model(fields, s, &i_model, err));
    request.decoding = *t5_catalog_generation_defaults(s->catalog, i_model);
    T5_TRY(t5_params_read_decoding(fields, is_form, &request.decoding, &given, err));
    if ((given & t5_decoding_bit("max_new_tokens")) != 0) request.max_new_tokens_field = "max_new_tokens";
    T5_TRY(t5_params_read_bool(fields, is_form, "stream", &state->is_streamed, err));
    T5_TRY(t5_params_read_bool(fields, is_form, "token_logprobs", &state->shows_logprobs, err));
    T5_TRY(t5_params_read_bool(fields, is_form, "alignment", &state->shows_alignment, err));
    T5_TRY(read_prefix(fields, &request, err));
    request.inputs = inputs;
    request.wants_alignment = state->shows_alignment;
    state->n_inputs = request.n_inputs;
    state->is_batch = json_is_array(json_object_get(fields, "input"));
    if (state->is_streamed)
        start_stream(x, s, state, i_model, &request);
    else
        start_whole(x, s, state, i_model, &request);
out:
    free(inputs);
    return status;
}

void t5_generate_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    t5_error err = {0};
    json_t *fields = NULL;
    bool is_form = false, is_answered = false;
    t5_params_rules rules;
    generate_state *state = calloc(1, sizeof *state);
    if (state == NULL) T5_FAIL(&err, T5_ERR_NOMEM, "generate: %zu bytes", sizeof *state);
    t5_exchange_set_state(x, state);
    if (err.status == T5_OK && t5_exchange_fields(x, NULL, &fields, &is_form, &err) == T5_OK) {
        const char *key = json_string_value(json_object_get(fields, "api_key"));
        const int64_t n_inputs = (int64_t)json_array_size(json_object_get(fields, "input"));
        is_answered = !t5_server_admits(x, s, &t5_refusals_libretranslate, key, n_inputs, &rules);
        if (!is_answered) begin(x, s, state, fields, is_form, &rules, &err);
        json_decref(fields);
    }
    if (err.status != T5_OK) t5_exchange_fail(x, &err);
}
