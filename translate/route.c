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

t5_status t5_route_match(const char *code, const t5_languages *languages, const char **out, t5_error *err)
{
    *out = t5_langcode_match(code, languages->codes, languages->n_codes);
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

static bool leads_to(const t5_languages *l, const char *source, const char *target)
{
    return strcmp(source, target) == 0 || l->leads(l->ctx, source, target);
}

t5_status t5_route_check(const t5_languages *languages, const char *source, const char *target, t5_error *err)
{
    if (leads_to(languages, source, target)) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "%s (%s) is not available as a target language from %s (%s)", name_of(target),
                   t5_langcode_internal(target), name_of(source), t5_langcode_internal(source));
}

/* The language of the text among all that are known: a text that is in the target language already comes back as it is.
 * What the detector is not sure of, and what says nothing of its language (digits, emoji), takes a language that leads
 * to the target, so that no text is refused for a guess. */
static void detect_source(const t5_languages *l, const t5_text *text, t5_route *route)
{
    t5_detected detected[T5_DETECTED_MAX];
    T5_ASSERT(l->n_sources > 0);
    const int32_t n = t5_detect(text->text, text->n_bytes, l->codes, l->n_codes, detected);
    T5_ASSERT(n > 0);
    int32_t i = 0;
    while (detected[0].confidence < CONFIDENCE_SURE && i < n && !leads_to(l, detected[i].code, route->target))
        i++;
    if (i < n) {
        route->source = detected[i].code;
        route->confidence = detected[i].confidence;
    } else {
        route->source = l->sources[0];
        for (int32_t k = 0; k < l->n_sources && !leads_to(l, route->source, route->target); k++)
            route->source = l->sources[k];
    }
    route->detected = route->source;
}

t5_status t5_route_languages(const t5_languages *languages, const t5_text *text, t5_route *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_route route = {0};
    const bool is_auto = strcasecmp(text->source, "auto") == 0;
    if (!is_auto) T5_TRY(t5_route_match(text->source, languages, &route.source, err));
    T5_TRY(t5_route_match(text->target, languages, &route.target, err));
    if (is_auto) detect_source(languages, text, &route);
    *out = route;
out:
    return status;
}

t5_status t5_route_find(const t5_translator *t, const t5_text *text, t5_route *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_route route = {0};
    T5_TRY(t5_route_languages(&t->languages, text, &route, err));
    T5_TRY(t5_route_check(&t->languages, route.source, route.target, err));
    if (strcmp(route.source, route.target) != 0) route.pair = t5_profile_find(&t->profile, route.source, route.target);
    *out = route;
out:
    return status;
}
