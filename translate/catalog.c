/* translate/catalog.c: see catalog.h. */
#include "translate/catalog.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timed_cond.h"
#include "translate/catalog_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_CLOSED "none" /* the device of a model that is not open */

/* ---- ways ---- */

/* A model that takes any source (MADLAD) knows no more languages than it was trained on. */
static bool has_pair(const t5_catalog_model *m, const char *source, const char *target)
{
    const t5_pair *pair = t5_profile_find(&m->profile, source, target);
    return pair != NULL && (pair->source[0] != '\0' || t5_languages_has(&m->languages, source));
}

/* The first model that has the pair, or -1. */
static int32_t find_direct(const t5_catalog *c, const char *source, const char *target)
{
    for (int32_t i = 0; i < c->n_models; i++)
        if (has_pair(&c->models[i], source, target)) return i;
    return -1;
}

bool t5_catalog_find_way(const t5_catalog *c, const char *source, const char *target, t5_way *out)
{
    *out = (t5_way){.models = {find_direct(c, source, target), -1}, .n_legs = 1};
    if (out->models[0] >= 0) return true;
    const bool is_possible = c->has_pivot && strcmp(source, T5_PIVOT) != 0 && strcmp(target, T5_PIVOT) != 0;
    if (!is_possible) return false;
    *out = (t5_way){.models = {find_direct(c, source, T5_PIVOT), find_direct(c, T5_PIVOT, target)}, .n_legs = 2};
    return out->models[0] >= 0 && out->models[1] >= 0;
}

static bool leads(const void *ctx, const char *source, const char *target)
{
    t5_way way;
    return t5_catalog_find_way(ctx, source, target, &way);
}

/* Some text may have to go through the pivot. */
static bool may_pivot(const t5_catalog *c)
{
    bool leads_in = false, leads_out = false;
    for (int32_t i = 0; i < c->languages.n_codes && c->has_pivot; i++) {
        const char *code = c->languages.codes[i];
        if (strcmp(code, T5_PIVOT) == 0) continue;
        leads_in = leads_in || find_direct(c, code, T5_PIVOT) >= 0;
        leads_out = leads_out || find_direct(c, T5_PIVOT, code) >= 0;
    }
    return leads_in && leads_out;
}

/* ---- open ---- */

t5_status t5_catalog_open_translator(const t5_catalog *c, const char *dir, t5_translator **out, t5_error *err)
{
    t5_translator_options options = c->each;
    options.model_dir = dir;
    return t5_translator_open(&options, out, err);
}

/* What the catalog has to know of a model whether it is open or not. */
static t5_status describe(t5_catalog *c, t5_catalog_model *m, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_profile *profile = &m->profile;
    t5_translator_options options = c->each;
    options.model_dir = m->dir;
    if (m->translator == NULL) {
        T5_TRY(t5_translator_describe(&options, &m->profile, &m->generation_defaults, err));
    } else {
        m->generation_defaults = *t5_translator_generation_defaults(m->translator);
        T5_TRY(t5_profile_copy(t5_translator_profile(m->translator), &m->profile, err));
    }
    T5_TRY(t5_languages_init(&profile, 1, &m->languages, err));
out:
    return status;
}

static void log_model(const t5_catalog_model *m)
{
    char name[2 * sizeof m->profile.name], dir[1024], device[2 * T5_DEVICE_TEXT_BYTES];
    const char *where = m->translator != NULL ? t5_translator_device(m->translator) : TEXT_CLOSED;
    t5_log(T5_LOG_INFO, "model name=%s dir=%s pairs=%d languages=%d device=%s",
           t5_log_quote(name, sizeof name, m->profile.name), t5_log_quote(dir, sizeof dir, m->dir), m->profile.n_pairs,
           m->languages.n_codes, t5_log_quote(device, sizeof device, where));
}

static t5_status open_model(t5_catalog *c, const char *dir, bool is_lazy, t5_error *err)
{
    t5_status status = T5_OK;
    t5_catalog_model *m = &c->models[c->n_models++]; /* closed with the others, whatever happens */
    m->dir = strdup(dir);
    if (m->dir == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "the name of a folder");
    const int64_t begin_ms = t5_clock_ms();
    if (!is_lazy) T5_TRY(t5_catalog_open_translator(c, dir, &m->translator, err));
    m->opening_ms = t5_clock_ms() - begin_ms;
    T5_TRY(describe(c, m, err));
    m->n_opened = m->translator != NULL;
    log_model(m);
out:
    return status;
}

/* Clients say which model they mean by its name. */
static t5_status check_name(const t5_catalog *c, t5_error *err)
{
    const t5_catalog_model *last = &c->models[c->n_models - 1];
    const int32_t i = t5_catalog_find_model(c, last->profile.name);
    if (i == c->n_models - 1) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG,
                   "two models are called %s: %.150s and %.150s; name one of them otherwise in its t5serve.json",
                   last->profile.name, c->models[i].dir, last->dir);
}

static t5_status list_languages(t5_catalog *c, t5_error *err)
{
    const t5_profile *profiles[T5_MODELS_MAX];
    for (int32_t i = 0; i < c->n_models; i++)
        profiles[i] = &c->models[i].profile;
    const t5_status status = t5_languages_init(profiles, c->n_models, &c->languages, err);
    c->languages.leads = leads;
    c->languages.ctx = c;
    return status;
}

static void init_loader(t5_catalog *c, const t5_catalog_options *options)
{
    c->each = options->each;
    c->idle_unload_ms = options->idle_unload_ms;
    c->n_open_max = options->n_open_max;
    pthread_mutex_init(&c->mutex, NULL);
    t5_timed_cond_init(&c->wake);
}

t5_status t5_catalog_open(const t5_catalog_options *options, t5_catalog **out, t5_error *err)
{
    t5_status status = T5_OK;
    const int32_t n_dirs = options->n_dirs;
    if (n_dirs < 1 || n_dirs > T5_MODELS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%d models, must be 1 to %d", n_dirs, T5_MODELS_MAX);
    t5_catalog *c = calloc(1, sizeof *c);
    if (c == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "catalog: %zu bytes", sizeof *c);
    init_loader(c, options);
    c->has_pivot = options->has_pivot;
    c->models = calloc((size_t)n_dirs, sizeof *c->models);
    if (c->models == NULL) T5_TRY(T5_FAIL(err, T5_ERR_NOMEM, "%d models", n_dirs));
    for (int32_t i = 0; i < n_dirs; i++) {
        t5_error cause = {0};
        status = open_model(c, options->dirs[i], options->is_lazy, &cause);
        if (status != T5_OK && n_dirs == 1) *err = cause;
        if (status != T5_OK) T5_TRY(T5_FAIL(err, status, "model %.150s: %s", options->dirs[i], cause.text));
        T5_TRY(check_name(c, err));
    }
    T5_TRY(list_languages(c, err));
    const bool may_close = options->is_lazy || c->idle_unload_ms > 0 || c->n_open_max > 0;
    if (may_close || may_pivot(c)) T5_TRY(t5_workers_create(options->n_threads, &c->workers, err));
    if (may_close) T5_TRY(t5_loader_start(c, err));
    *out = c;
    c = NULL; /* handed to the caller */
out:
    t5_catalog_close(c);
    return status;
}

void t5_catalog_close(t5_catalog *c)
{
    if (c == NULL) return;
    t5_loader_stop(c);
    t5_workers_destroy(c->workers);
    for (int32_t i = 0; i < c->n_models; i++) {
        t5_catalog_model *m = &c->models[i];
        t5_translator_close(m->translator);
        t5_languages_deinit(&m->languages);
        t5_profile_deinit(&m->profile);
        free(m->dir);
    }
    t5_languages_deinit(&c->languages);
    free(c->models);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

/* ---- look ---- */

int32_t t5_catalog_n_models(const t5_catalog *c)
{
    return c->n_models;
}

int32_t t5_catalog_find_model(const t5_catalog *c, const char *name)
{
    for (int32_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].profile.name, name) == 0) return i;
    return -1;
}

const t5_profile *t5_catalog_profile(const t5_catalog *c, int32_t i_model)
{
    T5_ASSERT(i_model >= 0 && i_model < c->n_models);
    return &c->models[i_model].profile;
}

const t5_decoding *t5_catalog_generation_defaults(const t5_catalog *c, int32_t i_model)
{
    T5_ASSERT(i_model >= 0 && i_model < c->n_models);
    return &c->models[i_model].generation_defaults;
}

const t5_languages *t5_catalog_languages(const t5_catalog *c)
{
    return &c->languages;
}

void t5_catalog_stats(t5_catalog *c, int32_t i_model, t5_model_stats *out)
{
    T5_ASSERT(i_model >= 0 && i_model < c->n_models);
    t5_catalog_model *m = &c->models[i_model];
    pthread_mutex_lock(&c->mutex);
    *out = m->past;
    out->is_open = m->translator != NULL;
    out->n_opened = m->n_opened;
    out->n_failed = m->n_failed;
    snprintf(out->device, sizeof out->device, "%s", TEXT_CLOSED);
    if (out->is_open) {
        t5_model_stats now = {0};
        snprintf(out->device, sizeof out->device, "%s", t5_translator_device(m->translator));
        t5_engine_stats_get(t5_translator_engine(m->translator), &now.engine);
        t5_translator_stats_get(m->translator, &now.translator);
        t5_model_stats_add(out, &now);
    }
    pthread_mutex_unlock(&c->mutex);
}

void t5_model_stats_add(t5_model_stats *sum, const t5_model_stats *stats)
{
    t5_engine_stats_add(&sum->engine, &stats->engine);
    t5_histogram_counts_add(&sum->translator.tokenize_ns, &stats->translator.tokenize_ns);
    t5_histogram_counts_add(&sum->translator.detokenize_ns, &stats->translator.detokenize_ns);
    sum->translator.n_in_parts += stats->translator.n_in_parts;
    sum->translator.n_searched_again += stats->translator.n_searched_again;
}

bool t5_catalog_is_lost(t5_catalog *c)
{
    bool is_lost = false;
    for (int32_t i = 0; i < c->n_models && !is_lost; i++) {
        t5_model_stats stats;
        t5_catalog_stats(c, i, &stats);
        is_lost = stats.engine.is_lost;
    }
    return is_lost;
}

t5_status t5_catalog_check_room(t5_catalog *c, int64_t deadline_ms, t5_error *err)
{
    t5_status status = T5_OK;
    if (c->n_models > 1) return T5_OK;
    pthread_mutex_lock(&c->mutex);
    t5_translator *t = c->models[0].translator;
    if (t != NULL) status = t5_engine_check_room(t5_translator_engine(t), deadline_ms, err);
    pthread_mutex_unlock(&c->mutex);
    return status;
}

bool t5_catalog_is_opening(t5_catalog *c)
{
    pthread_mutex_lock(&c->mutex);
    const bool is_opening = c->is_opening;
    pthread_mutex_unlock(&c->mutex);
    return is_opening;
}
