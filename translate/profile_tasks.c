/* translate/profile_tasks.c: task_specific_params of config.json, where the first T5 models say how they translate:
 *
 *   "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 4, "max_length": 300, ...}
 *
 * All tasks of a model have the same options, so those of the first become the defaults. */
#include "text/langcodes.h"
#include "translate/profile_pairs.h"
#include "json/json_file.h"

#include <stdio.h>
#include <string.h>

static const char task_start[] = "translation_", task_middle[] = "_to_";

/* "translation_en_to_de" -> en, de. False for another task. */
static bool parse_task(const char *key, char source[T5_LANGCODE_BYTES], char target[T5_LANGCODE_BYTES])
{
    char written[T5_LANGCODE_BYTES];

    if (strncmp(key, task_start, sizeof task_start - 1) != 0) return false;
    key += sizeof task_start - 1;
    const char *middle = strstr(key, task_middle);
    if (middle == NULL || (size_t)(middle - key) >= sizeof written) return false;
    memcpy(written, key, (size_t)(middle - key));
    written[middle - key] = '\0';
    return t5_langcode_normalize(written, source) && t5_langcode_normalize(middle + sizeof task_middle - 1, target);
}

static t5_status read_task(const char *path, const char *key, const json_t *task, t5_profile *p, t5_error *err)
{
    char source[T5_LANGCODE_BYTES], target[T5_LANGCODE_BYTES], where[320];

    if (!parse_task(key, source, target)) return T5_OK;
    snprintf(where, sizeof where, "%.200s: task_specific_params.%.64s", path, key);
    if (!json_is_object(task)) return T5_FAIL(err, T5_ERR_FORMAT, "%s: must be an object", where);
    const char *prefix = json_string_value(json_object_get(task, "prefix"));
    if (prefix == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: prefix: must be a string", where);
    if (p->n_pairs == 0) {
        t5_error problem = {0};
        if (t5_decoding_set_folder(&p->defaults, task, &problem) != T5_OK)
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: %s", where, problem.text);
    }
    return t5_profile_add_pair(p, source, target, prefix, where, err);
}

t5_status t5_profile_read_tasks(const char *path, t5_profile *p, t5_error *err)
{
    t5_status status = T5_OK;
    json_t *config = NULL, *task;
    const char *key;

    T5_TRY(t5_json_load(path, 0, &config, err));
    json_t *tasks = json_object_get(config, "task_specific_params");
    if (tasks != NULL && !json_is_null(tasks) && !json_is_object(tasks)) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: task_specific_params: must be an object", path);
        goto out;
    }
    json_object_foreach(tasks, key, task) T5_TRY(read_task(path, key, task, p, err));
out:
    json_decref(config);
    return status;
}
