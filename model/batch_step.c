/* model/batch_step.c: the running batch at work: encode what was admitted, one decode step over all running rows.
 *
 * A row is computed for positions n_computed .. len - 1 of its tokens. Normally that is the one token that the last
 * step chose; while a prompt is read or a target is scored it is up to T5_QUERY_LEN_MAX at a time. */
#include "model/batch_internal.h"

t5_status t5_batch_upload_ints(t5_batch *b, void *dst, const int32_t *src, int32_t n, t5_error *err)
{
    t5_backend *backend = b->model->backend;
    return backend->ops->upload(backend, dst, src, (size_t)n * sizeof *src, err);
}

static t5_status encode_gathered(t5_batch *b, t5_error *err)
{
    t5_status status = T5_OK;
    t5_packed packed = {.n_seqs = b->enc_n_seqs,
                        .n_tokens = b->enc_n_tokens,
                        .len_max = b->enc_len_max,
                        .tokens = b->dev_enc_tokens,
                        .first = b->dev_enc_first,
                        .slots = b->dev_enc_slots};
    T5_TRY(t5_batch_upload_ints(b, b->dev_enc_tokens, b->enc_tokens, b->enc_n_tokens, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_enc_first, b->enc_first, b->enc_n_seqs + 1, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_enc_slots, b->enc_slots, b->enc_n_seqs, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_cross_blocks, b->cross_blocks, b->n_slots_max * b->kv.cross_stride, err));
    T5_TRY(t5_model_encode(b->model, &packed, &b->scratch, err));
    T5_TRY(t5_model_project_cross(b->model, &packed, &b->kv, &b->scratch, err));
out:
    return status;
}

t5_status t5_batch_encode(t5_batch *b, t5_error *err)
{
    if (b->enc_n_seqs == 0) return T5_OK;
    t5_status status = encode_gathered(b, err);
    b->enc_n_seqs = 0;
    b->enc_n_tokens = 0;
    b->enc_len_max = 0;
    return status;
}

/* ---- step ---- */

/* Rows of a slot that must be computed: the first alone while beams are still the same. */
static int32_t n_rows_in_step(const t5_slot *slot)
{
    bool beams_are_one = slot->mode == T5_SEARCH_BEAM && slot->len == slot->n_prompt;
    return beams_are_one ? 1 : slot->n_rows;
}

/* Positions of a row that are known but not computed; a score does not need the last. */
static int32_t n_pending(const t5_slot *slot)
{
    return slot->len - slot->n_computed - (slot->mode == T5_SEARCH_SCORE ? 1 : 0);
}

static void take_block(t5_batch *b, slot_info *info, int32_t row, int32_t pos)
{
    int32_t *block = &b->self_blocks[row * b->kv.self_stride + pos / T5_KV_BLOCK];
    if (*block >= 0) return;
    T5_ASSERT(info->n_blocks_reserved > 0);
    *block = t5_kv_take(&b->cache);
    info->n_blocks_reserved--;
}

void t5_batch_plan_row(t5_batch *b, int32_t i_slot, int32_t row, int32_t q_len, t5_step *step)
{
    const t5_slot *slot = &b->slots[i_slot];
    b->step_rows[step->n_rows++] = (t5_step_row){.slot = i_slot, .row = row, .q0 = step->n_queries, .q_len = q_len};
    for (int32_t i = 0; i < q_len; i++) {
        int32_t pos = slot->n_computed + i;
        take_block(b, &b->infos[i_slot], row, pos);
        b->q_row[step->n_queries] = row;
        b->q_pos[step->n_queries] = pos;
        b->q_slot[step->n_queries] = i_slot;
        step->n_queries++;
    }
}

t5_step t5_batch_step_init(t5_batch *b)
{
    return (t5_step){
        .row = b->dev_q_row, .pos = b->dev_q_pos, .slot = b->dev_q_slot, .rows = b->dev_step_rows, .state = &b->state};
}

static bool is_running(const t5_batch *b, int32_t i_slot)
{
    return b->infos[i_slot].is_used && b->slots[i_slot].phase == T5_SLOT_RUNNING;
}

/* One query for each running row, and what the limit leaves for those that have several pending. */
static void plan_step(t5_batch *b, t5_step *step)
{
    int32_t n_spare = b->limits.n_rows_max - b->n_rows_running;
    for (int32_t s = 0; s < b->n_slots_max; s++) {
        if (!is_running(b, s)) continue;
        const t5_slot *slot = &b->slots[s];
        int32_t n_rows = n_rows_in_step(slot);
        int32_t q_len = n_pending(slot) < T5_QUERY_LEN_MAX ? n_pending(slot) : T5_QUERY_LEN_MAX;
        int32_t q_len_max = 1 + n_spare / n_rows;
        if (q_len > q_len_max) q_len = q_len_max;
        n_spare -= (q_len - 1) * n_rows;
        for (int32_t i = 0; i < n_rows; i++) {
            if (!b->row_done[slot->row0 + i]) t5_batch_plan_row(b, s, slot->row0 + i, q_len, step);
        }
    }
}

t5_status t5_batch_upload_step(t5_batch *b, const t5_step *step, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    T5_TRY(t5_batch_upload_ints(b, b->dev_q_row, b->q_row, step->n_queries, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_q_pos, b->q_pos, step->n_queries, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_q_slot, b->q_slot, step->n_queries, err));
    T5_TRY(backend->ops->upload(backend, b->dev_step_rows, b->step_rows, (size_t)step->n_rows * sizeof *b->step_rows,
                                err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_self_blocks, b->self_blocks, b->limits.n_rows_max * b->kv.self_stride, err));
out:
    return status;
}

static t5_status download_results(t5_batch *b, const t5_slot *slot, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    size_t row = (size_t)slot->row0;
    size_t n = (size_t)slot->n_finished;
    size_t at = row * (size_t)b->state.stride;
    size_t n_cells = n * (size_t)b->state.stride;
    T5_TRY(
        backend->ops->download(backend, b->fin_tokens + at, b->state.fin_tokens + at, n_cells * sizeof(int32_t), err));
    T5_TRY(backend->ops->download(backend, b->fin_logprobs + at, b->state.fin_logprobs + at, n_cells * sizeof(float),
                                  err));
    T5_TRY(backend->ops->download(backend, b->fin_scores + row, b->state.fin_scores + row, n * sizeof(float), err));
    T5_TRY(backend->ops->download(backend, b->fin_lens + row, b->state.fin_lens + row, n * sizeof(int32_t), err));
out:
    return status;
}

/* Reads back how far each slot is, and the results of those that are done. */
static t5_status read_progress(t5_batch *b, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    int32_t n_slots = b->n_slots_max;
    while (n_slots > 0 && !b->infos[n_slots - 1].is_used)
        n_slots--;
    T5_TRY(backend->ops->download(backend, b->slots, b->state.slots, (size_t)n_slots * sizeof *b->slots, err));
    T5_TRY(backend->ops->download(backend, b->row_done, b->state.row_done,
                                  (size_t)b->limits.n_rows_max * sizeof *b->row_done, err));
    for (int32_t s = 0; s < n_slots; s++) {
        if (b->infos[s].is_used && b->slots[s].phase == T5_SLOT_DONE) T5_TRY(download_results(b, &b->slots[s], err));
    }
out:
    return status;
}

t5_status t5_batch_step(t5_batch *b, t5_error *err)
{
    T5_ASSERT(b->enc_n_seqs == 0); /* admitted but not encoded */
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    t5_step step = {
        .row = b->dev_q_row, .pos = b->dev_q_pos, .slot = b->dev_q_slot, .rows = b->dev_step_rows, .state = &b->state};
    plan_step(b, &step);
    if (step.n_queries == 0) return T5_OK;
    T5_TRY(t5_batch_upload_step(b, &step, err));
    T5_TRY(t5_model_decode(b->model, &step, &b->kv, &b->scratch, b->logits, err));
    T5_TRY(backend->ops->search(backend, &step, b->logits, b->model->hp.vocab_size, err));
    T5_TRY(read_progress(b, err));
out:
    return status;
}
