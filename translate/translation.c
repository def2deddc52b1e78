/* translate/translation.c: one request: plan each text, submit the different sentences as one group, wait for the last
 * of them, put the texts together. See translator.h for the order of calls and their threads. */
#include "translate/translator.h"

#include "base/assert.h"
#include "base/clock.h"
#include "translate/join.h"
#include "translate/second_round.h"
#include "translate/text_reader.h"
#include "translate/translator_internal.h"

#include <stdlib.h>
#include <string.h>

/* Output limit of a sentence when the client sets none: translations are rarely twice as long as their source. A limit
 * in the model's folder does not know the sentence: it would cut long ones and let short ones loop. */
#define NEW_TOKENS_PER_SOURCE_TOKEN 2
#define NEW_TOKENS_EXTRA 32

typedef struct {
    t5_text text;
    t5_plan plan;
    t5_translated result;
    t5_text_reader reader;
    bool is_read; /* to its end */
} text_state;

struct t5_translation {
    t5_translator *translator;
    t5_translation_request request; /* texts is not kept */
    text_state *texts;              /* [request.n_texts] */
    t5_units units;
    t5_live live;
    t5_second_round second_round;
    int32_t n_results_wanted; /* per sentence */
    int32_t n_read;           /* texts before this one were read to their end */
    t5_buffer piece;          /* what t5_translation_read() gave last */
};

/* ---- start ---- */

/* Results of a sentence: the translation and the alternatives. */
static int32_t n_results_of(const t5_translation_request *r)
{
    const int32_t n = 1 + (r->n_alternatives > 0 ? r->n_alternatives : 0);
    return n < T5_BEAMS_MAX ? n : T5_BEAMS_MAX;
}

/* Enough results for the alternatives: more beams when there are too few, more samples when sampling. */
static void ask_for_results(t5_decoding *d, int32_t n_results)
{
    d->num_return_sequences = n_results;
    if (!d->do_sample && d->num_beams >= 1 && d->num_beams < n_results) d->num_beams = n_results;
}

int32_t t5_new_tokens_max(int32_t n_source_tokens)
{
    return NEW_TOKENS_PER_SOURCE_TOKEN * n_source_tokens + NEW_TOKENS_EXTRA;
}

static int32_t max_new_tokens_of(const t5_translation_request *r, int32_t n_ids)
{
    const t5_decoding *d = &r->decoding;
    if (r->has_max_new_tokens) return d->max_new_tokens; /* too many: the engine says so */
    int32_t wanted = t5_new_tokens_max(n_ids);
    if (wanted < d->min_new_tokens) wanted = d->min_new_tokens;
    return wanted < d->max_new_tokens ? wanted : d->max_new_tokens;
}

/* Beams and samples that only alternatives need are as many as leave room to others, with so long a sentence: fewer
 * alternatives are no error. Beams that the client or the model asks for stay. */
static void fit_rows(const t5_translator *t, const t5_translation_request *r, int32_t n_ids, t5_decoding *d)
{
    if (r->n_alternatives <= 0) return;
    int32_t n_max = t5_engine_rows_fair(t->engine, n_ids, 0, d->max_new_tokens);
    if (n_max < r->decoding.num_beams) n_max = r->decoding.num_beams;
    if (d->num_beams > n_max) d->num_beams = n_max;
    if (d->num_return_sequences > n_max) d->num_return_sequences = n_max;
}

void t5_translation_fill(const t5_translator *t, const t5_translation_request *r, const t5_pair *pair, int32_t *ids,
                         int32_t n_ids, t5_sequence *out)
{
    out->input_ids = ids;
    out->n_input_ids = n_ids;
    out->decoding = r->decoding;
    out->decoding.max_new_tokens = max_new_tokens_of(r, n_ids);
    ask_for_results(&out->decoding, n_results_of(r));
    fit_rows(t, r, n_ids, &out->decoding);
    out->vocab_live = t->vocab_live;
    out->shortlist = t5_translator_shortlist(t, pair);
    out->deadline_ms = r->deadline_ms;
}

/* Submits the sentences; with none to translate the request is done at once. */
static t5_status submit(t5_translation *tr, t5_error *err)
{
    int32_t n_seqs = 0;
    t5_live_sequence **seqs = malloc(((size_t)tr->units.n_units + 1) * sizeof(t5_live_sequence *));
    if (seqs == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d sentences", tr->units.n_units);
    for (int32_t i = 0; i < tr->units.n_units; i++) {
        t5_unit *unit = &tr->units.units[i];
        if (!unit->is_used) continue;
        t5_translation_fill(tr->translator, &tr->request, unit->pair, unit->ids, unit->n_ids, &unit->live.seq);
        unit->live.is_held = unit->has_placeholders;
        seqs[n_seqs++] = &unit->live;
    }
    const t5_translation_request *r = &tr->request;
    tr->live = (t5_live){.on_progress = r->on_progress,
                         .on_done = r->on_done,
                         .ctx = r->ctx,
                         .takes = t5_second_round_takes,
                         .takes_ctx = &tr->second_round};
    const t5_status status = t5_live_submit(&tr->live, tr->translator->engine, seqs, n_seqs, err);
    free(seqs);
    return status;
}

static t5_status plan_each(t5_translation *tr, t5_planning *planning, t5_error *err)
{
    const t5_translator *t = tr->translator;
    t5_units_init(&tr->units, t->tokenizer, t->sentence_tokens_max, t->sentences_max);
    for (int32_t i = 0; i < tr->request.n_texts; i++) {
        text_state *s = &tr->texts[i];
        const t5_status status = t5_plan_make(planning, &s->text, &s->plan, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* No request is refused for its pictures: where the sentences have become too many by their parts, it is planned again
 * without. */
static t5_status plan_texts(t5_translation *tr, const t5_text *texts, t5_error *err)
{
    const int64_t start_ns = t5_clock_ns();
    const int32_t n_texts = tr->request.n_texts;
    t5_planning planning = {.translator = tr->translator,
                            .split = tr->request.split,
                            .deadline_ms = tr->request.deadline_ms,
                            .units = &tr->units,
                            .sayings = {.tokenizer = tr->translator->tokenizer}};
    tr->texts = calloc((size_t)n_texts + 1, sizeof *tr->texts);
    if (tr->texts == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d texts", n_texts);
    for (int32_t i = 0; i < n_texts; i++)
        tr->texts[i].text = texts[i];
    t5_status status = plan_each(tr, &planning, err);
    if (tr->units.is_full && planning.has_pictures) {
        for (int32_t i = 0; i < n_texts; i++)
            t5_plan_deinit(&tr->texts[i].plan);
        t5_units_deinit(&tr->units);
        t5_error_clear(err);
        planning.holds_pictures = true;
        status = plan_each(tr, &planning, err);
    }
    if (status == T5_OK) t5_histogram_add(&tr->translator->tokenize_ns, t5_clock_ns() - start_ns);
    return status;
}

t5_status t5_translation_start(t5_translator *t, const t5_translation_request *request, t5_translation **out,
                               t5_error *err)
{
    t5_status status = T5_OK;
    T5_ASSERT(request->n_texts >= 0 && request->on_done != NULL);
    if (t5_engine_check_room(t->engine, request->deadline_ms, err) != T5_OK) return err->status;
    t5_translation *tr = calloc(1, sizeof *tr);
    if (tr == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "translation: %zu bytes", sizeof *tr);

    tr->translator = t;
    tr->request = *request;
    tr->request.texts = NULL;
    tr->n_results_wanted = n_results_of(request);
    const t5_retry_context context = {.translator = t, .request = &tr->request, .units = &tr->units};
    t5_second_round_init(&tr->second_round, &context);
    if (!request->has_max_new_tokens) tr->request.decoding.max_new_tokens = t->engine_options.tgt_len_max - 1;
    t5_decoding decoding = tr->request.decoding;
    ask_for_results(&decoding, tr->n_results_wanted);
    T5_TRY(t5_decoding_check(&decoding, t->hparams.vocab_size, err));
    T5_TRY(plan_texts(tr, request->texts, err));
    *out = tr; /* before on_done, which may come at once */
    T5_TRY(submit(tr, err));
    tr = NULL; /* handed to the caller, maybe gone */
out:
    if (tr != NULL) *out = NULL;
    t5_translation_destroy(tr);
    return status;
}

/* ---- read along ---- */

t5_status t5_translation_read(t5_translation *tr, t5_piece *out, t5_error *err)
{
    T5_ASSERT(tr->request.on_progress != NULL);
    *out = (t5_piece){0};
    tr->piece.n_bytes = 0;
    for (int32_t i = tr->n_read; i < tr->request.n_texts; i++) {
        text_state *s = &tr->texts[i];
        if (s->is_read) continue;
        const t5_status status = t5_text_read(&s->reader, &s->text, &s->plan, &tr->units, &tr->piece, &s->is_read, err);
        if (status != T5_OK) return status;
        if (s->is_read && tr->n_read == i) tr->n_read++;
        if (tr->piece.n_bytes == 0) continue;
        *out = (t5_piece){.i_text = i, .bytes = tr->piece.bytes, .n_bytes = tr->piece.n_bytes};
        return T5_OK;
    }
    return T5_OK;
}

/* ---- finish ---- */

static bool says(const t5_alternative *a, const char *text, size_t n_bytes)
{
    return a->n_bytes == n_bytes && memcmp(a->text, text, n_bytes) == 0;
}

/* No alternative so far, and not the translation. */
static bool is_new(const t5_translated *result, const t5_alternative *a)
{
    if (a->n_bytes == 0 || says(a, result->text, result->n_bytes)) return false;
    for (int32_t i = 0; i < result->n_alternatives; i++)
        if (says(a, result->alternatives[i].text, result->alternatives[i].n_bytes)) return false;
    return true;
}

/* The k-th alternative joins the k-th result of each sentence. */
static t5_status join_alternatives(const t5_translation *tr, text_state *s, t5_error *err)
{
    t5_translated *result = &s->result;
    result->alternatives = calloc((size_t)tr->n_results_wanted, sizeof *result->alternatives);
    if (result->alternatives == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d alternatives", tr->n_results_wanted - 1);
    for (int32_t k = 1; k < tr->n_results_wanted; k++) {
        t5_alternative joined = {0};
        const t5_status status = t5_join(&s->text, &s->plan, &tr->units, k, &joined.text, &joined.n_bytes, err);
        if (status != T5_OK) return status;
        if (is_new(result, &joined))
            result->alternatives[result->n_alternatives++] = joined;
        else
            free(joined.text);
    }
    return T5_OK;
}

static t5_status finish_text(const t5_translation *tr, text_state *s, t5_error *err)
{
    char *joined = NULL;
    t5_status status = t5_join(&s->text, &s->plan, &tr->units, 0, &joined, &s->result.n_bytes, err);
    if (status != T5_OK) return status;
    s->result.text = joined;
    s->result.detected = s->plan.route.detected;
    s->result.confidence = s->plan.route.confidence;
    bool is_translated = false;
    for (size_t i = 0; i < s->plan.sentences.n_spans; i++) {
        if (s->plan.units[i] < 0) continue;
        const t5_unit *unit = &tr->units.units[s->plan.units[i]];
        is_translated = true;
        s->result.is_truncated |= unit->results[0].is_truncated;
    }
    return is_translated ? join_alternatives(tr, s, err) : T5_OK;
}

t5_status t5_translation_finish(t5_translation *tr, t5_error *err)
{
    const int64_t start_ns = t5_clock_ns();
    T5_ASSERT(atomic_load(&tr->live.n_left) == 0);
    for (int32_t i = 0; i < tr->units.n_units; i++) {
        if (!tr->units.units[i].is_used) continue;
        const t5_status status = t5_unit_decode(tr->translator->tokenizer, &tr->units.units[i], err);
        if (status != T5_OK) return status;
    }
    for (int32_t i = 0; i < tr->request.n_texts; i++) {
        const t5_status status = finish_text(tr, &tr->texts[i], err);
        if (status != T5_OK) return status;
    }
    t5_histogram_add(&tr->translator->detokenize_ns, t5_clock_ns() - start_ns);
    return T5_OK;
}

const t5_translated *t5_translation_get(const t5_translation *tr, int32_t i_text)
{
    T5_ASSERT(i_text >= 0 && i_text < tr->request.n_texts);
    return &tr->texts[i_text].result;
}

void t5_translation_usage(const t5_translation *tr, t5_usage *out)
{
    T5_ASSERT(atomic_load(&tr->live.n_left) == 0);
    *out = (t5_usage){0};
    for (int32_t i = 0; i < tr->units.n_units; i++) {
        const t5_unit *unit = &tr->units.units[i];
        if (unit->is_used) t5_usage_add(out, &unit->live.seq);
        for (int32_t k = 0; unit->retry != NULL && k < unit->retry->n_seqs; k++)
            t5_usage_add(out, &unit->retry->seqs[k]);
    }
}

void t5_translation_cancel(t5_translation *tr)
{
    for (int32_t i = 0; i < tr->units.n_units; i++)
        atomic_store(&tr->units.units[i].live.seq.is_cancelled, true);
    t5_second_round_cancel(&tr->second_round);
}

void t5_translation_destroy(t5_translation *tr)
{
    if (tr == NULL) return;
    for (int32_t i = 0; tr->texts != NULL && i < tr->request.n_texts; i++) {
        text_state *s = &tr->texts[i];
        for (int32_t k = 0; k < s->result.n_alternatives; k++)
            free(s->result.alternatives[k].text);
        free(s->result.alternatives);
        free((char *)s->result.text);
        t5_text_reader_deinit(&s->reader);
        t5_plan_deinit(&s->plan);
    }
    free(tr->texts);
    t5_second_round_deinit(&tr->second_round);
    t5_units_deinit(&tr->units);
    t5_live_deinit(&tr->live);
    t5_buffer_deinit(&tr->piece);
    free(tr);
}
