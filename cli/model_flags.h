/* cli/model_flags.h: the flags that every subcommand with a model has, and opening what they say. One thread. */
#pragma once
#include "cli/flags.h"
#include "translate/translator.h"

#define T5_MODEL_FLAGS 8

typedef struct {
    const char *dir; /* NULL: the bundled model */
    const char *device, *compute_type;
    int32_t n_threads;
    int32_t n_rows_max, src_len_max; /* 0, here and below: the translator's defaults */
    int32_t max_target_tokens;       /* the start token does not count */
    bool is_verbose;
    bool uses_shortlists; /* a command that knows the target language has a flag for it */
    char bundled_dir[1024];
    t5_flag table[T5_MODEL_FLAGS]; /* points into this struct, which must stay where it is */
} t5_model_flags;

/* Sets the defaults and fills `table`; its first row, --model, is all that a command without a model in memory needs.
 */
void t5_model_flags_init(t5_model_flags *m);
/* The folder to use. T5_ERR_IO when none was given and the bundled one is not there. */
t5_status t5_model_flags_dir(t5_model_flags *m, const char **out, t5_error *err);
/* T5_ERR_ARG when the device's name means nothing. */
t5_status t5_model_flags_check(const t5_model_flags *m, t5_error *err);
/* Opens the folder; n_rows_max then says what is used. Close with t5_translator_close(). */
t5_status t5_model_flags_open(t5_model_flags *m, t5_translator **out, t5_error *err);
/* Applies the decoding options that were given to `d`, the folder's defaults, and checks the whole. Who asks for
 * sampling without saying num_beams gets the one beam that it needs. */
t5_status t5_decoding_flags_apply(const t5_decoding_flags *flags, int32_t vocab_size, t5_decoding *d, t5_error *err);
/* For tokenize and inspect, which need no weights: sizes and tokenizer of `dir`. Close the tokenizer. */
t5_status t5_open_tokenizer(const char *dir, t5_hparams *out_hp, t5_tokenizer **out, t5_error *err);
