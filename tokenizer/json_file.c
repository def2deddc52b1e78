/* tokenizer/json_file.c: see json_file.h. */
#include "tokenizer/json_file.h"
#include "base/file.h"
#include "base/limits.h"

#include <limits.h>
#include <stdlib.h>

t5_status t5_json_file_read(const char *path, json_t **out, t5_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    json_error_t problem;
    *out = NULL;
    const t5_status status = t5_file_read(path, T5_JSON_FILE_MAX, &text, &n_bytes, err);
    if (status != T5_OK) return status;
    *out = json_loadb(text, n_bytes, JSON_DECODE_INT_AS_REAL, &problem);
    free(text);
    if (*out == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: line %d: %s", path, problem.line, problem.text);
    return T5_OK;
}

t5_status t5_json_file_read_in(const char *dir, const char *name, char *path, json_t **out, t5_error *err)
{
    *out = NULL;
    const t5_status status = t5_path_join(path, PATH_MAX, dir, name, err);
    if (status != T5_OK || !t5_file_exists(path)) return status;
    return t5_json_file_read(path, out, err);
}
