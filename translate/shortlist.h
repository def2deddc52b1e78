/* translate/shortlist.h: which pieces of a vocabulary a target language needs, and the file of a model folder that says
 * so. `t5 shortlist` makes it from text in that language:
 *
 *   shortlist.de.json: {"tokenizer": "0123456789abcdef", "ids": [1, 3, 4, ...]}
 *
 * On the list is every piece that the text was cut into. What no text of moderate length shows is always there: the
 * end of sequence, bytes, pieces without a letter (digits, signs, spaces), and each character of ASCII and of the
 * pieces that the text has, so that any name can be spelled. `tokenizer` is a sum over all pieces of the vocabulary: a
 * list of ids means nothing for another one.
 *
 * Functions that only read a tokenizer: any thread. */
#pragma once
#include "base/limits.h"
#include "tokenizer/tokenizer.h"

T5_C_BEGIN

/* A list has twice as many words as the widest search has beams, so that no request fails for want of words. */
#define T5_SHORTLIST_WORDS_MIN (2 * T5_BEAMS_MAX)

/* The vocabulary that a list is about. Plain data; borrowed. */
typedef struct {
    const t5_tokenizer *tokenizer;
    int32_t n_words; /* ids below may be chosen: t5_slot.vocab_live */
    int32_t eos_id;
} t5_shortlist_vocab;

/* Of a model with so many rows in its embedding. */
t5_shortlist_vocab t5_shortlist_vocab_of(const t5_tokenizer *tokenizer, int32_t vocab_size, int32_t eos_id);

/* Counts the pieces of texts. One thread. */
typedef struct {
    t5_shortlist_vocab vocab;
    int64_t *counts; /* [vocab.n_words] */
    int64_t n_tokens;
} t5_shortlist_maker;

/* T5_ERR_ARG where every token is a byte: there is nothing to leave out. */
t5_status t5_shortlist_maker_init(t5_shortlist_maker *m, const t5_shortlist_vocab *vocab, t5_error *err);
void t5_shortlist_maker_deinit(t5_shortlist_maker *m); /* accepts a zeroed one */
/* Adds a line of text in the target language. T5_ERR_ARG when it is not UTF-8. */
t5_status t5_shortlist_maker_add(t5_shortlist_maker *m, const char *text, size_t n_bytes, t5_error *err);
/* The list, rising; pieces seen less than count_min (1 or more) times only count as not seen. The caller frees *out. */
t5_status t5_shortlist_maker_list(const t5_shortlist_maker *m, int64_t count_min, int32_t **out, int32_t *out_n,
                                  t5_error *err);

/* "DIR/shortlist.CODE.json" for a public code. */
t5_status t5_shortlist_path(const char *dir, const char *target, char *out, size_t out_bytes, t5_error *err);
/* Writes the file anew: it is whole or not there. T5_ERR_IO for a device or a pipe. */
t5_status t5_shortlist_write(const char *path, const t5_shortlist_vocab *vocab, const int32_t *ids, int32_t n_ids,
                             t5_error *err);
/* Reads the file, which is checked: T5_ERR_FORMAT names what is wrong, a list for another tokenizer too. The caller
 * frees *out. */
t5_status t5_shortlist_read(const char *path, const t5_shortlist_vocab *vocab, int32_t **out, int32_t *out_n,
                            t5_error *err);

T5_C_END
