/* model/torch_file.c: see torch_file.h. Two layouts:
 *
 * Since PyTorch 1.6 a zip file of stored members in one folder: NAME/data.pkl, a pickled dictionary of tensors, each a
 * view of a storage, and NAME/data/KEY, the bytes of storage KEY. NAME/byteorder says "little" or "big".
 *
 * Before, one stream: the pickles of a magic number, a protocol number, a description of the machine, the dictionary
 * and a list of the storages' keys; then, in the order of that list, each storage: its number of elements in 8 bytes
 * and the elements. Many of the first T5 checkpoints on Hugging Face are such files. */
#include "model/torch_file.h"

#include "base/log.h"
#include "model/pickle.h"
#include "model/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBER_NAME_MAX 512

typedef struct {
    const t5_mapped_file *file;
    t5_pickle pickle;
    const unsigned char **storage_bytes; /* [pickle.n_storages] where each begins */
    int32_t i_file;
    t5_tensor_list *list;
} reader;

static t5_status fail_tensor(const reader *r, const t5_pickle_item *item, int line, t5_error *err, const char *text)
{
    char name[120] = "", quoted[160];
    memcpy(name, item->name, item->n_name < sizeof name ? item->n_name : sizeof name - 1);
    return t5_error_set(err, T5_ERR_FORMAT, __FILE__, line, "%s: tensor %s: %s", r->file->path,
                        t5_log_quote(quoted, sizeof quoted, name), text);
}

/* True when the elements follow each other row by row. The stride of a dimension of one element says nothing. */
static bool is_contiguous(const t5_pickle_tensor *tensor)
{
    int64_t stride = 1;
    for (int32_t i = tensor->n_dims - 1; i >= 0; i--) {
        if (tensor->dims[i] != 1 && tensor->strides[i] != stride) return false;
        if (!t5_mul_i64(stride, tensor->dims[i], &stride)) return false;
    }
    return true;
}

/* Elements from the tensor's first to its last, both included; false when that is more than any file holds. */
static bool count_extent(const t5_pickle_tensor *tensor, int64_t *out)
{
    int64_t extent = 1;
    for (int32_t i = 0; i < tensor->n_dims; i++) {
        int64_t reach = 0;
        if (tensor->dims[i] == 0) {
            *out = 0;
            return true;
        }
        if (!t5_mul_i64(tensor->dims[i] - 1, tensor->strides[i], &reach)) return false;
        if (__builtin_add_overflow(extent, reach, &extent)) return false;
    }
    *out = extent;
    return true;
}

static t5_status add_tensor(const reader *r, const t5_pickle_item *item, t5_error *err)
{
    const t5_pickle_tensor *tensor = &r->pickle.tensors[item->i_tensor];
    const t5_pickle_storage *storage = &r->pickle.storages[tensor->i_storage];
    int64_t extent = 0;
    if (!count_extent(tensor, &extent) || tensor->offset > storage->n_elements ||
        extent > storage->n_elements - tensor->offset) {
        return fail_tensor(r, item, __LINE__, err, "reaches beyond its storage");
    }
    t5_tensor_decl decl = {.name = item->name, .n_name = item->n_name, .n_dims = tensor->n_dims};
    decl.is_read = storage->type->is_float;
    decl.dtype = storage->type->dtype;
    decl.dtype_name = storage->type->name;
    decl.data = r->storage_bytes[tensor->i_storage] + tensor->offset * storage->type->n_bytes;
    if (!is_contiguous(tensor)) decl.layout_problem = "is not contiguous; save it again with tensor.contiguous()";
    memcpy(decl.dims, tensor->dims, sizeof decl.dims);
    return t5_tensor_list_add(r->list, r->i_file, &decl, err);
}

static t5_status add_tensors(const reader *r, t5_error *err)
{
    for (size_t i = 0; i < r->pickle.n_items; i++) {
        const t5_pickle_item *item = &r->pickle.items[i];
        if (item->i_tensor < 0) {
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: a list, not a dictionary of tensors", r->file->path);
        }
        if (memchr(item->name, '\0', item->n_name) != NULL) {
            return fail_tensor(r, item, __LINE__, err, "its name holds a NUL byte");
        }
        t5_status status = add_tensor(r, item, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

static t5_status alloc_storages(reader *r, t5_error *err)
{
    r->storage_bytes = calloc(r->pickle.n_storages + 1, sizeof *r->storage_bytes);
    if (r->storage_bytes != NULL) return T5_OK;
    return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of %zu storages", r->file->path, r->pickle.n_storages);
}

/* The member FOLDER/name, where FOLDER is the one that the first member is in. */
static const t5_zip_member *find_member(const t5_zip *zip, const char *name, size_t n_name)
{
    char path[MEMBER_NAME_MAX];
    const char *slash = memchr(zip->first_name, '/', zip->n_first_name);
    if (slash == NULL) return NULL;
    size_t n_folder = (size_t)(slash - zip->first_name) + 1;
    if (n_folder + n_name > sizeof path) return NULL;
    memcpy(path, zip->first_name, n_folder);
    memcpy(path + n_folder, name, n_name);
    return t5_zip_find(zip, path, n_folder + n_name);
}

static t5_status find_storages(reader *r, const t5_zip *zip, t5_error *err)
{
    for (size_t i = 0; i < r->pickle.n_storages; i++) {
        const t5_pickle_storage *storage = &r->pickle.storages[i];
        char name[MEMBER_NAME_MAX], quoted[160];
        int n = snprintf(name, sizeof name, "data/%.*s", (int)storage->n_key, storage->key);
        bool fits = n > 0 && (size_t)n < sizeof name;
        const t5_zip_member *member = fits ? find_member(zip, name, (size_t)n) : NULL;
        if (member == NULL) {
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: the storage %s is missing", r->file->path,
                           t5_log_quote(quoted, sizeof quoted, name));
        }
        int64_t n_bytes = 0;
        if (!t5_mul_i64(storage->n_elements, storage->type->n_bytes, &n_bytes) ||
            (uint64_t)n_bytes != member->n_bytes) {
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: the storage %s has %zu bytes, %lld elements of %s do not",
                           r->file->path, t5_log_quote(quoted, sizeof quoted, name), member->n_bytes,
                           (long long)storage->n_elements, storage->type->name);
        }
        r->storage_bytes[i] = member->data;
    }
    return T5_OK;
}

static t5_status read_zip(reader *r, t5_error *err)
{
    t5_zip zip = {0};
    t5_status status = T5_OK;
    T5_TRY(t5_zip_read(r->file, &zip, err));
    const t5_zip_member *pickle = find_member(&zip, "data.pkl", strlen("data.pkl"));
    if (pickle == NULL) {
        status =
            T5_FAIL(err, T5_ERR_FORMAT, "%s: a zip file, but not of torch.save(): data.pkl is missing", r->file->path);
        goto out;
    }
    const t5_zip_member *byte_order = find_member(&zip, "byteorder", strlen("byteorder"));
    if (byte_order != NULL && (byte_order->n_bytes != 6 || memcmp(byte_order->data, "little", 6) != 0)) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: written on a big-endian machine", r->file->path);
        goto out;
    }
    T5_TRY(t5_pickle_read(r->file->path, pickle->data, pickle->n_bytes, &r->pickle, err));
    T5_TRY(alloc_storages(r, err));
    T5_TRY(find_storages(r, &zip, err));
    status = add_tensors(r, err);
out:
    t5_zip_deinit(&zip);
    return status;
}

/* A storage by key; several tensors that share one each bring an entry. */
typedef struct {
    const t5_pickle_storage *storage;
    const unsigned char **bytes;
} keyed_storage;

static int compare_keys(const void *a, const void *b)
{
    const t5_pickle_storage *x = ((const keyed_storage *)a)->storage, *y = ((const keyed_storage *)b)->storage;
    int order = memcmp(x->key, y->key, x->n_key < y->n_key ? x->n_key : y->n_key);
    return order != 0 ? order : (x->n_key > y->n_key) - (x->n_key < y->n_key);
}

/* The first of the n sorted entries with the key, or n. */
static size_t find_key(const keyed_storage *sorted, size_t n, const keyed_storage *key)
{
    size_t first = 0, end = n;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (compare_keys(&sorted[middle], key) < 0) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first < n && compare_keys(&sorted[first], key) == 0 ? first : n;
}

/* Reads the storage at byte *inout_at, whose key is `item`, and gives its place to every entry with that key. */
static t5_status place_storage(const reader *r, const keyed_storage *sorted, const t5_pickle_item *item,
                               size_t *inout_at, t5_error *err)
{
    const t5_pickle_storage wanted = {.key = item->name, .n_key = item->n_name};
    const keyed_storage key = {.storage = &wanted};
    size_t n = r->pickle.n_storages, i = find_key(sorted, n, &key), n_left = r->file->n_bytes - *inout_at;
    if (i == n || *sorted[i].bytes != NULL) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: its list of storages does not fit its tensors", r->file->path);
    }
    const t5_storage_type *type = sorted[i].storage->type;
    const unsigned char *p = r->file->data + *inout_at;
    int64_t n_elements = 0, n_bytes = 0;
    if (n_left >= sizeof n_elements) memcpy(&n_elements, p, sizeof n_elements);
    if (n_left < sizeof n_elements || n_elements < 0 || !t5_mul_i64(n_elements, type->n_bytes, &n_bytes) ||
        (uint64_t)n_bytes > n_left - sizeof n_elements) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: cut short: a storage of %s reaches beyond its end", r->file->path,
                       type->name);
    }
    for (; i < n && compare_keys(&sorted[i], &key) == 0; i++) {
        if (sorted[i].storage->type != type || sorted[i].storage->n_elements != n_elements) {
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: a storage of %lld elements is declared with %lld", r->file->path,
                           (long long)n_elements, (long long)sorted[i].storage->n_elements);
        }
        *sorted[i].bytes = p + sizeof n_elements;
    }
    *inout_at += sizeof n_elements + (size_t)n_bytes;
    return T5_OK;
}

static t5_status place_storages(reader *r, const t5_pickle *keys, size_t at, t5_error *err)
{
    size_t n = r->pickle.n_storages;
    t5_status status = T5_OK;
    keyed_storage *sorted = malloc((n + 1) * sizeof *sorted);
    if (sorted == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: list of %zu storages", r->file->path, n);
    for (size_t i = 0; i < n; i++)
        sorted[i] = (keyed_storage){&r->pickle.storages[i], &r->storage_bytes[i]};
    qsort(sorted, n, sizeof *sorted, compare_keys);
    for (size_t i = 0; i < keys->n_items; i++)
        T5_TRY(place_storage(r, sorted, &keys->items[i], &at, err));
    for (size_t i = 0; i < n; i++) {
        if (r->storage_bytes[i] != NULL) continue;
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: a tensor's storage is missing", r->file->path);
        goto out;
    }
    if (at != r->file->n_bytes) {
        status =
            T5_FAIL(err, T5_ERR_FORMAT, "%s: %zu bytes follow its last storage", r->file->path, r->file->n_bytes - at);
    }
out:
    free(sorted);
    return status;
}

/* Reads the pickle at byte *inout_at and moves on to the next. */
static t5_status read_next_pickle(const reader *r, size_t *inout_at, t5_pickle *out, t5_error *err)
{
    t5_status status = t5_pickle_read(r->file->path, r->file->data + *inout_at, r->file->n_bytes - *inout_at, out, err);
    *inout_at += out->n_bytes;
    return status;
}

/* The pickle of the number 0x1950a86a20f9469cfc6c. */
static const unsigned char stream_magic[] = {0x80, 0x02, 0x8a, 0x0a, 'l', 0xfc, 0x9c, 'F',
                                             0xf9, 0x20, 'j',  0xa8, 'P', 0x19, '.'};

static t5_status read_stream(reader *r, t5_error *err)
{
    t5_pickle unused = {0}, keys = {0};
    size_t at = sizeof stream_magic;
    t5_status status = T5_OK;
    T5_TRY(read_next_pickle(r, &at, &unused, err)); /* protocol number */
    t5_pickle_deinit(&unused);
    T5_TRY(read_next_pickle(r, &at, &unused, err)); /* description of the machine */
    T5_TRY(read_next_pickle(r, &at, &r->pickle, err));
    T5_TRY(read_next_pickle(r, &at, &keys, err));
    T5_TRY(alloc_storages(r, err));
    T5_TRY(place_storages(r, &keys, at, err));
    status = add_tensors(r, err);
out:
    t5_pickle_deinit(&unused);
    t5_pickle_deinit(&keys);
    return status;
}

t5_status t5_torch_file_read(const t5_mapped_file *file, int32_t i_file, t5_tensor_list *list, t5_error *err)
{
    reader r = {.file = file, .i_file = i_file, .list = list};
    t5_status status = T5_OK;
    if (file->n_bytes >= 4 && memcmp(file->data, "PK\3\4", 4) == 0) {
        status = read_zip(&r, err);
    } else if (file->n_bytes > sizeof stream_magic && memcmp(file->data, stream_magic, sizeof stream_magic) == 0) {
        status = read_stream(&r, err);
    } else {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: not a file of torch.save()", file->path);
    }
    t5_pickle_deinit(&r.pickle);
    free(r.storage_bytes);
    return status;
}
