/* translate/units.h: the different sentences of a request. A sentence that stands several times in a request (a table,
 * a list of labels) is one unit: it is tokenized and translated once. */
#pragma once
#include "translate/live.h"
#include "translate/translator.h"

/* One translation of a sentence, trimmed; malloc'ed, NUL-terminated, and maybe with NUL inside: byte tokens can say it.
 */
typedef struct {
    char *text;
    size_t n_bytes;
    const t5_output *output; /* whose text it is; NULL: it was put together from parts, or is the source */
    bool is_truncated;       /* it, or a part of it, hit max_new_tokens */
} t5_result;

typedef struct t5_retry t5_retry;

typedef struct t5_unit t5_unit;
struct t5_unit {
    const t5_pair *pair; /* borrowed */
    const char *text;    /* borrowed from the request */
    size_t n_bytes;
    int32_t *ids; /* prompt + sentence + eos; NULL when is_too_long */
    int32_t n_ids;
    bool is_too_long; /* more than ids_max tokens */
    bool is_used;     /* some text contains it; else it was only tried and then cut */
    bool has_placeholders;
    /* Unless NULL: its tokens will be aligned. [n_ids] what they stand for in prompt + sentence. */
    t5_token_span *spans;
    t5_live_sequence live;

    /* Results, once translated, best first. */
    t5_result *results;
    int32_t n_results;

    t5_retry *retry; /* NULL: translated once; see second_round.h */
    t5_unit *next;   /* in a list of the second round */
};

typedef struct {
    const t5_tokenizer *tokenizer;
    int32_t ids_max;
    t5_unit *units;
    int32_t n_units, n_units_max, capacity;
    bool is_full;     /* a sentence was refused: there were n_units_max */
    int32_t *buckets; /* [n_buckets] index of a unit, or -1; open addressing */
    int32_t n_buckets;
    char *prompted; /* prompt + sentence */
    size_t prompted_bytes;
} t5_units;

/* At most `n_units_max` units of at most `ids_max` tokens each. Release with t5_units_deinit(). */
void t5_units_init(t5_units *u, const t5_tokenizer *tokenizer, int32_t ids_max, int32_t n_units_max);
void t5_units_deinit(t5_units *u); /* accepts a zeroed one */
/* A sentence with so many bytes has too many tokens, whatever they are: it need not be tokenized. White space counts
 * too, which a tokenizer may drop, so that the bytes of a unit are bounded. */
bool t5_units_is_too_wide(const t5_units *u, size_t n_bytes);
/* Index of the unit for a sentence; a new one is tokenized. T5_ERR_ARG when there are too many. Pointers to units are
 * valid until the next call. */
t5_status t5_units_get(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, int32_t *out_index,
                       t5_error *err);
/* Fills the spans of a unit that has ids, and asks for its alignment to the tokens behind the prompt. */
t5_status t5_units_locate(t5_units *u, int32_t i_unit, t5_error *err);
/* Number of tokens of a sentence with its prompt and eos, without keeping it. */
t5_status t5_units_count(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, int32_t *out_n,
                         t5_error *err);
/* Ids of prompt + sentence + eos, malloc'ed, without keeping the sentence. */
t5_status t5_units_encode(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, int32_t **out,
                          int32_t *out_n, t5_error *err);

/* Text of one output, without white space around it: the source's own is put back by the join. A sentence is part of a
 * line, so a line end in it is a space. */
t5_status t5_result_decode(const t5_tokenizer *tokenizer, const t5_output *output, t5_result *out, t5_error *err);
/* The same of all outputs of a sequence, malloc'ed as their texts are. */
t5_status t5_results_decode(const t5_tokenizer *tokenizer, const t5_output *outputs, int32_t n_outputs, t5_result **out,
                            t5_error *err);
/* Fills the results of a unit that is over, unless they are there. Its error is its sequence's, if that has one. */
t5_status t5_unit_decode(const t5_tokenizer *tokenizer, t5_unit *unit, t5_error *err);
void t5_unit_clear_results(t5_unit *unit);
