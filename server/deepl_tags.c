/* server/deepl_tags.c: see deepl_tags.h. In JSON a list is an array, in a form its names are separated by commas; both
 * ways are taken anywhere. */
#include "server/deepl_tags.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static t5_status refuse(const char *name, t5_error *err)
{
    return T5_FAIL(err, T5_ERR_ARG, "Value for '%s' not supported.", name);
}

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
}

/* Bytes of all names with a comma behind each; false when the value is no list of names. */
static bool measure(const json_t *value, size_t *out_bytes)
{
    *out_bytes = json_is_string(value) ? json_string_length(value) + 1 : 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!json_is_string(json_array_get(value, i))) return false;
        *out_bytes += json_string_length(json_array_get(value, i)) + 1;
    }
    return json_is_string(value) || json_is_array(value);
}

static char *put_names(char *to, const json_t *value)
{
    const size_t n = json_string_length(value);
    memcpy(to, json_string_value(value), n);
    to[n] = ',';
    return to + n + 1;
}

/* Cuts `names` at its commas, in place. */
static t5_status cut_names(char *names, const char *name, const char ***out, size_t *out_n, t5_error *err)
{
    size_t n = 0;
    const char **list = calloc(T5_DEEPL_TAGS_MAX, sizeof *list);
    if (list == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d names of tags", T5_DEEPL_TAGS_MAX);
    *out = list;
    char *rest = NULL;
    for (char *tag = strtok_r(names, ", \t\r\n", &rest); tag != NULL; tag = strtok_r(NULL, ", \t\r\n", &rest)) {
        if (n == T5_DEEPL_TAGS_MAX) return refuse(name, err);
        list[n++] = tag;
    }
    *out_n = n;
    return T5_OK;
}

static t5_status read_list(const json_t *fields, const char *name, t5_deepl_tags *tags, int i_list, t5_tag_names *out,
                           t5_error *err)
{
    size_t n_bytes = 0;
    const json_t *value = json_object_get(fields, name);
    if (is_absent(value)) return T5_OK;
    if (!measure(value, &n_bytes)) return refuse(name, err);
    char *names = malloc(n_bytes + 1);
    if (names == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu bytes", name, n_bytes);
    tags->names[i_list] = names;
    char *end = json_is_string(value) ? put_names(names, value) : names;
    for (size_t i = 0; i < json_array_size(value); i++)
        end = put_names(end, json_array_get(value, i));
    *end = '\0';
    const t5_status status = cut_names(names, name, &tags->lists[i_list], &out->n_names, err);
    out->names = tags->lists[i_list];
    return status;
}

/* 0 or 1, as a number, a string or a boolean; absent is 1. */
static t5_status read_outline(const json_t *fields, bool *out, t5_error *err)
{
    const json_t *value = json_object_get(fields, "outline_detection");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    const bool is_number = json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= 1;
    const bool is_off = json_is_false(value) || strcmp(text, "0") == 0 || (is_number && json_integer_value(value) == 0);
    const bool is_on = is_absent(value) || json_is_true(value) || strcmp(text, "1") == 0 || is_number;
    *out = !is_off;
    return is_off || is_on ? T5_OK : refuse("outline_detection", err);
}

static t5_status read_version(const json_t *fields, const char **out, t5_error *err)
{
    const json_t *value = json_object_get(fields, "tag_handling_version");
    const char *text = json_string_value(value);
    const bool is_second = text != NULL && strcasecmp(text, "v2") == 0;
    *out = is_second ? "v2" : "v1";
    const bool is_known = is_absent(value) || is_second || (text != NULL && strcasecmp(text, "v1") == 0);
    return is_known ? T5_OK : refuse("tag_handling_version", err);
}

t5_status t5_deepl_tags_read(const json_t *fields, t5_deepl_tags *out, t5_error *err)
{
    t5_status status = T5_OK;
    const json_t *value = json_object_get(fields, "tag_handling");
    t5_markup_options *o = &out->options;
    *out = (t5_deepl_tags){0};
    if (is_absent(value)) return T5_OK;
    const char *kind = json_is_string(value) ? json_string_value(value) : "";
    const bool is_xml = strcasecmp(kind, "xml") == 0;
    if (!is_xml && strcasecmp(kind, "html") != 0) return refuse("tag_handling", err);
    out->is_marked = true;
    o->kind = is_xml ? T5_MARKUP_XML : T5_MARKUP_HTML;
    T5_TRY(read_version(fields, &out->version, err));
    T5_TRY(read_outline(fields, &o->finds_outline, err));
    T5_TRY(read_list(fields, "ignore_tags", out, 0, &o->ignored, err));
    T5_TRY(read_list(fields, "splitting_tags", out, 1, &o->splitting, err));
    T5_TRY(read_list(fields, "non_splitting_tags", out, 2, &o->not_splitting, err));
out:
    return status;
}

void t5_deepl_tags_deinit(t5_deepl_tags *tags)
{
    for (size_t i = 0; i < T5_COUNT(tags->names); i++) {
        free(tags->names[i]);
        free(tags->lists[i]);
    }
    *tags = (t5_deepl_tags){0};
}
