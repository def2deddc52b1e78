/* model/safetensors.c: the safetensors format.
 *
 *   8 bytes   n, little-endian
 *   n bytes   JSON: {"name": {"dtype": "F32", "shape": [r, c], "data_offsets": [begin, end]}, "__metadata__": {...}}
 *   the rest  the tensors; offsets count from here
 *
 * As the format demands, and as its reference reader checks, the tensors cover the rest of the file without holes and
 * without overlap, so a file that was cut or that grew is noticed here and not by a wrong translation. */
#include "model/safetensors.h"

#include "base/log.h"
#include "json/json_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES_MAX (32 << 20) /* 100 bytes a tensor; parsed, it takes some ten times as much */

typedef struct {
    const char *name;
    int64_t begin, end;
} span;

typedef struct {
    const t5_mapped_file *file;
    int64_t data_bytes;        /* after the header */
    const unsigned char *data; /* first byte after the header */
    int32_t i_file;
    t5_tensor_list *list;
} reader;

typedef struct {
    const char *name;
    int32_t n_bits;
    int32_t dtype; /* t5_dtype, or -1 when we do not compute with it. U8 holds T5_I4, two in a byte */
} dtype_row;

static const dtype_row dtypes[] = {
    {"F32", 32, T5_F32}, {"F16", 16, T5_F16}, {"BF16", 16, T5_BF16}, {"F64", 64, -1},    {"I64", 64, -1},
    {"I32", 32, -1},     {"I16", 16, -1},     {"I8", 8, T5_I8},      {"U64", 64, -1},    {"U32", 32, -1},
    {"U16", 16, -1},     {"U8", 8, T5_I4},    {"BOOL", 8, -1},       {"F8_E4M3", 8, -1}, {"F8_E5M2", 8, -1},
    {"F8_E8M0", 8, -1},  {"C64", 64, -1},     {"F4", 4, -1},         {"F6_E2M3", 6, -1}, {"F6_E3M2", 6, -1},
};

static const dtype_row *find_dtype(const char *name)
{
    for (size_t i = 0; i < T5_COUNT(dtypes); i++) {
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    }
    return NULL;
}

/* "path: tensor "name": " in front of every error of a tensor. */
#define FAIL_TENSOR(r, name, err, ...) fail_tensor((r), (name), __LINE__, (err), __VA_ARGS__)
__attribute__((format(printf, 5, 6))) static t5_status fail_tensor(const reader *r, const char *name, int line,
                                                                   t5_error *err, const char *format, ...)
{
    char quoted[160], text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return t5_error_set(err, T5_ERR_FORMAT, __FILE__, line, "%s: tensor %s: %s", r->file->path,
                        t5_log_quote(quoted, sizeof quoted, name), text);
}

static t5_status read_shape(const reader *r, const char *name, const json_t *shape, t5_tensor_decl *decl,
                            int64_t *out_count, t5_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > T5_TENSOR_DIMS_MAX) {
        return FAIL_TENSOR(r, name, err, "shape is not a list of at most %d sizes", T5_TENSOR_DIMS_MAX);
    }
    int64_t count = 1;
    decl->n_dims = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < decl->n_dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0) {
            return FAIL_TENSOR(r, name, err, "shape[%d] is not a size", i);
        }
        decl->dims[i] = json_integer_value(size);
        if (!t5_mul_i64(count, decl->dims[i], &count)) {
            return FAIL_TENSOR(r, name, err, "the product of its shape is too large");
        }
    }
    *out_count = count;
    return T5_OK;
}

static t5_status read_span(const reader *r, const char *name, const json_t *offsets, span *out, t5_error *err)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end)) {
        return FAIL_TENSOR(r, name, err, "data_offsets is not a list of two integers");
    }
    *out = (span){.name = name, .begin = json_integer_value(begin), .end = json_integer_value(end)};
    if (out->begin < 0 || out->end < out->begin || out->end > r->data_bytes) {
        return FAIL_TENSOR(r, name, err, "data_offsets %lld to %lld are outside the file's %lld bytes of data",
                           (long long)out->begin, (long long)out->end, (long long)r->data_bytes);
    }
    return T5_OK;
}

static t5_status read_tensor(const reader *r, const char *name, const json_t *value, span *out_span, t5_error *err)
{
    if (!json_is_object(value)) return FAIL_TENSOR(r, name, err, "its entry is not an object");
    const char *dtype_name = json_string_value(json_object_get(value, "dtype"));
    if (dtype_name == NULL) return FAIL_TENSOR(r, name, err, "dtype is missing or not a string");
    const dtype_row *dtype = find_dtype(dtype_name);
    if (dtype == NULL) {
        char quoted[40];
        return FAIL_TENSOR(r, name, err, "unknown dtype %s", t5_log_quote(quoted, sizeof quoted, dtype_name));
    }

    t5_tensor_decl decl = {.name = name, .n_name = strlen(name), .dtype_name = dtype->name};
    decl.is_read = dtype->dtype >= 0;
    if (decl.is_read) decl.dtype = (t5_dtype)dtype->dtype;
    int64_t count = 0, n_bits = 0;
    t5_status status = T5_OK;
    T5_TRY(read_shape(r, name, json_object_get(value, "shape"), &decl, &count, err));
    T5_TRY(read_span(r, name, json_object_get(value, "data_offsets"), out_span, err));
    if (!t5_mul_i64(count, dtype->n_bits, &n_bits) || n_bits % 8 != 0 ||
        n_bits / 8 != out_span->end - out_span->begin) {
        return FAIL_TENSOR(r, name, err, "its shape has %lld elements of %s, but data_offsets span %lld bytes",
                           (long long)count, dtype->name, (long long)(out_span->end - out_span->begin));
    }
    decl.data = r->data + out_span->begin;
    status = t5_tensor_list_add(r->list, r->i_file, &decl, err);
out:
    return status;
}

static int compare_spans(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static t5_status check_coverage(const reader *r, span *spans, size_t n_spans, t5_error *err)
{
    qsort(spans, n_spans, sizeof *spans, compare_spans);
    int64_t end = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].begin < end) return FAIL_TENSOR(r, spans[i].name, err, "overlaps another tensor");
        if (spans[i].begin > end) return FAIL_TENSOR(r, spans[i].name, err, "does not follow the tensor before it");
        end = spans[i].end;
    }
    if (end == r->data_bytes) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: %lld bytes of data, but its tensors end at %lld", r->file->path,
                   (long long)r->data_bytes, (long long)end);
}

static t5_status read_tensors(const reader *r, json_t *header, t5_error *err)
{
    t5_status status = T5_OK;
    size_t n_spans = 0, n_keys = json_object_size(header);
    if (n_keys == 0) return T5_FAIL(err, T5_ERR_FORMAT, "%s: holds no tensors", r->file->path);
    span *spans = malloc(n_keys * sizeof *spans);
    if (spans == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of %zu tensors", r->file->path, n_keys);

    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        T5_TRY(read_tensor(r, name, value, &spans[n_spans], err));
        n_spans++;
    }
    status = check_coverage(r, spans, n_spans, err);
out:
    free(spans);
    return status;
}

t5_status t5_safetensors_read(const t5_mapped_file *file, int32_t i_file, t5_tensor_list *list, t5_error *err)
{
    uint64_t header_bytes = 0;
    if (file->n_bytes < sizeof header_bytes) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file", file->path,
                       file->n_bytes);
    }
    for (size_t i = 0; i < sizeof header_bytes; i++)
        header_bytes |= (uint64_t)file->data[i] << (8 * i);
    size_t rest_bytes = file->n_bytes - sizeof header_bytes;
    if (header_bytes > HEADER_BYTES_MAX || header_bytes > rest_bytes) {
        return T5_FAIL(err, T5_ERR_FORMAT,
                       "%s: its header says that it has %llu bytes, but %zu follow: cut short, or not safetensors",
                       file->path, (unsigned long long)header_bytes, rest_bytes);
    }
    const unsigned char *header_text = file->data + sizeof header_bytes;
    json_t *header = NULL;
    t5_status status =
        t5_json_parse(file->path, (const char *)header_text, (size_t)header_bytes, T5_JSON_UNIQUE, &header, err);
    if (status != T5_OK) return status;
    reader r = {.file = file, .i_file = i_file, .list = list};
    r.data = header_text + header_bytes;
    r.data_bytes = (int64_t)(rest_bytes - header_bytes);
    status = read_tensors(&r, header, err);
    json_decref(header);
    return status;
}
