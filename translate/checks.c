/* translate/checks.c: see checks.h. */
#include "translate/checks.h"

#include "base/utf8.h"

#include <string.h>

#define PERIOD_MAX 32      /* tokens */
#define REPEATS 3          /* of a stretch after itself */
#define LOOP_TOKENS_MIN 10 /* "no, no, no, no" is fine */
#define WIDTH_RATIO_MAX 3  /* Chinese to English, character by character, is about 3 to 4: hence WIDE_WIDTH */
#define WIDTH_EXTRA 40     /* short texts vary most */
#define WIDE_WIDTH 3       /* of an ideograph, a syllable of Hangul, a kana */
#define WIDE_FROM 0x1100   /* the first Hangul */
#define ECHO_WORDS_MIN 3   /* "New York" */
#define ECHO_WIDE_CHARS 6  /* where words have no spaces */

bool t5_check_repeats(const int32_t *ids, int32_t n_ids)
{
    for (int32_t period = 1; period <= PERIOD_MAX && period < n_ids; period++) {
        int32_t n_same = 0;
        for (int32_t i = period; i < n_ids; i++) {
            n_same = ids[i] == ids[i - period] ? n_same + 1 : 0;
            if (n_same >= REPEATS * period && n_same + period >= LOOP_TOKENS_MIN) return true;
        }
    }
    return false;
}

static size_t width_of(const char *text, size_t n_bytes)
{
    size_t width = 0;
    for (size_t pos = 0; pos < n_bytes;) {
        uint32_t code;
        pos += t5_utf8_next(text + pos, n_bytes - pos, &code);
        width += code >= WIDE_FROM ? WIDE_WIDTH : 1;
    }
    return width;
}

bool t5_check_is_too_long(const char *source, size_t source_bytes, const char *text, size_t n_bytes)
{
    return width_of(text, n_bytes) > WIDTH_RATIO_MAX * width_of(source, source_bytes) + WIDTH_EXTRA;
}

static bool has_replacement(const char *text, size_t n_bytes)
{
    uint32_t code;
    for (size_t pos = 0; pos < n_bytes;) {
        pos += t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (code == T5_UTF8_REPLACEMENT) return true;
    }
    return false;
}

bool t5_check_is_broken(const char *source, size_t source_bytes, const char *text, size_t n_bytes)
{
    return has_replacement(text, n_bytes) && !has_replacement(source, source_bytes);
}

/* The next run of bytes between ASCII white space at or after *pos, which moves behind it. 0: none is left. */
static size_t next_word(const char *text, size_t n_bytes, size_t *pos, const char **out)
{
    while (*pos < n_bytes && (unsigned char)text[*pos] <= ' ')
        (*pos)++;
    const size_t start = *pos;
    while (*pos < n_bytes && (unsigned char)text[*pos] > ' ')
        (*pos)++;
    *out = text + start;
    return *pos - start;
}

static bool has_words(const char *text, size_t n_bytes)
{
    size_t n_words = 0, pos = 0;
    const char *word;
    while (n_words < ECHO_WORDS_MIN && next_word(text, n_bytes, &pos, &word) > 0)
        n_words++;
    const size_t n_narrow = t5_utf8_count(text, n_bytes), n_wide = (width_of(text, n_bytes) - n_narrow) / 2;
    return n_words >= ECHO_WORDS_MIN || n_wide >= ECHO_WIDE_CHARS;
}

bool t5_check_is_echo(const char *source, size_t source_bytes, const char *text, size_t n_bytes)
{
    return source_bytes == n_bytes && memcmp(source, text, n_bytes) == 0 && has_words(source, source_bytes);
}

static bool has_word(const char *text, size_t n_bytes, const char *wanted, size_t wanted_bytes)
{
    size_t pos = 0, length;
    const char *word;
    while ((length = next_word(text, n_bytes, &pos, &word)) > 0)
        if (length == wanted_bytes && memcmp(word, wanted, length) == 0) return true;
    return false;
}

double t5_check_likeness(const char *source, size_t source_bytes, const char *text, size_t n_bytes)
{
    size_t n_words = 0, n_same = 0, pos = 0, length;
    const char *word;
    while ((length = next_word(text, n_bytes, &pos, &word)) > 0) {
        n_words++;
        n_same += has_word(source, source_bytes, word, length);
    }
    return n_words > 0 ? (double)n_same / (double)n_words : 0;
}
