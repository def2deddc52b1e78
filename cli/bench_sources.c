/* cli/bench_sources.c: see bench_sources.h. */
#include "cli/bench_sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static t5_status make_room(t5_bench_sources *s, int32_t n_sources, int64_t n_ids, t5_error *err)
{
    *s = (t5_bench_sources){.ids = calloc((size_t)n_ids, sizeof *s->ids),
                            .begin = calloc((size_t)n_sources + 1, sizeof *s->begin)};
    if (s->ids == NULL || s->begin == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "%d sources, %lld tokens", n_sources, (long long)n_ids);
    return T5_OK;
}

void t5_bench_sources_deinit(t5_bench_sources *s)
{
    free(s->ids);
    free(s->begin);
    *s = (t5_bench_sources){0};
}

static uint64_t random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15U; /* splitmix64 */
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

t5_status t5_bench_sources_random(const t5_translator *t, int32_t n_sources, int32_t src_len, t5_bench_sources *out,
                                  t5_error *err)
{
    const t5_hparams *hp = t5_translator_hparams(t);
    const int32_t first = hp->eos_id + 1, live = t5_tokenizer_vocab_live(t5_translator_tokenizer(t));
    const uint64_t n_choices = (uint64_t)(live > first ? live - first : 1);
    uint64_t state = 1;
    const t5_status status = make_room(out, n_sources, (int64_t)n_sources * src_len, err);
    if (status != T5_OK) return status;
    for (int32_t i = 0; i < n_sources; i++) {
        int32_t *ids = out->ids + out->begin[i];
        for (int32_t j = 0; j < src_len; j++)
            ids[j] = first + (int32_t)(random_next(&state) % n_choices);
        ids[src_len - 1] = hp->eos_id;
        out->begin[i + 1] = out->begin[i] + src_len;
    }
    out->n_sources = n_sources;
    return T5_OK;
}

/* Adds prompt + sentence + eos. */
static t5_status add_sentence(const t5_translator *t, const t5_pair *pair, const char *sentence, t5_bench_sources *s,
                              t5_error *err)
{
    char *text = NULL;
    const int n_bytes = asprintf(&text, "%s%s", pair->prompt, sentence);
    if (n_bytes < 0) return T5_FAIL(err, T5_ERR_NOMEM, "%s", sentence);
    int32_t n_ids = 0, *ids = s->ids + s->begin[s->n_sources];
    const t5_status status = t5_tokenizer_encode(t5_translator_tokenizer(t), text, (size_t)n_bytes, ids,
                                                 t5_translator_src_len_max(t), &n_ids, err);
    free(text);
    if (status != T5_OK) return status;
    s->begin[s->n_sources + 1] = s->begin[s->n_sources] + n_ids;
    s->n_sources++;
    return T5_OK;
}

t5_status t5_bench_sources_read(const t5_translator *t, const char *path, const char *source, const char *target,
                                int32_t n_sources, t5_bench_sources *out, t5_error *err)
{
    t5_status status = T5_OK;
    char *line = NULL;
    size_t line_bytes = 0;
    const t5_pair *pair = t5_profile_find(t5_translator_profile(t), source, target);
    if (pair == NULL) return T5_FAIL(err, T5_ERR_ARG, "the model does not translate %s to %s", source, target);
    FILE *file = fopen(path, "r");
    if (file == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
    status = make_room(out, n_sources, (int64_t)n_sources * t5_translator_src_len_max(t), err);
    while (status == T5_OK && out->n_sources < n_sources && getline(&line, &line_bytes, file) > 0) {
        line[strcspn(line, "\t\r\n")] = '\0';
        if (line[0] != '\0') status = add_sentence(t, pair, line, out, err);
    }
    if (status == T5_OK && out->n_sources < n_sources)
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: %d sentences, %d are wanted", path, out->n_sources, n_sources);
    free(line);
    fclose(file);
    if (status != T5_OK) t5_bench_sources_deinit(out);
    return status;
}
