/* text/entities.c: see entities.h. The semicolon is required: "AT&T" and "?a=1&copy=2" are text. */
#include "text/entities.h"
#include "base/error.h"

#include <stdbool.h>
#include <string.h>

#define NAME_BYTES_MAX 32 /* of an entity, known or not; longer is text */
#define DIGITS_MAX 10
#define CODE_MAX 0x10FFFF

static const struct {
    char name[12];
    uint16_t code;
} entities[] = {
#define T5_ENTITY(name, code) {name, code},
#include "text/entities.def"
#undef T5_ENTITY
};

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int digit_of(char c, int base)
{
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : base;
    return digit < base ? digit : -1;
}

/* Control characters and what is no character of Unicode stay as they are written. */
static bool is_text(uint32_t code)
{
    const bool is_control = code < 0x20 ? code != '\t' && code != '\n' && code != '\r' : code >= 0x7F && code < 0xA0;
    return !is_control && (code < 0xD800 || code > 0xDFFF) && code <= CODE_MAX;
}

/* "&#233;" or "&#xE9;". */
static size_t read_number(const char *text, size_t n_bytes, uint32_t *out_code)
{
    const bool is_hex = n_bytes > 2 && (text[2] == 'x' || text[2] == 'X');
    const size_t first = is_hex ? 3 : 2;
    uint32_t code = 0;
    size_t pos = first;
    for (; pos < n_bytes && pos - first < DIGITS_MAX; pos++) {
        const int digit = digit_of(text[pos], is_hex ? 16 : 10);
        if (digit < 0) break;
        if (code <= CODE_MAX) code = code * (is_hex ? 16 : 10) + (uint32_t)digit;
    }
    if (pos == first || pos == n_bytes || text[pos] != ';') return 0;
    if (is_text(code)) *out_code = code;
    return pos + 1;
}

static uint32_t find(const char *name, size_t name_bytes, t5_markup_kind kind)
{
    static const char *const xml[] = {"amp", "apos", "gt", "lt", "quot"};
    bool is_known = kind == T5_MARKUP_HTML;
    for (size_t i = 0; i < T5_COUNT(xml); i++)
        is_known |= strlen(xml[i]) == name_bytes && memcmp(xml[i], name, name_bytes) == 0;
    size_t low = 0, high = is_known ? T5_COUNT(entities) : 0;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        int order = strncmp(name, entities[middle].name, name_bytes);
        if (order == 0 && entities[middle].name[name_bytes] != '\0') order = -1;
        if (order == 0) return entities[middle].code;
        if (order < 0) high = middle;
        if (order > 0) low = middle + 1;
    }
    return 0;
}

size_t t5_entity_read(const char *text, size_t n_bytes, t5_markup_kind kind, uint32_t *out_code)
{
    size_t end = 1;
    *out_code = 0;
    if (n_bytes > 1 && text[1] == '#') return read_number(text, n_bytes, out_code);
    while (end < n_bytes && end <= NAME_BYTES_MAX && is_alnum(text[end]))
        end++;
    if (end == 1 || end == n_bytes || text[end] != ';') return 0;
    if (end - 1 < sizeof entities[0].name) *out_code = find(text + 1, end - 1, kind);
    return end + 1;
}
