/* bench/serve_texts.h: the requests of a load: real sentences as ready HTTP requests, and what each must be answered.
 * Immutable once the answers are known. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* One request of n_texts sentences, and its answer when it was alone. */
typedef struct {
    char *http; /* head and body, NUL-terminated */
    size_t http_bytes;
    char *answer; /* the reply's body; streamed: the last event. NULL until it is known */
    size_t answer_bytes;
    int32_t n_target_tokens; /* of the answer's texts */
} t5_serve_request;

typedef struct {
    t5_serve_request *requests;
    int32_t n_requests;
} t5_serve_texts;

typedef struct {
    const char *path; /* lines "sentence<TAB>anything"; a line without a tab is a sentence */
    const char *host, *source, *target;
    int32_t port;
    int32_t requests_max, texts_per_request;
    int32_t num_beams; /* 0: the model's default */
    bool is_streamed;
} t5_serve_texts_options;

/* Reads the sentences, empty ones left out, and makes the requests. T5_ERR_IO, T5_ERR_FORMAT: none can be made. */
t5_status t5_serve_texts_open(const t5_serve_texts_options *options, t5_serve_texts *out, t5_error *err);
void t5_serve_texts_close(t5_serve_texts *t); /* accepts a zeroed one */

/* The part of a reply that must be the same each time: all of it, or the data of the last event of a stream. */
const char *t5_serve_answer(const char *body, size_t n_bytes, bool is_streamed, size_t *out_bytes);
