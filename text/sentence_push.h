/* text/sentence_push.h: how spans are appended to a t5_sentences. Not for other folders. */
#pragma once
#include "text/sentences.h"

T5_C_BEGIN

/* Appends a span unless it is empty. Neighbours that are not text become one span. */
t5_status t5_sentences_push(t5_sentences *s, size_t offset, size_t n_bytes, bool is_text, t5_error *err);
/* Appends a sentence with the marks and the white space around it as spans of their own. */
t5_status t5_sentences_push_trimmed(t5_sentences *s, const char *text, size_t offset, size_t n_bytes,
                                    bool is_line_start, t5_error *err);
/* What is text from span `first` on is part of a sentence that goes on. */
void t5_sentences_mark_parts(t5_sentences *s, size_t first);

T5_C_END
