/* text/placeholders.h: the parts of a text that a translator must leave alone: what programs fill in (%s, {name}), what
 * they read (<b>, &amp;), and names of things (https://example.org, @user). docs/api.md lists them for users, the table
 * in placeholders.c for us. Any thread; nothing is allocated. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* Bytes offset to offset + n_bytes of the text; within one line. */
typedef struct {
    size_t offset, n_bytes;
} t5_placeholder;

/* Length of the placeholder that begins at byte `pos` of valid UTF-8; 0: none does. Looks at the character before. */
size_t t5_placeholder_at(const char *text, size_t n_bytes, size_t pos);
/* The first that begins at or after `from`, which is not inside one; they never overlap. False: none. To walk through a
 * text takes linear time. */
bool t5_placeholder_next(const char *text, size_t n_bytes, size_t from, t5_placeholder *out);
/* True when both texts have the same placeholders equally often, in any order. */
bool t5_placeholders_agree(const char *a, size_t a_bytes, const char *b, size_t b_bytes);

T5_C_END
