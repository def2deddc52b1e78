/* text/markup_match.c: which tags belong together. A stack of open elements and, for each name, how many of them are on
 * it: so a closing tag without a partner is known at once, and one with a partner takes those above it from the stack
 * for good. Each lexeme goes on and off once, whatever the source looks like. End tags that HTML lets one leave out
 * (</p>, </li>) are not missed: tags that end a sentence need no partner. */
#include "base/assert.h"
#include "text/markup_lex.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct {
    const char *source;
    const t5_markup_options *options;
    t5_lexemes *lexemes;
    int32_t *buckets; /* [n_buckets] a lexeme with a name, or -1; open addressing */
    uint32_t n_buckets;
    int32_t *n_open; /* [n_names] elements of a name on the stack */
    int32_t *stack;  /* [n_tags] lexemes */
    int32_t n_stack;
    int32_t *parents; /* [n_items] lexeme around it, or -1 */
    bool *has_text;   /* [1 + n_items] of its own; [0] is the text around all elements */
} matcher;

static bool is_tag(const t5_lexeme *x)
{
    return x->kind == T5_LEX_OPEN || x->kind == T5_LEX_CLOSE || x->kind == T5_LEX_EMPTY;
}

static bool has_same_name(const matcher *m, const char *name, size_t name_bytes, const t5_lexeme *x)
{
    const char *other = m->source + x->name_offset;
    if (x->name_bytes != name_bytes) return false;
    if (m->options->kind == T5_MARKUP_XML) return memcmp(name, other, name_bytes) == 0;
    return strncasecmp(name, other, name_bytes) == 0;
}

/* FNV-1a without regard to case; the client chooses the names, but their number bounds what collisions cost. */
static uint32_t hash_of(const char *name, size_t name_bytes)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < name_bytes; i++)
        hash = (hash ^ ((unsigned char)name[i] | 0x20)) * 1099511628211u;
    return (uint32_t)(hash ^ (hash >> 32));
}

static bool is_listed(const matcher *m, const t5_tag_names *list, const t5_lexeme *x)
{
    for (size_t i = 0; i < list->n_names; i++)
        if (has_same_name(m, list->names[i], strlen(list->names[i]), x)) return true;
    return false;
}

/* What the caller says of an element, over what is known of it. */
static void apply_options(const matcher *m, t5_lexeme *x)
{
    x->is_ignored = is_listed(m, &m->options->ignored, x);
    if (is_listed(m, &m->options->splitting, x)) x->is_block = true;
    if (is_listed(m, &m->options->not_splitting, x)) x->is_block = false;
}

/* Numbers the names. The caller's lists are looked at once for each of them. */
static t5_status name_tags(matcher *m, t5_error *err)
{
    t5_lexemes *l = m->lexemes;
    for (int32_t i = 0; i < l->n_items; i++) {
        t5_lexeme *x = &l->items[i];
        if (!is_tag(x)) continue;
        const char *name = m->source + x->name_offset;
        uint32_t b = hash_of(name, x->name_bytes) & (m->n_buckets - 1);
        while (m->buckets[b] >= 0 && !has_same_name(m, name, x->name_bytes, &l->items[m->buckets[b]]))
            b = (b + 1) & (m->n_buckets - 1);
        const t5_lexeme *first = m->buckets[b] >= 0 ? &l->items[m->buckets[b]] : NULL;
        if (first == NULL) {
            if (l->n_names == T5_MARKUP_NAMES_MAX)
                return T5_FAIL(err, T5_ERR_ARG, "the text has more than %d different tags", T5_MARKUP_NAMES_MAX);
            m->buckets[b] = i;
            x->name = l->n_names++;
            apply_options(m, x);
        } else {
            x->name = first->name;
            x->is_block = first->is_block;
            x->is_ignored = first->is_ignored;
        }
        x->is_opaque |= x->is_ignored;
    }
    return T5_OK;
}

/* The topmost element is over: `i` is its closing tag, or the first lexeme behind it. */
static void pop(matcher *m, int32_t i)
{
    T5_ASSERT(m->n_stack > 0);
    t5_lexeme *x = &m->lexemes->items[m->stack[--m->n_stack]];
    x->end = i;
    m->n_open[x->name]--;
}

static void open_element(matcher *m, int32_t i)
{
    m->n_open[m->lexemes->items[i].name]++;
    m->stack[m->n_stack++] = i;
}

static void close_element(matcher *m, int32_t i)
{
    t5_lexeme *close = &m->lexemes->items[i];
    if (m->n_open[close->name] == 0) return;
    for (;;) {
        const int32_t top = m->stack[m->n_stack - 1];
        pop(m, i);
        if (m->lexemes->items[top].name != close->name) continue;
        m->lexemes->items[top].is_paired = close->is_paired = true;
        close->end = top;
        return;
    }
}

static void match(matcher *m)
{
    const int32_t n = m->lexemes->n_items;
    for (int32_t i = 0; i < n; i++) {
        const t5_lexeme *x = &m->lexemes->items[i];
        if (x->kind == T5_LEX_CLOSE) close_element(m, i);
        m->parents[i] = m->n_stack > 0 ? m->stack[m->n_stack - 1] : -1;
        if (x->kind == T5_LEX_OPEN) open_element(m, i);
        if (x->has_text) m->has_text[1 + m->parents[i]] = true;
    }
    while (m->n_stack > 0)
        pop(m, n);
}

/* XML: an element is a block of its own when it stands among elements alone, and what is around it does. */
static void find_outline(matcher *m)
{
    for (int32_t i = 0; i < m->lexemes->n_items; i++) {
        t5_lexeme *x = &m->lexemes->items[i];
        if (x->kind != T5_LEX_OPEN || !x->is_paired) continue;
        const int32_t parent = m->parents[i];
        const bool is_outline = !m->has_text[1 + parent] && (parent < 0 || m->lexemes->items[parent].is_block);
        if (is_outline && !is_listed(m, &m->options->not_splitting, x)) x->is_block = true;
        m->lexemes->items[x->end].is_block = x->is_block;
    }
}

t5_status t5_lexemes_match(const char *source, const t5_markup_options *options, t5_lexemes *lexemes, t5_error *err)
{
    t5_status status = T5_OK;
    const size_t n_tags = (size_t)lexemes->n_tags, n_items = (size_t)lexemes->n_items;
    matcher m = {.source = source, .options = options, .lexemes = lexemes, .n_buckets = 16};
    while (m.n_buckets < 2 * n_tags)
        m.n_buckets *= 2;
    m.buckets = malloc(m.n_buckets * sizeof *m.buckets);
    m.n_open = calloc(n_tags + 1, sizeof *m.n_open);
    m.stack = malloc((n_tags + 1) * sizeof *m.stack);
    m.parents = malloc((n_items + 1) * sizeof *m.parents);
    m.has_text = calloc(n_items + 1, sizeof *m.has_text);
    if (m.buckets == NULL || m.n_open == NULL || m.stack == NULL || m.parents == NULL || m.has_text == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%zu tags", n_tags);
        goto out;
    }
    for (uint32_t i = 0; i < m.n_buckets; i++)
        m.buckets[i] = -1;
    T5_TRY(name_tags(&m, err));
    match(&m);
    if (options->kind == T5_MARKUP_XML && options->finds_outline) find_outline(&m);
out:
    free(m.buckets);
    free(m.n_open);
    free(m.stack);
    free(m.parents);
    free(m.has_text);
    return status;
}
