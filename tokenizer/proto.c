/* tokenizer/proto.c: see proto.h. */
#include "tokenizer/proto.h"

#include <string.h>

static bool read_varint(t5_proto *message, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && message->pos < message->end; shift += 7) {
        unsigned char byte = *message->pos++;
        if (shift == 63 && byte > 1) return false; /* does not fit 64 bits */
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(t5_proto *message, size_t n_bytes, uint64_t *out)
{
    if ((size_t)(message->end - message->pos) < n_bytes) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < n_bytes; i++)
        value |= (uint64_t)message->pos[i] << (8 * i);
    message->pos += n_bytes;
    *out = value;
    return true;
}

static bool read_bytes(t5_proto *message, t5_proto_field *out)
{
    uint64_t n_bytes;
    if (!read_varint(message, &n_bytes) || n_bytes > (uint64_t)(message->end - message->pos)) return false;
    out->bytes = message->pos;
    out->n_bytes = (size_t)n_bytes;
    message->pos += n_bytes;
    return true;
}

bool t5_proto_next(t5_proto *message, t5_proto_field *out, bool *out_broken)
{
    uint64_t key;

    *out_broken = false;
    if (message->pos == message->end) return false;
    *out_broken = true;
    memset(out, 0, sizeof *out);
    if (!read_varint(message, &key) || key > UINT32_MAX || key >> 3 == 0) return false;
    out->number = (uint32_t)(key >> 3);
    out->wire = (t5_wire)(key & 7);

    bool is_read = false;
    switch (out->wire) {
    case T5_WIRE_VARINT:
        is_read = read_varint(message, &out->value);
        break;
    case T5_WIRE_FIXED64:
        is_read = read_fixed(message, 8, &out->value);
        break;
    case T5_WIRE_BYTES:
        is_read = read_bytes(message, out);
        break;
    case T5_WIRE_FIXED32:
        is_read = read_fixed(message, 4, &out->value);
        break;
    default: /* groups, which no model uses */
        break;
    }
    *out_broken = !is_read;
    return is_read;
}
