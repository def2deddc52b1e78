/* text/sentences.c: see sentences.h. A text is lines and line ends; a line is sentences, found by ICU and corrected by
 * sentence_rules.c, and what stands around them. Spans without letters are copied, not translated: a model makes
 * something up for them. */
#include "text/sentences.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "text/placeholders.h"
#include "text/sentence_push.h"
#include "text/sentence_rules.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/ubrk.h>
#include <unicode/utext.h>

typedef struct {
    const char *text;
    const char *language; /* of the text, or NULL */
    UBreakIterator *iterator;
    UText *utext;
    t5_sentences *out;
} splitter;

t5_status t5_sentences_push(t5_sentences *s, size_t offset, size_t n_bytes, bool is_text, t5_error *err)
{
    if (n_bytes == 0) return T5_OK;
    t5_span *last = s->n_spans > 0 ? &s->spans[s->n_spans - 1] : NULL;
    if (last != NULL && !last->is_text && !is_text) {
        last->n_bytes += n_bytes; /* neighbours that are copied are one span */
        return T5_OK;
    }
    if (s->n_spans == s->capacity) {
        size_t capacity = s->capacity == 0 ? 16 : 2 * s->capacity;
        t5_span *spans = realloc(s->spans, capacity * sizeof *spans);
        if (spans == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "sentences: %zu spans", capacity);
        s->spans = spans;
        s->capacity = capacity;
    }
    s->spans[s->n_spans++] = (t5_span){.offset = offset, .n_bytes = n_bytes, .is_text = is_text};
    return T5_OK;
}

void t5_sentences_mark_parts(t5_sentences *s, size_t first)
{
    for (size_t i = first; i < s->n_spans; i++)
        s->spans[i].is_part = s->spans[i].is_text;
}

t5_status t5_sentences_push_trimmed(t5_sentences *s, const char *text, size_t offset, size_t n_bytes,
                                    bool is_line_start, t5_error *err)
{
    t5_status status = T5_OK;
    size_t lead = t5_leading_marks(text + offset, n_bytes, is_line_start);
    size_t trail = lead < n_bytes ? t5_trailing_marks(text + offset + lead, n_bytes - lead) : 0;
    size_t core = offset + lead, core_bytes = n_bytes - lead - trail;
    bool is_text = t5_has_letter(text + core, core_bytes);

    T5_TRY(t5_sentences_push(s, offset, lead, false, err));
    T5_TRY(t5_sentences_push(s, core, core_bytes, is_text, err));
    T5_TRY(t5_sentences_push(s, core + core_bytes, trail, false, err));
out:
    return status;
}

static t5_status icu_error(UErrorCode code, t5_error *err)
{
    return T5_FAIL(err, code == U_MEMORY_ALLOCATION_ERROR ? T5_ERR_NOMEM : T5_ERR_IO, "sentences: ICU: %s",
                   u_errorName(code));
}

/* Ends the sentence at b->end if it is one there. *hold: the placeholder that ends last among those looked at. */
static t5_status end_sentence(splitter *s, size_t offset, t5_break *b, t5_placeholder *hold, t5_error *err)
{
    while (hold->offset + hold->n_bytes <= b->end)
        if (!t5_placeholder_next(b->line, b->n_bytes, hold->offset + hold->n_bytes, hold))
            *hold = (t5_placeholder){.offset = b->n_bytes, .n_bytes = 1};
    if (hold->offset < b->end || !t5_break_is_real(b)) return T5_OK;
    const size_t start = b->start;
    b->start = b->end;
    return t5_sentences_push_trimmed(s->out, s->text, offset + start, b->end - start, start == 0, err);
}

/* Ends sentences at those places behind `from` and up to `end` that are sentence ends. */
static t5_status end_sentences(splitter *s, size_t offset, size_t from, size_t end, t5_break *b, t5_placeholder *hold,
                               t5_error *err)
{
    for (size_t hidden; from < end; from = hidden) {
        b->end = end;
        b->end = hidden = t5_break_hidden(b, from);
        const t5_status status = end_sentence(s, offset, b, hold, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* Has ICU look at a line. Opened for the first line that needs it. */
static t5_status open_line(splitter *s, const char *line, size_t n_bytes, t5_error *err)
{
    UErrorCode code = U_ZERO_ERROR;
    const char *language = s->language != NULL ? s->language : "en";
    if (s->iterator == NULL) s->iterator = ubrk_open(UBRK_SENTENCE, language, NULL, 0, &code);
    if (U_FAILURE(code)) return icu_error(code, err);
    s->utext = utext_openUTF8(s->utext, line, (int64_t)n_bytes, &code);
    ubrk_setUText(s->iterator, s->utext, &code);
    return U_FAILURE(code) ? icu_error(code, err) : T5_OK;
}

/* Splits the line text[offset .. offset + n_bytes), which has no line end. */
static t5_status split_line(splitter *s, size_t offset, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    const char *line = s->text + offset;
    t5_break b = {.line = line, .n_bytes = n_bytes, .language = s->language};
    t5_placeholder hold = {0};
    size_t looked_at = 0;

    if (!t5_has_letter(line, n_bytes)) return t5_sentences_push(s->out, offset, n_bytes, false, err);
    if (t5_break_is_at_end(line, n_bytes)) {
        T5_TRY(end_sentences(s, offset, 0, n_bytes, &b, &hold, err));
    } else {
        T5_TRY(open_line(s, line, n_bytes, err));
        for (int32_t end; (end = ubrk_next(s->iterator)) != UBRK_DONE; looked_at = (size_t)end)
            T5_TRY(end_sentences(s, offset, looked_at, (size_t)end, &b, &hold, err));
    }
    T5_ASSERT(b.start == n_bytes);
out:
    return status;
}

/* Length of the line end at `text`: CR LF, LF, CR, VT, FF, NEL, line and paragraph separator. 0: none. */
static size_t line_end_bytes(const char *text, size_t n_bytes)
{
    uint32_t code;
    size_t length = t5_utf8_next(text, n_bytes, &code);
    if (code == '\r' && n_bytes > 1 && text[1] == '\n') return 2;
    return t5_utf8_is_line_end(code) ? length : 0;
}

static t5_status split_lines(splitter *s, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    size_t start = 0, pos = 0;
    uint32_t code;

    while (pos < n_bytes) {
        size_t end_bytes = line_end_bytes(s->text + pos, n_bytes - pos);
        if (end_bytes == 0) {
            pos += t5_utf8_next(s->text + pos, n_bytes - pos, &code);
            continue;
        }
        T5_TRY(split_line(s, start, pos - start, err));
        T5_TRY(t5_sentences_push(s->out, pos, end_bytes, false, err));
        start = pos += end_bytes;
    }
    T5_TRY(split_line(s, start, n_bytes - start, err));
out:
    return status;
}

/* Looks at the text as one line: a copy in which each line end is as many spaces. So all offsets are those of the text.
 */
static t5_status split_marks(splitter *s, size_t n_bytes, t5_error *err)
{
    const char *text = s->text;
    char *line = malloc(n_bytes + 1);
    if (line == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "sentences: a text of %zu bytes", n_bytes);
    memcpy(line, text, n_bytes);
    for (size_t pos = 0, length = 0; pos < n_bytes; pos += length) {
        uint32_t code;
        const size_t end_bytes = line_end_bytes(text + pos, n_bytes - pos);
        memset(line + pos, ' ', end_bytes);
        length = end_bytes > 0 ? end_bytes : t5_utf8_next(text + pos, n_bytes - pos, &code);
    }
    s->text = line;
    const t5_status status = split_line(s, 0, n_bytes, err);
    s->text = text;
    free(line);
    return status;
}

static t5_status split_at(splitter *s, size_t n_bytes, t5_split how, t5_error *err)
{
    if (how == T5_SPLIT_NOWHERE) return t5_sentences_push_trimmed(s->out, s->text, 0, n_bytes, true, err);
    return how == T5_SPLIT_MARKS ? split_marks(s, n_bytes, err) : split_lines(s, n_bytes, err);
}

t5_status t5_sentences_split(const char *text, size_t n_bytes, const char *language, t5_split how, t5_sentences *out,
                             t5_error *err)
{
    t5_status status = T5_OK;
    t5_sentences sentences = {0};
    splitter s = {.text = text, .language = language, .out = &sentences};

    if (n_bytes > INT32_MAX) return T5_FAIL(err, T5_ERR_ARG, "sentences: a text of %zu bytes is too long", n_bytes);
    T5_TRY(split_at(&s, n_bytes, how, err));
    *out = sentences;
    sentences = (t5_sentences){0}; /* handed to the caller */
out:
    utext_close(s.utext);
    ubrk_close(s.iterator);
    t5_sentences_deinit(&sentences);
    return status;
}

void t5_sentences_deinit(t5_sentences *s)
{
    free(s->spans);
    *s = (t5_sentences){0};
}
