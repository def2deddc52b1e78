/* model/quantize.h: one row of a weight as integers with scales: the definition of int8 and int4, for the CPU backend,
 * which quantises when it loads, and for `t5 quantize`, which does so once. Any thread. */
#pragma once
#include "model/tensor.h"

T5_C_BEGIN

#define T5_INT4_ZERO 8 /* what is added to a value of int4 so that it is not negative */

/* q[i] = round(row[i] / scale), scale = max |row| / 127. Returns the scale: NaN when a weight is not finite, so that
 * the row's products are NaN. */
float t5_quantize_int8(const float *row, int32_t n, int8_t *q);

/* Groups of T5_INT4_GROUP columns, each with a bfloat16 scale and values -8 .. 7. Of a few scales the one with the
 * least squared error is kept. q: a byte for each value, with T5_INT4_ZERO added, and T5_INT4_ZERO up to the end of the
 * last group; scales: one for each group, NaN when a weight of it is not finite. */
void t5_quantize_int4(const float *row, int32_t n, uint8_t *q, uint16_t *scales);

T5_C_END
