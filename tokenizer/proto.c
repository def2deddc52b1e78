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

static t5_status put_varint(t5_buffer *message, uint64_t value, t5_error *err)
{
    char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (char)(value | 0x80);
    bytes[n++] = (char)value;
    return t5_buffer_append(message, bytes, n, err);
}

static t5_status put_key(t5_buffer *message, uint32_t number, t5_wire wire, t5_error *err)
{
    return put_varint(message, (uint64_t)number << 3 | wire, err);
}

t5_status t5_proto_put_int(t5_buffer *message, uint32_t number, uint64_t value, t5_error *err)
{
    const t5_status status = put_key(message, number, T5_WIRE_VARINT, err);
    return status == T5_OK ? put_varint(message, value, err) : status;
}

t5_status t5_proto_put_bytes(t5_buffer *message, uint32_t number, const void *bytes, size_t n_bytes, t5_error *err)
{
    t5_status status = put_key(message, number, T5_WIRE_BYTES, err);
    if (status == T5_OK) status = put_varint(message, n_bytes, err);
    return status == T5_OK ? t5_buffer_append(message, bytes, n_bytes, err) : status;
}

t5_status t5_proto_put_float(t5_buffer *message, uint32_t number, float value, t5_error *err)
{
    const t5_status status = put_key(message, number, T5_WIRE_FIXED32, err);
    if (status != T5_OK) return status;
    return t5_buffer_append(message, (const char *)&value, sizeof value, err); /* little-endian, as all we run on */
}
