/* server/fields.c: see fields.h. */
#include "server/fields.h"
#include "server/json_memory.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* `text` begins with `prefix`, without regard to case, and there the media type ends. */
static bool is_type(const char *text, size_t n_bytes, const char *type)
{
    return strlen(type) == n_bytes && strncasecmp(text, type, n_bytes) == 0;
}

t5_content_kind t5_content_kind_of(const char *content_type)
{
    static const char json_suffix[] = "+json";
    const size_t n_suffix = sizeof json_suffix - 1;
    if (content_type == NULL) return T5_CONTENT_OTHER;
    const char *type = content_type + strspn(content_type, " \t");
    size_t n = strcspn(type, "; \t,");
    if (is_type(type, n, "application/json")) return T5_CONTENT_JSON;
    if (is_type(type, n, "application/x-www-form-urlencoded")) return T5_CONTENT_FORM;
    if (is_type(type, n, "multipart/form-data")) return T5_CONTENT_MULTIPART;
    bool is_application = n > n_suffix && strncasecmp(type, "application/", 12) == 0;
    if (is_application && is_type(type + n - n_suffix, n_suffix, json_suffix)) return T5_CONTENT_JSON;
    return T5_CONTENT_OTHER;
}

/* Upper bound on the values in a JSON text: each but the first follows a comma, colon or opening bracket. Characters
 * within strings do not count; a broken text is found by the parser. */
static size_t count_json_values(const char *text, size_t n_bytes)
{
    size_t n_values = 1;
    bool is_string = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = text[i];
        if (c == '"') is_string = !is_string;
        if (is_string && c == '\\') i++;
        if (!is_string && (c == ',' || c == '[' || c == '{')) n_values++;
    }
    return n_values;
}

t5_status t5_fields_from_json(const char *body, size_t n_bytes, json_t **out, t5_error *err)
{
    if (count_json_values(body, n_bytes) > T5_JSON_VALUES_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "Invalid request: more than %d JSON values", T5_JSON_VALUES_MAX);
    json_t *root = json_loadb(body, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (t5_json_memory_ran_out()) {
        json_decref(root);
        return T5_FAIL(err, T5_ERR_NOMEM, "out of memory for a request of %zu bytes", n_bytes);
    }
    if (root == NULL) return T5_FAIL(err, T5_ERR_ARG, T5_TEXT_BAD_REQUEST);
    if (!json_is_object(root)) {
        json_decref(root);
        return T5_FAIL(err, T5_ERR_ARG, "Invalid JSON format");
    }
    *out = root;
    return T5_OK;
}

json_t *t5_fields_create(const char *repeated)
{
    return repeated != NULL ? json_pack("{s:[]}", repeated) : json_object();
}

t5_status t5_fields_add(json_t *fields, const char *name, size_t name_bytes, const char *value, size_t value_bytes,
                        t5_error *err)
{
    t5_status status = T5_OK;
    json_t *key = NULL, *string = NULL;
    if (memchr(name, '\0', name_bytes) != NULL || memchr(value, '\0', value_bytes) != NULL)
        return T5_FAIL(err, T5_ERR_ARG, "Invalid request: a form field has a NUL byte");
    key = json_stringn(name, name_bytes); /* NULL for invalid UTF-8 */
    string = json_stringn(value, value_bytes);
    if (key == NULL || string == NULL) {
        status = t5_json_memory_ran_out()
                     ? T5_FAIL(err, T5_ERR_NOMEM, "out of memory for a form field of %zu bytes", value_bytes)
                     : T5_FAIL(err, T5_ERR_ARG, "Invalid request: a form field is not valid UTF-8");
        goto out;
    }
    json_t *present = json_object_get(fields, json_string_value(key));
    if (present != NULL && !json_is_array(present)) goto out; /* the first one wins */
    if (json_object_size(fields) + json_array_size(present) >= T5_FORM_FIELDS_MAX) {
        status = T5_FAIL(err, T5_ERR_ARG, "Invalid request: more than %d form fields", T5_FORM_FIELDS_MAX);
        goto out;
    }
    bool is_added = present != NULL ? json_array_append(present, string) == 0
                                    : json_object_set(fields, json_string_value(key), string) == 0;
    if (!is_added) status = T5_FAIL(err, T5_ERR_NOMEM, "out of memory for a form field of %zu bytes", value_bytes);
out:
    json_decref(key);
    json_decref(string);
    return status;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes + and %XX of `text` into `out`, which holds n_bytes; returns the bytes written. */
static size_t decode_percent(const char *text, size_t n_bytes, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        bool is_escape =
            text[i] == '%' && i + 2 < n_bytes && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
        if (is_escape) {
            out[n++] = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        } else {
            out[n++] = text[i] == '+' ? ' ' : text[i];
        }
    }
    return n;
}

t5_status t5_fields_add_form(json_t *fields, const char *body, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    if (n_bytes == 0) return T5_OK;
    char *decoded = malloc(n_bytes);
    if (decoded == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "out of memory for a form of %zu bytes", n_bytes);

    for (const char *field = body, *end = body + n_bytes; field < end;) {
        const char *ampersand = memchr(field, '&', (size_t)(end - field));
        const char *field_end = ampersand != NULL ? ampersand : end;
        const char *equals = memchr(field, '=', (size_t)(field_end - field));
        const char *name_end = equals != NULL ? equals : field_end;
        const char *value = equals != NULL ? equals + 1 : field_end;
        size_t name_bytes = decode_percent(field, (size_t)(name_end - field), decoded);
        size_t value_bytes = decode_percent(value, (size_t)(field_end - value), decoded + name_bytes);
        if (field_end > field)
            T5_TRY(t5_fields_add(fields, decoded, name_bytes, decoded + name_bytes, value_bytes, err));
        field = field_end + 1;
    }
out:
    free(decoded);
    return status;
}
