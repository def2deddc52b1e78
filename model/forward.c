/* model/forward.c: the T5 forward pass over the operation table, as in transformers' models/t5/modeling_t5.py.
 *
 *   layer:  x += out(attention(qkv(norm(x))))   [decoder: x += cross_out(cross_attention(cross_q(norm(x))))]   x +=
 * ffn(norm(x))
 *
 * x is the residual stream; each line is one operation. */
#include "base/assert.h"
#include "model/model.h"

/* y = w n(x), or with `adds` y += w x. */
static t5_linear_args linear_args(const t5_model *m, const void *x, int32_t n_rows, const float *norm_gain,
                                  const t5_matrix *w, void *y, bool adds)
{
    return (t5_linear_args){
        .x = x, .n_rows = n_rows, .norm_gain = norm_gain, .norm_eps = m->hp.norm_eps, .w = w, .y = y, .adds = adds};
}

static t5_status linear(t5_model *m, const void *x, int32_t n_rows, const float *norm_gain, const t5_matrix *w, void *y,
                        bool adds, t5_error *err)
{
    t5_linear_args args = linear_args(m, x, n_rows, norm_gain, w, y, adds);
    return m->backend->ops->linear(m->backend, &args, err);
}

/* Both products of x += wo(act(wi n(x)) [* wi_up n(x)]). */
static void feed_forward_args(const t5_model *m, const t5_layer *layer, int32_t n_rows, const t5_scratch *s,
                              t5_linear_args out[2])
{
    out[0] = linear_args(m, s->x, n_rows, layer->norm_ffn, layer->wi, s->ffn, false);
    out[0].w_up = layer->wi_up;
    out[0].has_act = true;
    out[0].act = m->hp.act;
    out[1] = linear_args(m, s->ffn, n_rows, NULL, layer->wo, s->x, true);
    out[1].x_is_ffn = true;
}

static t5_status feed_forward(t5_model *m, const t5_layer *layer, int32_t n_rows, t5_scratch *s, t5_error *err)
{
    t5_linear_args args[2];
    feed_forward_args(m, layer, n_rows, s, args);
    t5_status status = m->backend->ops->linear(m->backend, &args[0], err);
    return status == T5_OK ? m->backend->ops->linear(m->backend, &args[1], err) : status;
}

/* Layers are alike: the products of the first of each kind stand for all. */
t5_status t5_model_warm_up(t5_model *m, const t5_scratch *enc, const t5_scratch *dec, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *b = m->backend;
    const t5_layer *e = &m->enc_layers[0], *d = &m->dec_layers[0];
    int32_t n_enc = enc->n_rows_max, n_dec = dec->n_rows_max;
    if (b->ops->tune_linear == NULL) return T5_OK;
    t5_linear_args products[11] = {
        linear_args(m, enc->x, n_enc, e->norm_attention, e->qkv, enc->qkv, false),
        linear_args(m, enc->ctx, n_enc, NULL, e->out, enc->x, true),
        linear_args(m, enc->enc_out, n_enc, NULL, d->cross_kv, enc->qkv, false),
        linear_args(m, dec->x, n_dec, d->norm_attention, d->qkv, dec->qkv, false),
        linear_args(m, dec->ctx, n_dec, NULL, d->out, dec->x, true),
        linear_args(m, dec->x, n_dec, d->norm_cross, d->cross_q, dec->qkv, false),
        linear_args(m, dec->ctx, n_dec, NULL, d->cross_out, dec->x, true),
    };
    feed_forward_args(m, e, n_enc, enc, products + 7);
    feed_forward_args(m, d, n_dec, dec, products + 9);
    for (size_t i = 0; i < T5_COUNT(products); i++)
        T5_TRY(b->ops->tune_linear(b, &products[i], err));
out:
    return status;
}

t5_status t5_model_encode(t5_model *m, const t5_packed *packed, t5_scratch *s, t5_error *err)
{
    T5_ASSERT(packed->n_tokens >= 1 && packed->n_tokens <= s->n_rows_max && packed->len_max <= m->src_len_max);
    t5_status status = T5_OK;
    t5_backend *b = m->backend;
    int32_t n = packed->n_tokens;
    T5_TRY(b->ops->embed(b, m->table, NULL, packed, s->x, err));
    for (int32_t i = 0; i < m->hp.n_enc_layers; i++) {
        const t5_layer *layer = &m->enc_layers[i];
        t5_encoder_attention_args attention = {.packed = packed,
                                               .qkv = s->qkv,
                                               .bias = layer->bias,
                                               .bias_len = m->src_len_max,
                                               .n_heads = m->hp.n_heads,
                                               .d_kv = m->hp.d_kv,
                                               .ctx = s->ctx};
        T5_TRY(linear(m, s->x, n, layer->norm_attention, layer->qkv, s->qkv, false, err));
        T5_TRY(b->ops->encoder_attention(b, &attention, err));
        T5_TRY(linear(m, s->ctx, n, NULL, layer->out, s->x, true, err));
        T5_TRY(feed_forward(m, layer, n, s, err));
    }
    T5_TRY(b->ops->rms_norm(b, s->x, m->enc_norm, m->hp.norm_eps, n, m->hp.d_model, s->enc_out, err));
out:
    return status;
}

t5_status t5_model_project_cross(t5_model *m, const t5_packed *packed, const t5_kv_view *kv, t5_scratch *s,
                                 t5_error *err)
{
    t5_status status = T5_OK;
    for (int32_t i = 0; i < m->hp.n_dec_layers; i++) {
        T5_TRY(linear(m, s->enc_out, packed->n_tokens, NULL, m->dec_layers[i].cross_kv, s->qkv, false, err));
        T5_TRY(m->backend->ops->store_cross_kv(m->backend, packed, kv, i, s->qkv, err));
    }
out:
    return status;
}

/* s->x = the last layer's output of each query. With `weights` it is not: the pass ends with what the last layer's
 * queries look at. Only the upper half of the layers is asked: it is where a decoder looks at what it writes next, the
 * lower layers look anywhere (Garg et al., "Jointly Learning to Align and Translate", 2019). */
static t5_status decoder_layers(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *weights,
                                t5_error *err)
{
    T5_ASSERT(step->n_queries >= 1 && step->n_queries <= s->n_rows_max);
    t5_status status = T5_OK;
    t5_backend *b = m->backend;
    int32_t n = step->n_queries, i_upper = m->hp.n_dec_layers / 2;
    T5_TRY(b->ops->embed(b, m->table, step, NULL, s->x, err));
    for (int32_t i = 0; i < m->hp.n_dec_layers; i++) {
        const t5_layer *layer = &m->dec_layers[i];
        t5_self_attention_args self = {.step = step,
                                       .kv = kv,
                                       .layer = i,
                                       .qkv = s->qkv,
                                       .bias = layer->bias,
                                       .bias_len = m->tgt_len_max,
                                       .ctx = s->ctx};
        t5_cross_attention_args cross = {.step = step, .kv = kv, .layer = i, .q = s->qkv, .ctx = s->ctx};
        t5_cross_weights_args look = {
            .step = step, .kv = kv, .layer = i, .q = s->qkv, .adds = i > i_upper, .weights = weights};
        T5_TRY(linear(m, s->x, n, layer->norm_attention, layer->qkv, s->qkv, false, err));
        T5_TRY(b->ops->self_attention(b, &self, err));
        T5_TRY(linear(m, s->ctx, n, NULL, layer->out, s->x, true, err));
        T5_TRY(linear(m, s->x, n, layer->norm_cross, layer->cross_q, s->qkv, false, err));
        if (weights != NULL && i >= i_upper) T5_TRY(b->ops->cross_weights(b, &look, err));
        if (weights != NULL && i == m->hp.n_dec_layers - 1) break;
        T5_TRY(b->ops->cross_attention(b, &cross, err));
        T5_TRY(linear(m, s->ctx, n, NULL, layer->cross_out, s->x, true, err));
        T5_TRY(feed_forward(m, layer, n, s, err));
    }
out:
    return status;
}

t5_status t5_model_decode(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *logits,
                          t5_error *err)
{
    t5_backend *b = m->backend;
    t5_status status = decoder_layers(m, step, kv, s, NULL, err);
    if (status != T5_OK) return status;
    return b->ops->head(b, s->x, step->n_queries, m->dec_norm, m->hp.norm_eps, m->head, logits, err);
}

/* Head and search of the queries that choose from one list. The logits of a group lie where its queries' places in the
 * step say, as if they were all of its width: groups may lie over each other, since one is done before the next. */
static t5_status choose(t5_model *m, const t5_step *step, const t5_step_group *g, const t5_scratch *s, float *logits,
                        t5_error *err)
{
    t5_backend *b = m->backend;
    const int32_t i_list = g->shortlist - 1;
    const t5_matrix *head = i_list < 0 ? m->head : m->short_heads[i_list];
    const int32_t n_logits = i_list < 0 ? m->hp.vocab_size : m->shortlists[i_list].n;
    const float *x = s->x + (size_t)g->q0 * (size_t)m->hp.d_model;
    t5_step part = *step;
    part.n_queries = g->n_queries;
    part.row += g->q0;
    part.pos += g->q0;
    part.slot += g->q0;
    part.n_rows = g->n_rows;
    part.rows += g->row0;
    part.n_groups = 0;
    t5_status status = b->ops->head(b, x, g->n_queries, m->dec_norm, m->hp.norm_eps, head,
                                    logits + (size_t)g->q0 * (size_t)n_logits, err);
    return status == T5_OK ? b->ops->search(b, &part, logits, n_logits, err) : status;
}

t5_status t5_model_step(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *logits,
                        t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *b = m->backend;
    if (step->n_groups > 0) {
        T5_TRY(decoder_layers(m, step, kv, s, NULL, err));
        for (int32_t i = 0; i < step->n_groups; i++)
            T5_TRY(choose(m, step, &step->groups[i], s, logits, err));
    } else if (b->ops->head_search != NULL) {
        T5_TRY(decoder_layers(m, step, kv, s, NULL, err));
        T5_TRY(b->ops->head_search(b, step, s->x, m->dec_norm, m->hp.norm_eps, m->head, logits, err));
    } else {
        T5_TRY(t5_model_decode(m, step, kv, s, logits, err));
        T5_TRY(b->ops->search(b, step, logits, m->hp.vocab_size, err));
    }
out:
    return status;
}

t5_status t5_model_align(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *weights,
                         t5_error *err)
{
    T5_ASSERT(weights != NULL);
    return decoder_layers(m, step, kv, s, weights, err);
}
