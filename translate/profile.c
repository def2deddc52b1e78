/* translate/profile.c: see profile.h. The readers of the three sources are in profile_own.c, profile_tasks.c and
 * profile_tags.c. */
#include "translate/profile.h"
#include "base/file.h"
#include "text/langcodes.h"
#include "translate/profile_pairs.h"
#include "json/json_file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool is_same_pair(const t5_pair *pair, const char *source, const char *target)
{
    return strcmp(pair->source, source) == 0 && strcmp(pair->target, target) == 0;
}

t5_status t5_profile_add_pair(t5_profile *p, const char *source, const char *target, const char *prompt,
                              const char *where, t5_error *err)
{
    t5_pair pair = {0};

    if (p->n_pairs >= T5_PAIRS_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: more than %d language pairs", where, T5_PAIRS_MAX);
    if (strlen(source) >= sizeof pair.source || strlen(target) >= sizeof pair.target)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: a language code is too long", where);
    if (strlen(prompt) >= sizeof pair.prompt)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the prompt has over %zu bytes", where, sizeof pair.prompt - 1);
    for (int32_t i = 0; i < p->n_pairs; i++)
        if (is_same_pair(&p->pairs[i], source, target))
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: the pair %s to %s appears twice", where,
                           *source == '\0' ? "*" : source, target);

    t5_pair *pairs = realloc(p->pairs, (size_t)(p->n_pairs + 1) * sizeof *pairs);
    if (pairs == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: out of memory", where);
    memcpy(pair.source, source, strlen(source));
    memcpy(pair.target, target, strlen(target));
    memcpy(pair.prompt, prompt, strlen(prompt));
    pairs[p->n_pairs++] = pair;
    p->pairs = pairs;
    return T5_OK;
}

/* The folder's name, also for "." and "models/x/". */
static void name_by_folder(const char *dir, t5_profile *p)
{
    char *full = realpath(dir, NULL);
    const char *path = full != NULL ? full : dir, *slash = strrchr(path, '/');
    const char *name = slash != NULL && slash[1] != '\0' ? slash + 1 : path;
    size_t n_bytes = strnlen(name, sizeof p->name - 1);

    memcpy(p->name, name, n_bytes);
    p->name[n_bytes] = '\0';
    free(full);
}

/* The files of a folder are checked one by one while they are read; this is what they say together. */
static t5_status check_defaults(const char *dir, const t5_decoding *defaults, int32_t vocab_size, t5_error *err)
{
    t5_decoding d = *defaults;
    t5_error problem = {0};
    d.max_new_tokens = T5_SEQ_LEN_MAX - 1; /* a translation's limit follows its source, not the folder */
    if (t5_decoding_check(&d, vocab_size, &problem) == T5_OK) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT,
                   "%s: the defaults of generation_config.json, config.json and t5serve.json cannot be used: %s", dir,
                   problem.text);
}

t5_status t5_profile_load(const char *dir, const t5_tokenizer *tokenizer, int32_t vocab_size, t5_profile *out,
                          t5_error *err)
{
    t5_status status = T5_OK;
    char path[PATH_MAX];
    bool is_found = false;
    t5_profile p = {0};

    name_by_folder(dir, &p);
    t5_decoding_init(&p.defaults);
    T5_TRY(t5_decoding_load(dir, &p.defaults, err));
    T5_TRY(t5_path_join(path, sizeof path, dir, "t5serve.json", err));
    T5_TRY(t5_profile_read_own(path, &p, &is_found, err));
    if (!is_found) {
        T5_TRY(t5_path_join(path, sizeof path, dir, "config.json", err));
        T5_TRY(t5_profile_read_tasks(path, &p, err));
        if (p.n_pairs == 0) T5_TRY(t5_profile_read_tags(tokenizer, &p, err));
    }
    T5_TRY(check_defaults(dir, &p.defaults, vocab_size, err));
    *out = p;
    p = (t5_profile){0}; /* handed to the caller */
out:
    t5_profile_deinit(&p);
    return status;
}

static bool is_listed(const char *languages, const char *code)
{
    char listed[T5_LANGCODE_BYTES];
    for (const char *rest = languages; (rest = t5_langcode_next(rest, listed)) != NULL;)
        if (strcmp(listed, code) == 0) return true;
    return false;
}

void t5_profile_keep(t5_profile *p, const char *languages)
{
    int32_t n_kept = 0;
    for (int32_t i = 0; i < p->n_pairs; i++) {
        const t5_pair *pair = &p->pairs[i];
        const bool has_source = *pair->source == '\0' || is_listed(languages, pair->source);
        if (has_source && is_listed(languages, pair->target)) p->pairs[n_kept++] = *pair;
    }
    p->n_pairs = n_kept;
}

void t5_profile_deinit(t5_profile *p)
{
    free(p->pairs);
    *p = (t5_profile){0};
}

const t5_pair *t5_profile_find(const t5_profile *p, const char *source, const char *target)
{
    for (int32_t i = 0; i < p->n_pairs; i++) {
        const t5_pair *pair = &p->pairs[i];
        bool is_source = *pair->source == '\0' || strcmp(pair->source, source) == 0;
        if (is_source && strcmp(pair->target, target) == 0) return pair;
    }
    return NULL;
}

bool t5_profile_has_source(const t5_profile *p, const char *code)
{
    for (int32_t i = 0; i < p->n_pairs; i++) {
        const char *source = p->pairs[i].source;
        if (*source == '\0' ? t5_langcode_name(code) != NULL : strcmp(source, code) == 0) return true;
    }
    return false;
}

bool t5_profile_has_target(const t5_profile *p, const char *code)
{
    for (int32_t i = 0; i < p->n_pairs; i++)
        if (strcmp(p->pairs[i].target, code) == 0) return true;
    return false;
}

int t5_profile_compare_codes(const char *a, const char *b)
{
    bool a_is_en = strcmp(a, "en") == 0, b_is_en = strcmp(b, "en") == 0;
    return a_is_en != b_is_en ? (int)b_is_en - (int)a_is_en : strcmp(a, b);
}

/* Inserts into a sorted list unless it is there, or full of lesser codes. */
static int32_t insert_code(const char **codes, int32_t n_codes, int32_t max, const char *code)
{
    int32_t pos = 0;
    while (pos < n_codes && t5_profile_compare_codes(codes[pos], code) < 0)
        pos++;
    bool is_known = pos < n_codes && strcmp(codes[pos], code) == 0;
    if (is_known || pos >= max) return n_codes;
    if (n_codes < max) n_codes++;
    memmove(&codes[pos + 1], &codes[pos], (size_t)(n_codes - 1 - pos) * sizeof *codes);
    codes[pos] = code;
    return n_codes;
}

int32_t t5_profile_add_languages(const t5_profile *p, const char **codes, int32_t n_codes, int32_t max)
{
    for (int32_t i = 0; i < p->n_pairs; i++) {
        const t5_pair *pair = &p->pairs[i];
        if (*pair->source != '\0') n_codes = insert_code(codes, n_codes, max, pair->source);
        n_codes = insert_code(codes, n_codes, max, pair->target);
    }
    return n_codes;
}

int32_t t5_profile_languages(const t5_profile *p, const char **codes, int32_t max)
{
    return t5_profile_add_languages(p, codes, 0, max);
}

t5_status t5_profile_copy(const t5_profile *p, t5_profile *out, t5_error *err)
{
    const size_t n_bytes = (size_t)p->n_pairs * sizeof *p->pairs;
    *out = *p;
    out->pairs = malloc(n_bytes + 1);
    if (out->pairs == NULL) {
        out->n_pairs = 0;
        return T5_FAIL(err, T5_ERR_NOMEM, "%d language pairs", p->n_pairs);
    }
    if (n_bytes > 0) memcpy(out->pairs, p->pairs, n_bytes);
    return T5_OK;
}
