/* cpu/attention.c: softmax(q k^T + bias) v, compiled once per instruction set. T5 does not scale by 1/sqrt(d_kv).
 *
 * A decode step has one query per row and head. Keys are cached transposed, [d_kv][T5_KV_BLOCK], so that the scores of
 * a block's 16 positions are whole registers: no sum across lanes. With beams a block's positions may live in blocks of
 * several rows; then each such block is scored and the positions pick their own.
 *
 * The encoder has as many queries as keys, so it packs keys and values as panels and uses the tiles of gemm.c. */
#include "base/assert.h"
#include "cpu/tile.h"

#include <assert.h>
#include <math.h>

#define CHAINS 4 /* sums of one score that run side by side: dimension d goes to chain d % CHAINS */
#define BLOCK_VECTORS (T5_KV_BLOCK / V_LANES)
static_assert(T5_KV_BLOCK % V_LANES == 0, "a block of keys is whole registers");

/* scores[0 .. 15] of one block of transposed keys. Asks for `ahead`, as many bytes as the keys have. */
T5_INLINE void score_block(const float *q, const float *keys, int32_t d_kv, float *scores, const float *ahead)
{
    v_f32 sum[CHAINS][BLOCK_VECTORS];
    T5_UNROLL for (int32_t c = 0; c < CHAINS; c++)
    {
        T5_UNROLL for (int32_t v = 0; v < BLOCK_VECTORS; v++) sum[c][v] = v_set1(0.0f);
    }
    int32_t d = 0;
    for (; d + CHAINS <= d_kv; d += CHAINS) {
        T5_UNROLL for (int32_t c = 0; c < CHAINS; c++)
        {
            const float *key = keys + (size_t)(d + c) * T5_KV_BLOCK;
            __builtin_prefetch(ahead + (size_t)(d + c) * T5_KV_BLOCK);
            T5_UNROLL for (int32_t v = 0; v < BLOCK_VECTORS; v++) sum[c][v] =
                v_fma(v_set1(q[d + c]), v_load(key + v * V_LANES), sum[c][v]);
        }
    }
    for (; d < d_kv; d++) {
        const float *key = keys + (size_t)d * T5_KV_BLOCK;
        T5_UNROLL for (int32_t v = 0; v < BLOCK_VECTORS; v++) sum[0][v] =
            v_fma(v_set1(q[d]), v_load(key + v * V_LANES), sum[0][v]);
    }
    T5_UNROLL for (int32_t v = 0; v < BLOCK_VECTORS; v++)
        v_store(scores + v * V_LANES, (sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v]));
}

/* The n positions from `first` on, whose blocks differ. */
static void score_mixed_block(const t5_attend *a, int32_t first, int32_t n)
{
    float scores[T5_KV_BLOCK];
    uint32_t is_done = 0;
    for (int32_t j = 0; j < n; j++) {
        if ((is_done >> j & 1u) != 0) continue;
        const float *block = a->blocks[first + j];
        score_block(a->q, block + a->k_offset, a->d_kv, scores, block + a->v_offset);
        for (int32_t i = j; i < n; i++) {
            if (a->blocks[first + i] != block) continue;
            a->scores[first + i] = scores[i];
            is_done |= 1u << i;
        }
    }
}

/* w = exp(w - max) over n values, zeros up to the next multiple of T5_KV_BLOCK. Returns their sum. */
static float exp_scores(float *w, int32_t n)
{
    const int32_t n_padded = (n + T5_KV_BLOCK - 1) / T5_KV_BLOCK * T5_KV_BLOCK;
    for (int32_t i = n; i < n_padded; i++)
        w[i] = -INFINITY;
    v_f32 max = v_load(w);
    for (int32_t i = V_LANES; i < n_padded; i += V_LANES)
        max = v_max(max, v_load(w + i));
    const v_f32 top = v_set1(v_max_lane(max));
    v_f32 sum = v_set1(0.0f);
    for (int32_t i = 0; i < n_padded; i += V_LANES) {
        const v_f32 e = v_exp(v_load(w + i) - top);
        v_store(w + i, e);
        sum = sum + e;
    }
    return v_sum(sum);
}

/* ctx[d .. d + n_vectors * V_LANES) = sum over j of w[j] * value[j][d ..] * scale. Even and odd positions are summed
 * apart: a multiply-add must not wait for the one before. */
T5_INLINE void mix_values(const t5_attend *a, int32_t d, const int32_t n_vectors, float scale)
{
    v_f32 even[4];
    v_f32 odd[4];
    T5_UNROLL for (int32_t v = 0; v < n_vectors; v++) even[v] = odd[v] = v_set1(0.0f);
    const size_t offset = a->v_offset + (size_t)d;
    const size_t d_kv = (size_t)a->d_kv;
    int32_t j = 0;
    for (; j + 2 <= a->n; j += 2) {
        const float *value0 = a->blocks[j] + offset + (size_t)(j % T5_KV_BLOCK) * d_kv;
        const float *value1 = a->blocks[j + 1] + offset + (size_t)((j + 1) % T5_KV_BLOCK) * d_kv;
        const v_f32 w0 = v_set1(a->scores[j]);
        const v_f32 w1 = v_set1(a->scores[j + 1]);
        T5_UNROLL for (int32_t v = 0; v < n_vectors; v++)
        {
            even[v] = v_fma(w0, v_load(value0 + v * V_LANES), even[v]);
            odd[v] = v_fma(w1, v_load(value1 + v * V_LANES), odd[v]);
        }
    }
    if (j < a->n) {
        const float *value = a->blocks[j] + offset + (size_t)(j % T5_KV_BLOCK) * d_kv;
        T5_UNROLL for (int32_t v = 0; v < n_vectors; v++) even[v] =
            v_fma(v_set1(a->scores[j]), v_load(value + v * V_LANES), even[v]);
    }
    T5_UNROLL for (int32_t v = 0; v < n_vectors; v++)
        v_store(a->ctx + d + v * V_LANES, (even[v] + odd[v]) * v_set1(scale));
}

static void mix_values_scalar(const t5_attend *a, int32_t d, float scale)
{
    float sum = 0.0f;
    for (int32_t j = 0; j < a->n; j++)
        sum += a->scores[j] * a->blocks[j][a->v_offset + (size_t)(j % T5_KV_BLOCK) * (size_t)a->d_kv + (size_t)d];
    a->ctx[d] = sum * scale;
}

void kernel_attend(const t5_attend *a)
{
    T5_ASSERT(a->n > 0);
    for (int32_t j = 0; j < a->n; j += T5_KV_BLOCK) {
        if (a->is_mixed[j / T5_KV_BLOCK] != 0) {
            score_mixed_block(a, j, a->n - j < T5_KV_BLOCK ? a->n - j : T5_KV_BLOCK);
        } else {
            score_block(a->q, a->blocks[j] + a->k_offset, a->d_kv, a->scores + j, a->blocks[j] + a->v_offset);
        }
    }
    if (a->bias != NULL) {
        for (int32_t j = 0; j < a->n; j++)
            a->scores[j] += a->bias[a->n - 1 - j];
    }
    const float scale = 1.0f / exp_scores(a->scores, a->n);
    if (a->ctx == NULL) return;
    int32_t d = 0;
    for (; d + 4 * V_LANES <= a->d_kv; d += 4 * V_LANES)
        mix_values(a, d, 4, scale);
    for (; d + V_LANES <= a->d_kv; d += V_LANES)
        mix_values(a, d, 1, scale);
    for (; d < a->d_kv; d++)
        mix_values_scalar(a, d, scale);
}

static size_t padded(int32_t n)
{
    return (size_t)(n + PANEL - 1) / PANEL * PANEL;
}

/* Panels of the keys [len columns][d_kv], panels of the values [d_kv columns][len], scores and context of one tile. */
size_t kernel_attend_source_scratch(int32_t len, int32_t d_kv)
{
    return padded(len) * (size_t)d_kv + padded(d_kv) * (size_t)len + TILE_ROWS_MAX * (padded(len) + padded(d_kv));
}

static void pack_keys(const t5_attend_source *a, float *panels)
{
    const size_t d_kv = (size_t)a->d_kv;
    memset(panels, 0, padded(a->len) * d_kv * sizeof *panels);
    for (int32_t j = 0; j < a->len; j++) {
        const float *key = a->k + (size_t)j * a->qkv_stride;
        float *to = panels + (size_t)(j / PANEL) * PANEL * d_kv + (size_t)(j % PANEL);
        for (size_t d = 0; d < d_kv; d++)
            to[d * PANEL] = key[d];
    }
}

static void pack_values(const t5_attend_source *a, float *panels)
{
    memset(panels, 0, padded(a->d_kv) * (size_t)a->len * sizeof *panels);
    for (int32_t d = 0; d < a->d_kv; d += PANEL) {
        const size_t n = (size_t)(a->d_kv - d < PANEL ? a->d_kv - d : PANEL);
        float *to = panels + (size_t)d * (size_t)a->len;
        for (int32_t j = 0; j < a->len; j++)
            memcpy(to + (size_t)j * PANEL, a->v + (size_t)j * a->qkv_stride + d, n * sizeof *to);
    }
}

/* out[n_rows][out_stride] = x times packed panels, n_cols columns. */
static void multiply(t5_tile *t, const float *panels, size_t n_cols, float *out, int32_t n_rows)
{
    t->out_stride = n_cols;
    for (size_t c = 0; c < n_cols; c += PANEL) {
        t->w = panels + c * (size_t)t->n_k;
        t->out = out + c;
        tile_f32(t, n_rows);
    }
}

void kernel_attend_source(const t5_attend_source *a)
{
    const size_t len = padded(a->len);
    const size_t d_kv = padded(a->d_kv);
    float *keys = a->scratch;
    float *values = keys + len * (size_t)a->d_kv;
    float *scores = values + d_kv * (size_t)a->len;
    float *ctx = scores + TILE_ROWS_MAX * len;
    pack_keys(a, keys);
    pack_values(a, values);
    int32_t n = 0;
    for (int32_t i = 0; i < a->len; i += n) {
        n = tile_rows(a->len - i, TILE_ROWS_MAX);
        t5_tile t = {.x = a->q + (size_t)i * a->qkv_stride, .x_stride = a->qkv_stride, .n_k = a->d_kv};
        multiply(&t, keys, len, scores, n);
        float scale[TILE_ROWS_MAX];
        for (int32_t r = 0; r < n; r++) {
            float *row = scores + (size_t)r * len;
            const float *bias = a->bias - (i + r);
            for (int32_t j = 0; j < a->len; j++)
                row[j] += bias[j];
            scale[r] = 1.0f / exp_scores(row, a->len);
        }
        t = (t5_tile){.x = scores, .x_stride = len, .n_k = a->len};
        multiply(&t, values, d_kv, ctx, n);
        for (int32_t r = 0; r < n; r++) {
            float *to = a->ctx + (size_t)(i + r) * a->ctx_stride;
            for (int32_t d = 0; d < a->d_kv; d++)
                to[d] = ctx[(size_t)r * d_kv + (size_t)d] * scale[r];
        }
    }
}
