/* config/config_set.h: one setting at a time; private to config/. */
#pragma once
#include "config/config.h"
#include <jansson.h>

/* The key called `name` (dashes count as underscores), or T5_KEYS_COUNT. */
t5_config_key t5_config_find(const char *name);
const char *t5_config_key_name(t5_config_key key);
bool t5_config_key_is_bool(t5_config_key key);
/* ", did you mean port?" when a key is close to `name`, else "". */
const char *t5_config_suggest(const char *name, char *out, size_t out_bytes);
/* The value of `name` in an environment (NAME=VALUE, NULL at the end), or NULL. */
const char *t5_config_env(char *const *env, const char *name);
/* Adds a line to c->warning, as far as there is room. */
void t5_config_warn(t5_config *c, const char *text);
/* config_lt.c: LibreTranslate's variables; what has no effect here is a warning where that matters. */
t5_status t5_config_load_lt(t5_config *c, char *const *env, t5_error *err);
/* After all settings are read. T5_ERR_ARG: LT_API_KEYS wants keys, and there are none. */
t5_status t5_config_check_lt(const t5_config *c, char *const *env, t5_error *err);
/* Appends a text. False: no room. */
bool t5_config_list_add(t5_config_list *list, const char *text);
/* Splits the value of a variable at its colons, as in PATH. */
t5_status t5_config_set_variable(t5_config *c, t5_config_key key, const char *value, const char *origin, t5_error *err);
/* Set one key and its origin. A list that was set by the same origin grows. T5_ERR_ARG names key, origin, what was
 * given and what is allowed. */
t5_status t5_config_set_text(t5_config *c, t5_config_key key, const char *value, const char *origin, t5_error *err);
t5_status t5_config_set_json(t5_config *c, t5_config_key key, const json_t *value, const char *origin, t5_error *err);
