/* tokenizer/spm_fields.c: see spm_fields.h. */
#include "tokenizer/spm_fields.h"
#include "tokenizer/proto.h"

t5_status t5_spm_put_piece(t5_buffer *model, t5_buffer *scratch, const t5_spm_fields *piece, t5_error *err)
{
    t5_status status = T5_OK;
    scratch->n_bytes = 0;
    T5_TRY(t5_proto_put_bytes(scratch, T5_SPM_PIECE_TEXT, piece->text, piece->n_bytes, err));
    T5_TRY(t5_proto_put_float(scratch, T5_SPM_PIECE_SCORE, piece->score, err));
    T5_TRY(t5_proto_put_int(scratch, T5_SPM_PIECE_TYPE, piece->type, err));
    T5_TRY(t5_proto_put_bytes(model, T5_SPM_PIECE, scratch->bytes, scratch->n_bytes, err));
out:
    return status;
}
