/* tokenizer/added.c: see added.h. Three files may say the same; the first that says anything counts, in the order from
 * newest to oldest, tokenizer.json last: it is large, and of it only the list is parsed. */
#include "tokenizer/added.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/utf8.h"
#include "tokenizer/spm_fields.h"
#include "json/json_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

typedef struct {
    const char *dir;
    const t5_added_base *base;
    t5_added_tokens *out;
    int32_t capacity;
    char path[PATH_MAX]; /* of the file being read */
} reader;

static t5_status grow(reader *r, t5_error *err)
{
    t5_added_tokens *a = r->out;
    if (a->n_items < r->capacity) return T5_OK;
    if (a->n_items == T5_ADDED_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: more than %d added tokens", r->path, T5_ADDED_MAX);
    const int32_t capacity = r->capacity == 0 ? 64 : 2 * r->capacity;
    t5_added_token *items = realloc(a->items, (size_t)capacity * sizeof *items);
    if (items == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %d added tokens", r->path, capacity);
    a->items = items;
    r->capacity = capacity;
    return T5_OK;
}

/* Whether a token may be cut out of a text as this id; see t5_added_load(). */
static bool is_typed(const t5_added_base *base, int32_t id, const char *text, size_t n_bytes)
{
    if (n_bytes == 0 || id == base->pad_id || id == base->eos_id || t5_spm_is_special_name(text, n_bytes)) return false;
    const int32_t piece = t5_spm_find(base->spm, text);
    if (id >= t5_spm_n_pieces(base->spm)) return piece < 0;
    const t5_piece_type type = t5_spm_type(base->spm, id);
    return piece == id && type != T5_PIECE_UNKNOWN && type != T5_PIECE_BYTE;
}

/* `token` may have the flags lstrip and rstrip. */
static t5_status put(reader *r, double id, const char *text, size_t n_bytes, bool is_special, const json_t *token,
                     t5_error *err)
{
    if (!(id >= r->base->id_min && id < r->base->id_max)) return T5_OK;
    if (text != NULL && !is_typed(r->base, (int32_t)id, text, n_bytes)) return T5_OK;
    if (text == NULL || n_bytes > T5_ADDED_BYTES_MAX || memchr(text, '\0', n_bytes) != NULL)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the added token %.0f must be a text of at most %d bytes", r->path, id,
                       T5_ADDED_BYTES_MAX);
    const t5_status status = grow(r, err);
    if (status != T5_OK) return status;
    t5_added_token *added = &r->out->items[r->out->n_items++];
    *added = (t5_added_token){.id = (int32_t)id,
                              .n_bytes = (uint32_t)n_bytes,
                              .is_special = is_special,
                              .strips_left = json_is_true(json_object_get(token, "lstrip")),
                              .strips_right = json_is_true(json_object_get(token, "rstrip"))};
    memcpy(added->text, text, n_bytes);
    r->out->has_length[n_bytes] = true;
    r->out->has_first[(unsigned char)text[0]] = true;
    return T5_OK;
}

static t5_status put_described(reader *r, double id, const json_t *token, t5_error *err)
{
    const json_t *text = json_object_get(token, "content");
    return put(r, id, json_string_value(text), json_string_length(text),
               json_is_true(json_object_get(token, "special")), token, err);
}

/* tokenizer_config.json: "added_tokens_decoder": {"32100": {"content": "<hl>", "special": false, ...}} */
static t5_status read_decoder(reader *r, bool *out_found, t5_error *err)
{
    json_t *config = NULL, *token;
    const char *id;
    t5_status status = T5_OK;
    T5_TRY(t5_json_load_in(r->dir, "tokenizer_config.json", T5_JSON_REALS, r->path, &config, err));
    json_t *tokens = json_object_get(config, "added_tokens_decoder");
    *out_found = json_is_object(tokens);
    json_object_foreach(tokens, id, token) T5_TRY(put_described(r, strtod(id, NULL), token, err));
out:
    json_decref(config);
    return status;
}

/* additional_special_tokens has texts, or objects with a content. */
static bool is_listed(const json_t *special, const char *text)
{
    for (size_t i = 0; i < json_array_size(special); i++) {
        const json_t *item = json_array_get(special, i);
        const char *name = json_string_value(json_is_object(item) ? json_object_get(item, "content") : item);
        if (name != NULL && strcmp(name, text) == 0) return true;
    }
    return false;
}

/* added_tokens.json: {"<hl>": 32100}; special_tokens_map.json says which of them are special. */
static t5_status read_map(reader *r, bool *out_found, t5_error *err)
{
    json_t *special = NULL, *tokens = NULL, *id;
    const char *text;
    t5_status status = T5_OK;
    T5_TRY(t5_json_load_in(r->dir, "special_tokens_map.json", T5_JSON_REALS, r->path, &special, err));
    T5_TRY(t5_json_load_in(r->dir, "added_tokens.json", T5_JSON_REALS, r->path, &tokens, err));
    *out_found = tokens != NULL;
    const json_t *listed = json_object_get(special, "additional_special_tokens");
    json_object_foreach(tokens, text, id)
    {
        const double number = json_is_number(id) ? json_number_value(id) : -1;
        T5_TRY(put(r, number, text, strlen(text), is_listed(listed, text), NULL, err));
    }
out:
    json_decref(special);
    json_decref(tokens);
    return status;
}

/* tokenizer.json: "added_tokens": [{"id": 32100, "content": "<hl>", "special": false, ...}], before the vocabulary. */
static t5_status read_list(reader *r, t5_error *err)
{
    static const char key[] = "\"added_tokens\":";
    const void *file = NULL;
    size_t n_bytes = 0;
    json_t *list = NULL;
    json_error_t problem;
    t5_status status = T5_OK;
    T5_TRY(t5_path_join(r->path, sizeof r->path, r->dir, "tokenizer.json", err));
    if (!t5_file_exists(r->path)) return T5_OK;
    T5_TRY(t5_file_map(r->path, &file, &n_bytes, err));
    const char *found = n_bytes > 0 ? memmem(file, n_bytes, key, sizeof key - 1) : NULL;
    if (found == NULL) goto out;
    const char *begin = found + sizeof key - 1;
    list = json_loadb(begin, n_bytes - (size_t)(begin - (const char *)file),
                      JSON_DISABLE_EOF_CHECK | JSON_DECODE_INT_AS_REAL, &problem);
    if (list == NULL) status = T5_FAIL(err, T5_ERR_FORMAT, "%s: added_tokens: %s", r->path, problem.text);
    for (size_t i = 0; status == T5_OK && i < json_array_size(list); i++) {
        const json_t *token = json_array_get(list, i), *id = json_object_get(token, "id");
        status = put_described(r, json_is_number(id) ? json_number_value(id) : -1, token, err);
    }
out:
    json_decref(list);
    t5_file_unmap(file, n_bytes);
    return status;
}

static int compare_texts(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare(const void *a, const void *b)
{
    const t5_added_token *x = a, *y = b;
    return compare_texts(x->text, x->n_bytes, y->text, y->n_bytes);
}

/* No two of the sorted tokens have the same text or id. */
static t5_status check_different(const reader *r, t5_error *err)
{
    const t5_added_token *items = r->out->items;
    int32_t i_same = -1;
    uint8_t *has_id = calloc((size_t)r->base->id_max, 1);
    if (has_id == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %d ids", r->path, r->base->id_max);
    for (int32_t i = 0; i < r->out->n_items && i_same < 0; i++) {
        if (has_id[items[i].id] || (i > 0 && compare(&items[i - 1], &items[i]) == 0)) i_same = i;
        has_id[items[i].id] = 1;
    }
    free(has_id);
    if (i_same < 0) return T5_OK;
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: the added token %d is there twice", r->path, items[i_same].id);
}

t5_status t5_added_load(const char *dir, const t5_added_base *base, t5_added_tokens *out, t5_error *err)
{
    t5_added_tokens a = {0};
    reader r = {.dir = dir, .base = base, .out = &a};
    bool is_found = false;
    t5_status status = T5_OK;
    if (base->id_min >= base->id_max) return T5_OK; /* no rows for any */
    T5_TRY(read_decoder(&r, &is_found, err));
    if (!is_found) T5_TRY(read_map(&r, &is_found, err));
    if (!is_found) T5_TRY(read_list(&r, err));
    if (a.n_items > 0) {
        qsort(a.items, (size_t)a.n_items, sizeof *a.items, compare);
        T5_TRY(check_different(&r, err));
    }
    *out = a;
    a = (t5_added_tokens){0}; /* handed to the caller */
out:
    t5_added_deinit(&a);
    return status;
}

void t5_added_deinit(t5_added_tokens *a)
{
    free(a->items);
    *a = (t5_added_tokens){0};
}

/* ---- finding ---- */

static const t5_added_token *find(const t5_added_tokens *a, const char *text, size_t n_bytes)
{
    int32_t begin = 0;
    for (int32_t end = a->n_items; begin < end;) {
        const int32_t middle = begin + (end - begin) / 2;
        const t5_added_token *token = &a->items[middle];
        const int order = compare_texts(token->text, token->n_bytes, text, n_bytes);
        if (order == 0) return token;
        if (order < 0) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return NULL;
}

static const t5_added_token *find_longest(const t5_added_tokens *a, const char *text, size_t n_bytes)
{
    if (!a->has_first[(unsigned char)text[0]]) return NULL;
    for (size_t n = n_bytes < T5_ADDED_BYTES_MAX ? n_bytes : T5_ADDED_BYTES_MAX; n > 0; n--) {
        const t5_added_token *token = a->has_length[n] ? find(a, text, n) : NULL;
        if (token != NULL) return token;
    }
    return NULL;
}

void t5_added_next(const t5_added_tokens *a, const char *text, size_t n_bytes, size_t pos, t5_added_part *out)
{
    *out = (t5_added_part){.begin = pos, .end = n_bytes, .next = n_bytes};
    for (size_t at = pos; at < n_bytes; at++) {
        const t5_added_token *token = find_longest(a, text + at, n_bytes - at);
        if (token == NULL) continue;
        out->token = token;
        out->end = at;
        out->next = at + token->n_bytes;
        if (token->strips_left) out->end -= t5_utf8_trailing_space(text + pos, at - pos);
        if (token->strips_right) out->next += t5_utf8_leading_space(text + out->next, n_bytes - out->next);
        return;
    }
}

/* ---- as pieces ---- */

/* Which token has an id: [*out_n] indices from the first id on, -1 for none; the caller frees it. */
static t5_status index_ids(const t5_added_tokens *a, int32_t first, int32_t **out, int32_t *out_n, t5_error *err)
{
    int32_t end = first;
    for (int32_t i = 0; i < a->n_items; i++)
        if (a->items[i].id >= end) end = a->items[i].id + 1;
    int32_t *indices = malloc(((size_t)(end - first) + 1) * sizeof *indices);
    if (indices == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "tokenizer: %d added tokens", end - first);
    for (int32_t i = 0; i < end - first; i++)
        indices[i] = -1;
    for (int32_t i = 0; i < a->n_items; i++)
        if (a->items[i].id >= first) indices[a->items[i].id - first] = i;
    *out = indices;
    *out_n = end - first;
    return T5_OK;
}

t5_status t5_added_append(const t5_added_tokens *a, const void *model, size_t n_bytes, int32_t n_pieces, void **out,
                          size_t *out_bytes, int32_t *out_n, t5_error *err)
{
    t5_buffer b = {0}, scratch = {0};
    int32_t *indices = NULL, n_ids = 0;
    t5_status status = T5_OK;
    T5_TRY(index_ids(a, n_pieces, &indices, &n_ids, err));
    T5_TRY(t5_buffer_append(&b, model, n_bytes, err));
    for (int32_t i = 0; i < n_ids; i++) {
        char gap[32];
        const int n_gap = snprintf(gap, sizeof gap, T5_ADDED_GAP "%d>", n_pieces + i);
        const t5_added_token *token = indices[i] >= 0 ? &a->items[indices[i]] : NULL;
        t5_spm_fields fields = {gap, (size_t)n_gap, 0, T5_PIECE_CONTROL};
        if (token != NULL) {
            fields.text = token->text;
            fields.n_bytes = token->n_bytes;
            if (!token->is_special) fields.type = T5_PIECE_USER_DEFINED;
        }
        T5_TRY(t5_spm_put_piece(&b, &scratch, &fields, err));
    }
    *out = b.bytes;
    *out_bytes = b.n_bytes;
    *out_n = n_pieces + n_ids;
    b = (t5_buffer){0}; /* handed to the caller */
out:
    free(indices);
    t5_buffer_deinit(&b);
    t5_buffer_deinit(&scratch);
    return status;
}
