/* translate/stops.h: texts at which a result ends, themselves left out. A text that comes piece by piece may have the
 * beginning of one at its end; it waits until it is known what follows. Any thread. */
#pragma once
#include "base/buffer.h"
#include <stdint.h>

#define T5_STOPS_MAX 4
#define T5_STOP_BYTES_MAX 256

typedef struct {
    char texts[T5_STOPS_MAX][T5_STOP_BYTES_MAX + 1]; /* none is empty */
    int32_t n;
} t5_stops;

/* A text that is told piece by piece. Release with t5_buffer_deinit(&t->held). */
typedef struct {
    t5_buffer held; /* read and not told: maybe the beginning of a stop */
    size_t n_told;
    bool is_stopped;
} t5_told_text;

/* Bytes before the first stop in the text; n_bytes when there is none. */
size_t t5_stops_find(const t5_stops *s, const char *text, size_t n_bytes);
/* Takes a piece of a text. *out_bytes of out->held are to be told now; drop them with t5_told_text_drop(). */
t5_status t5_stops_tell(const t5_stops *s, t5_told_text *t, const char *piece, size_t n_bytes, size_t *out_bytes,
                        t5_error *err);
void t5_told_text_drop(t5_told_text *t, size_t n_bytes);
