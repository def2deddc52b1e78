/* translate/marked.c: see marked.h. */
#include "translate/marked.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "text/markup_write.h"
#include "translate/join.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    t5_sayings *sayings;
    t5_status status; /* the first failure */
    t5_error *err;
} say_ctx;

/* Models hardly ever learn to copy what they have to spell in bytes. */
static bool can_say(const char *character, size_t n_bytes, void *ctx)
{
    say_ctx *say = ctx;
    t5_saying how = T5_SAID;
    if (say->status == T5_OK) say->status = t5_sayings_ask(say->sayings, character, n_bytes, &how, say->err);
    return how == T5_SAID;
}

t5_status t5_marked_open(const t5_text *text, t5_sayings *sayings, t5_plan *plan, t5_text *out_plain, t5_error *err)
{
    t5_markup *m = calloc(1, sizeof *m);
    if (m == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "markup: %zu bytes", sizeof *m);
    plan->markup = m; /* released with the plan */
    say_ctx say = {.sayings = sayings, .err = err};
    const t5_alphabet alphabet = {can_say, &say};
    t5_status status = t5_markup_parse(text->text, text->n_bytes, text->markup, m, err);
    if (status == T5_OK) status = t5_markup_keep(m, &alphabet, err);
    if (say.status != T5_OK) status = say.status;
    if (status != T5_OK) return status;
    *out_plain = *text;
    out_plain->text = m->plain;
    out_plain->n_bytes = m->plain_bytes;
    return T5_OK;
}

/* ---- sentences ---- */

static t5_status append_spans(t5_sentences *to, const t5_sentences *from, size_t offset, t5_error *err)
{
    const size_t n_spans = to->n_spans + from->n_spans;
    if (n_spans > to->capacity) {
        const size_t capacity = 2 * n_spans;
        t5_span *spans = realloc(to->spans, capacity * sizeof *spans);
        if (spans == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu spans of a text", capacity);
        to->spans = spans;
        to->capacity = capacity;
    }
    for (size_t i = 0; i < from->n_spans; i++) {
        to->spans[to->n_spans] = from->spans[i];
        to->spans[to->n_spans++].offset += offset;
    }
    return T5_OK;
}

/* plain[begin .. end) lies between two tags that end a sentence; its last byte is the line end that stands for the
 * second, unless the text ends without one. */
static t5_status split_block(t5_plan *plan, size_t begin, size_t end, t5_split split, t5_error *err)
{
    t5_status status = T5_OK;
    const char *plain = plan->markup->plain;
    const bool has_end = plain[end - 1] == '\n';
    const size_t n_bytes = end - begin - has_end;
    t5_sentences block = {0};
    t5_span line_end = {.offset = n_bytes, .n_bytes = 1};
    const t5_sentences gap = {.spans = &line_end, .n_spans = has_end};
    if (n_bytes > 0) T5_TRY(t5_sentences_split(plain + begin, n_bytes, plan->route.source, split, &block, err));
    T5_TRY(append_spans(&plan->sentences, &block, begin, err));
    T5_TRY(append_spans(&plan->sentences, &gap, begin, err));
out:
    t5_sentences_deinit(&block);
    return status;
}

t5_status t5_marked_split(t5_plan *plan, t5_split split, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_markup *m = plan->markup;
    size_t begin = 0;
    if (split == T5_SPLIT_LINES)
        return t5_sentences_split(m->plain, m->plain_bytes, plan->route.source, split, &plan->sentences, err);
    for (int32_t i = 0; i < m->n_marks; i++) {
        const size_t end = m->marks[i].at;
        if (m->marks[i].kind != T5_MARK_BREAK || end == begin) continue;
        T5_TRY(split_block(plan, begin, end, split, err));
        begin = end;
    }
    if (begin < m->plain_bytes) T5_TRY(split_block(plan, begin, m->plain_bytes, split, err));
out:
    return status;
}

t5_status t5_marked_locate(const t5_plan *plan, t5_units *units, t5_error *err)
{
    for (size_t i = 0; i < plan->sentences.n_spans; i++) {
        const t5_span *span = &plan->sentences.spans[i];
        if (plan->units[i] < 0) continue;
        if (!t5_markup_has_marks(plan->markup, span->offset, span->offset + span->n_bytes)) continue;
        const t5_status status = t5_units_locate(units, plan->units[i], err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* ---- the translation ---- */

/* The best translation of a unit, and where its words come from. */
typedef struct {
    t5_result decoded; /* when the unit has no results yet */
    const t5_result *result;
    t5_text_link *links;
    size_t n_links;
} spoken;

static void deinit_spoken(spoken *s)
{
    free(s->decoded.text);
    free(s->links);
}

static uint32_t behind(uint32_t pos, size_t start)
{
    return pos > start ? pos - (uint32_t)start : 0;
}

/* Bytes of white space before an output's text, and of all its text. */
static t5_status measure(const t5_units *units, const t5_output *output, size_t *out_leading, size_t *out_bytes,
                         t5_error *err)
{
    char *text = NULL;
    const t5_status status = t5_tokenizer_decode(units->tokenizer, output->ids, output->n_ids, &text, out_bytes, err);
    if (status != T5_OK) return status;
    *out_leading = t5_utf8_leading_space(text, *out_bytes);
    free(text);
    return T5_OK;
}

/* A link for each token of the output that looks at a token of the sentence. */
static t5_status link_tokens(const t5_units *units, const t5_unit *unit, spoken *s, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_output *output = s->result->output;
    const size_t prompt_bytes = strlen(unit->pair->prompt), n_ids = (size_t)output->n_ids;
    size_t n_leading = 0, n_bytes = 0;
    t5_token_span *targets = malloc((n_ids + 1) * sizeof *targets);
    s->links = malloc((n_ids + 1) * sizeof *s->links);
    if (targets == NULL || s->links == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%zu tokens", n_ids);
        goto out;
    }
    T5_TRY(measure(units, output, &n_leading, &n_bytes, err));
    T5_TRY(t5_tokenizer_decode_spans(units->tokenizer, output->ids, output->n_ids, n_bytes, targets, err));
    for (size_t i = 0; i < n_ids; i++) {
        const int32_t i_source = output->alignment[i];
        if (i_source < 0 || i_source >= unit->n_ids) continue;
        const t5_token_span *source = &unit->spans[i_source];
        s->links[s->n_links++] = (t5_text_link){.source_begin = behind(source->begin, prompt_bytes),
                                                .source_end = behind(source->end, prompt_bytes),
                                                .target_begin = behind(targets[i].begin, n_leading),
                                                .target_end = behind(targets[i].end, n_leading)};
    }
out:
    free(targets);
    return status;
}

/* What was put together from parts has no links. */
static t5_status speak(const t5_units *units, const t5_unit *unit, spoken *out, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_sequence *seq = &unit->live.seq;
    *out = (spoken){.result = &unit->results[0]};
    if (unit->results == NULL) {
        T5_ASSERT(seq->error.status == T5_OK && seq->n_outputs > 0);
        status = t5_result_decode(units->tokenizer, &seq->outputs[0], &out->decoded, err);
        if (status != T5_OK) return status;
        out->result = &out->decoded;
    }
    const t5_output *output = out->result->output;
    const bool is_aligned = unit->spans != NULL && output != NULL && output->alignment != NULL;
    return is_aligned ? link_tokens(units, unit, out, err) : T5_OK;
}

/* Where the next sentence behind span `i` begins. */
static size_t next_sentence(const t5_plan *plan, size_t i)
{
    for (size_t k = i + 1; k < plan->sentences.n_spans; k++)
        if (plan->units[k] >= 0) return plan->sentences.spans[k].offset;
    return plan->markup->plain_bytes;
}

static t5_status write_span(t5_markup_writer *w, const t5_plan *plan, const t5_units *units, size_t i, t5_error *err)
{
    const t5_span *span = &plan->sentences.spans[i];
    const t5_text plain = {.text = plan->markup->plain, .n_bytes = plan->markup->plain_bytes};
    spoken s = {0};
    t5_status status = speak(units, &units->units[plan->units[i]], &s, err);
    if (status != T5_OK) goto out;
    const t5_marked_sentence sentence = {.begin = span->offset,
                                         .end = span->offset + span->n_bytes,
                                         .next = next_sentence(plan, i),
                                         .needs_space = t5_join_needs_space(&plain, plan, i),
                                         .target = s.result->text,
                                         .target_bytes =
                                             t5_join_bytes(plain.text, span, s.result->text, s.result->n_bytes),
                                         .links = s.links,
                                         .n_links = s.n_links};
    status = t5_markup_write_sentence(w, &sentence, err);
out:
    deinit_spoken(&s);
    return status;
}

bool t5_marked_is_over(const t5_plan *plan, const t5_units *units)
{
    for (size_t i = 0; i < plan->sentences.n_spans; i++) {
        if (plan->units[i] < 0) continue;
        const t5_live_sequence *live = &units->units[plan->units[i]].live;
        if (!atomic_load(&live->is_over) || live->seq.error.status != T5_OK) return false;
    }
    return true;
}

t5_status t5_marked_join(const t5_plan *plan, const t5_units *units, t5_buffer *out, t5_error *err)
{
    t5_markup_writer w = {.markup = plan->markup, .out = out};
    for (size_t i = 0; i < plan->sentences.n_spans; i++) {
        if (plan->units[i] < 0) continue;
        const t5_status status = write_span(&w, plan, units, i, err);
        if (status != T5_OK) return status;
    }
    return t5_markup_write_rest(&w, err);
}
