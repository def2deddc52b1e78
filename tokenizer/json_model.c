/* tokenizer/json_model.c: see json_model.h. The vocabulary with its scores is the same in both forms. How text is
 * treated before is a chain of steps in tokenizer.json and four fields in SentencePiece; only chains that are made from
 * such fields are taken. The numbers in the enums are those of sentencepiece_model.proto. */
#include "tokenizer/json_model.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/limits.h"
#include "tokenizer/proto.h"
#include "tokenizer/spm_check.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_TYPE = 3, TRAINER_BYTE_FALLBACK = 35, TYPE_UNIGRAM = 1 };
enum { NORMALIZER_CHARSMAP = 2, NORMALIZER_PREFIX = 3, NORMALIZER_COLLAPSES = 4 };

#define WORD_MARK "\xE2\x96\x81"

typedef struct {
    const char *path;
    const char *charsmap; /* base64; NULL: none */
    bool has_metaspace, has_prefix;
    bool trims_spaces, joins_spaces; /* at the ends of a text; several within it */
} chain;

/* ---- writing ---- */

static t5_status put_varint(t5_buffer *b, uint64_t value, t5_error *err)
{
    char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (char)(value | 0x80);
    bytes[n++] = (char)value;
    return t5_buffer_append(b, bytes, n, err);
}

static t5_status put_int(t5_buffer *b, uint32_t field, uint64_t value, t5_error *err)
{
    const t5_status status = put_varint(b, field << 3 | T5_WIRE_VARINT, err);
    return status == T5_OK ? put_varint(b, value, err) : status;
}

static t5_status put_bytes(t5_buffer *b, uint32_t field, const char *bytes, size_t n_bytes, t5_error *err)
{
    t5_status status = put_varint(b, field << 3 | T5_WIRE_BYTES, err);
    if (status == T5_OK) status = put_varint(b, n_bytes, err);
    return status == T5_OK ? t5_buffer_append(b, bytes, n_bytes, err) : status;
}

static t5_status put_piece(t5_buffer *b, t5_buffer *scratch, const char *text, float score, t5_piece_type type,
                           t5_error *err)
{
    t5_status status = T5_OK;
    scratch->n_bytes = 0;
    T5_TRY(put_bytes(scratch, PIECE_TEXT, text, strlen(text), err));
    T5_TRY(put_varint(scratch, PIECE_SCORE << 3 | T5_WIRE_FIXED32, err));
    T5_TRY(t5_buffer_append(scratch, (const char *)&score, sizeof score, err)); /* little-endian, as all we run on */
    T5_TRY(put_int(scratch, PIECE_TYPE, type, err));
    T5_TRY(put_bytes(b, MODEL_PIECE, scratch->bytes, scratch->n_bytes, err));
out:
    return status;
}

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
        T5_TRY(put_piece(out, &scratch, text, (float)json_number_value(score), type, err));
    }
    scratch.n_bytes = 0;
    T5_TRY(put_int(&scratch, TRAINER_TYPE, TYPE_UNIGRAM, err));
    T5_TRY(put_int(&scratch, TRAINER_BYTE_FALLBACK, has_bytes, err));
    T5_TRY(put_bytes(out, MODEL_TRAINER, scratch.bytes, scratch.n_bytes, err));
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
    if (charsmap.n_bytes > 0) T5_TRY(put_bytes(&spec, NORMALIZER_CHARSMAP, charsmap.bytes, charsmap.n_bytes, err));
    T5_TRY(put_int(&spec, NORMALIZER_PREFIX, c->has_prefix, err));
    T5_TRY(put_int(&spec, NORMALIZER_COLLAPSES, c->joins_spaces, err));
    T5_TRY(put_bytes(out, MODEL_NORMALIZER, spec.bytes, spec.n_bytes, err));
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
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: spaces are taken away at the ends or within a text, not both", path);
    T5_TRY(put_pieces(&c, root, model, out, err));
    T5_TRY(put_normalizer(&c, out, err));
out:
    return status;
}

t5_status t5_json_model_read(const char *path, void **out, size_t *out_bytes, t5_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    json_error_t problem;
    t5_buffer model = {0};
    t5_status status = t5_file_read(path, T5_JSON_FILE_MAX, &text, &n_bytes, err);
    if (status != T5_OK) return status;
    json_t *root = json_loadb(text, n_bytes, JSON_DECODE_INT_AS_REAL, &problem);
    free(text);
    if (root == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: line %d: %s", path, problem.line, problem.text);
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
