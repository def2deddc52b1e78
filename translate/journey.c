/* translate/journey.c: see journey.h. The texts that go the same way are a *party*; a party makes one or two *legs*,
 * each of which is a translation by one model. Where a leg ends, on a device's thread, a thread of the catalog takes
 * the texts on to the next leg: they must be put together and split again, which a device cannot wait for. */
#include "translate/journey.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "translate/catalog_internal.h"
#include "translate/route.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LEGS_MAX 2

typedef struct {
    t5_lease lease;              /* of its model, from its begin on */
    t5_translation *translation; /* NULL until it starts */
    bool is_known;               /* under the mutex: others may look at `translation` */
    bool is_finished;            /* t5_translation_finish() was called */
} leg;

typedef struct {
    t5_journey *journey;
    t5_way way;
    leg legs[LEGS_MAX];
    int32_t i_leg;    /* the current one; who moves the party on */
    t5_text *texts;   /* [n_texts] for the current leg */
    int32_t *i_texts; /* [n_texts] their places in the request */
    int32_t n_texts;
    t5_work work; /* its way to a thread of the catalog */
} party;

typedef struct {
    t5_text text;
    t5_route route;
    int32_t i_party; /* -1: the text is in the target language, and comes back as it is */
    int32_t i_in_party;
    bool is_read; /* without a party: it was read along */
    t5_translated result;
} text_state;

struct t5_journey {
    t5_catalog *catalog;
    t5_translation_request request; /* texts is not kept */
    uint32_t given;
    text_state *texts; /* [request.n_texts] */
    party *parties;    /* [n_parties] */
    int32_t n_parties;
    atomic_int n_left; /* parties on their way, and threads that are starting a leg */
    pthread_mutex_t mutex;
    bool is_cancelled; /* under the mutex */
    t5_error error;    /* the same: of the first party that could not go on */
};

/* ---- plan ---- */

static bool is_same_way(const t5_way *a, const t5_way *b)
{
    return a->n_legs == b->n_legs && a->models[0] == b->models[0] && a->models[1] == b->models[1];
}

/* Index of the party that goes this way, a new one if there is none yet. Pointers to parties are valid until the next
 * call. */
static t5_status find_party(t5_journey *j, const t5_way *way, int32_t *out, t5_error *err)
{
    for (*out = 0; *out < j->n_parties; ++*out)
        if (is_same_way(&j->parties[*out].way, way)) return T5_OK;
    party *parties = realloc(j->parties, ((size_t)j->n_parties + 1) * sizeof *parties);
    if (parties == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d ways", j->n_parties + 1);
    parties[j->n_parties++] = (party){.journey = j, .way = *way};
    j->parties = parties;
    return T5_OK;
}

/* From which language to which; tags say nothing about it. */
static t5_status find_route(const t5_languages *languages, text_state *s, t5_error *err)
{
    t5_status status = T5_OK;
    t5_markup markup = {0};
    t5_text plain = s->text;
    if (s->text.markup != NULL && strcasecmp(s->text.source, "auto") == 0) {
        const size_t n_valid = t5_utf8_valid_prefix(plain.text, plain.n_bytes);
        if (n_valid < plain.n_bytes)
            return T5_FAIL(err, T5_ERR_ARG, "the text is not valid UTF-8 at byte %zu", n_valid);
        T5_TRY(t5_markup_parse(plain.text, plain.n_bytes, plain.markup, &markup, err));
        plain.text = markup.plain;
        plain.n_bytes = markup.plain_bytes;
    }
    T5_TRY(t5_route_languages(languages, &plain, &s->route, err));
    T5_TRY(t5_route_check(languages, s->route.source, s->route.target, err));
out:
    t5_markup_deinit(&markup);
    return status;
}

static t5_status plan_text(t5_journey *j, text_state *s, t5_error *err)
{
    t5_status status = T5_OK;
    t5_way way;
    s->i_party = -1;
    T5_TRY(find_route(&j->catalog->languages, s, err));
    if (strcmp(s->route.source, s->route.target) == 0) goto out;
    T5_ASSERT(t5_catalog_find_way(j->catalog, s->route.source, s->route.target, &way));
    T5_TRY(find_party(j, &way, &s->i_party, err));
    s->i_in_party = j->parties[s->i_party].n_texts++;
out:
    return status;
}

/* What the first leg of each party translates. */
static t5_status fill_parties(t5_journey *j, t5_error *err)
{
    for (int32_t i = 0; i < j->n_parties; i++) {
        party *p = &j->parties[i];
        p->texts = calloc((size_t)p->n_texts, sizeof *p->texts);
        p->i_texts = calloc((size_t)p->n_texts, sizeof *p->i_texts);
        if (p->texts == NULL || p->i_texts == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d texts", p->n_texts);
    }
    for (int32_t i = 0; i < j->request.n_texts; i++) {
        const text_state *s = &j->texts[i];
        if (s->i_party < 0) continue;
        const party *p = &j->parties[s->i_party];
        t5_text *text = &p->texts[s->i_in_party];
        *text = s->text;
        text->source = s->route.source;
        text->target = p->way.n_legs > 1 ? T5_PIVOT : s->route.target;
        p->i_texts[s->i_in_party] = i;
    }
    return T5_OK;
}

static t5_status plan(t5_journey *j, const t5_text *texts, t5_error *err)
{
    const size_t n_texts = (size_t)j->request.n_texts;
    j->texts = calloc(n_texts + 1, sizeof *j->texts);
    if (j->texts == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu texts", n_texts);
    for (size_t i = 0; i < n_texts; i++) {
        j->texts[i].text = texts[i];
        const t5_status status = plan_text(j, &j->texts[i], err);
        if (status != T5_OK) return status;
    }
    return fill_parties(j, err);
}

/* ---- the way ---- */

/* The last to let go tells the caller, who may free everything. */
static void let_go(t5_journey *j)
{
    if (atomic_fetch_sub(&j->n_left, 1) == 1) j->request.on_done(j->request.ctx);
}

static bool is_last(const party *p)
{
    return p->i_leg + 1 == p->way.n_legs;
}

static void on_progress(void *ctx)
{
    const party *p = ctx;
    p->journey->request.on_progress(p->journey->request.ctx);
}

static void move_on(void *ctx);
static void go_ahead(void *ctx);

/* A leg is over. On a device's thread, or in its start. */
static void on_leg_done(void *ctx)
{
    party *p = ctx;
    if (is_last(p)) {
        let_go(p->journey);
        return;
    }
    p->work = (t5_work){.run = move_on, .ctx = p};
    t5_workers_push(p->journey->catalog->workers, &p->work, false);
}

/* What the model of the current leg is asked for. */
static t5_translation_request request_of(party *p)
{
    const t5_journey *j = p->journey;
    const t5_catalog_model *model = &j->catalog->models[p->way.models[p->i_leg]];
    t5_translation_request r = j->request;
    const uint32_t for_last_only = t5_decoding_bit("suppress_tokens");
    r.texts = p->texts;
    r.n_texts = p->n_texts;
    r.decoding = model->profile.defaults;
    t5_decoding_overlay(&r.decoding, &j->request.decoding, is_last(p) ? j->given : j->given & ~for_last_only);
    if (!is_last(p)) r.n_alternatives = 0;
    r.on_progress = is_last(p) && j->request.on_progress != NULL ? on_progress : NULL;
    r.on_done = on_leg_done;
    r.ctx = p;
    return r;
}

/* From now on others may see the leg; if they have cancelled before, that is made up for. */
static void make_known(t5_journey *j, leg *l)
{
    pthread_mutex_lock(&j->mutex);
    l->is_known = true;
    if (j->is_cancelled) t5_translation_cancel(l->translation);
    pthread_mutex_unlock(&j->mutex);
}

/* The caller holds the journey: the leg may be over before this returns. */
static t5_status start_leg(party *p, t5_error *err)
{
    t5_journey *j = p->journey;
    leg *l = &p->legs[p->i_leg];
    const t5_translation_request request = request_of(p);
    const t5_status status = t5_translation_start(l->lease.translator, &request, &l->translation, err);
    if (status != T5_OK) return status;
    make_known(j, l);
    if (request.on_progress != NULL) j->request.on_progress(j->request.ctx); /* what was told before it was known */
    return T5_OK;
}

/* Starts the current leg, now or when its model is open. The mutex: who cancels looks at the lease. The caller holds
 * the journey. */
static t5_status begin_leg(party *p, t5_error *err)
{
    t5_journey *j = p->journey;
    bool waits = false;
    t5_status status = T5_OK;
    pthread_mutex_lock(&j->mutex);
    if (j->is_cancelled)
        status = T5_FAIL(err, T5_ERR_TIMEOUT, "the request was given up");
    else
        status = t5_lease_take(j->catalog, p->way.models[p->i_leg], j->request.deadline_ms, go_ahead, p,
                               &p->legs[p->i_leg].lease, &waits, err);
    pthread_mutex_unlock(&j->mutex);
    return status != T5_OK || waits ? status : start_leg(p, err);
}

/* The results of the leg that is over are the texts of the next one. */
static t5_status take_over(party *p, t5_error *err)
{
    const t5_journey *j = p->journey;
    leg *l = &p->legs[p->i_leg];
    const t5_status status = t5_translation_finish(l->translation, err);
    if (status != T5_OK) return status;
    l->is_finished = true;
    for (int32_t i = 0; i < p->n_texts; i++) {
        const t5_translated *result = t5_translation_get(l->translation, i);
        t5_text *text = &p->texts[i];
        text->text = result->text;
        text->n_bytes = result->n_bytes;
        text->source = T5_PIVOT;
        text->target = j->texts[p->i_texts[i]].route.target;
    }
    p->i_leg++;
    return T5_OK;
}

/* A party cannot go on, and nothing of it runs: what the others do is in vain. */
static void give_up(t5_journey *j, const t5_error *cause)
{
    pthread_mutex_lock(&j->mutex);
    if (j->error.status == T5_OK) j->error = *cause;
    pthread_mutex_unlock(&j->mutex);
    t5_journey_cancel(j);
    let_go(j);
}

/* On a thread of the catalog: from one leg to the next. */
static void move_on(void *ctx)
{
    party *p = ctx;
    t5_journey *j = p->journey;
    t5_error cause = {0};
    atomic_fetch_add(&j->n_left, 1);
    t5_status status = take_over(p, &cause);
    if (status == T5_OK) status = begin_leg(p, &cause);
    if (status != T5_OK) give_up(j, &cause);
    let_go(j);
}

/* On a thread of the catalog: the model is open, or will not be. */
static void go_ahead(void *ctx)
{
    party *p = ctx;
    t5_journey *j = p->journey;
    t5_error cause = {0};
    atomic_fetch_add(&j->n_left, 1);
    t5_status status = t5_lease_check(&p->legs[p->i_leg].lease, &cause);
    if (status == T5_OK) status = start_leg(p, &cause);
    if (status != T5_OK) give_up(j, &cause);
    let_go(j);
}

t5_status t5_journey_start(t5_catalog *c, const t5_translation_request *request, uint32_t given, t5_journey **out,
                           t5_error *err)
{
    t5_status status = T5_OK;
    T5_ASSERT(request->n_texts >= 0 && request->on_done != NULL);
    t5_journey *j = calloc(1, sizeof *j);
    if (j == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "journey: %zu bytes", sizeof *j);
    pthread_mutex_init(&j->mutex, NULL);
    j->catalog = c;
    j->request = *request;
    j->request.texts = NULL;
    j->given = given;
    T5_TRY(plan(j, request->texts, err));
    atomic_store(&j->n_left, j->n_parties + 1);
    *out = j; /* before on_done, which may come at once */
    if (j->n_parties > 0) T5_TRY(begin_leg(&j->parties[0], err));
    for (int32_t i = 1; i < j->n_parties; i++) {
        t5_error cause = {0};
        if (begin_leg(&j->parties[i], &cause) != T5_OK) give_up(j, &cause);
    }
    let_go(j);
    j = NULL; /* handed to the caller, maybe gone */
out:
    if (j != NULL) *out = NULL;
    t5_journey_destroy(j);
    return status;
}

/* ---- read along ---- */

/* The last leg of a party when it may be read, else NULL. */
static t5_translation *readable(t5_journey *j, const party *p)
{
    const leg *last = &p->legs[p->way.n_legs - 1];
    pthread_mutex_lock(&j->mutex);
    t5_translation *translation = last->is_known ? last->translation : NULL;
    pthread_mutex_unlock(&j->mutex);
    return translation;
}

t5_status t5_journey_read(t5_journey *j, t5_piece *out, t5_error *err)
{
    *out = (t5_piece){0};
    for (int32_t i = 0; i < j->n_parties; i++) {
        t5_translation *translation = readable(j, &j->parties[i]);
        if (translation == NULL) continue;
        const t5_status status = t5_translation_read(translation, out, err);
        if (status != T5_OK) return status;
        if (out->n_bytes == 0) continue;
        out->i_text = j->parties[i].i_texts[out->i_text];
        return T5_OK;
    }
    for (int32_t i = 0; i < j->request.n_texts; i++) {
        text_state *s = &j->texts[i];
        if (s->i_party >= 0 || s->is_read) continue;
        s->is_read = true;
        if (s->text.n_bytes == 0) continue;
        *out = (t5_piece){.i_text = i, .bytes = s->text.text, .n_bytes = s->text.n_bytes};
        return T5_OK;
    }
    return T5_OK;
}

/* ---- finish ---- */

static leg *last_leg(party *p)
{
    return &p->legs[p->way.n_legs - 1];
}

static void finish_text(t5_journey *j, text_state *s)
{
    party *p = s->i_party >= 0 ? &j->parties[s->i_party] : NULL;
    s->result = (t5_translated){.text = s->text.text, .n_bytes = s->text.n_bytes};
    if (p != NULL) s->result = *t5_translation_get(last_leg(p)->translation, s->i_in_party);
    for (int32_t i = 0; p != NULL && i + 1 < p->way.n_legs; i++)
        s->result.is_truncated |= t5_translation_get(p->legs[i].translation, s->i_in_party)->is_truncated;
    s->result.detected = s->route.detected;
    s->result.confidence = s->route.confidence;
}

t5_status t5_journey_finish(t5_journey *j, t5_error *err)
{
    T5_ASSERT(atomic_load(&j->n_left) == 0);
    if (j->error.status != T5_OK) {
        *err = j->error;
        return err->status;
    }
    for (int32_t i = 0; i < j->n_parties; i++) {
        leg *last = last_leg(&j->parties[i]);
        const t5_status status = t5_translation_finish(last->translation, err);
        if (status != T5_OK) return status;
        last->is_finished = true;
    }
    for (int32_t i = 0; i < j->request.n_texts; i++)
        finish_text(j, &j->texts[i]);
    return T5_OK;
}

const t5_translated *t5_journey_get(const t5_journey *j, int32_t i_text)
{
    T5_ASSERT(i_text >= 0 && i_text < j->request.n_texts);
    return &j->texts[i_text].result;
}

const char *t5_journey_pivot(const t5_journey *j, int32_t i_text)
{
    T5_ASSERT(i_text >= 0 && i_text < j->request.n_texts);
    const int32_t i_party = j->texts[i_text].i_party;
    return i_party >= 0 && j->parties[i_party].way.n_legs > 1 ? T5_PIVOT : NULL;
}

void t5_journey_usage(const t5_journey *j, t5_usage *out)
{
    *out = (t5_usage){0};
    for (int32_t i = 0; i < j->n_parties * LEGS_MAX; i++) {
        const leg *l = &j->parties[i / LEGS_MAX].legs[i % LEGS_MAX];
        t5_usage usage = {0};
        if (l->is_finished) t5_translation_usage(l->translation, &usage);
        out->n_source_tokens += usage.n_source_tokens;
        out->n_target_tokens += usage.n_target_tokens;
    }
}

void t5_journey_cancel(t5_journey *j)
{
    pthread_mutex_lock(&j->mutex);
    j->is_cancelled = true;
    for (int32_t i = 0; i < j->n_parties * LEGS_MAX; i++) {
        leg *l = &j->parties[i / LEGS_MAX].legs[i % LEGS_MAX];
        if (l->is_known) t5_translation_cancel(l->translation);
        t5_lease_hurry(&l->lease);
    }
    pthread_mutex_unlock(&j->mutex);
}

void t5_journey_destroy(t5_journey *j)
{
    if (j == NULL) return;
    for (int32_t i = 0; i < j->n_parties; i++) {
        party *p = &j->parties[i];
        for (int32_t k = 0; k < LEGS_MAX; k++) {
            t5_translation_destroy(p->legs[k].translation);
            t5_lease_return(&p->legs[k].lease);
        }
        free(p->texts);
        free(p->i_texts);
    }
    free(j->parties);
    free(j->texts);
    pthread_mutex_destroy(&j->mutex);
    free(j);
}
