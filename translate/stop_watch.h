/* translate/stop_watch.h: whether the tokens of a result have come to one of its stops, while they come. One thread at
 * a time. */
#pragma once
#include "tokenizer/detokenizer.h"
#include "translate/stops.h"

typedef struct {
    const t5_stops *stops;  /* borrowed */
    t5_detokenizer certain; /* the text as far as it is certain */
    t5_told_text text;
    bool is_lost; /* memory ran out: some of the text is missing, and what follows it may look like a stop */
} t5_stop_watch;

void t5_stop_watch_init(t5_stop_watch *w, const t5_stops *stops, const t5_tokenizer *tokenizer);
void t5_stop_watch_deinit(t5_stop_watch *w); /* accepts a zeroed one */
/* More tokens. True once the text has come to a stop; never when memory ran out before that. */
bool t5_stop_watch_add(t5_stop_watch *w, const int32_t *ids, int32_t n_ids);
