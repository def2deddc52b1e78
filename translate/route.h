/* translate/route.h: from which language to which, for one text of a request. Any thread. */
#pragma once
#include "translate/languages.h"
#include "translate/translator.h"

typedef struct {
    const t5_pair *pair;  /* NULL: the text is in the target language already */
    const char *source;   /* public code, detected or as asked; borrowed from the translator */
    const char *target;   /* the same */
    const char *detected; /* source, when it was "auto", else NULL */
    double confidence;    /* 0 to 100, with detected */
} t5_route;

/* All errors are T5_ERR_ARG with LibreTranslate's words, which clients match on. */

/* Understands the codes of `text` and detects its language when source is "auto". */
t5_status t5_route_find(const t5_translator *t, const t5_text *text, t5_route *out, t5_error *err);

/* The same for any set of languages, but for the pair, which stays NULL: source and target are two of them, or one, and
 * there may be no way between them. */
t5_status t5_route_languages(const t5_languages *languages, const t5_text *text, t5_route *out, t5_error *err);

/* The entry of `languages` that a client's code means; else "xx is not supported", with at most 32 bytes of the code.
 */
t5_status t5_route_match(const char *code, const t5_languages *languages, const char **out, t5_error *err);
/* T5_OK when they are the same or there is a way between them; else "NAME (xx) is not available as a target language
 * from NAME (yy)". Public codes. */
t5_status t5_route_check(const t5_languages *languages, const char *source, const char *target, t5_error *err);
