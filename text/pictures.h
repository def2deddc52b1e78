/* text/pictures.h: emoji, arrows and the like, which stand between words and say the same in all languages. Any thread.
 */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

/* Bytes of the pictures that a text of a byte or more begins with: emoji, arrows and the like that touch, a digit in a
 * frame. 0: it begins with none. */
size_t t5_picture_bytes(const char *text, size_t n_bytes);
/* True for a picture among the letters, a mark that colours one, and a character that nobody sees, which joins emoji or
 * stands alone: a byte order mark, a mark of direction. */
bool t5_is_picture_part(uint32_t code);

T5_C_END
