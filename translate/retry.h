/* translate/retry.h: the second translation of a sentence: of the whole with another search, when the first one lost
 * its way, or of the parts around its placeholders, when it lost one of them. Any thread, one at a time for a sentence.
 */
#pragma once
#include "text/sentences.h"
#include "translate/units.h"

/* What both kinds need; borrowed. */
typedef struct {
    t5_translator *translator;
    const t5_translation_request *request;
    t5_units *units;
} t5_retry_context;

struct t5_retry {
    t5_sequence *seqs; /* [n_seqs] to be submitted; on_done and ctx are the caller's */
    int32_t n_seqs;
    bool is_in_parts;
    t5_sentences parts; /* in parts: of the sentence; text spans have a sequence each, in order */
};

/* Sets unit->retry. Whole: a beam search that punishes repetition, and gives all its beams. */
t5_status t5_retry_whole(const t5_retry_context *c, t5_unit *unit, t5_error *err);
t5_status t5_retry_in_parts(const t5_retry_context *c, t5_unit *unit, t5_error *err);
void t5_retry_destroy(t5_retry *retry); /* accepts NULL; its sequences are over, or were never submitted */

/* When its sequences have results: the sentence put together from the k-th result of each part, for each k. Takes the
 * place of unit->results. */
t5_status t5_retry_join(const t5_retry_context *c, t5_unit *unit, t5_error *err);
/* The same without translations: the sentence as it is, for want of anything better. */
t5_status t5_retry_copy(t5_unit *unit, t5_error *err);
