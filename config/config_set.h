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
/* Set one key and its origin. T5_ERR_ARG names key, origin, what was given and what is allowed. */
t5_status t5_config_set_text(t5_config *c, t5_config_key key, const char *value, const char *origin, t5_error *err);
t5_status t5_config_set_json(t5_config *c, t5_config_key key, const json_t *value, const char *origin, t5_error *err);
