/* model/pickle.h: reads the pickle of a PyTorch state_dict: a dictionary of tensors. Any thread.
 *
 * A pickle is a program that may call any Python function. This reader knows the 30 opcodes of protocol 2 that a
 * dictionary of tensors needs and the handful of classes that occur in one; it calls nothing, and refuses the rest.
 * Work and memory are proportional to the pickle's length, which is bounded. */
#pragma once
#include "model/tensor_list.h"

T5_C_BEGIN

/* A class such as torch.FloatStorage. */
typedef struct {
    const char *name; /* "float32": for error texts */
    int32_t n_bytes;  /* of an element */
    bool is_float;    /* `dtype` holds */
    t5_dtype dtype;
} t5_storage_type;

/* Bytes of the file that tensors share. */
typedef struct {
    const t5_storage_type *type;
    const char *key; /* n_key bytes; names the member that holds it */
    size_t n_key;
    int64_t n_elements;
} t5_pickle_storage;

/* A view of a storage. All numbers are as the file says: unchecked, except that they are not negative. */
typedef struct {
    int32_t i_storage, n_dims;
    int64_t offset; /* in elements */
    int64_t dims[T5_TENSOR_DIMS_MAX], strides[T5_TENSOR_DIMS_MAX];
} t5_pickle_tensor;

/* A member of the outermost dictionary. In a list of texts: a text, and i_tensor -1. */
typedef struct {
    const char *name; /* n_name bytes */
    size_t n_name;
    int32_t i_tensor;
} t5_pickle_item;

typedef struct {
    t5_pickle_storage *storages;
    t5_pickle_tensor *tensors;
    t5_pickle_item *items; /* in the order of the file; members of other types are left out */
    size_t n_storages, n_tensors, n_items;
    size_t n_bytes; /* length of the pickle */
} t5_pickle;

/* Reads the pickle at `data`, of which at most n_bytes belong to it. Texts borrow from it. Errors name `path` and the
 * place in the pickle. Release with t5_pickle_deinit(). */
t5_status t5_pickle_read(const char *path, const unsigned char *data, size_t n_bytes, t5_pickle *out, t5_error *err);
void t5_pickle_deinit(t5_pickle *pickle);

T5_C_END
