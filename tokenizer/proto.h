/* tokenizer/proto.h: reads the protobuf wire format with bounds, and writes it. Any thread. */
#pragma once
#include "base/buffer.h"
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

typedef enum { T5_WIRE_VARINT = 0, T5_WIRE_FIXED64 = 1, T5_WIRE_BYTES = 2, T5_WIRE_FIXED32 = 5 } t5_wire;

/* What is left of a message. */
typedef struct {
    const unsigned char *pos, *end;
} t5_proto;

typedef struct {
    uint32_t number;
    t5_wire wire;
    uint64_t value;             /* of a varint, fixed64 or fixed32 */
    const unsigned char *bytes; /* of T5_WIRE_BYTES: inside the message */
    size_t n_bytes;
} t5_proto_field;

/* Reads the next field; false at the end of the message and for what is not protobuf: then *out_broken is true. */
bool t5_proto_next(t5_proto *message, t5_proto_field *out, bool *out_broken);

/* Append a field to a message: a varint, bytes, a fixed32. */
t5_status t5_proto_put_int(t5_buffer *message, uint32_t number, uint64_t value, t5_error *err);
t5_status t5_proto_put_bytes(t5_buffer *message, uint32_t number, const void *bytes, size_t n_bytes, t5_error *err);
t5_status t5_proto_put_float(t5_buffer *message, uint32_t number, float value, t5_error *err);

T5_C_END
