/* cli/bench_sources.h: what `t5 bench` translates: random ids of one length, or real sentences of a file. One thread.
 */
#pragma once
#include "translate/translator.h"

typedef struct {
    int32_t *ids; /* all sources, one after the other */
    int32_t n_sources;
    int32_t *begin; /* [n_sources + 1] where each starts in ids */
} t5_bench_sources;

/* `n_sources` of `src_len` random ids above the special ones, each ending with eos; the same in every run. */
t5_status t5_bench_sources_random(const t5_translator *t, int32_t n_sources, int32_t src_len, t5_bench_sources *out,
                                  t5_error *err);
/* The first `n_sources` sentences of a file (one a line, up to the first tab; empty ones left out) with the prompt of
 * the pair, as a server would run them. T5_ERR_ARG: no such pair, or a sentence is too long; T5_ERR_FORMAT: too few. */
t5_status t5_bench_sources_read(const t5_translator *t, const char *path, const char *source, const char *target,
                                int32_t n_sources, t5_bench_sources *out, t5_error *err);
void t5_bench_sources_deinit(t5_bench_sources *s); /* accepts a zeroed one */
