/* text/markup_keep.c: t5_markup_keep() of markup.h. A second pass over plain text and marks, which writes both anew. */
#include "base/assert.h"
#include "base/utf8.h"
#include "text/markup_push.h"
#include "text/placeholders.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

#define CORE_BYTES_MAX 256 /* of a word that is kept whole */

/* Signs of ASCII that make one thing of what stands around them: "AT&T", "a_b". Not those between two words: "and/or".
 */
static const char joining[] = "&<>{}[]\\^~`|@#_=+*$%";

typedef struct {
    const t5_markup *from;
    t5_markup *to;
    const t5_alphabet *alphabet;
    int32_t i_mark; /* of `from`: those before it are copied */
    int32_t i_tag;  /* the first behind the byte that held_at() was asked for last */
    int32_t marks_capacity;
    size_t dropped; /* bytes of `to` when a space was dropped last: one is, however many stand there */
} keeper;

static bool is_word(uint32_t code)
{
    return u_isalnum((UChar32)code) || (U_GET_GC_MASK((UChar32)code) & U_GC_M_MASK) != 0;
}

/* What has no shape of its own, like a soft hyphen: it belongs to what stands before it. */
static bool is_shapeless(uint32_t code)
{
    return (U_GET_GC_MASK((UChar32)code) & (U_GC_M_MASK | U_GC_CF_MASK)) != 0;
}

/* Of a script without spaces, where what stands together is no word. */
static bool is_unspaced(uint32_t code)
{
    return code >= 0x2E80 || (code >= 0x0E00 && code < 0x0F00) || (code >= 0x1000 && code < 0x10A0) ||
           (code >= 0x1780 && code < 0x1800);
}

/* A sign that the model cannot say. */
static bool is_strange(const keeper *k, const char *character, size_t n_bytes, uint32_t code)
{
    return !is_word(code) && !is_shapeless(code) && !t5_utf8_is_space(code) &&
           !k->alphabet->has(character, n_bytes, k->alphabet->ctx);
}

/* ---- what is copied ---- */

/* The marks up to byte `pos` of the plain text. */
static t5_status copy_marks(keeper *k, size_t pos, t5_error *err)
{
    while (k->i_mark < k->from->n_marks && k->from->marks[k->i_mark].at <= pos) {
        const t5_status status = t5_markup_push_mark(k->to, &k->marks_capacity, k->from->marks[k->i_mark], err);
        if (status != T5_OK) return status;
        k->i_mark++;
    }
    return T5_OK;
}

static void copy_bytes(keeper *k, size_t pos, size_t n_bytes)
{
    t5_markup *to = k->to;
    memcpy(to->plain + to->plain_bytes, k->from->plain + pos, n_bytes);
    memcpy(to->begins + to->plain_bytes, k->from->begins + pos, n_bytes * sizeof *to->begins);
    memcpy(to->ends + to->plain_bytes, k->from->ends + pos, n_bytes * sizeof *to->ends);
    to->plain_bytes += n_bytes;
}

/* Plain text and the marks within it. */
static t5_status copy_text(keeper *k, size_t pos, size_t n_bytes, t5_error *err)
{
    for (const size_t end = pos + n_bytes; pos < end;) {
        const t5_status status = copy_marks(k, pos, err);
        if (status != T5_OK) return status;
        size_t next = k->i_mark < k->from->n_marks ? k->from->marks[k->i_mark].at : end;
        if (next > end) next = end;
        copy_bytes(k, pos, next - pos);
        pos = next;
    }
    return T5_OK;
}

/* ---- what is kept ---- */

static bool is_space_at(const t5_markup *m, size_t pos)
{
    return pos >= m->plain_bytes || m->plain[pos] == ' ' || m->plain[pos] == '\n';
}

static bool is_closing_at(const t5_markup *m, size_t pos)
{
    return pos < m->plain_bytes && m->plain[pos] != '\0' && strchr(".,;:!?)]}", m->plain[pos]) != NULL;
}

static bool is_letter_at(const t5_markup *m, size_t pos)
{
    uint32_t code;
    if (pos >= m->plain_bytes) return false;
    t5_utf8_next(m->plain + pos, m->plain_bytes - pos, &code);
    return is_word(code);
}

/* A space that keeps the words at both sides of a mark apart; it comes from nothing. */
static void push_space(keeper *k, size_t pos)
{
    t5_markup *to = k->to;
    to->plain[to->plain_bytes] = ' ';
    to->begins[to->plain_bytes] = to->ends[to->plain_bytes] = k->from->begins[pos];
    to->plain_bytes++;
}

/* plain[pos .. end) becomes a mark. */
static t5_status keep(keeper *k, size_t pos, size_t end, t5_error *err)
{
    t5_markup *to = k->to;
    const t5_markup *from = k->from;
    t5_status status = copy_marks(k, pos, err);
    if (status != T5_OK) return status;
    const bool is_first = to->plain_bytes == 0 || to->plain[to->plain_bytes - 1] == '\n';
    const bool has_space = to->plain_bytes > 0 && to->plain[to->plain_bytes - 1] == ' ';
    t5_mark mark = {.kind = T5_MARK_SOLE, .is_visible = true, .is_text = true, .pair = -1};
    mark.offset = from->begins[pos];
    mark.n_bytes = from->ends[end - 1] - mark.offset;
    mark.has_space_before = is_first || has_space;
    mark.has_space_after = is_space_at(from, end);
    mark.leans_right = mark.has_space_before && !mark.has_space_after && !is_closing_at(from, end);
    status = t5_markup_push_mark(k->to, &k->marks_capacity, mark, err);
    /* A space at each side of it is one too many, and none stands before a full stop. */
    if (has_space && to->plain_bytes > k->dropped && (mark.has_space_after || is_closing_at(from, end))) {
        t5_markup_drop_space(to);
        k->dropped = to->plain_bytes;
    }
    const bool follows_letter = pos > 0 && !mark.has_space_before && !is_closing_at(from, pos - 1);
    if (follows_letter && is_letter_at(from, end)) push_space(k, end);
    return status;
}

/* ---- words ---- */

/* No tag stands within plain[pos .. end). */
static bool is_whole(const keeper *k, size_t pos, size_t end)
{
    int32_t i = k->i_mark;
    while (i < k->from->n_marks && k->from->marks[i].at <= pos)
        i++;
    return i == k->from->n_marks || k->from->marks[i].at >= end;
}

/* Length of the placeholder at `pos`, which only grows; 0: none. *out_is_cut: it is one because a tag ends it, the "%s"
 * of "%s<b>text</b>"; without tags there is none. */
static size_t held_at(keeper *k, size_t pos, bool *out_is_cut)
{
    const t5_markup *m = k->from;
    while (k->i_tag < m->n_marks && m->marks[k->i_tag].at <= pos)
        k->i_tag++;
    const size_t n_held = t5_placeholder_at(m->plain, m->plain_bytes, pos);
    *out_is_cut = n_held == 0 && k->i_tag < m->n_marks;
    return *out_is_cut ? t5_placeholder_at(m->plain, m->marks[k->i_tag].at, pos) : n_held;
}

/* What stands together: plain[pos .. end) without white space and without placeholders. */
typedef struct {
    size_t pos, end;
    size_t core, core_end; /* from its first letter or digit to its last; none: both are pos */
    bool is_strange;       /* the core is one thing by a sign that the model cannot say */
    bool has_strange;      /* there is such a sign, of any kind, somewhere */
} chunk;

static chunk read_chunk(keeper *k, size_t pos)
{
    const t5_markup *m = k->from;
    chunk c = {.pos = pos, .core = pos, .core_end = pos};
    bool is_pending = false; /* a joining sign that cannot be said stands behind the core so far */
    bool has_unspaced = false, is_cut;
    size_t length;
    for (; pos < m->plain_bytes && held_at(k, pos, &is_cut) == 0; pos += length) {
        uint32_t code;
        length = t5_utf8_next(m->plain + pos, m->plain_bytes - pos, &code);
        if (t5_utf8_is_space(code)) break;
        const bool is_strange_here = is_strange(k, m->plain + pos, length, code);
        c.has_strange |= is_strange_here;
        is_pending |= is_strange_here && code < 0x80 && strchr(joining, (int)code) != NULL;
        const bool is_of_core = c.core_end > c.core && c.core_end == pos;
        if (!is_word(code) || (is_shapeless(code) && !is_of_core)) continue; /* what colours a sign is no word */
        has_unspaced |= is_unspaced(code);
        if (c.core_end == c.core) c.core = pos;
        if (c.core_end > c.core) c.is_strange |= is_pending;
        c.core_end = pos + length;
        is_pending = false;
    }
    c.end = pos;
    if (has_unspaced || c.core_end - c.core > CORE_BYTES_MAX) c.is_strange = false;
    return c;
}

/* Sign by sign; those that cannot be said and follow each other are one mark, with what joins them. Within a word only
 * symbols count: an apostrophe is a letter there. */
static t5_status keep_signs(keeper *k, size_t pos, size_t end, bool is_in_word, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_markup *m = k->from;
    size_t length;
    while (pos < end) {
        uint32_t code;
        size_t strange_end = pos;
        T5_TRY(copy_marks(k, pos, err)); /* so that is_whole() has none to pass over */
        for (; strange_end < end; strange_end += length) {
            length = t5_utf8_next(m->plain + strange_end, end - strange_end, &code);
            const bool extends = strange_end > pos && is_shapeless(code);
            const bool counts = !is_in_word || (U_GET_GC_MASK((UChar32)code) & U_GC_S_MASK) != 0;
            if (!extends && !(counts && is_strange(k, m->plain + strange_end, length, code))) break;
            if (!is_whole(k, pos, strange_end + length)) break;
        }
        if (strange_end > pos) {
            T5_TRY(keep(k, pos, strange_end, err));
            pos = strange_end;
            continue;
        }
        length = t5_utf8_next(m->plain + pos, end - pos, &code);
        T5_TRY(copy_text(k, pos, length, err));
        pos += length;
    }
out:
    return status;
}

static t5_status keep_chunk(keeper *k, const chunk *c, t5_error *err)
{
    t5_status status = T5_OK;
    if (!c->has_strange) return copy_text(k, c->pos, c->end - c->pos, err);
    T5_TRY(keep_signs(k, c->pos, c->core, false, err));
    if (c->is_strange && is_whole(k, c->core, c->core_end))
        T5_TRY(keep(k, c->core, c->core_end, err));
    else
        T5_TRY(keep_signs(k, c->core, c->core_end, true, err));
    T5_TRY(keep_signs(k, c->core_end, c->end, false, err));
out:
    return status;
}

static t5_status keep_all(keeper *k, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_markup *m = k->from;
    for (size_t pos = 0; pos < m->plain_bytes;) {
        bool is_cut;
        const size_t n_held = held_at(k, pos, &is_cut);
        if (n_held > 0) {
            T5_TRY(is_cut ? keep(k, pos, pos + n_held, err) : copy_text(k, pos, n_held, err));
            pos += n_held;
            continue;
        }
        const chunk c = read_chunk(k, pos);
        if (c.end > pos) {
            T5_TRY(keep_chunk(k, &c, err));
            pos = c.end;
            continue;
        }
        uint32_t code;
        const size_t length = t5_utf8_next(m->plain + pos, m->plain_bytes - pos, &code);
        T5_TRY(copy_text(k, pos, length, err));
        pos += length;
    }
    T5_TRY(copy_marks(k, m->plain_bytes, err));
out:
    return status;
}

/* Partners again: pairs are nested, so each closing tag ends the last that is open. */
static t5_status pair_marks(t5_markup *m, t5_error *err)
{
    int32_t *open = malloc(((size_t)m->n_marks + 1) * sizeof *open), n_open = 0;
    if (open == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d tags", m->n_marks);
    for (int32_t i = 0; i < m->n_marks; i++) {
        if (m->marks[i].kind == T5_MARK_OPEN) open[n_open++] = i;
        if (m->marks[i].kind != T5_MARK_CLOSE) continue;
        T5_ASSERT(n_open > 0);
        m->marks[i].pair = open[--n_open];
        m->marks[m->marks[i].pair].pair = i;
    }
    free(open);
    return T5_OK;
}

t5_status t5_markup_keep(t5_markup *m, const t5_alphabet *alphabet, t5_error *err)
{
    t5_status status = T5_OK;
    t5_markup to = {.source = m->source, .source_bytes = m->source_bytes};
    const size_t capacity = 2 * m->plain_bytes + 1; /* a space for each sign */
    keeper *k = calloc(1, sizeof *k);
    to.plain = malloc(capacity);
    to.begins = malloc(capacity * sizeof *to.begins);
    to.ends = malloc(capacity * sizeof *to.ends);
    if (k == NULL || to.plain == NULL || to.begins == NULL || to.ends == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "a text of %zu bytes", m->source_bytes);
        goto out;
    }
    k->from = m;
    k->to = &to;
    k->alphabet = alphabet;
    T5_TRY(keep_all(k, err));
    T5_TRY(pair_marks(&to, err));
    t5_markup_deinit(m);
    *m = to;
    to = (t5_markup){0}; /* handed to the caller */
out:
    free(k);
    t5_markup_deinit(&to);
    return status;
}
