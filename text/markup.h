/* text/markup.h: HTML and XML, whole documents or fragments, around the text that is to be translated. A text with
 * markup is parsed into plain text, which is what is split into sentences and translated, and marks: its tags and what
 * else is kept as it is, each with its place in the plain text. markup_write.h puts the translation and the marks
 * together again.
 *
 * Nothing is repaired and nothing is added: a mark is a range of the source's own bytes. Tags that end a sentence
 * (<p>, <br>, <td>) stay where they are. Inline tags that open and close (<b> ... </b>) are a pair, which goes where
 * its words go; what stands alone (<img>, a comment, a tag whose partner is missing, an entity nobody knows) goes with
 * the word before or after it. Elements that are not for a translator (<pre>, <code>, <script>, translate="no", class
 * "notranslate", and those that the caller names) are one mark with all that they contain.
 *
 * The source is hostile: time is linear in its length, and the number of marks and the depth of the pairs are bounded.
 * Any thread: nothing is shared between calls. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

#define T5_MARKUP_TAGS_MAX 65536 /* of one text, with comments and unknown entities */
#define T5_MARKUP_NAMES_MAX 1024 /* different ones of them */
#define T5_MARKUP_DEPTH_MAX 100  /* pairs within pairs */

/* HTML knows its elements, forgives missing ends, and collapses white space. XML does none of it. */
typedef enum { T5_MARKUP_HTML, T5_MARKUP_XML } t5_markup_kind;

/* Names of elements; in HTML their case does not matter. */
typedef struct {
    const char *const *names;
    size_t n_names;
} t5_tag_names;

typedef struct {
    t5_markup_kind kind;
    t5_tag_names ignored;       /* kept as they are, with their content */
    t5_tag_names splitting;     /* end a sentence at both tags */
    t5_tag_names not_splitting; /* never do */
    /* XML: an element splits when it has no text beside it, and the elements around it neither. HTML ignores it. */
    bool finds_outline;
} t5_markup_options;

typedef enum {
    T5_MARK_OPEN,  /* of a pair */
    T5_MARK_CLOSE, /* of a pair */
    T5_MARK_SOLE,  /* alone, within or between words */
    T5_MARK_BREAK, /* ends what is before it: it is never moved */
} t5_mark_kind;

typedef struct {
    t5_mark_kind kind;
    bool is_visible;                        /* SOLE: a reader sees something there, so spaces around it matter */
    bool has_space_before, has_space_after; /* of a visible one */
    bool leans_right;                       /* SOLE: belongs to the word after it */
    bool is_text;                           /* SOLE: no tag but characters of the text, see t5_markup_keep() */
    int32_t pair;                           /* index of the partner of OPEN and CLOSE, else -1 */
    size_t offset, n_bytes;                 /* of the source */
    size_t at;                              /* it stands before this byte of the plain text */
} t5_mark;

typedef struct {
    const char *source; /* borrowed */
    size_t source_bytes;
    char *plain; /* [plain_bytes], entities decoded; \n stands where a sentence must end */
    size_t plain_bytes;
    uint32_t *begins, *ends; /* [plain_bytes] the part of the source that a byte of the plain text comes from */
    t5_mark *marks;          /* [n_marks] in the order of the source */
    int32_t n_marks;
} t5_markup;

/* `source` is valid UTF-8 and must outlive *out. T5_ERR_ARG: too many tags, too deep, 4 GiB or more. Release with
 * t5_markup_deinit(). */
t5_status t5_markup_parse(const char *source, size_t n_bytes, const t5_markup_options *options, t5_markup *out,
                          t5_error *err);
void t5_markup_deinit(t5_markup *m); /* accepts a zeroed one */

/* Whether the model can say a character; asked for each sign of a text. */
typedef struct {
    bool (*has)(const char *character, size_t n_bytes, void *ctx);
    void *ctx;
} t5_alphabet;

/* Makes marks of the signs that the model cannot say, as T5 cannot say "<" or an emoji: what it never saw cannot be
 * lost. A word with such a sign within, "AT&T", is one mark, and so is a placeholder that only a tag holds apart from a
 * word. Letters and other placeholders are left alone. T5_ERR_ARG: too many marks. */
t5_status t5_markup_keep(t5_markup *m, const t5_alphabet *alphabet, t5_error *err);

/* Index of the first mark at or behind a byte of the source. */
int32_t t5_markup_find(const t5_markup *m, size_t offset);

T5_C_END
