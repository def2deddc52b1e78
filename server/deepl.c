/* server/deepl.c: /v2/translate, see deepl.h. A translation goes the same way as in translate.c. */
#include "server/deepl.h"
#include "base/utf8.h"
#include "server/admit.h"
#include "server/deepl_params.h"
#include "server/routes.h"

#include <stdlib.h>

typedef struct {
    t5_deepl_params params;
    t5_journey *journey; /* NULL when it could not start */
    t5_error error;      /* why not */
} deepl_state;

/* --- /v2/translate --- */

static void on_done(void *ctx)
{
    t5_exchange_resume(ctx);
}

/* False: the exchange is answered. */
static bool read_params(t5_exchange *x, const t5_server *s, t5_deepl_params *out)
{
    json_t *fields = NULL;
    bool is_form = false, is_answered = false;
    t5_error err = {0};
    t5_params_rules rules;
    if (t5_exchange_fields(x, "text", &fields, &is_form, &err) == T5_OK) {
        const char *key = json_string_value(json_object_get(fields, "auth_key"));
        const int64_t n_texts = (int64_t)json_array_size(json_object_get(fields, "text"));
        is_answered = !t5_server_admits(x, s, &t5_refusals_deepl, key, n_texts, &rules);
        if (!is_answered) t5_deepl_params_read(fields, &rules, out, &err);
        json_decref(fields);
    }
    if (err.status != T5_OK) t5_exchange_fail(x, &err);
    return !is_answered && err.status == T5_OK;
}

void t5_deepl_handle(t5_exchange *x, void *server)
{
    t5_server *s = server;
    t5_error err = {0};
    deepl_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        T5_FAIL(&err, T5_ERR_NOMEM, "deepl: %zu bytes", sizeof *state);
        t5_exchange_fail(x, &err);
        return;
    }
    t5_exchange_set_state(x, state);
    if (!read_params(x, s, &state->params)) return;
    const t5_translation_request request = {
        .texts = state->params.common.texts,
        .n_texts = state->params.common.n_texts,
        .split = state->params.common.split,
        .deadline_ms = t5_exchange_deadline_ms(x),
        .on_done = on_done,
        .ctx = x,
    };
    t5_exchange_suspend(x);
    t5_status status = t5_journey_start(s->catalog, &request, 0, &state->journey, &state->error);
    if (status != T5_OK) t5_exchange_resume(x); /* on_done will not be called */
}

void t5_deepl_cancel(t5_exchange *x)
{
    deepl_state *state = t5_exchange_state(x);
    t5_journey_cancel(state->journey);
}

void t5_deepl_release(void *p)
{
    deepl_state *state = p;
    t5_journey_destroy(state->journey);
    t5_deepl_params_deinit(&state->params);
    free(state);
}

static json_t *describe(const deepl_state *state, int32_t i_text, size_t n_chars)
{
    char source[T5_LANGCODE_BYTES];
    const t5_text *text = &state->params.common.texts[i_text];
    const t5_translated *result = t5_journey_get(state->journey, i_text);
    const char *pivot = t5_journey_pivot(state->journey, i_text);
    t5_deepl_base_code(result->detected != NULL ? result->detected : text->source, source);
    json_t *value = json_pack("{s:s, s:o, s:I}", "detected_source_language", source, "text",
                              json_stringn(result->text, result->n_bytes), "billed_characters", (json_int_t)n_chars);
    if (value != NULL && state->params.tags.is_marked)
        json_object_set_new(value, "tag_handling_version", json_string(state->params.tags.version));
    if (value != NULL && state->params.wants_model_type)
        json_object_set_new(value, "model_type_used", json_string("latency_optimized"));
    if (value != NULL && pivot != NULL) json_object_set_new(value, "pivot", json_string(pivot));
    return value;
}

void t5_deepl_finish(t5_exchange *x, void *server)
{
    t5_server *s = server;
    deepl_state *state = t5_exchange_state(x);
    const t5_params *p = &state->params.common;
    int64_t n_chars_all = 0;
    if (state->journey != NULL) t5_journey_finish(state->journey, &state->error);
    if (state->error.status != T5_OK) {
        t5_exchange_fail(x, &state->error);
        return;
    }
    t5_usage usage;
    t5_journey_usage(state->journey, &usage);
    t5_exchange_set_usage(x, p->n_texts, usage.n_source_tokens, usage.n_target_tokens);
    json_t *translations = json_array();
    for (int32_t i = 0; i < p->n_texts; i++) {
        size_t n_chars = t5_utf8_count(p->texts[i].text, p->texts[i].n_bytes);
        json_array_append_new(translations, describe(state, i, n_chars));
        n_chars_all += (int64_t)n_chars;
    }
    bool is_complete = json_array_size(translations) == (size_t)p->n_texts;
    json_t *reply = is_complete ? json_pack("{s:O}", "translations", translations) : NULL;
    atomic_fetch_add(&s->n_characters, n_chars_all);
    t5_exchange_reply_json(x, 200, reply);
    json_decref(reply);
    json_decref(translations);
}
