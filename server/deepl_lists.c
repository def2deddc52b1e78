/* server/deepl_lists.c: what DeepL's API has beside /v2/translate, see deepl.h: languages, usage, and the glossaries
 * and documents that are none. */
#include "server/deepl.h"
#include "server/deepl_params.h"
#include "server/routes.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define CHARACTER_LIMIT 1000000000000 /* of /v2/usage: clients want to see one that is not reached */

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
    const t5_languages *l = s->rules.languages;
    for (int32_t i = 0; i < l->n_targets && is_target; i++)
        append_targets(list, l->targets[i]);
    for (int32_t i = 0; i < l->n_sources && !is_target; i++)
        append_source(list, l->sources[i]);
    if (err.status != T5_OK) t5_exchange_fail(x, &err);
    if (err.status == T5_OK) t5_exchange_reply_json(x, 200, list);
    json_decref(list);
    json_decref(fields);
}

/* --- /v3/languages --- */

/* A language as BCP 47 writes it: "en-GB" for EN-GB. */
static json_t *describe_v3(const char *lang, const char *name, bool is_source, bool is_target)
{
    return json_pack("{s:s, s:s, s:b, s:b, s:{s:{s:s}}, s:s}", "lang", lang, "name", name, "usable_as_source",
                     is_source, "usable_as_target", is_target, "features", "tag_handling", "status", "stable", "status",
                     "stable");
}

/* A language, and as further targets its variants that DeepL names. */
static void append_v3(json_t *list, const t5_languages *l, const char *code)
{
    const char *name = t5_langcode_name(code);
    const bool is_target = t5_languages_has_target(l, code);
    json_array_append_new(list,
                          describe_v3(code, name != NULL ? name : code, t5_languages_has_source(l, code), is_target));
    for (size_t i = 0; i < T5_COUNT(variants) && is_target; i++) {
        char lang[T5_LANGCODE_BYTES];
        if (strcmp(variants[i].code, code) != 0 || strcasecmp(variants[i].written, code) == 0) continue;
        snprintf(lang, sizeof lang, "%s", variants[i].written);
        for (char *c = lang; *c != '\0' && *c != '-'; c++)
            *c = (char)tolower((unsigned char)*c);
        json_array_append_new(list, describe_v3(lang, variants[i].name, false, true));
    }
}

void t5_deepl_v3_languages_handle(t5_exchange *x, void *server)
{
    static const char *const resources[] = {"translate_text", "translate_document", "glossary",          "voice",
                                            "write",          "style_rules",        "translation_memory"};
    const t5_server *s = server;
    t5_error err = {0};
    bool is_form = false, is_known = false;
    json_t *fields = NULL, *list = json_array();
    t5_exchange_fields(x, NULL, &fields, &is_form, &err);
    const char *resource = json_string_value(json_object_get(fields, "resource"));
    for (size_t i = 0; i < T5_COUNT(resources) && resource != NULL; i++)
        is_known = is_known || strcmp(resource, resources[i]) == 0;
    if (err.status == T5_OK && resource == NULL) T5_FAIL(&err, T5_ERR_ARG, "Parameter 'resource' not specified");
    if (err.status == T5_OK && !is_known) T5_FAIL(&err, T5_ERR_ARG, "Value for 'resource' not supported.");
    const bool has_languages = err.status == T5_OK && strcmp(resource, "translate_text") == 0;
    const t5_languages *l = s->rules.languages;
    for (int32_t i = 0; i < l->n_codes && has_languages; i++)
        append_v3(list, l, l->codes[i]);
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

void t5_deepl_v3_resources_handle(t5_exchange *x, void *server)
{
    (void)server;
    reply_new(x, json_pack("[{s:s, s:[{s:s, s:b, s:b}]}]", "name", "translate_text", "features", "name", "tag_handling",
                           "needs_source_support", 0, "needs_target_support", 0));
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

void t5_deepl_no_glossaries_handle(t5_exchange *x, void *server)
{
    (void)server;
    t5_exchange_fail_status(x, 400, "Glossaries are not supported.");
}

/* 400, because clients of DeepL repeat a request that ends in 5xx. */
void t5_deepl_document_handle(t5_exchange *x, void *server)
{
    (void)server;
    t5_exchange_fail_status(x, 400, "Document translation is not supported.");
}
