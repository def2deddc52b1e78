/* translate/catalog.h: the models that one server has: which of them translates what, by themselves or two of them with
 * English in between, and how each is doing. Where several can do something the first one does, in the order in which
 * they were named. Any thread, but for open and close.
 *
 * Requests for a catalog: journey.h (translations) and visit.h (text to text). */
#pragma once
#include "translate/languages.h"
#include "translate/translator.h"

typedef struct t5_catalog t5_catalog;

typedef struct {
    const char *const *dirs; /* [n_dirs] model folders, 1 to T5_MODELS_MAX */
    int32_t n_dirs;
    t5_translator_options each; /* how each is opened, but for model_dir; what it points to must outlive the catalog */
    bool has_pivot;             /* what no model translates goes through English */
    bool is_lazy;               /* a model is opened when the first request needs it */
    int64_t idle_unload_ms;     /* one that had no request for so long is closed, until the next one; 0: never */
    int32_t n_open_max; /* more are open only while they are busy; the longest idle is closed first; 0: no limit */
    int32_t n_threads;  /* for what may not hold up the threads of devices and callers */
} t5_catalog_options;

/* Every error names its folder when there are several. T5_ERR_ARG: two models have the same name. A lazy one reads what
 * is small of each model, so that its languages are known; the weights only when they are needed. */
t5_status t5_catalog_open(const t5_catalog_options *options, t5_catalog **out, t5_error *err);
void t5_catalog_close(t5_catalog *c); /* accepts NULL; every request must be destroyed */

int32_t t5_catalog_n_models(const t5_catalog *c);
/* The model that a client calls `name`, or -1. */
int32_t t5_catalog_find_model(const t5_catalog *c, const char *name);
const t5_profile *t5_catalog_profile(const t5_catalog *c, int32_t i_model);
/* See t5_translator_generation_defaults(). */
const t5_decoding *t5_catalog_generation_defaults(const t5_catalog *c, int32_t i_model);
/* Of all models together. */
const t5_languages *t5_catalog_languages(const t5_catalog *c);

#define T5_PIVOT "en"

/* The models that a text goes through; with two of them the first one translates into T5_PIVOT. */
typedef struct {
    int32_t models[2]; /* [n_legs] */
    int32_t n_legs;    /* 1 or 2 */
} t5_way;

/* From one public code to another one. False: there is none. */
bool t5_catalog_find_way(const t5_catalog *c, const char *source, const char *target, t5_way *out);

typedef struct {
    bool is_open;
    int64_t n_opened, n_failed;        /* how often it was opened, and could not be */
    char device[T5_DEVICE_TEXT_BYTES]; /* for people */
    /* Counters go on when a model is opened again. */
    t5_engine_stats engine;
    t5_translator_stats translator;
} t5_model_stats;
void t5_catalog_stats(t5_catalog *c, int32_t i_model, t5_model_stats *out);
/* Adds those of another model, but for the device. */
void t5_model_stats_add(t5_model_stats *sum, const t5_model_stats *stats);
/* A device of some model failed: see t5_engine_stats.is_lost. */
bool t5_catalog_is_lost(t5_catalog *c);
/* As t5_engine_check_room(), before it is known which models a request is for: only one model is known to be meant. */
t5_status t5_catalog_check_room(t5_catalog *c, int64_t deadline_ms, t5_error *err);
/* A model is being opened right now, which t5_catalog_close() would have to wait for. */
bool t5_catalog_is_opening(t5_catalog *c);
