/* engine/results.c: see results.h. The outputs, then all ids, then all log-probabilities, then all alignments stand in
 * one block, so that a result is one allocation on the device thread and one free. */
#include "engine/results.h"

#include "base/assert.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(int32_t) == sizeof(float) && _Alignof(t5_output) >= _Alignof(int32_t),
              "ids, log-probabilities and alignments may follow the outputs in one block");

/* A beam search finishes with up to num_beams results; the best num_return_sequences are wanted. */
static int32_t n_results_wanted(const t5_batch *batch, const t5_sequence *seq)
{
    const int32_t n_results = t5_batch_n_results(batch, seq->slot);
    const int32_t n_wanted = seq->is_score ? 1 : seq->decoding.num_return_sequences;
    return n_results < n_wanted ? n_results : n_wanted;
}

int32_t t5_results_copy(const t5_batch *batch, t5_sequence *seq)
{
    if (t5_batch_outcome(batch, seq->slot, &seq->error) != T5_OK) return 0;
    const int32_t n_results = n_results_wanted(batch, seq);
    T5_ASSERT(n_results > 0);
    const bool has_logprobs = seq->is_score || seq->wants_logprobs;
    int32_t n_tokens = 0;
    t5_batch_result result;
    for (int32_t i = 0; i < n_results; i++) {
        t5_batch_result_get(batch, seq->slot, i, &result);
        n_tokens += result.n_ids;
    }

    const size_t outputs_bytes = (size_t)n_results * sizeof(t5_output);
    const size_t n_bytes =
        outputs_bytes + (size_t)n_tokens * sizeof(int32_t) * (size_t)(1 + has_logprobs + seq->wants_alignment);
    t5_output *outputs = malloc(n_bytes);
    if (outputs == NULL) {
        T5_FAIL(&seq->error, T5_ERR_NOMEM, "results: %zu bytes", n_bytes);
        return 0;
    }
    int32_t *ids = (int32_t *)(outputs + n_results);
    float *logprobs = (float *)(ids + n_tokens);
    int32_t *alignment = ids + (size_t)n_tokens * (has_logprobs ? 2 : 1);
    for (int32_t i = 0; i < n_results; i++) {
        t5_batch_result_get(batch, seq->slot, i, &result);
        outputs[i] = (t5_output){.n_ids = result.n_ids,
                                 .ids = ids,
                                 .logprobs = has_logprobs ? logprobs : NULL,
                                 .alignment = seq->wants_alignment ? alignment : NULL,
                                 .score = result.score,
                                 .is_truncated = result.is_truncated};
        if (result.n_ids == 0) continue;
        memcpy(ids, result.ids, (size_t)result.n_ids * sizeof *ids);
        if (has_logprobs) memcpy(logprobs, result.logprobs, (size_t)result.n_ids * sizeof *logprobs);
        if (seq->wants_alignment) memcpy(alignment, result.alignment, (size_t)result.n_ids * sizeof *alignment);
        ids += result.n_ids;
        alignment += result.n_ids;
        logprobs += result.n_ids;
    }
    seq->outputs = outputs;
    seq->n_outputs = n_results;
    return n_tokens;
}

void t5_sequence_deinit(t5_sequence *seq)
{
    free(seq->outputs);
    seq->outputs = NULL;
    seq->n_outputs = 0;
}
