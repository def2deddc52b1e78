/* text/detect_words.c: see detect_words.h. */
#include "text/detect_words.h"
#include "base/utf8.h"

#include <string.h>
#include <unicode/uchar.h>

static const struct {
    const char *code, *letters, *words;
} lists[] = {
#define T5_WORDS(code, letters, words) {code, letters, words},
#include "text/detect_words.def"
#undef T5_WORDS
};

static bool is_word_character(uint32_t code)
{
    const int8_t type = u_charType((UChar32)code);
    return u_isalpha((UChar32)code) || type == U_NON_SPACING_MARK || type == U_COMBINING_SPACING_MARK;
}

/* A sign that says as much as a word: hardly any language but Spanish opens questions and cries with one. */
static bool is_telling_mark(uint32_t code)
{
    return code == 0xbf || code == 0xa1;
}

static bool is_apostrophe(uint32_t code)
{
    return code == '\'' || code == 0x2019;
}

/* Appends the lower-case word text[start..end) unless it is too long or the list is full. */
static void add_word(t5_words *out, const char *text, size_t start, size_t end)
{
    if (start == end || out->n_words == T5_WORDS_MAX) return;
    char *word = out->words[out->n_words];
    size_t n = 0;

    word[n++] = ' ';
    while (start < end && n + 6 <= T5_WORD_BYTES) {
        uint32_t code;
        start += t5_utf8_next(text + start, end - start, &code);
        n += t5_utf8_put(is_apostrophe(code) ? '\'' : (uint32_t)u_tolower((UChar32)code), word + n);
    }
    word[n++] = ' ';
    word[n] = '\0';
    if (start == end) out->n_words++;
}

void t5_words_read(const char *text, size_t n_bytes, t5_words *out)
{
    size_t start = 0, length;

    out->n_words = 0;
    for (size_t pos = 0; pos < n_bytes; pos += length) {
        uint32_t code;
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (is_word_character(code)) continue;
        add_word(out, text, start, pos > start && is_apostrophe(code) ? pos + length : pos); /* "l'" and "avion" */
        start = pos + length;
        if (is_telling_mark(code)) add_word(out, text, pos, start);
    }
    add_word(out, text, start, n_bytes);
}

static bool has_letter_of(const char *letters, const char *word)
{
    size_t length;
    for (; *letters != '\0'; letters += length) {
        uint32_t code;
        length = t5_utf8_next(letters, strlen(letters), &code);
        if (memmem(word, strlen(word), letters, length) != NULL) return true;
    }
    return false;
}

bool t5_words_knows(const char *code)
{
    for (size_t i = 0; i < T5_COUNT(lists); i++)
        if (strcmp(lists[i].code, code) == 0) return true;
    return false;
}

double t5_words_share(const t5_words *words, const char *code)
{
    double found = 0;

    if (words->n_words == 0) return 0;
    for (size_t i = 0; i < T5_COUNT(lists); i++) {
        if (strcmp(lists[i].code, code) != 0) continue;
        for (size_t k = 0; k < words->n_words; k++) {
            if (strstr(lists[i].words, words->words[k]) != NULL)
                found += 1;
            else if (has_letter_of(lists[i].letters, words->words[k]))
                found += 0.5;
        }
    }
    return found / (double)words->n_words;
}
