/* tokenizer/locate.h: which tokenizer a model folder has. Any thread. */
#pragma once
#include "tokenizer/tokenizer.h"

T5_C_BEGIN

typedef struct {
    char *path;        /* of the SentencePiece model, malloc'ed; NULL when the tokens are bytes */
    bool is_json;      /* it is a tokenizer.json */
    int32_t extra_ids; /* sentinels after the pieces, when tokenizer_config.json says it; else -1 */
} t5_tokenizer_location;

/* T5_ERR_IO when the folder has no tokenizer, T5_ERR_FORMAT when it names one badly. */
t5_status t5_tokenizer_locate(const char *dir, int32_t vocab_size, t5_tokenizer_location *out, t5_error *err);

T5_C_END
