/* cuda/weights.c: weights to the device, once, in the backend's type: rows as stored when the types agree, else by way
 * of float32. Rows and columns are padded with zeros (kernels.h says why). */
#include "base/assert.h"
#include "cuda/cuda_backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int32_t round_up(int32_t n, int32_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

size_t t5_cuda_matrix_bytes(const t5_backend *b, int32_t n_rows, int32_t n_cols)
{
    size_t n_elements = (size_t)round_up(n_rows, T5_CUDA_PAD_ROWS) * (size_t)round_up(n_cols, T5_CUDA_PAD_COLS);
    return n_elements * t5_dtype_bytes(b->act_dtype);
}

/* Writes row `i_row` of `t` times `scale` as n_cols elements of `type`. False when a finite weight has no finite form.
 */
static bool convert_row(const t5_tensor *t, int32_t i_row, float scale, t5_dtype type, float *row, void *out)
{
    size_t row_bytes = (size_t)t->n_cols * t5_dtype_bytes(type);
    if (t->dtype == type && scale == 1.0f) {
        memcpy(out, (const char *)t->data + (size_t)i_row * row_bytes, row_bytes);
        return true;
    }
    t5_tensor_row_f32(t, i_row, row);
    bool is_finite = true;
    for (int32_t i = 0; i < t->n_cols; i++) {
        float x = row[i] * scale;
        if (type == T5_F32) {
            ((float *)out)[i] = x;
        } else {
            uint16_t bits = type == T5_F16 ? t5_f32_to_f16(x) : t5_f32_to_bf16(x);
            if (type == T5_F16 && isinf(t5_f16_to_f32(bits)) && isfinite(x)) is_finite = false;
            ((uint16_t *)out)[i] = bits;
        }
    }
    return is_finite;
}

/* Sends the rows of `t` to m's rows from `to_row` on, as many at a time as the staging ring takes well. */
static t5_status send_rows(t5_cuda_backend *cuda, const t5_tensor *t, float scale, const t5_matrix *m, int32_t to_row,
                           float *row, t5_error *err)
{
    size_t ld_bytes = (size_t)m->ld * t5_dtype_bytes(cuda->type);
    int32_t rows_max = (int32_t)(T5_CUDA_LANDING_BYTES / ld_bytes);
    if (rows_max < 1) rows_max = 1;
    for (int32_t r = 0; r < t->n_rows;) {
        int32_t n = t->n_rows - r < rows_max ? t->n_rows - r : rows_max;
        void *staged = NULL;
        t5_status status = t5_cuda_stage(cuda, (size_t)n * ld_bytes, &staged, err);
        if (status != T5_OK) return status;
        memset(staged, 0, (size_t)n * ld_bytes);
        for (int32_t i = 0; i < n; i++) {
            if (!convert_row(t, r + i, scale, cuda->type, row, (char *)staged + (size_t)i * ld_bytes))
                return T5_FAIL(err, T5_ERR_FORMAT, "a weight is too large for float16: use bfloat16 or float32");
        }
        void *dst = (char *)m->values + (size_t)(to_row + r) * ld_bytes;
        status = t5_cuda_send(cuda, dst, staged, (size_t)n * ld_bytes, err);
        if (status != T5_OK) return status;
        r += n;
    }
    return T5_OK;
}

t5_status t5_cuda_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                                t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    T5_ASSERT(n_parts >= 1 && parts[0].n_cols >= 1);
    t5_matrix *m = calloc(1, sizeof *m);
    float *row = malloc((size_t)parts[0].n_cols * sizeof *row);
    if (m == NULL || row == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "a matrix of %d columns", parts[0].n_cols);
        goto out;
    }
    T5_TRY(t5_cuda_enter(cuda, err));
    m->n_cols = parts[0].n_cols;
    m->ld = round_up(m->n_cols, T5_CUDA_PAD_COLS);
    for (int32_t i = 0; i < n_parts; i++)
        m->n_rows += parts[i].n_rows;
    if ((size_t)m->ld * sizeof(float) > T5_CUDA_STAGING_BYTES) {
        status = T5_FAIL(err, T5_ERR_ARG, "a matrix of %d columns is too wide for this backend", m->n_cols);
        goto out;
    }
    T5_TRY(t5_cuda_alloc(b, t5_cuda_matrix_bytes(b, m->n_rows, m->n_cols), &m->values, err));
    for (int32_t i = 0, to_row = 0; i < n_parts; to_row += parts[i].n_rows, i++) {
        T5_ASSERT(parts[i].n_cols == m->n_cols);
        T5_TRY(send_rows(cuda, &parts[i], scale, m, to_row, row, err));
    }
    b->weights_bytes += t5_cuda_matrix_bytes(b, m->n_rows, m->n_cols);
    *out = m;
    m = NULL;
out:
    free(row);
    t5_cuda_matrix_destroy(b, m);
    return status;
}

t5_status t5_cuda_table_create(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err)
{
    return t5_cuda_matrix_create(b, table, 1, 1.0f, out, err);
}

void t5_cuda_matrix_destroy(t5_backend *b, t5_matrix *m)
{
    if (m == NULL) return;
    t5_cuda_release(b, m->values);
    free(m);
}
