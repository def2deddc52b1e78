/* model/pickle_machine.c: see pickle_machine.h: the stack, the growing arrays and the bytes of the pickle. Every step
 * checks what is there before it takes it. */
#include "model/pickle_machine.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

t5_status t5_pickle_fail(t5_pickle_machine *m, const char *file, int line, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return t5_error_set(m->err, T5_ERR_FORMAT, file, line, "%s: bad pickle at byte %zu: %s", m->path, m->i_op, text);
}

t5_status t5_pickle_reserve(t5_pickle_machine *m, void *pointer, size_t n_needed, size_t *n_allocated,
                            size_t element_bytes)
{
    if (n_needed <= *n_allocated) return T5_OK;
    size_t n_new = n_needed < 64 ? 64 : 2 * n_needed; /* n_needed is bounded by the pickle's length */
    void *array;
    memcpy(&array, pointer, sizeof array);
    array = realloc(array, n_new * element_bytes);
    if (array == NULL) return T5_FAIL(m->err, T5_ERR_NOMEM, "%s: %zu bytes", m->path, n_new * element_bytes);
    memcpy(pointer, &array, sizeof array);
    *n_allocated = n_new;
    return T5_OK;
}

t5_status t5_pickle_push(t5_pickle_machine *m, t5_pickle_value value)
{
    t5_status status = T5_PICKLE_RESERVE(m, stack, 1);
    if (status == T5_OK) m->stack.at[m->stack.n++] = value;
    return status;
}

t5_status t5_pickle_pop_any(t5_pickle_machine *m, t5_pickle_value *out)
{
    if (m->stack.n == 0 || m->stack.at[m->stack.n - 1].kind == T5_PICKLE_MARK) {
        return T5_PICKLE_FAIL(m, "a value is missing");
    }
    *out = m->stack.at[--m->stack.n];
    return T5_OK;
}

t5_status t5_pickle_pop(t5_pickle_machine *m, t5_pickle_kind kind, t5_pickle_value *out)
{
    t5_status status = t5_pickle_pop_any(m, out);
    if (status != T5_OK) return status;
    return out->kind == kind ? T5_OK : T5_PICKLE_FAIL(m, "a value of another kind was expected");
}

t5_status t5_pickle_find_mark(t5_pickle_machine *m, size_t *out)
{
    for (size_t i = m->stack.n; i > 0; i--) {
        if (m->stack.at[i - 1].kind != T5_PICKLE_MARK) continue;
        *out = i;
        return T5_OK;
    }
    return T5_PICKLE_FAIL(m, "a mark is missing");
}

t5_status t5_pickle_take(t5_pickle_machine *m, size_t n_bytes, const unsigned char **out)
{
    if (n_bytes > m->n_bytes - m->i_byte) {
        bool is_capped = m->n_bytes == T5_PICKLE_BYTES_MAX;
        return T5_PICKLE_FAIL(m, "%s", is_capped ? "it is longer than a list of tensors can be" : "it is cut short");
    }
    *out = m->code + m->i_byte;
    m->i_byte += n_bytes;
    return T5_OK;
}

t5_status t5_pickle_take_number(t5_pickle_machine *m, size_t n_bytes, bool is_signed, int64_t *out)
{
    T5_ASSERT(n_bytes <= 8);
    const unsigned char *p = NULL;
    t5_status status = t5_pickle_take(m, n_bytes, &p);
    if (status != T5_OK) return status;
    uint64_t bits = is_signed && n_bytes > 0 && p[n_bytes - 1] >= 0x80 ? ~(uint64_t)0 : 0;
    for (size_t i = n_bytes; i > 0; i--)
        bits = bits << 8 | p[i - 1];
    *out = (int64_t)bits;
    return T5_OK;
}

t5_status t5_pickle_take_line(t5_pickle_machine *m, char *out, size_t out_bytes)
{
    const unsigned char *start = m->code + m->i_byte;
    const unsigned char *end = memchr(start, '\n', m->n_bytes - m->i_byte);
    if (end == NULL || (size_t)(end - start) >= out_bytes) return T5_PICKLE_FAIL(m, "the name of a class is broken");
    memcpy(out, start, (size_t)(end - start));
    out[end - start] = '\0';
    m->i_byte += (size_t)(end - start) + 1;
    return T5_OK;
}
