/* text/sentences_cut.c: cuts sentences that are too long for the model.
 *
 * The longest prefix that fits is found by doubling and halving from a small guess, so that each question costs about
 * what one part costs, however long the text is. The cut is then the last clause mark in that prefix, unless it stands
 * in its first third; else the last space; else the last border between grapheme clusters. Where that would split a
 * placeholder the cut moves before it. */
#include "base/assert.h"
#include "base/utf8.h"
#include "text/placeholders.h"
#include "text/sentence_push.h"

#include <unicode/ubrk.h>
#include <unicode/utext.h>

#define GUESS_BYTES 256

typedef struct {
    const char *text;
    bool (*fits)(const char *part, size_t n_bytes, void *ctx);
    void *ctx;
    UBreakIterator *clusters; /* opened when it is needed */
    UText *utext;
    t5_sentences *out;
} cutter;

static bool fits(const cutter *c, const char *part, size_t n_bytes)
{
    return c->fits(part, n_bytes, c->ctx);
}

/* Length of the longest prefix of whole characters that fits, by the guess that longer never fits better; may be 0. */
static size_t longest_fit(const cutter *c, const char *part, size_t n_bytes)
{
    size_t good = 0, bad = n_bytes + 1;

    for (size_t probe = GUESS_BYTES; good < n_bytes && bad > n_bytes; probe *= 2) {
        size_t length = t5_utf8_cut(part, n_bytes, probe);
        if (fits(c, part, length))
            good = length;
        else
            bad = length;
    }
    while (bad - good > 1) {
        size_t length = t5_utf8_cut(part, n_bytes, good + (bad - good) / 2);
        if (length == good) { /* no character starts in the lower half: take the next one */
            uint32_t code;
            length = good + t5_utf8_next(part + good, n_bytes - good, &code);
            if (length >= bad) break;
        }
        if (fits(c, part, length))
            good = length;
        else
            bad = length;
    }
    return good;
}

/* Clause marks of CJK text, after which no space stands. */
static bool is_wide_mark(uint32_t code)
{
    return code == 0x3001 || code == 0x3002 || code == 0xFF0C || code == 0xFF1B || code == 0xFF1A || code == 0xFF01 ||
           code == 0xFF1F;
}

/* Marks that end a clause when white space follows: , ; : . ! ? dashes, the Arabic comma and semicolon, danda. */
static bool is_narrow_mark(uint32_t code)
{
    return code == ',' || code == ';' || code == ':' || code == '.' || code == '!' || code == '?' || code == '-' ||
           code == ')' || code == 0x2013 || code == 0x2014 || code == 0x2026 || code == 0x060C || code == 0x061B ||
           code == 0x0964;
}

/* Where to cut a part of which `n_fit` bytes fit: after the last clause mark, or before the last space. 0: nowhere. */
static size_t cut_at_mark_or_space(const char *part, size_t n_bytes, size_t n_fit)
{
    size_t mark_cut = 0, space_cut = 0;
    uint32_t code = 0, before;

    for (size_t pos = 0; pos <= n_fit && pos < n_bytes;) {
        const size_t n_held = t5_placeholder_at(part, n_bytes, pos);
        if (n_held > 0) {
            pos += n_held;
            code = 0;
            continue;
        }
        before = code;
        size_t length = t5_utf8_next(part + pos, n_bytes - pos, &code);
        if (t5_utf8_is_space(code) && pos > 0) {
            space_cut = pos;
            if (is_narrow_mark(before)) mark_cut = pos;
        }
        pos += length;
        if (is_wide_mark(code) && pos <= n_fit) mark_cut = pos;
    }
    return mark_cut > 0 && mark_cut >= n_fit / 3 ? mark_cut : space_cut > 0 ? space_cut : mark_cut;
}

/* The last cluster border at or before `n_fit`, at least one cluster. */
static t5_status cut_at_cluster(cutter *c, const char *part, size_t n_bytes, size_t n_fit, size_t *out, t5_error *err)
{
    UErrorCode code = U_ZERO_ERROR;

    if (c->clusters == NULL) c->clusters = ubrk_open(UBRK_CHARACTER, "en", NULL, 0, &code);
    c->utext = utext_openUTF8(c->utext, part, (int64_t)n_bytes, &code);
    if (U_SUCCESS(code)) ubrk_setUText(c->clusters, c->utext, &code);
    if (U_FAILURE(code)) return T5_FAIL(err, T5_ERR_NOMEM, "sentences: ICU: %s", u_errorName(code));
    int32_t end = n_fit >= n_bytes ? (int32_t)n_bytes : ubrk_preceding(c->clusters, (int32_t)n_fit + 1);
    if (end == UBRK_DONE || end == 0) end = ubrk_following(c->clusters, 0);
    *out = end == UBRK_DONE ? n_bytes : (size_t)end;
    return T5_OK;
}

/* Length of the next piece of a part that does not fit as a whole. */
static t5_status next_cut(cutter *c, const char *part, size_t n_bytes, size_t n_fit, size_t *out, t5_error *err)
{
    t5_status status = T5_OK;
    size_t cut = cut_at_mark_or_space(part, n_bytes, n_fit);

    /* Tokens of a prefix may differ from those of the whole, so what was cut off is asked about again. */
    while (cut > 0 && !fits(c, part, cut))
        cut = cut_at_mark_or_space(part, n_bytes, cut - 1);
    for (bool is_found = cut > 0; !is_found; n_fit = cut - 1) {
        T5_TRY(cut_at_cluster(c, part, n_bytes, n_fit, &cut, err));
        is_found = cut > n_fit || fits(c, part, cut);
    }
    *out = cut;
out:
    return status;
}

/* The placeholder of part[0 .. n_bytes) that a cut would split. False: none. Looks at no more than what is cut off: the
 * rest of a long text comes up again with each of its pieces. */
static bool find_split(const char *part, size_t n_bytes, size_t cut, t5_placeholder *out)
{
    for (size_t pos = 0; pos < cut;) {
        const size_t n = t5_placeholder_at(part, n_bytes, pos);
        *out = (t5_placeholder){.offset = pos, .n_bytes = n};
        pos += n > 0 ? n : 1;
        if (pos > cut) return true;
    }
    return false;
}

/* Length of the next piece of a part: all of it when it fits. A cut inside a placeholder moves before it; one that
 * begins the part is a piece for itself, which is copied. */
static t5_status next_piece(cutter *c, const char *part, size_t n_bytes, size_t *out, bool *out_is_copied,
                            t5_error *err)
{
    t5_placeholder split = {0};
    *out_is_copied = false;
    for (size_t limit = n_bytes;; limit = split.offset) {
        size_t cut = longest_fit(c, part, limit);
        if (cut < limit) {
            const t5_status status = next_cut(c, part, limit, cut, &cut, err);
            if (status != T5_OK) return status;
        }
        *out = cut;
        if (!find_split(part, n_bytes, cut, &split)) return T5_OK;
        if (split.offset > 0) continue;
        *out = split.n_bytes;
        *out_is_copied = true;
        return T5_OK;
    }
}

static t5_status cut_span(cutter *c, const t5_span *span, t5_error *err)
{
    t5_status status = T5_OK;
    size_t pos = span->offset, end = span->offset + span->n_bytes;

    while (pos < end) {
        size_t n_bytes = 0;
        bool is_copied = false;
        T5_TRY(next_piece(c, c->text + pos, end - pos, &n_bytes, &is_copied, err));
        T5_ASSERT(n_bytes > 0 && n_bytes <= end - pos);
        const size_t first = c->out->n_spans;
        if (is_copied)
            T5_TRY(t5_sentences_push(c->out, pos, n_bytes, false, err));
        else
            T5_TRY(t5_sentences_push_trimmed(c->out, c->text, pos, n_bytes, false, err));
        pos += n_bytes;
        if (pos < end || span->is_part) t5_sentences_mark_parts(c->out, first);
    }
out:
    return status;
}

static t5_status keep_span(cutter *c, const t5_span *span, t5_error *err)
{
    const size_t first = c->out->n_spans;
    const t5_status status = t5_sentences_push(c->out, span->offset, span->n_bytes, true, err);
    if (status == T5_OK && span->is_part) t5_sentences_mark_parts(c->out, first);
    return status;
}

t5_status t5_sentences_cut(const char *text, bool (*fits_function)(const char *part, size_t n_bytes, void *ctx),
                           void *ctx, t5_sentences *sentences, t5_error *err)
{
    t5_status status = T5_OK;
    t5_sentences result = {0};
    cutter c = {.text = text, .fits = fits_function, .ctx = ctx, .out = &result};

    for (size_t i = 0; i < sentences->n_spans; i++) {
        const t5_span *span = &sentences->spans[i];
        if (!span->is_text)
            T5_TRY(t5_sentences_push(&result, span->offset, span->n_bytes, false, err));
        else if (fits(&c, text + span->offset, span->n_bytes))
            T5_TRY(keep_span(&c, span, err));
        else
            T5_TRY(cut_span(&c, span, err));
    }
    t5_sentences_deinit(sentences);
    *sentences = result;
    result = (t5_sentences){0}; /* handed to the caller */
out:
    utext_close(c.utext);
    ubrk_close(c.clusters);
    t5_sentences_deinit(&result);
    return status;
}
