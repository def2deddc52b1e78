/* tests/markup_rig.c: see markup_rig.h. The steps are those of translate/: parse, split, translate, write. */
#include "tests/markup_rig.h"

#include "base/assert.h"
#include "text/markup_write.h"
#include "text/sentences.h"
#include "text/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define SENTENCE_BYTES_MAX 600

typedef struct {
    t5_buffer text;
    t5_text_link *links;
    size_t n_links;
} translation;

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void append(t5_buffer *b, const char *bytes, size_t n_bytes)
{
    t5_error err = {0};
    T5_ASSERT(t5_buffer_append(b, bytes, n_bytes, &err) == T5_OK);
}

/* Word i of the source as the next one of the target. */
static void add_word(translation *t, const char *sentence, const t5_words *words, int32_t i, t5_rig_mode mode,
                     uint64_t *random)
{
    const t5_word *w = &words->items[i];
    const bool moves = mode == RIG_REVERSED || mode == RIG_RANDOM;
    const bool has_space = w->begin > 0 && sentence[w->begin - 1] == ' ';
    if (t->text.n_bytes > 0 && (has_space || (moves && !w->is_sign))) append(&t->text, " ", 1);
    t5_text_link link = {w->begin, w->end, (uint32_t)t->text.n_bytes, 0};
    if (mode == RIG_RANDOM) {
        const t5_word *other = &words->items[next_random(random) % (uint32_t)words->n_items];
        link.source_begin = other->begin;
        link.source_end = next_random(random) % 4 == 0 ? other->begin : other->end;
    }
    for (uint32_t k = w->begin; k < w->end; k++) {
        char c = (char)toupper((unsigned char)sentence[k]);
        if (mode == RIG_OTHER && c >= 'A' && c <= 'Z') c = 'z';
        append(&t->text, &c, 1);
    }
    link.target_end = (uint32_t)t->text.n_bytes;
    if (mode == RIG_UNLINKED || mode == RIG_OTHER) return;
    t->links[t->n_links++] = link;
}

static void translate(const char *sentence, size_t n_bytes, t5_rig_mode mode, translation *out)
{
    t5_words words;
    t5_error err = {0};
    T5_ASSERT(t5_words_find(sentence, n_bytes, &words, &err) == T5_OK);
    uint64_t random = n_bytes;
    for (size_t i = 0; i < n_bytes; i++)
        random = random * 31 + (unsigned char)sentence[i];
    const int32_t n = words.n_items, n_end = n > 0 && words.items[n - 1].is_sign;
    out->links = calloc((size_t)n + 1, sizeof *out->links);
    T5_ASSERT(out->links != NULL);
    const bool turns = mode == RIG_REVERSED || (mode == RIG_RANDOM && n % 2 == 0);
    for (int32_t i = 0; i < n; i++)
        add_word(out, sentence, &words, turns && i < n - n_end ? n - n_end - 1 - i : i, mode, &random);
    t5_words_deinit(&words);
}

/* A model reads no more at once. */
static bool fits(const char *part, size_t n_bytes, void *ctx)
{
    (void)part;
    (void)ctx;
    return n_bytes <= SENTENCE_BYTES_MAX;
}

static bool is_said(const char *character, size_t n_bytes, void *ctx)
{
    (void)ctx;
    return n_bytes == 1 && strchr("&<>{}", character[0]) == NULL;
}

/* Begin of the first sentence behind span `i`. */
static size_t next_sentence(const t5_sentences *s, size_t i, size_t plain_bytes)
{
    for (size_t k = i + 1; k < s->n_spans; k++)
        if (s->spans[k].is_text) return s->spans[k].offset;
    return plain_bytes;
}

t5_status t5_rig_translate(const char *source, size_t n_bytes, const t5_markup_options *options, t5_rig_mode mode,
                           bool is_poor, t5_buffer *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_markup m = {0};
    t5_sentences s = {0};
    const t5_alphabet poor = {is_said, NULL};
    T5_TRY(t5_markup_parse(source, n_bytes, options, &m, err));
    if (is_poor) T5_TRY(t5_markup_keep(&m, &poor, err));
    T5_TRY(t5_sentences_split(m.plain, m.plain_bytes, "en", T5_SPLIT_LINES, &s, err));
    T5_TRY(t5_sentences_cut(m.plain, fits, NULL, &s, err));
    t5_markup_writer w = {.markup = &m, .out = out};
    for (size_t i = 0; i < s.n_spans; i++) {
        const t5_span *span = &s.spans[i];
        if (!span->is_text) continue;
        translation t = {0};
        translate(m.plain + span->offset, span->n_bytes, mode, &t);
        const t5_marked_sentence sentence = {.begin = span->offset,
                                             .end = span->offset + span->n_bytes,
                                             .next = next_sentence(&s, i, m.plain_bytes),
                                             .target = t.text.bytes,
                                             .target_bytes = t.text.n_bytes,
                                             .links = t.links,
                                             .n_links = t.n_links};
        status = t5_markup_write_sentence(&w, &sentence, err);
        t5_buffer_deinit(&t.text);
        free(t.links);
        if (status != T5_OK) goto out;
    }
    T5_TRY(t5_markup_write_rest(&w, err));
out:
    t5_sentences_deinit(&s);
    t5_markup_deinit(&m);
    return status;
}
