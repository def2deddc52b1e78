/* tokenizer/json_file.h: reads the JSON files of a model folder. Numbers are reals: model_max_length may be 1e30 in
 * digits. Any thread. */
#pragma once
#include "base/error.h"
#include <jansson.h>

T5_C_BEGIN

/* Reads a file of at most T5_JSON_FILE_MAX bytes. T5_ERR_FORMAT names its line. Release with json_decref(). */
t5_status t5_json_file_read(const char *path, json_t **out, t5_error *err);

/* The same for dir/name, which is written to path[PATH_MAX]. *out is NULL when the folder has no such file. */
t5_status t5_json_file_read_in(const char *dir, const char *name, char *path, json_t **out, t5_error *err);

T5_C_END
