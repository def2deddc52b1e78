/* text/pictures.c: see pictures.h. */
#include "text/pictures.h"

#include "base/utf8.h"

#include <string.h>
#include <unicode/uchar.h>

/* What T5 cannot say either and is no emoji: arrows, stars, check marks. Not the signs of mathematics, shapes and lines
 * of tables between them, which belong to their sentences: "−5", "x ≤ 5", "○○さん". */
static bool is_arrow_or_dingbat(uint32_t code)
{
    const bool is_arrow = (code >= 0x2190 && code <= 0x21FF) || (code >= 0x27F0 && code <= 0x27FF) ||
                          (code >= 0x2900 && code <= 0x297F) || (code >= 0x2B00 && code <= 0x2BFF);
    const bool is_dingbat = code >= 0x2600 && code <= 0x27BF;
    return (is_arrow || is_dingbat) && (U_GET_GC_MASK((UChar32)code) & (U_GC_SO_MASK | U_GC_SM_MASK)) != 0;
}

static bool is_picture(uint32_t code)
{
    if (code < 0x2190) return false;
    return is_arrow_or_dingbat(code) || u_hasBinaryProperty((UChar32)code, UCHAR_EXTENDED_PICTOGRAPHIC) ||
           (code >= 0x1F1E6 && code <= 0x1F1FF);
}

bool t5_is_picture_part(uint32_t code)
{
    return is_picture(code) || code == 0xFE0E || code == 0xFE0F || (code >= 0x1F3FB && code <= 0x1F3FF) ||
           (code >= 0x80 && u_charType((UChar32)code) == U_FORMAT_CHAR);
}

/* A digit or sign of a telephone in its frame. */
static size_t keycap_bytes(const char *text, size_t n_bytes)
{
    static const char frame[] = "\uFE0F\u20E3";
    const bool is_key = (text[0] >= '0' && text[0] <= '9') || text[0] == '#' || text[0] == '*';
    return is_key && n_bytes >= sizeof frame && memcmp(text + 1, frame, sizeof frame - 1) == 0 ? sizeof frame : 0;
}

size_t t5_picture_bytes(const char *text, size_t n_bytes)
{
    uint32_t code;
    size_t pos = keycap_bytes(text, n_bytes);
    if (pos > 0) return pos;
    for (size_t length; pos < n_bytes; pos += length) {
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (pos == 0 ? !is_picture(code) : !t5_is_picture_part(code)) break;
    }
    return pos;
}
