/* model/load.c: from a Hugging Face folder to weights on a backend. Names are those of transformers'
 * T5ForConditionalGeneration; tensors that old checkpoints carry in vain (copies of the embedding, a bias in
 * cross-attention) are not looked at. */
#include "base/assert.h"
#include "base/file.h"
#include "base/limits.h"
#include "model/model.h"
#include "model/shortlist.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 128

int32_t t5_rel_bucket(int32_t distance, bool is_bidirectional, int32_t n_buckets, int32_t distance_max)
{
    int32_t bucket = 0;
    if (is_bidirectional) {
        n_buckets /= 2;
        if (distance > 0) bucket = n_buckets;
        distance = abs(distance);
    } else {
        distance = distance < 0 ? -distance : 0;
    }
    int32_t n_exact = n_buckets / 2;
    if (distance < n_exact) return bucket + distance;
    /* The other half is logarithmic. float32 as in the original, so that the borders fall on the same distances. */
    float log_ratio = logf((float)distance / (float)n_exact) / (float)log((double)distance_max / (double)n_exact);
    int32_t large = n_exact + (int32_t)(log_ratio * (float)(n_buckets - n_exact));
    return bucket + (large < n_buckets - 1 ? large : n_buckets - 1);
}

/* What the loading of one stack needs at hand. */
typedef struct {
    t5_model *m;
    const char *stack; /* "encoder" or "decoder" */
    int32_t i_layer;
    float out_scale; /* of the stack's output, by way of the gain of its last norm */
    t5_error *err;
} loader;

static int32_t inner_of(const t5_hparams *hp)
{
    return hp->n_heads * hp->d_kv;
}

/* Finds "<stack>.block.<i>.<suffix>" with the given shape. */
static t5_status find(const loader *l, const char *suffix, int32_t n_rows, int32_t n_cols, t5_tensor *out)
{
    char name[2 * NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.block.%d.%s", l->stack, l->i_layer, suffix);
    return t5_weights_get(l->m->weights, name, n_rows, n_cols, out, l->err);
}

static t5_status upload_floats(t5_backend *b, const float *values, size_t n, float **out, t5_error *err)
{
    void *p = NULL;
    t5_status status = b->ops->alloc(b, n * sizeof *values, &p, err);
    if (status != T5_OK) return status;
    status = b->ops->upload(b, p, values, n * sizeof *values, err);
    if (status != T5_OK) {
        b->ops->release(b, p);
        return status;
    }
    *out = p;
    return T5_OK;
}

/* What was read of the file need not stay in memory beside the backend's form of it. Panels that the backend uses where
 * they are were not read; they come with the first product. */
static void forget(const t5_tensor *parts, int32_t n_parts)
{
    for (int32_t i = 0; i < n_parts; i++)
        t5_file_forget(parts[i].data, (size_t)parts[i].n_rows * t5_tensor_row_bytes(&parts[i]));
}

static t5_status create_matrix(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                               t5_error *err)
{
    const t5_status status = b->ops->matrix_create(b, parts, n_parts, scale, out, err);
    forget(parts, n_parts);
    return status;
}

static t5_status create_head(t5_backend *b, const t5_tensor *head, float scale, t5_matrix **out, t5_error *err)
{
    const t5_status status = b->ops->head_create != NULL ? b->ops->head_create(b, head, scale, out, err)
                                                         : b->ops->matrix_create(b, head, 1, scale, out, err);
    forget(head, 1);
    return status;
}

static t5_status load_gain(const loader *l, const t5_tensor *t, float scale, float **out)
{
    float *gain = malloc((size_t)t->n_cols * sizeof *gain);
    if (gain == NULL) return T5_FAIL(l->err, T5_ERR_NOMEM, "norm: %d floats", t->n_cols);
    t5_tensor_row_f32(t, 0, gain);
    for (int32_t i = 0; i < t->n_cols; i++)
        gain[i] *= scale;
    t5_status status = upload_floats(l->m->backend, gain, (size_t)t->n_cols, out, l->err);
    free(gain);
    return status;
}

static t5_status load_norm(const loader *l, int32_t i_sublayer, float **out)
{
    t5_tensor t;
    char suffix[NAME_MAX_BYTES];
    snprintf(suffix, sizeof suffix, "layer.%d.layer_norm.weight", i_sublayer);
    t5_status status = find(l, suffix, 1, l->m->hp.d_model, &t);
    return status == T5_OK ? load_gain(l, &t, 1.0f, out) : status;
}

/* Stacks the projections that `letters` names ("qkv", "q", "kv") into one matrix [n * inner, d_model]. */
static t5_status load_projections(const loader *l, const char *sublayer, const char *letters, t5_matrix **out)
{
    t5_tensor parts[3] = {0};
    int32_t n_parts = 0;
    for (const char *p = letters; *p != '\0'; p++, n_parts++) {
        char suffix[NAME_MAX_BYTES];
        snprintf(suffix, sizeof suffix, "%s.%c.weight", sublayer, *p);
        t5_status status = find(l, suffix, inner_of(&l->m->hp), l->m->hp.d_model, &parts[n_parts]);
        if (status != T5_OK) return status;
    }
    t5_backend *b = l->m->backend;
    return create_matrix(b, parts, n_parts, 1.0f, out, l->err);
}

static t5_status load_matrix(const loader *l, const char *suffix, int32_t n_rows, int32_t n_cols, t5_matrix **out)
{
    t5_tensor t;
    t5_status status = find(l, suffix, n_rows, n_cols, &t);
    t5_backend *b = l->m->backend;
    return status == T5_OK ? create_matrix(b, &t, 1, 1.0f, out, l->err) : status;
}

/* The two halves are multiplied with in one product, so their numbers have one form. */
static t5_status load_gate(const loader *l, int32_t i_sublayer, t5_layer *layer)
{
    const t5_hparams *hp = &l->m->hp;
    t5_backend *b = l->m->backend;
    t5_matrix **const halves[] = {&layer->wi, &layer->wi_up};
    t5_tensor t[T5_COUNT(halves)];
    char suffix[NAME_MAX_BYTES];
    t5_status status = T5_OK;
    for (int32_t i = 0; i < (int32_t)T5_COUNT(halves); i++) {
        snprintf(suffix, sizeof suffix, "layer.%d.DenseReluDense.wi_%d.weight", i_sublayer, i);
        T5_TRY(find(l, suffix, hp->d_ff, hp->d_model, &t[i]));
    }
    if (t[1].dtype != t[0].dtype)
        return T5_FAIL(l->err, T5_ERR_FORMAT,
                       "%s: tensor \"%s.block.%d.%s\" is %s, wi_0 is %s: they must be of one type",
                       t5_weights_path(l->m->weights), l->stack, l->i_layer, suffix, t5_dtype_name(t[1].dtype),
                       t5_dtype_name(t[0].dtype));
    for (size_t i = 0; i < T5_COUNT(halves); i++)
        T5_TRY(create_matrix(b, &t[i], 1, 1.0f, halves[i], l->err));
out:
    return status;
}

static t5_status load_ffn(const loader *l, int32_t i_sublayer, t5_layer *layer)
{
    const t5_hparams *hp = &l->m->hp;
    t5_status status = load_norm(l, i_sublayer, &layer->norm_ffn);
    char suffix[NAME_MAX_BYTES];
    if (status != T5_OK) return status;
    snprintf(suffix, sizeof suffix, "layer.%d.DenseReluDense.wi.weight", i_sublayer);
    status = hp->is_gated ? load_gate(l, i_sublayer, layer) : load_matrix(l, suffix, hp->d_ff, hp->d_model, &layer->wi);
    if (status != T5_OK) return status;
    snprintf(suffix, sizeof suffix, "layer.%d.DenseReluDense.wo.weight", i_sublayer);
    return load_matrix(l, suffix, hp->d_model, hp->d_ff, &layer->wo);
}

/* Spreads the buckets [n_buckets, n_heads] over distances: encoder [n_heads][2 * len - 1] for key minus query, decoder
 * [n_heads][len] for query minus key. One level of lookup is left to the attention. */
static t5_status load_bias(const loader *l, bool is_encoder, float **out)
{
    const t5_hparams *hp = &l->m->hp;
    t5_tensor t;
    t5_status status =
        find(l, "layer.0.SelfAttention.relative_attention_bias.weight", hp->rel_buckets, hp->n_heads, &t);
    if (status != T5_OK) return status;
    int32_t len = is_encoder ? l->m->src_len_max : l->m->tgt_len_max;
    int32_t n_cols = is_encoder ? 2 * len - 1 : len;
    size_t n_heads = (size_t)hp->n_heads;
    float *buckets = malloc((size_t)hp->rel_buckets * n_heads * sizeof *buckets);
    float *table = malloc(n_heads * (size_t)n_cols * sizeof *table);
    if (buckets == NULL || table == NULL) {
        status = T5_FAIL(l->err, T5_ERR_NOMEM, "bias table: %d heads x %d distances", hp->n_heads, n_cols);
        goto out;
    }
    for (int32_t i = 0; i < hp->rel_buckets; i++)
        t5_tensor_row_f32(&t, i, buckets + (size_t)i * n_heads);
    for (int32_t i = 0; i < n_cols; i++) {
        int32_t distance = is_encoder ? i - (len - 1) : -i;
        int32_t bucket = t5_rel_bucket(distance, is_encoder, hp->rel_buckets, hp->rel_distance_max);
        for (size_t h = 0; h < n_heads; h++)
            table[h * (size_t)n_cols + (size_t)i] = buckets[(size_t)bucket * n_heads + h];
    }
    status = upload_floats(l->m->backend, table, n_heads * (size_t)n_cols, out, l->err);
out:
    free(buckets);
    free(table);
    return status;
}

static t5_status load_layer(const loader *l, bool is_encoder, t5_layer *layers)
{
    const t5_hparams *hp = &l->m->hp;
    t5_layer *layer = &layers[l->i_layer];
    t5_status status = T5_OK;
    T5_TRY(load_norm(l, 0, &layer->norm_attention));
    T5_TRY(load_projections(l, "layer.0.SelfAttention", "qkv", &layer->qkv));
    T5_TRY(load_matrix(l, "layer.0.SelfAttention.o.weight", hp->d_model, inner_of(hp), &layer->out));
    if (l->i_layer == 0 || hp->has_layer_bias) {
        T5_TRY(load_bias(l, is_encoder, &layer->bias));
    } else {
        layer->bias = layers[0].bias;
    }
    if (!is_encoder) {
        T5_TRY(load_norm(l, 1, &layer->norm_cross));
        T5_TRY(load_projections(l, "layer.1.EncDecAttention", "q", &layer->cross_q));
        T5_TRY(load_projections(l, "layer.1.EncDecAttention", "kv", &layer->cross_kv));
        T5_TRY(load_matrix(l, "layer.1.EncDecAttention.o.weight", hp->d_model, inner_of(hp), &layer->cross_out));
    }
    T5_TRY(load_ffn(l, is_encoder ? 1 : 2, layer));
out:
    return status;
}

static t5_status load_stack(t5_model *m, bool is_encoder, float out_scale, t5_layer **out_layers, float **out_norm,
                            t5_error *err)
{
    int32_t n_layers = is_encoder ? m->hp.n_enc_layers : m->hp.n_dec_layers;
    loader l = {.m = m, .stack = is_encoder ? "encoder" : "decoder", .out_scale = out_scale, .err = err};
    *out_layers = calloc((size_t)n_layers, sizeof **out_layers);
    if (*out_layers == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d layers", n_layers);
    for (l.i_layer = 0; l.i_layer < n_layers; l.i_layer++) {
        t5_status status = load_layer(&l, is_encoder, *out_layers);
        if (status != T5_OK) return status;
    }
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.final_layer_norm.weight", l.stack);
    t5_tensor t;
    t5_status status = t5_weights_get(m->weights, name, 1, m->hp.d_model, &t, err);
    return status == T5_OK ? load_gain(&l, &t, l.out_scale, out_norm) : status;
}

/* A quantised folder of a tied model has its head beside the table, which keeps its precision for the look-up; a
 * backend that multiplies with the table has no use for it. */
static bool has_own_head(const t5_model *m)
{
    const t5_tensor *head = t5_weights_find(m->weights, "lm_head.weight");
    if (head == NULL || !m->hp.is_tied) return head != NULL;
    return t5_dtype_is_quantized(head->dtype) && !m->backend->ops->multiplies_tables;
}

/* shared.weight serves both stacks; some files name it by one of its uses only. *out_scale is what is left to do for
 * the decoder's output: a head that is the table itself cannot be scaled. */
static t5_status load_embeddings(t5_model *m, float *out_scale, t5_error *err)
{
    static const char *const names[] = {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"};
    const t5_hparams *hp = &m->hp;
    t5_backend *b = m->backend;
    t5_tensor shared;
    t5_tensor head;
    size_t i = 0;
    while (i + 1 < T5_COUNT(names) && t5_weights_find(m->weights, names[i]) == NULL)
        i++;
    if (t5_weights_find(m->weights, names[i]) == NULL) i = 0; /* the error names the usual one */
    t5_status status = t5_weights_get(m->weights, names[i], hp->vocab_size, hp->d_model, &shared, err);
    if (status != T5_OK) return status;
    head = shared;
    if (has_own_head(m)) {
        status = t5_weights_get(m->weights, "lm_head.weight", hp->vocab_size, hp->d_model, &head, err);
        if (status != T5_OK) return status;
    }
    float scale = hp->scales_decoder_out ? 1.0f / sqrtf((float)hp->d_model) : 1.0f;
    m->head_tensor = head;
    m->head_scale = scale;
    status = b->ops->table_create(b, &shared, &m->table, err);
    if (status != T5_OK) return status;
    *out_scale = 1.0f;
    if (head.data != shared.data || !b->ops->multiplies_tables) return create_head(b, &head, scale, &m->head, err);
    m->head = m->table;
    *out_scale = scale;
    return T5_OK;
}

t5_status t5_model_open(const char *dir, t5_backend *backend, int32_t src_len_max, int32_t tgt_len_max, t5_model **out,
                        t5_error *err)
{
    T5_ASSERT(src_len_max >= 1 && src_len_max <= T5_SEQ_LEN_MAX && tgt_len_max >= 2 && tgt_len_max <= T5_SEQ_LEN_MAX);
    t5_status status = T5_OK;
    t5_model *m = calloc(1, sizeof *m);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "model: %zu bytes", sizeof *m);
    m->backend = backend;
    m->src_len_max = src_len_max;
    m->tgt_len_max = tgt_len_max;
    float out_scale = 1.0f;
    T5_TRY(t5_hparams_load(dir, &m->hp, err));
    if (backend->ops->check != NULL) T5_TRY(backend->ops->check(backend, &m->hp, err));
    T5_TRY(t5_weights_open(dir, &m->weights, err));
    T5_TRY(load_embeddings(m, &out_scale, err));
    T5_TRY(load_stack(m, true, 1.0f, &m->enc_layers, &m->enc_norm, err));
    T5_TRY(load_stack(m, false, out_scale, &m->dec_layers, &m->dec_norm, err));
    T5_TRY(backend->ops->sync(backend, err));
    *out = m;
    m = NULL;
out:
    t5_model_close(m);
    return status;
}

static void close_layers(t5_model *m, t5_layer *layers, int32_t n_layers)
{
    t5_backend *b = m->backend;
    if (layers == NULL) return;
    for (int32_t i = 0; i < n_layers; i++) {
        t5_layer *layer = &layers[i];
        t5_matrix *matrices[] = {layer->qkv,       layer->out, layer->cross_q, layer->cross_kv,
                                 layer->cross_out, layer->wi,  layer->wi_up,   layer->wo};
        for (size_t k = 0; k < T5_COUNT(matrices); k++)
            b->ops->matrix_destroy(b, matrices[k]);
        b->ops->release(b, layer->norm_attention);
        b->ops->release(b, layer->norm_cross);
        b->ops->release(b, layer->norm_ffn);
        if (i == 0 || layer->bias != layers[0].bias) b->ops->release(b, layer->bias);
    }
    free(layers);
}

void t5_model_close(t5_model *m)
{
    if (m == NULL) return;
    t5_backend *b = m->backend;
    close_layers(m, m->dec_layers, m->hp.n_dec_layers);
    close_layers(m, m->enc_layers, m->hp.n_enc_layers);
    b->ops->release(b, m->enc_norm);
    b->ops->release(b, m->dec_norm);
    t5_model_close_shortlists(m);
    if (m->head != m->table) b->ops->matrix_destroy(b, m->head);
    b->ops->matrix_destroy(b, m->table);
    t5_weights_close(m->weights);
    free(m);
}
