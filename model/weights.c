/* model/weights.c: see weights.h. Finds the weight files of a folder, maps them and lists their tensors; the formats
 * themselves are in safetensors.c and torch_file.c.
 *
 * Of a sharded model the index decides which shard a tensor comes from: a tensor that the index does not name for its
 * shard is dropped, one that it names must be there. */
#include "model/weights.h"

#include "base/file.h"
#include "base/log.h"
#include "model/panels.h"
#include "model/safetensors.h"
#include "model/torch_file.h"
#include "json/json_file.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARDS_MAX 256
#define SCALE_SUFFIX "_scale" /* of the tensor that holds the scales of a quantised one */
#define NAME_BYTES_MAX 256    /* of a quantised tensor's name */

typedef struct {
    char *name; /* inside the folder; NULL for a model in one file */
    const void *map;
    size_t map_bytes;
} weight_file;

typedef struct {
    const char *file;  /* the whole model in one file */
    const char *index; /* or this index of its shards */
    const char *format;
    t5_status (*read)(const t5_mapped_file *file, int32_t i_file, t5_tensor_list *list, t5_error *err);
} weight_format;

struct t5_weights {
    const weight_format *format;
    weight_file *files;
    int32_t n_files;
    char path[PATH_MAX]; /* the file, or the index, for error texts */
    t5_tensor_list list;
};

/* In the order of preference. */
static const weight_format formats[] = {
    {"model.safetensors", "model.safetensors.index.json", "safetensors", t5_safetensors_read},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch", t5_torch_file_read},
};

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0; /* also what cannot be opened: opening it gives the better error */
}

static t5_status check_not_pointer(const t5_mapped_file *file, t5_error *err)
{
    static const char lfs[] = "version https://git-lfs";
    if (file->n_bytes < sizeof lfs || memcmp(file->data, lfs, sizeof lfs - 1) != 0) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: a Git LFS pointer, not the file itself: fetch it with \"git lfs pull\"",
                   file->path);
}

static t5_status add_file(t5_weights *w, int32_t i_file, const char *path, t5_error *err)
{
    weight_file *file = &w->files[i_file];
    t5_status status = t5_file_map(path, &file->map, &file->map_bytes, err);
    if (status != T5_OK) return status;
    t5_mapped_file mapped = {.path = path, .data = file->map, .n_bytes = file->map_bytes};
    if (mapped.n_bytes == 0) return T5_FAIL(err, T5_ERR_FORMAT, "%s: the file is empty", path);
    T5_TRY(check_not_pointer(&mapped, err));
    status = w->format->read(&mapped, i_file, &w->list, err);
out:
    return status;
}

/* One tensor name in one file twice: which one is meant? */
static t5_status check_unique(const t5_weights *w, t5_error *err)
{
    for (int32_t i = 1; i < w->list.n_entries; i++) {
        const t5_tensor_entry *entry = &w->list.entries[i];
        char quoted[160];
        if (strcmp(entry->name, entry[-1].name) != 0 || entry->i_file != entry[-1].i_file) continue;
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor %s appears twice", w->path,
                       t5_log_quote(quoted, sizeof quoted, entry->name));
    }
    return T5_OK;
}

static t5_status open_single(t5_weights *w, t5_error *err)
{
    w->files = calloc(1, sizeof *w->files);
    if (w->files == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of files", w->path);
    w->n_files = 1;
    t5_status status = T5_OK;
    T5_TRY(add_file(w, 0, w->path, err));
    t5_tensor_list_sort(&w->list);
    status = check_unique(w, err);
out:
    return status;
}

static int32_t find_shard(const t5_weights *w, const char *name)
{
    for (int32_t i = 0; i < w->n_files; i++) {
        if (strcmp(w->files[i].name, name) == 0) return i;
    }
    return -1;
}

/* The index may only name files that lie beside it. */
static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strlen(name) <= NAME_MAX;
}

static t5_status list_shards(t5_weights *w, json_t *weight_map, t5_error *err)
{
    const char *tensor;
    json_t *value;
    w->files = calloc(SHARDS_MAX, sizeof *w->files);
    if (w->files == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of shards", w->path);
    json_object_foreach(weight_map, tensor, value)
    {
        char quoted[160], shown[80];
        const char *name = json_string_value(value);
        if (name == NULL || !is_plain_name(name)) {
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor %s: %s is not the name of a file in this folder", w->path,
                           t5_log_quote(quoted, sizeof quoted, tensor), t5_json_show(shown, sizeof shown, value));
        }
        if (find_shard(w, name) >= 0) continue;
        if (w->n_files == SHARDS_MAX) return T5_FAIL(err, T5_ERR_FORMAT, "%s: over %d shards", w->path, SHARDS_MAX);
        w->files[w->n_files].name = strdup(name);
        if (w->files[w->n_files].name == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of shards", w->path);
        w->n_files++;
    }
    return T5_OK;
}

/* Keeps the tensors that the index names; each must be in the shard it is said to be in. */
static t5_status apply_index(t5_weights *w, json_t *weight_map, t5_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        const char *shard = json_string_value(value);
        t5_tensor_entry *entry = t5_tensor_list_find(&w->list, name, find_shard(w, shard));
        if (entry == NULL) {
            char quoted[160];
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor %s is not in %s", w->path,
                           t5_log_quote(quoted, sizeof quoted, name), shard);
        }
        entry->is_indexed = true;
    }
    t5_tensor_list_keep_indexed(&w->list);
    return T5_OK;
}

static t5_status open_sharded(t5_weights *w, const char *dir, t5_error *err)
{
    json_t *index = NULL;
    t5_status status = t5_json_load(w->path, 0, &index, err);
    if (status != T5_OK) return status;
    json_t *weight_map = json_object_get(index, "weight_map");
    if (json_object_size(weight_map) == 0) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: weight_map is missing or not an object of files by tensor", w->path);
        goto out;
    }
    T5_TRY(list_shards(w, weight_map, err));
    for (int32_t i = 0; i < w->n_files; i++) {
        char path[PATH_MAX];
        T5_TRY(t5_path_join(path, sizeof path, dir, w->files[i].name, err));
        T5_TRY(add_file(w, i, path, err));
    }
    t5_tensor_list_sort(&w->list);
    T5_TRY(check_unique(w, err));
    status = apply_index(w, weight_map, err);
out:
    json_decref(index);
    return status;
}

static t5_status open_folder(t5_weights *w, const char *dir, t5_error *err)
{
    t5_status status = T5_OK;
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) return T5_FAIL(err, T5_ERR_IO, "%s: not a folder", dir);
    for (size_t i = 0; i < T5_COUNT(formats); i++) {
        w->format = &formats[i];
        T5_TRY(t5_path_join(w->path, sizeof w->path, dir, formats[i].file, err));
        if (is_there(w->path)) return open_single(w, err);
        T5_TRY(t5_path_join(w->path, sizeof w->path, dir, formats[i].index, err));
        if (is_there(w->path)) return open_sharded(w, dir, err);
    }
    status = T5_FAIL(err, T5_ERR_IO, "%s: holds neither model.safetensors nor pytorch_model.bin nor an index of shards",
                     dir);
out:
    return status;
}

/* The scales of a quantised tensor; NULL and a text when they are not there or do not fit. */
static t5_tensor_entry *find_scales(const t5_weights *w, const t5_tensor_entry *entry, char *problem, size_t n_problem)
{
    const t5_tensor *t = &entry->tensor;
    const t5_dtype dtype = t->dtype == T5_I8 ? T5_F32 : T5_BF16;
    const int32_t n_padded = t->panel > 0 ? t->panel - 1 : 0;
    char name[NAME_BYTES_MAX + sizeof SCALE_SUFFIX];
    snprintf(name, sizeof name, "%.*s" SCALE_SUFFIX, NAME_BYTES_MAX, entry->name);
    t5_tensor_entry *scales = t5_tensor_list_find(&w->list, name, -1);
    if (scales == NULL || scales->problem != NULL) {
        snprintf(problem, n_problem, "is %s without scales (\"%.80s\")", t5_dtype_name(t->dtype), name);
        return NULL;
    }
    const t5_tensor *s = &scales->tensor;
    const bool fits = t->dtype == T5_I8 ? s->n_rows == (t->panel > 0 ? 2 : 1) && s->n_cols <= t->n_rows &&
                                              t->n_rows - s->n_cols <= n_padded
                                        : s->n_rows == t->n_rows && t->n_cols == (int64_t)s->n_cols * T5_INT4_GROUP;
    if (s->dtype == dtype && fits) return scales;
    snprintf(problem, n_problem, "is %s [%d, %d], but its scales are %s [%d, %d]", t5_dtype_name(t->dtype), t->n_rows,
             t->n_cols, t5_dtype_name(s->dtype), s->n_rows, s->n_cols);
    return NULL;
}

/* Gives each quantised tensor its scales. One without can't be used, as a tensor of any other foreign type. */
static t5_status attach_scales(t5_weights *w, t5_error *err)
{
    for (int32_t i = 0; i < w->list.n_entries; i++) {
        t5_tensor_entry *entry = &w->list.entries[i];
        t5_tensor *t = &entry->tensor;
        char problem[256];
        if (entry->problem != NULL || !t5_dtype_is_quantized(t->dtype)) continue;
        if (t->panel > 0 && t->dtype == T5_I4) continue; /* its scales are inside */
        t5_tensor_entry *scales = find_scales(w, entry, problem, sizeof problem);
        if (scales != NULL) {
            scales->is_scale = true;
            t->scales = scales->tensor.data;
            t->n_rows = t->panel > 0 ? scales->tensor.n_cols : t->n_rows;
        } else if (!t5_tensor_entry_set_problem(entry, problem)) {
            return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of tensors", w->path);
        }
    }
    return T5_OK;
}

t5_status t5_weights_open(const char *dir, t5_weights **out, t5_error *err)
{
    t5_weights *w = calloc(1, sizeof *w);
    if (w == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "weights: %zu bytes", sizeof *w);
    t5_status status = T5_OK;
    T5_TRY(open_folder(w, dir, err));
    if (w->list.n_entries == 0) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: holds no tensors", w->path);
        goto out;
    }
    T5_TRY(attach_scales(w, err));
    *out = w;
    w = NULL; /* handed to the caller */
out:
    t5_weights_close(w);
    return status;
}

void t5_weights_close(t5_weights *w)
{
    if (w == NULL) return;
    t5_tensor_list_deinit(&w->list);
    for (int32_t i = 0; i < w->n_files; i++) {
        t5_file_unmap(w->files[i].map, w->files[i].map_bytes);
        free(w->files[i].name);
    }
    free(w->files);
    free(w);
}

const char *t5_weights_path(const t5_weights *w)
{
    return w->path;
}

const t5_tensor *t5_weights_find(const t5_weights *w, const char *name)
{
    const t5_tensor_entry *entry = t5_tensor_list_find(&w->list, name, -1);
    return entry != NULL && entry->problem == NULL ? &entry->tensor : NULL;
}

/* Of int4 only the groups are stored, of panels only whole ones and their quads: any size that fills them fits. */
static bool has_shape(const t5_tensor *t, int32_t n_rows, int32_t n_cols)
{
    const int32_t row_step = t->panel > 0 && t->dtype == T5_I4 ? t->panel : 1;
    const int32_t col_step = t->dtype == T5_I4 ? T5_INT4_GROUP : t->panel > 0 ? T5_QUAD : 1;
    return n_rows <= t->n_rows && t->n_rows - n_rows < row_step && n_cols <= t->n_cols && t->n_cols - n_cols < col_step;
}

/* Of a row, as far as its integers can reach; NaN has none. */
static bool has_sums(const t5_tensor *t)
{
    const float largest = 127.0f * (float)t->n_cols;
    bool has_all = true;
    for (int32_t i = 0; i < t->n_rows && has_all; i++)
        has_all = fabsf(t5_tensor_row_sum(t, i)) <= largest;
    return has_all;
}

t5_status t5_weights_get(const t5_weights *w, const char *name, int32_t n_rows, int32_t n_cols, t5_tensor *out,
                         t5_error *err)
{
    const t5_tensor_entry *entry = t5_tensor_list_find(&w->list, name, -1);
    if (entry == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor \"%s\" is missing", w->path, name);
    if (entry->problem != NULL) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor \"%s\" %s", w->path, name, entry->problem);
    }
    if (!has_shape(&entry->tensor, n_rows, n_cols)) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor \"%s\" has shape [%d, %d], config.json wants [%d, %d]", w->path,
                       name, entry->tensor.n_rows, entry->tensor.n_cols, n_rows, n_cols);
    }
    const bool is_read_now = entry->tensor.dtype == T5_I8 && entry->tensor.panel == 0; /* panels may stay on disk */
    if (is_read_now && memchr(entry->tensor.data, 0x80, (size_t)n_rows * (size_t)n_cols) != NULL) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor \"%s\" holds -128; int8 is -127 to 127", w->path, name);
    }
    if (entry->tensor.dtype == T5_I8 && entry->tensor.panel > 0 && !has_sums(&entry->tensor)) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: tensor \"%s" SCALE_SUFFIX "\" holds sums that no int8 can have",
                       w->path, name);
    }
    *out = entry->tensor;
    out->n_rows = n_rows;
    out->n_cols = n_cols;
    return T5_OK;
}

const t5_tensor *t5_weights_next(const t5_weights *w, int32_t *inout_i, const char **out_name)
{
    while (*inout_i < w->list.n_entries) {
        const t5_tensor_entry *entry = &w->list.entries[(*inout_i)++];
        if (entry->problem != NULL || entry->is_scale) continue;
        *out_name = entry->name;
        return &entry->tensor;
    }
    return NULL;
}

void t5_weights_summarize(const t5_weights *w, bool is_tied, t5_weights_summary *out)
{
    int64_t bytes_of[T5_I4 + 1] = {0};
    const char *name = NULL;
    const t5_tensor *t = NULL;
    *out = (t5_weights_summary){.n_tensors = w->list.n_entries};
    for (int32_t i = 0; (t = t5_weights_next(w, &i, &name)) != NULL;) {
        const int64_t n_bytes = (int64_t)t5_tensor_bytes(t);
        const bool is_copy = is_tied && t5_dtype_is_quantized(t->dtype) && strcmp(name, "lm_head.weight") == 0;
        if (!is_copy) out->n_params += (int64_t)t->n_rows * t->n_cols;
        if (t->panel > 0) out->panel = t->panel;
        out->n_bytes += n_bytes;
        bytes_of[t->dtype] += n_bytes;
    }
    /* What is multiplied with counts, not the embedding table beside it. */
    const bool is_quantized = bytes_of[T5_I8] + bytes_of[T5_I4] > 0;
    if (is_quantized) out->dtype = T5_I8;
    for (int32_t dtype = out->dtype; dtype <= T5_I4; dtype++) {
        if (bytes_of[dtype] > bytes_of[out->dtype]) out->dtype = (t5_dtype)dtype;
    }
    if (w->files[0].name == NULL) {
        snprintf(out->format, sizeof out->format, "%s", w->format->format);
    } else {
        snprintf(out->format, sizeof out->format, "%s (%d shards)", w->format->format, w->n_files);
    }
}
