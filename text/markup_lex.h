/* text/markup_lex.h: cuts a source with markup into lexemes: tags, comments and the like, and the text between them.
 * Not for other folders. Any thread. */
#pragma once
#include "text/markup.h"

T5_C_BEGIN

typedef enum {
    T5_LEX_TEXT,
    T5_LEX_OPEN,
    T5_LEX_CLOSE,
    T5_LEX_EMPTY, /* <x/>, and <br> in HTML */
    T5_LEX_OTHER, /* comment, doctype, processing instruction, CDATA, and a tag that never ends, up to the end */
} t5_lexeme_kind;

typedef struct {
    t5_lexeme_kind kind;
    bool is_block;     /* tags: the element is for HTML's blocks, or for XML's outline */
    bool is_opaque;    /* tags: what the element contains is no text for a translator */
    bool is_ignored;   /* tags: opaque because the caller says so */
    bool is_invisible; /* tags: nobody sees the element */
    bool has_text;     /* TEXT: more than white space; a CDATA section */
    uint32_t offset, n_bytes;
    uint32_t name_offset, name_bytes; /* tags: of the source */
    int32_t name;                     /* tags: the same number for the same name */
    /* OPEN: its CLOSE, or, when it has none, what stands behind the end of its content. CLOSE: its OPEN. Else -1. */
    int32_t end;
    bool is_paired;
} t5_lexeme;

typedef struct {
    t5_lexeme *items;
    int32_t n_items, capacity, n_tags, n_names;
} t5_lexemes;

/* Lexemes in order, without gaps; all but names, ends and the caller's options are set. Release with
 * t5_lexemes_deinit(), also after an error. */
t5_status t5_lexemes_read(const char *source, size_t n_bytes, t5_markup_kind kind, t5_lexemes *out, t5_error *err);
/* Numbers the names, finds the partner of each tag, applies the options. */
t5_status t5_lexemes_match(const char *source, const t5_markup_options *options, t5_lexemes *lexemes, t5_error *err);
void t5_lexemes_deinit(t5_lexemes *lexemes); /* accepts a zeroed one */

T5_C_END
