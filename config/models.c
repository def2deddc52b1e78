/* config/models.c: which model folders the settings name. See config.h. */
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "config/config_set.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool t5_config_list_add(t5_config_list *list, const char *text)
{
    const size_t n = strlen(text) + 1;
    if (n > sizeof list->bytes - (size_t)list->n_bytes) return false;
    memcpy(list->bytes + list->n_bytes, text, n);
    list->n_bytes += (int32_t)n;
    list->n_texts++;
    return true;
}

const char *t5_config_list_next(const t5_config_list *list, const char *text)
{
    const char *next = text != NULL ? text + strlen(text) + 1 : list->bytes;
    return next < list->bytes + list->n_bytes ? next : NULL;
}

static t5_status add_folder(t5_config_list *list, const char *dir, t5_error *err)
{
    if (list->n_texts == T5_MODELS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "more than %d models are named by model and models_dir", T5_MODELS_MAX);
    if (t5_config_list_add(list, dir)) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "the folders of model and models_dir have more than %d bytes together",
                   T5_CONFIG_LIST_BYTES);
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Whatever the locale is. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A subfolder that may not be entered is no mistake, the lost+found of a volume is one, but may be a model too. */
static void tell_passed_over(const char *folder, int cause)
{
    char quoted[PATH_MAX];
    if (cause == 0 || cause == ENOENT || cause == ENOTDIR) return;
    t5_log(T5_LOG_WARN, "models_dir passed_over=%s error=\"%s\"", t5_log_quote(quoted, sizeof quoted, folder),
           strerror(cause));
}

static t5_status add_if_model(t5_config_list *list, const char *dir, const char *name, t5_error *err)
{
    char folder[PATH_MAX], file[PATH_MAX];
    t5_status status = T5_OK;
    T5_TRY(t5_path_join(folder, sizeof folder, dir, name, err));
    T5_TRY(t5_path_join(file, sizeof file, folder, "config.json", err));
    errno = 0;
    if (t5_file_exists(file))
        T5_TRY(add_folder(list, folder, err));
    else
        tell_passed_over(folder, errno);
out:
    return status;
}

static t5_status add_subfolders(t5_config_list *list, const char *dir, t5_error *err)
{
    t5_status status = T5_OK;
    struct dirent **entries = NULL;
    const int32_t n_before = list->n_texts;
    const int n = scandir(dir, &entries, is_shown, by_name);
    if (n < 0) return T5_FAIL(err, T5_ERR_IO, "models_dir: %s: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (status == T5_OK) status = add_if_model(list, dir, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    if (status == T5_OK && list->n_texts == n_before)
        status = T5_FAIL(err, T5_ERR_IO, "models_dir: %s: no subfolder has a config.json", dir);
    return status;
}

t5_status t5_config_models(const t5_config *c, t5_config_list *out, t5_error *err)
{
    t5_status status = T5_OK;
    char bundled[PATH_MAX];
    *out = (t5_config_list){0};
    for (const char *dir = NULL; (dir = t5_config_list_next(&c->model, dir)) != NULL;)
        T5_TRY(add_folder(out, dir, err));
    if (c->models_dir[0] != '\0') T5_TRY(add_subfolders(out, c->models_dir, err));
    if (out->n_texts > 0) goto out;
    T5_TRY(t5_config_bundled_model(bundled, sizeof bundled, err));
    T5_TRY(add_folder(out, bundled, err));
out:
    return status;
}
