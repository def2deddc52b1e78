/* translate/stops.c: see stops.h. */
#include "translate/stops.h"

#include <string.h>

size_t t5_stops_find(const t5_stops *s, const char *text, size_t n_bytes)
{
    size_t first = n_bytes;
    for (int32_t i = 0; i < s->n; i++) {
        const char *found = n_bytes > 0 ? memmem(text, n_bytes, s->texts[i], strlen(s->texts[i])) : NULL;
        if (found != NULL && (size_t)(found - text) < first) first = (size_t)(found - text);
    }
    return first;
}

/* Bytes at the end of the text that some stop begins with. */
static size_t count_begun(const t5_stops *s, const char *text, size_t n_bytes)
{
    size_t longest = 0;
    for (int32_t i = 0; i < s->n; i++) {
        const size_t n_stop = strlen(s->texts[i]);
        size_t n = n_stop - 1 < n_bytes ? n_stop - 1 : n_bytes;
        while (n > longest && memcmp(text + n_bytes - n, s->texts[i], n) != 0)
            n--;
        if (n > longest) longest = n;
    }
    return longest;
}

t5_status t5_stops_tell(const t5_stops *s, t5_told_text *t, const char *piece, size_t n_bytes, size_t *out_bytes,
                        t5_error *err)
{
    *out_bytes = 0;
    if (t->is_stopped) return T5_OK;
    const t5_status status = t5_buffer_append(&t->held, piece, n_bytes, err);
    if (status != T5_OK) return status;
    const size_t n_held = t->held.n_bytes;
    const size_t found = t5_stops_find(s, t->held.bytes, n_held),
                 begun = n_held - count_begun(s, t->held.bytes, n_held);
    *out_bytes = found < begun ? found : begun;
    t->is_stopped = found < n_held && found <= begun; /* nothing that comes can end it earlier */
    return T5_OK;
}

void t5_told_text_drop(t5_told_text *t, size_t n_bytes)
{
    t5_buffer_drop(&t->held, n_bytes);
    t->n_told += n_bytes;
}
