/* base/utf8.c: UTF-8 by the table of well-formed byte sequences (Unicode 15, table 3-7). The first byte decides the
 * length and the range of the second byte, which is what excludes overlong forms, surrogates and values above
 * U+10FFFF; all later bytes are 80..BF. Any thread. */
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    size_t length;                        /* 0: no character starts with this byte */
    unsigned char second_min, second_max; /* of the second byte, when length > 1 */
} lead_rule;

static lead_rule rule_of(unsigned char lead)
{
    if (lead < 0x80) return (lead_rule){1, 0, 0};
    if (lead < 0xC2) return (lead_rule){0, 0, 0};
    if (lead < 0xE0) return (lead_rule){2, 0x80, 0xBF};
    if (lead == 0xE0) return (lead_rule){3, 0xA0, 0xBF};
    if (lead == 0xED) return (lead_rule){3, 0x80, 0x9F};
    if (lead < 0xF0) return (lead_rule){3, 0x80, 0xBF};
    if (lead == 0xF0) return (lead_rule){4, 0x90, 0xBF};
    if (lead < 0xF4) return (lead_rule){4, 0x80, 0xBF};
    if (lead == 0xF4) return (lead_rule){4, 0x80, 0x8F};
    return (lead_rule){0, 0, 0};
}

/* Bytes of the character's well-formed start, at least 1; *out_whole tells whether that is the whole character. */
static size_t scan(const unsigned char *text, size_t n_bytes, bool *out_whole)
{
    lead_rule rule = rule_of(text[0]);
    size_t length = 1;

    *out_whole = false;
    if (rule.length == 0) return 1;
    while (length < rule.length && length < n_bytes) {
        unsigned char min = length == 1 ? rule.second_min : 0x80, max = length == 1 ? rule.second_max : 0xBF;
        if (text[length] < min || text[length] > max) return length;
        length++;
    }
    *out_whole = length == rule.length;
    return length;
}

size_t t5_utf8_valid_prefix(const char *text, size_t n_bytes)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t pos = 0;

    while (pos < n_bytes) {
        bool is_whole = true;
        size_t length = bytes[pos] < 0x80 ? 1 : scan(bytes + pos, n_bytes - pos, &is_whole);
        if (!is_whole) break;
        pos += length;
    }
    return pos;
}

bool t5_utf8_is_valid(const char *text, size_t n_bytes)
{
    return t5_utf8_valid_prefix(text, n_bytes) == n_bytes;
}

size_t t5_utf8_next(const char *text, size_t n_bytes, uint32_t *out_code)
{
    static const uint32_t lead_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const unsigned char *bytes = (const unsigned char *)text;
    bool is_whole = false;
    size_t length = scan(bytes, n_bytes, &is_whole);

    if (!is_whole) {
        *out_code = T5_UTF8_REPLACEMENT;
        return length;
    }
    uint32_t code = bytes[0] & lead_bits[length];
    for (size_t i = 1; i < length; i++)
        code = code << 6 | (bytes[i] & 0x3Fu);
    *out_code = code;
    return length;
}

size_t t5_utf8_mark(const char *text, size_t n_bytes)
{
    static const char mark[] = "\xef\xbb\xbf";
    const size_t n_mark = sizeof mark - 1;
    return n_bytes >= n_mark && memcmp(text, mark, n_mark) == 0 ? n_mark : 0;
}

size_t t5_utf8_put(uint32_t code, char out[4])
{
    static const unsigned char lead_marks[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

    for (size_t i = length; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(lead_marks[length] | code);
    return length;
}

size_t t5_utf8_count(const char *text, size_t n_bytes)
{
    size_t n_codes = 0;
    uint32_t code;

    for (size_t pos = 0; pos < n_bytes; n_codes++)
        pos += t5_utf8_next(text + pos, n_bytes - pos, &code);
    return n_codes;
}

size_t t5_utf8_cut(const char *text, size_t n_bytes, size_t bytes_max)
{
    if (n_bytes <= bytes_max) return n_bytes;
    size_t pos = bytes_max;
    while (pos > 0 && ((unsigned char)text[pos] & 0xC0) == 0x80)
        pos--;
    return pos;
}

t5_status t5_utf8_repair(const char *text, size_t n_bytes, char **out_text, size_t *out_bytes, t5_error *err)
{
    size_t capacity = n_bytes * 3 + 1; /* each byte may become one U+FFFD of 3 bytes */
    if (t5_utf8_is_valid(text, n_bytes)) capacity = n_bytes + 1;
    char *out = malloc(capacity);
    if (out == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "text: %zu bytes", capacity);

    size_t n_out = 0;
    for (size_t pos = 0; pos < n_bytes;) {
        uint32_t code;
        pos += t5_utf8_next(text + pos, n_bytes - pos, &code);
        n_out += t5_utf8_put(code, out + n_out);
    }
    out[n_out] = '\0';
    *out_text = out;
    *out_bytes = n_out;
    return T5_OK;
}

bool t5_utf8_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

bool t5_utf8_is_line_end(uint32_t code)
{
    return (code >= '\n' && code <= '\r') || code == 0x85 || code == 0x2028 || code == 0x2029;
}

void t5_utf8_flatten(char *text, size_t n_bytes)
{
    for (size_t pos = 0, length; pos < n_bytes; pos += length) {
        uint32_t code;
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (t5_utf8_is_line_end(code)) memset(text + pos, ' ', length);
    }
}

size_t t5_utf8_leading_space(const char *text, size_t n_bytes)
{
    size_t pos = 0;
    while (pos < n_bytes) {
        uint32_t code;
        size_t length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (!t5_utf8_is_space(code)) break;
        pos += length;
    }
    return pos;
}

size_t t5_utf8_trailing_space(const char *text, size_t n_bytes)
{
    size_t end = n_bytes;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && end - start < 4 && ((unsigned char)text[start] & 0xC0) == 0x80)
            start--;
        uint32_t code;
        size_t length = t5_utf8_next(text + start, end - start, &code);
        if (length != end - start || !t5_utf8_is_space(code)) break;
        end = start;
    }
    return n_bytes - end;
}
