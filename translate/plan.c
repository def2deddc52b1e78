/* translate/plan.c: see plan.h. Most texts have no sentence that is too long; so the sentences are tokenized first, and
 * only when one does not fit are they cut and looked at again. */
#include "translate/plan.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "text/pictures.h"
#include "text/placeholders.h"
#include "translate/marked.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    t5_planning *planning;
    const t5_pair *pair; /* of sentences that are cut */
    t5_status status;    /* the first failure, which a bool cannot pass on */
    t5_error *err;
} plan_ctx;

/* Looked at before each sentence and part of one is tokenized: a text of 2 MB that has no end of a sentence is cut at a
 * thousand places, each of which takes several tries. */
static t5_status check_time(const t5_planning *planning, t5_error *err)
{
    if (planning->deadline_ms == 0 || t5_clock_ms() <= planning->deadline_ms) return T5_OK;
    return T5_FAIL(err, T5_ERR_TIMEOUT, "the deadline passed");
}

static bool fits(const char *part, size_t n_bytes, void *ctx)
{
    plan_ctx *p = ctx;
    t5_units *units = p->planning->units;
    int32_t n_ids = 0;
    if (p->status != T5_OK) return true;
    if (t5_units_is_too_wide(units, n_bytes)) return false;
    p->status = check_time(p->planning, p->err);
    if (p->status == T5_OK) p->status = t5_units_count(units, p->pair, part, n_bytes, &n_ids, p->err);
    return p->status != T5_OK || n_ids <= units->ids_max;
}

/* Finds the unit of each sentence. *out_fits is false when one of them is too long. */
static t5_status link_units(const t5_planning *planning, const t5_text *text, t5_plan *plan, bool *out_fits,
                            t5_error *err)
{
    t5_units *units = planning->units;
    const t5_sentences *s = &plan->sentences;
    free(plan->units);
    plan->units = malloc((s->n_spans + 1) * sizeof *plan->units);
    if (plan->units == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu spans of a text", s->n_spans);
    *out_fits = true;
    for (size_t i = 0; i < s->n_spans; i++) {
        const t5_span *span = &s->spans[i];
        plan->units[i] = -1;
        if (!span->is_text) continue;
        t5_status status = check_time(planning, err);
        if (status == T5_OK)
            status =
                t5_units_get(units, plan->route.pair, text->text + span->offset, span->n_bytes, &plan->units[i], err);
        if (status != T5_OK) return status;
        if (units->units[plan->units[i]].is_too_long) *out_fits = false;
    }
    return T5_OK;
}

static t5_status cut_sentences(t5_planning *planning, const t5_text *text, t5_plan *plan, t5_error *err)
{
    plan_ctx p = {.planning = planning, .pair = plan->route.pair, .err = err};
    const t5_status status = t5_sentences_cut(text->text, fits, &p, &plan->sentences, err);
    return p.status != T5_OK ? p.status : status;
}

static t5_saying ask(plan_ctx *p, const char *text, size_t n_bytes)
{
    t5_saying how = T5_SAID;
    if (p->status == T5_OK) p->status = t5_sayings_ask(&p->planning->sayings, text, n_bytes, &how, p->err);
    return how;
}

/* Asked by character: of pictures that touch there are endless ones. */
static bool is_strange_picture(plan_ctx *p, const char *picture, size_t n_bytes)
{
    uint32_t code;
    for (size_t pos = 0, length; pos < n_bytes; pos += length) {
        length = t5_utf8_next(picture + pos, n_bytes - pos, &code);
        if (ask(p, picture + pos, length) != T5_SAID) return true;
    }
    return false;
}

/* True for a placeholder that the model cannot say, as T5 has no braces, and for a picture that it would have to spell
 * in bytes, unless pictures are held. */
static bool is_unspeakable(const char *thing, size_t n_bytes, void *ctx)
{
    plan_ctx *p = ctx;
    if (t5_picture_at(thing, n_bytes, 0) == 0) return ask(p, thing, n_bytes) == T5_UNSAID;
    const bool is_apart = !p->planning->holds_pictures && is_strange_picture(p, thing, n_bytes);
    p->planning->has_pictures |= is_apart;
    return is_apart;
}

static t5_status set_apart(t5_planning *planning, const t5_text *text, t5_plan *plan, t5_error *err)
{
    plan_ctx p = {.planning = planning, .err = err};
    const t5_status status = t5_sentences_set_apart(text->text, is_unspeakable, &p, &plan->sentences, err);
    return p.status != T5_OK ? p.status : status;
}

/* Why a text does not fit even when it is cut: the limit is too small for the prompt, or for a character. */
static t5_status explain_too_long(t5_units *units, const t5_pair *pair, t5_error *err)
{
    int32_t n_prompt = 0;
    const t5_status status = t5_units_count(units, pair, "", 0, &n_prompt, err);
    if (status != T5_OK) return status;
    if (n_prompt >= units->ids_max)
        return T5_FAIL(err, T5_ERR_ARG, "the model's prompt has %d tokens, a sentence with it may have %d", n_prompt,
                       units->ids_max);
    return T5_FAIL(err, T5_ERR_ARG, "the text has a character of more than %d tokens", units->ids_max);
}

static t5_status split_text(const t5_text *text, t5_split split, t5_plan *plan, t5_error *err)
{
    if (plan->markup != NULL) return t5_marked_split(plan, split, err);
    return t5_sentences_split(text->text, text->n_bytes, plan->route.source, split, &plan->sentences, err);
}

static void use_unit(t5_unit *unit)
{
    t5_placeholder first;
    unit->is_used = true;
    unit->has_placeholders = t5_placeholder_next(unit->text, unit->n_bytes, 0, &first);
}

t5_status t5_plan_make(t5_planning *planning, const t5_text *text, t5_plan *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_units *units = planning->units;
    bool all_fit = true;
    t5_text plain = *text;
    *out = (t5_plan){0};
    const size_t n_valid = t5_utf8_valid_prefix(text->text, text->n_bytes);
    if (n_valid < text->n_bytes) return T5_FAIL(err, T5_ERR_ARG, "the text is not valid UTF-8 at byte %zu", n_valid);
    if (text->markup != NULL) T5_TRY(t5_marked_open(text, &planning->sayings, out, &plain, err));
    T5_TRY(t5_route_find(planning->translator, &plain, &out->route, err));
    if (out->route.pair == NULL) goto out;

    T5_TRY(split_text(&plain, planning->split, out, err));
    T5_TRY(set_apart(planning, &plain, out, err));
    T5_TRY(link_units(planning, &plain, out, &all_fit, err));
    if (!all_fit) {
        T5_TRY(cut_sentences(planning, &plain, out, err));
        T5_TRY(link_units(planning, &plain, out, &all_fit, err));
    }
    if (!all_fit) {
        status = explain_too_long(units, out->route.pair, err);
        goto out;
    }
    for (size_t i = 0; i < out->sentences.n_spans; i++)
        if (out->units[i] >= 0) use_unit(&units->units[out->units[i]]);
    if (out->markup != NULL) status = t5_marked_locate(out, units, err);
out:
    return status;
}

void t5_plan_deinit(t5_plan *plan)
{
    if (plan->markup != NULL) t5_markup_deinit(plan->markup);
    free(plan->markup);
    t5_sentences_deinit(&plan->sentences);
    free(plan->units);
    *plan = (t5_plan){0};
}
