/* text/markup.c: see markup.h. Lexemes become marks and plain text. White space of HTML is written when the next
 * character comes, so that any run of it, with tags inside or not, is one space, and none at the ends of a block. */
#include "text/markup.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "text/entities.h"
#include "text/markup_lex.h"
#include "text/markup_push.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *source;
    bool is_html;
    const t5_lexemes *lexemes;
    t5_markup *out;
    size_t plain_capacity;
    int32_t marks_capacity;
    int32_t n_depth;    /* pairs that are open */
    int32_t *mark_of;   /* [n_items] of a lexeme that opens a pair */
    uint32_t last_code; /* of the plain text; \n at the start of a block */
    /* Since that character: */
    bool wants_space;  /* HTML: white space that is not written yet */
    bool has_visible;  /* a visible mark */
    int32_t i_visible; /* the last of them, or -1 */
    bool has_space;    /* white space, since the last visible mark if there is one */
} builder;

static bool is_space(uint32_t code)
{
    return code == ' ' || (code >= '\t' && code <= '\r');
}

/* What never has a space before it. */
static bool is_closing(uint32_t code)
{
    return code > 0 && code < 0x80 && strchr(".,;:!?)]}", (int)code) != NULL;
}

/* Of a word in a script that puts spaces between them. */
static bool is_of_word(uint32_t code)
{
    const bool is_ascii = (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
    return is_ascii || (code >= 0xC0 && code < 0x0E00) || (code >= 0x10A0 && code < 0x1780) ||
           (code >= 0x1E00 && code < 0x2000);
}

/* ---- marks ---- */

/* The last visible mark knows now what follows it: `code`, or another mark. It leans on the word that it touches. */
static void settle_visible(builder *b, uint32_t code)
{
    if (b->i_visible < 0) return;
    t5_mark *mark = &b->out->marks[b->i_visible];
    mark->has_space_after = b->has_space;
    mark->leans_right = mark->has_space_before && !mark->has_space_after && !is_closing(code);
    b->i_visible = -1;
}

/* Something that stands alone: source[begin .. end). */
static t5_status push_sole(builder *b, size_t begin, size_t end, bool is_visible, t5_error *err)
{
    t5_mark mark = {
        .kind = T5_MARK_SOLE, .pair = -1, .is_visible = is_visible, .offset = begin, .n_bytes = end - begin};
    if (is_visible) {
        settle_visible(b, ' ');
        mark.has_space_before = b->has_space;
        b->has_space = false;
        b->has_visible = true;
        b->i_visible = b->out->n_marks;
    }
    return t5_markup_push_mark(b->out, &b->marks_capacity, mark, err);
}

/* ---- plain text ---- */

/* Characters come from bytes of their own; besides them there is at most a line end or a space for each mark. */
static t5_status make_room(builder *b, t5_error *err)
{
    t5_markup *m = b->out;
    const size_t capacity = m->source_bytes + (size_t)b->lexemes->n_items + 1;
    m->plain = malloc(capacity);
    m->begins = malloc(capacity * sizeof *m->begins);
    m->ends = malloc(capacity * sizeof *m->ends);
    b->mark_of = malloc(((size_t)b->lexemes->n_items + 1) * sizeof *b->mark_of);
    if (m->plain == NULL || m->begins == NULL || m->ends == NULL || b->mark_of == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "a text of %zu bytes", m->source_bytes);
    b->plain_capacity = capacity;
    return T5_OK;
}

/* Appends a character that comes from source[begin .. end). */
static void push_code(builder *b, uint32_t code, size_t begin, size_t end)
{
    t5_markup *m = b->out;
    char bytes[4];
    const size_t n = t5_utf8_put(code, bytes);
    T5_ASSERT(m->plain_bytes + n <= b->plain_capacity);
    for (size_t i = 0; i < n; i++) {
        m->begins[m->plain_bytes] = (uint32_t)begin;
        m->ends[m->plain_bytes] = (uint32_t)end;
        m->plain[m->plain_bytes++] = bytes[i];
    }
    b->last_code = code;
}

/* The sentence ends here. */
static void end_block(builder *b, size_t offset)
{
    if (b->out->plain_bytes > 0 && b->last_code != '\n') push_code(b, '\n', offset, offset);
    b->last_code = '\n';
    b->wants_space = b->has_visible = b->has_space = false;
    b->i_visible = -1;
}

/* A visible mark is no word of the plain text, but it keeps the words at its sides apart. */
static void add_text_code(builder *b, uint32_t code, size_t begin, size_t end)
{
    bool needs_space = b->wants_space && b->last_code != '\n';
    if (b->has_visible) {
        const bool touches = !b->has_space && is_closing(code);
        if (touches) needs_space = false;
        /* "Press <x/>." reads "Press." */
        if (touches && !b->is_html && b->last_code == ' ') t5_markup_drop_space(b->out);
        if (is_of_word(b->last_code) && is_of_word(code)) needs_space = true;
    }
    settle_visible(b, code);
    if (needs_space) push_code(b, ' ', begin, begin);
    push_code(b, code, begin, end);
    b->wants_space = b->has_visible = b->has_space = false;
}

static void add_space(builder *b, uint32_t code, size_t begin, size_t end)
{
    const bool is_second = b->has_visible && b->last_code == ' ' && code == ' '; /* one at each side of a mark */
    b->has_space = b->wants_space = true;
    if (b->is_html) return;
    b->wants_space = false;
    if (!is_second) push_code(b, code, begin, end);
}

static t5_status add_text(builder *b, const t5_lexeme *x, t5_markup_kind kind, t5_error *err)
{
    size_t length;
    for (size_t pos = x->offset, end = x->offset + x->n_bytes; pos < end; pos += length) {
        uint32_t code;
        length = t5_utf8_next(b->source + pos, end - pos, &code);
        const size_t entity_bytes = code == '&' ? t5_entity_read(b->source + pos, end - pos, kind, &code) : 0;
        if (entity_bytes > 0) length = entity_bytes;
        if (entity_bytes > 0 && code == 0) {
            const t5_status status = push_sole(b, pos, pos + length, true, err);
            if (status != T5_OK) return status;
            continue;
        }
        if (length == 1 && b->source[pos] == '&') code = '&';
        if (is_space(code)) add_space(b, code, pos, pos + length);
        if (!is_space(code)) add_text_code(b, code, pos, pos + length);
    }
    return T5_OK;
}

/* ---- lexemes ---- */

/* Items i to *out_next - 1 are one mark. */
static t5_status add_whole(builder *b, int32_t i, int32_t next, t5_error *err)
{
    const t5_lexeme *first = &b->lexemes->items[i], *last = &b->lexemes->items[next - 1];
    const size_t begin = first->offset, end = last->offset + last->n_bytes;
    if (!first->is_block) return push_sole(b, begin, end, !first->is_invisible, err);
    end_block(b, begin);
    return t5_markup_push_mark(b->out, &b->marks_capacity,
                               (t5_mark){.kind = T5_MARK_BREAK, .pair = -1, .offset = begin, .n_bytes = end - begin},
                               err);
}

static t5_status add_pair(builder *b, int32_t i, t5_error *err)
{
    const t5_lexeme *x = &b->lexemes->items[i];
    t5_mark mark = {.kind = T5_MARK_OPEN, .pair = -1, .offset = x->offset, .n_bytes = x->n_bytes};
    if (x->kind == T5_LEX_OPEN) {
        if (++b->n_depth > T5_MARKUP_DEPTH_MAX)
            return T5_FAIL(err, T5_ERR_ARG, "inline tags are nested more than %d deep", T5_MARKUP_DEPTH_MAX);
        b->mark_of[i] = b->out->n_marks;
    } else {
        b->n_depth--;
        mark.kind = T5_MARK_CLOSE;
        mark.pair = b->mark_of[x->end];
        b->out->marks[mark.pair].pair = b->out->n_marks;
    }
    return t5_markup_push_mark(b->out, &b->marks_capacity, mark, err);
}

/* A tag whose partner is missing. */
static t5_status add_half(builder *b, const t5_lexeme *x, t5_error *err)
{
    const t5_status status = push_sole(b, x->offset, x->offset + x->n_bytes, false, err);
    if (status == T5_OK) b->out->marks[b->out->n_marks - 1].leans_right = x->kind == T5_LEX_OPEN;
    return status;
}

/* Item i, and those that belong to it; *out_next is the first behind them. */
static t5_status add_item(builder *b, int32_t i, t5_markup_kind kind, int32_t *out_next, t5_error *err)
{
    const t5_lexeme *x = &b->lexemes->items[i];
    const bool is_element = x->kind == T5_LEX_OPEN;
    const bool is_tag = is_element || x->kind == T5_LEX_CLOSE || x->kind == T5_LEX_EMPTY;
    *out_next = i + 1;
    if (x->kind == T5_LEX_TEXT) return add_text(b, x, kind, err);
    if (x->kind == T5_LEX_OTHER) return push_sole(b, x->offset, x->offset + x->n_bytes, x->has_text, err);
    const bool is_empty_pair = is_element && x->is_paired && x->end == i + 1;
    if (is_element && (x->is_opaque || (is_empty_pair && !x->is_block))) *out_next = x->is_paired ? x->end + 1 : x->end;
    T5_ASSERT(is_tag && *out_next > i);
    if (*out_next > i + 1 || x->kind == T5_LEX_EMPTY || x->is_block) return add_whole(b, i, *out_next, err);
    return x->is_paired ? add_pair(b, i, err) : add_half(b, x, err);
}

t5_status t5_markup_parse(const char *source, size_t n_bytes, const t5_markup_options *options, t5_markup *out,
                          t5_error *err)
{
    t5_status status = T5_OK;
    t5_lexemes lexemes = {0};
    builder b = {.source = source,
                 .is_html = options->kind == T5_MARKUP_HTML,
                 .lexemes = &lexemes,
                 .out = out,
                 .last_code = '\n',
                 .i_visible = -1};
    *out = (t5_markup){.source = source, .source_bytes = n_bytes};
    T5_TRY(t5_lexemes_read(source, n_bytes, options->kind, &lexemes, err));
    T5_TRY(t5_lexemes_match(source, options, &lexemes, err));
    T5_TRY(make_room(&b, err));
    for (int32_t i = 0; i < lexemes.n_items;)
        T5_TRY(add_item(&b, i, options->kind, &i, err));
out:
    free(b.mark_of);
    t5_lexemes_deinit(&lexemes);
    if (status != T5_OK) t5_markup_deinit(out);
    return status;
}

void t5_markup_deinit(t5_markup *m)
{
    free(m->plain);
    free(m->begins);
    free(m->ends);
    free(m->marks);
    *m = (t5_markup){0};
}

int32_t t5_markup_find(const t5_markup *m, size_t offset)
{
    int32_t low = 0, high = m->n_marks;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (m->marks[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
