/* tokenizer/spm_wrapper.h: SentencePiece behind C functions; no exception crosses them. The model must have passed
 * t5_spm_check(). Immutable after open: any thread may call any function. */
#pragma once
#include "tokenizer/spm_check.h"
#include "tokenizer/tokenizer.h"

T5_C_BEGIN

typedef struct t5_spm t5_spm;

t5_status t5_spm_open(const void *model, size_t n_bytes, const char *path, t5_spm **out, t5_error *err);
void t5_spm_close(t5_spm *spm); /* accepts NULL */

/* Ids of a valid UTF-8 text in a malloc'ed array with `n_spare` free places at its end; the caller frees it. */
t5_status t5_spm_encode(const t5_spm *spm, const char *text, size_t n_bytes, size_t n_spare, int32_t **out,
                        size_t *out_n, t5_error *err);
/* Text of ids, each of them below t5_spm_n_pieces(), as a malloc'ed string; the caller frees it. */
t5_status t5_spm_decode(const t5_spm *spm, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                        t5_error *err);

/* Which bytes of the text each of its ids stands for: out[*out_n] of n_max, in order. T5_ERR_ARG when there are more.
 */
t5_status t5_spm_encode_spans(const t5_spm *spm, const char *text, size_t n_bytes, t5_token_span *out, size_t n_max,
                              size_t *out_n, t5_error *err);
/* Which bytes of what t5_spm_decode() gives each id stands for: out[n_ids], in order. */
t5_status t5_spm_decode_spans(const t5_spm *spm, const int32_t *ids, size_t n_ids, t5_token_span *out, t5_error *err);

int32_t t5_spm_n_pieces(const t5_spm *spm);
const char *t5_spm_piece(const t5_spm *spm, int32_t id); /* of an id below n_pieces */
t5_piece_type t5_spm_type(const t5_spm *spm, int32_t id);
int32_t t5_spm_find(const t5_spm *spm, const char *piece); /* -1: no such piece */

T5_C_END
