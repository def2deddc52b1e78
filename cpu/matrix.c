/* cpu/matrix.c: see matrix.h. */
#include "cpu/matrix.h"

#include "base/assert.h"
#include "model/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* What one task of packing needs. */
typedef struct {
    const t5_tensor *parts;
    int32_t d_out, d_in, panel;
    float scale;
    t5_storage storage;
    t5_compute_type type;
    char *panels;
    size_t panel_bytes;
    float *column_scales; /* int8 only, as in t5_panels */
    int32_t *column_sums;
    float *rows;   /* [n_threads][d_in] */
    int8_t *rows8; /* [n_threads][rows8_bytes] a row's integers, and the scales of its groups */
    size_t rows8_bytes;
    _Atomic bool is_too_large; /* a weight that float16 can't hold */
} packing;

/* Bytes of a panel's column. */
static size_t column_bytes(t5_storage storage, int32_t d_in)
{
    const size_t n = (size_t)d_in;
    switch (storage) {
    case T5_STORE_F32:
        return n * sizeof(float);
    case T5_STORE_F16:
    case T5_STORE_BF16:
        return n * sizeof(uint16_t);
    case T5_STORE_PAIRS:
        return (n + T5_ROW16_STEP - 1) / T5_ROW16_STEP * T5_ROW16_STEP * sizeof(uint16_t);
    case T5_STORE_INT8:
        return (n + T5_QUAD - 1) / T5_QUAD * T5_QUAD;
    case T5_STORE_INT4:
        break;
    }
    return (n + T5_INT4_GROUP - 1) / T5_INT4_GROUP * T5_INT4_GROUP_BYTES(1);
}

static t5_dtype dtype_of_all(const t5_tensor *parts, int32_t n_parts)
{
    for (int32_t i = 1; i < n_parts; i++) {
        if (parts[i].dtype != parts[0].dtype) return T5_F32;
    }
    return parts[0].dtype;
}

static t5_storage choose_storage(const t5_kernels *kernels, t5_compute_type type, t5_dtype dtype)
{
    if (type == T5_COMPUTE_INT8 || (type == T5_COMPUTE_AUTO && dtype == T5_I8)) return T5_STORE_INT8;
    if (type == T5_COMPUTE_INT4 || (type == T5_COMPUTE_AUTO && dtype == T5_I4)) return T5_STORE_INT4;
    if (type == T5_COMPUTE_BF16 && kernels->round_row != NULL) return T5_STORE_PAIRS;
    const bool is_f16 = type == T5_COMPUTE_F16 || (type == T5_COMPUTE_AUTO && dtype == T5_F16);
    const bool is_bf16 = type == T5_COMPUTE_BF16 || (type == T5_COMPUTE_AUTO && dtype == T5_BF16);
    if (is_f16 && kernels->has_f16) return T5_STORE_F16;
    return is_bf16 ? T5_STORE_BF16 : T5_STORE_F32;
}

/* Makes `i_row` a row of the part that is returned. */
static const t5_tensor *find_part(const packing *p, int32_t *inout_row)
{
    const t5_tensor *part = p->parts;
    while (*inout_row >= part->n_rows) {
        *inout_row -= part->n_rows;
        part++;
    }
    return part;
}

/* Row `i_row` of the stacked parts, rounded to the type that was asked for. */
static void read_row(packing *p, int32_t i_row, float *row)
{
    const t5_tensor *part = find_part(p, &i_row);
    t5_tensor_row_f32(part, i_row, row);
    if (p->type != T5_COMPUTE_F16) return;
    for (int32_t k = 0; k < p->d_in; k++) {
        const float rounded = t5_f16_to_f32(t5_f32_to_f16(row[k]));
        if (isinf(rounded) && !isinf(row[k])) atomic_store(&p->is_too_large, true);
        row[k] = rounded;
    }
}

/* The same as integers, those of the file where it has them. Returns their scale. */
static float read_row_int8(packing *p, int32_t i_row, float *row, int8_t *q)
{
    const t5_tensor *part = find_part(p, &i_row);
    if (part->dtype == T5_I8) {
        memcpy(q, (const int8_t *)part->data + (size_t)i_row * (size_t)p->d_in, (size_t)p->d_in);
        return t5_tensor_row_scale(part, i_row);
    }
    t5_tensor_row_f32(part, i_row, row);
    return t5_quantize_int8(row, p->d_in, q);
}

/* Column c of the panel; `column` counts over all panels. */
static void put_column_int8(packing *p, char *panel, int32_t c, size_t column, const int8_t *q)
{
    int32_t sum = 0;
    for (int32_t k = 0; k < p->d_in; k++) {
        const size_t quad = (size_t)(k / T5_QUAD) * (size_t)p->panel + (size_t)c;
        panel[quad * T5_QUAD + (size_t)(k % T5_QUAD)] = (char)q[k];
        sum += q[k];
    }
    p->column_sums[column] = sum;
}

static void put_column(const packing *p, char *panel, int32_t c, const float *row)
{
    const size_t step = (size_t)p->panel;
    float *f32 = (float *)(void *)panel + c;
    uint16_t *u16 = (uint16_t *)(void *)panel + c;
    for (size_t k = 0; k < (size_t)p->d_in; k++) {
        switch (p->storage) {
        case T5_STORE_F32:
            f32[k * step] = row[k];
            break;
        case T5_STORE_F16:
            u16[k * step] = t5_f32_to_f16(row[k]);
            break;
        case T5_STORE_BF16:
            u16[k * step] = t5_f32_to_bf16(row[k]);
            break;
        case T5_STORE_PAIRS:
            u16[k / 2 * 2 * step + (size_t)c + k % 2] = t5_f32_to_bf16(row[k]);
            break;
        case T5_STORE_INT8:
        case T5_STORE_INT4:
            break;
        }
    }
}

static void pack_panel_int8(void *ctx, int32_t i_task, int32_t i_thread)
{
    packing *p = ctx;
    float *row = p->rows + (size_t)i_thread * (size_t)p->d_in;
    int8_t *q = p->rows8 + (size_t)i_thread * p->rows8_bytes;
    char *panel = p->panels + (size_t)i_task * p->panel_bytes;
    memset(panel, 0, p->panel_bytes);
    for (int32_t c = 0; c < p->panel; c++) {
        const int32_t i_row = i_task * p->panel + c;
        if (i_row >= p->d_out) break; /* scales and sums are 0 */
        p->column_scales[i_row] = read_row_int8(p, i_row, row, q) * p->scale;
        put_column_int8(p, panel, c, (size_t)i_row, q);
    }
}

/* Row `i_row` of the stacked parts in 4 bits, a byte each, those of the file where it has them. */
static void read_row_int4(packing *p, int32_t i_row, float *row, uint8_t *q, uint16_t *scales)
{
    const t5_tensor *part = find_part(p, &i_row);
    if (part->dtype != T5_I4) {
        t5_tensor_row_f32(part, i_row, row);
        t5_quantize_int4(row, p->d_in, q, scales);
        return;
    }
    const size_t n_bytes = t5_tensor_row_bytes(part), n_groups = (size_t)t5_tensor_groups(part);
    const uint8_t *packed = (const uint8_t *)part->data + (size_t)i_row * n_bytes;
    for (size_t i = 0; i < n_bytes; i++) {
        q[2 * i] = packed[i] & 15;
        q[2 * i + 1] = packed[i] >> 4;
    }
    memcpy(scales, (const char *)part->scales + (size_t)i_row * n_groups * sizeof *scales, n_groups * sizeof *scales);
}

/* Column c of one group of a panel. */
static void put_group_int4(const packing *p, uint8_t *group, int32_t c, const uint8_t *q, uint16_t scale)
{
    uint8_t *block = group + (size_t)p->panel * sizeof scale + (size_t)c * T5_QUAD;
    memcpy(group + (size_t)c * sizeof scale, &scale, sizeof scale);
    for (int32_t i = 0; i < T5_INT4_GROUP; i += 2 * T5_QUAD, block += (size_t)p->panel * T5_QUAD) {
        for (int32_t j = 0; j < T5_QUAD; j++)
            block[j] = (uint8_t)(q[i + j] | q[i + T5_QUAD + j] << 4);
    }
}

static void pack_panel_int4(void *ctx, int32_t i_task, int32_t i_thread)
{
    packing *p = ctx;
    const int32_t n_groups = (p->d_in + T5_INT4_GROUP - 1) / T5_INT4_GROUP;
    const size_t group_bytes = T5_INT4_GROUP_BYTES(p->panel);
    float *row = p->rows + (size_t)i_thread * (size_t)p->d_in;
    uint8_t *q = (uint8_t *)p->rows8 + (size_t)i_thread * p->rows8_bytes;
    uint16_t *scales = (uint16_t *)(void *)(q + (size_t)n_groups * T5_INT4_GROUP);
    uint8_t *panel = (uint8_t *)p->panels + (size_t)i_task * p->panel_bytes;
    memset(panel, 0, p->panel_bytes);
    for (int32_t c = 0; c < p->panel && i_task * p->panel + c < p->d_out; c++) {
        read_row_int4(p, i_task * p->panel + c, row, q, scales);
        for (int32_t g = 0; g < n_groups; g++)
            put_group_int4(p, panel + (size_t)g * group_bytes, c, q + (size_t)g * T5_INT4_GROUP, scales[g]);
    }
}

static void pack_panel(void *ctx, int32_t i_task, int32_t i_thread)
{
    packing *p = ctx;
    float *row = p->rows + (size_t)i_thread * (size_t)p->d_in;
    char *panel = p->panels + (size_t)i_task * p->panel_bytes;
    if (p->storage == T5_STORE_PAIRS) memset(panel, 0, p->panel_bytes); /* the rest of d_in */
    for (int32_t c = 0; c < p->panel; c++) {
        const int32_t i_row = i_task * p->panel + c;
        if (i_row < p->d_out) {
            read_row(p, i_row, row);
        } else {
            memset(row, 0, (size_t)p->d_in * sizeof *row);
        }
        put_column(p, panel, c, row);
    }
}

/* Large weights want large pages: a product walks through all of them, and each page costs a look-up. */
static void *alloc_panels(size_t n_bytes)
{
    const size_t alignment = n_bytes >= HUGE_PAGE ? HUGE_PAGE : T5_LINE_BYTES;
    void *p = aligned_alloc(alignment, (n_bytes + T5_LINE_BYTES - 1) / T5_LINE_BYTES * T5_LINE_BYTES);
    if (p != NULL && alignment == HUGE_PAGE) (void)madvise(p, n_bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return p;
}

static t5_status fill(packing *p, t5_threads *threads, int32_t n_panels, t5_error *err)
{
    const size_t n_threads = (size_t)t5_threads_count(threads), n_groups = (size_t)p->d_in / T5_INT4_GROUP + 1;
    p->rows8_bytes = n_groups * (T5_INT4_GROUP + sizeof(uint16_t));
    p->rows = malloc(n_threads * (size_t)p->d_in * sizeof *p->rows);
    p->rows8 = malloc(n_threads * p->rows8_bytes);
    const bool has_rows = p->rows != NULL && p->rows8 != NULL;
    void (*pack)(void *ctx, int32_t i_task, int32_t i_thread) = pack_panel;
    if (p->storage == T5_STORE_INT8) pack = pack_panel_int8;
    if (p->storage == T5_STORE_INT4) pack = pack_panel_int4;
    if (has_rows) t5_threads_run(threads, n_panels, pack, p);
    free(p->rows);
    free(p->rows8);
    if (!has_rows) return T5_FAIL(err, T5_ERR_NOMEM, "matrix: rows of %d columns", p->d_in);
    if (atomic_load(&p->is_too_large))
        return T5_FAIL(err, T5_ERR_ARG, "compute type float16 can't hold a weight of this model: use bfloat16");
    return T5_OK;
}

static t5_status alloc_matrix(const packing *p, int32_t n_panels, t5_matrix *m, t5_error *err)
{
    const size_t n_bytes = (size_t)n_panels * p->panel_bytes;
    const size_t n_columns = (size_t)n_panels * (size_t)p->panel;
    m->n_bytes = n_bytes;
    m->owned = alloc_panels(n_bytes);
    if (p->storage == T5_STORE_INT8) {
        m->column_scales = calloc(n_columns, sizeof *m->column_scales);
        m->column_sums = calloc(n_columns, sizeof *m->column_sums);
        m->n_bytes += n_columns * (sizeof *m->column_scales + sizeof *m->column_sums);
        if (m->column_scales == NULL || m->column_sums == NULL)
            return T5_FAIL(err, T5_ERR_NOMEM, "matrix: scales of %zu columns", n_columns);
    }
    if (m->owned == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "matrix %d x %d: %zu bytes", p->d_out, p->d_in, n_bytes);
    return T5_OK;
}

t5_status t5_matrix_pack(const t5_kernels *kernels, t5_threads *threads, t5_compute_type type, const t5_tensor *parts,
                         int32_t n_parts, float scale, t5_matrix **out, t5_error *err)
{
    T5_ASSERT(n_parts > 0);
    t5_status status = T5_OK;
    packing p = {.parts = parts,
                 .d_in = parts[0].n_cols,
                 .panel = kernels->panel,
                 .scale = scale,
                 .type = type,
                 .storage = choose_storage(kernels, type, dtype_of_all(parts, n_parts))};
    for (int32_t i = 0; i < n_parts; i++) {
        T5_ASSERT(parts[i].n_cols == p.d_in && parts[i].n_rows > 0);
        p.d_out += parts[i].n_rows;
    }
    p.panel_bytes = (size_t)p.panel * column_bytes(p.storage, p.d_in);
    const int32_t n_panels = (p.d_out + p.panel - 1) / p.panel;
    t5_matrix *m = calloc(1, sizeof *m);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "matrix: %zu bytes", sizeof *m);
    T5_TRY(alloc_matrix(&p, n_panels, m, err));
    p.panels = m->owned;
    p.column_scales = m->column_scales;
    p.column_sums = m->column_sums;
    T5_TRY(fill(&p, threads, n_panels, err));
    m->d_out = p.d_out;
    m->d_in = p.d_in;
    m->panels = (t5_panels){.panels = m->owned,
                            .storage = p.storage,
                            .scale = p.storage == T5_STORE_INT8 ? 1.0f : scale,
                            .column_scales = m->column_scales,
                            .column_sums = m->column_sums};
    *out = m;
    m = NULL;
out:
    t5_matrix_free(m);
    return status;
}

t5_status t5_matrix_borrow(const t5_tensor *table, t5_matrix **out, t5_error *err)
{
    t5_matrix *m = calloc(1, sizeof *m);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "table: %zu bytes", sizeof *m);
    m->table = *table;
    m->d_out = table->n_rows;
    m->d_in = table->n_cols;
    m->n_bytes = t5_tensor_bytes(table);
    *out = m;
    return T5_OK;
}

void t5_matrix_free(t5_matrix *m)
{
    if (m == NULL) return;
    free(m->owned);
    free(m->column_scales);
    free(m->column_sums);
    free(m);
}
