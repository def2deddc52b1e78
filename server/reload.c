/* server/reload.c: see reload.h. Requests are served meanwhile: what they read are atomics. */
#include "server/reload.h"
#include "base/log.h"
#include "server/tls.h"

#include <string.h>

/* The others are read once, when the model is opened or the server starts. */
static const t5_config_key changeable[] = {
    T5_KEY_log_level,          T5_KEY_log_format,        T5_KEY_access_log,
    T5_KEY_access_log_client,  T5_KEY_char_limit,        T5_KEY_max_texts_per_request,
    T5_KEY_alternatives_limit, T5_KEY_max_request_bytes, T5_KEY_request_timeout_ms,
    T5_KEY_drain_timeout_ms,   T5_KEY_metrics,           T5_KEY_req_limit,
    T5_KEY_hourly_req_limit,   T5_KEY_daily_req_limit,
};

void t5_reload_log(const t5_config *config)
{
    t5_log_level level = T5_LOG_INFO;
    t5_log_parse_level(config->log_level, &level);
    t5_log_set_level(level);
    t5_log_set_format(strcmp(config->log_format, "json") == 0 ? T5_LOG_JSON : T5_LOG_TEXT);
}

void t5_reload_apply(const t5_config *config, t5_server *server)
{
    server->rules.chars_max = config->char_limit;
    server->rules.texts_max = config->max_texts_per_request;
    server->rules.alternatives_max = config->alternatives_limit;
    const int64_t req_limits[T5_ACCESS_PERIODS] = {config->req_limit, config->hourly_req_limit,
                                                   config->daily_req_limit};
    t5_access_set_limits(server->access, req_limits);
    server->has_metrics = config->metrics;
    server->has_access_log = config->access_log;
    server->has_access_client = config->access_log_client;
}

void t5_reload_run(const t5_reload *r)
{
    static t5_config fresh; /* large, and one thread */
    t5_config_action action = T5_CONFIG_RUN;
    t5_config_change change;
    t5_error err = {0};
    char quoted[2 * T5_ERROR_TEXT_MAX];
    t5_tls *tls = NULL;
    t5_status status = t5_config_load(r->argc, r->argv, r->env, &fresh, &action, &err);
    if (status == T5_OK && r->config->tls_cert[0] != '\0')
        status = t5_tls_load(r->config->tls_cert, r->config->tls_key, &tls, &err);
    if (status == T5_OK) status = t5_access_reload(r->server->access, &err);
    if (status != T5_OK) {
        t5_tls_destroy(tls);
        t5_log(T5_LOG_ERROR, "reload_failed error=%s", t5_log_quote(quoted, sizeof quoted, err.text));
        return;
    }
    if (tls != NULL) t5_tls_use(tls);
    t5_config_take(r->config, &fresh, changeable, (int32_t)T5_COUNT(changeable), &change);
    t5_reload_log(r->config);
    t5_reload_apply(r->config, r->server);
    t5_http_set_limits(r->http, r->config->request_timeout_ms, (size_t)r->config->max_request_bytes);
    t5_log(change.needs_restart[0] != '\0' ? T5_LOG_WARN : T5_LOG_INFO, "reloaded changed=\"%s\" restart_needed=\"%s\"",
           change.taken, change.needs_restart);
}
