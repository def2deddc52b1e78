/* cli/request.h: one line of `t5 generate` or `t5 score` as a sequence for the engine. JSON requests have the keys
 *   generate: text or input_ids; decoder_input_ids, a forced start of the target, with or without the start token (as
 *             Hugging Face: it is put in front when it is not there); token_logprobs or alignment true to get them; any
 *             decoding option under its Hugging Face name
 *   score:    text or input_ids; target or target_ids (exactly these tokens, no start token)
 * A key whose value is null counts as absent. Who asks for do_sample and says no num_beams gets the one beam it needs.
 * Any thread may make requests from one source. */
#pragma once
#include "translate/translator.h"

#include <jansson.h>

typedef struct {
    const t5_translator *translator;
    t5_decoding decoding; /* for what a request does not say */
    bool is_max_given;    /* decoding.max_new_tokens was chosen by the user, else it shrinks to what fits */
} t5_request_source;

typedef struct {
    t5_sequence seq;
    int32_t *input_ids, *prompt_ids; /* owned; borrowed by seq */
    bool shows_logprobs;
} t5_request;

/* Each sets *out on T5_OK only; free with t5_request_destroy(). T5_ERR_ARG names the key that is wrong. */
t5_status t5_request_generate_text(const t5_request_source *s, const char *text, size_t n_bytes, t5_request **out,
                                   t5_error *err);
t5_status t5_request_generate_json(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out,
                                   t5_error *err);
/* "text TAB target" */
t5_status t5_request_score_text(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out,
                                t5_error *err);
t5_status t5_request_score_json(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out,
                                t5_error *err);
void t5_request_destroy(t5_request *r); /* accepts NULL; the engine must be done with it */

/* The replies; the caller decrefs them. {"sequences", "texts", "scores"}, with what was asked for, and
 * {"token_logprobs", "score"}. */
t5_status t5_request_generate_reply(const t5_request_source *s, const t5_request *r, json_t **out, t5_error *err);
t5_status t5_request_score_reply(const t5_request *r, json_t **out, t5_error *err);
