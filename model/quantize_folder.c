/* model/quantize_folder.c: see quantize_folder.h. Which tensors are multiplied with is not written down here a second
 * time: the model is opened on a backend that only takes note of what it is given, and that checks the folder too. */
#include "model/quantize_folder.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/limits.h"
#include "model/json_file.h"
#include "model/model.h"
#include "model/quantize.h"
#include "model/safetensors_writer.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PRODUCTS_MAX (T5_LAYERS_MAX * 2 * 12)
#define COPY_BYTES_MAX ((size_t)256 << 20) /* of a file beside the weights */
#define HEAD_NAME "lm_head.weight"
#define BIAS_NAME "relative_attention_bias.weight"

/* ---- which tensors are multiplied with ---- */

/* A backend on which a model can be opened, and nothing more. */
typedef struct {
    t5_backend base;
    t5_backend_ops ops;
    const void *products[PRODUCTS_MAX]; /* data of the tensors */
    int32_t n_products;
    const void *table;
} notebook;

static t5_status note_alloc(t5_backend *b, size_t n_bytes, void **out, t5_error *err)
{
    (void)n_bytes;
    (void)err;
    *out = b; /* never looked into */
    return T5_OK;
}

static void note_release(t5_backend *b, void *p)
{
    (void)b;
    (void)p;
}

static t5_status note_upload(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    (void)b;
    (void)dst;
    (void)src;
    (void)n_bytes;
    (void)err;
    return T5_OK;
}

static t5_status note_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale,
                                    t5_matrix **out, t5_error *err)
{
    (void)scale;
    notebook *n = (notebook *)b;
    for (int32_t i = 0; i < n_parts; i++) {
        if (n->n_products == PRODUCTS_MAX) return T5_FAIL(err, T5_ERR_FORMAT, "over %d weights", PRODUCTS_MAX);
        n->products[n->n_products++] = parts[i].data;
    }
    *out = (t5_matrix *)b;
    return T5_OK;
}

static t5_status note_table_create(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err)
{
    (void)err;
    ((notebook *)b)->table = table->data;
    *out = (t5_matrix *)b;
    return T5_OK;
}

static void note_matrix_destroy(t5_backend *b, t5_matrix *m)
{
    (void)b;
    (void)m;
}

static t5_status note_sync(t5_backend *b, t5_error *err)
{
    (void)b;
    (void)err;
    return T5_OK;
}

static void notebook_init(notebook *n)
{
    *n = (notebook){.base = {.act_dtype = T5_F32}};
    n->ops = (t5_backend_ops){.name = "notebook",
                              .alloc = note_alloc,
                              .release = note_release,
                              .upload = note_upload,
                              .matrix_create = note_matrix_create,
                              .matrix_destroy = note_matrix_destroy,
                              .table_create = note_table_create,
                              .sync = note_sync};
    n->base.ops = &n->ops;
}

static bool is_product(const notebook *n, const void *data)
{
    for (int32_t i = 0; i < n->n_products; i++) {
        if (n->products[i] == data) return true;
    }
    return false;
}

/* ---- what the new file holds ---- */

typedef struct {
    const t5_tensor *from;
    bool is_quantized;
    char scale_name[264];
} entry;

/* The items of an entry are items[first] and, of a quantised one, its scales. */
typedef struct {
    const t5_quantize_args *args;
    entry *entries;
    t5_safetensors_item *items;
    int32_t n_entries, n_items, n_entries_max;
    t5_quantize_report report;
} plan;

static void plan_deinit(plan *p)
{
    free(p->entries);
    free(p->items);
}

static void add_item(plan *p, const char *name, const char *dtype, int64_t n_rows, int64_t n_cols, int64_t n_bytes)
{
    t5_safetensors_item *item = &p->items[p->n_items++];
    *item = (t5_safetensors_item){.name = name, .dtype = dtype, .n_bytes = n_bytes};
    if (n_rows > 0) item->dims[item->n_dims++] = n_rows;
    item->dims[item->n_dims++] = n_cols;
    p->report.to_bytes += n_bytes;
}

static void add_copied(plan *p, const char *name, const t5_tensor *t)
{
    static const char *const dtypes[] = {[T5_F32] = "F32", [T5_F16] = "F16", [T5_BF16] = "BF16"};
    T5_ASSERT(p->n_entries < p->n_entries_max);
    p->entries[p->n_entries++] = (entry){.from = t};
    const int64_t n_rows = t->n_rows == 1 ? 0 : t->n_rows; /* a vector has one dimension */
    add_item(p, name, dtypes[t->dtype], n_rows, t->n_cols, (int64_t)t5_tensor_bytes(t));
}

static void add_quantized(plan *p, const char *name, const t5_tensor *t)
{
    T5_ASSERT(p->n_entries < p->n_entries_max);
    entry *e = &p->entries[p->n_entries++];
    *e = (entry){.from = t, .is_quantized = true};
    snprintf(e->scale_name, sizeof e->scale_name, "%s_scale", name);
    const t5_tensor like = {.dtype = p->args->type, .n_rows = t->n_rows, .n_cols = t->n_cols};
    const int64_t n_rows = t->n_rows, row_bytes = (int64_t)t5_tensor_row_bytes(&like);
    add_item(p, name, like.dtype == T5_I8 ? "I8" : "U8", n_rows, row_bytes, n_rows * row_bytes);
    if (like.dtype == T5_I8) {
        add_item(p, e->scale_name, "F32", 0, n_rows, n_rows * (int64_t)sizeof(float));
    } else {
        const int64_t n_groups = t5_tensor_groups(&like);
        add_item(p, e->scale_name, "BF16", n_rows, n_groups, n_rows * n_groups * (int64_t)sizeof(uint16_t));
    }
    p->report.n_quantized++;
}

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && strcmp(name + n - n_end, end) == 0;
}

/* Copies of the embedding under other names, and what the model never reads, are left out. */
static t5_status make_plan(plan *p, const t5_model *model, const notebook *notes, t5_error *err)
{
    t5_weights_summary summary;
    const t5_tensor *t = NULL, *table = NULL;
    const char *name = NULL;
    t5_weights_summarize(model->weights, &summary);
    p->report.from_bytes = summary.n_bytes;
    p->n_entries_max = summary.n_tensors + 1; /* the head of a tied model */
    p->entries = calloc((size_t)p->n_entries_max, sizeof *p->entries);
    p->items = calloc(2 * (size_t)p->n_entries_max, sizeof *p->items);
    if (p->entries == NULL || p->items == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "list of %d tensors", p->n_entries_max);
    for (int32_t i = 0; (t = t5_weights_next(model->weights, &i, &name)) != NULL;) {
        if (t5_dtype_is_quantized(t->dtype))
            return T5_FAIL(err, T5_ERR_ARG, "%s: is %s already; quantise the original", p->args->dir,
                           t5_dtype_name(t->dtype));
        if (t->data == notes->table) {
            if (table == NULL && strcmp(name, HEAD_NAME) != 0) {
                add_copied(p, name, t);
                table = t;
            }
        } else if (is_product(notes, t->data)) {
            add_quantized(p, name, t);
        } else if (t->n_rows == 1 || ends_with(name, BIAS_NAME)) {
            add_copied(p, name, t);
        }
    }
    T5_ASSERT(table != NULL);
    if (is_product(notes, notes->table)) add_quantized(p, HEAD_NAME, table);
    return T5_OK;
}

/* ---- writing ---- */

/* Room for one row, and for all scales of a tensor. */
typedef struct {
    float *row;
    uint8_t *q, *packed;
    void *scales;
} row_buffers;

static t5_status buffers_init(row_buffers *b, const t5_tensor *t, t5_error *err)
{
    const size_t n_cols = (size_t)t->n_cols + T5_INT4_GROUP;
    const size_t n_groups = (size_t)t->n_cols / T5_INT4_GROUP + 1;
    *b = (row_buffers){.row = malloc((size_t)t->n_cols * sizeof *b->row),
                       .q = malloc(n_cols),
                       .packed = malloc(n_cols),
                       .scales = malloc((size_t)t->n_rows * (sizeof(float) + n_groups * sizeof(uint16_t)))};
    if (b->row != NULL && b->q != NULL && b->packed != NULL && b->scales != NULL) return T5_OK;
    return T5_FAIL(err, T5_ERR_NOMEM, "rows of %d columns", t->n_cols);
}

static void buffers_deinit(row_buffers *b)
{
    free(b->row);
    free(b->q);
    free(b->packed);
    free(b->scales);
}

static t5_status write_int8(t5_safetensors_writer *w, const t5_tensor *t, row_buffers *b, t5_error *err)
{
    t5_status status = T5_OK;
    float *scales = b->scales;
    for (int32_t r = 0; r < t->n_rows; r++) {
        t5_tensor_row_f32(t, r, b->row);
        scales[r] = t5_quantize_int8(b->row, t->n_cols, (int8_t *)b->q);
        T5_TRY(t5_safetensors_writer_put(w, b->q, (size_t)t->n_cols, err));
    }
    status = t5_safetensors_writer_put(w, scales, (size_t)t->n_rows * sizeof *scales, err);
out:
    return status;
}

static t5_status write_int4(t5_safetensors_writer *w, const t5_tensor *t, row_buffers *b, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_tensor like = {.dtype = T5_I4, .n_rows = t->n_rows, .n_cols = t->n_cols};
    const size_t row_bytes = t5_tensor_row_bytes(&like), n_groups = (size_t)t5_tensor_groups(&like);
    uint16_t *scales = b->scales;
    for (int32_t r = 0; r < t->n_rows; r++) {
        t5_tensor_row_f32(t, r, b->row);
        t5_quantize_int4(b->row, t->n_cols, b->q, scales + (size_t)r * n_groups);
        for (size_t i = 0; i < row_bytes; i++)
            b->packed[i] = (uint8_t)(b->q[2 * i] | b->q[2 * i + 1] << 4);
        T5_TRY(t5_safetensors_writer_put(w, b->packed, row_bytes, err));
    }
    status = t5_safetensors_writer_put(w, scales, (size_t)t->n_rows * n_groups * sizeof *scales, err);
out:
    return status;
}

static t5_status write_entry(t5_safetensors_writer *w, const plan *p, const entry *e, t5_error *err)
{
    const t5_tensor *t = e->from;
    row_buffers b;
    if (!e->is_quantized) return t5_safetensors_writer_put(w, t->data, t5_tensor_bytes(t), err);
    t5_status status = buffers_init(&b, t, err);
    if (status == T5_OK) status = p->args->type == T5_I8 ? write_int8(w, t, &b, err) : write_int4(w, t, &b, err);
    buffers_deinit(&b);
    return status;
}

static t5_status write_weights(const plan *p, t5_error *err)
{
    t5_status status = T5_OK;
    t5_safetensors_writer *w = NULL;
    char path[PATH_MAX];
    T5_TRY(t5_path_join(path, sizeof path, p->args->out_dir, "model.safetensors", err));
    T5_TRY(t5_safetensors_writer_open(path, p->items, p->n_items, &w, err));
    for (int32_t i = 0; i < p->n_entries; i++) {
        T5_TRY(write_entry(w, p, &p->entries[i], err));
        t5_file_forget(p->entries[i].from->data, t5_tensor_bytes(p->entries[i].from));
    }
    status = t5_safetensors_writer_finish(w, err);
out:
    t5_safetensors_writer_close(w);
    return status;
}

/* ---- the files beside the weights ---- */

static t5_status write_file(const char *dir, const char *name, const char *text, size_t n_bytes, t5_error *err)
{
    char path[PATH_MAX];
    t5_status status = t5_path_join(path, sizeof path, dir, name, err);
    if (status != T5_OK) return status;
    FILE *file = fopen(path, "wbxe");
    bool is_done = file != NULL && fwrite(text, 1, n_bytes, file) == n_bytes;
    if (file != NULL && fclose(file) != 0) is_done = false;
    return is_done ? T5_OK : T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
}

static t5_status copy_file(const t5_quantize_args *args, const char *name, t5_error *err)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t n_bytes = 0;
    t5_status status = T5_OK;
    T5_TRY(t5_path_join(path, sizeof path, args->dir, name, err));
    T5_TRY(t5_file_read(path, COPY_BYTES_MAX, &text, &n_bytes, err));
    status = write_file(args->out_dir, name, text, n_bytes, err);
out:
    free(text);
    return status;
}

/* Tokenizer, settings and papers; config.json and the weights are written anew. */
static bool is_copied(const char *name)
{
    static const char *const ends[] = {".json", ".model", ".txt", ".md", "LICENSE", "NOTICE"};
    if (name[0] == '.' || strcmp(name, "config.json") == 0 || ends_with(name, ".index.json")) return false;
    for (size_t i = 0; i < T5_COUNT(ends); i++) {
        if (ends_with(name, ends[i])) return true;
    }
    return false;
}

static t5_status copy_files(const t5_quantize_args *args, t5_error *err)
{
    t5_status status = T5_OK;
    DIR *dir = opendir(args->dir);
    if (dir == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", args->dir, strerror(errno));
    for (const struct dirent *file = readdir(dir); file != NULL; file = readdir(dir)) {
        char path[PATH_MAX];
        if (!is_copied(file->d_name)) continue;
        T5_TRY(t5_path_join(path, sizeof path, args->dir, file->d_name, err));
        if (t5_file_exists(path)) T5_TRY(copy_file(args, file->d_name, err));
    }
out:
    closedir(dir);
    return status;
}

/* transformers refuses a folder whose quant_method it does not know, instead of taking integers for weights. */
static t5_status write_config(const t5_quantize_args *args, t5_error *err)
{
    char path[PATH_MAX];
    json_t *config = NULL;
    char *text = NULL;
    t5_status status = T5_OK;
    T5_TRY(t5_path_join(path, sizeof path, args->dir, "config.json", err));
    T5_TRY(t5_json_load(path, &config, err));
    json_t *how = json_pack("{s:s, s:i}", "quant_method", "t5serve", "bits", args->type == T5_I8 ? 8 : 4);
    if (args->type == T5_I4) json_object_set_new(how, "group_size", json_integer(T5_INT4_GROUP));
    const bool is_set = json_object_set_new(config, "quantization_config", how) == 0;
    text = is_set ? json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    if (text == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%s: a copy of it", path);
        goto out;
    }
    status = write_file(args->out_dir, "config.json", text, strlen(text), err);
out:
    free(text);
    json_decref(config);
    return status;
}

static t5_status make_empty_dir(const char *path, t5_error *err)
{
    if (mkdir(path, 0777) == 0) return T5_OK;
    if (errno != EEXIST) return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
    DIR *dir = opendir(path);
    if (dir == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
    bool is_empty = true;
    for (const struct dirent *file = readdir(dir); file != NULL && is_empty; file = readdir(dir))
        is_empty = strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0;
    closedir(dir);
    return is_empty ? T5_OK : T5_FAIL(err, T5_ERR_ARG, "%s: is there already and not empty", path);
}

t5_status t5_quantize_folder(const t5_quantize_args *args, t5_quantize_report *out, t5_error *err)
{
    T5_ASSERT(t5_dtype_is_quantized(args->type));
    t5_status status = T5_OK;
    t5_model *model = NULL;
    plan p = {.args = args};
    notebook *notes = malloc(sizeof *notes);
    if (notes == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", sizeof *notes);
    notebook_init(notes);
    T5_TRY(t5_model_open(args->dir, &notes->base, 1, 2, &model, err));
    T5_TRY(make_plan(&p, model, notes, err));
    T5_TRY(make_empty_dir(args->out_dir, err));
    T5_TRY(write_weights(&p, err));
    T5_TRY(copy_files(args, err));
    T5_TRY(write_config(args, err)); /* last: without it a folder is no model */
    *out = p.report;
out:
    plan_deinit(&p);
    t5_model_close(model);
    free(notes);
    return status;
}
