/* text/sentences_apart.c: takes placeholders and pictures out of sentences. What is left of a sentence is translated in
 * parts: worse than as a whole, but nothing can happen to the placeholder. Marks between a part and the placeholder are
 * copied with it, since a model drops or doubles them where a sentence does not begin or end. */
#include "text/pictures.h"
#include "text/placeholders.h"
#include "text/sentence_push.h"
#include "text/sentence_rules.h"

typedef struct {
    const char *text;
    bool (*is_apart)(const char *thing, size_t n_bytes, void *ctx);
    void *ctx;
    t5_sentences *out;
} parter;

/* The next placeholder or picture of a sentence that is to stand apart. */
static bool next_apart(const parter *p, const char *sentence, size_t n_bytes, size_t from, t5_placeholder *out)
{
    for (size_t pos = from, length; pos < n_bytes; pos += length) {
        length = t5_placeholder_at(sentence, n_bytes, pos);
        if (length == 0 && p->is_apart != NULL) length = t5_picture_at(sentence, n_bytes, pos);
        *out = (t5_placeholder){.offset = pos, .n_bytes = length};
        if (length > 0 && (p->is_apart == NULL || p->is_apart(sentence + pos, length, p->ctx))) return true;
        if (length == 0) length = 1;
    }
    return false;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The other placeholders of a part, which no mark is taken from: where the first begins and the last ends. Without any
 * the whole part is free. */
static void find_kept(const char *part, size_t n_bytes, size_t *out_begin, size_t *out_end)
{
    t5_placeholder found = {0};
    *out_begin = n_bytes;
    *out_end = 0;
    while (t5_placeholder_next(part, n_bytes, found.offset + found.n_bytes, &found)) {
        *out_begin = smaller(*out_begin, found.offset);
        *out_end = found.offset + found.n_bytes;
    }
}

/* text[offset .. offset + n_bytes), with a placeholder before it, behind it, or both. */
static t5_status push_part(const parter *p, size_t offset, size_t n_bytes, bool is_behind, bool is_before,
                           t5_error *err)
{
    t5_status status = T5_OK;
    const char *part = p->text + offset;
    const size_t first = p->out->n_spans;
    size_t kept_begin, kept_end;
    find_kept(part, n_bytes, &kept_begin, &kept_end);
    const size_t n_lead = is_behind ? smaller(t5_leading_joints(part, n_bytes), kept_begin) : 0;
    const size_t n_trail =
        is_before ? smaller(t5_trailing_joints(part + n_lead, n_bytes - n_lead), n_bytes - kept_end) : 0;
    T5_TRY(t5_sentences_push(p->out, offset, n_lead, false, err));
    T5_TRY(t5_sentences_push_trimmed(p->out, p->text, offset + n_lead, n_bytes - n_lead - n_trail, false, err));
    if (is_before) t5_sentences_mark_parts(p->out, first);
    T5_TRY(t5_sentences_push(p->out, offset + n_bytes - n_trail, n_trail, false, err));
out:
    return status;
}

static t5_status part_span(const parter *p, const t5_span *span, t5_error *err)
{
    t5_status status = T5_OK;
    const char *sentence = p->text + span->offset;
    t5_placeholder found;
    size_t pos = 0;
    while (next_apart(p, sentence, span->n_bytes, pos, &found)) {
        T5_TRY(push_part(p, span->offset + pos, found.offset - pos, pos > 0, true, err));
        T5_TRY(t5_sentences_push(p->out, span->offset + found.offset, found.n_bytes, false, err));
        pos = found.offset + found.n_bytes;
    }
    if (pos == 0) return t5_sentences_push(p->out, span->offset, span->n_bytes, true, err);
    T5_TRY(push_part(p, span->offset + pos, span->n_bytes - pos, true, false, err));
out:
    return status;
}

t5_status t5_sentences_set_apart(const char *text, bool (*is_apart)(const char *thing, size_t n_bytes, void *ctx),
                                 void *ctx, t5_sentences *sentences, t5_error *err)
{
    t5_status status = T5_OK;
    t5_sentences result = {0};
    const parter p = {.text = text, .is_apart = is_apart, .ctx = ctx, .out = &result};
    for (size_t i = 0; i < sentences->n_spans; i++) {
        const t5_span *span = &sentences->spans[i];
        if (span->is_text)
            T5_TRY(part_span(&p, span, err));
        else
            T5_TRY(t5_sentences_push(&result, span->offset, span->n_bytes, false, err));
    }
    t5_sentences_deinit(sentences);
    *sentences = result;
    result = (t5_sentences){0}; /* handed to the caller */
out:
    t5_sentences_deinit(&result);
    return status;
}
