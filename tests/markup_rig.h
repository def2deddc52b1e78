/* tests/markup_rig.h: a text with markup, translated by a stand-in for the model whose words and links are known. */
#pragma once
#include "base/buffer.h"
#include "text/markup.h"

typedef enum {
    RIG_SAME,     /* every word in upper case, linked to itself */
    RIG_REVERSED, /* the words in the opposite order, a sign at the end of the sentence stays there; linked */
    RIG_UNLINKED, /* in upper case, without links */
    RIG_OTHER,    /* as many other words as there are, without links */
    RIG_RANDOM,   /* words that come from a hash of the sentence, linked at random, some to nothing */
    RIG_N_MODES,
} t5_rig_mode;

/* Appends the translation to `out`. With `is_poor` the stand-in cannot say & < > { } and what is not ASCII, if that is
 * no letter. Errors are those of the parser. */
t5_status t5_rig_translate(const char *source, size_t n_bytes, const t5_markup_options *options, t5_rig_mode mode,
                           bool is_poor, t5_buffer *out, t5_error *err);
