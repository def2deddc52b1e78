/* model/pickle.c: see pickle.h. A stack machine over the opcodes of Python's pickle protocol 2 (Lib/pickletools.py
 * describes them). A value that the model does not need, such as the module versions that PyTorch attaches to a
 * state_dict, is parsed and dropped. */
#include "model/pickle_machine.h"

#include <stdlib.h>

enum {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINUNICODE = 'X',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_EMPTY_LIST = ']',
    OP_EMPTY_TUPLE = ')',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
};

static t5_status push_int(t5_pickle_machine *m, size_t n_bytes, bool is_signed)
{
    t5_pickle_value value = {.kind = T5_PICKLE_INT};
    t5_status status = t5_pickle_take_number(m, n_bytes, is_signed, &value.as.number);
    return status == T5_OK ? t5_pickle_push(m, value) : status;
}

static t5_status push_long(t5_pickle_machine *m)
{
    int64_t n_bytes = 0;
    t5_status status = t5_pickle_take_number(m, 1, false, &n_bytes);
    if (status != T5_OK) return status;
    if (n_bytes > 8) return T5_PICKLE_FAIL(m, "a number of %d bytes", (int)n_bytes);
    return push_int(m, (size_t)n_bytes, true);
}

static t5_status push_text(t5_pickle_machine *m)
{
    int64_t n_bytes = 0;
    const unsigned char *text = NULL;
    t5_status status = T5_OK;
    T5_TRY(t5_pickle_take_number(m, 4, false, &n_bytes));
    T5_TRY(t5_pickle_take(m, (size_t)n_bytes, &text));
    status = t5_pickle_push(
        m, (t5_pickle_value){.kind = T5_PICKLE_TEXT, .n = (int32_t)n_bytes, .as.text = (const char *)text});
out:
    return status;
}

static t5_status push_class(t5_pickle_machine *m)
{
    char module[128], name[128];
    t5_status status = T5_OK;
    T5_TRY(t5_pickle_take_line(m, module, sizeof module));
    T5_TRY(t5_pickle_take_line(m, name, sizeof name));
    status = t5_pickle_find_class(m, module, name);
out:
    return status;
}

/* Replaces the topmost n values by a tuple of them. */
static t5_status make_tuple(t5_pickle_machine *m, size_t n)
{
    t5_status status = T5_OK;
    T5_TRY(T5_PICKLE_RESERVE(m, parts, n));
    size_t first = m->parts.n;
    m->parts.n += n;
    for (size_t i = n; i > 0; i--)
        T5_TRY(t5_pickle_pop_any(m, &m->parts.at[first + i - 1]));
    status = t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_TUPLE, .n = (int32_t)n, .as.index = first});
out:
    return status;
}

static t5_status make_tuple_to_mark(t5_pickle_machine *m)
{
    size_t first = 0;
    t5_status status = t5_pickle_find_mark(m, &first);
    if (status != T5_OK) return status;
    size_t n = m->stack.n - first;
    status = make_tuple(m, n);
    if (status != T5_OK) return status;
    m->stack.at[first - 1] = m->stack.at[first]; /* the tuple takes the mark's place */
    m->stack.n = first;
    return T5_OK;
}

/* Stores the values from `first` on, as members of the container below them (and below `n_below` marks). */
static t5_status fill(t5_pickle_machine *m, size_t first, size_t n_below, t5_pickle_kind kind)
{
    size_t step = kind == T5_PICKLE_DICT ? 2 : 1;
    if (first < n_below + 1 || m->stack.n < first || (m->stack.n - first) % step != 0 ||
        m->stack.at[first - n_below - 1].kind != kind) {
        return T5_PICKLE_FAIL(m, "a member of something that is not a %s", step == 2 ? "dictionary" : "list");
    }
    size_t container = m->stack.at[first - n_below - 1].as.index;
    for (size_t i = first; i < m->stack.n; i += step) {
        const t5_pickle_value *key = &m->stack.at[i], *value = &m->stack.at[i + step - 1];
        if (key->kind == T5_PICKLE_MARK || value->kind == T5_PICKLE_MARK) return T5_PICKLE_FAIL(m, "a stray mark");
        bool is_wanted = key->kind == T5_PICKLE_TEXT && (step == 1 || value->kind == T5_PICKLE_TENSOR);
        if (!is_wanted) continue;
        t5_status status = T5_PICKLE_RESERVE(m, members, 1);
        if (status != T5_OK) return status;
        t5_pickle_item item = {.name = key->as.text, .n_name = (size_t)key->n};
        item.i_tensor = step == 2 ? (int32_t)value->as.index : -1;
        m->members.at[m->members.n++] = (t5_pickle_member){.container = container, .item = item};
    }
    m->stack.n = first - n_below;
    return T5_OK;
}

static t5_status fill_to_mark(t5_pickle_machine *m, t5_pickle_kind kind)
{
    size_t first = 0;
    t5_status status = t5_pickle_find_mark(m, &first);
    return status == T5_OK ? fill(m, first, 1, kind) : status;
}

static t5_status fill_one(t5_pickle_machine *m, t5_pickle_kind kind)
{
    size_t n_values = kind == T5_PICKLE_DICT ? 2 : 1;
    if (m->stack.n < n_values) return T5_PICKLE_FAIL(m, "a value is missing");
    return fill(m, m->stack.n - n_values, 0, kind);
}

/* Sets attributes of an object: PyTorch hangs the modules' versions on a state_dict. They are dropped. */
static t5_status build(t5_pickle_machine *m)
{
    t5_pickle_value state, object;
    t5_status status = T5_OK;
    T5_TRY(t5_pickle_pop(m, T5_PICKLE_DICT, &state));
    T5_TRY(t5_pickle_pop(m, T5_PICKLE_DICT, &object));
    status = t5_pickle_push(m, object);
out:
    return status;
}

static t5_status put(t5_pickle_machine *m, size_t n_index_bytes)
{
    int64_t index = 0;
    t5_status status = t5_pickle_take_number(m, n_index_bytes, false, &index);
    if (status != T5_OK) return status;
    if ((uint64_t)index > m->i_byte) { /* they count up from 0, so none is beyond the bytes that were read */
        return T5_PICKLE_FAIL(m, "memo %lld is too high", (long long)index);
    }
    if (m->stack.n == 0 || m->stack.at[m->stack.n - 1].kind == T5_PICKLE_MARK) {
        return T5_PICKLE_FAIL(m, "a value is missing");
    }
    size_t i = (size_t)index;
    if (i >= m->memo.n) {
        status = T5_PICKLE_RESERVE(m, memo, i + 1 - m->memo.n);
        if (status != T5_OK) return status;
        while (m->memo.n <= i)
            m->memo.at[m->memo.n++] = (t5_pickle_value){.kind = T5_PICKLE_MARK}; /* not set */
    }
    m->memo.at[i] = m->stack.at[m->stack.n - 1];
    return T5_OK;
}

static t5_status fetch(t5_pickle_machine *m, size_t n_index_bytes)
{
    int64_t index = 0;
    t5_status status = t5_pickle_take_number(m, n_index_bytes, false, &index);
    if (status != T5_OK) return status;
    if ((uint64_t)index >= m->memo.n || m->memo.at[index].kind == T5_PICKLE_MARK) {
        return T5_PICKLE_FAIL(m, "memo %lld was never set", (long long)index);
    }
    return t5_pickle_push(m, m->memo.at[index]);
}

static t5_status check_protocol(t5_pickle_machine *m)
{
    int64_t protocol = 0;
    t5_status status = t5_pickle_take_number(m, 1, false, &protocol);
    if (status != T5_OK || protocol == 2) return status;
    return T5_PICKLE_FAIL(m, "protocol %d; torch.save() writes protocol 2 unless told otherwise", (int)protocol);
}

/* Opcodes that push a constant. */
static t5_status run_constant(t5_pickle_machine *m, int op)
{
    const unsigned char *unused = NULL;
    t5_status status = T5_OK;
    switch (op) {
    case OP_BININT:
        return push_int(m, 4, true);
    case OP_BININT1:
        return push_int(m, 1, false);
    case OP_BININT2:
        return push_int(m, 2, false);
    case OP_LONG1:
        return push_long(m);
    case OP_BINFLOAT:
        T5_TRY(t5_pickle_take(m, 8, &unused));
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_FLOAT});
    case OP_BINUNICODE:
        return push_text(m);
    case OP_NONE:
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_NONE});
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_BOOL, .as.number = op == OP_NEWTRUE});
    case OP_EMPTY_DICT:
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_DICT, .as.index = m->n_containers++});
    case OP_EMPTY_LIST:
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_LIST, .as.index = m->n_containers++});
    case OP_MARK:
        return t5_pickle_push(m, (t5_pickle_value){.kind = T5_PICKLE_MARK});
    default:
        return T5_PICKLE_FAIL(m, "opcode 0x%02x does not occur in a dictionary of tensors", (unsigned)op);
    }
out:
    return status;
}

static t5_status run_op(t5_pickle_machine *m, int op)
{
    switch (op) {
    case OP_PROTO:
        return check_protocol(m);
    case OP_GLOBAL:
        return push_class(m);
    case OP_REDUCE:
        return t5_pickle_reduce(m);
    case OP_BINPERSID:
        return t5_pickle_persistent_id(m);
    case OP_BUILD:
        return build(m);
    case OP_EMPTY_TUPLE:
        return make_tuple(m, 0);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return make_tuple(m, (size_t)(op - OP_TUPLE1 + 1));
    case OP_TUPLE:
        return make_tuple_to_mark(m);
    case OP_SETITEM:
        return fill_one(m, T5_PICKLE_DICT);
    case OP_SETITEMS:
        return fill_to_mark(m, T5_PICKLE_DICT);
    case OP_APPEND:
        return fill_one(m, T5_PICKLE_LIST);
    case OP_APPENDS:
        return fill_to_mark(m, T5_PICKLE_LIST);
    case OP_BINPUT:
        return put(m, 1);
    case OP_LONG_BINPUT:
        return put(m, 4);
    case OP_BINGET:
        return fetch(m, 1);
    case OP_LONG_BINGET:
        return fetch(m, 4);
    default:
        return run_constant(m, op);
    }
}

static t5_status run(t5_pickle_machine *m, size_t *out_container)
{
    t5_status status = T5_OK;
    for (;;) {
        const unsigned char *op = NULL;
        m->i_op = m->i_byte;
        T5_TRY(t5_pickle_take(m, 1, &op));
        if (*op == OP_STOP) break;
        T5_TRY(run_op(m, *op));
    }
    t5_pickle_value result = {0};
    T5_TRY(t5_pickle_pop_any(m, &result));
    if (result.kind == T5_PICKLE_DICT || result.kind == T5_PICKLE_LIST) {
        *out_container = result.as.index;
    } else {
        *out_container = SIZE_MAX; /* a lone value: nothing of interest in it */
    }
out:
    return status;
}

static t5_status collect_items(t5_pickle_machine *m, size_t container, t5_pickle *out)
{
    size_t n = 0;
    out->items = malloc((m->members.n + 1) * sizeof *out->items);
    if (out->items == NULL) return T5_FAIL(m->err, T5_ERR_NOMEM, "%s: list of %zu tensors", m->path, m->members.n);
    for (size_t i = 0; i < m->members.n; i++) {
        if (m->members.at[i].container == container) out->items[n++] = m->members.at[i].item;
    }
    out->n_items = n;
    return T5_OK;
}

t5_status t5_pickle_read(const char *path, const unsigned char *data, size_t n_bytes, t5_pickle *out, t5_error *err)
{
    size_t n_used = n_bytes < T5_PICKLE_BYTES_MAX ? n_bytes : T5_PICKLE_BYTES_MAX;
    t5_pickle_machine m = {.path = path, .code = data, .n_bytes = n_used, .err = err};
    size_t container = 0;
    *out = (t5_pickle){0};
    t5_status status = T5_OK;
    T5_TRY(run(&m, &container));
    T5_TRY(collect_items(&m, container, out));
    out->storages = m.storages.at;
    out->n_storages = m.storages.n;
    out->tensors = m.tensors.at;
    out->n_tensors = m.tensors.n;
    out->n_bytes = m.i_byte;
    m.storages.at = NULL; /* handed to the caller */
    m.tensors.at = NULL;
out:
    free(m.stack.at);
    free(m.memo.at);
    free(m.parts.at);
    free(m.members.at);
    free(m.storages.at);
    free(m.tensors.at);
    return status;
}

void t5_pickle_deinit(t5_pickle *pickle)
{
    free(pickle->storages);
    free(pickle->tensors);
    free(pickle->items);
    *pickle = (t5_pickle){0};
}
