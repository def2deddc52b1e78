/* tokenizer/detokenizer.h: the text of ids that come one after another: each piece of it as soon as nothing that
 * follows can change it. All pieces together are what t5_tokenizer_decode() gives for all ids; each is whole UTF-8
 * characters.
 *
 * What follows can change: a character whose bytes have not all come; the space of a first piece, which is dropped. So
 * it keeps a window of ids: one that is text of its own, and what came after it and is not certain. One thread at a
 * time. */
#pragma once
#include "base/buffer.h"
#include "tokenizer/tokenizer.h"

T5_C_BEGIN

typedef struct {
    const t5_tokenizer *tokenizer;
    int32_t *window; /* [n_window] ids that stand for text */
    int32_t n_window, capacity;
    size_t n_given; /* bytes of the window's text that were given out */
} t5_detokenizer;

void t5_detokenizer_init(t5_detokenizer *d, const t5_tokenizer *tokenizer);
void t5_detokenizer_deinit(t5_detokenizer *d); /* accepts a zeroed one */
/* Appends to `out` the text that is certain with these ids. `is_last`: no more will come, so all that is left. */
t5_status t5_detokenizer_add(t5_detokenizer *d, const int32_t *ids, int32_t n_ids, bool is_last, t5_buffer *out,
                             t5_error *err);

T5_C_END
