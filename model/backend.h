/* model/backend.h: what a device must be able to do for T5, as a table of operations.
 *
 * The forward pass (model/forward.c) is written once over this table. An operation is as large as one line of the
 * forward pass, so that a backend is free to fuse inside it: a decoder layer is eight calls. Pointers marked [dev] are
 * backend memory: on the CPU plain memory, on a GPU device memory. Operations are queued in order; only sync and
 * download wait. One thread at a time calls a backend.
 *
 * Results must not depend on what else is in the batch: the order of summation of an output element depends on the
 * weight's shape only, never on the number of rows.
 *
 * Types: the residual stream, norms, softmax, logits and scores are float32 on every backend. Activations between an
 * operation and the next (qkv, ctx, ffn, encoder_out) have the backend's own type, `act_dtype`. */
#pragma once
#include "model/hparams.h"
#include "model/search.h"
#include "model/tensor.h"

T5_C_BEGIN

typedef struct t5_backend t5_backend;
typedef struct t5_matrix t5_matrix; /* a weight in the backend's own layout */

/* The paged KV cache: blocks of T5_KV_BLOCK positions, for self- and cross-attention alike. Inside a block the keys and
 * values of one layer, [n_layers][2][T5_KV_BLOCK * n_heads * d_kv] elements, are laid out as the backend likes. */
typedef struct {
    void *pool;         /* [dev] [n_blocks][block_bytes] */
    size_t block_bytes; /* n_layers * 2 * T5_KV_BLOCK * n_heads * d_kv activation elements */
    int32_t n_layers, n_heads, d_kv;
    const int32_t *self_blocks;  /* [dev] [n_rows_max][self_stride] block of each T5_KV_BLOCK positions of a row */
    const int32_t *cross_blocks; /* [dev] [n_slots_max][cross_stride] block of each T5_KV_BLOCK positions of a source */
    int32_t self_stride, cross_stride;
} t5_kv_view;

/* The queries of a step that choose from one list of words. */
typedef struct {
    int32_t shortlist; /* see t5_slot */
    int32_t q0, n_queries, row0, n_rows;
} t5_step_group;

/* The queries of one decode step: query q is position pos[q] of row[q], whose token is state->tokens[row][pos]. A query
 * whose row is -1 only fills a recorded step (see t5_async_ops): its outputs are nobody's, and it touches neither the
 * cache nor the search. A slot that is done is left alone by the search, whatever the step says.
 * A row's queries stand side by side in rising position. */
typedef struct {
    int32_t n_queries, n_rows;
    const int32_t *row;           /* [dev] [n_queries] */
    const int32_t *pos;           /* [dev] [n_queries] */
    const int32_t *slot;          /* [dev] [n_queries] */
    const t5_step_row *rows;      /* [dev] [n_rows] the same, by row; rows of a slot stand side by side */
    const t5_search_state *state; /* host struct of [dev] pointers */
    const t5_step_group *groups;  /* host [n_groups]; every query is in one of them */
    int32_t n_groups;             /* 0: all choose from the whole vocabulary */
} t5_step;

/* The sources of one encoder batch, packed without padding: tokens of sequence i are first[i] .. first[i + 1] - 1. */
typedef struct {
    int32_t n_seqs, n_tokens, len_max;
    const int32_t *tokens; /* [dev] [n_tokens] */
    const int32_t *first;  /* [dev] [n_seqs + 1] */
    const int32_t *slots;  /* [dev] [n_seqs] */
} t5_packed;

/* y = act(n(x) w^T) [* (n(x) w_up^T)] [+ y], n(x) = rms_norm(x) when norm_gain is given, else x. No biases in T5.
 * x: [n_rows, d_in]; w, w_up: [d_out, d_in]; y: [n_rows, d_out]. */
typedef struct {
    const void *x; /* [dev] float32 residual stream when norm_gain is given, else activations */
    int32_t n_rows;
    const float *norm_gain; /* [dev] [d_in] or NULL */
    float norm_eps;
    const t5_matrix *w;
    const t5_matrix *w_up; /* the ungated half of a gated feed-forward, or NULL */
    int32_t has_act;
    t5_act act;
    void *y;   /* [dev] activations; with `adds`, the float32 residual stream */
    bool adds; /* y += instead of y = */
    /* x is what a product with has_act wrote: the inner activations of a feed-forward. They leave the range of float16
     * (trained in bfloat16), so a backend that keeps activations in float16 stores them divided by a power of two. */
    bool x_is_ffn;
} t5_linear_args;

/* ctx[i] = softmax_j(q_i k_j + bias[j - i]) v over the tokens j of the same sequence; not scaled by 1/sqrt(d_kv). */
typedef struct {
    const t5_packed *packed;
    const void *qkv;   /* [dev] [n_tokens][3][n_heads][d_kv] */
    const float *bias; /* [dev] [n_heads][2 * bias_len - 1], distance j - i at index j - i + bias_len - 1 */
    int32_t bias_len;  /* sources are at most this long */
    int32_t n_heads, d_kv;
    void *ctx; /* [dev] [n_tokens][n_heads][d_kv] */
} t5_encoder_attention_args;

/* Stores k and v of each query in the cache, then ctx[q] = softmax_{j <= pos}(q k_j + bias[pos - j]) v, where position
 * j of the row is read from the sibling that ancestors[row][j] names (row0 of the slot + that), the query's own step
 * from the row itself. */
typedef struct {
    const t5_step *step;
    const t5_kv_view *kv;
    int32_t layer;
    const void *qkv;   /* [dev] [n_queries][3][n_heads][d_kv] */
    const float *bias; /* [dev] [n_heads][bias_len], distance pos - j */
    int32_t bias_len;
    void *ctx; /* [dev] [n_queries][n_heads][d_kv] */
} t5_self_attention_args;

/* ctx[q] = softmax_j(q k_j) v over the positions of the slot's source. */
typedef struct {
    const t5_step *step;
    const t5_kv_view *kv;
    int32_t layer;
    const void *q; /* [dev] [n_queries][n_heads][d_kv] */
    void *ctx;     /* [dev] [n_queries][n_heads][d_kv] */
} t5_cross_attention_args;

/* weights[q][j] = sum over the heads of softmax_j(q k_j), over the positions of the slot's source: what a query looks
 * at. Queries of alignment passes alone, see t5_model_align(). */
typedef struct {
    const t5_step *step;
    const t5_kv_view *kv;
    int32_t layer;
    const void *q;  /* [dev] [n_queries][n_heads][d_kv] */
    bool adds;      /* += instead of = */
    float *weights; /* [dev] [n_queries][cross_stride * T5_KV_BLOCK]; positions past the source are left alone */
} t5_cross_weights_args;

/* What a device adds that runs behind the host: the host queues step k + 1 before it knows how step k ended. Plain
 * operations need none of it, because they are done when they return. */
typedef struct {
    /* Number of queries, at least n, that the recorded step for n queries has; n itself when there is none for so many.
     */
    int32_t (*padded_queries)(const t5_backend *b, int32_t n_queries);
    /* A step of n_queries rows with one query each, as a recorded graph. When one was recorded before it is queued,
     * *out_is_queued is true and that is all. Else the operations up to step_end are recorded, and step_end queues
     * them, or forgets them when they failed half-way: is_whole is false then. Every argument but the contents of
     * backend memory is the same each time, so launches must not depend on lengths that the host knows.
     * A device without memory for the recording clears step_end's *out_is_queued: nothing was queued, and the step is
     * to be begun again, which records no more. */
    t5_status (*step_begin)(t5_backend *b, int32_t n_queries, bool *out_is_queued, t5_error *err);
    t5_status (*step_end)(t5_backend *b, bool is_whole, bool *out_is_queued, t5_error *err);

    /* Host memory that fetch can copy to without waiting; zeroed. */
    t5_status (*alloc_host)(t5_backend *b, size_t n_bytes, void **out, t5_error *err);
    void (*release_host)(t5_backend *b, void *p); /* accepts NULL */
    /* Queues a copy behind the operations so far; the host may look at dst after the wait for a mark that was set
     * later. */
    t5_status (*fetch)(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);
    /* Mark i_mark (0 or 1) is reached when everything queued so far is done. */
    t5_status (*mark)(t5_backend *b, int32_t i_mark, t5_error *err);
    t5_status (*wait)(t5_backend *b, int32_t i_mark, t5_error *err);
    /* Copies memory that nothing queued after the last wait writes, without waiting for what is queued. */
    t5_status (*read)(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);

    /* Operations between begin and end are an encoder pass: they follow what is queued so far, and what is queued later
     * does not follow them until a poll has said that they are done. One pass at a time. */
    t5_status (*encode_begin)(t5_backend *b, t5_error *err);
    t5_status (*encode_end)(t5_backend *b, t5_error *err);
    t5_status (*encode_poll)(t5_backend *b, bool waits, bool *out_is_done, t5_error *err);
} t5_async_ops;

typedef struct {
    const char *name;          /* "cpu", "cpu-ref", "cuda" */
    const t5_async_ops *async; /* NULL: every operation is done when it returns */
    bool multiplies_tables;    /* a table can be multiplied with as well: a tied head needs no copy of its own */
    /* Its memory is the host's, and its search looks at the slots' shortlists. */
    bool has_shortlists;

    void (*destroy)(t5_backend *b); /* accepts NULL */
    /* What the backend cannot do of a model: T5_ERR_ARG names the key of config.json. NULL: it can do all. */
    t5_status (*check)(const t5_backend *b, const t5_hparams *hp, t5_error *err);

    /* A device with memory of its own: bytes that are free there, and bytes of a weight. NULL: memory is the machine's.
     */
    t5_status (*memory_free)(t5_backend *b, size_t *out_bytes, t5_error *err);
    size_t (*matrix_bytes)(const t5_backend *b, int32_t n_rows, int32_t n_cols);

    /* Zeroed backend memory, aligned to 256 bytes; NULL and T5_ERR_NOMEM when there is not enough. */
    t5_status (*alloc)(t5_backend *b, size_t n_bytes, void **out, t5_error *err);
    void (*release)(t5_backend *b, void *p); /* accepts NULL */
    t5_status (*upload)(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);
    t5_status (*download)(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);

    /* A weight of n_parts tensors of the same width, stacked by rows: [sum of n_rows, n_cols]. Tensors in panels
     * (panel > 0) must outlive it: the CPU may read them where they are. Others are copied. Rows are scaled by `scale`
     * (1, or d_model^-0.5 for a tied head). */
    t5_status (*matrix_create)(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                               t5_error *err);
    /* The same of a head, for a backend whose head_search needs more than the weight; NULL: matrix_create. */
    t5_status (*head_create)(t5_backend *b, const t5_tensor *w, float scale, t5_matrix **out, t5_error *err);
    void (*matrix_destroy)(t5_backend *b, t5_matrix *m); /* accepts NULL */
    /* An embedding table; rows are looked up, not multiplied. The tensor must outlive it on the CPU, which reads the
     * map. */
    t5_status (*table_create)(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err);

    /* x[q] = table[token of query q], float32 [n, d_model]. One of step and packed is NULL. */
    t5_status (*embed)(t5_backend *b, const t5_matrix *table, const t5_step *step, const t5_packed *packed, float *x,
                       t5_error *err);
    /* y = x * rsqrt(mean(x^2) + eps) * gain; x float32 [n_rows, d], y activations. */
    t5_status (*rms_norm)(t5_backend *b, const float *x, const float *gain, float eps, int32_t n_rows, int32_t d,
                          void *y, t5_error *err);
    t5_status (*linear)(t5_backend *b, const t5_linear_args *args, t5_error *err);
    /* Finds out how products like this of up to n_rows rows are computed fastest; y holds nothing afterwards. Once,
     * before any work; NULL: there is nothing to choose. */
    t5_status (*tune_linear)(t5_backend *b, const t5_linear_args *args, t5_error *err);
    t5_status (*encoder_attention)(t5_backend *b, const t5_encoder_attention_args *args, t5_error *err);
    t5_status (*self_attention)(t5_backend *b, const t5_self_attention_args *args, t5_error *err);
    t5_status (*cross_attention)(t5_backend *b, const t5_cross_attention_args *args, t5_error *err);
    t5_status (*cross_weights)(t5_backend *b, const t5_cross_weights_args *args, t5_error *err);
    /* Stores the projected keys and values of the packed sources, kv: [n_tokens][2][n_heads][d_kv], in their slots'
     * blocks. */
    t5_status (*store_cross_kv)(t5_backend *b, const t5_packed *packed, const t5_kv_view *kv, int32_t layer,
                                const void *kv_rows, t5_error *err);
    /* logits[q] = rms_norm(x[q]) w^T, float32 [n_queries, vocab_size]. */
    t5_status (*head)(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                      const t5_matrix *w, float *logits, t5_error *err);
    /* One step of the search over the step's rows (t5_search_row, then t5_search_slot for each slot). Changes logits;
     * a query has vocab_size of them, or as many as the shortlist has words that all of the step's slots have. */
    t5_status (*search)(t5_backend *b, const t5_step *step, float *logits, int32_t vocab_size, t5_error *err);
    /* Head and search in one, for a backend that need not write every logit to choose from them; NULL: the one, then
     * the other. `logits` is scratch of the size that they need. */
    t5_status (*head_search)(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                             const t5_matrix *w, float *logits, t5_error *err);
    /* Waits until everything queued is done. */
    t5_status (*sync)(t5_backend *b, t5_error *err);
} t5_backend_ops;

/* Every backend's struct begins with this. */
struct t5_backend {
    const t5_backend_ops *ops;
    t5_dtype act_dtype;   /* of activations: float32 on the CPU, float16 or bfloat16 on a GPU */
    size_t weights_bytes; /* of the matrices and tables made so far, mapped ones included */
    char device[96];      /* for people: "cpu (avx512, 2 threads, float32)", "cuda:0 (NVIDIA H200, float16)" */
};

T5_C_END
