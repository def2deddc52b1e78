/* translate/translator_internal.h: the state of an open translator, shared by the files of this folder. Immutable after
 * open, but for the engine and the histograms. */
#pragma once
#include "base/histogram.h"
#include "translate/translator.h"

struct t5_translator {
    t5_hparams hparams;
    t5_tokenizer *tokenizer;
    t5_profile profile;
    t5_decoding generation_defaults;
    t5_backend *backend;
    t5_model *model;
    t5_engine *engine;
    t5_engine_options engine_options;
    int32_t sentences_max, sentence_tokens_max;
    int32_t vocab_live;
    const char **languages; /* [n_languages] public codes of the profile */
    int32_t n_languages;
    const char **sources; /* [n_sources] those of them that can be translated from */
    int32_t n_sources;
    t5_histogram tokenize_ns, detokenize_ns;
};
