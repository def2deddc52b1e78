/* translate/languages.h: the languages of a model, or of several models together, as detection, clients and error texts
 * need them. Immutable after init; any thread. */
#pragma once
#include "translate/profile.h"

/* Public codes, borrowed from the profiles; each list has "en" first and then rises. */
typedef struct {
    const char **codes;   /* [n_codes] all of them */
    const char **sources; /* [n_sources] those that something can be translated from */
    const char **targets; /* [n_targets] and into */
    int32_t n_codes, n_sources, n_targets;
    /* There is a way from one code to another one; set by the owner after init. */
    bool (*leads)(const void *ctx, const char *source, const char *target);
    const void *ctx;
} t5_languages;

/* The profiles must outlive it. Release with t5_languages_deinit(), also after an error. */
t5_status t5_languages_init(const t5_profile *const *profiles, int32_t n_profiles, t5_languages *out, t5_error *err);
void t5_languages_deinit(t5_languages *l); /* accepts a zeroed one */
bool t5_languages_has(const t5_languages *l, const char *code);
bool t5_languages_has_source(const t5_languages *l, const char *code);
bool t5_languages_has_target(const t5_languages *l, const char *code);
