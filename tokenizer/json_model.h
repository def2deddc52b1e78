/* tokenizer/json_model.h: a SentencePiece model from tokenizer.json. transformers 5 saves that file alone, so it is
 * what a folder has that was fine-tuned with it. Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* Reads the file and writes the same model as SentencePiece has it, malloc'ed; the caller frees it. It is as unchecked
 * as a file: t5_spm_check() is for both. T5_ERR_FORMAT names what is not a unigram model with SentencePiece's way to
 * treat white space. */
t5_status t5_json_model_read(const char *path, void **out, size_t *out_bytes, t5_error *err);

T5_C_END
