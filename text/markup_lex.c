/* text/markup_lex.c: see markup_lex.h. The tokenizer of HTML's specification as far as it decides where a tag ends, and
 * XML's where that differs. It never looks back: each byte is read once, or twice where a raw element is searched for
 * its end. A tag, comment or raw element that does not end takes the rest of the text, as it does in a browser. */
#include "text/markup_lex.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BLOCK = 1, VOID = 2, RAW = 4, OPAQUE = 8, HIDDEN = 16 };

#define TAG_NAME_BYTES_MAX 12 /* of those in the table */

static const struct {
    char name[TAG_NAME_BYTES_MAX];
    unsigned flags;
} tags[] = {
#define T5_TAG(name, flags) {name, flags},
#include "text/markup_tags.def"
#undef T5_TAG
};

typedef struct {
    const char *source;
    size_t n_bytes, pos;
    bool is_xml;
    t5_lexemes *out;
} lexer;

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool begins_name(const lexer *l, size_t pos)
{
    if (pos >= l->n_bytes) return false;
    const char c = l->source[pos];
    return is_letter(c) || (l->is_xml && (c == '_' || c == ':' || (unsigned char)c >= 0x80));
}

static bool has_at(const lexer *l, size_t pos, const char *text)
{
    const size_t n = strlen(text);
    return l->n_bytes - pos >= n && memcmp(l->source + pos, text, n) == 0;
}

/* Behind the next `text` at or after `pos`; the end of the source when there is none. */
static size_t find_end(const lexer *l, size_t pos, const char *text)
{
    const char *found = pos < l->n_bytes ? memmem(l->source + pos, l->n_bytes - pos, text, strlen(text)) : NULL;
    return found != NULL ? (size_t)(found - l->source) + strlen(text) : l->n_bytes;
}

static unsigned flags_of(const lexer *l, const t5_lexeme *tag)
{
    char name[TAG_NAME_BYTES_MAX] = "";
    if (l->is_xml || tag->name_bytes >= sizeof name) return 0;
    for (uint32_t i = 0; i < tag->name_bytes; i++) {
        const char c = l->source[tag->name_offset + i];
        name[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    size_t low = 0, high = T5_COUNT(tags);
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const int order = strcmp(name, tags[middle].name);
        if (order == 0) return tags[middle].flags;
        if (order < 0) high = middle;
        if (order > 0) low = middle + 1;
    }
    return 0;
}

static t5_status push(lexer *l, t5_lexeme item, t5_error *err)
{
    t5_lexemes *out = l->out;
    if (item.n_bytes == 0) return T5_OK;
    if (item.kind != T5_LEX_TEXT && ++out->n_tags > T5_MARKUP_TAGS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "the text has more than %d tags", T5_MARKUP_TAGS_MAX);
    if (out->n_items == out->capacity) {
        const int32_t capacity = out->capacity == 0 ? 32 : 2 * out->capacity;
        t5_lexeme *items = realloc(out->items, (size_t)capacity * sizeof *items);
        if (items == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d tags", capacity);
        out->items = items;
        out->capacity = capacity;
    }
    item.end = -1;
    out->items[out->n_items++] = item;
    return T5_OK;
}

/* Adds source[begin .. end) as text. */
static t5_status push_text(lexer *l, size_t begin, size_t end, t5_error *err)
{
    t5_lexeme text = {.kind = T5_LEX_TEXT, .offset = (uint32_t)begin, .n_bytes = (uint32_t)(end - begin)};
    for (size_t i = begin; i < end && !text.has_text; i++)
        text.has_text = !is_space(l->source[i]);
    return push(l, text, err);
}

static bool has_word(const char *text, size_t n_bytes, const char *word)
{
    const size_t word_bytes = strlen(word);
    for (size_t i = 0; i < n_bytes;) {
        size_t end = i;
        while (end < n_bytes && !is_space(text[end]))
            end++;
        if (end - i == word_bytes && memcmp(text + i, word, word_bytes) == 0) return true;
        i = end + 1;
    }
    return false;
}

/* translate="no", or the class that browsers' translators know. */
static bool is_exempt(const char *name, size_t name_bytes, const char *value, size_t value_bytes)
{
    if (name_bytes == 9 && strncasecmp(name, "translate", 9) == 0)
        return value_bytes == 2 && strncasecmp(value, "no", 2) == 0;
    return name_bytes == 5 && strncasecmp(name, "class", 5) == 0 && has_word(value, value_bytes, "notranslate");
}

static void skip_spaces(lexer *l)
{
    while (l->pos < l->n_bytes && is_space(l->source[l->pos]))
        l->pos++;
}

/* Reads the value of an attribute behind its "="; l->pos is then behind it. */
static void read_value(lexer *l, size_t *out_begin, size_t *out_end)
{
    const char quote = l->pos < l->n_bytes ? l->source[l->pos] : '\0';
    if (quote == '"' || quote == '\'') {
        const char *end = memchr(l->source + l->pos + 1, quote, l->n_bytes - l->pos - 1);
        *out_begin = l->pos + 1;
        *out_end = end != NULL ? (size_t)(end - l->source) : l->n_bytes;
        l->pos = end != NULL ? *out_end + 1 : l->n_bytes;
        return;
    }
    *out_begin = l->pos;
    while (l->pos < l->n_bytes && !is_space(l->source[l->pos]) && l->source[l->pos] != '>')
        l->pos++;
    *out_end = l->pos;
}

/* One attribute at l->pos, which is no space and no ">". */
static void read_attribute(lexer *l, t5_lexeme *tag)
{
    const size_t name = l->pos++;
    size_t begin = 0, end = 0;
    while (l->pos < l->n_bytes && !is_space(l->source[l->pos]) && strchr("/>=", l->source[l->pos]) == NULL)
        l->pos++;
    const size_t name_end = l->pos;
    skip_spaces(l);
    if (l->pos == l->n_bytes || l->source[l->pos] != '=') return;
    l->pos++;
    skip_spaces(l);
    read_value(l, &begin, &end);
    if (is_exempt(l->source + name, name_end - name, l->source + begin, end - begin)) tag->is_opaque = true;
}

/* The tag whose "<" or "</" has `prefix` bytes, at l->pos. False: it does not end. */
static bool read_tag(lexer *l, size_t prefix, t5_lexeme *tag)
{
    bool is_empty = false;
    tag->name_offset = (uint32_t)(l->pos + prefix);
    l->pos += prefix;
    while (l->pos < l->n_bytes && !is_space(l->source[l->pos]) && strchr("/>", l->source[l->pos]) == NULL)
        l->pos++;
    tag->name_bytes = (uint32_t)l->pos - tag->name_offset;
    for (;;) {
        skip_spaces(l);
        if (l->pos == l->n_bytes) return false;
        if (l->source[l->pos] == '>') break;
        is_empty = l->source[l->pos] == '/';
        if (is_empty) l->pos++;
        if (!is_empty) read_attribute(l, tag);
    }
    l->pos++;
    tag->n_bytes = (uint32_t)l->pos - tag->offset;
    if (tag->kind == T5_LEX_OPEN && is_empty) tag->kind = T5_LEX_EMPTY;
    return true;
}

/* Behind what begins with "<!" or "<?" at `pos`. */
static size_t end_of_other(const lexer *l, size_t pos)
{
    if (has_at(l, pos, "<!--")) {
        if (!l->is_xml && has_at(l, pos, "<!-->")) return pos + 5;
        if (!l->is_xml && has_at(l, pos, "<!--->")) return pos + 6;
        return find_end(l, pos + 4, "-->");
    }
    if (l->is_xml && has_at(l, pos, "<![CDATA[")) return find_end(l, pos, "]]>");
    if (l->is_xml && has_at(l, pos, "<?")) return find_end(l, pos, "?>");
    const size_t end = find_end(l, pos, ">");
    const char *subset = l->is_xml ? memchr(l->source + pos, '[', end - pos) : NULL; /* of a doctype */
    return subset != NULL ? find_end(l, find_end(l, (size_t)(subset - l->source), "]"), ">") : end;
}

/* Start of the "</name" that ends a raw element; the end of the source when there is none. */
static size_t find_raw_end(const lexer *l, const t5_lexeme *tag)
{
    for (size_t pos = l->pos; pos < l->n_bytes;) {
        const size_t slash = find_end(l, pos, "</");
        if (slash + tag->name_bytes > l->n_bytes) break;
        const char after = slash + tag->name_bytes < l->n_bytes ? l->source[slash + tag->name_bytes] : '\0';
        const bool is_name = strncasecmp(l->source + slash, l->source + tag->name_offset, tag->name_bytes) == 0;
        if (is_name && (is_space(after) || after == '/' || after == '>')) return slash - 2;
        pos = slash;
    }
    return l->n_bytes;
}

/* A tag with its name at l->pos + prefix, and the content of a raw element. */
static t5_status lex_tag(lexer *l, t5_lexeme_kind kind, size_t prefix, t5_error *err)
{
    t5_lexeme tag = {.kind = kind, .offset = (uint32_t)l->pos};
    if (!read_tag(l, prefix, &tag)) {
        tag.kind = T5_LEX_OTHER;
        tag.n_bytes = (uint32_t)(l->n_bytes - tag.offset);
        return push(l, tag, err);
    }
    const unsigned flags = flags_of(l, &tag);
    tag.is_block = (flags & BLOCK) != 0;
    tag.is_opaque |= (flags & OPAQUE) != 0;
    tag.is_invisible = (flags & HIDDEN) != 0;
    if ((flags & VOID) != 0 && tag.kind == T5_LEX_OPEN) tag.kind = T5_LEX_EMPTY;
    t5_status status = push(l, tag, err);
    if (status != T5_OK || (flags & RAW) == 0 || tag.kind != T5_LEX_OPEN) return status;
    const size_t begin = l->pos;
    l->pos = find_raw_end(l, &tag);
    return push_text(l, begin, l->pos, err);
}

/* The "<" at `pos` begins a tag or the like; else it is only a character. */
static bool is_markup(const lexer *l, size_t pos)
{
    const char next = pos + 1 < l->n_bytes ? l->source[pos + 1] : '\0';
    return begins_name(l, pos + 1) || next == '!' || next == '?' || (next == '/' && begins_name(l, pos + 2));
}

static t5_status lex_markup(lexer *l, t5_error *err)
{
    if (begins_name(l, l->pos + 1)) return lex_tag(l, T5_LEX_OPEN, 1, err);
    if (l->source[l->pos + 1] == '/') return lex_tag(l, T5_LEX_CLOSE, 2, err);
    t5_lexeme other = {.kind = T5_LEX_OTHER, .offset = (uint32_t)l->pos};
    other.has_text = l->is_xml && has_at(l, l->pos, "<![CDATA[");
    l->pos = end_of_other(l, l->pos);
    other.n_bytes = (uint32_t)l->pos - other.offset;
    return push(l, other, err);
}

t5_status t5_lexemes_read(const char *source, size_t n_bytes, t5_markup_kind kind, t5_lexemes *out, t5_error *err)
{
    t5_status status = T5_OK;
    lexer l = {.source = source, .n_bytes = n_bytes, .is_xml = kind == T5_MARKUP_XML, .out = out};
    size_t text = 0; /* where the text that was not pushed begins */
    *out = (t5_lexemes){0};
    if (n_bytes >= UINT32_MAX) return T5_FAIL(err, T5_ERR_ARG, "the text has 4 GiB or more");
    for (const char *found; l.pos < n_bytes && (found = memchr(source + l.pos, '<', n_bytes - l.pos)) != NULL;) {
        l.pos = (size_t)(found - source);
        if (!is_markup(&l, l.pos)) {
            l.pos++;
            continue;
        }
        T5_TRY(push_text(&l, text, l.pos, err));
        T5_TRY(lex_markup(&l, err));
        text = l.pos;
    }
    T5_TRY(push_text(&l, text, n_bytes, err));
out:
    return status;
}

void t5_lexemes_deinit(t5_lexemes *lexemes)
{
    free(lexemes->items);
    *lexemes = (t5_lexemes){0};
}
