/* model/tensor_list.h: the tensors that the files of a model folder hold, by name. Filled by one reader per file format
 * (safetensors.c, torch_file.c), then sorted and searched. Written by one thread; afterwards any thread may read.
 *
 * A file may hold tensors that we cannot use: position ids as int64, a scalar. They are listed with a text that says
 * why, and become an error only when the model asks for one. */
#pragma once
#include "model/tensor.h"

T5_C_BEGIN

#define T5_TENSOR_DIMS_MAX 8   /* dimensions of a tensor in a file; T5 has 1 or 2 */
#define T5_TENSORS_MAX 1000000 /* tensors of all files of a folder */

/* A mapped file. */
typedef struct {
    const char *path;
    const unsigned char *data;
    size_t n_bytes;
} t5_mapped_file;

typedef struct {
    char *name;
    char *problem; /* why the tensor cannot be used, or NULL */
    t5_tensor tensor;
    int32_t i_file;  /* which of the folder's files holds it */
    bool is_scale;   /* belongs to a quantised tensor */
    bool is_indexed; /* the folder's index names it for this file */
} t5_tensor_entry;

typedef struct {
    t5_tensor_entry *entries;
    int32_t n_entries, n_allocated;
} t5_tensor_list;

/* A tensor as a file declares it. `dtype` is meaningful when dtype_name is one that we read. */
typedef struct {
    const char *name; /* n_name bytes, not NUL-terminated */
    size_t n_name;
    bool is_read;           /* `dtype` holds */
    t5_dtype dtype;         /* of the elements; T5_I8 and T5_I4 need scales beside them (weights.c) */
    const char *dtype_name; /* as the file calls it */
    int32_t n_dims;
    int64_t dims[T5_TENSOR_DIMS_MAX]; /* not negative; the product fits the file */
    const char *layout_problem;       /* such as "is not contiguous", or NULL */
    const void *data;
} t5_tensor_decl;

/* Appends a copy of the declaration; tensors that we cannot use get a problem text. */
t5_status t5_tensor_list_add(t5_tensor_list *list, int32_t i_file, const t5_tensor_decl *decl, t5_error *err);
/* Sorts by name, then by file. */
void t5_tensor_list_sort(t5_tensor_list *list);
/* The entry called `name` in file i_file, or in any file when i_file is negative. NULL when there is none. */
t5_tensor_entry *t5_tensor_list_find(const t5_tensor_list *list, const char *name, int32_t i_file);
/* From now on the entry cannot be used because of `problem`, which is copied. False: no memory. */
bool t5_tensor_entry_set_problem(t5_tensor_entry *entry, const char *problem);
/* Drops the entries that are not is_indexed. */
void t5_tensor_list_keep_indexed(t5_tensor_list *list);
void t5_tensor_list_deinit(t5_tensor_list *list);

/* out = a * b; false when that exceeds INT64_MAX. Both are not negative. */
bool t5_mul_i64(int64_t a, int64_t b, int64_t *out);

T5_C_END
