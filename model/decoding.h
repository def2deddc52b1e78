/* model/decoding.h: how to search for an output, as Hugging Face's generate() defines it. Plain data. */
#pragma once
#include "base/error.h"
#include "base/limits.h"
#include <stdint.h>

T5_C_BEGIN

typedef enum { T5_EARLY_FALSE, T5_EARLY_TRUE, T5_EARLY_NEVER } t5_early_stopping;

typedef struct {
    int32_t num_beams;
    int32_t num_return_sequences;
    int32_t max_new_tokens;
    int32_t min_new_tokens;
    double length_penalty;
    int32_t early_stopping; /* t5_early_stopping */
    double repetition_penalty;
    int32_t no_repeat_ngram_size;
    bool do_sample;
    double temperature;
    int32_t top_k;
    double top_p;
    uint64_t seed;
    int32_t n_suppress;
    int32_t suppress_tokens[T5_SUPPRESS_MAX];
} t5_decoding;

struct json_t;

/* The defaults of decoding.def. */
void t5_decoding_init(t5_decoding *d);
/* True when `name` is an option of decoding.def or suppress_tokens. */
bool t5_decoding_has(const char *name);
/* One bit for each option, to remember which were given; 0 when `name` is none. */
uint32_t t5_decoding_bit(const char *name);
/* Takes the options whose bits are among `bits` from `over`. */
void t5_decoding_overlay(t5_decoding *d, const t5_decoding *over, uint32_t bits);
/* Sets one option from a JSON value. T5_ERR_ARG names the option, what was given and what is allowed. */
t5_status t5_decoding_set_json(t5_decoding *d, const char *name, const struct json_t *value, t5_error *err);
/* The same for option `name` of a client that calls it `field`, as errors then do. */
t5_status t5_decoding_set_field(t5_decoding *d, const char *name, const char *field, const struct json_t *value,
                                t5_error *err);
/* Sets one option from text (a flag or an environment variable): `name` may use dashes for underscores. */
t5_status t5_decoding_set_text(t5_decoding *d, const char *name, const char *value, t5_error *err);
/* Sets every key of `object` that is an option; other keys are left to the caller. A null value keeps the default. */
t5_status t5_decoding_set_object(t5_decoding *d, const struct json_t *object, t5_error *err);
/* The same for what Hugging Face wrote: max_length and min_length are known too (they count the start token), lengths
 * beyond our limits are lowered, and temperature, top_k and top_p out of range are left out unless do_sample is true.
 * T5_ERR_ARG also for what we do not have and would change the result: forced_bos_token_id, num_beam_groups 2, several
 * ends of sequence. Nothing is set on an error. */
t5_status t5_decoding_set_folder(t5_decoding *d, const struct json_t *object, t5_error *err);
/* Overlays dir/generation_config.json, by t5_decoding_set_folder(). In folders older than that file config.json has the
 * options, so it is read when there is no other, as generate() does. */
t5_status t5_decoding_load(const char *dir, t5_decoding *d, t5_error *err);
/* Checks what spans several options: num_return_sequences <= num_beams unless sampling, sampling with one beam, a
 * vocabulary with two tokens for each beam, ... */
t5_status t5_decoding_check(const t5_decoding *d, int32_t vocab_size, t5_error *err);
/* Checks that n_new tokens, a number that the client calls `field`, fit behind a prompt of n_prompt tokens into targets
 * of tgt_len_max tokens, the start token included. */
t5_status t5_decoding_check_room(const char *field, int32_t n_new, int32_t n_prompt, int32_t tgt_len_max,
                                 t5_error *err);
/* One line per option for --help: "  --num-beams N   beams; 1 is greedy search (default 1)". */
void t5_decoding_print_help(void *file); /* a FILE * */

T5_C_END
