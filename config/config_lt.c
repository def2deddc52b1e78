/* config/config_lt.c: LibreTranslate's variables, so that a compose file moves by changing its image. What only tunes
 * LibreTranslate's own workings is passed over; a limit or a lock that this server does not have is a warning, because
 * its owner counts on it. */
#include "config/config_set.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *variable;
    t5_config_key key;
} variables[] = {
    {"LT_HOST", T5_KEY_host},
    {"LT_PORT", T5_KEY_port},
    {"LT_URL_PREFIX", T5_KEY_url_prefix},
    {"LT_LOAD_ONLY", T5_KEY_languages},
    {"LT_REQ_LIMIT", T5_KEY_req_limit},
    {"LT_HOURLY_REQ_LIMIT", T5_KEY_hourly_req_limit},
    {"LT_DAILY_REQ_LIMIT", T5_KEY_daily_req_limit},
    {"LT_CHAR_LIMIT", T5_KEY_char_limit},
    {"LT_BATCH_LIMIT", T5_KEY_max_texts_per_request},
    {"LT_ALTERNATIVES_LIMIT", T5_KEY_alternatives_limit},
    {"LT_GET_API_KEY_LINK", T5_KEY_get_api_key_link},
    {"LT_METRICS", T5_KEY_metrics},
    {"LT_METRICS_AUTH_TOKEN", T5_KEY_metrics_auth_token},
    {"LT_DISABLE_WEB_UI", T5_KEY_disable_web_ui},
    {"LT_FRONTEND_LANGUAGE_SOURCE", T5_KEY_frontend_language_source},
    {"LT_FRONTEND_LANGUAGE_TARGET", T5_KEY_frontend_language_target},
    {"LT_FRONTEND_TIMEOUT", T5_KEY_frontend_timeout},
};

/* Limits and locks of LibreTranslate's that have no counterpart. */
static const char *const missing[] = {
    "LT_API_KEYS_REMOTE",        "LT_REQUIRE_API_KEY_ORIGIN",
    "LT_REQUIRE_API_KEY_SECRET", "LT_REQUIRE_API_KEY_FINGERPRINT",
    "LT_REQ_FLOOD_THRESHOLD",    "LT_REQ_TIME_COST",
    "LT_HOURLY_REQ_LIMIT_DECAY", "LT_UNDER_ATTACK",
};

const char *t5_config_env(char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; *env != NULL; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') return *env + n + 1;
    return NULL;
}

void t5_config_warn(t5_config *c, const char *text)
{
    const size_t n = strlen(c->warning);
    snprintf(c->warning + n, sizeof c->warning - n, "%s%s", n > 0 ? "; " : "", text);
}

/* The variable is set to something that LibreTranslate does not take for "off". */
static bool is_on(char *const *env, const char *name)
{
    static const char *const offs[] = {"", "0", "-1", "false"};
    const char *value = t5_config_env(env, name);
    for (size_t i = 0; i < T5_COUNT(offs) && value != NULL; i++)
        if (strcasecmp(value, offs[i]) == 0) return false;
    return value != NULL;
}

t5_status t5_config_load_lt(t5_config *c, char *const *env, t5_error *err)
{
    t5_status status = T5_OK;
    char text[T5_CONFIG_ORIGIN_MAX];
    for (size_t i = 0; i < T5_COUNT(variables) && status == T5_OK; i++) {
        const char *value = t5_config_env(env, variables[i].variable);
        if (value == NULL || value[0] == '\0') continue;
        snprintf(text, sizeof text, "environment %s", variables[i].variable);
        status = t5_config_set_text(c, variables[i].key, value, text, err);
    }
    for (size_t i = 0; i < T5_COUNT(missing); i++) {
        if (!is_on(env, missing[i])) continue;
        snprintf(text, sizeof text, "environment %s: has no effect here", missing[i]);
        t5_config_warn(c, text);
    }
    return status;
}

t5_status t5_config_check_lt(const t5_config *c, char *const *env, t5_error *err)
{
    if (!is_on(env, "LT_API_KEYS") || c->api_keys[0] != '\0') return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG,
                   "api_keys (environment LT_API_KEYS): LibreTranslate's database of keys is not read; make a file of "
                   "keys with `t5serve keys add` and name it with T5_API_KEYS");
}
