/* translate/second_round.c: see second_round.h. The text thread alone runs work(), so nothing but the lists needs the
 * lock. A unit is in one list or being worked on; the last one that is ended may free the request and this with it. */
#include "translate/second_round.h"

#include "base/assert.h"
#include "base/clock.h"
#include "text/detect.h"
#include "text/placeholders.h"
#include "translate/checks.h"
#include "translate/translator_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define OUT_OF_PROPORTION 2 /* tokens of a translation for a token of its source, prompt included: worth a look */
#define LIKENESS_MAX 0.5    /* a second translation that is still half the source is an echo too */

typedef struct {
    t5_unit *first, *last;
} unit_list;

static void append(unit_list *list, t5_unit *unit)
{
    unit->next = NULL;
    *(list->first != NULL ? &list->last->next : &list->first) = unit;
    list->last = unit;
}

/* Whoever pushes may lose the request to the text thread. */
static void push(t5_second_round *r)
{
    t5_workers_push(r->context.translator->text_thread, &r->work, false);
}

/* ---- on the device's thread ---- */

static bool repeats(const t5_unit *unit, const t5_output *output)
{
    return t5_check_repeats(output->ids, output->n_ids) && !t5_check_repeats(unit->ids, unit->n_ids);
}

/* The translation's tokens are the last of the source's; both end with eos. */
static bool is_like_source(const t5_unit *unit, const t5_output *output)
{
    const int32_t n = output->n_ids;
    return n > 1 && n <= unit->n_ids &&
           memcmp(output->ids, unit->ids + unit->n_ids - n, (size_t)n * sizeof *output->ids) == 0;
}

/* A model of pieces spells rare characters in bytes, and may spell none at all. */
static bool spells(const t5_tokenizer *tokenizer, const t5_output *output)
{
    uint8_t byte;
    for (int32_t i = 0; i < output->n_ids && !t5_tokenizer_is_bytes(tokenizer); i++)
        if (t5_tokenizer_token(tokenizer, output->ids[i], &byte) == T5_TOKEN_BYTE) return true;
    return false;
}

static bool is_suspect(const t5_second_round *r, const t5_unit *unit)
{
    const t5_output *output = &unit->live.seq.outputs[0];
    return output->is_truncated || output->n_ids > OUT_OF_PROPORTION * unit->n_ids || is_like_source(unit, output) ||
           repeats(unit, output) || spells(r->context.translator->tokenizer, output);
}

bool t5_second_round_takes(t5_live_sequence *s, void *round)
{
    t5_second_round *r = round;
    t5_unit *unit = (t5_unit *)((char *)s - offsetof(t5_unit, live));
    if (!unit->has_placeholders && !(r->may_search_again && is_suspect(r, unit))) return false;
    unit->next = NULL;
    pthread_mutex_lock(&r->mutex);
    *(r->waiting != NULL ? &r->waiting_last->next : &r->waiting) = unit;
    r->waiting_last = unit;
    const bool is_first = !r->is_scheduled;
    r->is_scheduled = true;
    pthread_mutex_unlock(&r->mutex);
    if (is_first) push(r);
    return true;
}

static void on_sequence_done(t5_sequence *seq, void *ctx)
{
    t5_second_round *r = ctx;
    (void)seq;
    if (atomic_fetch_sub(&r->n_left, 1) == 1) push(r);
}

/* ---- checks, on the text thread ---- */

static bool agrees(const t5_unit *unit, const t5_result *result)
{
    return t5_placeholders_agree(unit->text, unit->n_bytes, result->text, result->n_bytes);
}

/* Drops the results that lost a placeholder. */
static void keep_agreeing(t5_unit *unit)
{
    int32_t n_kept = 0;
    for (int32_t i = 0; i < unit->n_results; i++) {
        if (agrees(unit, &unit->results[i]))
            unit->results[n_kept++] = unit->results[i];
        else
            free(unit->results[i].text);
    }
    unit->n_results = n_kept;
}

/* Of the ways in which a search goes wrong; 0: none. */
static int n_flaws(const t5_unit *unit, const t5_result *result)
{
    return result->is_truncated + repeats(unit, result->output) +
           t5_check_is_too_long(unit->text, unit->n_bytes, result->text, result->n_bytes) +
           t5_check_is_broken(unit->text, unit->n_bytes, result->text, result->n_bytes);
}

/* True for an echo of a sentence that is not in the target language already. */
static bool is_echo(const t5_second_round *r, const t5_unit *unit, const t5_result *result)
{
    const t5_translator *t = r->context.translator;
    t5_detected found[T5_DETECTED_MAX];
    if (!t5_check_is_echo(unit->text, unit->n_bytes, result->text, result->n_bytes)) return false;
    const int32_t n = t5_detect(unit->text, unit->n_bytes, t->languages.codes, t->languages.n_codes, found);
    return n == 0 || strcmp(found[0].code, unit->pair->target) != 0;
}

/* Nobody waits any more: the rest of the work would be in vain. */
static bool is_over(const t5_unit *unit, t5_error *err)
{
    const t5_sequence *seq = &unit->live.seq;
    if (atomic_load(&seq->is_cancelled)) return T5_FAIL(err, T5_ERR_TIMEOUT, "the request was cancelled"), true;
    if (seq->deadline_ms == 0 || t5_clock_ms() < seq->deadline_ms) return false;
    return T5_FAIL(err, T5_ERR_TIMEOUT, "the request took too long"), true;
}

/* True when the words between the placeholders are there to be submitted; without any the sentence stays as it is. */
static bool retry_in_parts(const t5_second_round *r, t5_unit *unit, t5_error *err)
{
    if (t5_retry_in_parts(&r->context, unit, err) != T5_OK) return false;
    if (unit->retry->n_seqs > 0) return true;
    t5_retry_copy(unit, err);
    return false;
}

/* True when unit->retry is there to be submitted. An error ends the unit with it, but not where the first translation
 * may stand. */
static bool judge(const t5_second_round *r, t5_unit *unit)
{
    t5_error *err = &unit->live.seq.error;
    t5_error ignored = {0};
    if (is_over(unit, err)) return false;
    if (unit->has_placeholders) {
        if (t5_unit_decode(r->context.translator->tokenizer, unit, err) != T5_OK) return false;
        keep_agreeing(unit);
        if (unit->n_results == 0) return retry_in_parts(r, unit, err);
    }
    if (!r->may_search_again) return false;
    if (t5_unit_decode(r->context.translator->tokenizer, unit, &ignored) != T5_OK) return false;
    const t5_result *first = &unit->results[0];
    return (n_flaws(unit, first) > 0 || is_echo(r, unit, first)) &&
           t5_retry_whole(&r->context, unit, &ignored) == T5_OK;
}

/* The flaws of a result of the second search; INT_MAX for one that is out of the question. */
static int n_flaws_again(const t5_unit *unit, const t5_result *result)
{
    if (result->n_bytes == 0 || !agrees(unit, result)) return INT_MAX;
    const double likeness = t5_check_likeness(unit->text, unit->n_bytes, result->text, result->n_bytes);
    return n_flaws(unit, result) + (likeness >= LIKENESS_MAX);
}

/* Keeps those of the results, up to `n_max`, that have the fewest flaws, if these are fewer than `n_flaws_max`; frees
 * the others. Returns how many. */
static int32_t keep_best(const t5_unit *unit, t5_result *results, int32_t n_results, int32_t n_max, int n_flaws_max)
{
    int fewest = n_flaws_max;
    int32_t n_kept = 0;
    for (int32_t i = 0; i < n_results; i++) {
        const int n = n_flaws_again(unit, &results[i]);
        if (n < fewest) fewest = n;
    }
    for (int32_t i = 0; i < n_results; i++) {
        const bool is_kept = fewest < n_flaws_max && n_kept < n_max && n_flaws_again(unit, &results[i]) == fewest;
        if (is_kept)
            results[n_kept++] = results[i];
        else
            free(results[i].text);
    }
    return n_kept;
}

/* The best results of the second search take the place of the first ones. Without any that is better, and when memory
 * runs out, the first ones stay. */
static void choose(const t5_second_round *r, t5_unit *unit)
{
    t5_error ignored = {0};
    t5_result *results = NULL;
    const t5_sequence *seq = &unit->retry->seqs[0];
    const t5_tokenizer *tokenizer = r->context.translator->tokenizer;
    if (t5_results_decode(tokenizer, seq->outputs, seq->n_outputs, &results, &ignored) != T5_OK) return;
    const int n_first = n_flaws(unit, &unit->results[0]) + is_echo(r, unit, &unit->results[0]);
    const int32_t n_wanted = unit->live.seq.decoding.num_return_sequences;
    const int32_t n_kept = keep_best(unit, results, seq->n_outputs, n_wanted, n_first);
    if (n_kept == 0) {
        free(results);
        return;
    }
    t5_unit_clear_results(unit);
    unit->results = results;
    unit->n_results = n_kept;
}

/* A part may say a placeholder that is not its own; then the sentence is better left as it is. */
static void put_together(const t5_second_round *r, t5_unit *unit)
{
    t5_error *err = &unit->live.seq.error;
    if (t5_retry_join(&r->context, unit, err) != T5_OK) return;
    keep_agreeing(unit);
    if (unit->n_results == 0) t5_retry_copy(unit, err);
}

/* The second translation of a unit is over. */
static void settle(const t5_second_round *r, t5_unit *unit)
{
    const t5_retry *retry = unit->retry;
    const t5_error *failure = NULL;
    t5_translator *t = r->context.translator;
    atomic_fetch_add(retry->is_in_parts ? &t->n_in_parts : &t->n_searched_again, 1);
    for (int32_t i = 0; i < retry->n_seqs && failure == NULL; i++)
        if (retry->seqs[i].error.status != T5_OK) failure = &retry->seqs[i].error;
    if (!retry->is_in_parts && failure == NULL)
        choose(r, unit);
    else if (retry->is_in_parts && failure == NULL)
        put_together(r, unit);
    else if (retry->is_in_parts || failure->status == T5_ERR_TIMEOUT)
        unit->live.seq.error = *failure; /* else an answer would depend on how busy the server is */
}

/* ---- again ---- */

/* The engine did not take the unit. */
static void give_up(t5_unit *unit, const t5_error *cause)
{
    if (!unit->retry->is_in_parts && cause->status != T5_ERR_TIMEOUT) return;
    if (cause->status == T5_ERR_BUSY || cause->status == T5_ERR_ARG)
        t5_retry_copy(unit, &unit->live.seq.error);
    else
        unit->live.seq.error = *cause;
}

static t5_status submit(t5_second_round *r, const t5_unit *first, t5_error *err)
{
    int32_t n_seqs = 0;
    for (const t5_unit *unit = first; unit != NULL; unit = unit->next)
        n_seqs += unit->retry->n_seqs;
    t5_sequence **seqs = malloc(((size_t)n_seqs + 1) * sizeof(t5_sequence *));
    if (seqs == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d sequences for a second round", n_seqs);
    n_seqs = 0;
    for (const t5_unit *unit = first; unit != NULL; unit = unit->next)
        for (int32_t i = 0; i < unit->retry->n_seqs; i++) {
            unit->retry->seqs[i].is_again = true;
            unit->retry->seqs[i].on_done = on_sequence_done;
            unit->retry->seqs[i].ctx = r;
            seqs[n_seqs++] = &unit->retry->seqs[i];
        }
    T5_ASSERT(n_seqs > 0);
    atomic_store(&r->n_left, n_seqs);
    const t5_status status = t5_engine_submit_all(r->context.translator->engine, seqs, n_seqs, err);
    free(seqs);
    return status;
}

/* Under the lock before the engine has them, so that a cancellation finds them. */
static bool activate(t5_second_round *r, t5_unit *first)
{
    pthread_mutex_lock(&r->mutex);
    const bool is_wanted = !r->is_cancelled;
    if (is_wanted) r->active = first;
    pthread_mutex_unlock(&r->mutex);
    return is_wanted;
}

static void deactivate(t5_second_round *r)
{
    pthread_mutex_lock(&r->mutex);
    r->active = NULL;
    pthread_mutex_unlock(&r->mutex);
}

/* Has the units translated again; those that nobody takes are given up and appended to `done`. */
static void translate_again(t5_second_round *r, unit_list *again, unit_list *done)
{
    t5_error err = {0};
    if (!activate(r, again->first))
        T5_FAIL(&err, T5_ERR_TIMEOUT, "the request was cancelled");
    else if (submit(r, again->first, &err) != T5_OK)
        deactivate(r);
    if (err.status == T5_OK) return;
    for (t5_unit *unit = again->first, *next; unit != NULL; unit = next) {
        next = unit->next;
        give_up(unit, &err);
        append(done, unit);
    }
}

/* ---- the text thread's turn ---- */

/* True when the units to look at have come meanwhile. */
static bool end_turn(t5_second_round *r)
{
    pthread_mutex_lock(&r->mutex);
    const bool has_more = r->active == NULL && r->waiting != NULL;
    r->is_scheduled = r->active != NULL || has_more;
    pthread_mutex_unlock(&r->mutex);
    return has_more;
}

static void work(void *ctx)
{
    t5_second_round *r = ctx;
    unit_list done = {0}, again = {0};
    pthread_mutex_lock(&r->mutex);
    t5_unit *tried = r->active, *fresh = r->waiting;
    r->active = r->waiting = NULL;
    pthread_mutex_unlock(&r->mutex);

    for (t5_unit *unit = tried, *next; unit != NULL; unit = next) {
        next = unit->next;
        settle(r, unit);
        append(&done, unit);
    }
    for (t5_unit *unit = fresh, *next; unit != NULL; unit = next) {
        next = unit->next;
        append(judge(r, unit) ? &again : &done, unit);
    }
    if (again.first != NULL) translate_again(r, &again, &done);
    if (end_turn(r)) push(r);
    for (t5_unit *unit = done.first, *next; unit != NULL; unit = next) {
        next = unit->next;
        t5_live_end(&unit->live);
    }
}

void t5_second_round_init(t5_second_round *r, const t5_retry_context *context)
{
    const t5_translation_request *request = context->request;
    *r = (t5_second_round){.context = *context, .work = {.run = work, .ctx = r}};
    r->may_search_again = !request->is_pinned && !request->has_max_new_tokens && request->on_progress == NULL;
    pthread_mutex_init(&r->mutex, NULL);
}

void t5_second_round_deinit(t5_second_round *r)
{
    pthread_mutex_destroy(&r->mutex);
}

void t5_second_round_cancel(t5_second_round *r)
{
    pthread_mutex_lock(&r->mutex);
    r->is_cancelled = true;
    for (t5_unit *unit = r->active; unit != NULL; unit = unit->next)
        for (int32_t i = 0; i < unit->retry->n_seqs; i++)
            atomic_store(&unit->retry->seqs[i].is_cancelled, true);
    pthread_mutex_unlock(&r->mutex);
}
