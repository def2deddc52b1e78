/* model/batch.c: see batch.h. The host keeps what it needs to plan a step (which rows belong to whom, how far each slot
 * is) and mirrors of the few things it reads back; everything else lives in backend memory.
 *
 * A row is computed for positions n_computed .. len - 1 of its tokens. Normally that is the one token that the last
 * step chose; while a prompt is read or a target is scored it is up to T5_QUERY_LEN_MAX at a time. */
#include "model/batch.h"
#include "base/assert.h"
#include "model/kv_cache.h"

#include <stdlib.h>
#include <string.h>

/* What the host knows of a slot besides the mirror of its t5_slot. */
typedef struct {
    bool is_used;
    int32_t n_blocks_reserved; /* still to be taken */
} slot_info;

struct t5_batch {
    t5_model *model;
    t5_batch_limits limits;
    int32_t n_slots_max;

    t5_kv_cache cache;
    t5_kv_view kv;
    int32_t *self_blocks;  /* host mirror [n_rows_max][self_stride], -1: none */
    int32_t *cross_blocks; /* host mirror [n_slots_max][cross_stride] */
    void *dev_self_blocks, *dev_cross_blocks;

    t5_search_state state; /* [dev] arrays */
    t5_slot *slots;        /* host mirror */
    slot_info *infos;
    bool *row_used;
    int32_t *row_done;   /* host mirror */
    int32_t *fin_tokens; /* host copy of a done slot's results [n_rows_max][stride] */
    float *fin_logprobs;
    float *fin_scores;
    int32_t *fin_lens;
    int32_t n_running, n_rows_running;

    /* The encoder pass that is being gathered. */
    int32_t *enc_tokens, *enc_first, *enc_slots;
    int32_t enc_n_seqs, enc_n_tokens, enc_len_max;
    void *dev_enc_tokens, *dev_enc_first, *dev_enc_slots;

    /* The step that is being planned. */
    int32_t *q_row, *q_pos, *q_slot;
    t5_step_row *step_rows;
    void *dev_q_row, *dev_q_pos, *dev_q_slot, *dev_step_rows;

    t5_scratch scratch;
    float *logits; /* [dev] [n_rows_max][vocab_size] */
    size_t dev_bytes;
};

/* ---- create and destroy ---- */

/* Allocator of the create phase: the first failure is remembered in `err`, later calls do nothing. */
typedef struct {
    t5_batch *b;
    t5_error *err;
} allocator;

static void *dev_alloc(void *ctx, size_t n_bytes)
{
    allocator *a = ctx;
    void *p = NULL;
    if (a->err->status != T5_OK) return NULL;
    t5_backend *backend = a->b->model->backend;
    if (backend->ops->alloc(backend, n_bytes, &p, a->err) != T5_OK) return NULL;
    a->b->dev_bytes += n_bytes;
    return p;
}

static void dev_release(void *ctx, void *p)
{
    t5_backend *backend = ctx;
    backend->ops->release(backend, p);
}

static void *host_alloc(allocator *a, int32_t n, size_t n_bytes)
{
    if (a->err->status != T5_OK) return NULL;
    void *p = calloc((size_t)n, n_bytes);
    if (p == NULL) T5_FAIL(a->err, T5_ERR_NOMEM, "batch: %d x %zu bytes", n, n_bytes);
    return p;
}

static void create_host_arrays(t5_batch *b, allocator *a)
{
    int32_t n_rows = b->limits.n_rows_max;
    int32_t n_cells = n_rows * b->limits.tgt_len_max;
    b->self_blocks = host_alloc(a, n_rows * b->kv.self_stride, sizeof(int32_t));
    b->cross_blocks = host_alloc(a, b->n_slots_max * b->kv.cross_stride, sizeof(int32_t));
    b->slots = host_alloc(a, b->n_slots_max, sizeof *b->slots);
    b->infos = host_alloc(a, b->n_slots_max, sizeof *b->infos);
    b->row_used = host_alloc(a, n_rows, sizeof *b->row_used);
    b->row_done = host_alloc(a, n_rows, sizeof *b->row_done);
    b->fin_tokens = host_alloc(a, n_cells, sizeof *b->fin_tokens);
    b->fin_logprobs = host_alloc(a, n_cells, sizeof *b->fin_logprobs);
    b->fin_scores = host_alloc(a, n_rows, sizeof *b->fin_scores);
    b->fin_lens = host_alloc(a, n_rows, sizeof *b->fin_lens);
    b->enc_tokens = host_alloc(a, b->limits.enc_tokens_max, sizeof(int32_t));
    b->enc_first = host_alloc(a, b->n_slots_max + 1, sizeof(int32_t));
    b->enc_slots = host_alloc(a, b->n_slots_max, sizeof(int32_t));
    b->q_row = host_alloc(a, n_rows, sizeof(int32_t));
    b->q_pos = host_alloc(a, n_rows, sizeof(int32_t));
    b->q_slot = host_alloc(a, n_rows, sizeof(int32_t));
    b->step_rows = host_alloc(a, n_rows, sizeof *b->step_rows);
}

static void create_dev_arrays(t5_batch *b, allocator *a)
{
    const t5_hparams *hp = &b->model->hp;
    size_t n_rows = (size_t)b->limits.n_rows_max;
    size_t n_slots = (size_t)b->n_slots_max;
    size_t act_bytes = t5_dtype_bytes(b->model->backend->act_dtype);
    size_t inner = (size_t)hp->n_heads * (size_t)hp->d_kv;
    int32_t n_scratch =
        b->limits.enc_tokens_max > b->limits.n_rows_max ? b->limits.enc_tokens_max : b->limits.n_rows_max;
    size_t n = (size_t)n_scratch;

    b->kv.block_bytes = (size_t)hp->n_dec_layers * 2 * T5_KV_BLOCK * inner * act_bytes;
    b->kv.pool = dev_alloc(a, (size_t)b->cache.n_blocks * b->kv.block_bytes);
    b->dev_self_blocks = dev_alloc(a, n_rows * (size_t)b->kv.self_stride * sizeof(int32_t));
    b->dev_cross_blocks = dev_alloc(a, n_slots * (size_t)b->kv.cross_stride * sizeof(int32_t));
    b->kv.self_blocks = b->dev_self_blocks;
    b->kv.cross_blocks = b->dev_cross_blocks;
    b->state = (t5_search_state){
        .n_slots_max = b->n_slots_max, .n_rows_max = b->limits.n_rows_max, .stride = b->limits.tgt_len_max};
    t5_search_state_alloc(&b->state, dev_alloc, a);
    b->dev_enc_tokens = dev_alloc(a, (size_t)b->limits.enc_tokens_max * sizeof(int32_t));
    b->dev_enc_first = dev_alloc(a, (n_slots + 1) * sizeof(int32_t));
    b->dev_enc_slots = dev_alloc(a, n_slots * sizeof(int32_t));
    b->dev_q_row = dev_alloc(a, n_rows * sizeof(int32_t));
    b->dev_q_pos = dev_alloc(a, n_rows * sizeof(int32_t));
    b->dev_q_slot = dev_alloc(a, n_rows * sizeof(int32_t));
    b->dev_step_rows = dev_alloc(a, n_rows * sizeof(t5_step_row));
    b->scratch.n_rows_max = n_scratch;
    b->scratch.x = dev_alloc(a, n * (size_t)hp->d_model * sizeof(float));
    b->scratch.qkv = dev_alloc(a, n * 3 * inner * act_bytes);
    b->scratch.ctx = dev_alloc(a, n * inner * act_bytes);
    b->scratch.ffn = dev_alloc(a, n * (size_t)hp->d_ff * act_bytes);
    b->scratch.enc_out = dev_alloc(a, n * (size_t)hp->d_model * act_bytes);
    b->logits = dev_alloc(a, n_rows * (size_t)hp->vocab_size * sizeof(float));
}

/* Positions in the cache when the limits do not say: 256 for each row, and room for one long source with eight long
 * beams. */
static int32_t kv_tokens_default(const t5_batch_limits *l)
{
    int32_t typical = l->n_rows_max * 256;
    int32_t longest = l->src_len_max + 8 * l->tgt_len_max;
    return typical > longest ? typical : longest;
}

t5_status t5_batch_create(t5_model *model, const t5_batch_limits *limits, t5_batch **out, t5_error *err)
{
    T5_ASSERT(limits->n_rows_max >= T5_BEAMS_MAX && limits->enc_tokens_max >= limits->src_len_max);
    T5_ASSERT(limits->src_len_max <= model->src_len_max && limits->tgt_len_max <= model->tgt_len_max);
    t5_status status = T5_OK;
    t5_batch *b = calloc(1, sizeof *b);
    if (b == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "batch: %zu bytes", sizeof *b);
    b->model = model;
    b->limits = *limits;
    if (b->limits.kv_tokens == 0) b->limits.kv_tokens = kv_tokens_default(limits);
    b->n_slots_max = limits->n_rows_max;
    b->kv.n_layers = model->hp.n_dec_layers;
    b->kv.n_heads = model->hp.n_heads;
    b->kv.d_kv = model->hp.d_kv;
    b->kv.self_stride = t5_kv_blocks_for(limits->tgt_len_max);
    b->kv.cross_stride = t5_kv_blocks_for(limits->src_len_max);
    T5_TRY(t5_kv_cache_init(&b->cache, t5_kv_blocks_for(b->limits.kv_tokens), err));
    allocator a = {b, err};
    create_host_arrays(b, &a);
    create_dev_arrays(b, &a);
    T5_TRY(err->status);
    memset(b->self_blocks, 0xff, (size_t)(limits->n_rows_max * b->kv.self_stride) * sizeof *b->self_blocks);
    memset(b->cross_blocks, 0xff, (size_t)(b->n_slots_max * b->kv.cross_stride) * sizeof *b->cross_blocks);
    *out = b;
    b = NULL;
out:
    t5_batch_destroy(b);
    return status;
}

void t5_batch_destroy(t5_batch *b)
{
    if (b == NULL) return;
    t5_backend *backend = b->model->backend;
    void *dev[] = {b->kv.pool,       b->dev_self_blocks, b->dev_cross_blocks, b->dev_enc_tokens,
                   b->dev_enc_first, b->dev_enc_slots,   b->dev_q_row,        b->dev_q_pos,
                   b->dev_q_slot,    b->dev_step_rows,   b->scratch.x,        b->scratch.qkv,
                   b->scratch.ctx,   b->scratch.ffn,     b->scratch.enc_out,  b->logits};
    void *host[] = {b->self_blocks, b->cross_blocks, b->slots,      b->infos,    b->row_used,   b->row_done,
                    b->fin_tokens,  b->fin_logprobs, b->fin_scores, b->fin_lens, b->enc_tokens, b->enc_first,
                    b->enc_slots,   b->q_row,        b->q_pos,      b->q_slot,   b->step_rows};
    for (size_t i = 0; i < T5_COUNT(dev); i++)
        backend->ops->release(backend, dev[i]);
    t5_search_state_free(&b->state, dev_release, backend);
    for (size_t i = 0; i < T5_COUNT(host); i++)
        free(host[i]);
    t5_kv_cache_deinit(&b->cache);
    free(b);
}

/* ---- requests ---- */

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
        if (status != T5_OK) return status;
    }
    if (len_max_of(r) > b->limits.tgt_len_max) {
        return T5_FAIL(err, T5_ERR_ARG, "max_new_tokens: %d, with a prompt of %d tokens at most %d are possible",
                       r->decoding->max_new_tokens, r->n_prompt_ids, b->limits.tgt_len_max - 1 - r->n_prompt_ids);
    }
    if (n_blocks_of(r) > b->cache.n_blocks) {
        return T5_FAIL(err, T5_ERR_ARG, "needs %d positions of the KV cache, it has %d", n_blocks_of(r) * T5_KV_BLOCK,
                       b->cache.n_blocks * T5_KV_BLOCK);
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
        .src_len = r->n_input_ids,
        .len = 1 + r->n_prompt_ids,
        .phase = T5_SLOT_RUNNING,
    };
    if (r->is_score) return;
    const t5_decoding *d = r->decoding;
    out->mode = d->do_sample ? T5_SEARCH_SAMPLE : d->num_beams > 1 ? T5_SEARCH_BEAM : T5_SEARCH_GREEDY;
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
    T5_TRY(backend->ops->upload(backend, b->state.slots + i_slot, slot, sizeof *slot, err));
out:
    return status;
}

t5_status t5_batch_admit(t5_batch *b, const t5_batch_request *r, int32_t *out_slot, t5_error *err)
{
    int32_t n_rows = n_rows_of(r);
    int32_t i_slot = find_free_slot(b);
    int32_t row0 = find_free_rows(b, n_rows);
    if (i_slot < 0 || row0 < 0 || b->enc_n_tokens + r->n_input_ids > b->limits.enc_tokens_max ||
        !t5_kv_reserve(&b->cache, n_blocks_of(r))) {
        return T5_FAIL(err, T5_ERR_BUSY, "the batch is full");
    }
    slot_info *info = &b->infos[i_slot];
    *info = (slot_info){.is_used = true, .n_blocks_reserved = n_blocks_of(r)};
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
    t5_status status = upload_rows(b, i_slot, r, err);
    if (status != T5_OK) {
        t5_batch_release(b, i_slot);
        return status;
    }
    *out_slot = i_slot;
    return T5_OK;
}

/* ---- encode ---- */

static t5_status upload_ints(t5_batch *b, void *dst, const int32_t *src, int32_t n, t5_error *err)
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
    T5_TRY(upload_ints(b, b->dev_enc_tokens, b->enc_tokens, b->enc_n_tokens, err));
    T5_TRY(upload_ints(b, b->dev_enc_first, b->enc_first, b->enc_n_seqs + 1, err));
    T5_TRY(upload_ints(b, b->dev_enc_slots, b->enc_slots, b->enc_n_seqs, err));
    T5_TRY(upload_ints(b, b->dev_cross_blocks, b->cross_blocks, b->n_slots_max * b->kv.cross_stride, err));
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

/* Adds q_len queries of one row. */
static void plan_row(t5_batch *b, int32_t i_slot, int32_t row, int32_t q_len, t5_step *step)
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
            if (!b->row_done[slot->row0 + i]) plan_row(b, s, slot->row0 + i, q_len, step);
        }
    }
}

static t5_status upload_step(t5_batch *b, const t5_step *step, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    T5_TRY(upload_ints(b, b->dev_q_row, b->q_row, step->n_queries, err));
    T5_TRY(upload_ints(b, b->dev_q_pos, b->q_pos, step->n_queries, err));
    T5_TRY(upload_ints(b, b->dev_q_slot, b->q_slot, step->n_queries, err));
    T5_TRY(backend->ops->upload(backend, b->dev_step_rows, b->step_rows, (size_t)step->n_rows * sizeof *b->step_rows,
                                err));
    T5_TRY(upload_ints(b, b->dev_self_blocks, b->self_blocks, b->limits.n_rows_max * b->kv.self_stride, err));
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
    T5_TRY(upload_step(b, &step, err));
    T5_TRY(t5_model_decode(b->model, &step, &b->kv, &b->scratch, b->logits, err));
    T5_TRY(backend->ops->search(backend, &step, b->logits, b->model->hp.vocab_size, err));
    T5_TRY(read_progress(b, err));
out:
    return status;
}

/* ---- results ---- */

bool t5_batch_is_done(const t5_batch *b, int32_t slot)
{
    T5_ASSERT(b->infos[slot].is_used);
    return b->slots[slot].phase == T5_SLOT_DONE;
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
    out->score = b->fin_scores[row];
    out->is_truncated = s->mode != T5_SEARCH_SCORE && b->fin_tokens[at + (size_t)len - 1] != s->eos_id;
}

int32_t t5_batch_n_generated(const t5_batch *b, int32_t slot)
{
    T5_ASSERT(b->infos[slot].is_used);
    return b->slots[slot].len - b->slots[slot].n_prompt;
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
    forget_gathered(b, slot);
    give_blocks(b, b->cross_blocks + slot * b->kv.cross_stride, b->kv.cross_stride);
    for (int32_t i = 0; i < s->n_rows; i++) {
        give_blocks(b, b->self_blocks + (s->row0 + i) * b->kv.self_stride, b->kv.self_stride);
        b->row_used[s->row0 + i] = false;
    }
    t5_kv_unreserve(&b->cache, info->n_blocks_reserved);
    b->n_running--;
    b->n_rows_running -= s->n_rows;
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

size_t t5_batch_bytes(const t5_batch *b)
{
    return b->dev_bytes;
}

/* ---- probe ---- */

/* Downloads n activations as float32. */
static t5_status download_floats(t5_batch *b, float *dst, const void *src, size_t n, t5_error *err)
{
    t5_backend *backend = b->model->backend;
    t5_dtype dtype = backend->act_dtype;
    if (dtype == T5_F32) return backend->ops->download(backend, dst, src, n * sizeof *dst, err);
    uint16_t *halves = malloc(n * sizeof *halves);
    if (halves == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu activations", n);
    t5_status status = backend->ops->download(backend, halves, src, n * sizeof *halves, err);
    for (size_t i = 0; status == T5_OK && i < n; i++) {
        dst[i] = dtype == T5_F16 ? t5_f16_to_f32(halves[i]) : t5_bf16_to_f32(halves[i]);
    }
    free(halves);
    return status;
}

/* Teacher-forced logits of an admitted and encoded slot, whose prompt is the decoder's input. */
static t5_status probe_logits(t5_batch *b, int32_t slot, int32_t n_decoder_ids, float *out_logits, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    size_t vocab_size = (size_t)b->model->hp.vocab_size;
    for (int32_t i = 0; i < n_decoder_ids;) {
        t5_step step = {.row = b->dev_q_row,
                        .pos = b->dev_q_pos,
                        .slot = b->dev_q_slot,
                        .rows = b->dev_step_rows,
                        .state = &b->state};
        int32_t q_len = n_decoder_ids - i < T5_QUERY_LEN_MAX ? n_decoder_ids - i : T5_QUERY_LEN_MAX;
        plan_row(b, slot, b->slots[slot].row0, q_len, &step);
        T5_TRY(upload_step(b, &step, err));
        T5_TRY(t5_model_decode(b->model, &step, &b->kv, &b->scratch, b->logits, err));
        T5_TRY(backend->ops->download(backend, out_logits + (size_t)i * vocab_size, b->logits,
                                      (size_t)q_len * vocab_size * sizeof *out_logits, err));
        i += q_len;
        b->slots[slot].n_computed = i;
        T5_TRY(backend->ops->upload(backend, b->state.slots + slot, &b->slots[slot], sizeof *b->slots, err));
    }
out:
    return status;
}

t5_status t5_batch_probe(t5_batch *b, const int32_t *input_ids, int32_t n, const int32_t *decoder_ids,
                         int32_t n_decoder_ids, float *out_encoder, float *out_logits, t5_error *err)
{
    T5_ASSERT(b->n_running == 0 && n_decoder_ids >= 1);
    t5_status status = T5_OK;
    int32_t slot = -1;
    size_t d_model = (size_t)b->model->hp.d_model;
    /* One given token after the last makes room for the last to be computed. */
    int32_t prompt[T5_SEQ_LEN_MAX];
    T5_ASSERT(n_decoder_ids < b->limits.tgt_len_max);
    memcpy(prompt, decoder_ids + 1, (size_t)(n_decoder_ids - 1) * sizeof *prompt);
    prompt[n_decoder_ids - 1] = b->model->hp.eos_id;
    t5_batch_request request = {.input_ids = input_ids,
                                .n_input_ids = n,
                                .prompt_ids = prompt,
                                .n_prompt_ids = n_decoder_ids,
                                .is_score = true};
    T5_TRY(t5_batch_check(b, &request, err));
    T5_TRY(t5_batch_admit(b, &request, &slot, err));
    T5_TRY(t5_batch_encode(b, err));
    T5_TRY(download_floats(b, out_encoder, b->scratch.enc_out, (size_t)n * d_model, err));
    T5_TRY(probe_logits(b, slot, n_decoder_ids, out_logits, err));
out:
    if (slot >= 0) t5_batch_release(b, slot);
    return status;
}
