/* translate/retry.c: see retry.h. */
#include "translate/retry.h"

#include "base/assert.h"
#include "base/buffer.h"
#include "translate/join.h"
#include "translate/translator_internal.h"

#include <stdlib.h>
#include <string.h>

#define BEAMS_MIN 4
#define REPETITION_PENALTY 1.2f
#define NO_REPEAT_TOKENS 3
#define NO_REPEAT_BYTES 12 /* where tokens are bytes; there every text repeats tokens, which are not punished */

static t5_status create(t5_unit *unit, int32_t n_seqs, t5_error *err)
{
    T5_ASSERT(unit->retry == NULL);
    t5_retry *retry = calloc(1, sizeof *retry);
    t5_sequence *seqs = calloc((size_t)n_seqs + 1, sizeof *seqs);
    if (retry == NULL || seqs == NULL) {
        free(retry);
        free(seqs);
        return T5_FAIL(err, T5_ERR_NOMEM, "%d sequences for a second round", n_seqs);
    }
    retry->seqs = seqs;
    retry->n_seqs = n_seqs;
    unit->retry = retry;
    return T5_OK;
}

void t5_retry_destroy(t5_retry *retry)
{
    if (retry == NULL) return;
    for (int32_t i = 0; i < retry->n_seqs; i++) {
        t5_sequence_deinit(&retry->seqs[i]);
        if (retry->is_in_parts) free(retry->seqs[i].input_ids);
    }
    t5_sentences_deinit(&retry->parts);
    free(retry->seqs);
    free(retry);
}

t5_status t5_retry_whole(const t5_retry_context *c, t5_unit *unit, t5_error *err)
{
    const t5_status status = create(unit, 1, err);
    if (status != T5_OK) return status;
    t5_sequence *seq = &unit->retry->seqs[0];
    t5_translation_fill(c->translator, c->request, unit->pair, unit->ids, unit->n_ids, seq);
    seq->shortlist = 0; /* the list may be what was wrong */
    seq->wants_alignment = unit->live.seq.wants_alignment;
    seq->align_begin = unit->live.seq.align_begin;
    seq->align_end = unit->live.seq.align_end;
    const bool is_bytes = t5_tokenizer_is_bytes(c->translator->tokenizer);
    t5_decoding *d = &seq->decoding;
    d->do_sample = false;
    if (d->num_beams < BEAMS_MIN) d->num_beams = BEAMS_MIN;
    d->num_return_sequences = d->num_beams;
    if (!is_bytes && d->repetition_penalty < REPETITION_PENALTY) d->repetition_penalty = REPETITION_PENALTY;
    if (d->no_repeat_ngram_size == 0) d->no_repeat_ngram_size = is_bytes ? NO_REPEAT_BYTES : NO_REPEAT_TOKENS;
    return T5_OK;
}

static t5_status fill_parts(const t5_retry_context *c, const t5_unit *unit, const t5_sentences *parts, t5_error *err)
{
    t5_sequence *seq = unit->retry->seqs;
    for (size_t i = 0; i < parts->n_spans; i++) {
        const t5_span *span = &parts->spans[i];
        if (!span->is_text) continue;
        int32_t *ids = NULL, n_ids = 0;
        const t5_status status =
            t5_units_encode(c->units, unit->pair, unit->text + span->offset, span->n_bytes, &ids, &n_ids, err);
        if (status != T5_OK) return status;
        t5_translation_fill(c->translator, c->request, unit->pair, ids, n_ids, seq);
        seq->shortlist = 0; /* as above */
        seq++;
    }
    return T5_OK;
}

t5_status t5_retry_in_parts(const t5_retry_context *c, t5_unit *unit, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t n_parts = 0;
    t5_sentences parts = {0};
    T5_TRY(t5_sentences_split(unit->text, unit->n_bytes, NULL, T5_SPLIT_NOWHERE, &parts, err));
    T5_TRY(t5_sentences_set_apart(unit->text, NULL, NULL, &parts, err));
    for (size_t i = 0; i < parts.n_spans; i++)
        n_parts += parts.spans[i].is_text;
    T5_TRY(create(unit, n_parts, err));
    unit->retry->is_in_parts = true;
    T5_TRY(fill_parts(c, unit, &parts, err));
    unit->retry->parts = parts;
    parts = (t5_sentences){0}; /* handed to the retry */
out:
    t5_sentences_deinit(&parts);
    return status;
}

/* The sentence from the k-th result of each part, or its last, in `b`, whose bytes it takes over. */
static t5_status join_parts(const t5_retry_context *c, const t5_unit *unit, int32_t k, t5_buffer *b, t5_result *out,
                            t5_error *err)
{
    t5_status status = T5_OK;
    const t5_sequence *seq = unit->retry->seqs;
    bool is_truncated = false;
    for (size_t i = 0; i < unit->retry->parts.n_spans; i++) {
        const t5_span *span = &unit->retry->parts.spans[i];
        if (!span->is_text) {
            T5_TRY(t5_buffer_append(b, unit->text + span->offset, span->n_bytes, err));
            continue;
        }
        t5_result part = {0};
        const t5_output *output = &seq->outputs[k < seq->n_outputs ? k : seq->n_outputs - 1];
        T5_TRY(t5_result_decode(c->translator->tokenizer, output, &part, err));
        status = t5_buffer_append(b, part.text, t5_join_bytes(unit->text, span, part.text, part.n_bytes), err);
        is_truncated |= part.is_truncated;
        free(part.text);
        if (status != T5_OK) goto out;
        seq++;
    }
    T5_TRY(t5_buffer_append(b, "", 1, err));
    *out = (t5_result){.text = b->bytes, .n_bytes = b->n_bytes - 1, .is_truncated = is_truncated};
    *b = (t5_buffer){0}; /* handed to the result */
out:
    return status;
}

t5_status t5_retry_join(const t5_retry_context *c, t5_unit *unit, t5_error *err)
{
    t5_status status = T5_OK;
    t5_buffer b = {0};
    const t5_retry *retry = unit->retry;
    int32_t n_results = 1;
    for (int32_t i = 0; i < retry->n_seqs; i++)
        if (retry->seqs[i].n_outputs > n_results) n_results = retry->seqs[i].n_outputs;
    t5_unit_clear_results(unit);
    unit->results = calloc((size_t)n_results, sizeof *unit->results);
    if (unit->results == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d results", n_results);
    for (int32_t k = 0; k < n_results; k++) {
        T5_TRY(join_parts(c, unit, k, &b, &unit->results[k], err));
        unit->n_results = k + 1;
    }
out:
    t5_buffer_deinit(&b);
    return status;
}

t5_status t5_retry_copy(t5_unit *unit, t5_error *err)
{
    t5_unit_clear_results(unit);
    unit->results = calloc(1, sizeof *unit->results);
    char *text = malloc(unit->n_bytes + 1);
    if (unit->results == NULL || text == NULL) {
        free(text);
        return T5_FAIL(err, T5_ERR_NOMEM, "a sentence of %zu bytes", unit->n_bytes);
    }
    memcpy(text, unit->text, unit->n_bytes);
    text[unit->n_bytes] = '\0';
    unit->results[0] = (t5_result){.text = text, .n_bytes = unit->n_bytes};
    unit->n_results = 1;
    return T5_OK;
}
