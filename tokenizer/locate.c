/* tokenizer/locate.c: see locate.h; tokenizer.h has the order of the places. File names that come from the folder's
 * JSON must be plain names: a model folder never makes us read outside of it. */
#include "tokenizer/locate.h"
#include "base/file.h"
#include "json/json_file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_CLASS "ByT5Tokenizer"
#define BYTES_VOCAB_SIZE 384
#define EXTRA_IDS_MAX 1000

static bool names_bytes(const json_t *config)
{
    const char *class_name = json_string_value(json_object_get(config, "tokenizer_class"));
    return class_name != NULL && strcmp(class_name, BYTES_CLASS) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t text_bytes = strlen(text), end_bytes = strlen(end);
    return text_bytes > end_bytes && strcmp(text + text_bytes - end_bytes, end) == 0;
}

/* Fills `out` with dir/name; false when there is no such file. */
static bool find_file(const char *dir, const char *name, char *out)
{
    t5_error ignored = {0};
    return name != NULL && strchr(name, '/') == NULL && t5_path_join(out, PATH_MAX, dir, name, &ignored) == T5_OK &&
           t5_file_exists(out);
}

/* The only file of the folder that looks like a SentencePiece model. */
static t5_status find_by_suffix(const char *dir, char *out, bool *out_found, t5_error *err)
{
    char name[NAME_MAX + 1] = "";
    DIR *folder = opendir(dir);
    if (folder == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", dir, strerror(errno));

    t5_status status = T5_OK;
    for (struct dirent *entry; status == T5_OK && (entry = readdir(folder)) != NULL;) {
        if (!ends_with(entry->d_name, ".spm") && !ends_with(entry->d_name, ".model")) continue;
        if (name[0] != '\0')
            status = T5_FAIL(err, T5_ERR_FORMAT, "%s: several tokenizers: %s and %s; rename one to spiece.model", dir,
                             name, entry->d_name);
        memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(folder);
    *out_found = status == T5_OK && name[0] != '\0' && find_file(dir, name, out);
    return status;
}

static t5_status read_extra_ids(const char *dir, const json_t *config, int32_t *out, t5_error *err)
{
    const json_t *value = json_object_get(config, "extra_ids");

    *out = -1;
    if (value == NULL || json_is_null(value)) return T5_OK;
    double number = json_is_number(value) ? json_number_value(value) : -1;
    if (!(number >= 0 && number <= EXTRA_IDS_MAX) || number != (double)(int32_t)number)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s/tokenizer_config.json: extra_ids must be 0 to %d", dir, EXTRA_IDS_MAX);
    *out = (int32_t)number;
    return T5_OK;
}

t5_status t5_tokenizer_locate(const char *dir, int32_t vocab_size, t5_tokenizer_location *out, t5_error *err)
{
    t5_status status = T5_OK;
    json_t *tokenizer_config = NULL, *model_config = NULL;
    char path[PATH_MAX];
    bool is_found = true;

    *out = (t5_tokenizer_location){.extra_ids = -1};
    T5_TRY(t5_json_load_in(dir, "tokenizer_config.json", T5_JSON_REALS, path, &tokenizer_config, err));
    T5_TRY(t5_json_load_in(dir, "config.json", T5_JSON_REALS, path, &model_config, err));
    T5_TRY(read_extra_ids(dir, tokenizer_config, &out->extra_ids, err));
    if (names_bytes(tokenizer_config) || names_bytes(model_config)) goto out;

    const char *vocab_file = json_string_value(json_object_get(tokenizer_config, "vocab_file"));
    if (!find_file(dir, "spiece.model", path) && !find_file(dir, vocab_file, path) &&
        !find_file(dir, "sentencepiece.bpe.model", path))
        T5_TRY(find_by_suffix(dir, path, &is_found, err));
    if (!is_found) is_found = out->is_json = find_file(dir, "tokenizer.json", path);
    if (is_found) {
        out->path = strdup(path);
        if (out->path == NULL) status = T5_FAIL(err, T5_ERR_NOMEM, "%s: out of memory", dir);
    } else if (vocab_size != BYTES_VOCAB_SIZE) {
        status = T5_FAIL(err, T5_ERR_IO,
                         "%s: no tokenizer: spiece.model, another *.spm or *.model file, or tokenizer.json", dir);
    }
out:
    json_decref(tokenizer_config);
    json_decref(model_config);
    return status;
}
