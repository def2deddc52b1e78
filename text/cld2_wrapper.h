/* text/cld2_wrapper.h: CLD2 behind a C function. Any thread: its tables are constant. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

#define T5_CLD2_MAX 3

typedef struct {
    const char *code; /* CLD2's own code, a static text */
    double share;     /* 0 to 1, of the text */
} t5_cld2_guess;

/* Fills `out` with CLD2's best guesses for a plain text and returns how many; 0 when it has none, or no
 * memory. */
int t5_cld2_detect(const char *text, size_t n_bytes, t5_cld2_guess out[T5_CLD2_MAX]);

T5_C_END
