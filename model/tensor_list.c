/* model/tensor_list.c: see tensor_list.h. Sorted entries and binary search: a few hundred names, looked up at load. */
#include "model/tensor_list.h"

#include "base/assert.h"
#include "model/panels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool t5_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static char *copy_text(const char *text, size_t n_bytes)
{
    char *copy = malloc(n_bytes + 1);
    if (copy == NULL) return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    return copy;
}

static bool grow(t5_tensor_list *list)
{
    if (list->n_entries < list->n_allocated) return true;
    int32_t n_allocated = list->n_allocated == 0 ? 256 : 2 * list->n_allocated;
    t5_tensor_entry *entries = realloc(list->entries, (size_t)n_allocated * sizeof *entries);
    if (entries == NULL) return false;
    list->entries = entries;
    list->n_allocated = n_allocated;
    return true;
}

/* Three dimensions: panels, what is next to each other in the columns of one, and the bytes of that (panels.h). */
static bool as_panels(const t5_tensor_decl *decl, t5_tensor *out)
{
    const bool is_int8 = decl->dtype == T5_I8;
    const int64_t column_bytes = is_int8 ? T5_QUAD : (int64_t)T5_INT4_GROUP_BYTES(1);
    const int64_t width = decl->dims[2] / column_bytes;
    int64_t n_rows = 0, n_cols = 0;
    if (decl->dims[2] % column_bytes != 0 || (width != 16 && width != 32 && width != 64)) return false;
    if (!t5_mul_i64(decl->dims[0], width, &n_rows) ||
        !t5_mul_i64(decl->dims[1], is_int8 ? T5_QUAD : T5_INT4_GROUP, &n_cols))
        return false;
    if (n_rows < 1 || n_rows > INT32_MAX || n_cols < 1 || n_cols > INT32_MAX) return false;
    *out = (t5_tensor){.data = decl->data,
                       .dtype = decl->dtype,
                       .n_rows = (int32_t)n_rows,
                       .n_cols = (int32_t)n_cols,
                       .panel = (int32_t)width};
    return true;
}

/* Writes why the tensor is of no use to us, if it is. */
static bool has_problem(const t5_tensor_decl *decl, char *out, size_t out_bytes)
{
    if (decl->layout_problem != NULL) {
        snprintf(out, out_bytes, "%s", decl->layout_problem);
    } else if (!decl->is_read) {
        snprintf(out, out_bytes, "has dtype %s; float32, float16 and bfloat16 are read", decl->dtype_name);
    } else if (decl->n_dims == 3 && decl->is_read && t5_dtype_is_quantized(decl->dtype)) {
        t5_tensor unused;
        if (as_panels(decl, &unused)) return false;
        snprintf(out, out_bytes, "has three dimensions that are no panels of 16, 32 or 64 columns");
    } else if (decl->n_dims < 1 || decl->n_dims > 2) {
        snprintf(out, out_bytes, "has %d dimensions; 1 or 2 are read", decl->n_dims);
    } else {
        const int64_t dim_max = decl->dtype == T5_I4 ? INT32_MAX / 2 : INT32_MAX; /* two elements in a byte */
        for (int32_t i = 0; i < decl->n_dims; i++) {
            if (decl->dims[i] >= 1 && decl->dims[i] <= dim_max) continue;
            snprintf(out, out_bytes, "has %lld as dimension %d; 1 to %lld is read", (long long)decl->dims[i], i,
                     (long long)dim_max);
            return true;
        }
        return false;
    }
    return true;
}

t5_status t5_tensor_list_add(t5_tensor_list *list, int32_t i_file, const t5_tensor_decl *decl, t5_error *err)
{
    T5_ASSERT(decl->n_dims >= 0 && decl->n_dims <= T5_TENSOR_DIMS_MAX);
    if (list->n_entries >= T5_TENSORS_MAX) {
        return T5_FAIL(err, T5_ERR_FORMAT, "more than %d tensors in one folder", T5_TENSORS_MAX);
    }
    char problem[128];
    bool is_bad = has_problem(decl, problem, sizeof problem);
    char *name_copy = copy_text(decl->name, decl->n_name);
    char *problem_copy = is_bad ? copy_text(problem, strlen(problem)) : NULL;
    if (name_copy == NULL || (is_bad && problem_copy == NULL) || !grow(list)) {
        free(name_copy);
        free(problem_copy);
        return T5_FAIL(err, T5_ERR_NOMEM, "list of %d tensors", list->n_entries + 1);
    }
    t5_tensor_entry *entry = &list->entries[list->n_entries++];
    *entry = (t5_tensor_entry){.name = name_copy, .problem = problem_copy, .i_file = i_file};
    if (!is_bad && decl->n_dims == 3) {
        const bool is_fit = as_panels(decl, &entry->tensor);
        T5_ASSERT(is_fit);
    } else if (!is_bad) {
        int32_t n_rows = decl->n_dims == 2 ? (int32_t)decl->dims[0] : 1;
        int32_t n_cols = (int32_t)decl->dims[decl->n_dims - 1] * (decl->dtype == T5_I4 ? 2 : 1);
        entry->tensor = (t5_tensor){.data = decl->data, .dtype = decl->dtype, .n_rows = n_rows, .n_cols = n_cols};
    }
    return T5_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const t5_tensor_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (x->i_file > y->i_file) - (x->i_file < y->i_file);
}

void t5_tensor_list_sort(t5_tensor_list *list)
{
    if (list->n_entries > 0) qsort(list->entries, (size_t)list->n_entries, sizeof *list->entries, compare_entries);
}

t5_tensor_entry *t5_tensor_list_find(const t5_tensor_list *list, const char *name, int32_t i_file)
{
    int32_t first = 0, end = list->n_entries; /* the first entry that is not below (name, i_file) */
    while (first < end) {
        int32_t middle = first + (end - first) / 2;
        const t5_tensor_entry *entry = &list->entries[middle];
        int order = strcmp(entry->name, name);
        if (order < 0 || (order == 0 && entry->i_file < i_file)) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    if (first == list->n_entries) return NULL;
    t5_tensor_entry *entry = &list->entries[first];
    if (strcmp(entry->name, name) != 0) return NULL;
    return i_file < 0 || entry->i_file == i_file ? entry : NULL;
}

static void free_entry(t5_tensor_entry *entry)
{
    free(entry->name);
    free(entry->problem);
}

bool t5_tensor_entry_set_problem(t5_tensor_entry *entry, const char *problem)
{
    char *copy = copy_text(problem, strlen(problem));
    if (copy == NULL) return false;
    free(entry->problem);
    entry->problem = copy;
    return true;
}

void t5_tensor_list_keep_indexed(t5_tensor_list *list)
{
    int32_t n_kept = 0;
    for (int32_t i = 0; i < list->n_entries; i++) {
        if (list->entries[i].is_indexed) {
            list->entries[n_kept++] = list->entries[i];
        } else {
            free_entry(&list->entries[i]);
        }
    }
    list->n_entries = n_kept;
}

void t5_tensor_list_deinit(t5_tensor_list *list)
{
    for (int32_t i = 0; i < list->n_entries; i++)
        free_entry(&list->entries[i]);
    free(list->entries);
    *list = (t5_tensor_list){0};
}
