/* tokenizer/added.h: tokens that a folder adds to its SentencePiece model, such as "<hl>" or ">>deu<<": rows of the
 * embedding that fine-tuning made. Hugging Face cuts them out of a text before SentencePiece sees it; as with its
 * `legacy`, which is what it does when a folder says nothing, the text behind one begins a word. They stand in
 * tokenizer_config.json (added_tokens_decoder), in older folders in added_tokens.json, or in tokenizer.json alone.
 * Immutable after the load: any thread. */
#pragma once
#include "tokenizer/spm_wrapper.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

#define T5_ADDED_MAX 65536     /* of one folder */
#define T5_ADDED_BYTES_MAX 256 /* of one token's text */

typedef struct {
    int32_t id;
    uint32_t n_bytes;
    bool is_special;                /* left out of a decoded text */
    bool strips_left, strips_right; /* takes the white space beside it */
    char text[T5_ADDED_BYTES_MAX + 1];
} t5_added_token;

typedef struct {
    t5_added_token *items; /* [n_items] by text */
    int32_t n_items;
    bool has_length[T5_ADDED_BYTES_MAX + 1]; /* texts of so many bytes are there */
    bool has_first[256];                     /* texts that begin with this byte are there */
} t5_added_tokens;

/* What the tokens are added to. */
typedef struct {
    const t5_spm *spm;
    int32_t id_min, id_max; /* of the tokens that count: id_max is the number of the embedding's rows */
    int32_t pad_id, eos_id;
} t5_added_base;

/* Those of ids id_min to id_max - 1. One below spm's number of pieces counts when it is the piece of that id, one above
 * when it is no piece. What must not come from a text is left out: names of special tokens ("</s>", "<extra_id_7>"),
 * pad, eos, unk and bytes. T5_ERR_FORMAT names the file. Release with t5_added_deinit(). */
t5_status t5_added_load(const char *dir, const t5_added_base *base, t5_added_tokens *out, t5_error *err);
void t5_added_deinit(t5_added_tokens *a); /* accepts a zeroed one */

/* A part of a text, and the token behind it; NULL at the end of the text. */
typedef struct {
    size_t begin, end;
    const t5_added_token *token;
    size_t next; /* begin of the next part */
} t5_added_part;

/* The part that begins at `pos`. The longest of several tokens that begin at the same byte counts. */
void t5_added_next(const t5_added_tokens *a, const char *text, size_t n_bytes, size_t pos, t5_added_part *out);

#define T5_ADDED_GAP "<no_piece_" /* begins the names of ids between them */

/* A malloc'ed copy of a SentencePiece model of n_pieces pieces with those from that id on as further ones: of control
 * pieces, which no text has, those that are special and the ids between them. The caller frees it; *out_n is the number
 * of pieces. */
t5_status t5_added_append(const t5_added_tokens *a, const void *model, size_t n_bytes, int32_t n_pieces, void **out,
                          size_t *out_bytes, int32_t *out_n, t5_error *err);

T5_C_END
