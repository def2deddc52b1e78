/* translate/plan.h: what is to be done with one text of a request: its spans in order, each either a sentence to
 * translate (a unit) or copied as it is. Any thread. */
#pragma once
#include "text/markup.h"
#include "text/sentences.h"
#include "translate/route.h"
#include "translate/saying.h"
#include "translate/units.h"

typedef struct {
    t5_route route;
    t5_markup *markup;      /* NULL: plain text. Else what follows is about its plain text */
    t5_sentences sentences; /* no spans: the text comes back as it is */
    int32_t *units;         /* [sentences.n_spans] index in the request's units, or -1: copied */
} t5_plan;

/* The planning of a request's texts, one after the other. */
typedef struct {
    const t5_translator *translator;
    t5_split split;
    int64_t deadline_ms; /* see t5_translation_request */
    t5_units *units;     /* gets the sentences */
    t5_sayings sayings;  /* of the translator's tokenizer */
    bool holds_pictures; /* those in sentences stay there */
    bool has_pictures;   /* set when one stands apart, in the middle of its sentence too */
} t5_planning;

/* Finds the route of `text`, splits it and adds its sentences to the units. T5_ERR_ARG: a language, invalid UTF-8, too
 * many sentences. T5_ERR_TIMEOUT: the deadline passed meanwhile. Release with t5_plan_deinit(), also after an error. */
t5_status t5_plan_make(t5_planning *planning, const t5_text *text, t5_plan *out, t5_error *err);
void t5_plan_deinit(t5_plan *plan); /* accepts a zeroed one */
