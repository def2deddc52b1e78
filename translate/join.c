/* translate/join.c: see join.h. The one thing that is added to the source's own separators is a space where two
 * sentences touch, as they do in Chinese, and the target is written with spaces. The one thing that is taken away is a
 * dot at the end of a part of a sentence. */
#include "translate/join.h"

#include "base/utf8.h"
#include "translate/marked.h"

#include <string.h>

/* Languages whose sentences stand without a space between them. */
static const char *const unspaced[] = {"zh", "zh-Hans", "zh-Hant", "ja", "yue", "th", "lo", "km", "my", "bo", "dz"};

static bool is_unspaced(const char *code)
{
    for (size_t i = 0; i < T5_COUNT(unspaced); i++)
        if (strcmp(code, unspaced[i]) == 0) return true;
    return false;
}

/* Two sentences touch, and the first does not end in ASCII: a cut inside a long string of ASCII gets no space. */
bool t5_join_needs_space(const t5_text *text, const t5_plan *plan, size_t i_span)
{
    if (i_span == 0 || plan->units[i_span] < 0 || plan->units[i_span - 1] < 0) return false;
    const unsigned char last = (unsigned char)text->text[plan->sentences.spans[i_span].offset - 1];
    return last >= 0x80 && !is_unspaced(plan->route.target);
}

/* The full stop of Chinese and Japanese. */
#define WIDE_DOT "\xE3\x80\x82"
#define WIDE_DOT_BYTES 3

/* Bytes of the dot at the end, 0 without one. */
static size_t last_dot(const char *text, size_t n_bytes)
{
    if (n_bytes > 0 && text[n_bytes - 1] == '.') return 1;
    const bool is_wide =
        n_bytes >= WIDE_DOT_BYTES && memcmp(text + n_bytes - WIDE_DOT_BYTES, WIDE_DOT, WIDE_DOT_BYTES) == 0;
    return is_wide ? WIDE_DOT_BYTES : 0;
}

size_t t5_join_bytes(const char *text, const t5_span *span, const char *translation, size_t n_bytes)
{
    const bool drops_dots = span->is_part && last_dot(text + span->offset, span->n_bytes) == 0;
    for (size_t n_end = 1; n_end > 0; n_bytes -= n_end) {
        n_end = t5_utf8_trailing_space(translation, n_bytes);
        if (n_end == 0 && drops_dots) n_end = last_dot(translation, n_bytes);
    }
    return n_bytes;
}

static const t5_result *result_of(const t5_unit *unit, int32_t i_result)
{
    return &unit->results[i_result < unit->n_results ? i_result : unit->n_results - 1];
}

/* Puts the sentences and what stands between them together. */
static t5_status join_plain(const t5_text *text, const t5_plan *plan, const t5_units *units, int32_t i_result,
                            t5_buffer *out, t5_error *err)
{
    t5_status status = T5_OK;
    for (size_t i = 0; i < plan->sentences.n_spans; i++) {
        const t5_span *span = &plan->sentences.spans[i];
        if (t5_join_needs_space(text, plan, i)) T5_TRY(t5_buffer_append(out, " ", 1, err));
        if (plan->units[i] < 0) {
            T5_TRY(t5_buffer_append(out, text->text + span->offset, span->n_bytes, err));
        } else {
            const t5_result *result = result_of(&units->units[plan->units[i]], i_result);
            const size_t n_bytes = t5_join_bytes(text->text, span, result->text, result->n_bytes);
            T5_TRY(t5_buffer_append(out, result->text, n_bytes, err));
        }
    }
    if (plan->sentences.n_spans == 0) status = t5_buffer_append(out, text->text, text->n_bytes, err);
out:
    return status;
}

/* Markup has one translation; i_result does not matter. */
t5_status t5_join(const t5_text *text, const t5_plan *plan, const t5_units *units, int32_t i_result, char **out,
                  size_t *out_bytes, t5_error *err)
{
    t5_buffer joined = {0};
    t5_status status = plan->markup != NULL ? t5_marked_join(plan, units, &joined, err)
                                            : join_plain(text, plan, units, i_result, &joined, err);
    if (status == T5_OK) status = t5_buffer_append(&joined, "", 1, err);
    if (status != T5_OK) {
        t5_buffer_deinit(&joined);
        return status;
    }
    *out = joined.bytes;
    *out_bytes = joined.n_bytes - 1;
    return T5_OK;
}
