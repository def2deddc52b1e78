/* model/pickle_classes.c: the classes that may occur in a state_dict, and what becomes of them. A class that is not in
 * the table is refused by name; nothing is looked up and nothing is called. */
#include "model/pickle_machine.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

static const t5_storage_type float32 = {"float32", 4, true, T5_F32};
static const t5_storage_type float16 = {"float16", 2, true, T5_F16};
static const t5_storage_type bfloat16 = {"bfloat16", 2, true, T5_BF16};
static const t5_storage_type float64 = {.name = "float64", .n_bytes = 8};
static const t5_storage_type int64 = {.name = "int64", .n_bytes = 8};
static const t5_storage_type int32 = {.name = "int32", .n_bytes = 4};
static const t5_storage_type int16 = {.name = "int16", .n_bytes = 2};
static const t5_storage_type int8 = {.name = "int8", .n_bytes = 1};
static const t5_storage_type uint8 = {.name = "uint8", .n_bytes = 1};
static const t5_storage_type bool8 = {.name = "bool", .n_bytes = 1};

static const t5_pickle_class classes[] = {
    {"collections", "OrderedDict", T5_PICKLE_ORDERED_DICT, NULL},
    {"torch._utils", "_rebuild_tensor_v2", T5_PICKLE_REBUILD_TENSOR, NULL},
    {"torch._utils", "_rebuild_parameter", T5_PICKLE_REBUILD_PARAMETER, NULL},
    {.module = "torch", .name = "FloatStorage", .storage = &float32},
    {.module = "torch", .name = "HalfStorage", .storage = &float16},
    {.module = "torch", .name = "BFloat16Storage", .storage = &bfloat16},
    {.module = "torch", .name = "DoubleStorage", .storage = &float64},
    {.module = "torch", .name = "LongStorage", .storage = &int64},
    {.module = "torch", .name = "IntStorage", .storage = &int32},
    {.module = "torch", .name = "ShortStorage", .storage = &int16},
    {.module = "torch", .name = "CharStorage", .storage = &int8},
    {.module = "torch", .name = "ByteStorage", .storage = &uint8},
    {.module = "torch", .name = "BoolStorage", .storage = &bool8},
};

t5_status t5_pickle_find_class(t5_pickle_machine *m, const char *module, const char *name)
{
    for (size_t i = 0; i < T5_COUNT(classes); i++) {
        if (strcmp(classes[i].module, module) != 0 || strcmp(classes[i].name, name) != 0) continue;
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_CLASS, .as.class = &classes[i]});
    }
    char both[160], quoted[200];
    snprintf(both, sizeof both, "%.70s.%.70s", module, name);
    return T5_PICKLE_FAIL(m, "it asks for %s; only tensors are read, and nothing is executed",
                          t5_log_quote(quoted, sizeof quoted, both));
}

static const t5_pickle_value *part_of(const t5_pickle_machine *m, const t5_pickle_value *tuple, int32_t i)
{
    return &m->parts.at[tuple->as.index + (size_t)i];
}

static bool has_kinds(const t5_pickle_machine *m, const t5_pickle_value *tuple, const t5_pickle_kind *kinds, int32_t n)
{
    if (tuple->n < n) return false;
    for (int32_t i = 0; i < n; i++) {
        if (part_of(m, tuple, i)->kind != kinds[i]) return false;
    }
    return true;
}

/* ("storage", type, key, device, number of elements [, None: the view of a storage, before PyTorch 0.4]) */
t5_status t5_pickle_persistent_id(t5_pickle_machine *m)
{
    static const t5_pickle_kind kinds[] = {T5_PICKLE_TEXT, T5_PICKLE_CLASS, T5_PICKLE_TEXT, T5_PICKLE_TEXT,
                                           T5_PICKLE_INT};
    t5_pickle_value id;
    t5_status status = T5_OK;
    T5_TRY(t5_pickle_pop(m, T5_PICKLE_TUPLE, &id));
    bool is_known = has_kinds(m, &id, kinds, T5_COUNT(kinds)) && id.n <= 6 &&
                    (id.n == 5 || part_of(m, &id, 5)->kind == T5_PICKLE_NONE);
    if (!is_known || part_of(m, &id, 0)->n != 7 || memcmp(part_of(m, &id, 0)->as.text, "storage", 7) != 0 ||
        part_of(m, &id, 1)->as.class->storage == NULL || part_of(m, &id, 4)->as.number < 0) {
        return T5_PICKLE_FAIL(m, "a persistent id that is not a tensor's storage");
    }
    T5_TRY(T5_PICKLE_RESERVE(m, storages, 1));
    const t5_pickle_value *key = part_of(m, &id, 2);
    m->storages.at[m->storages.n] = (t5_pickle_storage){.type = part_of(m, &id, 1)->as.class->storage,
                                                        .key = key->as.text,
                                                        .n_key = (size_t)key->n,
                                                        .n_elements = part_of(m, &id, 4)->as.number};
    status = t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_STORAGE, .as.index = m->storages.n++});
out:
    return status;
}

static t5_status read_numbers(t5_pickle_machine *m, const t5_pickle_value *tuple, const char *what, int64_t *out)
{
    for (int32_t i = 0; i < tuple->n; i++) {
        const t5_pickle_value *part = part_of(m, tuple, i);
        if (part->kind != T5_PICKLE_INT || part->as.number < 0) return T5_PICKLE_FAIL(m, "a tensor's %s is bad", what);
        out[i] = part->as.number;
    }
    return T5_OK;
}

/* _rebuild_tensor_v2(storage, offset, dims, strides, requires_grad, hooks [, metadata]) */
static t5_status rebuild_tensor(t5_pickle_machine *m, const t5_pickle_value *args)
{
    static const t5_pickle_kind kinds[] = {T5_PICKLE_STORAGE, T5_PICKLE_INT,  T5_PICKLE_TUPLE,
                                           T5_PICKLE_TUPLE,   T5_PICKLE_BOOL, T5_PICKLE_DICT};
    if (!has_kinds(m, args, kinds, T5_COUNT(kinds)) || args->n > 7) {
        return T5_PICKLE_FAIL(m, "a tensor with unexpected arguments");
    }
    const t5_pickle_value *offset = part_of(m, args, 1), *dims = part_of(m, args, 2), *strides = part_of(m, args, 3);
    if (offset->as.number < 0) return T5_PICKLE_FAIL(m, "a tensor's offset is bad");
    if (dims->n > T5_TENSOR_DIMS_MAX || dims->n != strides->n) {
        return T5_PICKLE_FAIL(m, "a tensor with %d dimensions and %d strides", dims->n, strides->n);
    }
    t5_status status = T5_OK;
    T5_TRY(T5_PICKLE_RESERVE(m, tensors, 1));
    t5_pickle_tensor *tensor = &m->tensors.at[m->tensors.n];
    *tensor = (t5_pickle_tensor){.n_dims = dims->n, .offset = offset->as.number};
    tensor->i_storage = (int32_t)part_of(m, args, 0)->as.index;
    T5_TRY(read_numbers(m, dims, "shape", tensor->dims));
    T5_TRY(read_numbers(m, strides, "stride", tensor->strides));
    status = t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_TENSOR, .as.index = m->tensors.n++});
out:
    return status;
}

/* _rebuild_parameter(tensor, requires_grad, hooks): the tensor. */
static t5_status rebuild_parameter(t5_pickle_machine *m, const t5_pickle_value *args)
{
    static const t5_pickle_kind kinds[] = {T5_PICKLE_TENSOR, T5_PICKLE_BOOL, T5_PICKLE_DICT};
    if (args->n != 3 || !has_kinds(m, args, kinds, T5_COUNT(kinds))) {
        return T5_PICKLE_FAIL(m, "a parameter with unexpected arguments");
    }
    return t5_pickle_push(m, *part_of(m, args, 0));
}

t5_status t5_pickle_reduce(t5_pickle_machine *m)
{
    t5_pickle_value args, class;
    t5_status status = T5_OK;
    T5_TRY(t5_pickle_pop(m, T5_PICKLE_TUPLE, &args));
    T5_TRY(t5_pickle_pop(m, T5_PICKLE_CLASS, &class));
    if (class.as.class->storage != NULL) return T5_PICKLE_FAIL(m, "it calls a type of storage");
    switch (class.as.class->builder) {
    case T5_PICKLE_ORDERED_DICT:
        if (args.n != 0) return T5_PICKLE_FAIL(m, "an OrderedDict with arguments");
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_DICT, .as.index = m->n_containers++});
    case T5_PICKLE_REBUILD_TENSOR:
        return rebuild_tensor(m, &args);
    case T5_PICKLE_REBUILD_PARAMETER:
        return rebuild_parameter(m, &args);
    }
out:
    return status;
}
