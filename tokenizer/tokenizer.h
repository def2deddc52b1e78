/* tokenizer/tokenizer.h: text to token ids and back: SentencePiece for most T5 models, bytes for ByT5.
 * Immutable after open: any thread may call any function. Text is UTF-8 with a length; it may contain NUL. What a user
 * typed is text: "</s>" or "<extra_id_0>" in it never becomes a special token. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

typedef struct t5_tokenizer t5_tokenizer;

typedef struct {
    int32_t vocab_size; /* rows of the model's embedding */
    int32_t pad_id, eos_id;
} t5_tokenizer_options;

/* Opens what the folder names: spiece.model, else the vocab_file of tokenizer_config.json, else the only *.spm,
 * sentencepiece.bpe.model or *.model file, else tokenizer.json; ByT5 (tokenizer_class ByT5Tokenizer, or no file and a
 * vocabulary of 384 rows) needs no file. Tokens that the folder adds (added.h) are found in texts, beside the pieces. A
 * broken file is an error, never a crash. Close with t5_tokenizer_close(). */
t5_status t5_tokenizer_open(const char *dir, const t5_tokenizer_options *options, t5_tokenizer **out, t5_error *err);
void t5_tokenizer_close(t5_tokenizer *t); /* accepts NULL */

/* Ids of `text` with the final eos into `out`, at most `ids_max`. T5_ERR_ARG for invalid UTF-8 and for more than
 * ids_max tokens (says how many and the limit). An empty text gives eos alone. */
t5_status t5_tokenizer_encode(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t *out, int32_t ids_max,
                              int32_t *out_n, t5_error *err);
/* The same into a malloc'ed array of the exact size, which the caller frees; still at most `ids_max`. */
t5_status t5_tokenizer_encode_alloc(const t5_tokenizer *t, const char *text, size_t n_bytes, int32_t ids_max,
                                    int32_t **out, int32_t *out_n, t5_error *err);
/* Text of `ids` as a malloc'ed, NUL-terminated string of valid UTF-8, which the caller frees. As in Hugging Face's
 * tokenizers: broken bytes become U+FFFD, with byte tokens they are left out; so are special tokens, sentinels and ids
 * without a piece (skip_special_tokens). */
t5_status t5_tokenizer_decode(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, char **out_text,
                              size_t *out_bytes, t5_error *err);

/* Bytes begin to end - 1 of a text; none for a token that stands for no text. */
typedef struct {
    uint32_t begin, end;
} t5_token_span;

/* Which bytes of a text its tokens stand for: out[n_ids], n_ids as t5_tokenizer_encode() gives for it, eos included. A
 * character that becomes several byte tokens belongs to the first or to all of them. */
t5_status t5_tokenizer_encode_spans(const t5_tokenizer *t, const char *text, size_t n_bytes, t5_token_span *out,
                                    int32_t n_ids, t5_error *err);
/* Which bytes of what t5_tokenizer_decode() gives the tokens stand for: out[n_ids]. They may be beside it where it had
 * to be repaired, but never beyond n_bytes, its length. */
t5_status t5_tokenizer_decode_spans(const t5_tokenizer *t, const int32_t *ids, int32_t n_ids, size_t n_bytes,
                                    t5_token_span *out, t5_error *err);

/* What an id adds to the text of t5_tokenizer_decode(): nothing (special tokens, sentinels, no piece), a piece of text,
 * or one byte of a character, which *out_byte is then. */
typedef enum { T5_TOKEN_NOTHING, T5_TOKEN_TEXT, T5_TOKEN_BYTE } t5_token_kind;
t5_token_kind t5_tokenizer_token(const t5_tokenizer *t, int32_t id, uint8_t *out_byte);
bool t5_tokenizer_is_bytes(const t5_tokenizer *t); /* every token is a byte */

/* The piece of an id for display: a static or internal text ("▁the", "<0x41>", "<extra_id_0>"), or NULL when there is
 * none. */
const char *t5_tokenizer_piece(const t5_tokenizer *t, int32_t id);
/* The id of a piece, or -1: MADLAD's "<2de>". */
int32_t t5_tokenizer_find(const t5_tokenizer *t, const char *piece);
/* First id from which on no row of the embedding has a piece (sentinels count as pieces): t5_slot.vocab_live. */
int32_t t5_tokenizer_vocab_live(const t5_tokenizer *t);
const char *t5_tokenizer_kind(const t5_tokenizer *t); /* "sentencepiece", "bytes" */

T5_C_END
