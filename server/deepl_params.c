/* server/deepl_params.c: see deepl_params.h. A parameter that would change the result and that a T5 model cannot follow
 * is refused by its name; hints (context, preserve_formatting, model_type, "prefer_" formality) are taken and do
 * nothing. */
#include "server/deepl_params.h"
#include "base/utf8.h"
#include "translate/route.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* Parameters that need what we do not have: a value other than the listed ones is an error. */
static const struct {
    const char *name;
    const char *accepted[6]; /* besides absent, null and "" */
} refused[] = {
    {"glossary_id", {NULL}},
    {"glossary_ids", {NULL}},
    {"style_id", {NULL}},
    {"translation_memory_id", {NULL}},
    {"formality", {"default", "prefer_more", "prefer_less", "more", "less", NULL}}, /* see check_formality() */
};

static bool is_accepted(const char *const *accepted, const json_t *value)
{
    if (value == NULL || json_is_null(value)) return true;
    if (json_is_string(value) && json_string_length(value) == 0) return true;
    for (; *accepted != NULL; accepted++)
        if (json_is_string(value) && strcasecmp(json_string_value(value), *accepted) == 0) return true;
    return false;
}

static t5_status check_refused(const json_t *fields, t5_error *err)
{
    for (size_t i = 0; i < T5_COUNT(refused); i++)
        if (!is_accepted(refused[i].accepted, json_object_get(fields, refused[i].name)))
            return T5_FAIL(err, T5_ERR_ARG, "Value for '%s' not supported.", refused[i].name);
    return T5_OK;
}

/* A wish that must be met can not be met. */
static t5_status check_formality(const json_t *fields, const char *target, t5_error *err)
{
    const char *formality = json_string_value(json_object_get(fields, "formality"));
    char base[T5_LANGCODE_BYTES];
    bool is_demand = formality != NULL && (strcasecmp(formality, "more") == 0 || strcasecmp(formality, "less") == 0);
    if (!is_demand) return T5_OK;
    t5_deepl_base_code(target, base);
    return T5_FAIL(err, T5_ERR_ARG, "Target language '%s' doesn't support formality.", base);
}

/* `name` as a public code among ours; *out_is_given is false when it is absent or empty. */
static t5_status read_language(const json_t *fields, const char *name, const t5_params_rules *rules,
                               char out[T5_LANGCODE_BYTES], bool *out_is_given, t5_error *err)
{
    const t5_languages *l = rules->languages;
    const json_t *value = json_object_get(fields, name);
    const char *code = NULL, *given = json_string_value(value);
    *out_is_given = value != NULL && !json_is_null(value) && !(given != NULL && given[0] == '\0');
    if (!*out_is_given) return T5_OK;
    if (given != NULL && strcasecmp(given, "pt") == 0)
        code = t5_langcode_match("pt-BR", l->codes, l->n_codes); /* DeepL's PT is Brazilian */
    if (given != NULL && code == NULL) code = t5_langcode_match(given, l->codes, l->n_codes);
    if (code == NULL) return T5_FAIL(err, T5_ERR_ARG, "Value for '%s' not supported.", name);
    snprintf(out, T5_LANGCODE_BYTES, "%s", code);
    return T5_OK;
}

static t5_status read_languages(const json_t *fields, const t5_params_rules *rules, t5_params *p, t5_error *err)
{
    t5_status status = T5_OK;
    bool has_source = false, has_target = false;
    T5_TRY(read_language(fields, "target_lang", rules, p->target, &has_target, err));
    if (!has_target) T5_TRY(T5_FAIL(err, T5_ERR_ARG, "Parameter 'target_lang' not specified"));
    T5_TRY(read_language(fields, "source_lang", rules, p->source, &has_source, err));
    if (!has_source) snprintf(p->source, sizeof p->source, "auto");
    t5_error no_way = {0};
    if (has_source && t5_route_check(rules->languages, p->source, p->target, &no_way) != T5_OK)
        status = T5_FAIL(err, T5_ERR_ARG, "Value for 'target_lang' not supported.");
out:
    return status;
}

static t5_status check_texts(const json_t *texts, const t5_params_rules *rules, t5_error *err)
{
    const bool is_absent = texts == NULL || json_is_null(texts);
    const size_t n_texts = json_is_array(texts) ? json_array_size(texts) : !is_absent;
    if (n_texts == 0) return T5_FAIL(err, T5_ERR_ARG, "Parameter 'text' not specified");
    if (rules->texts_max >= 0 && n_texts > (size_t)rules->texts_max)
        return T5_FAIL(err, T5_ERR_ARG, "Too many texts: %zu, at most %lld are taken in a request", n_texts,
                       (long long)rules->texts_max);
    for (size_t i = 0; i < n_texts; i++) {
        const json_t *text = t5_params_text_at(texts, i);
        if (!json_is_string(text)) return T5_FAIL(err, T5_ERR_ARG, "Parameter 'text' must be an array of strings");
        const size_t n_chars = t5_utf8_count(json_string_value(text), json_string_length(text));
        if (rules->chars_max >= 0 && n_chars > (size_t)rules->chars_max)
            return T5_FAIL(err, T5_ERR_ARG, "A text has %zu characters, at most %lld are taken", n_chars,
                           (long long)rules->chars_max);
    }
    return T5_OK;
}

t5_status t5_deepl_params_read(const json_t *fields, const t5_params_rules *rules, t5_deepl_params *out, t5_error *err)
{
    t5_status status = T5_OK;
    const json_t *texts = json_object_get(fields, "text");
    *out = (t5_deepl_params){.wants_model_type = json_string_length(json_object_get(fields, "model_type")) > 0};
    T5_TRY(check_texts(texts, rules, err));
    T5_TRY(read_languages(fields, rules, &out->common, err));
    T5_TRY(check_refused(fields, err));
    T5_TRY(check_formality(fields, out->common.target, err));
    if (!t5_params_read_split(fields, &out->common.split))
        T5_TRY(T5_FAIL(err, T5_ERR_ARG, "Value for '%s' not supported.", "split_sentences"));
    T5_TRY(t5_deepl_tags_read(fields, &out->tags, err));
    T5_TRY(t5_params_copy_texts(texts, false, &out->common, err));
    for (int32_t i = 0; i < out->common.n_texts && out->tags.is_marked; i++)
        out->common.texts[i].markup = &out->tags.options;
out:
    if (status != T5_OK) t5_deepl_params_deinit(out);
    return status;
}

void t5_deepl_params_deinit(t5_deepl_params *p)
{
    t5_params_deinit(&p->common);
    t5_deepl_tags_deinit(&p->tags);
}

void t5_deepl_base_code(const char *public_code, char out[T5_LANGCODE_BYTES])
{
    size_t n = 0;
    for (; public_code[n] != '\0' && public_code[n] != '-' && n + 1 < T5_LANGCODE_BYTES; n++)
        out[n] = (char)toupper((unsigned char)public_code[n]);
    out[n] = '\0';
}
