/* config/config_sources.c: where settings come from, lowest first: file, LT_ variables, T5_ variables, flags. */
#include "base/file.h"
#include "base/utf8.h"
#include "config/config_set.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE_MAX (1 << 20)

static t5_status set_from_object(t5_config *c, json_t *root, const char *path, t5_error *err)
{
    t5_status status = T5_OK;
    char origin[T5_CONFIG_ORIGIN_MAX], hint[80];
    const char *name = NULL;
    json_t *value = NULL;
    snprintf(origin, sizeof origin, "file %s", path);
    json_object_foreach(root, name, value)
    {
        if (name[0] == '_') continue; /* a comment */
        t5_config_key key = t5_config_find(name);
        if (key == T5_KEYS_COUNT || strchr(name, '-') != NULL)
            return T5_FAIL(err, T5_ERR_ARG, "unknown key '%.40s' (%s)%s", name, origin,
                           t5_config_suggest(name, hint, sizeof hint));
        status = t5_config_set_json(c, key, value, origin, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* `origin` is who named the file. */
static t5_status load_file(t5_config *c, const char *path, const char *origin, t5_error *err)
{
    t5_status status = T5_OK;
    char *text = NULL;
    size_t n_bytes = 0;
    json_t *root = NULL;
    json_error_t where;
    t5_error cause = {0};

    status = t5_file_read(path, CONFIG_FILE_MAX, &text, &n_bytes, &cause);
    if (status != T5_OK) {
        t5_error_set(err, status, cause.file, cause.line, "config (%s): %s", origin, cause.text);
        goto out;
    }
    const size_t n_mark = t5_utf8_mark(text, n_bytes); /* no JSON */
    root = json_loadb(text + n_mark, n_bytes - n_mark, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: line %d: %s", path, where.line, where.text);
        goto out;
    }
    if (!json_is_object(root)) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: must be a JSON object of settings", path);
        goto out;
    }
    T5_TRY(set_from_object(c, root, path, err));
out:
    json_decref(root);
    free(text);
    return status;
}

/* An unknown T5_ variable is only worth a warning: Kubernetes adds T5_SERVICE_HOST and the like for a service "t5". */
static t5_status load_t5_environment(t5_config *c, char *const *env, t5_error *err)
{
    for (; *env != NULL; env++) {
        const char *equals = strchr(*env, '=');
        if (strncmp(*env, "T5_", 3) != 0 || equals == NULL) continue;
        char name[64], origin[T5_CONFIG_ORIGIN_MAX], hint[80];
        int n = (int)(equals - *env);
        snprintf(origin, sizeof origin, "environment %.*s", n, *env);
        snprintf(name, sizeof name, "%.*s", n - 3, *env + 3);
        for (char *p = name; *p != '\0'; p++)
            *p = (char)tolower((unsigned char)*p);
        if (strcmp(name, "config") == 0 || strncmp(name, "cuda_", 5) == 0) continue; /* the GPU plug-in's: device/ */
        t5_config_key key = t5_config_find(name);
        if (key == T5_KEYS_COUNT) {
            char text[160];
            snprintf(text, sizeof text, "%s: no such setting%s", origin, t5_config_suggest(name, hint, sizeof hint));
            t5_config_warn(c, text);
            continue;
        }
        t5_status status = t5_config_set_variable(c, key, equals + 1, origin, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* A word that is no flag. Behind a boolean it is meant for it. */
static t5_status refuse_word(const char *word, const char *before, t5_error *err)
{
    const bool is_behind_flag = strncmp(before, "--", 2) == 0;
    const t5_config_key key = is_behind_flag ? t5_config_find(before + 2) : T5_KEYS_COUNT;
    if (key != T5_KEYS_COUNT && t5_config_key_is_bool(key))
        return T5_FAIL(err, T5_ERR_ARG, "unexpected argument '%.60s'; with a value the flag is %s=%.60s", word, before,
                       word);
    return T5_FAIL(err, T5_ERR_ARG, "unexpected argument '%.60s' (t5serve takes only flags; see --help)", word);
}

/* One flag: "--name value", "--name=value", or "--name" alone for a boolean. *i_arg moves to the last word used. */
static t5_status load_flag(t5_config *c, int argc, char *const *argv, int *i_arg, t5_error *err)
{
    const char *word = argv[*i_arg];
    char name[64], origin[T5_CONFIG_ORIGIN_MAX], hint[80];
    if (strncmp(word, "--", 2) != 0) return refuse_word(word, argv[*i_arg - 1], err);
    const char *equals = strchr(word, '=');
    int n = equals != NULL ? (int)(equals - word) : (int)strlen(word);
    snprintf(origin, sizeof origin, "flag %.*s", n, word);
    snprintf(name, sizeof name, "%.*s", n - 2, word + 2);
    t5_config_key key = t5_config_find(name);
    bool is_config = strcmp(name, "config") == 0;
    if (key == T5_KEYS_COUNT && !is_config)
        return T5_FAIL(err, T5_ERR_ARG, "unknown flag --%.60s%s", name, t5_config_suggest(name, hint, sizeof hint));

    const char *value = equals != NULL ? equals + 1 : NULL;
    if (value == NULL && !is_config && t5_config_key_is_bool(key)) value = "true";
    if (value == NULL) {
        if (*i_arg + 1 >= argc) return T5_FAIL(err, T5_ERR_ARG, "flag --%s: needs a value", name);
        value = argv[++*i_arg];
    }
    return is_config ? T5_OK : t5_config_set_text(c, key, value, origin, err); /* --config was read before */
}

/* The last --config, else T5_CONFIG, else NULL. */
static const char *config_path(int argc, char *const *argv, char *const *env, const char **out_origin)
{
    const char *path = t5_config_env(env, "T5_CONFIG"), *flag = NULL;
    if (path != NULL && path[0] == '\0') path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) flag = argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) flag = argv[i + 1];
    }
    *out_origin = flag != NULL ? "flag --config" : "environment T5_CONFIG";
    return flag != NULL ? flag : path;
}

/* An address in brackets, as URLs and LibreTranslate's LT_HOST have it. */
static void strip_brackets(char *host)
{
    const size_t n = strlen(host);
    if (n < 3 || host[0] != '[' || host[n - 1] != ']') return;
    memmove(host, host + 1, n - 2);
    host[n - 2] = '\0';
}

t5_status t5_config_load(int argc, char *const *argv, char *const *env, t5_config *out, t5_config_action *action,
                         t5_error *err)
{
    t5_status status = T5_OK;
    t5_config_init(out);
    *action = T5_CONFIG_RUN;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) *action = T5_CONFIG_HELP;
        if (strcmp(argv[i], "--version") == 0) *action = T5_CONFIG_VERSION;
        if (*action != T5_CONFIG_RUN) return T5_OK;
    }
    const char *origin = NULL, *path = config_path(argc, argv, env, &origin);
    if (path != NULL) T5_TRY(load_file(out, path, origin, err));
    T5_TRY(t5_config_load_lt(out, env, err));
    T5_TRY(load_t5_environment(out, env, err));
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print-config") == 0 || strcmp(argv[i], "--print_config") == 0) {
            *action = T5_CONFIG_PRINT;
            continue;
        }
        if (strcmp(argv[i], "--health") == 0) {
            *action = T5_CONFIG_HEALTH;
            continue;
        }
        T5_TRY(load_flag(out, argc, argv, &i, err));
    }
    T5_TRY(t5_config_check_lt(out, env, err));
    strip_brackets(out->host);
out:
    return status;
}
