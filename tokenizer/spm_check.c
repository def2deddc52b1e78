/* tokenizer/spm_check.c: the message ModelProto of sentencepiece_model.proto, field by field. Unknown fields are
 * skipped, as the library does. */
#include "tokenizer/spm_check.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tokenizer/proto.h"
#include "tokenizer/spm_fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES_MAX 512 /* the library builds its trie with one stack frame per byte */
#define FILE_BYTES_MAX (256u << 20)
#define SCORE_ABS_MAX 1e6f

typedef struct {
    const char *path;
    size_t n_pieces, n_unknown, n_normal, n_trainers, n_normalizers, n_denormalizers;
} spm_counts;

static t5_proto message_of(const void *bytes, size_t n_bytes)
{
    const unsigned char *start = bytes;
    return (t5_proto){start, start + n_bytes};
}

/* The library takes the last of repeated scalars; more than one is never written, so it is refused. */
static t5_status check_piece_text(const t5_proto_field *field, const spm_counts *counts, t5_error *err)
{
    const char *text = (const char *)field->bytes;
    size_t n_bytes = field->n_bytes;

    if (n_bytes == 0 || n_bytes > PIECE_BYTES_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: piece %zu has %zu bytes, allowed are 1 to %d", counts->path,
                       counts->n_pieces, n_bytes, PIECE_BYTES_MAX);
    if (memchr(text, '\0', n_bytes) != NULL || !t5_utf8_is_valid(text, n_bytes))
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: piece %zu is not text", counts->path, counts->n_pieces);
    return T5_OK;
}

static t5_status check_piece_field(const t5_proto_field *field, uint64_t *type, spm_counts *counts, t5_error *err)
{
    static const t5_wire wires[] = {[T5_SPM_PIECE_TEXT] = T5_WIRE_BYTES,
                                    [T5_SPM_PIECE_SCORE] = T5_WIRE_FIXED32,
                                    [T5_SPM_PIECE_TYPE] = T5_WIRE_VARINT};
    if (field->number > T5_SPM_PIECE_TYPE) return T5_OK;
    if (field->wire != wires[field->number])
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: piece %zu is malformed", counts->path, counts->n_pieces);
    if (field->number == T5_SPM_PIECE_TEXT) return check_piece_text(field, counts, err);
    if (field->number == T5_SPM_PIECE_SCORE) {
        uint32_t bits = (uint32_t)field->value;
        float score;
        memcpy(&score, &bits, sizeof score);
        if (!isfinite(score) || fabsf(score) > SCORE_ABS_MAX)
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: the score of piece %zu is absurd", counts->path, counts->n_pieces);
        return T5_OK;
    }
    *type = field->value;
    if (*type < T5_PIECE_NORMAL || *type > T5_PIECE_BYTE)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: piece %zu has an unknown type", counts->path, counts->n_pieces);
    return T5_OK;
}

static t5_status check_piece(const t5_proto_field *piece, spm_counts *counts, t5_error *err)
{
    t5_proto message = message_of(piece->bytes, piece->n_bytes);
    t5_proto_field field;
    uint64_t type = T5_PIECE_NORMAL;
    unsigned seen = 0;
    bool is_broken;

    while (t5_proto_next(&message, &field, &is_broken)) {
        t5_status status = check_piece_field(&field, &type, counts, err);
        if (status != T5_OK) return status;
        if (field.number > T5_SPM_PIECE_TYPE) continue;
        is_broken = (seen >> field.number & 1) != 0;
        if (is_broken) break;
        seen |= 1u << field.number;
    }
    if (is_broken || (seen >> T5_SPM_PIECE_TEXT & 1) == 0)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: piece %zu is malformed", counts->path, counts->n_pieces);
    counts->n_pieces++;
    counts->n_unknown += type == T5_PIECE_UNKNOWN;
    counts->n_normal += type == T5_PIECE_NORMAL || type == T5_PIECE_USER_DEFINED;
    if (counts->n_pieces > T5_VOCAB_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: more than %d pieces", counts->path, T5_VOCAB_MAX);
    return T5_OK;
}

static t5_status check_trainer(const t5_proto_field *trainer, spm_counts *counts, t5_error *err)
{
    t5_proto message = message_of(trainer->bytes, trainer->n_bytes);
    t5_proto_field field;
    bool is_broken;

    counts->n_trainers++;
    while (t5_proto_next(&message, &field, &is_broken)) {
        if (field.number != T5_SPM_TRAINER_TYPE) continue;
        if (field.wire != T5_WIRE_VARINT || (field.value != T5_SPM_UNIGRAM && field.value != T5_SPM_BPE))
            return T5_FAIL(err, T5_ERR_FORMAT, "%s: neither a unigram nor a BPE model", counts->path);
    }
    if (is_broken) return T5_FAIL(err, T5_ERR_FORMAT, "%s: the trainer_spec is malformed", counts->path);
    return T5_OK;
}

static t5_status check_normalizer(const t5_proto_field *normalizer, const spm_counts *counts, t5_error *err)
{
    t5_proto message = message_of(normalizer->bytes, normalizer->n_bytes);
    t5_proto_field field;
    bool is_broken;
    size_t n_maps = 0;

    while (t5_proto_next(&message, &field, &is_broken)) {
        if (field.number != T5_SPM_NORMALIZER_CHARSMAP) continue;
        is_broken = field.wire != T5_WIRE_BYTES || ++n_maps > 1;
        if (is_broken) break;
        t5_status status = t5_charsmap_check(field.bytes, field.n_bytes, counts->path, err);
        if (status != T5_OK) return status;
    }
    if (is_broken) return T5_FAIL(err, T5_ERR_FORMAT, "%s: the normalizer_spec is malformed", counts->path);
    return T5_OK;
}

static t5_status check_field(const t5_proto_field *field, spm_counts *counts, t5_error *err)
{
    if (field->number > T5_SPM_DENORMALIZER) return T5_OK;
    if (field->wire != T5_WIRE_BYTES) return T5_FAIL(err, T5_ERR_FORMAT, "%s: not a SentencePiece model", counts->path);
    switch (field->number) {
    case T5_SPM_PIECE:
        return check_piece(field, counts, err);
    case T5_SPM_TRAINER:
        return check_trainer(field, counts, err);
    case T5_SPM_NORMALIZER:
        counts->n_normalizers++;
        return check_normalizer(field, counts, err);
    case T5_SPM_DENORMALIZER:
        counts->n_denormalizers++;
        return check_normalizer(field, counts, err);
    default: /* self-test data: the library checks it itself */
        return T5_OK;
    }
}

t5_status t5_spm_check(const void *data, size_t n_bytes, const char *path, t5_error *err)
{
    if (n_bytes == 0) return T5_FAIL(err, T5_ERR_FORMAT, "%s: the file is empty", path);
    if (n_bytes > FILE_BYTES_MAX) return T5_FAIL(err, T5_ERR_FORMAT, "%s: %zu bytes are too many", path, n_bytes);

    t5_proto message = message_of(data, n_bytes);
    t5_proto_field field;
    spm_counts counts = {.path = path};
    bool is_broken;
    while (t5_proto_next(&message, &field, &is_broken)) {
        t5_status status = check_field(&field, &counts, err);
        if (status != T5_OK) return status;
    }
    if (is_broken)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: not a SentencePiece model, or cut short, at byte %zu", path,
                       (size_t)(message.pos - (const unsigned char *)data));
    if (counts.n_trainers > 1 || counts.n_normalizers > 1 || counts.n_denormalizers > 1)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: a trainer_spec or normalizer_spec appears twice", path);
    if (counts.n_normal == 0) return T5_FAIL(err, T5_ERR_FORMAT, "%s: no pieces", path);
    if (counts.n_unknown != 1)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: %zu unknown pieces instead of one", path, counts.n_unknown);
    return T5_OK;
}

bool t5_spm_maps_text(const void *data, size_t n_bytes)
{
    t5_proto message = message_of(data, n_bytes);
    t5_proto_field field, inner;
    bool is_broken;
    while (t5_proto_next(&message, &field, &is_broken)) {
        if (field.number != T5_SPM_DENORMALIZER) continue;
        t5_proto denormalizer = message_of(field.bytes, field.n_bytes);
        while (t5_proto_next(&denormalizer, &inner, &is_broken))
            if (inner.number == T5_SPM_NORMALIZER_CHARSMAP && inner.n_bytes > 0) return true;
    }
    return false;
}

bool t5_spm_is_special_name(const char *piece, size_t n_bytes)
{
    static const char *const names[] = {"</s>", "<s>", "<pad>", "<unk>"};
    static const char word_mark[] = "\xE2\x96\x81", sentinel[] = "<extra_id_";
    const size_t mark_bytes = sizeof word_mark - 1, sentinel_bytes = sizeof sentinel - 1;

    if (n_bytes > mark_bytes && memcmp(piece, word_mark, mark_bytes) == 0) {
        piece += mark_bytes;
        n_bytes -= mark_bytes;
    }
    for (size_t i = 0; i < T5_COUNT(names); i++)
        if (n_bytes == strlen(names[i]) && memcmp(piece, names[i], n_bytes) == 0) return true;
    if (n_bytes < sentinel_bytes + 2 || memcmp(piece, sentinel, sentinel_bytes) != 0) return false;
    for (size_t i = sentinel_bytes; i + 1 < n_bytes; i++)
        if (piece[i] < '0' || piece[i] > '9') return false;
    return piece[n_bytes - 1] == '>';
}

/* True for a piece that is found in texts although its name is special. */
static bool needs_guard(const t5_proto_field *piece)
{
    t5_proto message = message_of(piece->bytes, piece->n_bytes);
    t5_proto_field field;
    uint64_t type = T5_PIECE_NORMAL;
    bool is_special = false, is_broken;

    while (t5_proto_next(&message, &field, &is_broken)) {
        if (field.number == T5_SPM_PIECE_TYPE) type = field.value;
        if (field.number == T5_SPM_PIECE_TEXT)
            is_special = t5_spm_is_special_name((const char *)field.bytes, field.n_bytes);
    }
    return is_special && (type == T5_PIECE_NORMAL || type == T5_PIECE_USER_DEFINED);
}

/* Appends a piece with its type set to control: the last value of a field counts. */
static t5_status put_guarded(t5_buffer *out, t5_buffer *scratch, const t5_proto_field *piece, t5_error *err)
{
    t5_status status = T5_OK;
    scratch->n_bytes = 0;
    T5_TRY(t5_buffer_append(scratch, (const char *)piece->bytes, piece->n_bytes, err));
    T5_TRY(t5_proto_put_int(scratch, T5_SPM_PIECE_TYPE, T5_PIECE_CONTROL, err));
    T5_TRY(t5_proto_put_bytes(out, T5_SPM_PIECE, scratch->bytes, scratch->n_bytes, err));
out:
    return status;
}

t5_status t5_spm_guard(const void *data, size_t n_bytes, void **out, size_t *out_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    t5_buffer copy = {0}, scratch = {0};
    t5_proto message = message_of(data, n_bytes);
    t5_proto_field field;
    bool is_broken;
    for (const unsigned char *start = message.pos; t5_proto_next(&message, &field, &is_broken); start = message.pos) {
        if (field.number == T5_SPM_PIECE && needs_guard(&field)) {
            T5_TRY(put_guarded(&copy, &scratch, &field, err));
        } else {
            T5_TRY(t5_buffer_append(&copy, (const char *)start, (size_t)(message.pos - start), err));
        }
    }
    *out = copy.bytes;
    *out_bytes = copy.n_bytes;
    copy = (t5_buffer){0}; /* handed to the caller */
out:
    t5_buffer_deinit(&copy);
    t5_buffer_deinit(&scratch);
    return status;
}
