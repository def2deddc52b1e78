/* translate/profile_own.c: t5serve.json, the server's own file in a model folder:
 *
 *   {"name": "...", "template": "translate {source_name} to {target_name}: ", "pairs": [["en", "de"], ["*", "fr"]],
 *    "defaults": {"num_beams": 4}}
 *
 * All keys are optional, but pairs need a template. A source "*" means any. Codes in pairs may be written in any form;
 * {source} and {target} of the template give them as written, since that is what the model was trained with. */
#include "base/file.h"
#include "text/langcodes.h"
#include "text/template.h"
#include "translate/profile_pairs.h"
#include "json/json_file.h"

#include <string.h>

static t5_status check_keys(const char *path, const json_t *object, t5_error *err)
{
    static const char *const keys[] = {"name", "template", "pairs", "defaults"};
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < T5_COUNT(keys); i++)
            is_known = is_known || strcmp(keys[i], key) == 0;
        if (!is_known) return T5_FAIL(err, T5_ERR_FORMAT, "%s: %.64s: no such key", path, key);
    }
    return T5_OK;
}

static t5_status read_name(const char *path, const json_t *value, t5_profile *p, t5_error *err)
{
    if (value == NULL) return T5_OK;
    const char *name = json_string_value(value);
    if (name == NULL || *name == '\0' || strlen(name) >= sizeof p->name)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: name: must be a string of 1 to %zu bytes", path, sizeof p->name - 1);
    memcpy(p->name, name, strlen(name) + 1);
    return T5_OK;
}

static t5_status read_pair(const char *where, const json_t *value, const char *template_text, t5_profile *p,
                           t5_error *err)
{
    const char *source = json_string_value(json_array_get(value, 0));
    const char *target = json_string_value(json_array_get(value, 1));
    char source_code[T5_LANGCODE_BYTES] = "", target_code[T5_LANGCODE_BYTES];
    char prompt[sizeof p->pairs->prompt];
    t5_error problem = {0};

    if (json_array_size(value) != 2 || source == NULL || target == NULL)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: must be two codes such as [\"en\", \"de\"]", where);
    bool is_any = strcmp(source, "*") == 0;
    if (!is_any && !t5_langcode_normalize(source, source_code))
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: \"%.32s\" is not a language code", where, source);
    if (!t5_langcode_normalize(target, target_code))
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: \"%.32s\" is not a language code", where, target);
    if (t5_template_expand(template_text, is_any ? "" : source, target, prompt, sizeof prompt, &problem) != T5_OK)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: %s", where, problem.text);
    return t5_profile_add_pair(p, source_code, target_code, prompt, where, err);
}

static t5_status read_pairs(const char *path, const json_t *pairs, const json_t *template_value, t5_profile *p,
                            t5_error *err)
{
    const char *template_text = json_string_value(template_value);

    if (template_value != NULL && template_text == NULL)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: template: must be a string", path);
    if (pairs == NULL) return T5_OK;
    if (!json_is_array(pairs)) return T5_FAIL(err, T5_ERR_FORMAT, "%s: pairs: must be an array", path);
    if (template_text == NULL && json_array_size(pairs) > 0)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: template: is missing", path);
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        char where[256];
        snprintf(where, sizeof where, "%.200s: pairs[%zu]", path, i);
        t5_status status = read_pair(where, json_array_get(pairs, i), template_text, p, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

static t5_status read_defaults(const char *path, const json_t *defaults, t5_profile *p, t5_error *err)
{
    const char *key;
    json_t *value;
    t5_error problem = {0};

    if (defaults == NULL) return T5_OK;
    if (!json_is_object(defaults)) return T5_FAIL(err, T5_ERR_FORMAT, "%s: defaults: must be an object", path);
    json_object_foreach((json_t *)defaults, key, value)
    {
        if (!t5_decoding_has(key)) return T5_FAIL(err, T5_ERR_FORMAT, "%s: defaults: %.64s: no such option", path, key);
    }
    if (t5_decoding_set_object(&p->defaults, defaults, &problem) != T5_OK)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: defaults: %s", path, problem.text);
    return T5_OK;
}

t5_status t5_profile_read_own(const char *path, t5_profile *p, bool *out_found, t5_error *err)
{
    t5_status status = T5_OK;
    json_t *object = NULL;

    *out_found = t5_file_exists(path);
    if (!*out_found) return T5_OK;
    T5_TRY(t5_json_load(path, 0, &object, err));
    T5_TRY(check_keys(path, object, err));
    T5_TRY(read_name(path, json_object_get(object, "name"), p, err));
    T5_TRY(read_pairs(path, json_object_get(object, "pairs"), json_object_get(object, "template"), p, err));
    T5_TRY(read_defaults(path, json_object_get(object, "defaults"), p, err));
out:
    json_decref(object);
    return status;
}
