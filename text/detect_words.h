/* text/detect_words.h: how much of a text are words and letters of a language. Not for other folders. Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

#define T5_WORDS_MAX 48
#define T5_WORD_BYTES 32

/* The first words of a text, in lower case, each between spaces: " the ". */
typedef struct {
    char words[T5_WORDS_MAX][T5_WORD_BYTES];
    size_t n_words;
} t5_words;

void t5_words_read(const char *text, size_t n_bytes, t5_words *out);
/* False for a language without a list. */
bool t5_words_knows(const char *code);
/* 0 to 1: the share of the words that are frequent in the language; one with its letters counts half. */
double t5_words_share(const t5_words *words, const char *code);

T5_C_END
