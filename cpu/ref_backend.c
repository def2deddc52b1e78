/* cpu/ref_backend.c: every operation of model/backend.h as plain loops: the definition of right. One thread, no tricks;
 * sums in double where that costs nothing but time, so that it is also a better answer than the backends it judges.
 *
 * KV block, elements of one layer: keys [T5_KV_BLOCK][n_heads * d_kv], then values in the same form. */
#include "base/assert.h"
#include "cpu/cpu.h"
#include "cpu/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    t5_backend base;
    float *row;             /* scratch of one normalized row */
    int32_t row_len;        /* floats in `row` */
    float *weights;         /* softmax weights of one query */
    int32_t weights_len;    /* floats in `weights` */
    t5_candidate *sampling; /* [vocab_size] */
    int32_t sampling_len;
} ref_backend;

struct t5_matrix {
    t5_tensor tensor; /* a table borrows the mapped tensor; a matrix owns float32 values */
    float *owned;
};

static void ref_destroy(t5_backend *b)
{
    if (b == NULL) return;
    ref_backend *ref = (ref_backend *)b;
    free(ref->row);
    free(ref->weights);
    free(ref->sampling);
    free(ref);
}

/* Makes *array hold at least n elements of n_bytes each. */
static t5_status grow(void **array, int32_t *len, int32_t n, size_t n_bytes, t5_error *err)
{
    if (*len >= n) return T5_OK;
    void *bigger = realloc(*array, (size_t)n * n_bytes);
    if (bigger == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d elements of scratch", n);
    *array = bigger;
    *len = n;
    return T5_OK;
}

static t5_status ref_table_create(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err)
{
    t5_matrix *m = calloc(1, sizeof *m);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "table: %zu bytes", sizeof *m);
    m->tensor = *table;
    b->weights_bytes += t5_tensor_bytes(table);
    *out = m;
    return T5_OK;
}

static void ref_matrix_destroy(t5_backend *b, t5_matrix *m)
{
    (void)b;
    if (m == NULL) return;
    free(m->owned);
    free(m);
}

static t5_status ref_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                                   t5_error *err)
{
    size_t n_cols = (size_t)parts[0].n_cols;
    size_t n_rows = 0;
    for (int32_t i = 0; i < n_parts; i++)
        n_rows += (size_t)parts[i].n_rows;
    t5_matrix *m = calloc(1, sizeof *m);
    float *values = malloc(n_rows * n_cols * sizeof *values);
    if (m == NULL || values == NULL) {
        free(m);
        free(values);
        return T5_FAIL(err, T5_ERR_NOMEM, "matrix: %zu x %zu float32", n_rows, n_cols);
    }
    m->owned = values;
    m->tensor = (t5_tensor){.data = values, .dtype = T5_F32, .n_rows = (int32_t)n_rows, .n_cols = parts[0].n_cols};
    float *to = values;
    for (int32_t i = 0; i < n_parts; i++) {
        for (int32_t r = 0; r < parts[i].n_rows; r++, to += n_cols)
            t5_tensor_row_f32(&parts[i], r, to);
    }
    for (size_t i = 0; i < n_rows * n_cols; i++)
        values[i] *= scale;
    b->weights_bytes += n_rows * n_cols * sizeof *values;
    *out = m;
    return T5_OK;
}

static t5_status ref_embed(t5_backend *b, const t5_matrix *table, const t5_step *step, const t5_packed *packed,
                           float *x, t5_error *err)
{
    (void)b;
    (void)err;
    T5_ASSERT((step == NULL) != (packed == NULL));
    int32_t n = step != NULL ? step->n_queries : packed->n_tokens;
    for (int32_t q = 0; q < n; q++) {
        if (step != NULL && step->row[q] < 0) continue;
        int32_t token =
            step != NULL
                ? step->state->tokens[(size_t)step->row[q] * (size_t)step->state->stride + (size_t)step->pos[q]]
                : packed->tokens[q];
        T5_ASSERT(token >= 0 && token < table->tensor.n_rows);
        t5_tensor_row_f32(&table->tensor, token, x + (size_t)q * (size_t)table->tensor.n_cols);
    }
    return T5_OK;
}

static void norm_row(const float *x, const float *gain, float eps, int32_t d, float *y)
{
    double sum = 0.0;
    for (int32_t i = 0; i < d; i++)
        sum += (double)x[i] * (double)x[i];
    float scale = 1.0f / sqrtf((float)(sum / d) + eps);
    for (int32_t i = 0; i < d; i++)
        y[i] = x[i] * scale * gain[i];
}

static t5_status ref_rms_norm(t5_backend *b, const float *x, const float *gain, float eps, int32_t n_rows, int32_t d,
                              void *y, t5_error *err)
{
    (void)b;
    (void)err;
    for (int32_t r = 0; r < n_rows; r++) {
        norm_row(x + (size_t)r * (size_t)d, gain, eps, d, (float *)y + (size_t)r * (size_t)d);
    }
    return T5_OK;
}

static float activate(t5_act act, float x)
{
    switch (act) {
    case T5_ACT_RELU:
        return x < 0.0f ? 0.0f : x; /* NaN stays */
    case T5_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case T5_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118f));
    case T5_ACT_SILU:
        return x / (1.0f + expf(-x));
    }
    return x;
}

static float dot(const float *a, const float *b, int32_t n)
{
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return (float)sum;
}

static t5_status ref_linear(t5_backend *b, const t5_linear_args *args, t5_error *err)
{
    ref_backend *ref = (ref_backend *)b;
    int32_t d_in = args->w->tensor.n_cols;
    int32_t d_out = args->w->tensor.n_rows;
    t5_status status = grow((void **)&ref->row, &ref->row_len, d_in, sizeof *ref->row, err);
    if (status != T5_OK) return status;
    for (int32_t r = 0; r < args->n_rows; r++) {
        const float *x = (const float *)args->x + (size_t)r * (size_t)d_in;
        float *y = (float *)args->y + (size_t)r * (size_t)d_out;
        if (args->norm_gain != NULL) {
            norm_row(x, args->norm_gain, args->norm_eps, d_in, ref->row);
            x = ref->row;
        }
        for (int32_t i = 0; i < d_out; i++) {
            size_t at = (size_t)i * (size_t)d_in;
            float value = dot(x, args->w->owned + at, d_in);
            if (args->has_act) value = activate(args->act, value);
            if (args->w_up != NULL) value *= dot(x, args->w_up->owned + at, d_in);
            y[i] = args->adds ? y[i] + value : value;
        }
    }
    return T5_OK;
}

/* In place: w = exp(w - max) / sum. */
static void softmax(float *w, int32_t n)
{
    float max = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        max = w[i] > max ? w[i] : max;
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) {
        w[i] = expf(w[i] - max);
        sum += (double)w[i];
    }
    for (int32_t i = 0; i < n; i++)
        w[i] = (float)((double)w[i] / sum);
}

static t5_status ref_encoder_attention(t5_backend *b, const t5_encoder_attention_args *args, t5_error *err)
{
    ref_backend *ref = (ref_backend *)b;
    int32_t d_kv = args->d_kv;
    int32_t inner = args->n_heads * d_kv;
    t5_status status = grow((void **)&ref->weights, &ref->weights_len, args->packed->len_max, sizeof(float), err);
    if (status != T5_OK) return status;
    const float *qkv = args->qkv;
    float *ctx = args->ctx;
    memset(ctx, 0, (size_t)args->packed->n_tokens * (size_t)inner * sizeof *ctx);
    for (int32_t s = 0; s < args->packed->n_seqs; s++) {
        int32_t first = args->packed->first[s];
        int32_t len = args->packed->first[s + 1] - first;
        for (int32_t h = 0; h < args->n_heads; h++) {
            const float *bias = args->bias + (size_t)h * (size_t)(2 * args->bias_len - 1) + args->bias_len - 1;
            for (int32_t i = 0; i < len; i++) {
                const float *q = qkv + (size_t)(first + i) * (size_t)(3 * inner) + h * d_kv;
                for (int32_t j = 0; j < len; j++) {
                    const float *k = qkv + (size_t)(first + j) * (size_t)(3 * inner) + inner + h * d_kv;
                    ref->weights[j] = dot(q, k, d_kv) + bias[j - i];
                }
                softmax(ref->weights, len);
                float *out = ctx + (size_t)(first + i) * (size_t)inner + h * d_kv;
                for (int32_t j = 0; j < len; j++) {
                    const float *v = qkv + (size_t)(first + j) * (size_t)(3 * inner) + 2 * inner + h * d_kv;
                    for (int32_t d = 0; d < d_kv; d++)
                        out[d] += ref->weights[j] * v[d];
                }
            }
        }
    }
    return T5_OK;
}

/* Key (part 0) or value (part 1) of a position, all heads, in a block table's row. */
static float *kv_at(const t5_kv_view *kv, const int32_t *blocks, int32_t layer, int32_t part, int32_t pos)
{
    size_t inner = (size_t)kv->n_heads * (size_t)kv->d_kv;
    float *block = (float *)((char *)kv->pool + (size_t)blocks[pos / T5_KV_BLOCK] * kv->block_bytes);
    return block + ((size_t)layer * 2 + (size_t)part) * T5_KV_BLOCK * inner + (size_t)(pos % T5_KV_BLOCK) * inner;
}

/* The block table row that holds position `pos` of what query q's row stands for. */
static const int32_t *self_blocks_of(const t5_self_attention_args *args, int32_t q, int32_t pos)
{
    const t5_step *step = args->step;
    const t5_search_state *state = step->state;
    int32_t row = step->row[q];
    int32_t owner = row;
    const t5_slot *slot = &state->slots[step->slot[q]];
    if (pos < slot->n_computed) {
        owner = slot->row0 + state->ancestors[(size_t)row * (size_t)state->stride + (size_t)pos];
    }
    return args->kv->self_blocks + (size_t)owner * (size_t)args->kv->self_stride;
}

static t5_status ref_self_attention(t5_backend *b, const t5_self_attention_args *args, t5_error *err)
{
    ref_backend *ref = (ref_backend *)b;
    const t5_step *step = args->step;
    const t5_kv_view *kv = args->kv;
    int32_t d_kv = kv->d_kv;
    int32_t inner = kv->n_heads * d_kv;
    const float *qkv = args->qkv;
    t5_status status = grow((void **)&ref->weights, &ref->weights_len, step->state->stride, sizeof(float), err);
    if (status != T5_OK) return status;
    for (int32_t q = 0; q < step->n_queries; q++) {
        if (step->row[q] < 0) continue;
        const int32_t *blocks = kv->self_blocks + (size_t)step->row[q] * (size_t)kv->self_stride;
        const float *k = qkv + (size_t)q * (size_t)(3 * inner) + inner;
        memcpy(kv_at(kv, blocks, args->layer, 0, step->pos[q]), k, (size_t)inner * sizeof *k);
        memcpy(kv_at(kv, blocks, args->layer, 1, step->pos[q]), k + inner, (size_t)inner * sizeof *k);
    }
    for (int32_t q = 0; q < step->n_queries; q++) {
        if (step->row[q] < 0) continue;
        int32_t pos = step->pos[q];
        for (int32_t h = 0; h < kv->n_heads; h++) {
            const float *query = qkv + (size_t)q * (size_t)(3 * inner) + h * d_kv;
            float *out = (float *)args->ctx + (size_t)q * (size_t)inner + h * d_kv;
            for (int32_t j = 0; j <= pos; j++) {
                const float *k = kv_at(kv, self_blocks_of(args, q, j), args->layer, 0, j) + h * d_kv;
                ref->weights[j] =
                    dot(query, k, d_kv) + args->bias[(size_t)h * (size_t)args->bias_len + (size_t)(pos - j)];
            }
            softmax(ref->weights, pos + 1);
            memset(out, 0, (size_t)d_kv * sizeof *out);
            for (int32_t j = 0; j <= pos; j++) {
                const float *v = kv_at(kv, self_blocks_of(args, q, j), args->layer, 1, j) + h * d_kv;
                for (int32_t d = 0; d < d_kv; d++)
                    out[d] += ref->weights[j] * v[d];
            }
        }
    }
    return T5_OK;
}

static t5_status ref_store_cross_kv(t5_backend *b, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                    const void *kv_rows, t5_error *err)
{
    (void)b;
    (void)err;
    int32_t inner = kv->n_heads * kv->d_kv;
    for (int32_t s = 0; s < packed->n_seqs; s++) {
        const int32_t *blocks = kv->cross_blocks + (size_t)packed->slots[s] * (size_t)kv->cross_stride;
        int32_t first = packed->first[s];
        for (int32_t i = 0; i < packed->first[s + 1] - first; i++) {
            const float *k = (const float *)kv_rows + (size_t)(first + i) * (size_t)(2 * inner);
            memcpy(kv_at(kv, blocks, layer, 0, i), k, (size_t)inner * sizeof *k);
            memcpy(kv_at(kv, blocks, layer, 1, i), k + inner, (size_t)inner * sizeof *k);
        }
    }
    return T5_OK;
}

/* scores[j] = q k_j of one head over a source. */
static void score_source(const t5_kv_view *kv, const int32_t *blocks, int32_t layer, int32_t head, const float *query,
                         int32_t src_len, float *scores)
{
    for (int32_t j = 0; j < src_len; j++)
        scores[j] = dot(query, kv_at(kv, blocks, layer, 0, j) + head * kv->d_kv, kv->d_kv);
}

static t5_status ref_cross_attention(t5_backend *b, const t5_cross_attention_args *args, t5_error *err)
{
    ref_backend *ref = (ref_backend *)b;
    const t5_step *step = args->step;
    const t5_kv_view *kv = args->kv;
    int32_t d_kv = kv->d_kv;
    int32_t inner = kv->n_heads * d_kv;
    int32_t src_len_max = kv->cross_stride * T5_KV_BLOCK;
    t5_status status = grow((void **)&ref->weights, &ref->weights_len, src_len_max, sizeof(float), err);
    if (status != T5_OK) return status;
    for (int32_t q = 0; q < step->n_queries; q++) {
        if (step->row[q] < 0) continue;
        int32_t slot = step->slot[q];
        int32_t src_len = step->state->slots[slot].src_len;
        const int32_t *blocks = kv->cross_blocks + (size_t)slot * (size_t)kv->cross_stride;
        for (int32_t h = 0; h < kv->n_heads; h++) {
            const float *query = (const float *)args->q + (size_t)q * (size_t)inner + h * d_kv;
            float *out = (float *)args->ctx + (size_t)q * (size_t)inner + h * d_kv;
            score_source(kv, blocks, args->layer, h, query, src_len, ref->weights);
            softmax(ref->weights, src_len);
            memset(out, 0, (size_t)d_kv * sizeof *out);
            for (int32_t j = 0; j < src_len; j++) {
                const float *v = kv_at(kv, blocks, args->layer, 1, j) + h * d_kv;
                for (int32_t d = 0; d < d_kv; d++)
                    out[d] += ref->weights[j] * v[d];
            }
        }
    }
    return T5_OK;
}

static t5_status ref_cross_weights(t5_backend *b, const t5_cross_weights_args *args, t5_error *err)
{
    ref_backend *ref = (ref_backend *)b;
    const t5_step *step = args->step;
    const t5_kv_view *kv = args->kv;
    int32_t src_len_max = kv->cross_stride * T5_KV_BLOCK;
    t5_status status = grow((void **)&ref->weights, &ref->weights_len, src_len_max, sizeof(float), err);
    if (status != T5_OK) return status;
    for (int32_t q = 0; q < step->n_queries; q++) {
        if (step->row[q] < 0) continue;
        int32_t slot = step->slot[q];
        int32_t src_len = step->state->slots[slot].src_len;
        const int32_t *blocks = kv->cross_blocks + (size_t)slot * (size_t)kv->cross_stride;
        float *out = args->weights + (size_t)q * (size_t)src_len_max;
        if (!args->adds) memset(out, 0, (size_t)src_len * sizeof *out);
        for (int32_t h = 0; h < kv->n_heads; h++) {
            const float *query =
                (const float *)args->q + ((size_t)q * (size_t)kv->n_heads + (size_t)h) * (size_t)kv->d_kv;
            score_source(kv, blocks, args->layer, h, query, src_len, ref->weights);
            softmax(ref->weights, src_len);
            for (int32_t j = 0; j < src_len; j++)
                out[j] += ref->weights[j];
        }
    }
    return T5_OK;
}

static t5_status ref_head(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                          const t5_matrix *w, float *logits, t5_error *err)
{
    t5_linear_args args = {.x = x, .n_rows = n_queries, .norm_gain = norm_gain, .norm_eps = eps, .w = w, .y = logits};
    return ref_linear(b, &args, err);
}

static t5_status ref_search(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err)
{
    ref_backend *ref = (ref_backend *)b;
    t5_search_state state = *step->state; /* the struct is the host's, the arrays are ours */
    t5_status status = grow((void **)&ref->sampling, &ref->sampling_len, vocab_size, sizeof *ref->sampling, err);
    if (status != T5_OK) return status;
    for (int32_t i = 0; i < step->n_rows; i++) {
        t5_search_row(&state, &step->rows[i], logits, vocab_size, &t5_vocab_ops_plain, ref->sampling);
    }
    t5_search_slots(&state, step->rows, step->n_rows);
    return T5_OK;
}

static const t5_backend_ops ref_ops = {
    .name = "cpu-ref",
    .has_shortlists = true,
    .destroy = ref_destroy,
    .alloc = t5_host_alloc,
    .release = t5_host_release,
    .upload = t5_host_copy,
    .download = t5_host_copy,
    .matrix_create = ref_matrix_create,
    .matrix_destroy = ref_matrix_destroy,
    .table_create = ref_table_create,
    .embed = ref_embed,
    .rms_norm = ref_rms_norm,
    .linear = ref_linear,
    .encoder_attention = ref_encoder_attention,
    .self_attention = ref_self_attention,
    .cross_attention = ref_cross_attention,
    .cross_weights = ref_cross_weights,
    .store_cross_kv = ref_store_cross_kv,
    .head = ref_head,
    .search = ref_search,
    .sync = t5_host_sync,
};

t5_status t5_cpu_ref_create(t5_backend **out, t5_error *err)
{
    ref_backend *ref = calloc(1, sizeof *ref);
    if (ref == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "backend: %zu bytes", sizeof *ref);
    ref->base = (t5_backend){.ops = &ref_ops, .act_dtype = T5_F32, .device = "cpu (reference, float32)"};
    *out = &ref->base;
    return T5_OK;
}
