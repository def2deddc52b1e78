/* text/markup_write.c: see markup_write.h. The marks right before and right behind a sentence stay where they are, but
 * for the partners of those within it: "<b>Hello</b> world" has its <b> before the sentence. */
#include "text/markup_write.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "text/entities.h"
#include "text/markup_place.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

/* A translation that is being written with its marks. */
typedef struct {
    t5_markup_writer *writer;
    const t5_marked_sentence *sentence;
    const t5_words *target;
    const t5_place *places;
    size_t n_written; /* bytes of the target */
    bool ends_blank;  /* nothing, or white space, was written last of what a reader sees */
    bool wants_space; /* the source had a space behind the mark that was written last */
    bool skips_space; /* it had none around that mark */
} weaver;

static t5_status write(t5_markup_writer *w, const char *bytes, size_t n_bytes, t5_error *err)
{
    return t5_buffer_append(w->out, bytes, n_bytes, err);
}

static t5_status write_mark(t5_markup_writer *w, int32_t i_mark, t5_error *err)
{
    const t5_mark *mark = &w->markup->marks[i_mark];
    return write(w, w->markup->source + mark->offset, mark->n_bytes, err);
}

static const char *escape_of(char c)
{
    return c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : NULL;
}

/* A "<" or "&" that was written last is text of the source, since tags and entities have an end. It stays text in front
 * of a translation. */
static t5_status escape_last(t5_markup_writer *w, t5_error *err)
{
    const char last = w->out->n_bytes > 0 ? w->out->bytes[w->out->n_bytes - 1] : '\0';
    if (last != '<' && last != '&') return T5_OK;
    w->out->n_bytes--;
    return write(w, escape_of(last), strlen(escape_of(last)), err);
}

static t5_status write_escaped(t5_markup_writer *w, const char *text, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    size_t begin = 0;
    if (n_bytes > 0) T5_TRY(escape_last(w, err));
    for (size_t i = 0; i < n_bytes; i++) {
        const char *escape = escape_of(text[i]);
        if (escape == NULL) continue;
        T5_TRY(write(w, text + begin, i - begin, err));
        T5_TRY(write(w, escape, strlen(escape), err));
        begin = i + 1;
    }
    T5_TRY(write(w, text + begin, n_bytes - begin, err));
out:
    return status;
}

/* Characters of the source as they are written there, but those that would now be read as markup. */
static t5_status write_text(t5_markup_writer *w, const t5_mark *mark, t5_error *err)
{
    t5_status status = T5_OK;
    const char *text = w->markup->source + mark->offset;
    for (size_t i = 0, length; i < mark->n_bytes; i += length) {
        uint32_t code;
        length = text[i] == '&' ? t5_entity_read(text + i, mark->n_bytes - i, T5_MARKUP_HTML, &code) : 0;
        const bool is_entity = length > 0;
        if (!is_entity) length = 1;
        if (is_entity) T5_TRY(write(w, text + i, length, err));
        if (!is_entity) T5_TRY(write_escaped(w, text + i, length, err));
    }
out:
    return status;
}

/* ---- within a sentence ---- */

/* The target up to byte `end`, with the space that a mark before it asks for. */
static t5_status weave_text(weaver *v, size_t end, t5_error *err)
{
    t5_status status = T5_OK;
    const char *text = v->sentence->target + v->n_written;
    if (end <= v->n_written) return T5_OK;
    size_t n_bytes = end - v->n_written;
    v->n_written = end;
    const size_t n_leading = t5_utf8_leading_space(text, n_bytes);
    if (v->skips_space && n_leading < n_bytes) {
        text += n_leading;
        n_bytes -= n_leading;
    } else if (v->wants_space && n_leading == 0) {
        uint32_t code;
        t5_utf8_next(text, n_bytes, &code);
        if (u_isalnum((UChar32)code)) T5_TRY(write(v->writer, " ", 1, err));
    }
    T5_TRY(write_escaped(v->writer, text, n_bytes, err));
    v->ends_blank = t5_utf8_trailing_space(text, n_bytes) > 0;
    v->wants_space = v->skips_space = false;
out:
    return status;
}

/* The space that the source has before a mark. */
static t5_status weave_space(weaver *v, const t5_mark *mark, t5_error *err)
{
    const bool needs_space = mark->is_visible && mark->has_space_before && !v->ends_blank;
    v->ends_blank |= needs_space;
    return needs_space ? write(v->writer, " ", 1, err) : T5_OK;
}

static t5_status weave_sole(weaver *v, int32_t i_mark, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_markup *m = v->writer->markup;
    const t5_mark *mark = &m->marks[i_mark];
    T5_TRY(weave_space(v, mark, err));
    T5_TRY(mark->is_text ? write_text(v->writer, mark, err) : write_mark(v->writer, i_mark, err));
    if (!mark->is_visible) goto out;
    const bool had_space = mark->has_space_before || mark->has_space_after;
    v->ends_blank = false;
    v->wants_space = mark->has_space_after;
    v->skips_space = !had_space && mark->at < m->plain_bytes && m->begins[mark->at] == m->ends[mark->at];
out:
    return status;
}

static bool is_empty(const t5_place *x)
{
    return x->begin == x->end;
}

/* The text before a place. What stands in an empty place stands where that one does. */
static t5_status approach(weaver *v, const t5_place *x, t5_error *err)
{
    if (is_empty(&v->places[x->parent])) return T5_OK;
    if (is_empty(x) && !x->leans_right)
        return x->begin > 0 ? weave_text(v, v->target->items[x->begin - 1].end, err) : T5_OK;
    const bool is_last = x->begin == v->target->n_items;
    return weave_text(v, is_last ? v->sentence->target_bytes : v->target->items[x->begin].begin, err);
}

/* An empty pair has its space before it, not within. */
static t5_status weave_open(weaver *v, const t5_place *x, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_mark *marks = v->writer->markup->marks;
    const bool holds_sole = is_empty(x) && x->first_child >= 0 && marks[x->open + 1].kind == T5_MARK_SOLE;
    if (holds_sole) T5_TRY(weave_space(v, &marks[x->open + 1], err));
    T5_TRY(write_mark(v->writer, x->open, err));
out:
    return status;
}

/* A place with all that is in it: no deeper than T5_MARKUP_DEPTH_MAX. */
static t5_status weave_place(weaver *v, const t5_place *x, t5_error *err)
{
    t5_status status = T5_OK;
    const bool is_sole = x->open >= 0 && x->open == x->close;
    if (x->parent >= 0) T5_TRY(approach(v, x, err));
    if (is_sole) return weave_sole(v, x->open, err);
    if (x->open >= 0) T5_TRY(weave_open(v, x, err));
    for (int32_t c = x->first_child; c >= 0; c = v->places[c].next_sibling)
        T5_TRY(weave_place(v, &v->places[c], err));
    if (!is_empty(x)) T5_TRY(weave_text(v, v->target->items[x->end - 1].end, err));
    if (x->close >= 0) T5_TRY(write_mark(v->writer, x->close, err));
out:
    return status;
}

/* The translation with the marks first_mark to end_mark - 1. */
static t5_status weave(t5_markup_writer *w, const t5_marked_sentence *s, int32_t first_mark, int32_t end_mark,
                       t5_error *err)
{
    t5_status status = T5_OK;
    t5_words source = {0}, target = {0};
    t5_place *places = NULL;
    int32_t *aligned = NULL, n_places = 0;
    T5_TRY(t5_words_find(w->markup->plain + s->begin, s->end - s->begin, &source, err));
    T5_TRY(t5_words_find(s->target, s->target_bytes, &target, err));
    aligned = malloc(((size_t)target.n_items + 1) * sizeof *aligned);
    if (aligned == NULL) T5_TRY(T5_FAIL(err, T5_ERR_NOMEM, "%d words", target.n_items));
    T5_TRY(t5_words_align(&source, &target, s->links, s->n_links, aligned, err));
    const t5_place_args args = {.markup = w->markup,
                                .first_mark = first_mark,
                                .end_mark = end_mark,
                                .source_offset = s->begin,
                                .source = &source,
                                .target = &target,
                                .aligned = aligned};
    T5_TRY(t5_places_find(&args, &places, &n_places, err));
    weaver v = {.writer = w, .sentence = s, .target = &target, .places = places, .ends_blank = true};
    T5_TRY(weave_place(&v, &places[0], err));
    T5_TRY(weave_text(&v, s->target_bytes, err));
out:
    t5_words_deinit(&source);
    t5_words_deinit(&target);
    free(aligned);
    free(places);
    return status;
}

/* ---- between sentences ---- */

/* Where the sentence stands in the source. */
static size_t source_begin(const t5_markup *m, size_t begin)
{
    return begin < m->plain_bytes ? m->begins[begin] : m->source_bytes;
}

static size_t source_end(const t5_markup *m, size_t end)
{
    return m->ends[end - 1];
}

bool t5_markup_has_marks(const t5_markup *m, size_t begin, size_t end)
{
    return t5_markup_find(m, source_begin(m, begin)) < t5_markup_find(m, source_end(m, end));
}

/* First of the marks before the sentence, whose own are first to end - 1, that goes with it: it opens a pair that
 * closes within. */
static int32_t find_first(const t5_markup *m, int32_t zone, int32_t first, int32_t end)
{
    int32_t found = first;
    for (int32_t i = first - 1; i >= zone && m->marks[i].kind != T5_MARK_BREAK; i--)
        if (m->marks[i].kind == T5_MARK_OPEN && m->marks[i].pair >= first && m->marks[i].pair < end) found = i;
    return found;
}

/* Behind the last of the marks after it that goes with it. */
static int32_t find_last(const t5_markup *m, int32_t first, int32_t end, int32_t zone_end)
{
    int32_t found = end;
    for (int32_t i = end; i < zone_end && m->marks[i].kind != T5_MARK_BREAK; i++)
        if (m->marks[i].kind == T5_MARK_CLOSE && m->marks[i].pair >= first && m->marks[i].pair < end) found = i + 1;
    return found;
}

/* The source from `begin` to `end` without the marks first to last - 1, which are all that it has. */
static t5_status write_without(t5_markup_writer *w, size_t begin, size_t end, int32_t first, int32_t last,
                               t5_error *err)
{
    t5_status status = T5_OK;
    for (int32_t i = first; i < last; i++) {
        const t5_mark *mark = &w->markup->marks[i];
        T5_TRY(write(w, w->markup->source + begin, mark->offset - begin, err));
        begin = mark->offset + mark->n_bytes;
    }
    T5_TRY(write(w, w->markup->source + begin, end - begin, err));
out:
    return status;
}

/* The source up to `end`. A space that it has not goes behind the tags that close there. */
static t5_status write_source(t5_markup_writer *w, size_t end, bool needs_space, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_markup *m = w->markup;
    size_t closed = w->n_read;
    T5_ASSERT(end >= w->n_read && end <= m->source_bytes);
    for (int32_t i = t5_markup_find(m, closed); needs_space && i < m->n_marks && m->marks[i].offset == closed &&
                                                closed < end && m->marks[i].kind == T5_MARK_CLOSE;
         i++)
        closed += m->marks[i].n_bytes;
    T5_TRY(write(w, m->source + w->n_read, closed - w->n_read, err));
    if (needs_space) T5_TRY(write(w, " ", 1, err));
    T5_TRY(write(w, m->source + closed, end - closed, err));
    w->n_read = end;
out:
    return status;
}

t5_status t5_markup_write_sentence(t5_markup_writer *w, const t5_marked_sentence *s, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_markup *m = w->markup;
    T5_ASSERT(s->begin < s->end && s->end <= s->next && s->next <= m->plain_bytes);
    const size_t begin = source_begin(m, s->begin), end = source_end(m, s->end);
    const int32_t first = t5_markup_find(m, begin), last = t5_markup_find(m, end);
    if (first == last) {
        T5_TRY(write_source(w, begin, s->needs_space, err));
        T5_TRY(write_escaped(w, s->target, s->target_bytes, err));
        w->n_read = end;
        goto out;
    }
    const int32_t zone = t5_markup_find(m, w->n_read), zone_end = t5_markup_find(m, source_begin(m, s->next));
    const int32_t all_first = find_first(m, zone, first, last), all_last = find_last(m, all_first, last, zone_end);
    T5_TRY(write_source(w, all_first < first ? m->marks[all_first].offset : begin, s->needs_space, err));
    T5_TRY(write_without(w, w->n_read, begin, all_first, first, err));
    T5_TRY(weave(w, s, all_first, all_last, err));
    w->n_read = all_last > last ? m->marks[all_last - 1].offset + m->marks[all_last - 1].n_bytes : end;
    T5_TRY(write_without(w, end, w->n_read, last, all_last, err));
out:
    return status;
}

t5_status t5_markup_write_rest(t5_markup_writer *w, t5_error *err)
{
    return write_source(w, w->markup->source_bytes, false, err);
}
