/* text/words.c: see words.h. */
#include "text/words.h"
#include "base/utf8.h"
#include "text/placeholders.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>

#define PLACEHOLDER 0xFFFCu /* what counts as the character before one's end: a sign */

typedef enum { SPACE, LETTER, ALONE, EXTENDS, SIGN } char_class;

static bool is_alone(uint32_t code)
{
    if (code < 0x0E00) return false;
    UErrorCode error = U_ZERO_ERROR;
    switch (uscript_getScript((UChar32)code, &error)) {
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_THAI:
    case USCRIPT_LAO:
    case USCRIPT_KHMER:
    case USCRIPT_MYANMAR:
    case USCRIPT_TIBETAN:
        return true;
    default:
        return false;
    }
}

static char_class class_of(uint32_t code)
{
    if (t5_utf8_is_space(code)) return SPACE;
    if (code == '_' || u_isalnum((UChar32)code)) return is_alone(code) ? ALONE : LETTER;
    const uint32_t mask = U_GET_GC_MASK((UChar32)code);
    return (mask & (U_GC_M_MASK | U_GC_CF_MASK)) != 0 ? EXTENDS : SIGN;
}

/* Signs that are part of a word when letters stand on both sides: "don't", "well-known", "3.5". */
static bool joins(uint32_t code)
{
    return code == '\'' || code == 0x2019 || code == '-' || code == 0x2010 || code == '.' || code == ',';
}

static bool joins_letters(uint32_t code, uint32_t before, const char *after, size_t n_after)
{
    uint32_t next;
    if (!joins(code) || n_after == 0) return false;
    t5_utf8_next(after, n_after, &next);
    if (code == '.' || code == ',') return u_isdigit((UChar32)before) && u_isdigit((UChar32)next);
    return class_of(next) == LETTER;
}

static t5_status push(t5_words *w, t5_word word, t5_error *err)
{
    if (w->n_items == w->capacity) {
        const int32_t capacity = w->capacity == 0 ? 32 : 2 * w->capacity;
        t5_word *items = realloc(w->items, (size_t)capacity * sizeof *items);
        if (items == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d words", capacity);
        w->items = items;
        w->capacity = capacity;
    }
    w->items[w->n_items++] = word;
    return T5_OK;
}

t5_status t5_words_find(const char *text, size_t n_bytes, t5_words *out, t5_error *err)
{
    uint32_t before = ' '; /* the character before `pos` */
    bool is_joined = false;
    *out = (t5_words){.text = text};
    for (size_t pos = 0, length; pos < n_bytes; pos += length) {
        uint32_t code;
        length = t5_placeholder_at(text, n_bytes, pos);
        if (length > 0) {
            const t5_status status = push(out, (t5_word){(uint32_t)pos, (uint32_t)(pos + length), false}, err);
            if (status != T5_OK) return status;
            before = PLACEHOLDER;
            is_joined = false;
            continue;
        }
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        const char_class class = class_of(code), last = class_of(before);
        const bool joins_on =
            class == SIGN && last == LETTER && joins_letters(code, before, text + pos + length, n_bytes - pos - length);
        const bool goes_on = out->n_items > 0 && last != SPACE &&
                             (class == EXTENDS || (class == LETTER && (last == LETTER || is_joined)) || joins_on ||
                              (class == SIGN && code == before));
        is_joined = joins_on;
        if (goes_on) {
            out->items[out->n_items - 1].end = (uint32_t)(pos + length);
        } else if (class != SPACE) {
            const t5_word word = {(uint32_t)pos, (uint32_t)(pos + length), class == SIGN || class == EXTENDS};
            const t5_status status = push(out, word, err);
            if (status != T5_OK) return status;
        }
        if (class != EXTENDS || last == SPACE) before = code;
    }
    return T5_OK;
}

void t5_words_deinit(t5_words *w)
{
    free(w->items);
    *w = (t5_words){0};
}

int32_t t5_words_ending_after(const t5_words *w, size_t pos)
{
    int32_t low = 0, high = w->n_items;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (w->items[middle].end <= pos)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t t5_words_beginning_at(const t5_words *w, size_t pos)
{
    const int32_t i = t5_words_ending_after(w, pos);
    return i < w->n_items && w->items[i].begin < pos ? i + 1 : i;
}

/* ---- alignment ---- */

/* A word with its text, to be sorted by it. */
typedef struct {
    const char *text;
    uint32_t n_bytes;
    int32_t i_word;
    bool is_sign;
} spelled;

static int compare_texts(const spelled *a, const spelled *b)
{
    if (a->n_bytes != b->n_bytes) return a->n_bytes < b->n_bytes ? -1 : 1;
    return memcmp(a->text, b->text, a->n_bytes);
}

static int compare_spelled(const void *a, const void *b)
{
    const spelled *x = a, *y = b;
    const int order = compare_texts(x, y);
    return order != 0 ? order : (x->i_word > y->i_word) - (x->i_word < y->i_word);
}

static void spell(const t5_words *w, spelled *out)
{
    for (int32_t i = 0; i < w->n_items; i++) {
        const t5_word *word = &w->items[i];
        out[i] = (spelled){w->text + word->begin, word->end - word->begin, i, word->is_sign};
    }
    qsort(out, (size_t)w->n_items, sizeof *out, compare_spelled);
}

/* First of the sorted words behind `i` that is spelled otherwise. */
static int32_t end_of_run(const spelled *sorted, int32_t n, int32_t i)
{
    int32_t end = i + 1;
    while (end < n && compare_texts(&sorted[i], &sorted[end]) == 0)
        end++;
    return end;
}

/* Words that stand once on both sides, and signs that stand equally often, in their order. Marks these words of the
 * source in `is_anchored`. */
static void anchor(const spelled *source, int32_t n_source, const spelled *target, int32_t n_target, int32_t *out,
                   bool *is_anchored)
{
    for (int32_t i = 0, j = 0; i < n_source && j < n_target;) {
        const int order = compare_texts(&source[i], &target[j]);
        const int32_t i_end = end_of_run(source, n_source, i), j_end = end_of_run(target, n_target, j);
        const bool is_equal = order == 0 && i_end - i == j_end - j && (i_end - i == 1 || source[i].is_sign);
        for (int32_t k = 0; is_equal && k < i_end - i; k++) {
            out[target[j + k].i_word] = source[i + k].i_word;
            is_anchored[source[i + k].i_word] = true;
        }
        if (order <= 0) i = i_end;
        if (order >= 0) j = j_end;
    }
}

/* The word of the source that most of the link's bytes belong to, or -1. */
static int32_t linked_word(const t5_words *source, const t5_text_link *link)
{
    int32_t best = -1;
    uint32_t best_bytes = 0;
    for (int32_t i = t5_words_ending_after(source, link->source_begin);
         i < source->n_items && source->items[i].begin < link->source_end; i++) {
        const t5_word *w = &source->items[i];
        const uint32_t begin = w->begin > link->source_begin ? w->begin : link->source_begin;
        const uint32_t end = w->end < link->source_end ? w->end : link->source_end;
        if (end - begin > best_bytes) {
            best = i;
            best_bytes = end - begin;
        }
    }
    return best;
}

/* Each link votes for its source word with the bytes that it has of a target word; the first of the best wins. A word
 * that has its partner already is nobody else's. Votes are all 0 before and after. */
static void vote(const t5_words *source, const t5_words *target, const t5_text_link *links, size_t n_links,
                 const bool *is_anchored, uint32_t *votes, int32_t *out)
{
    size_t first = 0;
    for (int32_t j = 0; j < target->n_items; j++) {
        const t5_word *w = &target->items[j];
        int32_t best = -1;
        while (first < n_links && links[first].target_end <= w->begin)
            first++;
        for (size_t k = first; k < n_links && links[k].target_begin < w->end; k++) {
            const int32_t i = linked_word(source, &links[k]);
            const uint32_t begin = w->begin > links[k].target_begin ? w->begin : links[k].target_begin;
            const uint32_t end = w->end < links[k].target_end ? w->end : links[k].target_end;
            if (i < 0 || end <= begin) continue;
            votes[i] += end - begin;
            if (best < 0 || votes[i] > votes[best]) best = i;
        }
        if (out[j] < 0 && best >= 0 && !is_anchored[best]) out[j] = best;
        for (size_t k = first; k < n_links && links[k].target_begin < w->end; k++) {
            const int32_t i = linked_word(source, &links[k]);
            if (i >= 0) votes[i] = 0;
        }
    }
}

/* Words between two that have partners are spread evenly over the words between these; the ends of the sentences count
 * as partners. Signs are left alone, and so is what has nothing between its partners. */
static void spread(const t5_words *source, const t5_words *target, int32_t *out)
{
    const int32_t n = target->n_items;
    int32_t i_before = -1;
    for (int32_t j = 0; j < n;) {
        int32_t j_after = j;
        while (j_after < n && out[j_after] < 0)
            j_after++;
        const int32_t i_after = j_after < n ? out[j_after] : source->n_items;
        const int64_t n_free = i_after - i_before - 1, n_gap = j_after - j;
        for (int64_t k = 0; k < n_gap && n_free > 0; k++)
            if (!target->items[j + k].is_sign) out[j + k] = i_before + 1 + (int32_t)(k * n_free / n_gap);
        i_before = i_after;
        j = j_after + 1;
    }
}

t5_status t5_words_align(const t5_words *source, const t5_words *target, const t5_text_link *links, size_t n_links,
                         int32_t *out, t5_error *err)
{
    t5_status status = T5_OK;
    const size_t n_source = (size_t)source->n_items, n_target = (size_t)target->n_items;
    spelled *sorted = malloc((n_source + n_target + 1) * sizeof *sorted);
    uint32_t *votes = calloc(n_source + 1, sizeof *votes);
    bool *is_anchored = calloc(n_source + 1, sizeof *is_anchored);
    if (sorted == NULL || votes == NULL || is_anchored == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%zu words", n_source + n_target);
        goto out;
    }
    for (size_t j = 0; j < n_target; j++)
        out[j] = -1;
    spell(source, sorted);
    spell(target, sorted + n_source);
    anchor(sorted, source->n_items, sorted + n_source, target->n_items, out, is_anchored);
    if (n_links > 0) vote(source, target, links, n_links, is_anchored, votes, out);
    if (n_links == 0 && n_source > 0) spread(source, target, out);
out:
    free(sorted);
    free(votes);
    free(is_anchored);
    return status;
}
