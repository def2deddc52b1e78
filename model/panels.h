/* model/panels.h: how the weights of a product lie in memory: in panels of `width` columns of the product (rows of the
 * weight) side by side, so that one pass over a panel reads memory in order and feeds whole registers. Any thread.
 *
 *   float32, float16, bfloat16   [n_cols][width]
 *   pairs  bfloat16 [pairs of n_cols][width][2]; n_cols is rounded up to T5_ROW16_STEP with zeros
 *   int8   [quads of n_cols][width][T5_QUAD]: as many products of one column side by side as the machine's instruction
 *          adds; the last quad is filled up with zeros
 *   int4   [groups of n_cols]: bfloat16 scales [width], then [T5_INT4_GROUP / 8][width][4] bytes: byte j of a block
 *          holds weight j of a column in its low half and weight 4 + j in its high half, each with T5_INT4_ZERO added;
 *          the last group is filled up with T5_INT4_ZERO
 *
 * A weight of n_rows has n_rows / width panels, rounded up; columns past its last row are zero bytes.
 *
 * A "line" is what one column brings to its panel, in the order of n_cols: elements; for int4 the blocks of all groups,
 * then their scales. */
#pragma once
#include "model/tensor.h"

T5_C_BEGIN

/* How the weights of a panel are stored. */
typedef enum {
    T5_STORE_F32,
    T5_STORE_F16,
    T5_STORE_BF16,
    T5_STORE_PAIRS, /* bfloat16 for rows that are bfloat16 too */
    T5_STORE_INT8,
    T5_STORE_INT4
} t5_storage;

#define T5_QUAD 4
#define T5_ROW16_STEP 32 /* columns of pairs are a multiple */
#define T5_INT4_GROUP_BYTES(width) ((size_t)(width) * (sizeof(uint16_t) + T5_INT4_GROUP / 2))
#define T5_PANEL_STRIP 16 /* columns that are put at a time; the width of a panel is a multiple */

/* Bytes of a line; a panel has `width` times as many. */
size_t t5_line_bytes(t5_storage storage, int32_t n_cols);
/* Puts T5_PANEL_STRIP lines, one after another, into columns `column` and on of a panel. */
void t5_panel_put(t5_storage storage, int32_t width, int32_t n_cols, int32_t column, const void *lines, void *panel);
/* The reverse for one column. */
void t5_panel_get(t5_storage storage, int32_t width, int32_t n_cols, int32_t column, const void *panel, void *line);
/* A line of int4 from what t5_quantize_int4() gave. */
void t5_line_int4(const uint8_t *q, const uint16_t *scales, int32_t n_cols, void *line);

T5_C_END
