/* text/sentence_rules.c: see sentence_rules.h. ICU's rules (Unicode annex 29) already keep "e.g. this" and "3.5"
 * together; here are the cases with a capital letter or a digit after the dot. Titles ("Mr.") always go on; initials,
 * "U.S." and ordinals go on unless a word follows that opens sentences ("She"); other abbreviations ("etc.", "Inc.")
 * end the sentence: a break too many costs less than two sentences in one, of which T5 drops the second. For the same
 * reason short sentences ("No.") are not joined to their neighbours, and ICU's own lists of abbreviations
 * ("@ss=standard") are not used: they hold "Jan.", "Max.", "Ab." and "Art.", after which many sentences end. Thai and
 * Lao have no marks at all: their texts are cut at spaces when they are too long. */
#include "text/sentence_rules.h"
#include "base/utf8.h"
#include "text/pictures.h"
#include "text/placeholders.h"
#include "text/sentence_words.h"
#include "text/word_list.h"

#include <string.h>
#include <strings.h>
#include <unicode/uchar.h>

#define GROUP_BYTES_MAX 200 /* sentences in longer brackets or quotation marks are split all the same */
#define ORDINAL_DIGITS_MAX 2
#define WORD_BYTES_MAX 24
#define LOOK_BACK_BYTES 64 /* no abbreviation is longer */

/* What may stand in a sentence or end it, like initials: a saint, a street, the Russian year and town. */
static const char soft_words[] = " st г гг ";
/* Hours, after which a name is rarer than a new sentence. */
static const char hours[] = " a.m p.m ";
/* Words before a dot and a digit that do not end a sentence. */
static const char before_number[] =
    " no nr nos nrn fig figs p pp pg vol ch sec art abs abb s kap tab eq jan feb mar apr "
    "jun jul aug sep sept oct okt nov dec dez § n nº núm pág tel ext approx ca min max ver rm apt рис стр ";
/* English words after which "no" is an answer, not a number. */
static const char before_answer[] = " say says said saying answer answers answered reply replies replied tell tells "
                                    "told is was means meant vote voted ";

/* Reads the character that ends at `end`; its length, or 0 at the start of the text. */
static size_t previous(const char *text, size_t end, uint32_t *out_code)
{
    size_t start = end;
    while (start > 0 && end - start < 4 && ((unsigned char)text[--start] & 0xC0) == 0x80) {
    }
    if (start == end) return 0;
    t5_utf8_next(text + start, end - start, out_code);
    return end - start;
}

static bool is_closing(uint32_t code)
{
    int8_t type = u_charType((UChar32)code);
    return type == U_END_PUNCTUATION || type == U_FINAL_PUNCTUATION || code == '"' || code == '\'';
}

static bool is_opening(uint32_t code)
{
    int8_t type = u_charType((UChar32)code);
    return type == U_START_PUNCTUATION || type == U_INITIAL_PUNCTUATION || code == '"' || code == '\'' ||
           code == 0xBF || code == 0xA1; /* inverted question and exclamation marks */
}

/* Place of the first character after the candidate that is no opening mark, unless one begins a placeholder; n_bytes at
 * the end of the line. */
static size_t next_place(const t5_break *b)
{
    size_t pos = b->end, length;
    for (; pos < b->n_bytes; pos += length) {
        uint32_t code;
        if (t5_placeholder_at(b->line, b->n_bytes, pos) > 0) break;
        length = t5_utf8_next(b->line + pos, b->n_bytes - pos, &code);
        if (!is_opening(code) && !t5_utf8_is_space(code)) break;
    }
    return pos;
}

/* The character there; 0 at the end of the line. A placeholder is taken for a number: it may begin a sentence, and it
 * may stand behind "p." */
static uint32_t next_character(const t5_break *b)
{
    uint32_t code = 0;
    size_t pos = next_place(b);
    if (pos < b->n_bytes) t5_utf8_next(b->line + pos, b->n_bytes - pos, &code);
    return t5_placeholder_at(b->line, b->n_bytes, pos) > 0 ? '0' : code;
}

/* End of the text before the candidate's white space and closing marks. */
static size_t end_of_mark(const t5_break *b)
{
    size_t end = b->end, length;
    uint32_t code = 0;
    while (end > b->start && (length = previous(b->line, end, &code)) > 0 &&
           (t5_utf8_is_space(code) || is_closing(code)))
        end -= length;
    return end;
}

typedef struct {
    char text[WORD_BYTES_MAX + 1]; /* lower case, without the last dot and spaces; "" when it is longer */
    size_t n_codes, n_letters, n_digits;
    bool has_dot; /* inside: "U.S", "z. B" */
} word;

static word read_word(const char *text, size_t n_bytes)
{
    word w = {0};
    size_t n_out = 0;

    for (size_t pos = 0; pos < n_bytes;) {
        char bytes[4];
        uint32_t code;
        pos += t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (t5_utf8_is_space(code)) continue;
        w.n_codes++;
        w.n_letters += u_isalpha((UChar32)code) != 0;
        w.n_digits += code >= '0' && code <= '9';
        w.has_dot = w.has_dot || code == '.';
        size_t length = t5_utf8_put((uint32_t)u_tolower((UChar32)code), bytes);
        if (n_out + length <= WORD_BYTES_MAX) memcpy(w.text + n_out, bytes, length);
        n_out += length;
    }
    if (n_out > WORD_BYTES_MAX) memset(w.text, 0, sizeof w.text);
    return w;
}

/* Start of the word that ends at `end`. */
static size_t word_start(const t5_break *b, size_t end)
{
    size_t start = end, length;
    uint32_t code = 0;
    while (start > b->start && end - start < LOOK_BACK_BYTES && (length = previous(b->line, start, &code)) > 0 &&
           !t5_utf8_is_space(code) && !is_opening(code))
        start -= length;
    return start;
}

/* The word before the dot that ends at `end` (exclusive of the dot). "z. B" is one word. */
static word read_last_word(const t5_break *b, size_t end)
{
    size_t start = word_start(b, end), dot = start, length;
    uint32_t code = 0;

    if (start > b->start && (length = previous(b->line, start, &code)) > 0 && t5_utf8_is_space(code)) dot -= length;
    bool is_letter = t5_utf8_count(b->line + start, end - start) == 1;
    if (is_letter && dot < start && dot > b->start && b->line[dot - 1] == '.') {
        size_t first = word_start(b, dot - 1);
        if (t5_utf8_count(b->line + first, dot - 1 - first) == 1) start = first;
    }
    return read_word(b->line + start, end - start);
}

/* True when a word follows that opens sentences: "She". An initial ("A.") does not. */
static bool is_opener_next(const t5_break *b, const char *language)
{
    size_t start = next_place(b), end = start, length;
    uint32_t code = 0;
    for (; end < b->n_bytes && end - start <= WORD_BYTES_MAX; end += length) {
        length = t5_utf8_next(b->line + end, b->n_bytes - end, &code);
        if (!u_isalpha((UChar32)code)) break;
    }
    bool is_before_dot = end < b->n_bytes && b->line[end] == '.';
    return !is_before_dot && t5_is_opener(language, read_word(b->line + start, end - start).text);
}

/* "U.S", "z.B", "Ph.D": parts of one or two letters. */
static bool is_dotted(const word *w)
{
    if (!w->has_dot || w->n_digits > 0) return false;
    size_t n_part = 0;
    for (const char *c = w->text; *c != '\0'; c++) {
        if (((unsigned char)*c & 0xC0) == 0x80) continue;
        n_part = *c == '.' ? 0 : n_part + 1;
        if (n_part > 2) return false;
    }
    return w->text[0] != '\0';
}

/* Initials, abbreviations of letters, short ordinals: they may end a sentence or stand in it. */
static bool is_soft(const word *w, const char *language)
{
    bool is_initial = w->n_codes == 1 && w->n_letters == 1 && strcmp(w->text, "i") != 0;
    bool is_ordinal = w->n_digits > 0 && w->n_digits == w->n_codes && w->n_digits <= ORDINAL_DIGITS_MAX;
    return is_initial || is_dotted(w) || t5_has_word(soft_words, w->text) || (is_ordinal && t5_has_ordinals(language));
}

/* True for the "no" of "She said no. 3 people left.", whose word ends at `end`. */
static bool is_answer(const t5_break *b, const char *language, const char *last, size_t end)
{
    if (strcmp(language, "en") != 0 || strcmp(last, "no") != 0) return false;
    size_t before = word_start(b, end), length;
    uint32_t code = 0;
    while (before > b->start && (length = previous(b->line, before, &code)) > 0 &&
           (t5_utf8_is_space(code) || is_opening(code) || code == ',' || code == ':'))
        before -= length;
    const size_t start = word_start(b, before);
    return t5_has_word(before_answer, read_word(b->line + start, before - start).text);
}

/* True when the dot before the candidate belongs to its word. */
static bool is_abbreviation(const t5_break *b, uint32_t next)
{
    size_t end = end_of_mark(b);
    const char *language = b->language != NULL ? b->language : "";

    if (end <= b->start || b->line[end - 1] != '.') return false;
    word last = read_last_word(b, end - 1);
    if (t5_is_title(language, last.text)) return true;
    if (t5_has_word(hours, last.text)) return false;
    if (is_soft(&last, language)) return !is_opener_next(b, language);
    const bool is_number_next = next >= '0' && next <= '9';
    if (is_number_next && last.n_digits == last.n_codes && last.n_digits <= ORDINAL_DIGITS_MAX) return true;
    return is_number_next && t5_has_word(before_number, last.text) && !is_answer(b, language, last.text, end - 1);
}

/* Brackets and low or double quotation marks. U+201C opens in English and closes in German; the pointed marks turn
 * either way and are left out. */
static bool opens_group(uint32_t code, int depth)
{
    return u_charType((UChar32)code) == U_START_PUNCTUATION || (code == 0x201C && depth == 0);
}

static bool closes_group(uint32_t code)
{
    return u_charType((UChar32)code) == U_END_PUNCTUATION || code == 0x201C || code == 0x201D;
}

/* True when the candidate stands in brackets or quotation marks that are opened in this sentence, closed in this line
 * and short. */
static bool is_inside_group(const t5_break *b)
{
    int depth = 0;
    uint32_t code;

    if (b->end - b->start > GROUP_BYTES_MAX) return false;
    for (size_t pos = b->start; pos < b->end;) {
        pos += t5_utf8_next(b->line + pos, b->n_bytes - pos, &code);
        if (opens_group(code, depth))
            depth++;
        else if (closes_group(code) && depth > 0)
            depth--;
    }
    for (size_t pos = b->end; depth > 0 && pos < b->n_bytes && pos - b->start <= GROUP_BYTES_MAX;) {
        pos += t5_utf8_next(b->line + pos, b->n_bytes - pos, &code);
        if (closes_group(code)) return true;
    }
    return false;
}

/* Japanese: a quotation with a particle after it, 「…。」と言った. */
static bool is_quoted_clause(const t5_break *b, uint32_t next)
{
    uint32_t last = 0;
    previous(b->line, b->end, &last);
    bool closes = last == 0x300D || last == 0x300F || last == 0xFF09;
    return closes && next >= 0x3041 && next <= 0x309F;
}

bool t5_break_is_real(const t5_break *b)
{
    uint32_t next = next_character(b);
    if (next == 0) return true;
    return !u_islower((UChar32)next) && !is_abbreviation(b, next) && !is_inside_group(b) && !is_quoted_clause(b, next);
}

bool t5_break_is_at_end(const char *line, size_t n_bytes)
{
    bool is_ended = false, is_after_space = false;
    uint32_t code;
    for (size_t pos = 0; pos < n_bytes;) {
        pos += t5_utf8_next(line + pos, n_bytes - pos, &code);
        const int32_t kind = u_getIntPropertyValue((UChar32)code, UCHAR_SENTENCE_BREAK);
        const bool is_separator = kind == U_SB_SEP || kind == U_SB_CR || kind == U_SB_LF;
        const bool is_mark = kind == U_SB_ATERM || kind == U_SB_STERM;
        const bool may_follow = is_mark || kind == U_SB_CLOSE || kind == U_SB_SP;
        if (is_separator || (is_ended && !may_follow) || (is_after_space && kind != U_SB_SP)) return false;
        is_ended |= is_mark || code == ';' || code == 0x37E; /* in Greek these are marks too */
        is_after_space = is_ended && kind == U_SB_SP;
    }
    return true;
}

/* Marks that end sentences and that ICU 72 does not count: the ellipsis, Tibetan, Ethiopic and Khmer ones. */
static bool is_hidden_mark(uint32_t code)
{
    return code == 0x2026 || code == 0x0F0D || code == 0x0F0E || code == 0x1367 || code == 0x17D4 || code == 0x17D5;
}

/* Where the text goes on behind closing marks and white space; 0 when it does so without white space, or not before
 * `end`. */
static size_t behind_space(const t5_break *b, size_t pos)
{
    bool is_after_space = false;
    uint32_t code;
    for (size_t length; pos < b->end; pos += length) {
        length = t5_utf8_next(b->line + pos, b->n_bytes - pos, &code);
        if (!t5_utf8_is_space(code) && (is_after_space || !is_closing(code))) break;
        is_after_space = t5_utf8_is_space(code);
    }
    return is_after_space && pos < b->end ? pos : 0;
}

size_t t5_break_hidden(const t5_break *b, size_t from)
{
    uint32_t code;
    for (size_t pos = from; pos < b->end;) {
        pos += t5_utf8_next(b->line + pos, b->n_bytes - pos, &code);
        if (code != '.' && !is_hidden_mark(code)) continue;
        const size_t next = behind_space(b, pos);
        if (next == 0) continue;
        const bool is_digit = b->line[next] >= '0' && b->line[next] <= '9';
        if (code != '.' || is_digit || t5_placeholder_at(b->line, b->n_bytes, next) > 0) return next;
    }
    return b->end;
}

bool t5_has_letter(const char *text, size_t n_bytes)
{
    uint32_t code;
    for (size_t pos = 0, n_skip; pos < n_bytes; pos += n_skip) {
        n_skip = t5_placeholder_at(text, n_bytes, pos);
        if (n_skip > 0) continue;
        n_skip = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (u_isalpha((UChar32)code)) return true;
    }
    return false;
}

static bool is_bullet(uint32_t code)
{
    return code == '-' || code == '*' || code == '>' || code == '#' || code == '+' || code == 0x2022 ||
           code == 0x2023 || code == 0x2013 || code == 0x2014;
}

size_t t5_leading_marks(const char *text, size_t n_bytes, bool is_line_start)
{
    size_t pos = 0, n_marks = 0; /* n_marks: what is certain; bullets and signs count once white space follows them */
    bool is_after_bullet = false;

    while (pos < n_bytes) {
        uint32_t code;
        size_t length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        bool is_space = t5_utf8_is_space(code), is_picture = t5_is_picture_part(code);
        bool is_mark = t5_is_sign(code) || (is_line_start && is_bullet(code));
        if (!is_space && !is_picture && !is_mark) break;
        pos += length;
        is_after_bullet = is_mark || (is_after_bullet && !is_space);
        if (!is_after_bullet) n_marks = pos;
    }
    return pos == n_bytes ? n_bytes : n_marks;
}

size_t t5_trailing_marks(const char *text, size_t n_bytes)
{
    size_t pos = n_bytes, end = n_bytes, length; /* end: before it nothing is certain; signs count behind white space */
    bool is_before_sign = false;
    uint32_t code = 0;
    while ((length = previous(text, pos, &code)) > 0) {
        const bool is_space = t5_utf8_is_space(code), is_sign = t5_is_sign(code);
        if (!is_space && !is_sign && !t5_is_picture_part(code)) break;
        pos -= length;
        is_before_sign = is_sign || (is_before_sign && !is_space);
        if (!is_before_sign) end = pos;
    }
    return pos == 0 ? n_bytes : n_bytes - end;
}

/* Marks that may stand between a placeholder and the words of its sentence: "{name}, hello", "(%s)". */
static bool is_joint(uint32_t code)
{
    return u_ispunct((UChar32)code) || u_charType((UChar32)code) == U_MATH_SYMBOL;
}

/* An opening bracket or quotation mark, at the start of the text, whose other half is not in it. Then none behind it
 * has one either: `lone` remembers that, so that no text is searched twice in vain. */
static bool is_lone(uint32_t code, const char *text, size_t n_bytes, bool lone[128])
{
    if (code >= 0x80) return false;
    if (!lone[code]) lone[code] = memchr(text + 1, u_getBidiPairedBracket((UChar32)code), n_bytes - 1) == NULL;
    return lone[code];
}

size_t t5_leading_joints(const char *text, size_t n_bytes)
{
    bool is_after_space = false, lone[128] = {0};
    size_t pos = 0, length;
    for (; pos < n_bytes; pos += length) {
        uint32_t code, next = 0;
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (pos + length < n_bytes) t5_utf8_next(text + pos + length, n_bytes - pos - length, &next);
        if (t5_utf8_is_space(code)) {
            is_after_space = true;
            continue;
        }
        const bool is_quote = code == '"' || code == '\'';
        const bool opens =
            is_opening(code) && (is_after_space || !is_quote) && !is_lone(code, text + pos, n_bytes - pos, lone);
        const bool is_letter_next = u_isalpha((UChar32)next); /* "'s", "-like" belong to the word */
        if (!is_joint(code) || opens || (is_letter_next && (code == '\'' || code == 0x2019 || code == '-'))) break;
    }
    return pos;
}

size_t t5_trailing_joints(const char *text, size_t n_bytes)
{
    size_t end = n_bytes, length;
    uint32_t code = 0;
    while ((length = previous(text, end, &code)) > 0) {
        const bool ends_sentence = code == '.' || code == '!' || code == '?' || code == 0x2026 || code == 0x3002;
        const bool closes = is_closing(code) && !is_opening(code);
        if (!t5_utf8_is_space(code) && (!is_joint(code) || ends_sentence || closes)) break;
        end -= length;
    }
    return n_bytes - end;
}
