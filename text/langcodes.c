/* text/langcodes.c: see langcodes.h. A request looks codes up a few times, so that of all languages is searched by
 * halving; the other tables are a few rows each. */
#include "text/langcodes.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct {
    const char *code, *name;
} language;

static const language languages[] = {
#define T5_LANG(code, name) {code, name},
#include "text/langcodes.def"
#undef T5_LANG
};

/* Other ways to write a code, in lower case with '-'. */
static const struct {
    const char *alias, *code;
} aliases[] = {
    {"zh", "zh-Hans"},    {"zh-cn", "zh-Hans"}, {"zh-sg", "zh-Hans"}, {"zh-my", "zh-Hans"},
    {"cmn", "zh-Hans"},   {"zt", "zh-Hant"},    {"zh-tw", "zh-Hant"}, {"zh-hk", "zh-Hant"},
    {"zh-mo", "zh-Hant"}, {"pb", "pt-BR"},      {"no", "nb"},         {"iw", "he"},
    {"in", "id"},         {"ji", "yi"},         {"jw", "jv"},         {"mo", "ro"},
};

/* Languages that are each other's second best. */
static const struct {
    const char *code, *other;
} substitutes[] = {{"fil", "tl"}, {"tl", "fil"}, {"pt", "pt-BR"}, {"pt-BR", "pt"}};

static const struct {
    const char *code, *internal;
} internals[] = {{"zh-Hans", "zh"}, {"zh-Hant", "zt"}, {"pt-BR", "pb"}};

static int compare_code(const void *code, const void *entry)
{
    return strcasecmp(code, ((const language *)entry)->code);
}

/* NULL: not in the table, which is sorted as strcasecmp() compares. */
static const language *find_language(const char *code)
{
    return bsearch(code, languages, T5_COUNT(languages), sizeof *languages, compare_code);
}

/* The public code of a whole lower-case code, or NULL. */
static const char *find_public(const char *lower)
{
    for (size_t i = 0; i < T5_COUNT(aliases); i++)
        if (strcmp(aliases[i].alias, lower) == 0) return aliases[i].code;
    const language *found = find_language(lower);
    return found != NULL ? found->code : NULL;
}

const char *t5_langcode_name(const char *code)
{
    const language *found = find_language(code);
    return found != NULL && strcmp(found->code, code) == 0 ? found->name : NULL;
}

/* Copies a code in lower case with '-' for '_'. */
static bool copy_lower(const char *code, char out[T5_LANGCODE_BYTES])
{
    size_t n = 0;
    for (; code[n] != '\0'; n++) {
        char c = code[n];
        bool is_upper = c >= 'A' && c <= 'Z', is_lower = c >= 'a' && c <= 'z', is_digit = c >= '0' && c <= '9';
        if (n + 1 >= T5_LANGCODE_BYTES || !(is_upper || is_lower || is_digit || c == '-' || c == '_')) return false;
        out[n] = is_upper ? (char)(c + ('a' - 'A')) : c == '_' ? '-' : c;
    }
    out[n] = '\0';
    return n > 0;
}

bool t5_langcode_normalize(const char *code, char out[T5_LANGCODE_BYTES])
{
    char part[T5_LANGCODE_BYTES];
    const char *found;

    if (!copy_lower(code, out)) {
        out[0] = '\0';
        return false;
    }
    memcpy(part, out, sizeof part);
    while ((found = find_public(part)) == NULL) {
        char *dash = strrchr(part, '-');
        if (dash == NULL) return true;
        *dash = '\0';
    }
    memcpy(out, found, strlen(found) + 1);
    return true;
}

const char *t5_langcode_next(const char *list, char out[T5_LANGCODE_BYTES])
{
    char code[T5_LANGCODE_BYTES];
    list += strspn(list, ", ");
    const size_t n = strcspn(list, ", ");
    if (n == 0) return NULL;
    memcpy(code, list, n < sizeof code ? n : 0);
    code[n < sizeof code ? n : 0] = '\0';
    t5_langcode_normalize(code, out);
    return list + n;
}

static const char *find_served(const char *code, const char *const *served, int32_t n_served)
{
    for (int32_t i = 0; i < n_served; i++)
        if (strcmp(served[i], code) == 0) return served[i];
    return NULL;
}

const char *t5_langcode_match(const char *code, const char *const *served, int32_t n_served)
{
    char public_code[T5_LANGCODE_BYTES];

    if (!t5_langcode_normalize(code, public_code)) return NULL;
    const char *found = find_served(public_code, served, n_served);
    for (size_t i = 0; i < T5_COUNT(substitutes) && found == NULL; i++)
        if (strcmp(substitutes[i].code, public_code) == 0) found = find_served(substitutes[i].other, served, n_served);
    return found;
}

const char *t5_langcode_internal(const char *code)
{
    for (size_t i = 0; i < T5_COUNT(internals); i++)
        if (strcmp(internals[i].code, code) == 0) return internals[i].internal;
    return code;
}
