/* model/pickle_machine.h: the state of the pickle reader, shared by pickle.c (opcodes), pickle_classes.c (what classes
 * build) and pickle_machine.c (the stack and the bytes). Nobody else includes it. */
#pragma once
#include "model/pickle.h"

#define T5_PICKLE_BYTES_MAX (4 << 20) /* a model of 1000 tensors has 100 kB */

typedef enum {
    T5_PICKLE_MARK, /* a position on the stack, not a value */
    T5_PICKLE_NONE,
    T5_PICKLE_BOOL,
    T5_PICKLE_INT,
    T5_PICKLE_FLOAT, /* its value is never needed */
    T5_PICKLE_TEXT,
    T5_PICKLE_TUPLE,
    T5_PICKLE_DICT,
    T5_PICKLE_LIST,
    T5_PICKLE_CLASS,
    T5_PICKLE_STORAGE,
    T5_PICKLE_TENSOR,
} t5_pickle_kind;

typedef enum { T5_PICKLE_ORDERED_DICT, T5_PICKLE_REBUILD_TENSOR, T5_PICKLE_REBUILD_PARAMETER } t5_pickle_builder;

typedef struct {
    const char *module, *name;
    t5_pickle_builder builder;
    const t5_storage_type *storage; /* not NULL: the class is a type of storage, and has no builder */
} t5_pickle_class;

/* A value is small and is copied; what does not fit is in one of the machine's arrays. */
typedef struct {
    t5_pickle_kind kind;
    int32_t n; /* TEXT: bytes; TUPLE: parts */
    union {
        int64_t number; /* INT, BOOL */
        const char *text;
        size_t index; /* TUPLE: first part; DICT and LIST: its identity; STORAGE, TENSOR: index */
        const t5_pickle_class *class;
    } as;
} t5_pickle_value;

typedef struct {
    size_t container; /* identity of the DICT or LIST */
    t5_pickle_item item;
} t5_pickle_member;

/* A growing array. */
#define T5_PICKLE_ARRAY(type) \
    struct { \
        type *at; \
        size_t n, n_allocated; \
    }

typedef struct {
    const char *path;
    const unsigned char *code;
    size_t n_bytes, i_byte, i_op; /* i_op: where the current opcode stands, for error texts */
    size_t n_containers;
    T5_PICKLE_ARRAY(t5_pickle_value) stack;
    T5_PICKLE_ARRAY(t5_pickle_value) memo;
    T5_PICKLE_ARRAY(t5_pickle_value) parts; /* of tuples */
    T5_PICKLE_ARRAY(t5_pickle_member) members;
    T5_PICKLE_ARRAY(t5_pickle_storage) storages;
    T5_PICKLE_ARRAY(t5_pickle_tensor) tensors;
    t5_error *err;
} t5_pickle_machine;

/* Records "path: broken pickle at byte N: text". */
#define T5_PICKLE_FAIL(m, ...) t5_pickle_fail((m), __FILE__, __LINE__, __VA_ARGS__)
t5_status t5_pickle_fail(t5_pickle_machine *m, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Makes room for n_more elements in one of the machine's arrays. */
#define T5_PICKLE_RESERVE(m, array, n_more) \
    t5_pickle_reserve((m), &(m)->array.at, (m)->array.n + (n_more), &(m)->array.n_allocated, sizeof *(m)->array.at)
/* `pointer` is the address of the pointer to the array's first element, whatever its type. */
t5_status t5_pickle_reserve(t5_pickle_machine *m, void *pointer, size_t n_needed, size_t *n_allocated,
                            size_t element_bytes);

t5_status t5_pickle_push(t5_pickle_machine *m, t5_pickle_value value);
/* The value on top, which must be of `kind` (never MARK). */
t5_status t5_pickle_pop(t5_pickle_machine *m, t5_pickle_kind kind, t5_pickle_value *out);
/* The value on top, of any kind but MARK. */
t5_status t5_pickle_pop_any(t5_pickle_machine *m, t5_pickle_value *out);
/* Index of the first value after the topmost mark. */
t5_status t5_pickle_find_mark(t5_pickle_machine *m, size_t *out);

/* The next n_bytes of the pickle. */
t5_status t5_pickle_take(t5_pickle_machine *m, size_t n_bytes, const unsigned char **out);
/* A little-endian number of up to 8 bytes, in two's complement when is_signed. */
t5_status t5_pickle_take_number(t5_pickle_machine *m, size_t n_bytes, bool is_signed, int64_t *out);
/* Copies a line, without its end, into `out`. */
t5_status t5_pickle_take_line(t5_pickle_machine *m, char *out, size_t out_bytes);

/* The classes, pickle_classes.c. */
t5_status t5_pickle_find_class(t5_pickle_machine *m, const char *module, const char *name);
t5_status t5_pickle_persistent_id(t5_pickle_machine *m);
t5_status t5_pickle_reduce(t5_pickle_machine *m);
