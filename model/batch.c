/* model/batch.c: memory of the running batch, all of it taken at create. The host keeps what it needs to plan a step
 * (which rows belong to whom, how far each slot is) and mirrors of the few things it reads back; everything else is
 * backend memory. */
#include "model/batch_internal.h"

#include <stdlib.h>
#include <string.h>

/* Larger areas are touched as they are used: a hundred milliseconds or gigabytes at the start are no small thing. */
#define TOUCH_BYTES_MAX ((size_t)256 << 20)
#define PAGE_BYTES ((size_t)4096) /* the smallest; the memory is zeroed already */

/* Allocator of the create phase: the first failure is remembered in `err`, later calls do nothing. */
typedef struct {
    t5_batch *b;
    t5_error *err;
} allocator;

/* The pages of memory that is the machine's come when they are first written: all of them now, as long as that costs
 * neither time nor much that may never be needed. */
static void touch(allocator *a, void *p, size_t n_bytes)
{
    static const char zero = 0;
    t5_backend *backend = a->b->model->backend;
    if (backend->ops->memory_free != NULL || n_bytes > TOUCH_BYTES_MAX) return;
    for (size_t at = 0; at < n_bytes && a->err->status == T5_OK; at += PAGE_BYTES)
        backend->ops->upload(backend, (char *)p + at, &zero, sizeof zero, a->err);
}

static void *dev_alloc(void *ctx, size_t n_bytes)
{
    allocator *a = ctx;
    void *p = NULL;
    if (a->err->status != T5_OK) return NULL;
    t5_backend *backend = a->b->model->backend;
    if (backend->ops->alloc(backend, n_bytes, &p, a->err) != T5_OK) return NULL;
    a->b->memory.scratch += n_bytes;
    touch(a, p, n_bytes);
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
    a->b->memory.host += (size_t)n * n_bytes;
    return p;
}

static void create_host_arrays(t5_batch *b, allocator *a)
{
    int32_t n_rows = b->limits.n_rows_max;
    int32_t n_cells = n_rows * b->limits.tgt_len_max;
    b->cross_blocks = host_alloc(a, b->n_slots_max * b->kv.cross_stride, sizeof(int32_t));
    b->slots = host_alloc(a, b->n_slots_max, sizeof *b->slots);
    b->infos = host_alloc(a, b->n_slots_max, sizeof *b->infos);
    b->row_used = host_alloc(a, n_rows, sizeof *b->row_used);
    b->row_done = host_alloc(a, n_rows, sizeof *b->row_done);
    b->fin_tokens = host_alloc(a, n_cells, sizeof *b->fin_tokens);
    b->fin_logprobs = host_alloc(a, n_cells, sizeof *b->fin_logprobs);
    b->fin_scores = host_alloc(a, n_rows, sizeof *b->fin_scores);
    b->fin_lens = host_alloc(a, n_rows, sizeof *b->fin_lens);
    b->fin_alignment = host_alloc(a, n_cells, sizeof *b->fin_alignment);
    b->align_next = host_alloc(a, n_rows, sizeof *b->align_next);
    b->groups = host_alloc(a, n_rows, sizeof *b->groups);
    b->enc_tokens = host_alloc(a, b->limits.enc_tokens_max, sizeof(int32_t));
    b->enc_first = host_alloc(a, b->n_slots_max + 1, sizeof(int32_t));
    b->enc_slots = host_alloc(a, b->n_slots_max, sizeof(int32_t));
}

/* What the host reads back of a step goes to memory that the device can copy to by itself. */
static void *outcome_alloc(allocator *a, int32_t n, size_t n_bytes)
{
    const t5_async_ops *async = t5_batch_async(a->b);
    void *p = NULL;
    if (async == NULL) return host_alloc(a, n, n_bytes);
    if (a->err->status != T5_OK) return NULL;
    async->alloc_host(a->b->model->backend, (size_t)n * n_bytes, &p, a->err);
    a->b->memory.host += (size_t)n * n_bytes;
    return p;
}

static void outcome_release(const t5_batch *b, void *p)
{
    const t5_async_ops *async = t5_batch_async(b);
    if (async == NULL) {
        free(p);
    } else {
        async->release_host(b->model->backend, p);
    }
}

/* Lays the arrays of a step out in one block, the same on both sides. */
static void create_plan(t5_batch *b, allocator *a)
{
    size_t n_rows = (size_t)b->limits.n_rows_max;
    size_t ints_per_row = sizeof(t5_step_row) / sizeof(int32_t);
    size_t n_ints = n_rows * (3 + ints_per_row + (size_t)b->kv.self_stride);
    b->plan_bytes = n_ints * sizeof *b->plan;
    b->plan = host_alloc(a, (int32_t)n_ints, sizeof *b->plan);
    int32_t *dev = b->dev_plan = dev_alloc(a, b->plan_bytes);
    if (a->err->status != T5_OK) return;
    b->q_row = b->plan;
    b->q_pos = b->q_row + n_rows;
    b->q_slot = b->q_pos + n_rows;
    b->step_rows = (t5_step_row *)(b->q_slot + n_rows);
    b->self_blocks = b->q_slot + n_rows * (1 + ints_per_row);
    b->dev_step = (t5_step){.row = dev,
                            .pos = dev + n_rows,
                            .slot = dev + 2 * n_rows,
                            .rows = (const t5_step_row *)(dev + 3 * n_rows),
                            .state = &b->state,
                            .groups = b->groups};
    b->kv.self_blocks = dev + n_rows * (3 + ints_per_row);
    memset(b->self_blocks, 0xff, n_rows * (size_t)b->kv.self_stride * sizeof *b->self_blocks);
}

static void create_scratch(t5_batch *b, allocator *a, int32_t n_rows_max, t5_scratch *out)
{
    const t5_hparams *hp = &b->model->hp;
    size_t act_bytes = t5_dtype_bytes(b->model->backend->act_dtype);
    size_t inner = (size_t)hp->n_heads * (size_t)hp->d_kv;
    size_t n = (size_t)n_rows_max;
    out->n_rows_max = n_rows_max;
    out->x = dev_alloc(a, n * (size_t)hp->d_model * sizeof(float));
    out->qkv = dev_alloc(a, n * 3 * inner * act_bytes);
    out->ctx = dev_alloc(a, n * inner * act_bytes);
    out->ffn = dev_alloc(a, n * (size_t)hp->d_ff * act_bytes);
}

static void release_scratch(t5_backend *backend, t5_scratch *s)
{
    void *arrays[] = {s->x, s->qkv, s->ctx, s->ffn, s->enc_out};
    for (size_t i = 0; i < T5_COUNT(arrays); i++)
        backend->ops->release(backend, arrays[i]);
}

static void create_dev_arrays(t5_batch *b, allocator *a)
{
    const t5_hparams *hp = &b->model->hp;
    size_t n_rows = (size_t)b->limits.n_rows_max;
    size_t n_slots = (size_t)b->n_slots_max;
    size_t act_bytes = t5_dtype_bytes(b->model->backend->act_dtype);
    b->kv.block_bytes = t5_kv_block_bytes(hp, b->model->backend->act_dtype);
    const size_t kv_bytes = (size_t)b->cache.n_blocks * b->kv.block_bytes;
    b->kv.pool = dev_alloc(a, kv_bytes);
    b->memory = (t5_batch_memory){.kv = kv_bytes, .scratch = b->memory.scratch - kv_bytes, .host = b->memory.host};
    b->dev_cross_blocks = dev_alloc(a, n_slots * (size_t)b->kv.cross_stride * sizeof(int32_t));
    b->kv.cross_blocks = b->dev_cross_blocks;
    b->state = (t5_search_state){
        .n_slots_max = b->n_slots_max, .n_rows_max = b->limits.n_rows_max, .stride = b->limits.tgt_len_max};
    t5_search_state_alloc(&b->state, dev_alloc, a);
    b->align_state = b->state;
    b->align_state.tokens = b->state.fin_tokens;
    b->align_weights = dev_alloc(a, (size_t)(T5_ALIGN_QUERIES_MAX * b->weights_stride) * sizeof(float));
    b->dev_enc_tokens = dev_alloc(a, (size_t)b->limits.enc_tokens_max * sizeof(int32_t));
    b->dev_enc_first = dev_alloc(a, (n_slots + 1) * sizeof(int32_t));
    b->dev_enc_slots = dev_alloc(a, n_slots * sizeof(int32_t));
    create_scratch(b, a, b->limits.n_rows_max, &b->scratch);
    create_scratch(b, a, b->limits.enc_tokens_max, &b->enc_scratch);
    b->enc_scratch.enc_out = dev_alloc(a, (size_t)b->limits.enc_tokens_max * (size_t)hp->d_model * act_bytes);
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
    b->weights_stride = b->kv.cross_stride * T5_KV_BLOCK;
    T5_TRY(t5_kv_cache_init(&b->cache, t5_kv_blocks_for(b->limits.kv_tokens), err));
    allocator a = {b, err};
    create_host_arrays(b, &a);
    create_dev_arrays(b, &a);
    create_plan(b, &a);
    for (size_t i = 0; i < T5_COUNT(b->outcomes); i++) {
        b->outcomes[i].slots = outcome_alloc(&a, b->n_slots_max, sizeof *b->slots);
        b->outcomes[i].row_done = outcome_alloc(&a, limits->n_rows_max, sizeof *b->row_done);
        b->outcomes[i].align_weights = outcome_alloc(&a, T5_ALIGN_QUERIES_MAX * b->weights_stride, sizeof(float));
    }
    T5_TRY(err->status);
    T5_TRY(t5_model_warm_up(model, &b->enc_scratch, &b->scratch, err));
    memset(b->cross_blocks, 0xff, (size_t)(b->n_slots_max * b->kv.cross_stride) * sizeof *b->cross_blocks);
    *out = b;
    b = NULL;
out:
    t5_batch_destroy(b);
    return status;
}

t5_batch_memory t5_batch_memory_of(const t5_batch *b)
{
    t5_batch_memory memory = b->memory;
    memory.weights = b->model->backend->weights_bytes;
    return memory;
}

size_t t5_kv_block_bytes(const t5_hparams *hp, t5_dtype act_dtype)
{
    const size_t inner = (size_t)hp->n_heads * (size_t)hp->d_kv;
    return (size_t)hp->n_dec_layers * 2 * T5_KV_BLOCK * inner * t5_dtype_bytes(act_dtype);
}

t5_kv_usage t5_batch_kv_usage(const t5_batch *b)
{
    const int32_t n_used = b->cache.n_blocks - b->cache.n_free;
    return (t5_kv_usage){.n_blocks = b->cache.n_blocks, .n_reserved = n_used + b->cache.n_reserved, .n_used = n_used};
}

void t5_batch_destroy(t5_batch *b)
{
    if (b == NULL) return;
    t5_backend *backend = b->model->backend;
    if (t5_batch_async(b) != NULL) {
        t5_error ignored = {0};
        backend->ops->sync(backend, &ignored); /* nothing may write to what is freed now */
    }
    void *dev[] = {b->kv.pool,       b->dev_cross_blocks, b->dev_enc_tokens, b->dev_enc_first,
                   b->dev_enc_slots, b->dev_plan,         b->logits,         b->align_weights};
    void *host[] = {b->cross_blocks, b->slots,      b->infos,         b->row_used,   b->row_done,  b->fin_tokens,
                    b->fin_logprobs, b->fin_scores, b->fin_lens,      b->enc_tokens, b->enc_first, b->enc_slots,
                    b->plan,         b->align_next, b->fin_alignment, b->groups};
    for (size_t i = 0; i < T5_COUNT(dev); i++)
        backend->ops->release(backend, dev[i]);
    release_scratch(backend, &b->scratch);
    release_scratch(backend, &b->enc_scratch);
    t5_search_state_free(&b->state, dev_release, backend);
    for (size_t i = 0; i < T5_COUNT(host); i++)
        free(host[i]);
    for (size_t i = 0; i < T5_COUNT(b->outcomes); i++) {
        outcome_release(b, b->outcomes[i].slots);
        outcome_release(b, b->outcomes[i].row_done);
        outcome_release(b, b->outcomes[i].align_weights);
    }
    t5_kv_cache_deinit(&b->cache);
    free(b);
}
