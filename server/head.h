/* server/head.h: what a request's head says besides its route: an id, and how long its client will wait. Values are
 * hostile input. Any thread. */
#pragma once
#include "base/error.h"
#include <stdint.h>

#define T5_PATH_PREFIX_MAX 200
#define T5_REQUEST_ID_BYTES 65 /* 64 characters: a UUID, a trace id, what proxies make */
#define T5_HEADER_REQUEST_ID "X-Request-Id"
#define T5_HEADER_REQUEST_TIMEOUT "X-Request-Timeout-Ms"

/* `given` when it is 1 to 64 of A-Z a-z 0-9 - _ . : / + = @ (safe in headers, logs and shells), else an id of 16 hex
 * digits that no other request of this process gets. `given` may be NULL. */
void t5_head_request_id(const char *given, char out[T5_REQUEST_ID_BYTES]);
/* The time limit: what the client gave, at most `ms_max` (0: no limit of ours). `given` may be NULL: ms_max. *out_ms 0:
 * no limit. T5_ERR_ARG: not a whole number from 1 to 86400000. */
t5_status t5_head_timeout(const char *given, int64_t ms_max, int64_t *out_ms, t5_error *err);
/* A folder in front of all paths, as t5_http_options wants it: "/a/b" for "a/b/", "" for "" and "/". T5_ERR_ARG: other
 * than letters, digits and - . _ ~ in its parts, a part that is empty or of dots alone, or too long. */
t5_status t5_head_prefix(const char *given, char out[T5_PATH_PREFIX_MAX + 1], t5_error *err);
/* Whose pages may call, as a browser names them: "*", "null", an origin like "https://example.org:8443", or "" for
 * nobody. T5_ERR_ARG: anything else, which no browser would ever find equal to its own name. */
t5_status t5_head_origin(const char *given, t5_error *err);
/* `method` when it is one of HTTP's own, else "other". Static text. */
const char *t5_head_method(const char *method);
