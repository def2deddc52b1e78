/* text/sentences.h: cuts a text into sentences and what stands between them, so that translated sentences can be put
 * back with the very white space and line ends of the source. Any thread: nothing is shared between calls. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* Bytes offset to offset + n_bytes of the text. */
typedef struct {
    size_t offset, n_bytes;
    bool is_text; /* a sentence to translate; else copied as it is: white space, line ends, what has no letter outside
                   * its placeholders (text/placeholders.h) */
    bool is_part; /* the sentence goes on behind this text: an end that a translator puts there is not wanted */
} t5_span;

/* Spans in the order of the text, without gaps: put one after the other they are the text. */
typedef struct {
    t5_span *spans;
    size_t n_spans, capacity;
} t5_sentences;

typedef enum {
    T5_SPLIT_LINES,  /* at punctuation; a line end always ends a sentence */
    T5_SPLIT_MARKS,  /* at punctuation alone: a line end is a space, as in a text that was wrapped */
    T5_SPLIT_NOWHERE /* one span */
} t5_split;

/* Splits valid UTF-8 text (NUL is allowed). `language` is the text's public code or NULL; it picks the rules for
 * abbreviations. A placeholder is never split. Free with t5_sentences_deinit(). */
t5_status t5_sentences_split(const char *text, size_t n_bytes, const char *language, t5_split how, t5_sentences *out,
                             t5_error *err);
/* Cuts the text spans that do not fit: at clause marks (, ; : - and their like), else at spaces, else between
 * grapheme clusters; a single cluster is left alone even if it does not fit. `fits` says whether a part of the text is
 * short enough for the model; a part of one that fits must fit too. The white space at a cut becomes a span of its own.
 * A placeholder is never cut: one that does not fit is copied. */
t5_status t5_sentences_cut(const char *text, bool (*fits)(const char *part, size_t n_bytes, void *ctx), void *ctx,
                           t5_sentences *sentences, t5_error *err);
/* Makes those placeholders and pictures (emoji, arrows) of text spans that `is_apart` chooses spans of their own, which
 * are copied: what stands around them is translated in parts. `is_apart` NULL: all placeholders, no picture. */
t5_status t5_sentences_set_apart(const char *text, bool (*is_apart)(const char *thing, size_t n_bytes, void *ctx),
                                 void *ctx, t5_sentences *sentences, t5_error *err);
void t5_sentences_deinit(t5_sentences *s); /* accepts a zeroed one */

T5_C_END
