/* text/markup_place.h: where the marks of a sentence belong among the words of its translation. Not for other folders.
 * Any thread. */
#pragma once
#include "text/markup.h"
#include "text/words.h"

T5_C_BEGIN

/* A pair, or what stands alone. Places form a tree, pairs within pairs; place 0 is the sentence itself. */
typedef struct {
    int32_t parent;                    /* -1: the sentence */
    int32_t first_child, next_sibling; /* in the order of the source; -1: none */
    int32_t open, close;               /* marks; -1: that tag stands outside of the sentence. Alone: both the same */
    int32_t source_begin, source_end;  /* words of the source */
    int32_t begin, end;                /* words of the target: what it encloses */
    bool leans_right;                  /* encloses none: stands before word `begin`, else behind word begin - 1 */
} t5_place;

/* The marks first_mark to end_mark - 1 are of one sentence. Of a pair of which one tag is missing there, the sentence
 * has the beginning or the end of the content. */
typedef struct {
    const t5_markup *markup;
    int32_t first_mark, end_mark;
    size_t source_offset; /* of the sentence in the plain text */
    const t5_words *source, *target;
    const int32_t *aligned; /* [target->n_items] see t5_words_align() */
} t5_place_args;

/* Every mark in one place, children within their parents, no two siblings on the same word: a malloc'ed array in the
 * order in which they are to be written: behind each place those within it, siblings from left to right. The caller
 * frees it. */
t5_status t5_places_find(const t5_place_args *args, t5_place **out, int32_t *out_n, t5_error *err);

T5_C_END
