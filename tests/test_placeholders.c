/* tests/test_placeholders.c: what is left alone in a text, and what is not. */
#include "base/utf8.h"
#include "text/placeholders.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHOWN_BYTES 1024
#define RANDOM_TEXTS 3000

/* Writes the placeholders as "[%s]" and everything else as it is. */
static void check(const char *want)
{
    char text[SHOWN_BYTES], shown[SHOWN_BYTES];
    size_t n_bytes = 0, n = 0;
    for (const char *c = want; *c != '\0'; c++)
        if (*c != '[' && *c != ']') text[n_bytes++] = *c;
    text[n_bytes] = '\0';
    t5_placeholder p = {0};
    for (size_t pos = 0; pos < n_bytes; pos = p.offset + p.n_bytes) {
        const bool is_found = t5_placeholder_next(text, n_bytes, pos, &p);
        if (!is_found) p = (t5_placeholder){n_bytes, 0};
        memcpy(shown + n, text + pos, p.offset - pos);
        n += p.offset - pos;
        if (!is_found) break;
        shown[n++] = '[';
        memcpy(shown + n, text + p.offset, p.n_bytes);
        n += p.n_bytes;
        shown[n++] = ']';
    }
    shown[n] = '\0';
    assert_string_equal(shown, want);
}

/* Claim: what programs fill in is found whole. Method: texts with their brackets, a line for each row of the table. */
static void what_programs_fill_in(void **state)
{
    (void)state;
    check("[%s] and [%d] of [%1$s], [%5.2f] [%-5d] [%02x] [%lld] [%@] 100[%%]");
    check("[%(name)s] [%(n)d] [%{count}] [%<name>s] [%user%]'s [%s][%s] [%d]px [%s]ly");
    check(
        "[{}] [{0}] [{name}], [{ $name }] [{user.name}] [{x:.2f}] [{x!r}] [{n, plural, one {# file} other {# files}}]");
    check("[{{x}}] [{{ user.name | upper }}] [{{{raw}}}] [{% if x %}]yes[{% endif %}] [{# note #}]");
    check("[${x}] [${a.b()}] [$(name)] [$name], [#{x}]");
    check("[%s]Learn more[%s], [%d]Items, %sour site[%s]");
    check("line[\\n]Next[\\t]");
}

/* Claim: what programs read is found. Method: as above. */
static void what_programs_read(void **state)
{
    (void)state;
    check("a [<b>]bold[</b>] word[<br/>] [<x id=1/>] [<x id=\"1\">] [<0>]link[</0>] [<!-- a note -->] [<g x='a b'>]");
    check("you [&amp;] me[&nbsp;]![&#39;] [&#xA0;]");
}

/* Claim: names of things are found without the marks behind them. Method: as above. */
static void names_of_things(void **state)
{
    (void)state;
    check("See [https://example.org/a?b=c#d]. Or ([http://x.org/a_(b)]), \"[ftp://h/x]\", [www.example.org]!");
    check("At [example.com/path], [example.org]: [someone@example.org].");
    check("Hi [@user], [@user@example.social]: ([@a_b.c])! [#tag], [#Straße] [#日本語], [:smile:] [:+1a:]");
    check("Open [/usr/local/bin], [./a.txt] or [~/x] in [C:\\Users\\me\\a.txt].");
    check("请访问[https://example.org/a]。谢谢[@user]");
    check("Open\u00A0[~/x] or\u3000[./a.txt],\u200B[~/x]\u200B\u2060[/usr/bin] \uFEFF[../a] \u200E[/a/b]");
}

/* Claim: a placeholder that is longer than it may be ends between two characters. Method: names of each kind, of 1 200
 * characters of one to four bytes, so that each limit falls within one. */
static void long_names_are_whole_characters(void **state)
{
    static const char *const starts[] = {"C:\\",       "#",  "@",   "/a/", "~/",  "https://a.org/",
                                         "www.a.org/", "${", "{a:", "<a ", "<!--"};
    static const char *const letters[] = {"a", "\xD0\xB4", "\xE4\xB8\xAD", "\xF0\x9D\x95\x8F"};
    enum { N_LETTERS = 1200 };
    char text[32 + 4 * N_LETTERS];
    (void)state;
    for (size_t i = 0; i < T5_COUNT(starts) * T5_COUNT(letters) * 4; i++) {
        const char *letter = letters[i / 4 % T5_COUNT(letters)];
        size_t n = (size_t)snprintf(text, 32, "%s%.*s", starts[i / 4 / T5_COUNT(letters)], (int)(i % 4), "xyz");
        for (int k = 0; k < N_LETTERS; k++, n += strlen(letter))
            memcpy(text + n, letter, strlen(letter));
        t5_placeholder p = {0};
        while (t5_placeholder_next(text, n, p.offset + p.n_bytes, &p))
            assert_true(t5_utf8_is_valid(text + p.offset, p.n_bytes));
    }
}

/* Claim: plain text has none. Method: the texts that look most like it. */
static void plain_text_has_none(void **state)
{
    (void)state;
    check("50%off, 100% sure, 5 % of it, %discount, 3% d");
    check("It costs $5, US$5, $ 5 or 5$. He/she and/or km/h 24/7, at 10:30, 1:2:3. We're #1 & #2; R&D; C#");
    check("a < b and c > d, <3 you, x<y z>, {see below for more}, { , {");
    check("e.g. this, i.e. that, U.S. and z.B. Node.js, the end.It was. a@b @ 5 and/ or \\nu \\ x");
    check("Note: this: that. re:work a::b :) :-) ...");
    check("é/a/b 日/a/b”/a/b");
}

/* Claim: two texts agree when each placeholder is there equally often. Method: one that does, and each way not to. */
static void texts_agree(void **state)
{
    static const struct {
        const char *a, *b;
        bool agrees;
    } cases[] = {
        {"Hello %s, %s and {x}", "{x} und %s: Hallo %s!", true},
        {"Hello", "Hallo", true},
        {"Hello %s", "Hallo", false},
        {"Hello", "Hallo %s", false},
        {"Hello %s", "Hallo % s", false},
        {"Hello %s %s", "Hallo %s", false},
        {"Hello %s %d", "Hallo %s %s", false},
        {"Hello {name}", "Hallo {Name}", false},
        {"See https://a.org/x", "Siehe https://a.org/y", false},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++)
        assert_int_equal(t5_placeholders_agree(cases[i].a, strlen(cases[i].a), cases[i].b, strlen(cases[i].b)),
                         cases[i].agrees);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* Claim: for any text they lie in order, inside the text, on borders of characters, and none has a line end.
 * Method: random texts of the characters that matter; the buffer has their very size, so that a sanitizer sees more. */
static void any_text_is_safe(void **state)
{
    static const char *const parts[] = {"%",    "s",  "1$", "{",  "}",       "{{",   "}}", "$",  "(",     ")",
                                        "<",    ">",  "/",  "@",  "a.",      "org",  ":",  "//", "#",     "&",
                                        ";",    "=",  "\n", "\\", " ",       "é",    "日", "-",  "_",     "~/",
                                        "www.", "C:", "\"", "!",  "plural,", "🙂", "\r", "'",  "\u200B"};
    uint32_t seed = 20260102;
    (void)state;
    for (int i = 0; i < RANDOM_TEXTS; i++) {
        char made[SHOWN_BYTES];
        size_t n_bytes = 0;
        for (uint32_t k = next_random(&seed) % 40; k > 0; k--) {
            const char *part = parts[next_random(&seed) % T5_COUNT(parts)];
            memcpy(made + n_bytes, part, strlen(part));
            n_bytes += strlen(part);
        }
        char *text = malloc(n_bytes + 1);
        assert_non_null(text);
        memcpy(text, made, n_bytes);
        t5_placeholder p = {0};
        size_t end = 0;
        while (t5_placeholder_next(text, n_bytes, end, &p)) {
            assert_true(p.offset >= end && p.n_bytes > 0 && p.offset + p.n_bytes <= n_bytes);
            end = p.offset + p.n_bytes;
            assert_true(t5_utf8_is_valid(text + p.offset, p.n_bytes));
            assert_null(memchr(text + p.offset, '\n', p.n_bytes));
        }
        assert_true(t5_placeholders_agree(text, n_bytes, text, n_bytes));
        free(text);
    }
}

/* Claim: a walk takes linear time, also through what is almost a placeholder everywhere. Method: much of each; a
 * quadratic walk would take minutes. */
static void walks_are_linear(void **state)
{
    enum { TEXT_BYTES = 1 << 18 };
    static const char *const patterns[] = {"{", "<a ", "a.", "a@", "%(", "${", "#", "a://", "/a", "@a@", ":a", "&a"};
    char *text = malloc(TEXT_BYTES);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < T5_COUNT(patterns); i++) {
        const size_t period = strlen(patterns[i]);
        for (size_t k = 0; k < TEXT_BYTES; k++)
            text[k] = patterns[i][k % period];
        t5_placeholder p = {0};
        size_t end = 0;
        while (t5_placeholder_next(text, TEXT_BYTES, end, &p))
            end = p.offset + p.n_bytes;
        assert_true(end <= TEXT_BYTES);
    }
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_programs_fill_in), cmocka_unit_test(what_programs_read),
        cmocka_unit_test(names_of_things),       cmocka_unit_test(plain_text_has_none),
        cmocka_unit_test(texts_agree),           cmocka_unit_test(any_text_is_safe),
        cmocka_unit_test(walks_are_linear),      cmocka_unit_test(long_names_are_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
