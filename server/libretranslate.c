/* server/libretranslate.c: the endpoints of LibreTranslate beside /translate and /languages that its clients call:
 * detection, settings for a page, the specification, and what is switched off here: suggestions and files. */
#include "server/libretranslate.h"
#include "base/utf8.h"
#include "server/admit.h"
#include "server/fields.h"
#include "server/routes.h"
#include "server/web.h"
#include "text/detect.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* --- POST /detect --- */

/* The candidates of all texts: the confidence of each language, weighted with the length of the texts. */
typedef struct {
    t5_detected found[T5_LANGUAGES_MAX];
    int32_t n_found;
    double n_chars;
} detection;

static void add_candidate(detection *d, const t5_detected *candidate, double weight)
{
    int32_t i = 0;
    while (i < d->n_found && strcmp(d->found[i].code, candidate->code) != 0)
        i++;
    if (i == d->n_found) d->found[d->n_found++] = (t5_detected){.code = candidate->code};
    d->found[i].confidence += weight * candidate->confidence;
}

static void add_text(detection *d, const json_t *text, const t5_server *s)
{
    t5_detected candidates[T5_DETECTED_MAX];
    const char *bytes = json_string_value(text);
    size_t n_bytes = json_string_length(text);
    double n_chars = (double)t5_utf8_count(bytes, n_bytes);
    int32_t n = t5_detect(bytes, n_bytes, s->rules.languages->codes, s->rules.languages->n_codes, candidates);
    for (int32_t i = 0; i < n; i++)
        add_candidate(d, &candidates[i], n_chars);
    d->n_chars += n_chars;
}

/* The three best, best first; of equal ones the one that came first. NULL when out of memory. */
static json_t *list_best(detection *d)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < T5_DETECTED_MAX && i < d->n_found; i++) {
        int32_t best = i;
        for (int32_t j = i + 1; j < d->n_found; j++)
            if (d->found[j].confidence > d->found[best].confidence) best = j;
        t5_detected chosen = d->found[best];
        memmove(&d->found[i + 1], &d->found[i], (size_t)(best - i) * sizeof chosen);
        d->found[i] = chosen;
        double confidence = d->n_chars > 0 ? round(10 * chosen.confidence / d->n_chars) / 10 : 0;
        bool says_nothing = i > 0 && confidence <= 0;
        if (!says_nothing)
            json_array_append_new(list, json_pack("{s:f, s:s}", "confidence", confidence, "language", chosen.code));
    }
    return list;
}

void t5_detect_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    t5_error err = {0};
    t5_status status = T5_OK;
    json_t *fields = NULL, *list = NULL;
    bool is_form = false;
    detection d = {.n_found = 0};

    T5_TRY(t5_exchange_fields(x, NULL, &fields, &is_form, &err));
    const json_t *q = json_object_get(fields, "q");
    const char *key = json_string_value(json_object_get(fields, "api_key"));
    t5_params_rules rules;
    if (!t5_server_admits(x, s, &t5_refusals_libretranslate, key, (int64_t)json_array_size(q), &rules)) {
        json_decref(fields);
        return;
    }
    T5_TRY(t5_params_check_q(q, &err));
    if (s->rules.languages->n_codes == 0)
        T5_TRY(T5_FAIL(&err, T5_ERR_ARG, "Invalid request: the model names no languages"));
    if (json_is_string(q)) add_text(&d, q, s);
    for (size_t i = 0; i < json_array_size(q); i++)
        add_text(&d, json_array_get(q, i), s);
    list = list_best(&d);
out:
    if (status != T5_OK) t5_exchange_fail(x, &err);
    if (status == T5_OK) t5_exchange_reply_json(x, 200, list);
    json_decref(list);
    json_decref(fields);
}

/* --- GET /frontend/settings --- */

/* The language that a setting names, as we write it; NULL when it names none of ours. */
static const char *find_wanted(const t5_server *s, const char *wanted)
{
    return wanted[0] != '\0' ? t5_langcode_match(wanted, s->rules.languages->codes, s->rules.languages->n_codes) : NULL;
}

/* What a page should offer first: English into the first other language. */
static const char *first_target(const t5_server *s)
{
    const char *wanted = find_wanted(s, s->page_target);
    if (wanted != NULL) return wanted;
    const t5_languages *l = s->rules.languages;
    for (int32_t i = 0; i < l->n_targets; i++)
        if (strcmp(l->targets[i], "en") != 0) return l->targets[i];
    return l->n_codes > 0 ? l->codes[0] : "en";
}

static json_t *describe_language(const char *code)
{
    const char *name = code != NULL ? t5_langcode_name(code) : NULL;
    if (code == NULL) return json_pack("{s:s, s:s}", "code", "auto", "name", "Auto Detect");
    return json_pack("{s:s, s:s}", "code", code, "name", name != NULL ? name : code);
}

void t5_frontend_settings_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    json_t *value = json_pack("{s:I, s:b, s:I, s:b, s:i, s:b, s:{s:o, s:o}, s:b, s:[]}", "alternativesLimit",
                              (json_int_t)s->rules.alternatives_max, "apiKeys", s->has_keys, "charLimit",
                              (json_int_t)s->rules.chars_max, "filesTranslation", 0, "frontendTimeout",
                              s->page_timeout_ms, "keyRequired", s->requires_key, "language", "source",
                              describe_language(find_wanted(s, s->page_source)), "target",
                              describe_language(first_target(s)), "suggestions", 0, "supportedFilesFormat");
    t5_exchange_reply_json(x, 200, value);
    json_decref(value);
}

/* --- GET /spec, and what is switched off --- */

void t5_spec_handle(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    const t5_embedded_file *file = t5_web_find("spec.json");
    json_t *spec = file != NULL ? json_loadb((const char *)file->bytes, file->n_bytes, 0, NULL) : NULL;
    json_object_set_new(json_object_get(spec, "info"), "version", json_string(s->version));
    json_object_set_new(spec, "basePath", json_string(s->path_prefix[0] != '\0' ? s->path_prefix : "/"));
    t5_exchange_reply_json(x, 200, spec);
    json_decref(spec);
}

void t5_suggest_handle(t5_exchange *x, void *server)
{
    (void)server;
    t5_exchange_fail_status(x, 403, "Suggestions are disabled on this server.");
}

#define TEXT_NO_FILES "Files translation are disabled on this server."

void t5_translate_file_handle(t5_exchange *x, void *server)
{
    (void)server;
    t5_exchange_fail_status(x, 403, TEXT_NO_FILES);
}

void t5_download_file_handle(t5_exchange *x, void *server)
{
    (void)server;
    t5_exchange_fail_status(x, 400, TEXT_NO_FILES);
}
