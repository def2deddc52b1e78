/* text/markup_push.c: see markup_push.h. */
#include "text/markup_push.h"
#include "base/assert.h"

#include <stdlib.h>

t5_status t5_markup_push_mark(t5_markup *m, int32_t *capacity, t5_mark mark, t5_error *err)
{
    if (m->n_marks == T5_MARKUP_TAGS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "the text has more than %d tags", T5_MARKUP_TAGS_MAX);
    if (m->n_marks == *capacity) {
        const int32_t n = 2 * *capacity + 32;
        t5_mark *marks = realloc(m->marks, (size_t)n * sizeof *marks);
        if (marks == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d tags", n);
        m->marks = marks;
        *capacity = n;
    }
    mark.at = m->plain_bytes;
    m->marks[m->n_marks++] = mark;
    return T5_OK;
}

void t5_markup_drop_space(t5_markup *m)
{
    T5_ASSERT(m->plain_bytes > 0 && m->plain[m->plain_bytes - 1] == ' ');
    m->plain_bytes--;
    for (int32_t i = m->n_marks - 1; i >= 0 && m->marks[i].at > m->plain_bytes; i--)
        m->marks[i].at = m->plain_bytes;
}
