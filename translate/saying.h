/* translate/saying.h: what a model can write. Planning asks for the same few signs, braces and pictures again and
 * again, each time at the price of an encoding and a decoding: the last answers are remembered. One thread at a time.
 */
#pragma once
#include "tokenizer/tokenizer.h"

/* How a model writes a text. */
typedef enum {
    T5_SAID,    /* its tokens say the text */
    T5_SPELLED, /* so they do, and some are bytes of a character that has no piece. Never where all tokens are bytes */
    T5_UNSAID   /* they say another text */
} t5_saying;

#define T5_KNOWN_BYTES 14 /* a character and more */
#define T5_N_KNOWN 1024

/* An answer that is remembered. */
typedef struct {
    char text[T5_KNOWN_BYTES];
    uint8_t n_bytes; /* 0: none yet */
    uint8_t saying;
} t5_known_saying;

/* {.tokenizer = ...} to begin with; nothing to release. 16 KB. */
typedef struct {
    const t5_tokenizer *tokenizer;     /* borrowed */
    t5_known_saying known[T5_N_KNOWN]; /* by the last bytes of the text */
} t5_sayings;

/* How the model would write a text of a byte or more. T5_ERR_NOMEM. */
t5_status t5_sayings_ask(t5_sayings *s, const char *text, size_t n_bytes, t5_saying *out, t5_error *err);
