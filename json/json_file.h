/* json/json_file.h: JSON files of a model folder, for whoever reads them. Any thread. */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

enum {
    T5_JSON_UNIQUE = 1, /* a key that appears twice in an object is an error */
    T5_JSON_REALS = 2,  /* integers are read as reals: a tokenizer's model_max_length may be 1e30 in digits */
};

/* Parses `text`, which came from `path` and must be one JSON object. `flags` are T5_JSON_. T5_ERR_FORMAT names path and
 * line. The caller releases *out with json_decref(). */
t5_status t5_json_parse(const char *path, const char *text, size_t n_bytes, unsigned flags, json_t **out,
                        t5_error *err);
/* Reads and parses a file of at most T5_JSON_FILE_MAX bytes. */
t5_status t5_json_load(const char *path, unsigned flags, json_t **out, t5_error *err);
/* The same for dir/name, which is written to path[PATH_MAX]. *out is NULL when the folder has no such file. */
t5_status t5_json_load_in(const char *dir, const char *name, unsigned flags, char *path, json_t **out, t5_error *err);
/* Writes a short form of `value` for an error text, cut to fit: 12, "abc", [1, 2], null. Returns `out`. */
const char *t5_json_show(char *out, size_t out_bytes, const json_t *value);

/* False when `value` is not an integer within the range; it may be written as 4.0. */
bool t5_json_get_int(const json_t *value, int64_t min, int64_t max, int64_t *out);

T5_C_END
