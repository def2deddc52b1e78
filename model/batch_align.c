/* model/batch_align.c: to which source token does each token of a result belong?
 *
 * When the search of a slot is done, its results go through the decoder once more, T5_QUERY_LEN_MAX tokens at a time,
 * and each token belongs to the source token that the query which chose it looks at most. So a running row costs
 * nothing, beams that are dropped are never aligned, and nothing has to follow the beams when they are reordered.
 *
 * A pass is queued behind the step of the other rows, never in it: a step of single queries stays a recorded one.
 * Result i of a slot is computed as its row i, in that row's blocks, which nobody needs any more. */
#include "model/batch_internal.h"

#include <math.h>
#include <string.h>

/* At the other end of the source a weight counts e^-2 of what it counts here: a sharp head is believed anywhere. */
#define ORDER_TENSION 2.0f

/* Tokens of a row before which none is aligned. */
static int32_t first_aligned(const t5_slot *slot)
{
    return slot->mode == T5_SEARCH_SCORE ? 1 : slot->n_prompt;
}

/* Positions of a result that are computed: all before the last token that is aligned. */
static int32_t n_positions(const t5_batch *b, int32_t i_slot, int32_t row)
{
    const t5_slot *slot = &b->slots[i_slot];
    const slot_info *info = &b->infos[i_slot];
    const int32_t *tokens = b->fin_tokens + (size_t)row * (size_t)b->state.stride;
    const int32_t len = b->fin_lens[row] - (tokens[b->fin_lens[row] - 1] == slot->eos_id);
    return len > first_aligned(slot) && info->align_begin < info->align_end ? len - 1 : 0;
}

/* Every position of the row is what the row itself writes now. */
static t5_status disown_siblings(t5_batch *b, const t5_slot *slot, int32_t row, t5_error *err)
{
    t5_backend *backend = b->model->backend;
    const size_t n = (size_t)b->fin_lens[row];
    uint8_t ancestors[T5_SEQ_LEN_MAX];
    memset(ancestors, row - slot->row0, n);
    return backend->ops->upload(backend, b->state.ancestors + (size_t)row * (size_t)b->state.stride, ancestors, n, err);
}

t5_status t5_batch_start_alignment(t5_batch *b, int32_t i_slot, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_slot *slot = &b->slots[i_slot];
    slot_info *info = &b->infos[i_slot];
    T5_ASSERT(slot->phase == T5_SLOT_DONE && !info->is_aligning);
    if (info->n_align_results > slot->n_finished) info->n_align_results = slot->n_finished;
    for (int32_t row = slot->row0; row < slot->row0 + info->n_align_results; row++) {
        int32_t *alignment = b->fin_alignment + (size_t)row * (size_t)b->state.stride;
        for (int32_t i = 0; i < b->fin_lens[row]; i++)
            alignment[i] = -1;
        b->align_next[row] = 0;
        info->n_align_left += n_positions(b, i_slot, row);
        T5_TRY(disown_siblings(b, slot, row, err));
    }
    info->is_aligning = info->n_align_left > 0;
    b->n_aligning += info->is_aligning;
out:
    return status;
}

/* Adds what is left of a slot's results to the pass, as far as there is room. */
static void plan_results(t5_batch *b, int32_t i_slot, int32_t n_max, step_outcome *outcome, t5_step *pass)
{
    const int32_t row0 = b->slots[i_slot].row0;
    for (int32_t row = row0; row < row0 + b->infos[i_slot].n_align_results; row++) {
        const int32_t pos = b->align_next[row];
        int32_t q_len = n_positions(b, i_slot, row) - pos;
        if (q_len > T5_QUERY_LEN_MAX) q_len = T5_QUERY_LEN_MAX;
        if (q_len > n_max - pass->n_queries) q_len = n_max - pass->n_queries;
        if (q_len == 0) continue;
        outcome->align_parts[outcome->n_align_parts++] =
            (align_part){.slot = i_slot, .row = row, .pos = pos, .q_len = q_len, .q0 = pass->n_queries};
        t5_batch_plan_row(b, i_slot, row, pos, q_len, pass);
        b->align_next[row] += q_len;
    }
}

t5_status t5_batch_queue_alignment(t5_batch *b, step_outcome *outcome, bool *out_is_queued, t5_error *err)
{
    t5_status status = T5_OK;
    t5_step pass = b->dev_step;
    const int32_t n_rows_max = b->limits.n_rows_max;
    const int32_t n_max = n_rows_max < T5_ALIGN_QUERIES_MAX ? n_rows_max : T5_ALIGN_QUERIES_MAX;
    pass.state = &b->align_state;
    outcome->n_align_parts = 0;
    for (int32_t s = 0; b->n_aligning > 0 && s < b->n_slots_max; s++) {
        if (b->infos[s].is_aligning) plan_results(b, s, n_max, outcome, &pass);
    }
    *out_is_queued = pass.n_queries > 0;
    if (pass.n_queries == 0) return T5_OK;
    T5_TRY(t5_batch_upload_plan(b, err));
    T5_TRY(t5_model_align(b->model, &pass, &b->kv, &b->scratch, b->align_weights, err));
out:
    return status;
}

/* The source token with the largest weight, the first among equals. `place` is the token's place in its target, 0 to 1.
 * Translations mostly keep the order of words, so a source token counts less the farther its place is from that one
 * (Dyer et al., "A Simple, Fast, and Effective Reparameterization of IBM Model 2", 2013). */
static int32_t heaviest(const slot_info *info, const float *weights, float place)
{
    int32_t best = -1;
    float best_weight = 0.0f;
    for (int32_t j = info->align_begin; j < info->align_end; j++) {
        const float at = ((float)(j - info->align_begin) + 0.5f) / (float)(info->align_end - info->align_begin);
        const float weight = weights[j] * expf(-ORDER_TENSION * fabsf(at - place));
        if (best >= 0 && !(weight > best_weight)) continue;
        best = j;
        best_weight = weight;
    }
    return best;
}

void t5_batch_read_alignment(t5_batch *b, const step_outcome *outcome)
{
    for (int32_t i = 0; i < outcome->n_align_parts; i++) {
        const align_part *part = &outcome->align_parts[i];
        const t5_slot *slot = &b->slots[part->slot];
        slot_info *info = &b->infos[part->slot];
        if (!info->is_aligning || info->born >= b->n_steps_read) continue; /* it was released meanwhile */
        const size_t row_at = (size_t)part->row * (size_t)b->state.stride;
        const int32_t first = first_aligned(slot);
        const int32_t n_aligned = n_positions(b, part->slot, part->row) + 1 - first;
        for (int32_t k = 0; k < part->q_len; k++) {
            const int32_t pos = part->pos + k + 1; /* of the token that the query chose */
            if (pos < first || b->fin_tokens[row_at + (size_t)pos] == slot->eos_id) continue;
            const float place = ((float)(pos - first) + 0.5f) / (float)n_aligned;
            b->fin_alignment[row_at + (size_t)pos] =
                heaviest(info, outcome->align_weights + (size_t)(part->q0 + k) * (size_t)b->weights_stride, place);
        }
        T5_ASSERT(info->n_align_left >= part->q_len);
        info->n_align_left -= part->q_len;
        info->is_aligning = info->n_align_left > 0;
        b->n_aligning -= !info->is_aligning;
    }
}
