/* json/json_file.c: see json_file.h. jansson bounds the depth (2048) and rejects invalid UTF-8 and embedded NULs. */
#include "json/json_file.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

t5_status t5_json_parse(const char *path, const char *text, size_t n_bytes, unsigned flags, json_t **out, t5_error *err)
{
    json_error_t problem;
    const size_t how = ((flags & T5_JSON_UNIQUE) != 0 ? JSON_REJECT_DUPLICATES : 0) |
                       ((flags & T5_JSON_REALS) != 0 ? JSON_DECODE_INT_AS_REAL : 0);
    json_t *root = json_loadb(text, n_bytes, how, &problem);
    if (root == NULL) {
        char quoted[JSON_ERROR_TEXT_LENGTH + 8]; /* jansson repeats bytes of the file in its text */
        t5_log_quote(quoted, sizeof quoted, problem.text);
        return T5_FAIL(err, json_error_code(&problem) == json_error_out_of_memory ? T5_ERR_NOMEM : T5_ERR_FORMAT,
                       "%s: not valid JSON at line %d, column %d: %s", path, problem.line, problem.column, quoted);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: not a JSON object", path);
    }
    *out = root;
    return T5_OK;
}

t5_status t5_json_load(const char *path, unsigned flags, json_t **out, t5_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    t5_status status = t5_file_read(path, T5_JSON_FILE_MAX, &text, &n_bytes, err);
    if (status != T5_OK) return status;
    status = t5_json_parse(path, text, n_bytes, flags, out, err);
    free(text);
    return status;
}

t5_status t5_json_load_in(const char *dir, const char *name, unsigned flags, char *path, json_t **out, t5_error *err)
{
    *out = NULL;
    const t5_status status = t5_path_join(path, PATH_MAX, dir, name, err);
    if (status != T5_OK || !t5_file_exists(path)) return status;
    return t5_json_load(path, flags, out, err);
}

const char *t5_json_show(char *out, size_t out_bytes, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        snprintf(out, out_bytes, "an object");
        break;
    case JSON_ARRAY:
        snprintf(out, out_bytes, "a list of %zu", json_array_size(value));
        break;
    case JSON_STRING:
        t5_log_quote(out, out_bytes, json_string_value(value));
        break;
    case JSON_INTEGER:
        snprintf(out, out_bytes, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(out, out_bytes, "%g", json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        snprintf(out, out_bytes, "%s", json_is_true(value) ? "true" : "false");
        break;
    case JSON_NULL:
        snprintf(out, out_bytes, "null");
        break;
    }
    return out;
}

bool t5_json_get_int(const json_t *value, int64_t min, int64_t max, int64_t *out)
{
    int64_t number = 0;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (json_is_real(value)) {
        double real = json_real_value(value);
        if (real != floor(real) || fabs(real) > 9007199254740992.0) return false; /* 2^53: exact as an integer */
        number = (int64_t)real;
    } else {
        return false;
    }
    if (number < min || number > max) return false;
    *out = number;
    return true;
}
