/* text/detect.h: which of the served languages a text is in. Scripts decide where they can, then CLD2 and lists of
 * frequent words; short texts rest on the words alone. Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

#define T5_DETECTED_MAX 3

typedef struct {
    const char *code;  /* one of `served` */
    double confidence; /* 0 to 100; below 50 is a guess, 0 means that the text says nothing (emoji, digits) */
} t5_detected;

/* Fills `out`, best first, with 1 to T5_DETECTED_MAX different languages of `served` (public codes, n_served >= 1), and
 * returns how many. Never none: what cannot be told is "en" when served, else the first one, with confidence 0. Only
 * the first 2 kB of the text are read; invalid UTF-8 is skipped. */
int32_t t5_detect(const char *text, size_t n_bytes, const char *const *served, int32_t n_served,
                  t5_detected out[T5_DETECTED_MAX]);

T5_C_END
