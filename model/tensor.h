/* model/tensor.h: a read-only view of a weight in host memory, as the model file stores it. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

#define T5_INT4_GROUP 32 /* columns of T5_I4 that share a scale; the last group of a row may be filled up */

/* T5_I8 and T5_I4 are quantised weights: integers with scales (quantize.h says how they are made). */
typedef enum { T5_F32, T5_F16, T5_BF16, T5_I8, T5_I4 } t5_dtype;

typedef struct {
    const void *data; /* row-major unless `panel`; borrowed from the file's map; aligned to at least 1 byte only */
    t5_dtype dtype;
    int32_t n_rows; /* 1 for a vector */
    int32_t n_cols;
    /* T5_I8: float32 [n_rows]. T5_I4: bfloat16 [n_rows][groups of a row]. Borrowed and aligned like `data`. */
    const void *scales;
    /* Not 0: T5_I8 or T5_I4 in panels of this width (panels.h), their last one whole. The scales of T5_I4 are inside
     * then, and those of T5_I8 are followed by the sums of the rows' integers, float32 [n_rows]. */
    int32_t panel;
} t5_tensor;

size_t t5_dtype_bytes(t5_dtype dtype);     /* of an element; not for T5_I4, which has two in a byte */
const char *t5_dtype_name(t5_dtype dtype); /* "float32", "float16", "bfloat16", "int8", "int4" */
bool t5_dtype_is_quantized(t5_dtype dtype);
/* Groups of a row of T5_I4, the one that is filled up included. */
int32_t t5_tensor_groups(const t5_tensor *t);
size_t t5_tensor_row_bytes(const t5_tensor *t); /* of `data` */
size_t t5_tensor_bytes(const t5_tensor *t);     /* of `data`, `scales` and sums */
/* Scale of row `i_row` of T5_I8, and in panels the sum of its integers, as the file has it. */
float t5_tensor_row_scale(const t5_tensor *t, int32_t i_row);
float t5_tensor_row_sum(const t5_tensor *t, int32_t i_row);
float t5_f16_to_f32(uint16_t h);
float t5_bf16_to_f32(uint16_t h);
uint16_t t5_f32_to_f16(float x);  /* round to nearest even; overflow to infinity */
uint16_t t5_f32_to_bf16(float x); /* round to nearest even */
/* out[n_cols] = row `i_row` of `t` in float32: integers times their scale. */
void t5_tensor_row_f32(const t5_tensor *t, int32_t i_row, float *out);
size_t t5_tensor_row_scales_bytes(const t5_tensor *t); /* of `scales`, outside panels */
/* Row `i_row` as a tensor without panels has it: t5_tensor_row_bytes() of data and t5_tensor_row_scales_bytes(). */
void t5_tensor_copy_row(const t5_tensor *t, int32_t i_row, void *row, void *scales);

T5_C_END
