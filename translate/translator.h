/* translate/translator.h: text in, text out. Opens a model folder (tokenizer, profile, weights, engine) and runs
 * requests of several texts through it: split into sentences, prompt, tokenize, submit, wait, detokenize, join as the
 * text was.
 *
 *   t5_translation_start -> (device thread finishes the last sentence: on_done) -> t5_translation_finish -> read ->
 * destroy
 *
 * or, to read along, with on_progress: -> (on_progress: t5_translation_read until it gives nothing) -> (on_done) -> the
 * same once more -> t5_translation_finish ... */
#pragma once
#include "device/device.h"
#include "engine/engine.h"
#include "text/markup.h"
#include "text/sentences.h"
#include "translate/profile.h"

typedef struct t5_translator t5_translator;

typedef struct {
    const char *model_dir;
    const char *languages; /* the only ones: t5_profile_keep(); NULL or "": all */
    t5_device_options device;
    t5_engine_options engine;    /* 0 in a field: the default for the device */
    int64_t kv_bytes;            /* of the KV cache of a device, instead of engine.kv_tokens; 0: that decides */
    int32_t sentences_max;       /* different sentences of one request; 0: T5_SENTENCES_MAX */
    int32_t sentence_tokens_max; /* longer sentences are cut at clause marks; 0: T5_SENTENCE_TOKENS_MAX */
    bool uses_shortlists;        /* choose among the pieces of the target's shortlist.h file, where there is one */
} t5_translator_options;

#define T5_SENTENCES_MAX 8192 /* half of the queue: others wait beside it */
/* T5 was trained on 512 tokens; well below that it still translates everything it is given. */
#define T5_SENTENCE_TOKENS_MAX 256

/* Defaults for everything but model_dir. */
void t5_translator_options_init(t5_translator_options *o);
t5_status t5_translator_open(const t5_translator_options *options, t5_translator **out, t5_error *err);
/* What a folder says of itself, without its weights: as t5_translator_profile() and t5_translator_generation_defaults()
 * of an open one. Release the profile with t5_profile_deinit(). */
t5_status t5_translator_describe(const t5_translator_options *options, t5_profile *out_profile,
                                 t5_decoding *out_defaults, t5_error *err);
void t5_translator_close(t5_translator *t); /* accepts NULL; every translation must be finished */

const t5_profile *t5_translator_profile(const t5_translator *t);
/* For text to text without a profile: decoding.def, then the folder's generation_config.json. */
const t5_decoding *t5_translator_generation_defaults(const t5_translator *t);
const t5_tokenizer *t5_translator_tokenizer(const t5_translator *t);
const t5_hparams *t5_translator_hparams(const t5_translator *t);
t5_engine *t5_translator_engine(t5_translator *t);
#define T5_DEVICE_TEXT_BYTES 512                          /* every device; when they are many the text is cut */
const char *t5_translator_device(const t5_translator *t); /* for people */
/* Of requests outside the engine: times, one value per request, and second rounds. Any thread. */
typedef struct {
    t5_histogram_counts tokenize_ns;   /* languages, sentences, tokens */
    t5_histogram_counts detokenize_ns; /* tokens to text, sentences joined */
    /* Sentences that were translated a second time: around their placeholders, and whole. */
    int64_t n_in_parts, n_searched_again;
} t5_translator_stats;
void t5_translator_stats_get(const t5_translator *t, t5_translator_stats *out);
int32_t
t5_translator_n_rows_max(const t5_translator *t); /* decoded together on all devices: sentences times num_beams */
int32_t t5_translator_src_len_max(const t5_translator *t);
int32_t t5_translator_tgt_len_max(const t5_translator *t);

/* One text of a request. */
typedef struct {
    const char *text; /* UTF-8, may contain NUL; borrowed until the translation is destroyed */
    size_t n_bytes;
    const char *source; /* public code, or "auto" */
    const char *target; /* public code; same as source: the text comes back as it is */
    /* NULL: plain text. Else it has tags, which the translation gets too; alternatives have to do without, so there are
     * none. Borrowed like the text. */
    const t5_markup_options *markup;
} t5_text;

typedef struct {
    const t5_text *texts;
    int32_t n_texts;
    t5_split split;          /* where sentences end */
    t5_decoding decoding;    /* start from t5_translator_profile()->defaults */
    bool has_max_new_tokens; /* the client chose max_new_tokens; else it grows with each source */
    bool is_pinned;          /* the client chose how to search: a translation that lost its way stands as it is */
    int32_t n_alternatives;  /* other translations wanted per text */
    int64_t deadline_ms;     /* see t5_sequence; 0: none */
    /* NULL: the translation is not read along. On the device thread, often, before on_done: there may be something for
     * t5_translation_read(). Must be short. */
    void (*on_progress)(void *ctx);
    void (*on_done)(void *ctx); /* on the device thread, or inside start when nothing needs the engine: must be short */
    void *ctx;
} t5_translation_request;

/* Most tokens of a sentence's translation when the client sets no limit. */
int32_t t5_new_tokens_max(int32_t n_source_tokens);

typedef struct t5_translation t5_translation;

/* Text that is certain and was not read before; whole characters. */
typedef struct {
    int32_t i_text;    /* whose */
    const char *bytes; /* not NUL-terminated; valid until the next call for this request */
    size_t n_bytes;    /* 0: nothing more for now */
} t5_piece;

/* Tokens of a request: its different sentences with prompt and end of sequence; all results of each. */
typedef struct {
    int64_t n_source_tokens, n_target_tokens;
} t5_usage;

/* Valid UTF-8, NUL-terminated, and maybe with NUL inside. */
typedef struct {
    char *text;
    size_t n_bytes;
} t5_alternative;

/* Result of one text; strings are malloc'ed by the translation and live until it is destroyed. */
typedef struct {
    const char *text;
    size_t n_bytes;
    const char *detected;         /* public code when source was "auto", else NULL */
    double confidence;            /* 0 to 100, with detected */
    t5_alternative *alternatives; /* unique, not empty, not equal to text; maybe fewer than asked */
    int32_t n_alternatives;
    bool is_truncated; /* a sentence hit max_new_tokens */
} t5_translated;

/* T5_ERR_ARG: unknown language ("xx is not supported"), missing pair, bad option, invalid UTF-8; T5_ERR_BUSY: queue
 * full. Any thread. On T5_OK on_done is called once, maybe before this returns. */
t5_status t5_translation_start(t5_translator *t, const t5_translation_request *request, t5_translation **out,
                               t5_error *err);
/* What is certain by now of one of the texts, each in its order; all pieces of a text are its t5_translated.text. After
 * on_done everything is certain, unless a sentence has failed. One thread at a time, not the device thread. */
t5_status t5_translation_read(t5_translation *tr, t5_piece *out, t5_error *err);
/* After on_done: detokenizes and joins. The first failed sentence is the translation's error. Not on the device thread.
 */
t5_status t5_translation_finish(t5_translation *tr, t5_error *err);
const t5_translated *t5_translation_get(const t5_translation *tr, int32_t i_text);
void t5_translation_usage(const t5_translation *tr, t5_usage *out); /* after finish */
/* The client left: its sequences are given up before the next step; on_done is still called. Any thread. */
void t5_translation_cancel(t5_translation *tr);
void t5_translation_destroy(t5_translation *tr); /* accepts NULL; on_done must have been called */
