/* cpu/matrix.c: see matrix.h. */
#include "cpu/matrix.h"

#include "base/assert.h"
#include "model/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAPPED_ALIGN 32 /* panels of int4 that are 16 columns wide begin at multiples of it */

/* What one task of packing needs. */
typedef struct {
    const t5_tensor *parts;
    int32_t d_out, d_in, panel;
    float scale;
    t5_storage storage;
    t5_compute_type type;
    t5_dtype dtype; /* of the elements */
    size_t line_bytes;
    char *panels;
    float *column_scales; /* int8 only, as in t5_panels */
    int32_t *column_sums;
    float *norms, *errors; /* of t5_matrix.rough, else NULL */
    t5_rounding (*rounding)(const float *x, const uint8_t *q, uint8_t flip, float scale, int32_t n);
    char *scratch; /* [n_threads][scratch_bytes]: a work_space each */
    size_t scratch_bytes, q_at, scales_at, lines_at;
    _Atomic bool is_too_large; /* a weight that float16 can't hold */
} packing;

/* A thread's part of the scratch. */
typedef struct {
    float *row;       /* [d_in] */
    uint8_t *q;       /* [groups of d_in * T5_INT4_GROUP] */
    uint16_t *scales; /* [groups of d_in] */
    char *lines;      /* [T5_PANEL_STRIP][line_bytes] */
} work_space;

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

static t5_dtype dtype_of(t5_storage storage)
{
    static const t5_dtype dtypes[] = {[T5_STORE_F32] = T5_F32,    [T5_STORE_F16] = T5_F16, [T5_STORE_BF16] = T5_BF16,
                                      [T5_STORE_PAIRS] = T5_BF16, [T5_STORE_INT8] = T5_I8, [T5_STORE_INT4] = T5_I4};
    return dtypes[storage];
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

/* Rounds a row to float16. */
static void round_row(packing *p, float *row)
{
    for (int32_t k = 0; k < p->d_in; k++) {
        const float rounded = t5_f16_to_f32(t5_f32_to_f16(row[k]));
        if (isinf(rounded) && !isinf(row[k])) atomic_store(&p->is_too_large, true);
        row[k] = rounded;
    }
}

static void put_line(packing *p, const t5_tensor *part, int32_t i_row, const work_space *w, char *line)
{
    const size_t n_bytes = (size_t)p->d_in * t5_dtype_bytes(p->dtype);
    memset(line + n_bytes, 0, p->line_bytes - n_bytes);
    const bool is_rounded = p->type == T5_COMPUTE_F16;
    if (part->dtype == p->dtype && (!is_rounded || part->dtype == T5_F16)) {
        memcpy(line, (const char *)part->data + (size_t)i_row * n_bytes, n_bytes);
        return;
    }
    float *row = p->dtype == T5_F32 ? (float *)(void *)line : w->row;
    uint16_t *halves = (uint16_t *)(void *)line;
    t5_tensor_row_f32(part, i_row, row);
    if (is_rounded) round_row(p, row);
    for (int32_t k = 0; k < p->d_in && p->dtype == T5_F16; k++)
        halves[k] = t5_f32_to_f16(row[k]);
    for (int32_t k = 0; k < p->d_in && p->dtype == T5_BF16; k++)
        halves[k] = t5_f32_to_bf16(row[k]);
}

/* From panels of another width. */
static void get_line(const packing *p, const t5_tensor *part, int32_t i_row, void *line)
{
    const size_t panel_bytes = (size_t)part->panel * p->line_bytes;
    const char *panel = (const char *)part->data + (size_t)(i_row / part->panel) * panel_bytes;
    t5_panel_get(p->storage, part->panel, p->d_in, i_row % part->panel, panel, line);
}

static void raise(float *max, float x)
{
    if (isnan(x) || x > *max) *max = x; /* NaN stays */
}

/* Notes how far the integers are from the row that they stand for. */
static void note_rounding(const packing *p, const float *row, const int8_t *q, float scale, size_t column)
{
    const t5_rounding r = p->rounding(row, (const uint8_t *)q, 0, scale, p->d_in);
    raise(&p->norms[column / (size_t)p->panel], r.norm * p->scale);
    raise(&p->errors[column / (size_t)p->panel], r.error * p->scale);
}

/* The integers of the file where it has them. `column` counts over all panels. */
static void put_line_int8(packing *p, const t5_tensor *part, int32_t i_row, const work_space *w, size_t column,
                          int8_t *q)
{
    float scale = 0.0f;
    int32_t sum = 0;
    if (part->dtype == T5_I8 && part->panel > 0) {
        get_line(p, part, i_row, q);
        scale = t5_tensor_row_scale(part, i_row);
    } else if (part->dtype == T5_I8) {
        memcpy(q, (const int8_t *)part->data + (size_t)i_row * (size_t)p->d_in, (size_t)p->d_in);
        scale = t5_tensor_row_scale(part, i_row);
    } else {
        t5_tensor_row_f32(part, i_row, w->row);
        scale = t5_quantize_int8(w->row, p->d_in, q);
        if (p->errors != NULL) note_rounding(p, w->row, q, scale, column);
    }
    memset(q + p->d_in, 0, p->line_bytes - (size_t)p->d_in);
    for (int32_t k = 0; k < p->d_in; k++)
        sum += q[k];
    p->column_scales[column] = scale * p->scale;
    p->column_sums[column] = sum;
}

static void put_line_int4(packing *p, const t5_tensor *part, int32_t i_row, const work_space *w, char *line)
{
    if (part->dtype == T5_I4 && part->panel > 0) {
        get_line(p, part, i_row, line);
        return;
    }
    if (part->dtype != T5_I4) {
        t5_tensor_row_f32(part, i_row, w->row);
        t5_quantize_int4(w->row, p->d_in, w->q, w->scales);
    } else {
        const size_t n_bytes = t5_tensor_row_bytes(part), n_groups = (size_t)t5_tensor_groups(part);
        const uint8_t *packed = (const uint8_t *)part->data + (size_t)i_row * n_bytes;
        for (size_t i = 0; i < n_bytes; i++) {
            w->q[2 * i] = packed[i] & 15;
            w->q[2 * i + 1] = packed[i] >> 4;
        }
        memcpy(w->scales, (const char *)part->scales + (size_t)i_row * n_groups * sizeof *w->scales,
               n_groups * sizeof *w->scales);
    }
    t5_line_int4(w->q, w->scales, p->d_in, line);
}

static size_t rounded(size_t n_bytes)
{
    return (n_bytes + T5_LINE_BYTES - 1) / T5_LINE_BYTES * T5_LINE_BYTES;
}

static void lay_out(packing *p)
{
    const size_t n = (size_t)p->d_in, n_groups = n / T5_INT4_GROUP + 1;
    p->q_at = rounded(n * sizeof(float));
    p->scales_at = p->q_at + rounded(n_groups * T5_INT4_GROUP);
    p->lines_at = p->scales_at + rounded(n_groups * sizeof(uint16_t));
    p->scratch_bytes = p->lines_at + rounded(T5_PANEL_STRIP * p->line_bytes);
}

static work_space space_of(const packing *p, int32_t i_thread)
{
    char *scratch = p->scratch + (size_t)i_thread * p->scratch_bytes;
    return (work_space){.row = (float *)(void *)scratch,
                        .q = (uint8_t *)scratch + p->q_at,
                        .scales = (uint16_t *)(void *)(scratch + p->scales_at),
                        .lines = scratch + p->lines_at};
}

static void pack_panel(void *ctx, int32_t i_task, int32_t i_thread)
{
    packing *p = ctx;
    const work_space w = space_of(p, i_thread);
    char *panel = p->panels + (size_t)i_task * (size_t)p->panel * p->line_bytes;
    for (int32_t column = 0; column < p->panel; column += T5_PANEL_STRIP) {
        const int32_t first = i_task * p->panel + column;
        for (int32_t c = 0; c < T5_PANEL_STRIP; c++) {
            char *line = w.lines + (size_t)c * p->line_bytes;
            int32_t i_row = first + c;
            if (i_row >= p->d_out) { /* scales and sums are 0 */
                memset(line, 0, p->line_bytes);
                continue;
            }
            const t5_tensor *part = find_part(p, &i_row);
            if (p->dtype == T5_I8) {
                put_line_int8(p, part, i_row, &w, (size_t)(first + c), (int8_t *)line);
            } else if (p->dtype == T5_I4) {
                put_line_int4(p, part, i_row, &w, line);
            } else {
                put_line(p, part, i_row, &w, line);
            }
        }
        t5_panel_put(p->storage, p->panel, p->d_in, column, w.lines, panel);
    }
}

static t5_status fill(packing *p, t5_threads *threads, int32_t n_panels, t5_error *err)
{
    lay_out(p);
    p->scratch = aligned_alloc(T5_LINE_BYTES, (size_t)t5_threads_count(threads) * p->scratch_bytes);
    if (p->scratch == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "matrix: lines of %d columns", p->d_in);
    t5_threads_run(threads, n_panels, pack_panel, p);
    free(p->scratch);
    if (atomic_load(&p->is_too_large))
        return T5_FAIL(err, T5_ERR_ARG, "compute type float16 can't hold a weight of this model: use bfloat16");
    return T5_OK;
}

/* The panels are in the file as these kernels want them: of their width, the parts one after another in whole panels,
 * at an address that does not tear vectors apart. */
static bool is_in_place(const packing *p, int32_t n_parts)
{
    const char *next = p->parts[0].data;
    if ((uintptr_t)next % MAPPED_ALIGN != 0) return false;
    for (int32_t i = 0; i < n_parts; i++) {
        const t5_tensor *part = &p->parts[i];
        const bool is_last = i == n_parts - 1;
        if (part->dtype != p->dtype || part->panel != p->panel || part->data != next) return false;
        if (!is_last && part->n_rows % p->panel != 0) return false;
        next += (size_t)part->n_rows * p->line_bytes;
    }
    return true;
}

/* What is beside the panels of int8. The panels themselves are not read. */
static void copy_scales(const packing *p, int32_t n_parts)
{
    size_t column = 0;
    for (int32_t i = 0; i < n_parts && p->dtype == T5_I8; i++) {
        for (int32_t r = 0; r < p->parts[i].n_rows; r++, column++) {
            p->column_scales[column] = t5_tensor_row_scale(&p->parts[i], r) * p->scale;
            p->column_sums[column] = (int32_t)t5_tensor_row_sum(&p->parts[i], r);
        }
    }
}

static t5_status alloc_matrix(packing *p, t5_arena *arena, int32_t n_panels, bool is_mapped, t5_matrix *m,
                              t5_error *err)
{
    const size_t n_bytes = (size_t)n_panels * (size_t)p->panel * p->line_bytes;
    const size_t n_columns = (size_t)n_panels * (size_t)p->panel;
    m->n_bytes = n_bytes;
    if (!is_mapped) p->panels = t5_arena_take(arena, n_bytes, &m->chunk);
    if (p->storage == T5_STORE_INT8) {
        m->column_scales = calloc(n_columns, sizeof *m->column_scales);
        m->column_sums = calloc(n_columns, sizeof *m->column_sums);
        m->n_bytes += n_columns * (sizeof *m->column_scales + sizeof *m->column_sums);
        if (m->column_scales == NULL || m->column_sums == NULL)
            return T5_FAIL(err, T5_ERR_NOMEM, "matrix: scales of %zu columns", n_columns);
    }
    if (!is_mapped && p->panels == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "matrix %d x %d: %zu bytes", p->d_out, p->d_in, n_bytes);
    return T5_OK;
}

/* Packs with what `p` has so far: parts, panel, scale, type and storage. */
static t5_status pack(packing *p, const t5_packer *packer, int32_t n_parts, t5_matrix **out, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_tensor *parts = p->parts;
    p->d_in = parts[0].n_cols;
    for (int32_t i = 0; i < n_parts; i++) {
        T5_ASSERT(parts[i].n_cols == p->d_in && parts[i].n_rows > 0);
        p->d_out += parts[i].n_rows;
    }
    p->dtype = dtype_of(p->storage);
    p->line_bytes = t5_line_bytes(p->storage, p->d_in);
    const int32_t n_panels = (p->d_out + p->panel - 1) / p->panel;
    t5_matrix *m = calloc(1, sizeof *m);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "matrix: %zu bytes", sizeof *m);
    const bool is_mapped = is_in_place(p, n_parts);
    T5_TRY(alloc_matrix(p, packer->arena, n_panels, is_mapped, m, err));
    p->column_scales = m->column_scales;
    p->column_sums = m->column_sums;
    if (is_mapped) {
        copy_scales(p, n_parts);
    } else {
        T5_TRY(fill(p, packer->threads, n_panels, err));
    }
    m->d_out = p->d_out;
    m->d_in = p->d_in;
    m->panels = (t5_panels){.panels = is_mapped ? parts[0].data : p->panels,
                            .storage = p->storage,
                            .scale = p->storage == T5_STORE_INT8 ? 1.0f : p->scale,
                            .column_scales = m->column_scales,
                            .column_sums = m->column_sums};
    *out = m;
    m = NULL;
out:
    t5_matrix_free(m);
    return status;
}

t5_status t5_matrix_pack(const t5_packer *packer, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                         t5_error *err)
{
    T5_ASSERT(n_parts > 0);
    packing p = {.parts = parts,
                 .panel = packer->kernels->panel,
                 .scale = scale,
                 .type = packer->type,
                 .storage = choose_storage(packer->kernels, packer->type, dtype_of_all(parts, n_parts))};
    return pack(&p, packer, n_parts, out, err);
}

/* Whether products with `m` are float32 and have the weights of the file. */
static bool is_as_in_file(const t5_matrix *m, t5_compute_type type, const t5_tensor *w)
{
    const t5_storage storage = m->panels.storage;
    if (storage != T5_STORE_F32 && storage != T5_STORE_F16 && storage != T5_STORE_BF16) return false;
    if (t5_dtype_is_quantized(w->dtype)) return false;
    if (type == T5_COMPUTE_F16) return w->dtype == T5_F16;
    if (type == T5_COMPUTE_BF16) return w->dtype == T5_BF16;
    return true;
}

t5_status t5_matrix_add_rough(const t5_packer *packer, const t5_tensor *w, float scale, t5_matrix *m, t5_error *err)
{
    if (!is_as_in_file(m, packer->type, w)) return T5_OK;
    const size_t n_panels = (size_t)(m->d_out + packer->kernels->panel - 1) / (size_t)packer->kernels->panel;
    m->rough_norms = calloc(n_panels, sizeof *m->rough_norms);
    m->rough_errors = calloc(n_panels, sizeof *m->rough_errors);
    if (m->rough_norms == NULL || m->rough_errors == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "matrix: norms of %zu panels", n_panels);
    packing p = {.parts = w,
                 .panel = packer->kernels->panel,
                 .scale = scale,
                 .type = T5_COMPUTE_INT8,
                 .storage = T5_STORE_INT8,
                 .norms = m->rough_norms,
                 .errors = m->rough_errors,
                 .rounding = packer->kernels->rounding};
    const t5_status status = pack(&p, packer, 1, &m->rough, err);
    if (status == T5_OK) m->n_bytes += m->rough->n_bytes;
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
    t5_matrix_free(m->rough);
    free(m->rough_norms);
    free(m->rough_errors);
    t5_chunk_release(m->chunk);
    free(m->column_scales);
    free(m->column_sums);
    free(m);
}
