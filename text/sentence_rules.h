/* text/sentence_rules.h: what ICU does not know about sentence ends: abbreviations, initials, ordinals, brackets,
 * placeholders. Any thread. */
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

/* True when ICU would end a sentence nowhere but at the end of the line, in any language: no mark that ends sentences
 * stands before others and closing marks at the end. Asking ICU costs more than all else that is done to a sentence. */
bool t5_break_is_at_end(const char *line, size_t n_bytes);
/* False when the sentence goes on after `end`. */
bool t5_break_is_real(const t5_break *b);
/* The next place before b->end and behind `from` where a sentence may end although ICU does not see it: after a dot and
 * white space, before a digit or a placeholder ("I said no. 3 people left."), and after marks that ICU does not count.
 * b->end: none. */
size_t t5_break_hidden(const t5_break *b, size_t from);

/* True when the text has a letter of any script outside its placeholders; other texts are not for a translator. */
bool t5_has_letter(const char *text, size_t n_bytes);
/* Bytes at the start, and at the end, that stay out of the translation although they stand in a sentence: white space,
 * bullets and quote marks of mails ("- ", "> ") at the start of a line, pictures, signs that
 * stand alone. */
size_t t5_leading_marks(const char *text, size_t n_bytes, bool is_line_start);
size_t t5_trailing_marks(const char *text, size_t n_bytes);
/* The same for a part of a sentence that stands behind, or before, a placeholder: its marks there belong to both. */
size_t t5_leading_joints(const char *text, size_t n_bytes);
size_t t5_trailing_joints(const char *text, size_t n_bytes);

T5_C_END
