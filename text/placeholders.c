/* text/placeholders.c: see placeholders.h. A table names for each character the function that measures what
 * begins with it. Each function reads a bounded number of bytes beyond what it accepts, or begins only where
 * no word has begun before, so a walk takes linear time.
 *
 * A mistake costs little: what is taken for a placeholder is copied, and most such words would be copied anyway. So
 * doubtful cases are placeholders, but for those that plain text is full of: "50%off", "$5", "#1", "and/or", "{see
 * below}", "10:30". */
#include "text/placeholders.h"
#include "base/utf8.h"
#include "text/word_list.h"

#include <string.h>
#include <unicode/uchar.h>

#define BRACKET_BYTES_MAX 256 /* longer ones are text */
#define ADDRESS_BYTES_MAX 2048
#define NAME_BYTES_MAX 64
#define SCHEME_BYTES_MAX 16
#define NO_SPACE_ALPHABET 0x0590 /* from here on letters may touch a foreign word: CJK, Thai, Hebrew prefixes */

/* Domains without a scheme are known by their ends, since a missing space looks the same: "the end.It was". */
static const char domains[] = " com org net io dev app gov edu info biz eu de fr uk ch at nl es pl se jp cn ";

typedef struct {
    const char *text;
    size_t n_bytes;
} view;

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(unsigned char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_letter(unsigned char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(const char *set, unsigned char c)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* A NUL at and behind the end. */
static unsigned char at(const view *v, size_t pos)
{
    return pos < v->n_bytes ? (unsigned char)v->text[pos] : 0;
}

/* Bytes from `pos` on that are letters or digits of ASCII, or in `more`; at most `max`. */
static size_t run_of(const view *v, size_t pos, const char *more, size_t max)
{
    size_t n = 0;
    for (; n < max; n++) {
        const unsigned char c = at(v, pos + n);
        if (!is_letter(c) && !is_digit(c) && !is_one_of(more, c)) break;
    }
    return n;
}

static size_t run_of_set(const view *v, size_t pos, const char *set)
{
    size_t n = 0;
    while (n < NAME_BYTES_MAX && is_one_of(set, at(v, pos + n)))
        n++;
    return n;
}

static bool has_letter(const view *v, size_t pos, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_letter(at(v, pos + i))) return true;
    return false;
}

/* The character before `pos`; a space at the start. */
static uint32_t code_before(const view *v, size_t pos)
{
    uint32_t code = ' ';
    size_t start = pos;
    while (start > 0 && pos - start < 4 && ((unsigned char)v->text[--start] & 0xC0) == 0x80) {
    }
    if (start < pos) t5_utf8_next(v->text + start, pos - start, &code);
    return code;
}

/* True when a letter or a digit stands before `pos`, of an alphabet whose words are set apart by spaces. */
static bool is_in_word(const view *v, size_t pos)
{
    const uint32_t code = code_before(v, pos);
    if (code < 0x80) return is_letter((unsigned char)code) || is_digit((unsigned char)code);
    return code < NO_SPACE_ALPHABET && u_isalnum((UChar32)code);
}

/* True when what stands before `pos` cannot be part of a path: nothing, white space, what nobody sees, like a zero
 * width space, or a sign that opens something. */
static bool is_at_border(const view *v, size_t pos)
{
    const uint32_t code = code_before(v, pos);
    if (code < 0x80) return code <= ' ' || is_one_of("([{\"'=:,", (unsigned char)code);
    return t5_utf8_is_space(code) || (U_GET_GC_MASK((UChar32)code) & U_GC_CF_MASK) != 0;
}

/* Length up to and with the bracket that closes the one at `pos`; 0: none in this line, or too far away. */
static size_t balanced(const view *v, size_t pos, char open, char close)
{
    size_t depth = 0;
    for (size_t n = 0; n < BRACKET_BYTES_MAX && pos + n < v->n_bytes; n++) {
        const char c = v->text[pos + n];
        if (c == '\n' || c == '\r') return 0;
        if (c == open) depth++;
        if (c == close && --depth == 0) return n + 1;
    }
    return 0;
}

/* Length up to and with the two characters, which stand in this line. */
static size_t until(const view *v, size_t pos, char first, char second)
{
    for (size_t n = 2; n < BRACKET_BYTES_MAX && pos + n + 1 < v->n_bytes; n++) {
        const char c = v->text[pos + n];
        if (c == '\n' || c == '\r') return 0;
        if (c == first && v->text[pos + n + 1] == second) return n + 2;
    }
    return 0;
}

/* ---- what programs fill in ---- */

/* Behind the % of printf: position, flags, width, precision, size, conversion. */
static size_t conversion(const view *v, size_t pos)
{
    size_t p = pos;
    const size_t n_digits = run_of_set(v, p, "0123456789");
    if (n_digits > 0 && at(v, p + n_digits) == '$') p += n_digits + 1;
    p += run_of_set(v, p, "-+0#'");
    p += run_of_set(v, p, "0123456789*");
    if (at(v, p) == '.') p += 1 + run_of_set(v, p + 1, "0123456789*");
    const bool is_plain = p == pos;
    p += run_of_set(v, p, "hlLqjzt");
    if (!is_one_of("diouxXeEfFgGcsp@", at(v, p))) return 0;
    const bool is_word = is_plain && is_letter(at(v, p + 1)) && is_letter(at(v, p + 2)) && is_letter(at(v, p + 3));
    const bool is_capital_next = is_lower(at(v, p)) && !is_lower(at(v, p + 1)); /* "%sLearn more" is no word */
    return is_word && !is_capital_next ? 0 : p + 1 - pos;
}

/* %s %1$s %5.2f %% %(name)s %{name} %<name>s %name% */
static size_t match_percent(const view *v, size_t pos)
{
    const unsigned char next = at(v, pos + 1);
    if (next == '%') return 2;
    if (pos > 0 && is_digit((unsigned char)v->text[pos - 1])) return 0;
    const char *const brackets[] = {"()", "{}", "<>"};
    for (size_t i = 0; i < T5_COUNT(brackets); i++) {
        if (next != (unsigned char)brackets[i][0]) continue;
        const size_t n_name = run_of(v, pos + 2, "_.-", NAME_BYTES_MAX);
        const size_t end = pos + 2 + n_name + 1;
        if (n_name == 0 || at(v, end - 1) != (unsigned char)brackets[i][1]) return 0;
        return end - pos + (next == '{' ? 0 : conversion(v, end));
    }
    const size_t n_name = run_of(v, pos + 1, "_.", NAME_BYTES_MAX);
    const size_t end = pos + 1 + n_name;
    const bool is_named = n_name >= 2 && !is_digit(next) && at(v, end) == '%' && run_of(v, end + 1, "%(", 1) == 0;
    if (is_named) return end + 1 - pos;
    const size_t n = conversion(v, pos + 1);
    return n > 0 ? 1 + n : 0;
}

/* {} {0} {name} { $name } {n, plural, ...} {x:.2f} {{ x | upper }} {{{x}}} {% if %} {# note #} */
static size_t match_brace(const view *v, size_t pos)
{
    const unsigned char next = at(v, pos + 1);
    if (next == '%' || next == '#') {
        const size_t n = until(v, pos, (char)next, '}');
        if (n > 0) return n;
    }
    if (next == '{') return balanced(v, pos, '{', '}');
    size_t p = pos + 1 + run_of_set(v, pos + 1, " ");
    p += run_of(v, p, "_.$@#-[]/", NAME_BYTES_MAX);
    p += run_of_set(v, p, " ");
    if (at(v, p) == '}') return p + 1 - pos;
    return is_one_of(",:!?|=", at(v, p)) ? balanced(v, pos, '{', '}') : 0;
}

/* ${x} $(name) $name */
static size_t match_dollar(const view *v, size_t pos)
{
    const unsigned char next = at(v, pos + 1);
    if (next == '{') {
        const size_t n = balanced(v, pos + 1, '{', '}');
        return n > 0 ? 1 + n : 0;
    }
    const bool is_bracketed = next == '(';
    const size_t start = pos + 1 + is_bracketed;
    const size_t n_name = run_of(v, start, "_", NAME_BYTES_MAX);
    if (is_in_word(v, pos) || n_name == 0 || is_digit(at(v, start))) return 0;
    if (is_bracketed) return at(v, start + n_name) == ')' ? n_name + 3 : 0;
    return 1 + n_name;
}

/* \n \r \t as programs write them, before no small letter: "\nu" is a Greek one. */
static size_t match_backslash(const view *v, size_t pos)
{
    return is_one_of("nrt", at(v, pos + 1)) && !is_lower(at(v, pos + 2)) ? 2 : 0;
}

/* ---- what programs read ---- */

/* <b> </b> <br/> <x id="1"> <0> <!-- note -->. A space in one that is no end of a tag needs an = behind it. */
static size_t match_tag(const view *v, size_t pos)
{
    if (at(v, pos + 1) == '!' && at(v, pos + 2) == '-') {
        const size_t n = until(v, pos + 2, '-', '>');
        return n > 0 ? n + 2 : 0;
    }
    size_t p = pos + 1 + (at(v, pos + 1) == '/');
    const size_t n_name = run_of(v, p, ":_-", NAME_BYTES_MAX);
    if (n_name == 0 || is_one_of(":_-", at(v, p))) return 0;
    p += n_name;
    if (!is_one_of(" />", at(v, p))) return 0;
    const size_t n = balanced(v, pos, '<', '>');
    if (n == 0 || memchr(v->text + pos + 1, '<', n - 1) != NULL) return 0;
    const bool is_bare = memchr(v->text + pos, ' ', n) == NULL || v->text[pos + n - 2] == '/';
    return is_bare || memchr(v->text + pos, '=', n) != NULL ? n : 0;
}

/* &amp; &#39; &#xA0; */
static size_t match_entity(const view *v, size_t pos)
{
    const bool is_number = at(v, pos + 1) == '#';
    const size_t start = pos + 1 + is_number;
    const size_t n_name = run_of(v, start, "", SCHEME_BYTES_MAX);
    return n_name + is_number >= 2 && at(v, start + n_name) == ';' ? start + n_name + 1 - pos : 0;
}

/* ---- names ---- */

/* #{x} #tag, in any script, with a letter: "#1" is a number */
static size_t match_hash(const view *v, size_t pos)
{
    if (at(v, pos + 1) == '{') {
        const size_t n = balanced(v, pos + 1, '{', '}');
        return n > 0 ? 1 + n : 0;
    }
    if (is_in_word(v, pos) || (pos > 0 && is_one_of("#&", (unsigned char)v->text[pos - 1]))) return 0;
    bool has_a_letter = false;
    size_t p = pos + 1;
    while (p < v->n_bytes && p - pos < BRACKET_BYTES_MAX) {
        uint32_t code;
        const size_t length = t5_utf8_next(v->text + p, v->n_bytes - p, &code);
        const bool is_alpha = u_isalpha((UChar32)code), is_mark = (U_GET_GC_MASK((UChar32)code) & U_GC_M_MASK) != 0;
        if (!is_alpha && !is_mark && code != '_' && !u_isdigit((UChar32)code)) break;
        has_a_letter = has_a_letter || is_alpha;
        p += length;
    }
    return has_a_letter ? p - pos : 0;
}

/* Without the marks at the end that belong to the sentence. */
static size_t trim_name(const view *v, size_t pos, size_t n, const char *marks)
{
    while (n > 0 && is_one_of(marks, at(v, pos + n - 1)))
        n--;
    return n;
}

/* @user @user@example.org */
static size_t match_at(const view *v, size_t pos)
{
    const unsigned char first = at(v, pos + 1);
    if (is_in_word(v, pos) || (!is_letter(first) && first != '_')) return 0;
    if (pos > 0 && is_one_of("@._-", (unsigned char)v->text[pos - 1])) return 0;
    size_t n = 1 + trim_name(v, pos + 1, run_of(v, pos + 1, "_.-", NAME_BYTES_MAX), ".-");
    if (at(v, pos + n) != '@') return n;
    const size_t n_host = trim_name(v, pos + n + 1, run_of(v, pos + n + 1, ".-", BRACKET_BYTES_MAX), ".-");
    return n_host > 0 ? n + 1 + n_host : n;
}

/* :shortcode: of an emoji */
static size_t match_colon(const view *v, size_t pos)
{
    if (is_in_word(v, pos) || (pos > 0 && v->text[pos - 1] == ':')) return 0;
    const size_t n = run_of(v, pos + 1, "_+-", NAME_BYTES_MAX);
    const size_t end = pos + 1 + n;
    const bool is_closed = n >= 2 && at(v, end) == ':' && run_of(v, end + 1, ":", 1) == 0;
    return is_closed && has_letter(v, pos + 1, n) ? n + 2 : 0;
}

/* Length of an address' path, or of all of it: up to white space, a quote, or a letter of a script without spaces. */
static size_t address_bytes(const view *v, size_t pos)
{
    size_t p = pos, n_open = 0, n_close = 0;
    while (p < v->n_bytes && p - pos < ADDRESS_BYTES_MAX) {
        uint32_t code;
        const size_t length = t5_utf8_next(v->text + p, v->n_bytes - p, &code);
        if (code <= ' ' || code == 0x7F || (code < 0x80 && is_one_of("<>\"|\\^`", (unsigned char)code))) break;
        if (code >= 0x80 && (code >= NO_SPACE_ALPHABET || !u_isalnum((UChar32)code))) break;
        n_open += code == '(';
        n_close += code == ')';
        p += length;
    }
    for (; p > pos; p--) {
        const unsigned char last = at(v, p - 1);
        const bool is_extra = last == ')' && n_close > n_open;
        if (!is_extra && !is_one_of(".,;:!?'*]", last)) break;
        n_close -= is_extra;
    }
    return p - pos;
}

/* Length of "example.org" at `pos`: labels, the last of letters; 0: none. */
static size_t domain_bytes(const view *v, size_t pos, bool is_known_end)
{
    const size_t n = trim_name(v, pos, run_of(v, pos, ".-", BRACKET_BYTES_MAX), ".-");
    size_t start = n;
    while (start > 0 && at(v, pos + start - 1) != '.')
        start--;
    char last[SCHEME_BYTES_MAX] = "";
    const size_t n_last = n - start;
    if (start < 2 || n_last < 2 || n_last >= sizeof last) return 0;
    for (size_t i = 0; i < n_last; i++) {
        if (!is_letter(at(v, pos + start + i))) return 0;
        last[i] = v->text[pos + start + i];
    }
    return !is_known_end || t5_has_word(domains, last) ? n : 0;
}

/* C:\folder\file, in any script */
static size_t match_drive(const view *v, size_t pos)
{
    size_t p = pos + 3;
    uint32_t code;
    while (p < v->n_bytes && p - pos < ADDRESS_BYTES_MAX && (unsigned char)v->text[p] > ' ' &&
           !is_one_of("<>\"|?*:,;", at(v, p)))
        p += t5_utf8_next(v->text + p, v->n_bytes - p, &code);
    return trim_name(v, pos, p - pos, ".!)'");
}

/* scheme://... C:\... someone@example.org www.example.org example.org/path */
static size_t match_word(const view *v, size_t pos)
{
    const bool is_behind_mark = pos > 0 && is_one_of("._+-", (unsigned char)v->text[pos - 1]);
    if (is_in_word(v, pos) || (is_behind_mark && is_in_word(v, pos - 1))) return 0;
    const size_t n = run_of(v, pos, "._+-", NAME_BYTES_MAX);
    if (n <= SCHEME_BYTES_MAX && at(v, pos + n) == ':' && at(v, pos + n + 1) == '/' && at(v, pos + n + 2) == '/') {
        const size_t n_rest = address_bytes(v, pos + n + 3);
        return n_rest > 0 ? n + 3 + n_rest : 0;
    }
    if (n == 1 && at(v, pos + 1) == ':' && at(v, pos + 2) == '\\') return match_drive(v, pos);
    if (at(v, pos + n) == '@') {
        const size_t n_host = domain_bytes(v, pos + n + 1, false);
        return n_host > 0 ? n + 1 + n_host : 0;
    }
    if (memchr(v->text + pos, '.', n) == NULL) return 0;
    const bool is_www = n > 4 && memcmp(v->text + pos, "www.", 4) == 0;
    const size_t n_host = domain_bytes(v, pos, !is_www);
    if (n_host == 0) return 0;
    return is_one_of("/:?#", at(v, pos + n_host)) ? address_bytes(v, pos) : n_host;
}

/* /usr/bin ./file ../file ~/file: with a second slash, or a dot or tilde before the first. "and/or" begins with none.
 */
static size_t match_path(const view *v, size_t pos)
{
    if (!is_at_border(v, pos)) return 0;
    size_t p = pos + run_of_set(v, pos, ".~");
    const bool is_relative = p > pos;
    if (p - pos > 2 || at(v, p) != '/') return 0;
    size_t n_parts = 0;
    while (at(v, p) == '/' && p - pos < BRACKET_BYTES_MAX) {
        const size_t n = run_of(v, p + 1, "._+@%~-", BRACKET_BYTES_MAX);
        p += 1 + n;
        n_parts += n > 0;
        if (n == 0) break;
    }
    return n_parts >= 2 || (is_relative && n_parts == 1) ? trim_name(v, pos, p - pos, ".") : 0;
}

/* ---- the table ---- */

/* By the character that they begin with; letters and digits have match_word. */
static size_t (*const matchers[128])(const view *v, size_t pos) = {
    ['%'] = match_percent, ['{'] = match_brace,  ['$'] = match_dollar, ['\\'] = match_backslash,
    ['<'] = match_tag,     ['&'] = match_entity, ['#'] = match_hash,   ['@'] = match_at,
    [':'] = match_colon,   ['/'] = match_path,   ['.'] = match_path,   ['~'] = match_path,
};

size_t t5_placeholder_at(const char *text, size_t n_bytes, size_t pos)
{
    const view v = {text, n_bytes};
    const unsigned char c = at(&v, pos);
    if (c >= T5_COUNT(matchers)) return 0;
    if (is_letter(c) || is_digit(c)) return match_word(&v, pos);
    return matchers[c] != NULL ? matchers[c](&v, pos) : 0;
}

bool t5_placeholder_next(const char *text, size_t n_bytes, size_t from, t5_placeholder *out)
{
    for (size_t pos = from; pos < n_bytes; pos++) {
        const size_t n = t5_placeholder_at(text, n_bytes, pos);
        if (n == 0) continue;
        *out = (t5_placeholder){.offset = pos, .n_bytes = n};
        return true;
    }
    return false;
}

/* FNV-1a, its bits mixed as in MurmurHash3's end. */
static uint64_t hash_of(const char *bytes, size_t n_bytes)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
    return hash ^ (hash >> 33);
}

/* Number of placeholders, and a sum that is the same for the same ones in any order. */
typedef struct {
    size_t n;
    uint64_t sum;
} tally;

static tally tally_of(const char *text, size_t n_bytes)
{
    tally t = {0};
    t5_placeholder p = {0};
    while (t5_placeholder_next(text, n_bytes, p.offset + p.n_bytes, &p)) {
        t.n++;
        t.sum += hash_of(text + p.offset, p.n_bytes);
    }
    return t;
}

bool t5_placeholders_agree(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    const tally in_a = tally_of(a, a_bytes), in_b = tally_of(b, b_bytes);
    return in_a.n == in_b.n && in_a.sum == in_b.sum;
}
