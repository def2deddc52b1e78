/* server/params.h: what a client of POST /translate wants, read from its fields and checked in LibreTranslate's order,
 * in LibreTranslate's words (clients match on them). Owns its texts, so that body and fields can go at once. */
#pragma once
#include "text/langcodes.h"
#include "translate/generation.h"
#include "translate/languages.h"
#include "translate/translator.h"
#include <jansson.h>

/* A client's value in an error text: at most 32 bytes of it, no character cut. Returns `out`. */
#define T5_ECHO_BYTES 33
const char *t5_params_echo(char out[T5_ECHO_BYTES], const char *text);

/* What requests are checked against. */
typedef struct {
    const t5_languages *languages;                          /* that are served */
    _Atomic int64_t chars_max, texts_max, alternatives_max; /* -1: no limit; may change at any time */
} t5_params_rules;

typedef struct {
    char source[T5_LANGCODE_BYTES], target[T5_LANGCODE_BYTES]; /* public codes; source may be "auto" */
    t5_text *texts;                                            /* texts[i].source and .target point into this struct */
    int32_t n_texts;
    bool is_html;   /* the texts have tags */
    bool is_batch;  /* q was an array: the reply has arrays, also for one text */
    t5_split split; /* where sentences end */
    int32_t n_alternatives;
    t5_decoding decoding; /* of which those options count that are among `given` */
    uint32_t given;       /* bits of t5_decoding_bit() */
    bool has_max_new_tokens;
    bool is_streamed; /* the answer is wanted piece by piece */
    char *bytes;      /* what texts[i].text points into */
} t5_params;

/* `is_form`: values are strings, q has its line ends made \n and loses one at its end. T5_ERR_ARG holds the text for
 * the client. On T5_OK release with t5_params_deinit(); `out` must not move. Any thread. */
t5_status t5_params_read(const json_t *fields, bool is_form, const t5_params_rules *rules, t5_params *out,
                         t5_error *err);
/* T5_ERR_ARG unless q is a string or an array of strings, not empty. */
t5_status t5_params_check_q(const json_t *q, t5_error *err);
/* Every option of decoding.def that is among the fields, over those in `d`. T5_ERR_ARG names what is wrong. Of
 * *out_given those bits are set whose options were among them (t5_decoding_bit), or follow from them. */
t5_status t5_params_read_decoding(const json_t *fields, bool is_form, t5_decoding *d, uint32_t *out_given,
                                  t5_error *err);
/* The field `name`: *out is its text, NULL when it is absent, null or "". T5_ERR_ARG names it when it is no string. */
t5_status t5_params_read_string(const json_t *fields, const char *name, const char **out, t5_error *err);
/* T5_ERR_ARG, in LibreTranslate's words, when n is over the limit; -1 is none. */
t5_status t5_params_check_limit(int64_t n, int64_t limit, t5_error *err);
/* The field `name`: true or false, in a form also 1 or 0; absent, null and "" are false. T5_ERR_ARG names it. */
t5_status t5_params_read_bool(const json_t *fields, bool is_form, const char *name, bool *out, t5_error *err);
/* DeepL's split_sentences: 0, 1 or nonewlines; *out stays as it is when there is none. False for another value. */
bool t5_params_read_split(const json_t *fields, t5_split *out);
/* Text i of a field that is a string or an array. */
const json_t *t5_params_text_at(const json_t *q, size_t i);
/* Copies the texts of such a field, all strings, into p->texts: each with a NUL behind it, in one block. */
t5_status t5_params_copy_texts(const json_t *q, bool is_form, t5_params *p, t5_error *err);
/* The field `name`, a string or an array of strings, as inputs that borrow from `fields`. T5_ERR_ARG names it when it
 * is missing or something else, or says which limit it exceeds. The caller frees *out, also after an error (if set). */
t5_status t5_params_read_inputs(const json_t *fields, const char *name, const t5_params_rules *rules,
                                t5_generation_input **out, int32_t *out_n, t5_error *err);
void t5_params_deinit(t5_params *p); /* accepts a zeroed one */
