/* model/tensor.h: a read-only view of a weight in host memory, as the model file stores it. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

typedef enum { T5_F32, T5_F16, T5_BF16 } t5_dtype;

typedef struct {
    const void *data; /* row-major; borrowed from the file's map; aligned to at least 1 byte only */
    t5_dtype dtype;
    int32_t n_rows; /* 1 for a vector */
    int32_t n_cols;
} t5_tensor;

size_t t5_dtype_bytes(t5_dtype dtype);
const char *t5_dtype_name(t5_dtype dtype); /* "float32", "float16", "bfloat16" */
float t5_f16_to_f32(uint16_t h);
float t5_bf16_to_f32(uint16_t h);
uint16_t t5_f32_to_f16(float x);  /* round to nearest even; overflow to infinity */
uint16_t t5_f32_to_bf16(float x); /* round to nearest even */
/* out[n_cols] = row `i_row` of `t` in float32. */
void t5_tensor_row_f32(const t5_tensor *t, int32_t i_row, float *out);

T5_C_END
