/* translate/languages.c: see languages.h. */
#include "translate/languages.h"

#include "base/assert.h"

#include <stdlib.h>

static bool is_source(const t5_profile *const *profiles, int32_t n_profiles, const char *code)
{
    for (int32_t i = 0; i < n_profiles; i++)
        if (t5_profile_has_source(profiles[i], code)) return true;
    return false;
}

static bool is_target(const t5_profile *const *profiles, int32_t n_profiles, const char *code)
{
    for (int32_t i = 0; i < n_profiles; i++)
        if (t5_profile_has_target(profiles[i], code)) return true;
    return false;
}

t5_status t5_languages_init(const t5_profile *const *profiles, int32_t n_profiles, t5_languages *out, t5_error *err)
{
    int32_t n_max = 0;
    *out = (t5_languages){0};
    for (int32_t i = 0; i < n_profiles; i++)
        n_max += 2 * profiles[i]->n_pairs;
    const size_t n_bytes = ((size_t)n_max + 1) * sizeof *out->codes;
    out->codes = malloc(n_bytes);
    out->sources = malloc(n_bytes);
    out->targets = malloc(n_bytes);
    if (out->codes == NULL || out->sources == NULL || out->targets == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "%d languages", n_max);
    for (int32_t i = 0; i < n_profiles; i++)
        out->n_codes = t5_profile_add_languages(profiles[i], out->codes, out->n_codes, n_max);
    T5_ASSERT(out->n_codes <= n_max);
    for (int32_t i = 0; i < out->n_codes; i++) {
        const char *code = out->codes[i];
        if (is_source(profiles, n_profiles, code)) out->sources[out->n_sources++] = code;
        if (is_target(profiles, n_profiles, code)) out->targets[out->n_targets++] = code;
    }
    return T5_OK;
}

void t5_languages_deinit(t5_languages *l)
{
    free(l->codes);
    free(l->sources);
    free(l->targets);
    *l = (t5_languages){0};
}

static bool has(const char *const *codes, int32_t n_codes, const char *code)
{
    int32_t first = 0, last = n_codes - 1;
    while (first <= last) {
        const int32_t middle = first + (last - first) / 2;
        const int order = t5_profile_compare_codes(code, codes[middle]);
        if (order == 0) return true;
        if (order < 0) last = middle - 1;
        if (order > 0) first = middle + 1;
    }
    return false;
}

bool t5_languages_has(const t5_languages *l, const char *code)
{
    return has(l->codes, l->n_codes, code);
}

bool t5_languages_has_source(const t5_languages *l, const char *code)
{
    return has(l->sources, l->n_sources, code);
}

bool t5_languages_has_target(const t5_languages *l, const char *code)
{
    return has(l->targets, l->n_targets, code);
}
