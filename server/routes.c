/* server/routes.c: the table, and the small endpoints. */
#include "server/routes.h"
#include "base/log.h"
#include "server/access_log.h"
#include "server/deepl.h"
#include "server/generate.h"
#include "server/libretranslate.h"
#include "server/openai.h"
#include "server/web.h"
#include "text/langcodes.h"

#include <gnutls/gnutls.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool t5_server_is_lost(const t5_server *s)
{
    return t5_catalog_is_lost(s->catalog);
}

/* Why no new work should come, or NULL. */
static const char *why_not_ready(const t5_exchange *x, const t5_server *s)
{
    if (t5_http_is_draining(t5_exchange_http(x))) return "the server is stopping";
    return t5_server_is_lost(s) ? "the device failed" : NULL;
}

static void reply_health(t5_exchange *x, const char *failure)
{
    if (failure != NULL) {
        t5_exchange_fail_status(x, 503, failure);
        return;
    }
    json_t *value = json_pack("{s:s}", "status", "ok");
    t5_exchange_reply_json(x, 200, value);
    json_decref(value);
}

/* The process answers. */
static void handle_live(t5_exchange *x, void *server)
{
    (void)server;
    reply_health(x, NULL);
}

/* It can translate; while it drains it still can, but should get no new work: that is /health/ready. */
static void handle_health(t5_exchange *x, void *server)
{
    reply_health(x, t5_server_is_lost(server) ? "the device failed" : NULL);
}

static void handle_ready(t5_exchange *x, void *server)
{
    reply_health(x, why_not_ready(x, server));
}

static void handle_languages(t5_exchange *x, void *server)
{
    const t5_server *s = server;
    char *copy = malloc(s->languages_bytes);
    if (copy != NULL) memcpy(copy, s->languages, s->languages_bytes);
    t5_exchange_reply(x, copy != NULL ? 200 : 503, "application/json", copy, copy != NULL ? s->languages_bytes : 0);
}

/* Whoever asks knows the token, or none is needed. */
static bool may_read_metrics(const t5_exchange *x, const t5_server *s)
{
    static const char scheme[] = "Bearer ";
    const size_t n_scheme = sizeof scheme - 1, n_bytes = strlen(s->metrics_token);
    const char *given = t5_exchange_header(x, "Authorization");
    if (n_bytes == 0) return true;
    return given != NULL && strncasecmp(given, scheme, n_scheme) == 0 && strlen(given + n_scheme) == n_bytes &&
           gnutls_memcmp(given + n_scheme, s->metrics_token, n_bytes) == 0;
}

static void handle_metrics(t5_exchange *x, void *server)
{
    static const char *const challenge[] = {"WWW-Authenticate", "Bearer", NULL};
    const t5_server *s = server;
    if (!s->has_metrics) {
        t5_exchange_fail_status(x, 404, "not found");
        return;
    }
    if (!may_read_metrics(x, s)) {
        t5_exchange_set_headers(x, challenge);
        t5_exchange_fail_status(x, 401, "the metrics need a token");
        return;
    }
    const t5_metrics_gauges gauges = {
        .version = s->version,
        .catalog = s->catalog,
        .requests_pending = t5_http_pending(t5_exchange_http(x)),
        .n_connections = t5_http_connections(t5_exchange_http(x)),
        .n_log_lines_dropped = t5_log_dropped(),
        .is_ready = why_not_ready(x, s) == NULL,
    };
    size_t n_bytes = 0;
    char *text = t5_metrics_format(s->metrics, &gauges, &n_bytes);
    t5_exchange_reply(x, text != NULL ? 200 : 503, "text/plain; version=0.0.4; charset=utf-8", text, n_bytes);
}

#define LT T5_ERROR_LIBRETRANSLATE
#define DEEPL T5_ERROR_DEEPL
#define OPENAI T5_ERROR_OPENAI

const t5_http_route t5_server_routes[] = {
    {"POST", "/translate", LT, true, t5_translate_handle, t5_translate_finish, t5_translate_cancel,
     t5_translate_release},
    {"POST", "/generate", LT, true, t5_generate_handle, t5_generate_finish, t5_generate_cancel, t5_generate_release},
    {"POST", "/detect", LT, false, t5_detect_handle, NULL, NULL, NULL},
    {"POST", "/suggest", LT, false, t5_suggest_handle, NULL, NULL, NULL},
    {"POST", "/translate_file", LT, false, t5_translate_file_handle, NULL, NULL, NULL},
    {"GET", "/download_file/*", LT, false, t5_download_file_handle, NULL, NULL, NULL},
    {"GET", "/languages", LT, false, handle_languages, NULL, NULL, NULL},
    {"GET", "/frontend/settings", LT, false, t5_frontend_settings_handle, NULL, NULL, NULL},
    {"GET", "/spec", LT, false, t5_spec_handle, NULL, NULL, NULL},
    {"GET", "/health", LT, false, handle_health, NULL, NULL, NULL},
    {"GET", "/health/live", LT, false, handle_live, NULL, NULL, NULL},
    {"GET", "/health/ready", LT, false, handle_ready, NULL, NULL, NULL},
    {"GET", "/ready", LT, false, handle_ready, NULL, NULL, NULL},
    {"GET", "/metrics", LT, false, handle_metrics, NULL, NULL, NULL},
    {"POST", "/v2/translate", DEEPL, true, t5_deepl_handle, t5_deepl_finish, t5_deepl_cancel, t5_deepl_release},
    {"GET", "/v2/translate", DEEPL, true, t5_deepl_handle, t5_deepl_finish, t5_deepl_cancel, t5_deepl_release},
    {"GET", "/v2/languages", DEEPL, false, t5_deepl_languages_handle, NULL, NULL, NULL},
    {"POST", "/v2/languages", DEEPL, false, t5_deepl_languages_handle, NULL, NULL, NULL},
    {"GET", "/v2/usage", DEEPL, false, t5_deepl_usage_handle, NULL, NULL, NULL},
    {"POST", "/v2/usage", DEEPL, false, t5_deepl_usage_handle, NULL, NULL, NULL},
    {"GET", "/v2/glossaries", DEEPL, false, t5_deepl_glossaries_handle, NULL, NULL, NULL},
    {"POST", "/v2/glossaries", DEEPL, false, t5_deepl_no_glossaries_handle, NULL, NULL, NULL},
    {"GET", "/v2/glossary-language-pairs", DEEPL, false, t5_deepl_glossary_pairs_handle, NULL, NULL, NULL},
    {"POST", "/v2/document", DEEPL, false, t5_deepl_document_handle, NULL, NULL, NULL},
    {"GET", "/v3/languages", DEEPL, false, t5_deepl_v3_languages_handle, NULL, NULL, NULL},
    {"GET", "/v3/languages/resources", DEEPL, false, t5_deepl_v3_resources_handle, NULL, NULL, NULL},
    {"GET", "/v3/glossaries", DEEPL, false, t5_deepl_glossaries_handle, NULL, NULL, NULL},
    {"POST", "/v3/glossaries", DEEPL, false, t5_deepl_no_glossaries_handle, NULL, NULL, NULL},
    {"POST", "/v1/completions", OPENAI, true, t5_completions_handle, t5_completions_finish, t5_completions_cancel,
     t5_completions_release},
    {"GET", "/v1/models", OPENAI, false, t5_models_handle, NULL, NULL, NULL},
    {"GET", "/v1/models/*", OPENAI, false, t5_model_handle, NULL, NULL, NULL},
    {"GET", "/", LT, false, t5_web_handle_page, NULL, NULL, NULL},
    {"GET", "/docs", LT, false, t5_web_handle_docs, NULL, NULL, NULL},
    {"GET", "/docs/", LT, false, t5_web_handle_docs_folder, NULL, NULL, NULL},
    {"GET", "/web/docs.js", LT, false, t5_web_handle_docs_script, NULL, NULL, NULL},
    {"GET", "/web/style.css", LT, false, t5_web_handle_style, NULL, NULL, NULL},
    {"GET", "/web/app.js", LT, false, t5_web_handle_script, NULL, NULL, NULL},
    {"GET", "/web/icon.svg", LT, false, t5_web_handle_icon, NULL, NULL, NULL},
};
const int32_t t5_server_routes_count = (int32_t)T5_COUNT(t5_server_routes);

/* {"code":..,"name":..,"targets":[..]}; a language is its own target too, as with LibreTranslate. */
static json_t *describe_language(const t5_languages *l, const char *code)
{
    const char *name = t5_langcode_name(code);
    json_t *targets = json_array();
    for (int32_t i = 0; i < l->n_codes; i++) {
        const char *target = l->codes[i];
        bool is_target = strcmp(target, code) == 0 || l->leads(l->ctx, code, target);
        if (is_target) json_array_append_new(targets, json_string(target));
    }
    return json_pack("{s:s, s:s, s:o}", "code", code, "name", name != NULL ? name : code, "targets", targets);
}

/* Each code of the setting `languages` is one of ours: a missing one would be noticed late. */
static t5_status check_wanted(const t5_server *s, t5_error *err)
{
    char code[T5_LANGCODE_BYTES];
    const t5_languages *l = s->rules.languages;
    if (s->wanted_languages[0] != '\0' && l->n_codes == 0)
        return T5_FAIL(err, T5_ERR_ARG, "languages: no model translates from one of '%.200s' into another",
                       s->wanted_languages);
    for (const char *begin = s->wanted_languages, *rest; (rest = t5_langcode_next(begin, code)) != NULL; begin = rest)
        if (t5_langcode_match(code, l->codes, l->n_codes) == NULL)
            return T5_FAIL(err, T5_ERR_ARG, "languages: '%s' is no language of the model",
                           code[0] != '\0' ? code : "that");
    return T5_OK;
}

/* A language that the page should begin with, and that no model has, is passed over. "auto" and "locale" are the words
 * of LibreTranslate for the page's own choice. */
static void warn_page_language(const t5_languages *l, const char *key, const char *wanted)
{
    char quoted[T5_LANGCODE_BYTES * 2];
    const bool is_word = wanted[0] == '\0' || strcmp(wanted, "auto") == 0 || strcmp(wanted, "locale") == 0;
    if (is_word || t5_langcode_match(wanted, l->codes, l->n_codes) != NULL) return;
    t5_log(T5_LOG_WARN, "page_language key=%s value=%s text=\"no model has this language\"", key,
           t5_log_quote(quoted, sizeof quoted, wanted));
}

t5_status t5_server_init(t5_server *s, t5_error *err)
{
    const t5_languages *l = t5_catalog_languages(s->catalog);
    if (l->n_codes > T5_LANGUAGES_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%d languages, at most %d can be served", l->n_codes, T5_LANGUAGES_MAX);
    s->rules.languages = l;
    if (check_wanted(s, err) != T5_OK) return err->status;
    warn_page_language(l, "frontend_language_source", s->page_source);
    warn_page_language(l, "frontend_language_target", s->page_target);
    json_t *languages = json_array();
    for (int32_t i = 0; i < l->n_codes; i++)
        json_array_append_new(languages, describe_language(l, l->codes[i]));
    s->languages = json_dumps(languages, JSON_COMPACT | JSON_SORT_KEYS);
    bool is_complete = json_array_size(languages) == (size_t)l->n_codes && s->languages != NULL;
    json_decref(languages);
    if (!is_complete) return T5_FAIL(err, T5_ERR_NOMEM, "out of memory for %d languages", l->n_codes);
    s->languages_bytes = strlen(s->languages) + 1;
    s->languages[s->languages_bytes - 1] = '\n'; /* in place of the NUL: a length goes with it */
    return t5_metrics_create(t5_server_routes, t5_server_routes_count, &s->metrics, err);
}

void t5_server_deinit(t5_server *s)
{
    free(s->languages);
    t5_metrics_destroy(s->metrics);
    s->languages = NULL;
    s->metrics = NULL;
}

void t5_server_observe(void *server, const t5_http_summary *summary)
{
    t5_server *s = server;
    t5_metrics_count(s->metrics, summary->route, summary->status, summary->ns);
    if (s->has_access_log) t5_access_log(summary, s->has_access_client);
}

t5_status t5_server_check_room(void *server, int64_t deadline_ms, t5_error *err)
{
    const t5_server *s = server;
    return t5_catalog_check_room(s->catalog, deadline_ms, err);
}
