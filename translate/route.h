/* translate/route.h: from which language to which, for one text of a request. Any thread. */
#pragma once
#include "translate/translator.h"

typedef struct {
    const t5_pair *pair;  /* NULL: the text is in the target language already */
    const char *source;   /* public code, detected or as asked; borrowed from the translator */
    const char *target;   /* the same */
    const char *detected; /* source, when it was "auto", else NULL */
    double confidence;    /* 0 to 100, with detected */
} t5_route;

/* Understands the codes of `text` and detects its language when source is "auto". T5_ERR_ARG with LibreTranslate's
 * words, which clients match on: "xx is not supported", "NAME (xx) is not available as a target language from NAME
 * (yy)". */
t5_status t5_route_find(const t5_translator *t, const t5_text *text, t5_route *out, t5_error *err);
