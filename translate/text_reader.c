/* translate/text_reader.c: see text_reader.h. Twin of join.c, which has all results at once. */
#include "translate/text_reader.h"

#include "base/utf8.h"
#include "translate/join.h"
#include "translate/marked.h"

void t5_text_reader_deinit(t5_text_reader *r)
{
    t5_live_reader_deinit(&r->reader);
    t5_buffer_deinit(&r->held);
}

/* What is held goes out but for its ends: white space at the start never belongs to a sentence, what t5_join_bytes()
 * leaves out at the end only when more follows. */
static t5_status release_held(t5_text_reader *r, const t5_text *text, const t5_span *span, t5_buffer *out,
                              t5_error *err)
{
    if (!r->has_text) t5_buffer_drop(&r->held, t5_utf8_leading_space(r->held.bytes, r->held.n_bytes));
    const size_t n_bytes = t5_join_bytes(text->text, span, r->held.bytes, r->held.n_bytes);
    const t5_status status = t5_buffer_append(out, r->held.bytes, n_bytes, err);
    if (status != T5_OK) return status;
    r->has_text |= n_bytes > 0;
    t5_buffer_drop(&r->held, n_bytes);
    return T5_OK;
}

static t5_status begin_span(t5_text_reader *r, const t5_text *text, const t5_plan *plan, const t5_units *units,
                            t5_buffer *out, t5_error *err)
{
    r->is_begun = true;
    r->has_text = false;
    r->held.n_bytes = 0;
    if (plan->units[r->i_span] >= 0) {
        t5_live_reader_deinit(&r->reader);
        t5_live_reader_init(&r->reader, units->tokenizer);
    }
    return t5_join_needs_space(text, plan, r->i_span) ? t5_buffer_append(out, " ", 1, err) : T5_OK;
}

/* A sentence that is told when it is over, all at once. One that failed never is. */
static t5_status read_held(const t5_unit *unit, const t5_text *text, const t5_span *span, t5_buffer *out,
                           bool *out_is_over, t5_error *err)
{
    *out_is_over = atomic_load(&unit->live.is_over) && unit->live.seq.error.status == T5_OK;
    if (!*out_is_over) return T5_OK;
    const t5_result *result = &unit->results[0];
    return t5_buffer_append(out, result->text, t5_join_bytes(text->text, span, result->text, result->n_bytes), err);
}

/* What is new of the current span. */
static t5_status read_span(t5_text_reader *r, const t5_text *text, const t5_plan *plan, t5_units *units, t5_buffer *out,
                           bool *out_is_over, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_span *span = &plan->sentences.spans[r->i_span];
    const int32_t i_unit = plan->units[r->i_span];
    if (!r->is_begun) T5_TRY(begin_span(r, text, plan, units, out, err));
    if (i_unit < 0) {
        *out_is_over = true;
        return t5_buffer_append(out, text->text + span->offset, span->n_bytes, err);
    }
    t5_unit *unit = &units->units[i_unit];
    if (unit->live.is_held) return read_held(unit, text, span, out, out_is_over, err);
    const size_t n_before = r->held.n_bytes;
    T5_TRY(t5_live_read(&r->reader, &unit->live, &r->held, out_is_over, err));
    if (r->held.n_bytes > n_before) t5_utf8_flatten(r->held.bytes + n_before, r->held.n_bytes - n_before);
    T5_TRY(release_held(r, text, span, out, err));
out:
    return status;
}

/* A tag may stand anywhere in its sentence until that is whole; and nothing is taken back. */
static t5_status read_marked(const t5_plan *plan, const t5_units *units, t5_buffer *out, bool *out_is_over,
                             t5_error *err)
{
    *out_is_over = t5_marked_is_over(plan, units);
    return *out_is_over ? t5_marked_join(plan, units, out, err) : T5_OK;
}

t5_status t5_text_read(t5_text_reader *r, const t5_text *text, const t5_plan *plan, t5_units *units, t5_buffer *out,
                       bool *out_is_over, t5_error *err)
{
    const size_t n_spans = plan->sentences.n_spans;
    *out_is_over = true;
    if (n_spans == 0) return t5_buffer_append(out, text->text, text->n_bytes, err);
    if (plan->markup != NULL) return read_marked(plan, units, out, out_is_over, err);
    while (r->i_span < n_spans) {
        const t5_status status = read_span(r, text, plan, units, out, out_is_over, err);
        if (status != T5_OK || !*out_is_over) return status;
        r->i_span++;
        r->is_begun = false;
    }
    return T5_OK;
}
