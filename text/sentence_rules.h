/* text/sentence_rules.h: what ICU does not know about sentence ends: abbreviations, initials, ordinals, brackets. Any
 * thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* A candidate for a sentence end inside one line. */
typedef struct {
    const char *line;
    size_t n_bytes;       /* of the line */
    size_t start;         /* where the current sentence starts */
    size_t end;           /* where ICU would end it: after the mark and the white space */
    const char *language; /* public code, or NULL */
} t5_break;

/* False when the sentence goes on after `end`. */
bool t5_break_is_real(const t5_break *b);

/* True when the text has a letter of any script; other texts are not for a translator. */
bool t5_has_letter(const char *text, size_t n_bytes);
/* True for one word which is an address: "https://example.org/a?b", "someone@example.org". */
bool t5_is_address(const char *text, size_t n_bytes);
/* Bytes at the start, and at the end, that stay out of the translation although they stand in a sentence: white space,
 * bullets and quote marks of mails ("- ", "> ") at the start of a line, pictographs. */
size_t t5_leading_marks(const char *text, size_t n_bytes, bool is_line_start);
size_t t5_trailing_marks(const char *text, size_t n_bytes);

T5_C_END
