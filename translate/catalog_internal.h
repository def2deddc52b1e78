/* translate/catalog_internal.h: a catalog for those who send requests through it. Not for other folders. */
#pragma once
#include "base/limits.h"
#include "base/workers.h"
#include "translate/catalog.h"

typedef struct {
    char *dir;
    t5_profile profile;
    t5_languages languages; /* of `profile` */
    t5_decoding generation_defaults;
    t5_translator *translator;
} t5_catalog_model;

struct t5_catalog {
    t5_catalog_model *models; /* [n_models] */
    int32_t n_models;
    bool has_pivot;
    t5_languages languages; /* of all */
    t5_workers *workers;    /* NULL: nothing ever needs them */
};
