/* cpu/kernels.h: the inner loops of the fast CPU backend, one table per instruction set. A table's functions work on
 * plain arrays, take no lock, allocate nothing and may run on any thread.
 *
 * Weights are packed in panels: `panel` columns of the product (rows of the weight) side by side, [n_panels][d_in]
 * [panel], so that one pass over a panel reads memory in order and feeds whole registers. Each output is one chain of
 * multiply-adds over d_in in rising order (pairs: the matrix unit's own order), whatever the number of rows: this is
 * what makes a result independent of its batch. */
#pragma once
#include "model/backend.h"
#include "model/panels.h"
#include "model/quantize.h"

/* model/panels.h has the layouts. Column c of int8 stands for its integers times column_scales[c]. */
typedef struct {
    const void *panels;
    t5_storage storage;
    float scale;                /* of the product; 1 with column_scales */
    const float *column_scales; /* int8: [n_panels * panel] */
    const int32_t *column_sums; /* int8: [n_panels * panel] sum of the column's integers */
} t5_panels;

#define T5_ROWS_STEP 16  /* narrow rows that a kernel reads at once; there is memory for 15 past the last */
#define T5_LINE_BYTES 64 /* of the cache; areas start at a line */

/* Rows in 8 bits: x = (q - 128) * scale of the row; for int4 weights q is a signed byte, x = q * scale. */
typedef struct {
    const uint8_t *q;            /* [n_rows][stride] */
    size_t stride;               /* d_in rounded up to T5_QUAD; for int4 to T5_INT4_GROUP */
    const float *scales;         /* [n_rows] */
    const int32_t *group_starts; /* int4: [n_rows][groups of d_in] what the sums of a group begin with */
} t5_rows8;

/* Rows in bfloat16. */
typedef struct {
    const uint16_t *x; /* [n_rows][stride] */
    size_t stride;     /* d_in rounded up to T5_ROW16_STEP with zeros */
} t5_rows16;

/* y[r] = act(x[r] w^T) [* (x[r] w_up^T)] [+ y[r]]. */
typedef struct {
    const float *x; /* [n_rows][d_in] */
    t5_rows8 x8;    /* the same for int8 and int4 weights */
    t5_rows16 x16;  /* and for pairs */
    float *y;       /* [n_rows][d_out] */
    int32_t d_in, d_out;
    t5_panels w;
    t5_panels w_up; /* panels NULL: no gate */
    bool has_act;
    t5_act act;
    bool adds;
} t5_gemm;

/* The part of a product that one task computes. */
typedef struct {
    int32_t panel_begin, panel_end;
    int32_t row_begin, row_end;
} t5_gemm_part;

/* One query of one head against cached positions. Block b of a position's keys is [n_heads][d_kv][T5_KV_BLOCK], of its
 * values [n_heads][T5_KV_BLOCK][d_kv]. */
typedef struct {
    const float *q; /* [d_kv] */
    int32_t d_kv;
    int32_t n;                  /* positions 0 .. n - 1 */
    const float *const *blocks; /* [n] this layer's part of the block that holds position j */
    const uint8_t *is_mixed;    /* [blocks of n] the block's positions live in more than one block */
    size_t k_offset, v_offset;  /* of this head, in floats */
    const float *bias;          /* [n] by distance n - 1 - j, or NULL */
    float *scores;              /* n rounded up to T5_KV_BLOCK; afterwards exp(score - max), zeros past n */
    float *ctx;                 /* [d_kv], or NULL: the scores are wanted alone */
} t5_attend;

/* One head of one source against itself. */
typedef struct {
    const float *q, *k, *v; /* token i at i * qkv_stride */
    size_t qkv_stride;
    int32_t len, d_kv;
    const float *bias; /* distance j - i at bias[j - i] */
    float *scratch;    /* t5_kernels.encoder_scratch(len, d_kv) floats */
    float *ctx;        /* token i at i * ctx_stride */
    size_t ctx_stride;
} t5_attend_source;

/* What became of a row in 8 bits. Never too small: more is added than float32 can lose on the way. NaN when a value is
 * not finite. */
typedef struct {
    float norm;  /* Euclidean, of the rounded row */
    float error; /* of the row less the rounded row */
} t5_rounding;

typedef struct {
    const char *name;
    int32_t panel;              /* columns of a panel */
    bool has_f16;               /* float16 panels are read as they are */
    int32_t rough_rows_max;     /* up to so many rows a product of int8 takes much less time than one of float32 */
    bool (*is_supported)(void); /* by this machine and its operating system */
    void (*gemm)(const t5_gemm *g, const t5_gemm_part *part);
    /* y[r] = x[r] * rsqrt(mean(x[r]^2) + eps) * gain */
    void (*norm_row)(const float *x, const float *gain, float eps, int32_t d, float *y);
    /* q[i] = 128 + round(x[i] / scale) with scale = max |x| / 127, 128 up to the next T5_QUAD. Returns the scale: NaN
     * when a value is not finite, so that the products are NaN. */
    float (*quantize_row)(const float *x, int32_t d, uint8_t *q);
    /* Of a row and its integers, which are scale times the signed byte q ^ flip: 0x80 for what quantize_row() gave. */
    t5_rounding (*rounding)(const float *x, const uint8_t *q, uint8_t flip, float scale, int32_t d);
    /* Makes that row one for int4 weights: takes the 128 off, fills the last group with zeros, gives each group's
     * start. */
    void (*center_row)(uint8_t *q, int32_t d, int32_t *starts);
    /* Rounds x to bfloat16, ties to even, with zeros up to the next T5_ROW16_STEP. NULL: no products of pairs. */
    void (*round_row)(const float *x, int32_t d, uint16_t *y);
    void (*attend)(const t5_attend *a);
    void (*attend_source)(const t5_attend_source *a);
    size_t (*attend_source_scratch)(int32_t len, int32_t d_kv);
    t5_vocab_ops vocab;
    /* max[i] = the largest of columns i * panel and on of x[n]; NaN is passed over, -inf when there is nothing else. */
    void (*panel_max)(const float *x, int32_t n, float *max);
} t5_kernels;

/* Every table that was built, the best first; NULL at the end. */
extern const t5_kernels *const t5_kernel_tables[];
