/* model/batch_step.c: the running batch at work: encode what was admitted, one decode step over all running rows.
 *
 * A device may run behind the host: then the host plans step k + 1 from what it can foresee (every running row grows by
 * one token), queues it, and only then reads how step k ended. A slot that ended in step k is left alone by the search
 * of step k + 1, whatever the plan says; blocks and rows that it gives back are written again only by operations queued
 * later.
 *
 * A row is computed for positions n_computed .. len - 1 of its tokens. Normally that is the one token that the last
 * step chose; while a prompt is read or a target is scored it is up to T5_QUERY_LEN_MAX at a time. */
#include "model/batch_internal.h"

#include <string.h>

/* Devices record no larger steps. */
#define WARM_UP_ROWS_MAX 256

t5_status t5_batch_upload_ints(t5_batch *b, void *dst, const int32_t *src, int32_t n, t5_error *err)
{
    t5_backend *backend = b->model->backend;
    return backend->ops->upload(backend, dst, src, (size_t)n * sizeof *src, err);
}

/* ---- encode ---- */

static t5_status encode_and_project(t5_batch *b, const t5_packed *packed, t5_error *err)
{
    t5_status status = t5_model_encode(b->model, packed, &b->enc_scratch, err);
    return status == T5_OK ? t5_model_project_cross(b->model, packed, &b->kv, &b->enc_scratch, err) : status;
}

static t5_status encode_gathered(t5_batch *b, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_async_ops *async = t5_batch_async(b);
    t5_backend *backend = b->model->backend;
    t5_packed packed = {.n_seqs = b->enc_n_seqs,
                        .n_tokens = b->enc_n_tokens,
                        .len_max = b->enc_len_max,
                        .tokens = b->dev_enc_tokens,
                        .first = b->dev_enc_first,
                        .slots = b->dev_enc_slots};
    T5_TRY(t5_batch_upload_ints(b, b->dev_enc_tokens, b->enc_tokens, b->enc_n_tokens, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_enc_first, b->enc_first, b->enc_n_seqs + 1, err));
    T5_TRY(t5_batch_upload_ints(b, b->dev_enc_slots, b->enc_slots, b->enc_n_seqs, err));
    if (async != NULL) T5_TRY(async->encode_begin(backend, err));
    status = encode_and_project(b, &packed, err);
    if (async != NULL) {
        t5_status end_status = async->encode_end(backend, err);
        if (status == T5_OK) status = end_status;
        for (int32_t i = 0; i < b->enc_n_seqs; i++)
            b->infos[b->enc_slots[i]].is_encoding = true; /* failed or not: it runs */
        b->n_encoding = b->enc_n_seqs;
    }
out:
    return status;
}

t5_status t5_batch_encode(t5_batch *b, t5_error *err)
{
    if (b->enc_n_seqs == 0) return T5_OK;
    T5_ASSERT(b->n_encoding == 0); /* nothing is admitted meanwhile */
    t5_status status = encode_gathered(b, err);
    b->enc_n_seqs = 0;
    b->enc_n_tokens = 0;
    b->enc_len_max = 0;
    return status;
}

t5_status t5_batch_poll_encoder(t5_batch *b, bool waits, t5_error *err)
{
    bool is_done = false;
    if (b->n_encoding == 0) return T5_OK;
    t5_status status = t5_batch_async(b)->encode_poll(b->model->backend, waits, &is_done, err);
    if (status == T5_OK && !is_done) return T5_OK;
    for (int32_t s = 0; s < b->n_slots_max; s++)
        b->infos[s].is_encoding = false;
    b->n_encoding = 0;
    return status;
}

t5_status t5_batch_late_error(t5_batch *b, t5_error *err)
{
    t5_status status = b->late_error.status;
    if (status == T5_OK) return T5_OK;
    T5_FAIL(err, status, "%s", b->late_error.text);
    t5_error_clear(&b->late_error);
    return status;
}

/* ---- step ---- */

/* Rows of a slot that must be computed: the first alone while beams are still the same. */
static int32_t n_rows_in_step(const t5_slot *slot)
{
    bool beams_are_one = slot->mode == T5_SEARCH_BEAM && slot->len == slot->n_prompt;
    return beams_are_one ? 1 : slot->n_rows;
}

/* Positions of a row that are known but not computed; the last token of a full row, or of a score, is not needed. */
static int32_t n_pending(const t5_slot *slot)
{
    bool needs_last = slot->mode != T5_SEARCH_SCORE && slot->len < slot->len_max;
    return slot->len - slot->n_computed - (needs_last ? 0 : 1);
}

static void take_block(t5_batch *b, slot_info *info, int32_t row, int32_t pos)
{
    int32_t *block = &b->self_blocks[row * b->kv.self_stride + pos / T5_KV_BLOCK];
    if (*block >= 0) return;
    T5_ASSERT(info->n_blocks_reserved > 0);
    *block = t5_kv_take(&b->cache);
    info->n_blocks_reserved--;
}

void t5_batch_plan_row(t5_batch *b, int32_t i_slot, int32_t row, int32_t pos, int32_t q_len, t5_step *step)
{
    b->step_rows[step->n_rows++] = (t5_step_row){.slot = i_slot, .row = row, .q0 = step->n_queries, .q_len = q_len};
    for (int32_t i = 0; i < q_len; i++) {
        take_block(b, &b->infos[i_slot], row, pos + i);
        b->q_row[step->n_queries] = row;
        b->q_pos[step->n_queries] = pos + i;
        b->q_slot[step->n_queries] = i_slot;
        step->n_queries++;
    }
}

/* A slot that has something to compute, as far as the host knows. */
static bool is_ready(const t5_batch *b, int32_t i_slot)
{
    const slot_info *info = &b->infos[i_slot];
    const t5_slot *slot = &b->slots[i_slot];
    return info->is_used && !info->is_encoding && slot->phase == T5_SLOT_RUNNING && n_pending(slot) > 0;
}

/* The slot as it will be after the step: whether it ends there the host reads later. */
static void advance_mirror(t5_slot *slot, int32_t q_len)
{
    slot->n_computed += q_len;
    bool chooses = slot->mode != T5_SEARCH_SCORE && slot->n_computed == slot->len;
    if (chooses) slot->len++;
}

/* The slots that choose from one list. */
static void plan_group(t5_batch *b, int32_t shortlist, int32_t *n_spare, t5_step *step)
{
    t5_step_group group = {.shortlist = shortlist, .q0 = step->n_queries, .row0 = step->n_rows};
    for (int32_t s = 0; s < b->n_slots_max; s++) {
        t5_slot *slot = &b->slots[s];
        if (!is_ready(b, s) || slot->shortlist != shortlist) continue;
        int32_t n_rows = n_rows_in_step(slot);
        int32_t q_len = n_pending(slot) < T5_QUERY_LEN_MAX ? n_pending(slot) : T5_QUERY_LEN_MAX;
        int32_t q_len_max = 1 + *n_spare / n_rows;
        if (q_len > q_len_max) q_len = q_len_max;
        *n_spare -= (q_len - 1) * n_rows;
        for (int32_t i = 0; i < n_rows; i++) {
            if (b->row_done[slot->row0 + i]) continue;
            t5_batch_plan_row(b, s, slot->row0 + i, slot->n_computed, q_len, step);
        }
        advance_mirror(slot, q_len);
    }
    group.n_queries = step->n_queries - group.q0;
    group.n_rows = step->n_rows - group.row0;
    if (b->model->n_shortlists > 0 && group.n_rows > 0) b->groups[step->n_groups++] = group;
}

/* The next list above `shortlist` that a slot chooses from, or -1. */
static int32_t next_shortlist(const t5_batch *b, int32_t shortlist)
{
    int32_t next = -1;
    if (b->model->n_shortlists == 0) return next;
    for (int32_t s = 0; s < b->n_slots_max; s++) {
        const int32_t other = b->slots[s].shortlist;
        if (is_ready(b, s) && other > shortlist && (next < 0 || other < next)) next = other;
    }
    return next;
}

/* One query for each row that takes part, and what the limit leaves for those that have several pending; list by list.
 */
static void plan_step(t5_batch *b, t5_step *step)
{
    int32_t n_spare = b->limits.n_rows_max;
    for (int32_t s = 0; s < b->n_slots_max; s++)
        n_spare -= is_ready(b, s) ? n_rows_in_step(&b->slots[s]) : 0;
    b->state.shortlists = b->model->shortlists;
    for (int32_t list = 0; list >= 0; list = next_shortlist(b, list))
        plan_group(b, list, &n_spare, step);
}

t5_status t5_batch_upload_plan(t5_batch *b, t5_error *err)
{
    t5_backend *backend = b->model->backend;
    return backend->ops->upload(backend, b->dev_plan, b->plan, b->plan_bytes, err);
}

/* Fills a step of single queries up to n. */
static void pad_step(t5_batch *b, t5_step *step, int32_t n)
{
    for (int32_t q = step->n_queries; q < n; q++) {
        b->q_row[q] = -1;
        b->q_pos[q] = 0;
        b->q_slot[q] = -1;
        b->step_rows[q] = (t5_step_row){.slot = -1, .row = -1, .q0 = q, .q_len = 1};
    }
    step->n_queries = n;
    step->n_rows = n;
}

/* Fills a step of single queries up to a size that is recorded. False when there is none: it has chunks, or too many
 * rows. */
static bool pad_to_recorded(t5_batch *b, t5_step *step)
{
    const t5_async_ops *async = t5_batch_async(b);
    if (async == NULL || step->n_rows != step->n_queries) return false;
    int32_t n = async->padded_queries(b->model->backend, step->n_queries);
    if (n > b->limits.n_rows_max) return false;
    pad_step(b, step, n);
    return true;
}

/* A step of a size that is recorded; at most two rounds, see step_end. */
static t5_status queue_recorded(t5_batch *b, const t5_step *step, t5_error *err)
{
    const t5_async_ops *async = t5_batch_async(b);
    t5_backend *backend = b->model->backend;
    t5_status status = T5_OK;
    for (bool is_queued = false; !is_queued;) {
        T5_TRY(async->step_begin(backend, step->n_queries, &is_queued, err));
        if (is_queued) break;
        status = t5_model_step(b->model, step, &b->kv, &b->scratch, b->logits, err);
        t5_status end_status = async->step_end(backend, status == T5_OK, &is_queued, err);
        if (status == T5_OK) status = end_status;
        T5_TRY(status);
    }
out:
    return status;
}

static t5_status queue_step(t5_batch *b, t5_step *step, t5_error *err)
{
    bool is_recorded = pad_to_recorded(b, step);
    t5_status status = t5_batch_upload_plan(b, err);
    if (status != T5_OK) return status;
    if (is_recorded) return queue_recorded(b, step, err);
    return t5_model_step(b->model, step, &b->kv, &b->scratch, b->logits, err);
}

t5_status t5_batch_warm_up(t5_batch *b, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_async_ops *async = t5_batch_async(b);
    t5_backend *backend = b->model->backend;
    T5_ASSERT(b->n_running == 0);
    if (async == NULL) return T5_OK;
    for (int32_t n = 1; n <= WARM_UP_ROWS_MAX; n++) {
        n = async->padded_queries(backend, n);
        if (n > b->limits.n_rows_max) break;
        t5_step step = b->dev_step;
        pad_step(b, &step, n);
        T5_TRY(t5_batch_upload_plan(b, err));
        T5_TRY(queue_recorded(b, &step, err)); /* runs */
        T5_TRY(queue_recorded(b, &step, err)); /* is recorded */
    }
    T5_TRY(backend->ops->sync(backend, err));
out:
    return status;
}

/* ---- outcome ---- */

/* Slots that can be in use are below this. */
static int32_t n_slots_in_use(const t5_batch *b)
{
    int32_t n = b->n_slots_max;
    while (n > 0 && !b->infos[n - 1].is_used)
        n--;
    return n;
}

/* Asks for the outcome of the step that was queued last. */
static t5_status queue_outcome(t5_batch *b, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_async_ops *async = t5_batch_async(b);
    t5_backend *backend = b->model->backend;
    t5_status (*fetch)(t5_backend *, void *, const void *, size_t, t5_error *) =
        async != NULL ? async->fetch : backend->ops->download;
    step_outcome *outcome = &b->outcomes[b->n_steps % 2];
    b->n_steps++;
    if (outcome->n_align_parts > 0) {
        const align_part *last = &outcome->align_parts[outcome->n_align_parts - 1];
        T5_TRY(fetch(backend, outcome->align_weights, b->align_weights,
                     (size_t)(last->q0 + last->q_len) * (size_t)b->weights_stride * sizeof(float), err));
    }
    T5_TRY(fetch(backend, outcome->slots, b->state.slots, (size_t)n_slots_in_use(b) * sizeof *b->slots, err));
    T5_TRY(
        fetch(backend, outcome->row_done, b->state.row_done, (size_t)b->limits.n_rows_max * sizeof *b->row_done, err));
    if (async != NULL) T5_TRY(async->mark(backend, (int32_t)((b->n_steps - 1) % 2), err));
out:
    return status;
}

static t5_status read_results(t5_batch *b, const t5_slot *slot, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_async_ops *async = t5_batch_async(b);
    t5_backend *backend = b->model->backend;
    t5_status (*read)(t5_backend *, void *, const void *, size_t, t5_error *) =
        async != NULL ? async->read : backend->ops->download;
    size_t row = (size_t)slot->row0;
    size_t n = (size_t)slot->n_finished;
    size_t at = row * (size_t)b->state.stride;
    size_t n_cells = n * (size_t)b->state.stride;
    T5_TRY(read(backend, b->fin_tokens + at, b->state.fin_tokens + at, n_cells * sizeof(int32_t), err));
    T5_TRY(read(backend, b->fin_logprobs + at, b->state.fin_logprobs + at, n_cells * sizeof(float), err));
    T5_TRY(read(backend, b->fin_scores + row, b->state.fin_scores + row, n * sizeof(float), err));
    T5_TRY(read(backend, b->fin_lens + row, b->state.fin_lens + row, n * sizeof(int32_t), err));
out:
    return status;
}

/* Takes over what became certain in the step whose outcome `read` is. */
static void read_stable(slot_info *info, t5_slot *mirror, const t5_slot *read)
{
    info->n_fresh = read->n_stable - mirror->n_stable;
    T5_ASSERT(info->n_fresh >= 0 && info->n_fresh <= T5_STABLE_MAX);
    mirror->n_stable = read->n_stable;
    memcpy(mirror->stable, read->stable, sizeof mirror->stable);
}

/* Reads the outcome of the oldest step that was not read yet: rows that ended, and the results of slots that are done.
 */
static t5_status read_outcome(t5_batch *b, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_async_ops *async = t5_batch_async(b);
    const step_outcome *outcome = &b->outcomes[b->n_steps_read % 2];
    if (async != NULL) T5_TRY(async->wait(b->model->backend, (int32_t)(b->n_steps_read % 2), err));
    b->n_steps_read++;
    for (int32_t s = 0; s < b->n_slots_max; s++) {
        slot_info *info = &b->infos[s];
        t5_slot *slot = &b->slots[s];
        if (!info->is_used || slot->phase != T5_SLOT_RUNNING || info->born >= b->n_steps_read) continue;
        memcpy(b->row_done + slot->row0, outcome->row_done + slot->row0, (size_t)slot->n_rows * sizeof *b->row_done);
        if (slot->wants_stream) read_stable(info, slot, &outcome->slots[s]);
        if (outcome->slots[s].phase != T5_SLOT_DONE) continue;
        info->n_fresh = 0; /* the result has them all */
        slot->phase = T5_SLOT_DONE;
        slot->n_finished = outcome->slots[s].n_finished;
        slot->is_broken = outcome->slots[s].is_broken;
        b->n_nonfinite += slot->is_broken;
        T5_TRY(read_results(b, slot, err));
        if (info->n_align_results > 0 && !slot->is_broken) T5_TRY(t5_batch_start_alignment(b, s, err));
    }
    t5_batch_read_alignment(b, outcome);
out:
    return status;
}

t5_status t5_batch_step(t5_batch *b, t5_error *err)
{
    T5_ASSERT(b->enc_n_seqs == 0); /* admitted but not encoded */
    t5_status status = T5_OK;
    t5_step step = b->dev_step;
    int64_t n_lag_max = t5_batch_async(b) != NULL ? 1 : 0;
    bool aligns = false;
    T5_TRY(t5_batch_late_error(b, err));
    T5_TRY(t5_batch_poll_encoder(b, false, err));
    plan_step(b, &step);
    if (step.n_queries == 0 && b->n_aligning == 0 && b->n_steps == b->n_steps_read) {
        T5_TRY(t5_batch_poll_encoder(b, true, err)); /* nothing to do but to wait for the encoder */
        plan_step(b, &step);
    }
    if (step.n_queries > 0) T5_TRY(queue_step(b, &step, err));
    T5_TRY(t5_batch_queue_alignment(b, &b->outcomes[b->n_steps % 2], &aligns, err));
    if (step.n_queries > 0 || aligns) {
        T5_TRY(queue_outcome(b, err));
    } else {
        n_lag_max = 0;
    }
    while (b->n_steps - b->n_steps_read > n_lag_max)
        T5_TRY(read_outcome(b, err));
out:
    return status;
}
