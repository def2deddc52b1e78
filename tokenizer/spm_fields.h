/* tokenizer/spm_fields.h: the fields of sentencepiece_model.proto that are read and written here, and the writer of a
 * piece. The numbers are that file's. Any thread. */
#pragma once
#include "base/buffer.h"
#include "tokenizer/spm_check.h"

T5_C_BEGIN

enum { T5_SPM_PIECE = 1, T5_SPM_TRAINER = 2, T5_SPM_NORMALIZER = 3, T5_SPM_DENORMALIZER = 5 }; /* of the model */
enum { T5_SPM_PIECE_TEXT = 1, T5_SPM_PIECE_SCORE = 2, T5_SPM_PIECE_TYPE = 3 };
enum { T5_SPM_TRAINER_TYPE = 3, T5_SPM_TRAINER_BYTE_FALLBACK = 35 };
enum { T5_SPM_UNIGRAM = 1, T5_SPM_BPE = 2 }; /* T5_SPM_TRAINER_TYPE */
enum { T5_SPM_NORMALIZER_CHARSMAP = 2, T5_SPM_NORMALIZER_PREFIX = 3, T5_SPM_NORMALIZER_JOINS_SPACES = 4 };

typedef struct {
    const char *text; /* [n_bytes] */
    size_t n_bytes;
    float score;
    t5_piece_type type;
} t5_spm_fields;

/* Appends a piece to a model; `scratch` is any buffer that is free meanwhile. */
t5_status t5_spm_put_piece(t5_buffer *model, t5_buffer *scratch, const t5_spm_fields *piece, t5_error *err);

T5_C_END
