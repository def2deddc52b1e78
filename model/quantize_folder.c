/* model/quantize_folder.c: see quantize_folder.h. Which tensors are multiplied with is not written down here a second
 * time: the model is opened on a backend that only takes note of what it is given, and that checks the folder too. */
#include "model/quantize_folder.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "model/model.h"
#include "model/panels.h"
#include "model/quantize.h"
#include "model/safetensors_writer.h"
#include "json/json_file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PRODUCTS_MAX (T5_LAYERS_MAX * 2 * 12)
#define COPY_BYTES_MAX ((size_t)256 << 20) /* of a file beside the weights */
#define COLUMNS_MAX ((1 << 24) / 127)      /* float32 holds the sum of a row's integers */
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

/* The file has the panels of all products first, in the order in which the model asks for them: so parts of one matrix
 * are neighbours, and every panel begins where vectors want it. Then come scales, then what is copied. */
typedef struct {
    const t5_tensor *from;
    const char *name;
    float *scales; /* of a product in int8: [2][n_rows] scales, then sums; else NULL */
    char scale_name[264];
} product_entry;

typedef struct {
    const t5_quantize_args *args;
    product_entry *products;
    const t5_tensor **copies;
    t5_safetensors_item *items;
    int32_t n_products, n_copies, n_items, n_tensors;
    t5_quantize_report report;
} plan;

static void plan_deinit(plan *p)
{
    for (int32_t i = 0; i < p->n_products; i++)
        free(p->products[i].scales);
    free(p->products);
    free(p->copies);
    free(p->items);
}

static void add_item(plan *p, const t5_safetensors_item *item)
{
    p->items[p->n_items++] = *item;
    p->report.to_bytes += item->n_bytes;
}

static void add_copied(plan *p, const char *name, const t5_tensor *t)
{
    static const char *const dtypes[] = {[T5_F32] = "F32", [T5_F16] = "F16", [T5_BF16] = "BF16"};
    T5_ASSERT(p->n_copies < p->n_tensors);
    p->copies[p->n_copies++] = t;
    t5_safetensors_item item = {.name = name, .dtype = dtypes[t->dtype], .n_bytes = (int64_t)t5_tensor_bytes(t)};
    if (t->n_rows > 1) item.dims[item.n_dims++] = t->n_rows; /* a vector has one dimension */
    item.dims[item.n_dims++] = t->n_cols;
    add_item(p, &item);
}

static int32_t panels_of(const plan *p, const t5_tensor *t)
{
    return t->n_rows / p->args->panel + (t->n_rows % p->args->panel != 0);
}

static t5_storage storage_of(const plan *p)
{
    return p->args->type == T5_I8 ? T5_STORE_INT8 : T5_STORE_INT4;
}

static t5_status add_product(plan *p, const char *name, const t5_tensor *t, t5_error *err)
{
    T5_ASSERT(p->n_products < p->n_tensors && !t5_dtype_is_quantized(t->dtype));
    if (t->n_cols > COLUMNS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s has %d columns, at most %d can be quantised", p->args->dir, name,
                       t->n_cols, COLUMNS_MAX);
    const bool is_int8 = p->args->type == T5_I8;
    const int64_t column_bytes = is_int8 ? T5_QUAD : (int64_t)T5_INT4_GROUP_BYTES(1);
    const int64_t n_panels = panels_of(p, t), width_bytes = p->args->panel * column_bytes;
    const int64_t depth = (int64_t)t5_line_bytes(storage_of(p), t->n_cols) / column_bytes;
    product_entry *e = &p->products[p->n_products++];
    *e = (product_entry){.from = t, .name = name};
    snprintf(e->scale_name, sizeof e->scale_name, "%s_scale", name);
    if (is_int8) e->scales = malloc(2 * (size_t)t->n_rows * sizeof *e->scales);
    if (is_int8 && e->scales == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "scales of %d rows", t->n_rows);
    add_item(p, &(t5_safetensors_item){.name = name,
                                       .dtype = is_int8 ? "I8" : "U8",
                                       .n_dims = 3,
                                       .dims = {n_panels, depth, width_bytes},
                                       .n_bytes = n_panels * depth * width_bytes});
    p->report.n_quantized++;
    return T5_OK;
}

static void add_scales(plan *p)
{
    for (int32_t i = 0; i < p->n_products && p->args->type == T5_I8; i++) {
        const int64_t n_rows = p->products[i].from->n_rows;
        add_item(p, &(t5_safetensors_item){.name = p->products[i].scale_name,
                                           .dtype = "F32",
                                           .n_dims = 2,
                                           .dims = {2, n_rows},
                                           .n_bytes = 2 * n_rows * (int64_t)sizeof(float)});
    }
}

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && strcmp(name + n - n_end, end) == 0;
}

static bool is_planned(const plan *p, const char *name)
{
    bool is_there = false;
    for (int32_t i = 0; i < p->n_products && !is_there; i++)
        is_there = strcmp(p->products[i].name, name) == 0;
    return is_there;
}

/* The first tensor with this data that is no product yet, since weights may share theirs; not the head's name for the
 * table. */
static const t5_tensor *find_by_data(const plan *p, const t5_model *model, const void *data, bool is_table,
                                     const char **out_name)
{
    const t5_tensor *t = NULL;
    for (int32_t i = 0; (t = t5_weights_next(model->weights, &i, out_name)) != NULL;) {
        if (t->data != data || (is_table && strcmp(*out_name, HEAD_NAME) == 0)) continue;
        if (!is_planned(p, *out_name)) return t;
    }
    return NULL;
}

static t5_status add_products(plan *p, const t5_model *model, const notebook *notes, t5_error *err)
{
    for (int32_t i = 0; i < notes->n_products; i++) {
        const bool is_table = notes->products[i] == notes->table;
        const char *name = NULL;
        const t5_tensor *t = find_by_data(p, model, notes->products[i], is_table, &name);
        T5_ASSERT(t != NULL);
        const t5_status status = add_product(p, is_table ? HEAD_NAME : name, t, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* Not even in part: integers are neither rounded again nor copied. */
static t5_status check_original(const plan *p, const t5_model *model, t5_error *err)
{
    const t5_tensor *t = NULL;
    const char *name = NULL;
    for (int32_t i = 0; (t = t5_weights_next(model->weights, &i, &name)) != NULL;) {
        char quoted[160];
        if (t5_dtype_is_quantized(t->dtype))
            return T5_FAIL(err, T5_ERR_ARG, "%s: tensor %s is %s already; quantise the original", p->args->dir,
                           t5_log_quote(quoted, sizeof quoted, name), t5_dtype_name(t->dtype));
    }
    return T5_OK;
}

/* Copies of the embedding under other names, and what the model never reads, are left out. */
static t5_status make_plan(plan *p, const t5_model *model, const notebook *notes, t5_error *err)
{
    t5_status status = T5_OK;
    t5_weights_summary summary;
    const t5_tensor *t = NULL;
    const char *name = NULL, *table_name = NULL;
    T5_TRY(check_original(p, model, err));
    t5_weights_summarize(model->weights, model->hp.is_tied, &summary);
    p->report.from_bytes = summary.n_bytes;
    p->n_tensors = summary.n_tensors + 1; /* the head of a tied model */
    p->products = calloc((size_t)p->n_tensors, sizeof *p->products);
    p->copies = calloc((size_t)p->n_tensors, sizeof *p->copies);
    p->items = calloc(3 * (size_t)p->n_tensors, sizeof *p->items);
    if (p->products == NULL || p->copies == NULL || p->items == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "list of %d tensors", p->n_tensors);
    T5_TRY(add_products(p, model, notes, err));
    add_scales(p);
    const t5_tensor *table = find_by_data(p, model, notes->table, true, &table_name);
    T5_ASSERT(table != NULL);
    add_copied(p, table_name, table);
    for (int32_t i = 0; (t = t5_weights_next(model->weights, &i, &name)) != NULL;) {
        if (t->data == notes->table || is_product(notes, t->data)) continue;
        if (t->n_rows == 1 || ends_with(name, BIAS_NAME)) add_copied(p, name, t);
    }
out:
    return status;
}

/* ---- writing ---- */

/* Room for one row, and for one panel and the lines of a strip of it. */
typedef struct {
    float *row;
    uint8_t *q, *lines, *panel;
    uint16_t *scales;
} row_buffers;

static t5_status buffers_init(row_buffers *b, const plan *p, const t5_tensor *t, t5_error *err)
{
    const size_t n_groups = (size_t)t->n_cols / T5_INT4_GROUP + 1;
    const size_t line_bytes = t5_line_bytes(storage_of(p), t->n_cols);
    *b = (row_buffers){.row = malloc((size_t)t->n_cols * sizeof *b->row),
                       .q = malloc(n_groups * T5_INT4_GROUP),
                       .lines = malloc(T5_PANEL_STRIP * line_bytes),
                       .panel = malloc((size_t)p->args->panel * line_bytes),
                       .scales = malloc(n_groups * sizeof *b->scales)};
    if (b->row != NULL && b->q != NULL && b->lines != NULL && b->panel != NULL && b->scales != NULL) return T5_OK;
    return T5_FAIL(err, T5_ERR_NOMEM, "rows of %d columns", t->n_cols);
}

static void buffers_deinit(row_buffers *b)
{
    free(b->row);
    free(b->q);
    free(b->lines);
    free(b->panel);
    free(b->scales);
}

/* One row as a line of its panel; rows past the last are zero bytes. */
static void make_line(const product_entry *e, int32_t i_row, row_buffers *b, size_t line_bytes, uint8_t *line)
{
    const t5_tensor *t = e->from;
    memset(line, 0, line_bytes);
    if (i_row >= t->n_rows) return;
    t5_tensor_row_f32(t, i_row, b->row);
    if (e->scales == NULL) {
        t5_quantize_int4(b->row, t->n_cols, b->q, b->scales);
        t5_line_int4(b->q, b->scales, t->n_cols, line);
        return;
    }
    int32_t sum = 0;
    e->scales[i_row] = t5_quantize_int8(b->row, t->n_cols, (int8_t *)line);
    for (int32_t k = 0; k < t->n_cols; k++)
        sum += (int8_t)line[k];
    e->scales[t->n_rows + i_row] = (float)sum;
}

static t5_status write_product(t5_safetensors_writer *w, const plan *p, const product_entry *e, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_tensor *t = e->from;
    const int32_t width = p->args->panel, n_panels = panels_of(p, t);
    const size_t line_bytes = t5_line_bytes(storage_of(p), t->n_cols);
    row_buffers b;
    T5_TRY(buffers_init(&b, p, t, err));
    for (int32_t i = 0; i < n_panels; i++) {
        for (int32_t c = 0; c < width; c++) {
            make_line(e, i * width + c, &b, line_bytes, b.lines + (size_t)(c % T5_PANEL_STRIP) * line_bytes);
            if (c % T5_PANEL_STRIP == T5_PANEL_STRIP - 1)
                t5_panel_put(storage_of(p), width, t->n_cols, c + 1 - T5_PANEL_STRIP, b.lines, b.panel);
        }
        T5_TRY(t5_safetensors_writer_put(w, b.panel, (size_t)width * line_bytes, err));
    }
out:
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
    for (int32_t i = 0; i < p->n_products; i++) {
        T5_TRY(write_product(w, p, &p->products[i], err));
        t5_file_forget(p->products[i].from->data, t5_tensor_bytes(p->products[i].from));
    }
    for (int32_t i = 0; i < p->n_products && p->args->type == T5_I8; i++) {
        const size_t n_bytes = 2 * (size_t)p->products[i].from->n_rows * sizeof(float);
        T5_TRY(t5_safetensors_writer_put(w, p->products[i].scales, n_bytes, err));
    }
    for (int32_t i = 0; i < p->n_copies; i++)
        T5_TRY(t5_safetensors_writer_put(w, p->copies[i]->data, t5_tensor_bytes(p->copies[i]), err));
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

/* Last of all, since a folder without it is no model. transformers refuses a folder whose quant_method it does not
 * know, instead of taking integers for weights. A head that is not the table is said to be one: transformers 5 says of
 * every model that it has none. */
static t5_status write_config(const t5_quantize_args *args, const t5_hparams *hp, bool has_head, t5_error *err)
{
    char path[PATH_MAX];
    json_t *config = NULL;
    char *text = NULL;
    t5_status status = T5_OK;
    T5_TRY(t5_path_join(path, sizeof path, args->dir, "config.json", err));
    T5_TRY(t5_json_load(path, 0, &config, err));
    json_t *how = json_pack("{s:s, s:i, s:i}", "quant_method", "t5serve", "bits", args->type == T5_I8 ? 8 : 4, "panel",
                            args->panel);
    if (args->type == T5_I4) json_object_set_new(how, "group_size", json_integer(T5_INT4_GROUP));
    bool is_set = json_object_set_new(config, "quantization_config", how) == 0;
    if (has_head)
        is_set = is_set && json_object_set_new(config, "tie_word_embeddings", json_false()) == 0 &&
                 json_object_set_new(config, "scale_decoder_outputs", json_boolean(hp->scales_decoder_out)) == 0;
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
    T5_ASSERT(t5_dtype_is_quantized(args->type) && (args->panel == 16 || args->panel == 32 || args->panel == 64));
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
    T5_TRY(write_config(args, &model->hp, model->head_tensor.data != notes->table, err));
    *out = p.report;
out:
    plan_deinit(&p);
    t5_model_close(model);
    free(notes);
    return status;
}
