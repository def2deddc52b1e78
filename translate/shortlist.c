/* translate/shortlist.c: the file of a list, see shortlist.h. */
#include "translate/shortlist.h"

#include "base/file.h"
#include "json/json_file.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUM_BYTES 17

t5_status t5_shortlist_path(const char *dir, const char *target, char *out, size_t out_bytes, t5_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "shortlist.%.32s.json", target);
    return t5_path_join(out, out_bytes, dir, name, err);
}

t5_shortlist_vocab t5_shortlist_vocab_of(const t5_tokenizer *tokenizer, int32_t vocab_size, int32_t eos_id)
{
    const int32_t n_live = t5_tokenizer_vocab_live(tokenizer);
    return (t5_shortlist_vocab){
        .tokenizer = tokenizer, .n_words = n_live < vocab_size ? n_live : vocab_size, .eos_id = eos_id};
}

/* FNV-1a over the pieces in their order, each with a NUL behind it; an id without a piece has the NUL alone. */
static void sum_pieces(const t5_shortlist_vocab *vocab, char out[SUM_BYTES])
{
    uint64_t sum = 14695981039346656037u;
    for (int32_t id = 0; id < vocab->n_words; id++) {
        const char *piece = t5_tokenizer_piece(vocab->tokenizer, id);
        for (const char *p = piece != NULL ? piece : ""; *p != '\0'; p++)
            sum = (sum ^ (unsigned char)*p) * 1099511628211u;
        sum *= 1099511628211u;
    }
    snprintf(out, SUM_BYTES, "%016" PRIx64, sum);
}

/* ---- write ---- */

static t5_status put(FILE *file, const char *path, const t5_shortlist_vocab *vocab, const int32_t *ids, int32_t n_ids,
                     t5_error *err)
{
    char sum[SUM_BYTES];
    sum_pieces(vocab, sum);
    fprintf(file, "{\"tokenizer\": \"%s\", \"ids\": [", sum);
    for (int32_t i = 0; i < n_ids; i++)
        fprintf(file, "%s%d", i == 0 ? "" : i % 16 == 0 ? ",\n" : ", ", ids[i]);
    fputs("]}\n", file);
    if (fflush(file) == 0 && !ferror(file)) return T5_OK;
    return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
}

t5_status t5_shortlist_write(const char *path, const t5_shortlist_vocab *vocab, const int32_t *ids, int32_t n_ids,
                             t5_error *err)
{
    char target[PATH_MAX], part[PATH_MAX];
    if (t5_file_target(path, target, err) != T5_OK) return err->status;
    if (snprintf(part, sizeof part, "%s.part", target) >= (int)sizeof part)
        return T5_FAIL(err, T5_ERR_ARG, "%.200s: the path is too long", path);
    FILE *file = fopen(part, "we");
    if (file == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", part, strerror(errno));
    t5_status status = put(file, part, vocab, ids, n_ids, err);
    if (fclose(file) != 0 && status == T5_OK) status = T5_FAIL(err, T5_ERR_IO, "%s: %s", part, strerror(errno));
    if (status == T5_OK && rename(part, target) != 0) status = T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
    if (status != T5_OK) unlink(part);
    return status;
}

/* ---- read ---- */

static t5_status check_keys(const char *path, json_t *object, const t5_shortlist_vocab *vocab, t5_error *err)
{
    const char *key;
    json_t *value;
    char sum[SUM_BYTES];
    json_object_foreach(object, key, value)
    {
        if (strcmp(key, "tokenizer") != 0 && strcmp(key, "ids") != 0)
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: %.64s: no such key", path, key);
    }
    const char *given = json_string_value(json_object_get(object, "tokenizer"));
    if (given == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: tokenizer: must be a string", path);
    sum_pieces(vocab, sum);
    if (strcmp(given, sum) != 0)
        return T5_FAIL(err, T5_ERR_FORMAT,
                       "%s: tokenizer: the list was made for another vocabulary; make it again with t5 shortlist",
                       path);
    return T5_OK;
}

static t5_status read_ids(const char *path, const json_t *array, const t5_shortlist_vocab *vocab, int32_t *out,
                          t5_error *err)
{
    bool has_eos = false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        char text[64];
        int64_t id = 0;
        const int64_t min = i > 0 ? (int64_t)out[i - 1] + 1 : 0;
        const json_t *value = json_array_get(array, i);
        if (!t5_json_get_int(value, min, vocab->n_words - 1, &id))
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: ids[%zu]: %s, must be an id of %lld to %d: they rise", path, i,
                           t5_json_show(text, sizeof text, value), (long long)min, vocab->n_words - 1);
        out[i] = (int32_t)id;
        has_eos |= id == vocab->eos_id;
    }
    if (!has_eos)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: ids: the end of sequence, id %d, is missing", path, vocab->eos_id);
    if (json_array_size(array) >= T5_SHORTLIST_WORDS_MIN) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: ids: %zu words, at least %d are needed; make it from more text", path,
                   json_array_size(array), T5_SHORTLIST_WORDS_MIN);
}

t5_status t5_shortlist_read(const char *path, const t5_shortlist_vocab *vocab, int32_t **out, int32_t *out_n,
                            t5_error *err)
{
    t5_status status = T5_OK;
    json_t *object = NULL;
    int32_t *ids = NULL;
    T5_TRY(t5_json_load(path, 0, &object, err));
    T5_TRY(check_keys(path, object, vocab, err));
    const json_t *array = json_object_get(object, "ids");
    if (!json_is_array(array)) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: ids: must be an array", path);
        goto out;
    }
    ids = malloc((json_array_size(array) + 1) * sizeof *ids);
    if (ids == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu ids", path, json_array_size(array));
        goto out;
    }
    T5_TRY(read_ids(path, array, vocab, ids, err));
    *out = ids;
    *out_n = (int32_t)json_array_size(array);
    ids = NULL; /* handed to the caller */
out:
    free(ids);
    json_decref(object);
    return status;
}
