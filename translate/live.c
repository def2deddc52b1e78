/* translate/live.c: see live.h. */
#include "translate/live.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

static void tell_reader(t5_live_sequence *s, const int32_t *ids, int32_t n_ids)
{
    const int32_t n_told = atomic_load(&s->n_told);
    T5_ASSERT(n_told + n_ids <= s->seq.decoding.max_new_tokens);
    memcpy(s->told + n_told, ids, (size_t)n_ids * sizeof *ids);
    atomic_store(&s->n_told, n_told + n_ids);
    s->live->on_progress(s->live->ctx);
}

static bool on_tokens(t5_sequence *seq, const int32_t *ids, int32_t n_ids, void *ctx)
{
    t5_live_sequence *s = ctx;
    (void)seq;
    if (s->told != NULL) tell_reader(s, ids, n_ids);
    return s->live->is_enough == NULL || !s->live->is_enough(s, ids, n_ids);
}

/* Whoever is told that all are over may free them. */
void t5_live_end(t5_live_sequence *s)
{
    t5_live *live = s->live;
    const bool has_news = live->on_progress != NULL && s->seq.error.status == T5_OK;
    atomic_store(&s->is_over, true);
    if (has_news) live->on_progress(live->ctx);
    if (atomic_fetch_sub(&live->n_left, 1) == 1) live->on_done(live->ctx);
}

static void on_done(t5_sequence *seq, void *ctx)
{
    t5_live_sequence *s = ctx;
    const t5_live *live = s->live;
    if (live->takes != NULL && seq->error.status == T5_OK && live->takes(s, live->takes_ctx)) return;
    t5_live_end(s);
}

/* Room for all tokens that may be told, so that the device thread allocates nothing. */
static t5_status reserve_told(t5_live *live, t5_live_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    size_t n_tokens = 0;
    for (int32_t i = 0; i < n_seqs; i++)
        n_tokens += (size_t)seqs[i]->seq.decoding.max_new_tokens;
    live->told = malloc((n_tokens + 1) * sizeof *live->told);
    if (live->told == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu tokens to stream", n_tokens);
    int32_t *told = live->told;
    for (int32_t i = 0; i < n_seqs; i++) {
        seqs[i]->told = told;
        told += seqs[i]->seq.decoding.max_new_tokens;
    }
    return T5_OK;
}

static t5_status submit(t5_engine *engine, t5_live_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    T5_ASSERT(n_seqs > 0);
    t5_sequence **inner = malloc((size_t)n_seqs * sizeof(t5_sequence *));
    if (inner == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d sequences", n_seqs);
    for (int32_t i = 0; i < n_seqs; i++)
        inner[i] = &seqs[i]->seq;
    const t5_status status = t5_engine_submit_all(engine, inner, n_seqs, err);
    free(inner);
    return status;
}

t5_status t5_live_submit(t5_live *live, t5_engine *engine, t5_live_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    const bool is_streamed = live->on_progress != NULL;
    atomic_store(&live->n_left, n_seqs);
    if (n_seqs == 0) {
        live->on_done(live->ctx);
        return T5_OK;
    }
    for (int32_t i = 0; i < n_seqs; i++) {
        seqs[i]->live = live;
        seqs[i]->seq.on_done = on_done;
        const bool is_told = (is_streamed || live->is_enough != NULL) && !seqs[i]->is_held;
        seqs[i]->seq.on_tokens = is_told ? on_tokens : NULL;
        seqs[i]->seq.ctx = seqs[i];
    }
    if (is_streamed) {
        const t5_status status = reserve_told(live, seqs, n_seqs, err);
        if (status != T5_OK) return status;
    }
    return submit(engine, seqs, n_seqs, err);
}

void t5_live_deinit(t5_live *live)
{
    free(live->told);
    live->told = NULL;
}

void t5_usage_add(t5_usage *usage, const t5_sequence *seq)
{
    usage->n_source_tokens += seq->n_input_ids;
    for (int32_t i = 0; i < seq->n_outputs; i++)
        usage->n_target_tokens += seq->outputs[i].n_ids - seq->n_prompt_ids;
}

void t5_live_reader_init(t5_live_reader *r, const t5_tokenizer *tokenizer)
{
    *r = (t5_live_reader){0};
    t5_detokenizer_init(&r->detokenizer, tokenizer);
}

void t5_live_reader_deinit(t5_live_reader *r)
{
    t5_detokenizer_deinit(&r->detokenizer);
}

/* Tokens from `first` on, as far as they are there, the forced prompt first. */
static const int32_t *next_tokens(t5_live_sequence *s, bool is_over, int32_t first, int32_t *out_n)
{
    const int32_t n_prompt = s->seq.n_prompt_ids;
    if (is_over) {
        *out_n = s->seq.outputs[0].n_ids - first;
        return s->seq.outputs[0].ids + first;
    }
    if (first < n_prompt) {
        *out_n = n_prompt - first;
        return s->seq.prompt_ids + first;
    }
    *out_n = atomic_load(&s->n_told) - (first - n_prompt);
    return s->told + (first - n_prompt);
}

t5_status t5_live_read(t5_live_reader *r, t5_live_sequence *s, t5_buffer *out, bool *out_is_over, t5_error *err)
{
    T5_ASSERT(s->told != NULL);
    const bool is_over = atomic_load(&s->is_over);
    *out_is_over = false;
    if (is_over && s->seq.error.status != T5_OK) return T5_OK;
    int32_t n_ids = 0;
    do {
        const int32_t *ids = next_tokens(s, is_over, r->n_read, &n_ids);
        T5_ASSERT(n_ids >= 0);
        if (n_ids == 0 && !is_over) break;
        const t5_status status = t5_detokenizer_add(&r->detokenizer, ids, n_ids, is_over, out, err);
        if (status != T5_OK) return status;
        r->n_read += n_ids;
    } while (!is_over);
    *out_is_over = is_over;
    return T5_OK;
}
