/* server/deepl.c: see deepl.h. A translation goes the same way as in translate.c. */
#include "server/deepl.h"
#include "base/utf8.h"
#include "server/admit.h"
#include "server/deepl_params.h"
#include "server/routes.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CHARACTER_LIMIT 1000000000000 /* of /v2/usage: clients want to see one that is not reached */

typedef struct {
    t5_deepl_params params;
    t5_translation *translation; /* NULL when it could not start */
    t5_error error;              /* why not */
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
        .decoding = s->rules.profile->defaults,
        .deadline_ms = t5_exchange_deadline_ms(x),
        .on_done = on_done,
        .ctx = x,
    };
    t5_exchange_suspend(x);
    t5_status status = t5_translation_start(s->translator, &request, &state->translation, &state->error);
    if (status != T5_OK) t5_exchange_resume(x); /* on_done will not be called */
}

void t5_deepl_cancel(t5_exchange *x)
{
    deepl_state *state = t5_exchange_state(x);
    t5_translation_cancel(state->translation);
}

void t5_deepl_release(void *p)
{
    deepl_state *state = p;
    t5_translation_destroy(state->translation);
    t5_params_deinit(&state->params.common);
    free(state);
}

static json_t *describe(bool wants_model_type, const t5_text *text, const t5_translated *result, size_t n_chars)
{
    char source[T5_LANGCODE_BYTES];
    t5_deepl_base_code(result->detected != NULL ? result->detected : text->source, source);
    json_t *value = json_pack("{s:s, s:o, s:I}", "detected_source_language", source, "text",
                              json_stringn(result->text, result->n_bytes), "billed_characters", (json_int_t)n_chars);
    if (value != NULL && wants_model_type)
        json_object_set_new(value, "model_type_used", json_string("latency_optimized"));
    return value;
}

void t5_deepl_finish(t5_exchange *x, void *server)
{
    t5_server *s = server;
    deepl_state *state = t5_exchange_state(x);
    const t5_params *p = &state->params.common;
    int64_t n_chars_all = 0;
    if (state->translation != NULL) t5_translation_finish(state->translation, &state->error);
    if (state->error.status != T5_OK) {
        t5_exchange_fail(x, &state->error);
        return;
    }
    t5_usage usage;
    t5_translation_usage(state->translation, &usage);
    t5_exchange_set_usage(x, p->n_texts, usage.n_source_tokens, usage.n_target_tokens);
    json_t *translations = json_array();
    for (int32_t i = 0; i < p->n_texts; i++) {
        size_t n_chars = t5_utf8_count(p->texts[i].text, p->texts[i].n_bytes);
        json_array_append_new(translations, describe(state->params.wants_model_type, &p->texts[i],
                                                     t5_translation_get(state->translation, i), n_chars));
        n_chars_all += (int64_t)n_chars;
    }
    bool is_complete = json_array_size(translations) == (size_t)p->n_texts;
    json_t *reply = is_complete ? json_pack("{s:O}", "translations", translations) : NULL;
    atomic_fetch_add(&s->n_characters, n_chars_all);
    t5_exchange_reply_json(x, 200, reply);
    json_decref(reply);
    json_decref(translations);
}

/* --- /v2/languages --- */

/* Targets that DeepL writes otherwise than in upper case. A language without a row is one entry. */
static const struct {
    const char *code, *written, *name;
} variants[] = {
    {"en", "EN-GB", "English (British)"},
    {"en", "EN-US", "English (American)"},
    {"pt", "PT-PT", "Portuguese (European)"},
    {"pt-BR", "PT-BR", "Portuguese (Brazilian)"},
    {"zh-Hans", "ZH", "Chinese (simplified)"},
    {"zh-Hans", "ZH-HANS", "Chinese (simplified)"},
    {"zh-Hant", "ZH-HANT", "Chinese (traditional)"},
};

static void append_target(json_t *list, const char *written, const char *name)
{
    json_array_append_new(list,
                          json_pack("{s:s, s:s, s:b}", "language", written, "name", name, "supports_formality", 0));
}

static void append_targets(json_t *list, const char *code)
{
    char written[T5_LANGCODE_BYTES];
    size_t n_before = json_array_size(list);
    for (size_t i = 0; i < T5_COUNT(variants); i++)
        if (strcmp(variants[i].code, code) == 0) append_target(list, variants[i].written, variants[i].name);
    if (json_array_size(list) > n_before) return;
    snprintf(written, sizeof written, "%s", code);
    for (char *c = written; *c != '\0'; c++)
        *c = (char)toupper((unsigned char)*c);
    const char *name = t5_langcode_name(code);
    append_target(list, written, name != NULL ? name : written);
}

/* A source has no region: pt and pt-BR are one. */
static void append_source(json_t *list, const char *code)
{
    char base[T5_LANGCODE_BYTES];
    size_t i = 0;
    json_t *entry = NULL;
    t5_deepl_base_code(code, base);
    json_array_foreach(list, i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "language")), base) == 0) return;
    }
    const char *name = t5_langcode_name(code);
    json_array_append_new(list, json_pack("{s:s, s:s}", "language", base, "name", name != NULL ? name : base));
}

void t5_deepl_languages_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    t5_error err = {0};
    bool is_form = false;
    json_t *fields = NULL, *list = json_array();
    t5_exchange_fields(x, NULL, &fields, &is_form, &err);
    const char *type = json_string_value(json_object_get(fields, "type"));
    bool is_target = type != NULL && strcmp(type, "target") == 0;
    bool is_known = type == NULL || is_target || strcmp(type, "source") == 0;
    if (fields != NULL && !is_known)
        T5_FAIL(&err, T5_ERR_ARG, "Parameter 'type' is invalid. 'source' and 'target' are valid values.");
    for (int32_t i = 0; i < s->rules.n_codes && err.status == T5_OK; i++) {
        const char *code = s->codes[i];
        if (is_target && t5_profile_has_target(s->rules.profile, code)) append_targets(list, code);
        if (!is_target && t5_profile_has_source(s->rules.profile, code)) append_source(list, code);
    }
    if (err.status != T5_OK) t5_exchange_fail(x, &err);
    if (err.status == T5_OK) t5_exchange_reply_json(x, 200, list);
    json_decref(list);
    json_decref(fields);
}

/* --- the rest --- */

static void reply_new(t5_exchange *x, json_t *value)
{
    t5_exchange_reply_json(x, 200, value);
    json_decref(value);
}

void t5_deepl_usage_handle(t5_exchange *x, void *server)
{
    t5_server *s = server;
    reply_new(x, json_pack("{s:I, s:I}", "character_count", (json_int_t)atomic_load(&s->n_characters),
                           "character_limit", (json_int_t)CHARACTER_LIMIT));
}

void t5_deepl_glossaries_handle(t5_exchange *x, void *server)
{
    (void)server;
    reply_new(x, json_pack("{s:[]}", "glossaries"));
}

void t5_deepl_glossary_pairs_handle(t5_exchange *x, void *server)
{
    (void)server;
    reply_new(x, json_pack("{s:[]}", "supported_languages"));
}
