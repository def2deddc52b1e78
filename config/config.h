/* config/config.h: settings of t5serve: defaults, file, environment, flags; later ones win.
 *
 * Why one table (keys.def): a key's name, type, range and help stand in one row, and the struct, the parser, --help and
 * --print-config are made from it, so that they cannot disagree. Each value remembers where it came from, because
 * "which of four places set this" is the first question when a server behaves oddly. One thread, at start. */
#pragma once
#include "base/error.h"
#include <stdint.h>
#include <stdio.h>

#define T5_CONFIG_TEXT_MAX 1024
#define T5_CONFIG_LIST_BYTES 16384
#define T5_CONFIG_ORIGIN_MAX 128

typedef enum {
#define T5_KEY_TEXT(name, value, choices, help) T5_KEY_##name,
#define T5_KEY_INT(name, value, min, max, help) T5_KEY_##name,
#define T5_KEY_BYTES(name, value, min, max, help) T5_KEY_##name,
#define T5_KEY_BOOL(name, value, help) T5_KEY_##name,
#define T5_KEY_LIST(name, help) T5_KEY_##name,
#include "config/keys.def"
#undef T5_KEY_TEXT
#undef T5_KEY_INT
#undef T5_KEY_BYTES
#undef T5_KEY_BOOL
#undef T5_KEY_LIST
    T5_KEYS_COUNT
} t5_config_key;

/* Texts one behind the other, each with its NUL; what is behind the last one is zero. */
typedef struct {
    char bytes[T5_CONFIG_LIST_BYTES];
    int32_t n_bytes, n_texts;
} t5_config_list;

typedef struct {
#define T5_KEY_TEXT(name, value, choices, help) char name[T5_CONFIG_TEXT_MAX];
#define T5_KEY_INT(name, value, min, max, help) int64_t name;
#define T5_KEY_BYTES(name, value, min, max, help) int64_t name;
#define T5_KEY_BOOL(name, value, help) bool name;
#define T5_KEY_LIST(name, help) t5_config_list name;
#include "config/keys.def"
#undef T5_KEY_TEXT
#undef T5_KEY_INT
#undef T5_KEY_BYTES
#undef T5_KEY_BOOL
#undef T5_KEY_LIST
    /* "default", "file /etc/t5serve.json", "environment T5_PORT", "flag --port"; indexed by t5_config_key. */
    char origins[T5_KEYS_COUNT][T5_CONFIG_ORIGIN_MAX];
    char warning[1024]; /* one line worth logging (an unknown T5_ variable), or "" */
} t5_config;

typedef enum {
    T5_CONFIG_RUN,
    T5_CONFIG_HELP,    /* --help was given: nothing else was checked */
    T5_CONFIG_VERSION, /* --version, the same */
    T5_CONFIG_PRINT,   /* --print-config */
    T5_CONFIG_HEALTH,  /* --health */
} t5_config_action;

void t5_config_init(t5_config *c);
/* Reads the file named by --config or T5_CONFIG, then `env` (NAME=VALUE, NULL at the end), then the flags. T5_ERR_ARG
 * (T5_ERR_IO, T5_ERR_FORMAT for the file) names the key, where it was set and what is allowed. */
t5_status t5_config_load(int argc, char *const *argv, char *const *env, t5_config *out, t5_config_action *action,
                         t5_error *err);
void t5_config_print_help(FILE *file);
/* The settings as JSON that is itself a valid configuration file; "_origin" tells where each came from. */
t5_status t5_config_print(const t5_config *c, FILE *file, t5_error *err);

#define T5_CONFIG_NAMES_MAX 1024

/* Names of settings, "a,b", or "". */
typedef struct {
    char taken[T5_CONFIG_NAMES_MAX];
    char needs_restart[T5_CONFIG_NAMES_MAX];
} t5_config_change;

/* Copies into `running` those settings of `fresh` that differ and are among `keys`, with their origins; tells which
 * they were, and which others differ. */
void t5_config_take(t5_config *running, const t5_config *fresh, const t5_config_key *keys, int32_t n_keys,
                    t5_config_change *out);

/* The text behind `text` in the list, the first one for NULL; NULL behind the last. */
const char *t5_config_list_next(const t5_config_list *list, const char *text);

/* The folder of the model that ships with us: models/NAME beside or above the executable (a build or source tree),
 * share/t5serve/models/NAME there (an install), or the source tree it was built from. T5_ERR_IO when there is none. */
t5_status t5_config_bundled_model(char *out, size_t out_bytes, t5_error *err);

/* The model folders: those of `model`, then the subfolders of `models_dir` that have a config.json, by name; with
 * neither the bundled one. T5_ERR_ARG: more than T5_MODELS_MAX; T5_ERR_IO: models_dir cannot be read, or has none. */
t5_status t5_config_models(const t5_config *c, t5_config_list *out, t5_error *err);
