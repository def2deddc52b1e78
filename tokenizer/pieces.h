/* tokenizer/pieces.h: the text of ids from the pieces of a SentencePiece model, as t5_spm_decode() gives it.
 * SentencePiece itself makes a message with three copies of each piece; this takes a quarter of the instructions.
 * Immutable after init: any thread. */
#pragma once
#include "tokenizer/spm_wrapper.h"

T5_C_BEGIN

typedef struct {
    const t5_spm *spm;   /* borrowed */
    uint8_t *types;      /* [t5_spm_n_pieces(spm)] t5_piece_type */
    bool is_text_mapped; /* the model has a character map for decoded texts */
} t5_pieces;

/* Free with t5_pieces_deinit(); only a zeroed one may be freed without. */
t5_status t5_pieces_init(t5_pieces *p, const t5_spm *spm, bool is_text_mapped, t5_error *err);
void t5_pieces_deinit(t5_pieces *p);
t5_piece_type t5_pieces_type(const t5_pieces *p, int32_t id); /* of an id below t5_spm_n_pieces() */
/* Text of ids that are neither unknown nor control pieces, malloc'ed and with a final NUL; the caller frees it. */
t5_status t5_pieces_decode(const t5_pieces *p, const int32_t *ids, size_t n_ids, char **out, size_t *out_bytes,
                           t5_error *err);

T5_C_END
