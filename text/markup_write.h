/* text/markup_write.h: a text with markup again, with its sentences translated: what stands between them is the
 * source's, byte for byte; within them the marks are placed by what the words translate (markup_place.h). What the
 * translation says is escaped. One thread at a time. */
#pragma once
#include "base/buffer.h"
#include "text/markup.h"
#include "text/words.h"

T5_C_BEGIN

typedef struct {
    const t5_markup *markup; /* borrowed */
    t5_buffer *out;          /* borrowed: what is written is appended */
    size_t n_read;           /* bytes of the source that are written */
} t5_markup_writer;

typedef struct {
    size_t begin, end;  /* bytes of the plain text, not empty, behind those of the sentence before */
    size_t next;        /* where the next sentence begins; the length of the plain text when none follows */
    bool needs_space;   /* between the sentence before, which it touches, and this one */
    const char *target; /* valid UTF-8 without white space at its ends */
    size_t target_bytes;
    const t5_text_link *links; /* offsets are within the sentence and within `target`; see t5_words_align() */
    size_t n_links;
} t5_marked_sentence;

/* True when there are tags among the words of plain[begin .. end), so that links are of use. */
bool t5_markup_has_marks(const t5_markup *m, size_t begin, size_t end);

/* What stands before the sentence, then its translation. T5_ERR_NOMEM. */
t5_status t5_markup_write_sentence(t5_markup_writer *w, const t5_marked_sentence *s, t5_error *err);
/* What stands behind the last sentence. */
t5_status t5_markup_write_rest(t5_markup_writer *w, t5_error *err);

T5_C_END
