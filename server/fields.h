/* server/fields.h: the fields of a request, whichever way they came, as one JSON object.
 *
 * A client sends JSON, a form, multipart, or everything in the query string; what follows must not care. Form values
 * become JSON strings; the first value of a name wins, and the query comes before the body, as LibreTranslate has it.
 * Everything here is hostile input: bounded, and an error instead of a guess. Any thread. */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <stddef.h>

/* jansson needs up to 220 bytes for a value of two bytes ("{},"); this bounds a request's share of memory. */
#define T5_JSON_VALUES_MAX 65536
#define T5_FORM_FIELDS_MAX 1024

/* What LibreTranslate answers when a body cannot be read; clients know the words. */
#define T5_TEXT_BAD_REQUEST "The browser (or proxy) sent a request that this server could not understand."

typedef enum { T5_CONTENT_OTHER, T5_CONTENT_JSON, T5_CONTENT_FORM, T5_CONTENT_MULTIPART } t5_content_kind;

/* Of a Content-Type header: case and parameters do not matter. NULL, and what we do not know, is OTHER. */
t5_content_kind t5_content_kind_of(const char *content_type);
/* T5_ERR_ARG: not JSON, duplicate keys, NUL, invalid UTF-8, too many values, not an object. The caller owns *out. */
t5_status t5_fields_from_json(const char *body, size_t n_bytes, json_t **out, t5_error *err);
/* No fields yet. `repeated`, unless NULL, is a name that may stand several times: it holds an array. NULL when out of
 * memory. */
json_t *t5_fields_create(const char *repeated);
/* Adds one field unless the name is there already; to an array it appends. T5_ERR_ARG: invalid UTF-8, NUL, too many
 * fields. */
t5_status t5_fields_add(json_t *fields, const char *name, size_t name_bytes, const char *value, size_t value_bytes,
                        t5_error *err);
/* Adds the fields of an application/x-www-form-urlencoded body. A % without two hex digits stands for itself. */
t5_status t5_fields_add_form(json_t *fields, const char *body, size_t n_bytes, t5_error *err);
