/* translate/route.c: see route.h. */
#include "translate/route.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "text/detect.h"
#include "text/langcodes.h"
#include "translate/translator_internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CODE_SHOWN_BYTES 32
#define CONFIDENCE_SURE 50.0 /* detect.h: below it is a guess */

/* What a client sent as a code, fit for one line of an error text: the internal form of a well-formed code, else at
 * most CODE_SHOWN_BYTES of it. */
static void show_code(const char *code, char out[CODE_SHOWN_BYTES + 1])
{
    char normal[T5_LANGCODE_BYTES];
    const size_t n_bytes = strlen(code);
    if (t5_langcode_normalize(code, normal)) {
        snprintf(out, CODE_SHOWN_BYTES + 1, "%s", t5_langcode_internal(normal));
        return;
    }
    if (!t5_utf8_is_valid(code, n_bytes)) {
        snprintf(out, CODE_SHOWN_BYTES + 1, "language");
        return;
    }
    const size_t n_shown = t5_utf8_cut(code, n_bytes, CODE_SHOWN_BYTES);
    for (size_t i = 0; i < n_shown; i++) {
        const unsigned char byte = (unsigned char)code[i];
        out[i] = byte < 0x20 || byte == 0x7f ? '?' : code[i];
    }
    out[n_shown] = '\0';
}

t5_status t5_route_match(const char *code, const char *const *languages, int32_t n_languages, const char **out,
                         t5_error *err)
{
    *out = t5_langcode_match(code, languages, n_languages);
    if (*out != NULL) return T5_OK;
    char shown[CODE_SHOWN_BYTES + 1];
    show_code(code, shown);
    return T5_FAIL(err, T5_ERR_ARG, "%s is not supported", shown);
}

static const char *name_of(const char *code)
{
    const char *name = t5_langcode_name(code);
    return name != NULL ? name : code;
}

t5_status t5_route_pair(const t5_profile *profile, const char *source, const char *target, const t5_pair **out,
                        t5_error *err)
{
    *out = NULL;
    if (strcmp(source, target) == 0) return T5_OK;
    *out = t5_profile_find(profile, source, target);
    if (*out != NULL) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "%s (%s) is not available as a target language from %s (%s)", name_of(target),
                   t5_langcode_internal(target), name_of(source), t5_langcode_internal(source));
}

static bool leads_to(const t5_translator *t, const char *source, const char *target)
{
    return strcmp(source, target) == 0 || t5_profile_find(&t->profile, source, target) != NULL;
}

/* The language of the text among all that the model knows: a text that is in the target language already comes back as
 * it is. What the detector is not sure of, and what says nothing of its language (digits, emoji), takes a language that
 * leads to the target, so that no text is refused for a guess. */
static void detect_source(const t5_translator *t, const t5_text *text, t5_route *route)
{
    t5_detected detected[T5_DETECTED_MAX];
    T5_ASSERT(t->n_sources > 0);
    const int32_t n = t5_detect(text->text, text->n_bytes, t->languages, t->n_languages, detected);
    T5_ASSERT(n > 0);
    int32_t i = 0;
    while (detected[0].confidence < CONFIDENCE_SURE && i < n && !leads_to(t, detected[i].code, route->target))
        i++;
    if (i < n) {
        route->source = detected[i].code;
        route->confidence = detected[i].confidence;
    } else {
        route->source = t->sources[0];
        for (int32_t k = 0; k < t->n_sources && !leads_to(t, route->source, route->target); k++)
            route->source = t->sources[k];
    }
    route->detected = route->source;
}

t5_status t5_route_find(const t5_translator *t, const t5_text *text, t5_route *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_route route = {0};
    const bool is_auto = strcasecmp(text->source, "auto") == 0;
    if (!is_auto) T5_TRY(t5_route_match(text->source, t->languages, t->n_languages, &route.source, err));
    T5_TRY(t5_route_match(text->target, t->languages, t->n_languages, &route.target, err));
    if (is_auto) detect_source(t, text, &route);
    T5_TRY(t5_route_pair(&t->profile, route.source, route.target, &route.pair, err));
    *out = route;
out:
    return status;
}
