/* model/model.h: a T5 model on a backend: weights and forward pass. Immutable after open, except through the thread
 * that owns the backend. */
#pragma once
#include "model/backend.h"
#include "model/weights.h"

T5_C_BEGIN

typedef struct {
    float *norm_attention, *norm_cross, *norm_ffn; /* [dev] [d_model]; norm_cross: decoder only */
    t5_matrix *qkv;                                /* [3 * inner, d_model], inner = n_heads * d_kv */
    t5_matrix *out;                                /* [d_model, inner] */
    t5_matrix *cross_q;                            /* [inner, d_model] decoder only */
    t5_matrix *cross_kv;                           /* [2 * inner, d_model] of the encoder output, decoder only */
    t5_matrix *cross_out;                          /* [d_model, inner] decoder only */
    t5_matrix *wi;                                 /* [d_ff, d_model]: wi, or wi_0 of a gated feed-forward */
    t5_matrix *wi_up;                              /* [d_ff, d_model]: wi_1, or NULL */
    t5_matrix *wo;                                 /* [d_model, d_ff] */
    float *bias; /* [dev] by head and distance, see backend.h; layers share one unless UMT5 */
} t5_layer;

typedef struct {
    t5_hparams hp;
    t5_backend *backend; /* borrowed */
    t5_weights *weights; /* kept open: the CPU's embedding table reads the map */
    t5_matrix *table;    /* [vocab_size, d_model] shared.weight for lookup */
    t5_matrix *head;     /* [vocab_size, d_model]; may be the table */
    t5_layer *enc_layers, *dec_layers;
    float *enc_norm, *dec_norm;       /* [dev] [d_model] final norms */
    int32_t src_len_max, tgt_len_max; /* lengths of the bias tables */
    t5_tensor head_tensor;            /* what `head` was made of: borrowed from `weights` */
    float head_scale;
    t5_shortlist *shortlists; /* [n_shortlists] */
    t5_matrix **short_heads;  /* [n_shortlists] [n, d_model] the rows of the head that a list names */
    int32_t n_shortlists;
} t5_model;

/* Reads config.json and the weights in `dir` and puts them on `backend`, which must outlive the model. Sources have at
 * most src_len_max tokens, targets tgt_len_max (start token included). */
t5_status t5_model_open(const char *dir, t5_backend *backend, int32_t src_len_max, int32_t tgt_len_max, t5_model **out,
                        t5_error *err);
void t5_model_close(t5_model *m); /* accepts NULL */

/* Adds a list of words that sequences may choose from instead of all; *out_number is its number in requests. A part of
 * the head is copied for it: products with that are the same sums, so that a list of all words changes nothing. ids[n]
 * rising, with eos. T5_ERR_ARG: the backend has no shortlists, or the list is wrong. Nothing may be running. */
t5_status t5_model_add_shortlist(t5_model *m, const int32_t *ids, int32_t n, int32_t *out_number, t5_error *err);

/* Scratch of a forward pass, in backend memory, for up to n_rows_max tokens or queries at a time. */
typedef struct {
    float *x;      /* [n_rows_max, d_model] residual stream */
    void *qkv;     /* [n_rows_max, 3 * inner] */
    void *ctx;     /* [n_rows_max, inner] */
    void *ffn;     /* [n_rows_max, d_ff] */
    void *enc_out; /* [n_rows_max, d_model] */
    int32_t n_rows_max;
} t5_scratch;

/* Lets the backend find out how it does this model's products fastest, with the scratch of both halves; before any
 * work.
 */
t5_status t5_model_warm_up(t5_model *m, const t5_scratch *enc, const t5_scratch *dec, t5_error *err);
/* Encodes the packed sources: enc_out of `s` holds the normalized encoder states, activations [n_tokens, d_model]. */
t5_status t5_model_encode(t5_model *m, const t5_packed *packed, t5_scratch *s, t5_error *err);
/* Projects enc_out to each decoder layer's cross keys and values and stores them in the slots' blocks. */
t5_status t5_model_project_cross(t5_model *m, const t5_packed *packed, const t5_kv_view *kv, t5_scratch *s,
                                 t5_error *err);
/* Runs the decoder over the step's queries; logits: [dev] [n_queries, vocab_size]. */
t5_status t5_model_decode(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *logits,
                          t5_error *err);

/* The same, and one step of the search over what it finds; logits is scratch of that size. */
t5_status t5_model_step(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *logits,
                        t5_error *err);

/* Runs the decoder over the step's queries as far as their cross-attention and adds up what each query looks at in the
 * upper half of the layers: weights: [dev] [n_queries][cross_stride * T5_KV_BLOCK]. */
t5_status t5_model_align(t5_model *m, const t5_step *step, const t5_kv_view *kv, t5_scratch *s, float *weights,
                         t5_error *err);

/* Bucket of a relative position, T5's formula (transformers models/t5/modeling_t5.py, _relative_position_bucket):
 * `distance` is key position minus query position. */
int32_t t5_rel_bucket(int32_t distance, bool is_bidirectional, int32_t n_buckets, int32_t distance_max);

T5_C_END
