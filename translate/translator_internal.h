/* translate/translator_internal.h: the state of an open translator, shared by the files of this folder. Immutable after
 * open, but for the engine and the histograms. */
#pragma once
#include "base/histogram.h"
#include "base/limits.h"
#include "base/workers.h"
#include "translate/languages.h"
#include "translate/translator.h"

struct t5_translator {
    t5_hparams hparams;
    t5_tokenizer *tokenizer;
    t5_profile profile;
    t5_decoding generation_defaults;
    t5_backend *backends[T5_DEVICES_MAX]; /* [n_devices] */
    t5_model *models[T5_DEVICES_MAX];     /* [n_devices] the same on each */
    int32_t n_devices;
    char device[T5_DEVICE_TEXT_BYTES]; /* for people */
    t5_engine *engine;
    t5_engine_options engine_options;
    t5_workers *text_thread; /* one thread, see second_round.h */
    int32_t sentences_max, sentence_tokens_max;
    int32_t vocab_live;
    int32_t *shortlists; /* [profile.n_pairs] numbers of the models' lists; NULL: none are used */
    t5_languages languages;
    t5_histogram tokenize_ns, detokenize_ns;
    _Atomic int64_t n_in_parts, n_searched_again; /* see t5_translator_stats */
};

/* Source, options, limit and deadline of one sequence of a request; ids are borrowed. */
void t5_translation_fill(const t5_translator *t, const t5_translation_request *r, const t5_pair *pair, int32_t *ids,
                         int32_t n_ids, t5_sequence *out);

/* Gives the models the shortlists of the folder, before the engine runs. Frees nothing on errors. */
t5_status t5_translator_open_shortlists(t5_translator *t, const char *dir, t5_error *err);
/* Number of the list that belongs to a pair of the profile; 0: the whole vocabulary. */
int32_t t5_translator_shortlist(const t5_translator *t, const t5_pair *pair);
