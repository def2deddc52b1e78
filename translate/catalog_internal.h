/* translate/catalog_internal.h: a catalog for those who send requests through it. Not for other folders. */
#pragma once
#include "base/limits.h"
#include "base/workers.h"
#include "translate/catalog.h"
#include "translate/lease.h"

#include <pthread.h>

typedef struct {
    char *dir;
    t5_profile profile;
    t5_languages languages; /* of `profile` */
    t5_decoding generation_defaults;
    /* Guarded by the catalog's mutex. */
    t5_translator *translator; /* NULL unless it is open */
    int32_t n_leases;
    t5_lease *waiting;         /* first of those who wait until it is open */
    int64_t idle_since_ms;     /* when the last lease ended */
    int64_t opening_ms;        /* how long it took to open it, last time */
    int64_t closed_ms;         /* when it was closed, last time */
    int64_t retry_ms;          /* after a failure: when it may be opened again */
    bool has_failed_with_room; /* it could not be opened although there was room, nor since */
    int64_t n_opened, n_failed;
    t5_model_stats past; /* counters of the times when it was open before */
} t5_catalog_model;

struct t5_catalog {
    t5_catalog_model *models; /* [n_models] */
    int32_t n_models;
    bool has_pivot;
    t5_languages languages; /* of all */
    t5_workers *workers;    /* NULL: nothing ever needs them */
    t5_translator_options each;
    int64_t idle_unload_ms; /* 0: never */
    int32_t n_open_max;     /* 0: no limit */
    bool has_loader;        /* models open and close while the catalog is in use */
    pthread_t loader;
    pthread_mutex_t mutex;
    pthread_cond_t wake;                /* of the loader: a model is wanted, or has no lease any more */
    bool is_stopping;                   /* guarded by the mutex */
    bool is_opening;                    /* guarded by the mutex: the loader is at it */
    const t5_catalog_model *asked_last; /* guarded by the mutex; NULL: none was */
};

/* translator->model_dir and all else that opening a model takes. */
t5_status t5_catalog_open_translator(const t5_catalog *c, const char *dir, t5_translator **out, t5_error *err);
/* lease.c, under the mutex: those who wait for the model get it, or are refused when it is not open. */
void t5_leases_answer(t5_catalog *c, t5_catalog_model *m);
/* loader.c: starts the thread that opens and closes models; after stop no lease may be taken. */
t5_status t5_loader_start(t5_catalog *c, t5_error *err);
void t5_loader_stop(t5_catalog *c);
