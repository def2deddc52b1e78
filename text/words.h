/* text/words.h: the words of a sentence and of its translation, and which of them say the same. Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

/* Bytes begin to end - 1 of the text. Between words there is white space, or nothing; within one only where it is a
 * placeholder. */
typedef struct {
    uint32_t begin, end;
    bool is_sign; /* punctuation or a symbol: no letter, no digit */
} t5_word;

typedef struct {
    const char *text; /* borrowed */
    t5_word *items;
    int32_t n_items, capacity;
} t5_words;

/* Letters and digits that stand together are a word; a character of a script without spaces is one by itself; so is a
 * run of the same sign, and a placeholder (placeholders.h), whatever is in it. Valid UTF-8 below 4 GiB. Release with
 * t5_words_deinit(), also after an error. */
t5_status t5_words_find(const char *text, size_t n_bytes, t5_words *out, t5_error *err);
void t5_words_deinit(t5_words *w); /* accepts a zeroed one */
/* Index of the first word that ends behind a byte; n_items when none does. */
int32_t t5_words_ending_after(const t5_words *w, size_t pos);
/* Index of the first word that begins at a byte or behind it. */
int32_t t5_words_beginning_at(const t5_words *w, size_t pos);

/* These bytes of the target were made when the model looked at those bytes of the source. */
typedef struct {
    uint32_t source_begin, source_end, target_begin, target_end;
} t5_text_link;

/* For each word of the target the word of the source that it translates, or -1: out[target->n_items]. Names, numbers
 * and signs that both sides have are partners in any case; for the other words the links decide, which are in the order
 * of the target; without links, their place in the sentence. */
t5_status t5_words_align(const t5_words *source, const t5_words *target, const t5_text_link *links, size_t n_links,
                         int32_t *out, t5_error *err);

T5_C_END
