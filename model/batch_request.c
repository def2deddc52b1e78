/* model/batch_request.c: a sequence's way into the running batch and out of it: check, admit, results, release. */
#include "model/batch_internal.h"

#include <math.h>
#include <string.h>

static int32_t n_rows_of(const t5_batch_request *r)
{
    if (r->is_score) return 1;
    return r->decoding->do_sample ? r->decoding->num_return_sequences : r->decoding->num_beams;
}

/* Tokens in a row at most, start token included. */
static int32_t len_max_of(const t5_batch_request *r)
{
    return 1 + r->n_prompt_ids + (r->is_score ? 0 : r->decoding->max_new_tokens);
}

/* The last token of a row is never computed. */
static int32_t n_blocks_of(const t5_batch_request *r)
{
    return t5_kv_blocks_for(r->n_input_ids) + n_rows_of(r) * t5_kv_blocks_for(len_max_of(r) - 1);
}

int32_t t5_batch_rows_fair(const t5_batch *b, int32_t n_input_ids, int32_t n_prompt_ids, int32_t n_new_tokens)
{
    const int32_t n_blocks = b->cache.n_blocks / 2 - t5_kv_blocks_for(n_input_ids);
    const int32_t n_blocks_of_row = t5_kv_blocks_for(n_prompt_ids + n_new_tokens);
    const int32_t n = n_blocks > 0 && n_blocks_of_row > 0 ? n_blocks / n_blocks_of_row : 0;
    const int32_t n_rows = b->limits.n_rows_max / 2;
    return n < n_rows ? n : n_rows;
}

static t5_status check_ids(const char *what, const int32_t *ids, int32_t n, int32_t vocab_size, t5_error *err)
{
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= vocab_size) {
            return T5_FAIL(err, T5_ERR_ARG, "%s: id %d at index %d is outside the vocabulary of %d", what, ids[i], i,
                           vocab_size);
        }
    }
    return T5_OK;
}

static t5_status check_shortlist(const t5_model *m, const t5_batch_request *r, t5_error *err)
{
    if (r->shortlist == 0) return T5_OK;
    if (r->shortlist < 0 || r->shortlist > m->n_shortlists)
        return T5_FAIL(err, T5_ERR_ARG, "shortlist %d, there are %d", r->shortlist, m->n_shortlists);
    const int32_t n_words = m->shortlists[r->shortlist - 1].n, n_beams = r->decoding->num_beams;
    if (n_beams == 1 || 2 * n_beams <= n_words) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "num_beams: %d need %d words to choose from, the shortlist has %d", n_beams,
                   2 * n_beams, n_words);
}

t5_status t5_batch_check(const t5_batch *b, const t5_batch_request *r, t5_error *err)
{
    int32_t vocab_size = b->model->hp.vocab_size;
    const char *prompt_name = r->is_score ? "target" : "decoder_input_ids";
    if (r->n_input_ids < 1) return T5_FAIL(err, T5_ERR_ARG, "input_ids: empty, at least the end of sequence is needed");
    if (r->n_input_ids > b->limits.src_len_max) {
        return T5_FAIL(err, T5_ERR_ARG, "input of %d tokens exceeds the limit of %d", r->n_input_ids,
                       b->limits.src_len_max);
    }
    if (r->is_score && r->n_prompt_ids < 1) return T5_FAIL(err, T5_ERR_ARG, "target: empty, nothing to score");
    if (r->n_prompt_ids >= b->limits.tgt_len_max) {
        return T5_FAIL(err, T5_ERR_ARG, "%s of %d tokens exceeds the limit of %d", prompt_name, r->n_prompt_ids,
                       b->limits.tgt_len_max - 1);
    }
    t5_status status = check_ids("input_ids", r->input_ids, r->n_input_ids, vocab_size, err);
    if (status != T5_OK) return status;
    status = check_ids(prompt_name, r->prompt_ids, r->n_prompt_ids, vocab_size, err);
    if (status != T5_OK) return status;
    if (!r->is_score) {
        status = t5_decoding_check(r->decoding, vocab_size, err);
        if (status == T5_OK) status = check_shortlist(b->model, r, err);
        if (status == T5_OK)
            status = t5_decoding_check_room("max_new_tokens", r->decoding->max_new_tokens, r->n_prompt_ids,
                                            b->limits.tgt_len_max, err);
        if (status != T5_OK) return status;
    }
    if (r->align_begin < 0 || r->align_end < 0 || r->align_begin > r->n_input_ids || r->align_end > r->n_input_ids) {
        return T5_FAIL(err, T5_ERR_ARG, "alignment to the source tokens %d to %d, there are %d", r->align_begin,
                       r->align_end, r->n_input_ids);
    }
    if (n_blocks_of(r) > b->cache.n_blocks) {
        return T5_FAIL(
            err, T5_ERR_ARG,
            "%d beams or samples of up to %d tokens need %d positions of the key-value cache, the server has "
            "%d: ask for fewer of them, for fewer tokens, or for a shorter text",
            n_rows_of(r), len_max_of(r) - 1, n_blocks_of(r) * T5_KV_BLOCK, b->cache.n_blocks * T5_KV_BLOCK);
    }
    return T5_OK;
}

static int32_t find_free_slot(const t5_batch *b)
{
    for (int32_t i = 0; i < b->n_slots_max; i++) {
        if (!b->infos[i].is_used) return i;
    }
    return -1;
}

/* First run of n free rows, or -1. */
static int32_t find_free_rows(const t5_batch *b, int32_t n)
{
    int32_t n_free = 0;
    for (int32_t i = 0; i < b->limits.n_rows_max; i++) {
        n_free = b->row_used[i] ? 0 : n_free + 1;
        if (n_free == n) return i - n + 1;
    }
    return -1;
}

static void fill_slot(const t5_batch *b, const t5_batch_request *r, int32_t row0, t5_slot *out)
{
    *out = (t5_slot){
        .mode = T5_SEARCH_SCORE,
        .row0 = row0,
        .n_rows = n_rows_of(r),
        .n_prompt = 1 + r->n_prompt_ids,
        .len_max = len_max_of(r),
        .eos_id = b->model->hp.eos_id,
        .vocab_live = r->vocab_live > 0 ? r->vocab_live : b->model->hp.vocab_size,
        .wants_logprobs = r->wants_logprobs,
        .wants_stream = r->wants_stream && !r->is_score,
        .src_len = r->n_input_ids,
        .len = 1 + r->n_prompt_ids,
        .phase = T5_SLOT_RUNNING,
        .n_stable = 1 + r->n_prompt_ids,
    };
    if (r->is_score) return;
    const t5_decoding *d = r->decoding;
    out->mode = d->do_sample ? T5_SEARCH_SAMPLE : d->num_beams > 1 ? T5_SEARCH_BEAM : T5_SEARCH_GREEDY;
    out->shortlist = r->shortlist;
    out->min_new_tokens = d->min_new_tokens;
    out->early_stopping = d->early_stopping;
    out->no_repeat_ngram_size = d->no_repeat_ngram_size;
    out->top_k = d->top_k;
    out->n_suppress = d->n_suppress;
    memcpy(out->suppress_tokens, d->suppress_tokens, sizeof out->suppress_tokens);
    out->length_penalty = (float)d->length_penalty;
    out->repetition_penalty = (float)d->repetition_penalty;
    out->temperature = (float)d->temperature;
    out->top_p = (float)d->top_p;
    out->seed = d->seed;
}

/* Writes the start of a slot's rows to backend memory. */
static t5_status upload_rows(t5_batch *b, int32_t i_slot, const t5_batch_request *r, t5_error *err)
{
    const t5_slot *slot = &b->slots[i_slot];
    t5_backend *backend = b->model->backend;
    size_t n = (size_t)slot->n_prompt;
    int32_t tokens[T5_SEQ_LEN_MAX];
    float zeros[T5_SEQ_LEN_MAX] = {0};
    uint8_t ancestors[T5_SEQ_LEN_MAX];
    t5_status status = T5_OK;
    tokens[0] = b->model->hp.start_id;
    if (r->n_prompt_ids > 0) memcpy(tokens + 1, r->prompt_ids, (n - 1) * sizeof *tokens);
    for (int32_t i = 0; i < slot->n_rows; i++) {
        size_t row = (size_t)(slot->row0 + i);
        size_t at = row * (size_t)b->state.stride;
        bool is_own = slot->mode == T5_SEARCH_SAMPLE; /* beams start as copies of the first */
        memset(ancestors, is_own ? i : 0, n);
        T5_TRY(backend->ops->upload(backend, b->state.tokens + at, tokens, n * sizeof *tokens, err));
        T5_TRY(backend->ops->upload(backend, b->state.logprobs + at, zeros, n * sizeof *zeros, err));
        T5_TRY(backend->ops->upload(backend, b->state.ancestors + at, ancestors, n, err));
        T5_TRY(backend->ops->upload(backend, b->state.scores + row, zeros, sizeof *zeros, err));
        b->row_done[row] = 0;
        T5_TRY(backend->ops->upload(backend, b->state.row_done + row, &b->row_done[row], sizeof *b->row_done, err));
    }
    size_t cross_at = (size_t)i_slot * (size_t)b->kv.cross_stride;
    T5_TRY(t5_batch_upload_ints(b, (int32_t *)b->dev_cross_blocks + cross_at, b->cross_blocks + cross_at,
                                b->kv.cross_stride, err));
    T5_TRY(backend->ops->upload(backend, b->state.slots + i_slot, slot, sizeof *slot, err));
out:
    return status;
}

static void fill_info(const t5_batch *b, const t5_batch_request *r, slot_info *out)
{
    *out = (slot_info){.is_used = true, .n_blocks_reserved = n_blocks_of(r), .born = b->n_steps};
    if (!r->wants_alignment) return;
    const bool ends_with_eos = r->input_ids[r->n_input_ids - 1] == b->model->hp.eos_id;
    out->n_align_results = r->is_score ? 1 : r->decoding->num_return_sequences;
    out->align_begin = r->align_begin;
    out->align_end = r->align_end > 0 ? r->align_end : r->n_input_ids - ends_with_eos;
}

bool t5_batch_fits(const t5_batch *b, const t5_batch_request *r)
{
    return b->n_encoding == 0 && b->enc_n_tokens + r->n_input_ids <= b->limits.enc_tokens_max &&
           n_blocks_of(r) <= b->cache.n_free - b->cache.n_reserved && find_free_slot(b) >= 0 &&
           find_free_rows(b, n_rows_of(r)) >= 0;
}

t5_status t5_batch_admit(t5_batch *b, const t5_batch_request *r, int32_t *out_slot, t5_error *err)
{
    t5_status status = t5_batch_late_error(b, err);
    if (status != T5_OK) return status;
    if (!t5_batch_fits(b, r)) return T5_FAIL(err, T5_ERR_BUSY, "the batch is full");
    int32_t n_rows = n_rows_of(r);
    int32_t i_slot = find_free_slot(b);
    int32_t row0 = find_free_rows(b, n_rows);
    const bool is_reserved = t5_kv_reserve(&b->cache, n_blocks_of(r));
    T5_ASSERT(i_slot >= 0 && row0 >= 0 && is_reserved);
    slot_info *info = &b->infos[i_slot];
    fill_info(b, r, info);
    fill_slot(b, r, row0, &b->slots[i_slot]);
    for (int32_t i = 0; i < n_rows; i++)
        b->row_used[row0 + i] = true;
    b->n_running++;
    b->n_rows_running += n_rows;
    for (int32_t i = 0; i < t5_kv_blocks_for(r->n_input_ids); i++) {
        b->cross_blocks[i_slot * b->kv.cross_stride + i] = t5_kv_take(&b->cache);
        info->n_blocks_reserved--;
    }
    memcpy(b->enc_tokens + b->enc_n_tokens, r->input_ids, (size_t)r->n_input_ids * sizeof *r->input_ids);
    b->enc_first[b->enc_n_seqs] = b->enc_n_tokens;
    b->enc_slots[b->enc_n_seqs++] = i_slot;
    b->enc_n_tokens += r->n_input_ids;
    b->enc_first[b->enc_n_seqs] = b->enc_n_tokens;
    if (r->n_input_ids > b->enc_len_max) b->enc_len_max = r->n_input_ids;
    status = upload_rows(b, i_slot, r, err);
    if (status != T5_OK) {
        t5_batch_release(b, i_slot);
        return status;
    }
    *out_slot = i_slot;
    return T5_OK;
}

/* ---- results ---- */

int32_t t5_batch_take_stable(t5_batch *b, int32_t slot, const int32_t **out_ids)
{
    slot_info *info = &b->infos[slot];
    T5_ASSERT(info->is_used);
    int32_t n = info->n_fresh;
    info->n_fresh = 0;
    *out_ids = b->slots[slot].stable;
    return n;
}

/* Steps that are queued already are counted in the mirror's len. */
t5_status t5_batch_cut(t5_batch *b, int32_t slot, t5_error *err)
{
    t5_slot *s = &b->slots[slot];
    T5_ASSERT(b->infos[slot].is_used && s->mode != T5_SEARCH_SCORE);
    if (s->phase == T5_SLOT_DONE || s->len + 1 >= s->len_max) return T5_OK;
    s->len_max = s->len + 1;
    return t5_batch_upload_ints(b, &b->state.slots[slot].len_max, &s->len_max, 1, err);
}

bool t5_batch_is_done(const t5_batch *b, int32_t slot)
{
    T5_ASSERT(b->infos[slot].is_used);
    return b->slots[slot].phase == T5_SLOT_DONE && !b->infos[slot].is_aligning;
}

t5_status t5_batch_outcome(const t5_batch *b, int32_t slot, t5_error *err)
{
    T5_ASSERT(t5_batch_is_done(b, slot));
    if (!b->slots[slot].is_broken) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT,
                   "the model gave scores that are not finite: its weights are damaged, or leave "
                   "the range of the compute type (%s)",
                   b->model->backend->device);
}

int64_t t5_batch_n_nonfinite(const t5_batch *b)
{
    return b->n_nonfinite;
}

int32_t t5_batch_n_results(const t5_batch *b, int32_t slot)
{
    T5_ASSERT(t5_batch_is_done(b, slot));
    return b->slots[slot].n_finished;
}

void t5_batch_result_get(const t5_batch *b, int32_t slot, int32_t i, t5_batch_result *out)
{
    T5_ASSERT(i >= 0 && i < t5_batch_n_results(b, slot));
    const t5_slot *s = &b->slots[slot];
    size_t row = (size_t)(s->row0 + i);
    size_t at = row * (size_t)b->state.stride;
    int32_t len = b->fin_lens[row];
    out->n_ids = len - 1; /* the start token is not shown */
    out->ids = b->fin_tokens + at + 1;
    out->logprobs = b->fin_logprobs + at + 1;
    out->alignment = i < b->infos[slot].n_align_results ? b->fin_alignment + at + 1 : NULL;
    out->score = b->fin_scores[row] == -INFINITY ? T5_SCORE_NONE : b->fin_scores[row];
    out->is_truncated = s->mode != T5_SEARCH_SCORE && b->fin_tokens[at + (size_t)len - 1] != s->eos_id;
}

/* Takes a slot that was admitted but not encoded out of the pass that is being gathered. */
static void forget_gathered(t5_batch *b, int32_t slot)
{
    int32_t n_seqs = 0;
    int32_t n_tokens = 0;
    for (int32_t i = 0; i < b->enc_n_seqs; i++) {
        int32_t first = b->enc_first[i];
        int32_t len = b->enc_first[i + 1] - first;
        if (b->enc_slots[i] == slot) continue;
        memmove(b->enc_tokens + n_tokens, b->enc_tokens + first, (size_t)len * sizeof *b->enc_tokens);
        b->enc_slots[n_seqs] = b->enc_slots[i];
        b->enc_first[n_seqs++] = n_tokens;
        n_tokens += len;
    }
    b->enc_first[n_seqs] = n_tokens;
    b->enc_n_seqs = n_seqs;
    b->enc_n_tokens = n_tokens;
}

static void give_blocks(t5_batch *b, int32_t *blocks, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (blocks[i] >= 0) t5_kv_give(&b->cache, blocks[i]);
        blocks[i] = -1;
    }
}

void t5_batch_release(t5_batch *b, int32_t slot)
{
    slot_info *info = &b->infos[slot];
    T5_ASSERT(info->is_used);
    const t5_slot *s = &b->slots[slot];
    if (info->is_encoding) t5_batch_poll_encoder(b, true, &b->late_error); /* its pass still writes to its blocks */
    forget_gathered(b, slot);
    give_blocks(b, b->cross_blocks + slot * b->kv.cross_stride, b->kv.cross_stride);
    for (int32_t i = 0; i < s->n_rows; i++) {
        give_blocks(b, b->self_blocks + (s->row0 + i) * b->kv.self_stride, b->kv.self_stride);
        b->row_used[s->row0 + i] = false;
    }
    t5_kv_unreserve(&b->cache, info->n_blocks_reserved);
    b->n_running--;
    b->n_rows_running -= s->n_rows;
    b->n_aligning -= info->is_aligning;
    *info = (slot_info){0};
}

int32_t t5_batch_n_running(const t5_batch *b)
{
    return b->n_running;
}

int32_t t5_batch_n_rows_running(const t5_batch *b)
{
    return b->n_rows_running;
}
