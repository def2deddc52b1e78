/* server/multipart.h: the fields of a multipart/form-data body (RFC 7578). Our own reader, because the post-processor
 * of libmicrohttpd takes names in quotation marks alone and what stands behind a boundary for a part of it, so that
 * forms of .NET and of Apache's HttpClient had no fields; and because it calls want of memory a broken body. The body
 * is whole and bounded, so it is read in one pass without a copy. Hostile input. Any thread. */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <stddef.h>

/* Adds each part to `fields`, as t5_fields_add() does; a file is a field like any other. The boundary is that of
 * `content_type`, the header. T5_ERR_ARG: no boundary, no last boundary in the body, a head that is none, a part
 * without a name, and what t5_fields_add() refuses. */
t5_status t5_fields_add_multipart(json_t *fields, const char *content_type, const char *body, size_t n_bytes,
                                  t5_error *err);
