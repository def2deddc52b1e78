/* cpu/fast_attention.c: attention of the fast CPU backend: the KV cache's layout, and who computes what.
 *
 * A block's part for one layer: keys [n_heads][d_kv][T5_KV_BLOCK], then values [n_heads][T5_KV_BLOCK][d_kv]. Tasks are
 * (slot or query or source) x (group of heads): few of them are cut by heads to use all threads. In self-attention a
 * slot's task stores the keys and values of all its rows before any of them attends; slots share nothing. */
#include "base/assert.h"
#include "cpu/fast.h"

#include <string.h>

#define TASKS_PER_THREAD 4
#define SERIAL_WORK 8192 /* elements of keys that one thread does sooner than others join in */

/* Scratch of one task: the arrays that t5_attend wants. */
typedef struct {
    const float **blocks; /* [len_max] */
    float *scores;        /* [len_max] */
    uint8_t *is_mixed;    /* [len_max / T5_KV_BLOCK] */
} attend_scratch;

static size_t round_to_block(int32_t n)
{
    return (size_t)(n + T5_KV_BLOCK - 1) / T5_KV_BLOCK * T5_KV_BLOCK;
}

static size_t attend_scratch_bytes(int32_t len_max)
{
    return round_to_block(len_max) * (sizeof(float *) + sizeof(float) + 1);
}

static attend_scratch carve(const t5_fast *f, int32_t i_thread, int32_t len_max)
{
    const size_t len = round_to_block(len_max);
    char *p = t5_fast_scratch(f, i_thread);
    attend_scratch s;
    s.blocks = (const float **)(void *)p;
    s.scores = (float *)(void *)(p + len * sizeof(float *));
    s.is_mixed = (uint8_t *)(p + len * (sizeof(float *) + sizeof(float)));
    return s;
}

/* The layer's part of the block that holds position `pos` in a block table's row. */
static float *block_at(const t5_kv_view *kv, const int32_t *blocks, int32_t layer, int32_t pos)
{
    const size_t layer_len = 2 * (size_t)T5_KV_BLOCK * (size_t)kv->n_heads * (size_t)kv->d_kv;
    char *block = (char *)kv->pool + (size_t)blocks[pos / T5_KV_BLOCK] * kv->block_bytes;
    return (float *)(void *)block + (size_t)layer * layer_len;
}

static size_t key_offset(const t5_kv_view *kv, int32_t head)
{
    return (size_t)head * (size_t)kv->d_kv * T5_KV_BLOCK;
}

static size_t value_offset(const t5_kv_view *kv, int32_t head)
{
    return key_offset(kv, kv->n_heads) + key_offset(kv, head);
}

/* Keys and values of one position and head. */
static void store(const t5_kv_view *kv, float *block, int32_t head, int32_t pos, const float *key, const float *value)
{
    const size_t at = (size_t)(pos % T5_KV_BLOCK);
    float *keys = block + key_offset(kv, head) + at;
    for (int32_t d = 0; d < kv->d_kv; d++)
        keys[(size_t)d * T5_KV_BLOCK] = key[d];
    memcpy(block + value_offset(kv, head) + at * (size_t)kv->d_kv, value, (size_t)kv->d_kv * sizeof *value);
}

/* Into how many groups the heads of n_units units are cut, when their queries see n_positions positions in all. */
static int32_t count_head_groups(const t5_fast *f, int32_t n_units, const t5_kv_view *kv, int64_t n_positions)
{
    if (n_units == 0 || n_positions * kv->n_heads * kv->d_kv < SERIAL_WORK) return 1;
    const int32_t wanted = TASKS_PER_THREAD * t5_threads_count(f->threads);
    const int32_t n = (wanted + n_units - 1) / n_units;
    return n < kv->n_heads ? n : kv->n_heads;
}

/* ---- decoder self-attention ---- */

typedef struct {
    const t5_fast *f;
    const t5_self_attention_args *args;
    int32_t n_groups;
} self_job;

/* Where positions 0 .. n - 1 of what the row stands for live. Positions of this step are in the row itself, older ones
 * in the sibling that the ancestors name. */
static void find_blocks(const t5_self_attention_args *args, const t5_step_row *row, int32_t n, attend_scratch *s)
{
    const t5_kv_view *kv = args->kv;
    const t5_search_state *state = args->step->state;
    const t5_slot *slot = &state->slots[row->slot];
    const uint8_t *ancestors = state->ancestors + (size_t)row->row * (size_t)state->stride;
    for (int32_t j = 0; j < n; j++) {
        const int32_t owner = j < slot->n_computed ? slot->row0 + ancestors[j] : row->row;
        s->blocks[j] = block_at(kv, kv->self_blocks + (size_t)owner * (size_t)kv->self_stride, args->layer, j);
        if (j % T5_KV_BLOCK == 0) s->is_mixed[j / T5_KV_BLOCK] = 0;
        if (s->blocks[j] != s->blocks[j - j % T5_KV_BLOCK]) s->is_mixed[j / T5_KV_BLOCK] = 1;
    }
}

/* Stores the keys and values of a row's queries, heads head_begin .. head_end - 1. */
static void store_row(const t5_self_attention_args *args, const t5_step_row *row, int32_t head_begin, int32_t head_end)
{
    const t5_kv_view *kv = args->kv;
    const size_t inner = (size_t)kv->n_heads * (size_t)kv->d_kv;
    const int32_t *blocks = kv->self_blocks + (size_t)row->row * (size_t)kv->self_stride;
    for (int32_t q = row->q0; q < row->q0 + row->q_len; q++) {
        const int32_t pos = args->step->pos[q];
        float *block = block_at(kv, blocks, args->layer, pos);
        for (int32_t head = head_begin; head < head_end; head++) {
            const float *key = (const float *)args->qkv + (size_t)q * 3 * inner + inner + (size_t)(head * kv->d_kv);
            store(kv, block, head, pos, key, key + inner);
        }
    }
}

static void attend_row(const self_job *job, const t5_step_row *row, int32_t head, const attend_scratch *s)
{
    const t5_self_attention_args *args = job->args;
    const t5_kv_view *kv = args->kv;
    const size_t d_kv = (size_t)kv->d_kv;
    const size_t inner = (size_t)kv->n_heads * d_kv;
    for (int32_t q = row->q0; q < row->q0 + row->q_len; q++) {
        const int32_t pos = args->step->pos[q];
        T5_ASSERT(pos < args->bias_len);
        const t5_attend a = {.q = (const float *)args->qkv + (size_t)q * 3 * inner + (size_t)head * d_kv,
                             .d_kv = kv->d_kv,
                             .n = pos + 1,
                             .blocks = s->blocks,
                             .is_mixed = s->is_mixed,
                             .k_offset = key_offset(kv, head),
                             .v_offset = value_offset(kv, head),
                             .bias = args->bias + (size_t)head * (size_t)args->bias_len,
                             .scores = s->scores,
                             .ctx = (float *)args->ctx + (size_t)q * inner + (size_t)head * d_kv};
        job->f->kernels->attend(&a);
    }
}

/* A group of heads of the slot whose first row of this step is i_task % n_rows; of other rows there is nothing to do:
 * one task each is simpler than a list of slots. The groups of a slot are far apart, for different threads. */
static void self_attention_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    const self_job *job = ctx;
    const t5_self_attention_args *args = job->args;
    const t5_step *step = args->step;
    const int32_t first = i_task % step->n_rows;
    const int32_t group = i_task / step->n_rows;
    const int32_t slot = step->rows[first].slot;
    if (first > 0 && step->rows[first - 1].slot == slot) return;
    const int32_t head_begin = args->kv->n_heads * group / job->n_groups;
    const int32_t head_end = args->kv->n_heads * (group + 1) / job->n_groups;
    int32_t end = first;
    for (; end < step->n_rows && step->rows[end].slot == slot; end++)
        store_row(args, &step->rows[end], head_begin, head_end);
    attend_scratch s = carve(job->f, i_thread, step->state->stride);
    for (int32_t r = first; r < end; r++) {
        const t5_step_row *row = &step->rows[r];
        find_blocks(args, row, step->pos[row->q0 + row->q_len - 1] + 1, &s);
        for (int32_t head = head_begin; head < head_end; head++)
            attend_row(job, row, head, &s);
    }
}

t5_status t5_fast_self_attention(t5_backend *b, const t5_self_attention_args *args, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    const t5_step *step = args->step;
    T5_TRY(t5_fast_reserve(f, attend_scratch_bytes(step->state->stride), err));
    int32_t n_slots = 0;
    int64_t n_positions = 0;
    for (int32_t r = 0; r < step->n_rows; r++) {
        const t5_step_row *row = &step->rows[r];
        n_slots += r == 0 || row->slot != step->rows[r - 1].slot;
        n_positions += (int64_t)row->q_len * (step->pos[row->q0] + 1);
    }
    self_job job = {.f = f, .args = args};
    job.n_groups = count_head_groups(f, n_slots, args->kv, n_positions);
    t5_threads_run(f->threads, step->n_rows * job.n_groups, self_attention_task, &job);
out:
    return status;
}

/* ---- cross-attention ---- */

typedef struct {
    const t5_fast *f;
    const t5_cross_attention_args *args;
    int32_t n_groups;
} cross_job;

/* A slot's source as what t5_attend reads: all positions of a block live in it. */
static attend_scratch find_source(const t5_fast *f, int32_t i_thread, const t5_kv_view *kv, int32_t layer, int32_t slot,
                                  int32_t src_len)
{
    const int32_t *table = kv->cross_blocks + (size_t)slot * (size_t)kv->cross_stride;
    const attend_scratch s = carve(f, i_thread, kv->cross_stride * T5_KV_BLOCK);
    for (int32_t j = 0; j < src_len; j++)
        s.blocks[j] = j % T5_KV_BLOCK == 0 ? block_at(kv, table, layer, j) : s.blocks[j - 1];
    memset(s.is_mixed, 0, round_to_block(src_len) / T5_KV_BLOCK);
    return s;
}

static void cross_attention_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    const cross_job *job = ctx;
    const t5_cross_attention_args *args = job->args;
    const t5_kv_view *kv = args->kv;
    const int32_t q = i_task / job->n_groups;
    const int32_t group = i_task % job->n_groups;
    const int32_t head_end = kv->n_heads * (group + 1) / job->n_groups;
    const int32_t slot = args->step->slot[q];
    const int32_t src_len = args->step->state->slots[slot].src_len;
    const attend_scratch s = find_source(job->f, i_thread, kv, args->layer, slot, src_len);
    for (int32_t head = kv->n_heads * group / job->n_groups; head < head_end; head++) {
        const size_t at = ((size_t)q * (size_t)kv->n_heads + (size_t)head) * (size_t)kv->d_kv;
        const t5_attend a = {.q = (const float *)args->q + at,
                             .d_kv = kv->d_kv,
                             .n = src_len,
                             .blocks = s.blocks,
                             .is_mixed = s.is_mixed,
                             .k_offset = key_offset(kv, head),
                             .v_offset = value_offset(kv, head),
                             .scores = s.scores,
                             .ctx = (float *)args->ctx + at};
        job->f->kernels->attend(&a);
    }
}

t5_status t5_fast_cross_attention(t5_backend *b, const t5_cross_attention_args *args, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    const t5_step *step = args->step;
    T5_TRY(t5_fast_reserve(f, attend_scratch_bytes(args->kv->cross_stride * T5_KV_BLOCK), err));
    int64_t n_positions = 0;
    for (int32_t q = 0; q < step->n_queries; q++)
        n_positions += step->state->slots[step->slot[q]].src_len;
    cross_job job = {.f = f, .args = args};
    job.n_groups = count_head_groups(f, step->n_queries, args->kv, n_positions);
    t5_threads_run(f->threads, step->n_queries * job.n_groups, cross_attention_task, &job);
out:
    return status;
}

typedef struct {
    const t5_fast *f;
    const t5_cross_weights_args *args;
} weights_job;

/* The heads of query i_task, one after the other: their sum has one order. */
static void cross_weights_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    const weights_job *job = ctx;
    const t5_cross_weights_args *args = job->args;
    const t5_kv_view *kv = args->kv;
    const int32_t slot = args->step->slot[i_task];
    const int32_t src_len = args->step->state->slots[slot].src_len;
    const attend_scratch s = find_source(job->f, i_thread, kv, args->layer, slot, src_len);
    float *out = args->weights + (size_t)i_task * (size_t)kv->cross_stride * T5_KV_BLOCK;
    if (!args->adds) memset(out, 0, (size_t)src_len * sizeof *out);
    for (int32_t head = 0; head < kv->n_heads; head++) {
        const size_t at = ((size_t)i_task * (size_t)kv->n_heads + (size_t)head) * (size_t)kv->d_kv;
        const t5_attend a = {.q = (const float *)args->q + at,
                             .d_kv = kv->d_kv,
                             .n = src_len,
                             .blocks = s.blocks,
                             .is_mixed = s.is_mixed,
                             .k_offset = key_offset(kv, head),
                             .scores = s.scores};
        job->f->kernels->attend(&a);
        float sum = 0.0f;
        for (int32_t j = 0; j < src_len; j++)
            sum += s.scores[j];
        for (int32_t j = 0; j < src_len; j++)
            out[j] += s.scores[j] / sum;
    }
}

t5_status t5_fast_cross_weights(t5_backend *b, const t5_cross_weights_args *args, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    T5_TRY(t5_fast_reserve(f, attend_scratch_bytes(args->kv->cross_stride * T5_KV_BLOCK), err));
    weights_job job = {.f = f, .args = args};
    t5_threads_run(f->threads, args->step->n_queries, cross_weights_task, &job);
out:
    return status;
}

typedef struct {
    const t5_packed *packed;
    const t5_kv_view *kv;
    int32_t layer;
    const float *kv_rows;
} store_job;

static void store_source(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    const store_job *job = ctx;
    const t5_kv_view *kv = job->kv;
    const int32_t *table = kv->cross_blocks + (size_t)job->packed->slots[i_task] * (size_t)kv->cross_stride;
    const int32_t first = job->packed->first[i_task];
    const int32_t len = job->packed->first[i_task + 1] - first;
    const size_t inner = (size_t)kv->n_heads * (size_t)kv->d_kv;
    for (int32_t i = 0; i < len; i++) {
        const float *key = job->kv_rows + (size_t)(first + i) * 2 * inner;
        float *block = block_at(kv, table, job->layer, i);
        for (int32_t head = 0; head < kv->n_heads; head++) {
            const size_t at = (size_t)head * (size_t)kv->d_kv;
            store(kv, block, head, i, key + at, key + inner + at);
        }
    }
}

t5_status t5_fast_store_cross_kv(t5_backend *b, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                 const void *kv_rows, t5_error *err)
{
    (void)err;
    store_job job = {.packed = packed, .kv = kv, .layer = layer, .kv_rows = kv_rows};
    t5_threads_run(((t5_fast *)b)->threads, packed->n_seqs, store_source, &job);
    return T5_OK;
}

/* ---- encoder ---- */

typedef struct {
    const t5_fast *f;
    const t5_encoder_attention_args *args;
} encoder_job;

static void encoder_attention_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    const encoder_job *job = ctx;
    const t5_encoder_attention_args *args = job->args;
    const int32_t seq = i_task / args->n_heads;
    const int32_t head = i_task % args->n_heads;
    const int32_t first = args->packed->first[seq];
    const size_t inner = (size_t)args->n_heads * (size_t)args->d_kv;
    const size_t at = (size_t)head * (size_t)args->d_kv;
    const float *q = (const float *)args->qkv + (size_t)first * 3 * inner + at;
    const t5_attend_source a = {.q = q,
                                .k = q + inner,
                                .v = q + 2 * inner,
                                .qkv_stride = 3 * inner,
                                .len = args->packed->first[seq + 1] - first,
                                .d_kv = args->d_kv,
                                .bias = args->bias + (size_t)head * (size_t)(2 * args->bias_len - 1) +
                                        (size_t)(args->bias_len - 1),
                                .scratch = t5_fast_scratch(job->f, i_thread),
                                .ctx = (float *)args->ctx + (size_t)first * inner + at,
                                .ctx_stride = inner};
    T5_ASSERT(a.len <= args->bias_len);
    job->f->kernels->attend_source(&a);
}

t5_status t5_fast_encoder_attention(t5_backend *b, const t5_encoder_attention_args *args, t5_error *err)
{
    t5_fast *f = (t5_fast *)b;
    t5_status status = T5_OK;
    const size_t n_floats = f->kernels->attend_source_scratch(args->packed->len_max, args->d_kv);
    T5_TRY(t5_fast_reserve(f, n_floats * sizeof(float), err));
    encoder_job job = {.f = f, .args = args};
    t5_threads_run(f->threads, args->packed->n_seqs * args->n_heads, encoder_attention_task, &job);
out:
    return status;
}
