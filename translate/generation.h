/* translate/generation.h: text to text as the model was trained, without languages, sentences or a prompt of ours: each
 * input is one source, with every option of the decoder. Works with every model folder. The order of calls and their
 * threads are those of a translation (translator.h):
 *
 *   t5_generation_start -> (on_progress: t5_generation_read) -> (on_done) -> t5_generation_finish -> get -> destroy */
#pragma once
#include "translate/stops.h"
#include "translate/translator.h"

typedef struct {
    const char *text; /* UTF-8, may contain NUL; NULL: the ids are given */
    size_t n_bytes;
    const int32_t *ids; /* end of sequence included */
    int32_t n_ids;
} t5_generation_input; /* borrowed during start */

typedef struct {
    const t5_generation_input *inputs;
    int32_t n_inputs;
    const int32_t *prompt_ids; /* forced start of each output, without the start token; borrowed during start */
    int32_t n_prompt_ids;
    const char *prefix; /* the same as text, in place of the ids; NULL: none; borrowed during start */
    size_t prefix_bytes;
    t5_decoding decoding; /* start from t5_translator_generation_defaults() */
    bool wants_alignment; /* outputs have one, see t5_output */
    /* An input whose only result has come to one of these is not decoded any further; what was decoded of it by then is
     * not cut. With several results (num_return_sequences) they change nothing. */
    t5_stops stops;
    /* What the client calls the max_new_tokens that it chose, for an error; NULL: it chose none, which shrinks to what
     * fits. */
    const char *max_new_tokens_field;
    int64_t deadline_ms;            /* see t5_sequence; 0: none */
    void (*on_progress)(void *ctx); /* see t5_translation_request, as on_done */
    void (*on_done)(void *ctx);
    void *ctx;
} t5_generation_request;

typedef struct t5_generation t5_generation;

/* One result; lives as long as the generation. */
typedef struct {
    char *text; /* NUL-terminated, maybe with NUL inside */
    size_t n_bytes;
    const t5_output *output; /* ids: forced start and end of sequence included; with log-probabilities */
} t5_generated;

/* T5_ERR_ARG: an input that is too long or not UTF-8, a bad option; T5_ERR_BUSY: queue full. Any thread. On T5_OK
 * on_done is called once, maybe before this returns. */
t5_status t5_generation_start(t5_translator *t, const t5_generation_request *request, t5_generation **out,
                              t5_error *err);
/* As t5_translation_read(): of the first result of each input; i_text is the input's index. */
t5_status t5_generation_read(t5_generation *g, t5_piece *out, t5_error *err);
/* After on_done: detokenizes. The first input that failed is the error. Not on the device thread. */
t5_status t5_generation_finish(t5_generation *g, t5_error *err);
/* Ids of an input, end of sequence included, which an alignment leads into. */
const int32_t *t5_generation_input_ids(const t5_generation *g, int32_t i_input, int32_t *out_n);
int32_t t5_generation_n_results(const t5_generation *g, int32_t i_input);
const t5_generated *t5_generation_get(const t5_generation *g, int32_t i_input, int32_t i_result); /* best first */
void t5_generation_usage(const t5_generation *g, t5_usage *out);                                  /* after finish */
void t5_generation_cancel(t5_generation *g);  /* as t5_translation_cancel() */
void t5_generation_destroy(t5_generation *g); /* accepts NULL; on_done must have been called */
