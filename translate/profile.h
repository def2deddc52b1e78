/* translate/profile.h: how a model folder wants to be used for translation: language pairs, prompt template, defaults.
 * Read from, in this order: t5serve.json; task_specific_params of config.json ("translation_en_to_de": prefix and
 * options); MADLAD's <2xx> pieces found in the vocabulary. A folder with none of these is generate-only: n_pairs 0 and
 * not is_any_source. Immutable after open. Codes are public ones (en, pt-BR, zh-Hans), see text/langcodes.h. */
#pragma once
#include "model/decoding.h"
#include "tokenizer/tokenizer.h"

T5_C_BEGIN

typedef struct {
    char source[16], target[16]; /* public codes; source "" when the model takes any source (MADLAD) */
    char prompt[160];            /* what stands before the text: "translate English to German: ", "<2de> " */
} t5_pair;

typedef struct {
    char name[128]; /* of t5serve.json, else the folder's name */
    t5_pair *pairs;
    int32_t n_pairs;
    t5_decoding defaults; /* decoding.def, then generation_config.json, then the profile's defaults */
} t5_profile;

/* vocab_size is the model's. T5_ERR_FORMAT also for defaults with which every request would fail. */
t5_status t5_profile_load(const char *dir, const t5_tokenizer *tokenizer, int32_t vocab_size, t5_profile *out,
                          t5_error *err);
/* Leaves only the pairs whose languages are in the list "en,de,pt_BR"; a source that may be any stays. */
void t5_profile_keep(t5_profile *p, const char *languages);
void t5_profile_deinit(t5_profile *p); /* accepts a zeroed one */
/* The pair for two public codes, or NULL. */
const t5_pair *t5_profile_find(const t5_profile *p, const char *source, const char *target);
bool t5_profile_has_source(const t5_profile *p, const char *code);
bool t5_profile_has_target(const t5_profile *p, const char *code);
/* The order of lists of codes: strcmp's, but "en" is the least. */
int t5_profile_compare_codes(const char *a, const char *b);
/* Distinct languages in that order: fills `codes` with up to `max` pointers into the profile. */
int32_t t5_profile_languages(const t5_profile *p, const char **codes, int32_t max);
/* The same, added to a list that has `n_codes` of them already. Returns their number. */
int32_t t5_profile_add_languages(const t5_profile *p, const char **codes, int32_t n_codes, int32_t max);
/* A profile of its own, with the same content. */
t5_status t5_profile_copy(const t5_profile *p, t5_profile *out, t5_error *err);

T5_C_END
