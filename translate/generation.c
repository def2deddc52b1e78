/* translate/generation.c: see generation.h. */
#include "translate/generation.h"

#include "base/assert.h"
#include "base/clock.h"
#include "translate/live.h"
#include "translate/stop_watch.h"
#include "translate/translator_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    t5_live_sequence live; /* first: is_enough() gets it */
    int32_t *ids;          /* of the input */
    t5_live_reader reader;
    bool is_read; /* to its end */
    t5_generated *results;
    int32_t n_results;
    t5_stop_watch watch; /* the device thread's; zeroed when there are no stops */
} input_state;

struct t5_generation {
    t5_translator *translator;
    input_state *inputs; /* [n_inputs] */
    int32_t n_inputs;
    int32_t *prompt_ids; /* [n_prompt_ids] */
    int32_t n_prompt_ids;
    t5_stops stops;
    t5_live live;
    int32_t n_read;  /* inputs before this one were read to their end */
    t5_buffer piece; /* what t5_generation_read() gave last */
};

/* ---- start ---- */

static t5_status read_input(const t5_translator *t, const t5_generation_input *input, input_state *out, t5_error *err)
{
    t5_sequence *seq = &out->live.seq;
    if (input->text != NULL)
        return t5_tokenizer_encode_alloc(t->tokenizer, input->text, input->n_bytes, t->engine_options.src_len_max,
                                         &out->ids, &seq->n_input_ids, err);
    out->ids = malloc(((size_t)input->n_ids + 1) * sizeof *out->ids);
    if (out->ids == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d ids", input->n_ids);
    if (input->n_ids > 0) memcpy(out->ids, input->ids, (size_t)input->n_ids * sizeof *out->ids);
    seq->n_input_ids = input->n_ids;
    return T5_OK;
}

static t5_status read_prefix(t5_generation *g, const t5_generation_request *r, t5_error *err)
{
    t5_error cause = {0};
    const t5_translator *t = g->translator;
    const t5_status status =
        t5_tokenizer_encode_alloc(t->tokenizer, r->prefix, r->prefix_bytes, t->engine_options.tgt_len_max,
                                  &g->prompt_ids, &g->n_prompt_ids, &cause);
    if (status != T5_OK) return T5_FAIL(err, status, "prefix: %s", cause.text);
    g->n_prompt_ids--; /* the end of sequence */
    return T5_OK;
}

/* What every output begins with. */
static t5_status read_prompt(t5_generation *g, const t5_generation_request *r, t5_error *err)
{
    if (r->prefix != NULL) return read_prefix(g, r, err);
    g->n_prompt_ids = r->n_prompt_ids;
    g->prompt_ids = malloc(((size_t)r->n_prompt_ids + 1) * sizeof *g->prompt_ids);
    if (g->prompt_ids == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d ids", r->n_prompt_ids);
    if (r->n_prompt_ids > 0) memcpy(g->prompt_ids, r->prompt_ids, (size_t)r->n_prompt_ids * sizeof *g->prompt_ids);
    return T5_OK;
}

/* A limit that nobody asked for shrinks to what is left of the longest target. */
static t5_status limit_tokens(const t5_generation *g, const t5_generation_request *r, int32_t *out_n_max, t5_error *err)
{
    const int32_t tgt_len_max = g->translator->engine_options.tgt_len_max, room = tgt_len_max - 1 - g->n_prompt_ids;
    const int32_t wanted = *out_n_max = r->decoding.max_new_tokens;
    if (room < 1) return T5_OK; /* the engine refuses such a prompt */
    if (r->max_new_tokens_field != NULL)
        return t5_decoding_check_room(r->max_new_tokens_field, wanted, g->n_prompt_ids, tgt_len_max, err);
    if (wanted > room) *out_n_max = room;
    return T5_OK;
}

/* On a device's thread. */
static bool is_enough(t5_live_sequence *live, const int32_t *ids, int32_t n_ids)
{
    return t5_stop_watch_add(&((input_state *)live)->watch, ids, n_ids);
}

/* What an output begins with may hold a stop, or the beginning of one. */
static void watch_for_stops(const t5_generation *g, input_state *s)
{
    t5_stop_watch_init(&s->watch, &g->stops, g->translator->tokenizer);
    if (g->n_prompt_ids > 0) t5_stop_watch_add(&s->watch, g->prompt_ids, g->n_prompt_ids);
}

static bool may_stop(const t5_generation_request *r)
{
    return r->stops.n > 0 && r->decoding.num_return_sequences == 1;
}

static t5_status fill_inputs(t5_generation *g, const t5_generation_request *r, t5_error *err)
{
    int32_t n_max = 0;
    t5_status status = limit_tokens(g, r, &n_max, err);
    if (status != T5_OK) return status;
    g->inputs = calloc((size_t)r->n_inputs + 1, sizeof *g->inputs);
    if (g->inputs == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d inputs", r->n_inputs);
    g->n_inputs = r->n_inputs;
    for (int32_t i = 0; i < r->n_inputs; i++) {
        input_state *s = &g->inputs[i];
        status = read_input(g->translator, &r->inputs[i], s, err);
        if (status != T5_OK) return status;
        t5_live_reader_init(&s->reader, g->translator->tokenizer);
        s->live.seq.input_ids = s->ids;
        s->live.seq.prompt_ids = g->prompt_ids;
        s->live.seq.n_prompt_ids = g->n_prompt_ids;
        s->live.seq.decoding = r->decoding;
        s->live.seq.decoding.max_new_tokens = n_max;
        s->live.seq.wants_logprobs = true; /* a greedy result has a score too */
        s->live.seq.wants_alignment = r->wants_alignment;
        s->live.seq.deadline_ms = r->deadline_ms;
        if (may_stop(r)) watch_for_stops(g, s);
    }
    return T5_OK;
}

static t5_status submit(t5_generation *g, const t5_generation_request *r, t5_error *err)
{
    t5_live_sequence **seqs = malloc(((size_t)g->n_inputs + 1) * sizeof(t5_live_sequence *));
    if (seqs == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d inputs", g->n_inputs);
    for (int32_t i = 0; i < g->n_inputs; i++)
        seqs[i] = &g->inputs[i].live;
    g->live = (t5_live){.on_progress = r->on_progress,
                        .on_done = r->on_done,
                        .ctx = r->ctx,
                        .is_enough = may_stop(r) ? is_enough : NULL};
    const t5_status status = t5_live_submit(&g->live, g->translator->engine, seqs, g->n_inputs, err);
    free(seqs);
    return status;
}

t5_status t5_generation_start(t5_translator *t, const t5_generation_request *request, t5_generation **out,
                              t5_error *err)
{
    t5_status status = T5_OK;
    T5_ASSERT(request->n_inputs >= 0 && request->on_done != NULL);
    if (t5_engine_check_room(t->engine, request->deadline_ms, err) != T5_OK) return err->status;
    t5_generation *g = calloc(1, sizeof *g);
    if (g == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "generation: %zu bytes", sizeof *g);
    const int64_t start_ns = t5_clock_ns();
    g->translator = t;
    g->stops = request->stops;
    T5_TRY(read_prompt(g, request, err));
    T5_TRY(fill_inputs(g, request, err));
    t5_histogram_add(&t->tokenize_ns, t5_clock_ns() - start_ns);
    *out = g; /* before on_done, which may come at once */
    T5_TRY(submit(g, request, err));
    g = NULL; /* handed to the caller, maybe gone */
out:
    if (g != NULL) *out = NULL;
    t5_generation_destroy(g);
    return status;
}

/* ---- read along ---- */

t5_status t5_generation_read(t5_generation *g, t5_piece *out, t5_error *err)
{
    *out = (t5_piece){0};
    g->piece.n_bytes = 0;
    for (int32_t i = g->n_read; i < g->n_inputs; i++) {
        input_state *s = &g->inputs[i];
        if (s->is_read) continue;
        const t5_status status = t5_live_read(&s->reader, &s->live, &g->piece, &s->is_read, err);
        if (status != T5_OK) return status;
        if (s->is_read && g->n_read == i) g->n_read++;
        if (g->piece.n_bytes == 0) continue;
        *out = (t5_piece){.i_text = i, .bytes = g->piece.bytes, .n_bytes = g->piece.n_bytes};
        return T5_OK;
    }
    return T5_OK;
}

/* ---- finish ---- */

static t5_status finish_input(const t5_generation *g, input_state *s, t5_error *err)
{
    const t5_sequence *seq = &s->live.seq;
    if (seq->error.status != T5_OK) {
        *err = seq->error;
        return err->status;
    }
    s->results = calloc((size_t)seq->n_outputs, sizeof *s->results);
    if (s->results == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d results", seq->n_outputs);
    for (int32_t i = 0; i < seq->n_outputs; i++) {
        t5_generated *result = &s->results[i];
        const t5_output *output = &seq->outputs[i];
        const t5_status status = t5_tokenizer_decode(g->translator->tokenizer, output->ids, output->n_ids,
                                                     &result->text, &result->n_bytes, err);
        if (status != T5_OK) return status;
        result->output = output;
        s->n_results = i + 1;
    }
    return T5_OK;
}

t5_status t5_generation_finish(t5_generation *g, t5_error *err)
{
    T5_ASSERT(atomic_load(&g->live.n_left) == 0);
    const int64_t start_ns = t5_clock_ns();
    for (int32_t i = 0; i < g->n_inputs; i++) {
        const t5_status status = finish_input(g, &g->inputs[i], err);
        if (status != T5_OK) return status;
    }
    t5_histogram_add(&g->translator->detokenize_ns, t5_clock_ns() - start_ns);
    return T5_OK;
}

const int32_t *t5_generation_input_ids(const t5_generation *g, int32_t i_input, int32_t *out_n)
{
    T5_ASSERT(i_input >= 0 && i_input < g->n_inputs);
    *out_n = g->inputs[i_input].live.seq.n_input_ids;
    return g->inputs[i_input].ids;
}

int32_t t5_generation_n_results(const t5_generation *g, int32_t i_input)
{
    T5_ASSERT(i_input >= 0 && i_input < g->n_inputs);
    return g->inputs[i_input].n_results;
}

const t5_generated *t5_generation_get(const t5_generation *g, int32_t i_input, int32_t i_result)
{
    T5_ASSERT(i_result >= 0 && i_result < t5_generation_n_results(g, i_input));
    return &g->inputs[i_input].results[i_result];
}

void t5_generation_usage(const t5_generation *g, t5_usage *out)
{
    T5_ASSERT(atomic_load(&g->live.n_left) == 0);
    *out = (t5_usage){0};
    for (int32_t i = 0; i < g->n_inputs; i++)
        t5_usage_add(out, &g->inputs[i].live.seq);
}

void t5_generation_cancel(t5_generation *g)
{
    for (int32_t i = 0; i < g->n_inputs; i++)
        atomic_store(&g->inputs[i].live.seq.is_cancelled, true);
}

void t5_generation_destroy(t5_generation *g)
{
    if (g == NULL) return;
    for (int32_t i = 0; i < g->n_inputs; i++) {
        input_state *s = &g->inputs[i];
        for (int32_t k = 0; k < s->n_results; k++)
            free(s->results[k].text);
        free(s->results);
        t5_live_reader_deinit(&s->reader);
        t5_stop_watch_deinit(&s->watch);
        t5_sequence_deinit(&s->live.seq);
        free(s->ids);
    }
    free(g->inputs);
    free(g->prompt_ids);
    t5_live_deinit(&g->live);
    t5_buffer_deinit(&g->piece);
    free(g);
}
