/* cuda/kernels.h: what cuda/backend.c launches. Each function queues one kernel on a stream and returns the launch
 * error; the kernels own nothing. The file of each says shapes, geometry, bytes moved and the plain-C twin.
 *
 * `type` is the type of activations and weights: T5_F32, T5_F16 or T5_BF16. Activations of the feed-forward's inner
 * layer are stored in half as value / T5_CUDA_FFN_SCALE: trained in bfloat16, FLAN, mT5, UMT5 and MADLAD leave the
 * range of half there. A power of two changes no bits of the mantissa; subnormals begin at 2^-14 * 64 = 0.004. */
#pragma once
#include "cuda/stream.h"
#include "model/backend.h"

T5_C_BEGIN

#define T5_CUDA_FFN_SCALE 64.0f
#define T5_CUDA_D_KV_MAX 256
#define T5_CUDA_D_KV_ODD_MAX 64 /* heads that are not a multiple of 8 wide */
/* Weights are stored with zero rows and columns up to these multiples, so that no kernel looks at their edges. */
#define T5_CUDA_PAD_ROWS 16
#define T5_CUDA_PAD_COLS 32

/* x[n, d_model] float = table[token]; tokens from `tokens`, or those of a step's queries when it is NULL. */
typedef struct {
    const void *table; /* [vocab_size, ld] */
    int32_t ld, d_model, n;
    const int32_t *tokens;
    const int32_t *row, *pos, *history; /* history[row * stride + pos] */
    int32_t stride;
    float *x;
} t5_cuda_embed_args;
cudaError_t t5_cuda_embed(t5_dtype type, const t5_cuda_embed_args *args, t5_cuda_stream stream);

/* y[n_rows, d] = x * rsqrt(mean(x^2) + eps) * gain, x float. */
typedef struct {
    const float *x, *gain;
    float eps;
    int32_t n_rows, d;
    void *y;
} t5_cuda_norm_args;
cudaError_t t5_cuda_rms_norm(t5_dtype type, const t5_cuda_norm_args *args, t5_cuda_stream stream);

typedef enum {
    T5_CUDA_STORE,   /* y = value, activations */
    T5_CUDA_ADD_F32, /* y += value, float: the residual stream */
} t5_cuda_output;

typedef struct {
    const void *x; /* [n_rows, d_in] activations, or float when norm_gain is given */
    const float *norm_gain;
    float norm_eps;
    int32_t n_rows, d_in, d_out;
    const void *w, *w_up; /* [d_out padded, ld]; w_up may be NULL */
    int32_t ld;
    float x_scale, y_scale; /* powers of two: what x is divided by, what y is multiplied by */
    int32_t has_act;
    t5_act act;
    t5_cuda_output output;
    void *y; /* [n_rows, d_out] */
} t5_cuda_linear_args;
/* Any number of rows; made for few. An element of y does not depend on how many there are. */
cudaError_t t5_cuda_linear(t5_dtype type, const t5_cuda_linear_args *args, t5_cuda_stream stream);
/* Whether t5_cuda_linear() can normalize rows by itself, or wants t5_cuda_rms_norm() to have done it. */
bool t5_cuda_linear_normalizes(t5_dtype type, int32_t n_rows, int32_t d_in);
/* y[n] = act(gate[n]) * (up[n] when given) * y_scale: what follows a product by cuBLAS. */
cudaError_t t5_cuda_activate(t5_dtype type, const float *gate, const float *up, int32_t has_act, t5_act act,
                             float y_scale, size_t n, void *y, t5_cuda_stream stream);

/* logits[q] = n(x[q]) w^T. With `slots` the rows are a step's queries: those whose slot only chooses get the parts that
 * t5_cuda_search_rows() merges (head.cuh), those of which the search needs nothing get nothing. */
typedef struct {
    const void *x; /* [n_queries, d_in] activations, or float when norm_gain is given */
    const float *norm_gain;
    float norm_eps;
    int32_t n_queries, d_in, vocab_size;
    const void *w; /* [vocab_size padded, ld] */
    int32_t ld;
    const t5_slot *slots;            /* or NULL: all logits are wanted */
    const int32_t *row, *pos, *slot; /* of each query, with `slots` */
    float *logits;                   /* [n_queries, vocab_size] */
} t5_cuda_head_args;
cudaError_t t5_cuda_head_rows(t5_dtype type, const t5_cuda_head_args *args, t5_cuda_stream stream);
/* Whether t5_cuda_head_rows() can normalize rows by itself. */
bool t5_cuda_head_normalizes(t5_dtype type, int32_t n_queries, int32_t d_in);

cudaError_t t5_cuda_encoder_attention(t5_dtype type, const t5_encoder_attention_args *args, t5_cuda_stream stream);
/* Where blocks that share a query's context meet (attend_split.cuh). Kernels of one stream share it. */
typedef struct {
    float *parts;      /* [T5_CUDA_SPLIT_FLOATS] */
    unsigned *arrived; /* [T5_CUDA_SPLIT_BLOCKS] zero between kernels */
} t5_cuda_split;
#define T5_CUDA_SPLIT_FLOATS ((size_t)1 << 20)
/* Contexts are shared until there are so many blocks: a few for each multiprocessor. */
#define T5_CUDA_SPLIT_BLOCKS 512
cudaError_t t5_cuda_self_attention(t5_dtype type, const t5_self_attention_args *args, const t5_cuda_split *split,
                                   t5_cuda_stream stream);
cudaError_t t5_cuda_cross_attention(t5_dtype type, const t5_cross_attention_args *args, const t5_cuda_split *split,
                                    t5_cuda_stream stream);
cudaError_t t5_cuda_cross_weights(t5_dtype type, const t5_cross_weights_args *args, t5_cuda_stream stream);
cudaError_t t5_cuda_store_cross_kv(t5_dtype type, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                   const void *kv_rows, t5_cuda_stream stream);

/* The two halves of a search step; they change the logits. `has_tiles`: the logits are what t5_cuda_head_rows() left of
 * the step's queries. */
cudaError_t t5_cuda_search_rows(const t5_step *step, float *logits, int32_t vocab_size, bool has_tiles,
                                t5_cuda_stream stream);
cudaError_t t5_cuda_search_slots(const t5_step *step, t5_cuda_stream stream);

T5_C_END
