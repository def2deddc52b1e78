/* text/pictures.c: see pictures.h. */
#include "text/pictures.h"

#include "base/utf8.h"

#include <string.h>
#include <unicode/uchar.h>

/* What T5 cannot say either and is no emoji: arrows; weather, stars, hands, chess, cards, dice, notes, check marks and
 * ornaments, which follow each other from U+2600 on. The signs of mathematics between them belong to their sentences:
 * "−5", "x ≤ 5". */
static bool is_arrow_or_dingbat(uint32_t code)
{
    const bool is_arrow = (code >= 0x2190 && code <= 0x21FF) || (code >= 0x27F0 && code <= 0x27FF) ||
                          (code >= 0x2900 && code <= 0x297F) || (code >= 0x2B00 && code <= 0x2BFF);
    const bool is_dingbat = code >= 0x2600 && code <= 0x27BF;
    return (is_arrow || is_dingbat) && (U_GET_GC_MASK((UChar32)code) & (U_GC_SO_MASK | U_GC_SM_MASK)) != 0;
}

/* "B♭ major", "♯4" */
static bool is_accidental(uint32_t code)
{
    return code >= 0x266D && code <= 0x266F;
}

static bool is_picture(uint32_t code)
{
    if (code < 0x2190 || is_accidental(code)) return false;
    return is_arrow_or_dingbat(code) || u_hasBinaryProperty((UChar32)code, UCHAR_EXTENDED_PICTOGRAPHIC) ||
           (code >= 0x1F1E6 && code <= 0x1F1FF);
}

/* Lines, blocks and shapes follow each other: "│ Name │", "Details ▼", but "○○さん". Some shapes are emoji. */
bool t5_is_sign(uint32_t code)
{
    return is_accidental(code) || (code >= 0x2500 && code <= 0x25FF && !is_picture(code));
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

/* Of the pictures that a text begins with, and of the signs among them when they are taken. */
static size_t run_bytes(const char *text, size_t n_bytes, bool takes_signs)
{
    size_t pos = 0;
    for (size_t length; pos < n_bytes; pos += length) {
        uint32_t code;
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        const bool is_part = pos == 0 ? is_picture(code) : t5_is_picture_part(code);
        if (!is_part && !(takes_signs && t5_is_sign(code))) break;
    }
    return pos;
}

size_t t5_picture_at(const char *text, size_t n_bytes, size_t pos)
{
    uint32_t code;
    const char *rest = text + pos;
    const size_t rest_bytes = n_bytes - pos, n_keycap = keycap_bytes(rest, rest_bytes);
    t5_utf8_next(rest, rest_bytes, &code);
    if (n_keycap > 0 || (!is_picture(code) && !t5_is_sign(code))) return n_keycap;
    if (pos == 0 || t5_utf8_trailing_space(text, pos) > 0) {
        const size_t n_run = run_bytes(rest, rest_bytes, true);
        if (n_run == rest_bytes || t5_utf8_leading_space(rest + n_run, rest_bytes - n_run) > 0) return n_run;
    }
    return run_bytes(rest, rest_bytes, false);
}
