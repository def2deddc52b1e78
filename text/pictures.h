/* text/pictures.h: emoji, arrows and the like, which stand between words and say the same in all languages. Any thread.
 */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

/* Bytes of the pictures at text[pos]: emoji, arrows and the like that touch, a digit in a frame, and signs that stand
 * alone: white space or an end of the text is on both sides of their run. 0: there is none. */
size_t t5_picture_at(const char *text, size_t n_bytes, size_t pos);
/* True for a picture among the letters, a mark that colours one, and a character that nobody sees, which joins emoji or
 * stands alone: a byte order mark, a mark of direction. */
bool t5_is_picture_part(uint32_t code);
/* True for what is a picture where it stands alone, and belongs to the word that it touches: shapes, lines of tables,
 * accidentals. */
bool t5_is_sign(uint32_t code);

T5_C_END
