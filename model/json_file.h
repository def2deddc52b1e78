/* model/json_file.h: JSON files of a model folder. Any thread. */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

/* Parses `text`, which came from `path` and must be one JSON object. T5_ERR_FORMAT names path and line. With
 * `is_strict`, a key that appears twice in an object is an error. The caller releases *out with json_decref(). */
t5_status t5_json_parse(const char *path, const char *text, size_t n_bytes, bool is_strict, json_t **out,
                        t5_error *err);
/* Reads and parses the file. */
t5_status t5_json_load(const char *path, json_t **out, t5_error *err);
/* Writes a short form of `value` for an error text, cut to fit: 12, "abc", [1, 2], null. Returns `out`. */
const char *t5_json_show(char *out, size_t out_bytes, const json_t *value);

/* False when `value` is not an integer within the range; it may be written as 4.0. */
bool t5_json_get_int(const json_t *value, int64_t min, int64_t max, int64_t *out);

T5_C_END
