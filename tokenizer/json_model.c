/* tokenizer/json_model.c: see json_model.h. The vocabulary with its scores is the same in both forms. How text is
 * treated before is a chain of steps in tokenizer.json and four fields in SentencePiece; only chains that are made from
 * such fields are taken. */
#include "tokenizer/json_model.h"
#include "base/buffer.h"
#include "tokenizer/proto.h"
#include "tokenizer/spm_fields.h"
#include "json/json_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MARK "\xE2\x96\x81"

typedef struct {
    const char *path;
    const char *charsmap; /* base64; NULL: none */
    bool has_metaspace, has_prefix;
    bool trims_spaces, joins_spaces; /* at the ends of a text; several within it */
} chain;

/* ---- the character map ---- */

static int sextet_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c != '\0' ? strchr(digits, c) : NULL;
    return found != NULL ? (int)(found - digits) : -1;
}

static t5_status decode_base64(const chain *c, t5_buffer *out, t5_error *err)
{
    uint32_t bits = 0;
    int n_bits = 0;
    for (const char *p = c->charsmap; *p != '\0' && *p != '='; p++) {
        const int sextet = sextet_of(*p);
        if (sextet < 0) return T5_FAIL(err, T5_ERR_FORMAT, "%s: precompiled_charsmap is not base64", c->path);
        bits = bits << 6 | (uint32_t)sextet;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        const char byte = (char)(bits >> n_bits);
        const t5_status status = t5_buffer_append(out, &byte, 1, err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* ---- the chain ---- */

static bool is_type(const json_t *step, const char *type)
{
    const char *name = json_string_value(json_object_get(step, "type"));
    return name != NULL && strcmp(name, type) == 0;
}

static t5_status read_metaspace(chain *c, const json_t *step, t5_error *err)
{
    const char *mark = json_string_value(json_object_get(step, "replacement"));
    const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
    if (mark == NULL || strcmp(mark, WORD_MARK) != 0)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: Metaspace must have the replacement %s", c->path, WORD_MARK);
    c->has_metaspace = true;
    c->has_prefix =
        scheme != NULL ? strcmp(scheme, "never") != 0 : !json_is_false(json_object_get(step, "add_prefix_space"));
    return T5_OK;
}

static t5_status read_charsmap(chain *c, const json_t *step, t5_error *err)
{
    const json_t *map = json_object_get(step, "precompiled_charsmap");
    if (!json_is_string(map) && !json_is_null(map))
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: precompiled_charsmap must be a text or null", c->path);
    c->charsmap = json_string_value(map);
    return T5_OK;
}

/* Strip at the end of a text: a space at its begin is the prefix that a text has anyway. */
static bool read_strip(chain *c, const json_t *step)
{
    const bool is_right = json_is_true(json_object_get(step, "strip_right"));
    if (is_right) c->trims_spaces = true;
    return is_right && json_is_boolean(json_object_get(step, "strip_left"));
}

/* The replacements that transformers writes for what SentencePiece does; false for any other. */
static bool read_replace(chain *c, const json_t *step)
{
    static const struct {
        const char *kind, *pattern, *content;
        bool trims_spaces, joins_spaces;
    } known[] = {
        {"Regex", " {2,}", " ", false, true},
        {"Regex", " {2,}", WORD_MARK, false, true},
        {"Regex", "\\A +| +\\z", "", true, false},
        {"String", " ", WORD_MARK, false, false},
        {"Regex", "\\A" WORD_MARK, WORD_MARK WORD_MARK, false, false},
    };
    const json_t *patterns = json_object_get(step, "pattern");
    const char *content = json_string_value(json_object_get(step, "content"));
    for (size_t i = 0; i < T5_COUNT(known); i++) {
        const char *pattern = json_string_value(json_object_get(patterns, known[i].kind));
        if (pattern == NULL || content == NULL || strcmp(pattern, known[i].pattern) != 0 ||
            strcmp(content, known[i].content) != 0)
            continue;
        c->trims_spaces |= known[i].trims_spaces;
        c->joins_spaces |= known[i].joins_spaces;
        return true;
    }
    return false;
}

/* A normalizer or pre_tokenizer; NULL for none. The sequences in it are not nested. */
static t5_status read_step(chain *c, const json_t *step, t5_error *err)
{
    if (step == NULL || json_is_null(step)) return T5_OK;
    if (is_type(step, "Metaspace")) return read_metaspace(c, step, err);
    if (is_type(step, "Precompiled")) return read_charsmap(c, step, err);
    if (is_type(step, "WhitespaceSplit")) {
        c->trims_spaces = c->joins_spaces = true;
        return T5_OK;
    }
    if (is_type(step, "Strip") && read_strip(c, step)) return T5_OK;
    if (is_type(step, "Replace") && read_replace(c, step)) return T5_OK;
    const char *type = json_string_value(json_object_get(step, "type"));
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: the step %.40s is none of a SentencePiece model: put its spiece.model here",
                   c->path, type != NULL ? type : "without a type");
}

static t5_status read_steps(chain *c, const json_t *step, const char *list_name, t5_error *err)
{
    if (!is_type(step, "Sequence")) return read_step(c, step, err);
    const json_t *list = json_object_get(step, list_name);
    t5_status status = T5_OK;
    for (size_t i = 0; status == T5_OK && i < json_array_size(list); i++)
        status = read_step(c, json_array_get(list, i), err);
    return status;
}

/* ---- the pieces ---- */

/* Which pieces are special: a byte for each; the caller frees it. */
static uint8_t *list_special(const json_t *added, size_t n_pieces)
{
    uint8_t *special = calloc(n_pieces + 1, 1);
    for (size_t i = 0; special != NULL && i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i), *id = json_object_get(token, "id");
        const double number = json_is_number(id) ? json_number_value(id) : -1;
        if (number >= 0 && number < (double)n_pieces && json_is_true(json_object_get(token, "special")))
            special[(size_t)number] = 1;
    }
    return special;
}

static bool is_byte_name(const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    return strlen(text) == 6 && memcmp(text, "<0x", 3) == 0 && strchr(digits, text[3]) != NULL &&
           strchr(digits, text[4]) != NULL && text[5] == '>';
}

static t5_status put_pieces(const chain *c, const json_t *root, const json_t *model, t5_buffer *out, t5_error *err)
{
    const json_t *vocab = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
    const size_t n_pieces = json_array_size(vocab);
    const bool has_bytes = json_is_true(json_object_get(model, "byte_fallback"));
    const double unk_id = json_is_number(unk) ? json_number_value(unk) : -1;
    t5_status status = T5_OK;
    t5_buffer scratch = {0};
    uint8_t *special = list_special(json_object_get(root, "added_tokens"), n_pieces);
    if (special == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu pieces", c->path, n_pieces);
    for (size_t i = 0; i < n_pieces; i++) {
        const json_t *piece = json_array_get(vocab, i), *score = json_array_get(piece, 1);
        const char *text = json_string_value(json_array_get(piece, 0));
        t5_piece_type type = special[i] ? T5_PIECE_CONTROL : T5_PIECE_NORMAL;
        if (text == NULL || !json_is_number(score)) {
            status = T5_FAIL(err, T5_ERR_FORMAT, "%s: piece %zu is not a text and a score", c->path, i);
            goto out;
        }
        if (has_bytes && is_byte_name(text)) type = T5_PIECE_BYTE;
        if ((double)i == unk_id) type = T5_PIECE_UNKNOWN;
        const t5_spm_fields fields = {text, strlen(text), (float)json_number_value(score), type};
        T5_TRY(t5_spm_put_piece(out, &scratch, &fields, err));
    }
    scratch.n_bytes = 0;
    T5_TRY(t5_proto_put_int(&scratch, T5_SPM_TRAINER_TYPE, T5_SPM_UNIGRAM, err));
    T5_TRY(t5_proto_put_int(&scratch, T5_SPM_TRAINER_BYTE_FALLBACK, has_bytes, err));
    T5_TRY(t5_proto_put_bytes(out, T5_SPM_TRAINER, scratch.bytes, scratch.n_bytes, err));
out:
    free(special);
    t5_buffer_deinit(&scratch);
    return status;
}

static t5_status put_normalizer(const chain *c, t5_buffer *out, t5_error *err)
{
    t5_buffer charsmap = {0}, spec = {0};
    t5_status status = T5_OK;
    if (c->charsmap != NULL) T5_TRY(decode_base64(c, &charsmap, err));
    if (charsmap.n_bytes > 0)
        T5_TRY(t5_proto_put_bytes(&spec, T5_SPM_NORMALIZER_CHARSMAP, charsmap.bytes, charsmap.n_bytes, err));
    T5_TRY(t5_proto_put_int(&spec, T5_SPM_NORMALIZER_PREFIX, c->has_prefix, err));
    T5_TRY(t5_proto_put_int(&spec, T5_SPM_NORMALIZER_JOINS_SPACES, c->joins_spaces, err));
    T5_TRY(t5_proto_put_bytes(out, T5_SPM_NORMALIZER, spec.bytes, spec.n_bytes, err));
out:
    t5_buffer_deinit(&charsmap);
    t5_buffer_deinit(&spec);
    return status;
}

static t5_status convert(const char *path, const json_t *root, t5_buffer *out, t5_error *err)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    chain c = {.path = path};
    t5_status status = T5_OK;
    if (type == NULL || strcmp(type, "Unigram") != 0)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: model.type is %.40s, allowed is Unigram", path,
                       type != NULL ? type : "missing");
    T5_TRY(read_steps(&c, json_object_get(root, "normalizer"), "normalizers", err));
    T5_TRY(read_steps(&c, json_object_get(root, "pre_tokenizer"), "pretokenizers", err));
    if (!c.has_metaspace) return T5_FAIL(err, T5_ERR_FORMAT, "%s: pre_tokenizer has no Metaspace", path);
    if (c.trims_spaces != c.joins_spaces)
        return T5_FAIL(
            err, T5_ERR_FORMAT,
            "%s: spaces are taken away at the ends of a text or within it alone; SentencePiece does both or none",
            path);
    T5_TRY(put_pieces(&c, root, model, out, err));
    T5_TRY(put_normalizer(&c, out, err));
out:
    return status;
}

t5_status t5_json_model_read(const char *path, void **out, size_t *out_bytes, t5_error *err)
{
    json_t *root = NULL;
    t5_buffer model = {0};
    t5_status status = t5_json_load(path, T5_JSON_REALS, &root, err);
    if (status != T5_OK) return status;
    status = convert(path, root, &model, err);
    json_decref(root);
    if (status != T5_OK) {
        t5_buffer_deinit(&model);
        return status;
    }
    *out = model.bytes;
    *out_bytes = model.n_bytes;
    return T5_OK;
}
