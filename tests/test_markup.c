/* tests/test_markup.c: texts with HTML and XML: what is parsed as what, and where tags go in a translation. */
#include "base/utf8.h"
#include "tests/markup_rig.h"
#include "text/entities.h"
#include "text/markup_write.h"
#include "text/placeholders.h"
#include "text/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define RANDOM_TEXTS 4000

static const t5_markup_options html = {.kind = T5_MARKUP_HTML};
static const t5_markup_options xml = {.kind = T5_MARKUP_XML};

static char *translate_as(const t5_markup_options *options, const char *source, t5_rig_mode mode, bool is_poor)
{
    t5_buffer out = {0};
    t5_error err = {0};
    if (t5_rig_translate(source, strlen(source), options, mode, is_poor, &out, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(t5_buffer_append(&out, "", 1, &err), T5_OK);
    return out.bytes;
}

static char *translate(const t5_markup_options *options, const char *source, t5_rig_mode mode)
{
    return translate_as(options, source, mode, false);
}

static void check(const t5_markup_options *options, t5_rig_mode mode, const char *source, const char *want)
{
    char *got = translate(options, source, mode);
    if (strcmp(got, want) != 0) fail_msg("%s\n  is %s\n  want %s", source, got, want);
    free(got);
}

static void check_plain(const t5_markup_options *options, const char *source, const char *want)
{
    t5_markup m;
    t5_error err = {0};
    if (t5_markup_parse(source, strlen(source), options, &m, &err) != T5_OK) fail_msg("%s", err.text);
    const bool is_same = m.plain_bytes == strlen(want) && memcmp(m.plain, want, m.plain_bytes) == 0;
    if (!is_same) fail_msg("%s\n  is %.*s\n  want %s", source, (int)m.plain_bytes, m.plain, want);
    t5_markup_deinit(&m);
}

/* Claim: the plain text is what a reader sees, one line a block. Method: one source per rule. */
static void plain_text_is_what_is_read(void **state)
{
    (void)state;
    check_plain(&html, "", "");
    check_plain(&html, "<p>Hello <b>big</b> world</p>", "Hello big world\n");
    check_plain(&html, "<p>one</p>\n<p>two</p>", "one\ntwo\n");
    check_plain(&html, "a<br>b<br/>c", "a\nb\nc");
    check_plain(&html, "  a \n\t b <i> c</i> d  ", "a b c d");
    check_plain(&html, "a &lt;b&gt; &amp; &#233;&#xE9; &hearts;", "a <b> & éé ♥");
    check_plain(&html, "AT&T &copy=1 &nosuch; x", "AT&T &copy=1 x");
    check_plain(&html, "1 < 2 and <3 </> > 0", "1 < 2 and <3 </> > 0");
    check_plain(&html, "run <code>make all</code> now", "run now");
    check_plain(&html, "run <code>make</code>.", "run.");
    check_plain(&html, "a<script>if (a<b) x('</p>')</script>b", "ab");
    check_plain(&html, "a<!-- <b> -->b<!---->c<!-->d", "abcd");
    check_plain(&html, "one<img src='>'>two", "one two");
    check_plain(&html, "long<wbr>word", "longword");
    check_plain(&html, "x <span translate=\"no\">ACME</span> y <i class='a notranslate'>B</i> z", "x y z");
    check_plain(&html, "x <span class='notranslated'>ACME</span>", "x ACME");
    check_plain(&html, "<ul><li>a<li>b</ul>", "a\nb\n");
    check_plain(&html, "a <textarea><b>c</textarea> d <b", "a d");
    check_plain(&html, "a<pre>x\n  y</pre>b", "a\nb");
    check_plain(&xml, "a  b\n <br> &nbsp; &apos;", "a  b\n  '");
    check_plain(&xml, "<code>a</code> <P translate='no'>b</P>c<![CDATA[<d>]]>", "a c");
}

/* Claim: tags keep their places when the words do, and nothing but letters changes. */
static void tags_stay_with_words_in_order(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"<p>Hello <b>big</b> world.</p>", "<p>HELLO <b>BIG</b> WORLD.</p>"},
        {"<b>Hello</b> world", "<b>HELLO</b> WORLD"},
        {"Hello <b>world</b>", "HELLO <b>WORLD</b>"},
        {"<b>Hello world</b>", "<b>HELLO WORLD</b>"},
        {"<a href=\"x?a=1&b=2\">Hello <i>big <u>red</u></i></a> world",
         "<a href=\"x?a=1&b=2\">HELLO <i>BIG <u>RED</u></i></a> WORLD"},
        {"Hello <b>one. Two</b> three.", "HELLO <b>ONE. TWO</b> THREE."},
        {"Hello <b>one</b>. <b>Two</b> three.", "HELLO <b>ONE</b>. <b>TWO</b> THREE."},
        {"<b>One. Two.</b> Three.", "<b>ONE. TWO.</b> THREE."},
        {"<div>\n  <p>one</p>\n  <p>two</p>\n</div>\n", "<div>\n  <p>ONE</p>\n  <p>TWO</p>\n</div>\n"},
        {"a &amp; b &lt; c &nbsp;", "A &amp; B &lt; C &nbsp;"},
        {"<!DOCTYPE html><html><!-- c --><body>Hi</body></html>",
         "<!DOCTYPE html><html><!-- c --><body>HI</body></html>"},
        {"Run <code>make all</code> now", "RUN <code>make all</code> NOW"},
        {"Press <kbd>x</kbd>, then <kbd>y</kbd>.", "PRESS <kbd>x</kbd>, THEN <kbd>y</kbd>."},
        {"See (<code>x</code>) there", "SEE (<code>x</code>) THERE"},
        {"one<img src=a>two", "ONE<img src=a>TWO"},
        {"one <img src=a> two", "ONE <img src=a> TWO"},
        {"one <img src=a>two", "ONE <img src=a>TWO"},
        {"one<img src=a> two", "ONE<img src=a> TWO"},
        {"one <a href=b><img src=a></a> two", "ONE <a href=b><img src=a></a> TWO"},
        {"one <i class=icon></i> two", "ONE <i class=icon></i> TWO"},
        {"one <!-- c --> two", "ONE<!-- c --> TWO"},
        {"one two</b> three", "ONE TWO</b> THREE"},
        {"one <b>two three", "ONE <b>TWO THREE"},
        {"<b><i>one</b> two</i> three", "<b><i>ONE</b> TWO</i> THREE"},
        {"one <b", "ONE <b"},
        {"<p>one <b>two<p>three</b> four", "<p>ONE <b>TWO<p>THREE</b> FOUR"},
        {"1 < 2 or so", "1 &lt; 2 OR SO"},
        {"<td>3.5</td><td>&mdash;</td>", "<td>3.5</td><td>&mdash;</td>"},
        {"x &nosuch; y", "X &nosuch; Y"},
        {"你好<b>世界</b>再见", "你好<b>世界</b>再见"},
    };
    for (size_t i = 0; i < T5_COUNT(texts); i++)
        check(&html, RIG_SAME, texts[i][0], texts[i][1]);
    check(&xml, RIG_SAME, "Hi <x id=\"7\"></x>!", "HI <x id=\"7\"></x>!");
    check(&xml, RIG_SAME, "<x id=\"1\"></x> of <x id=\"2\"></x> files", "<x id=\"1\"></x> OF <x id=\"2\"></x> FILES");
    check(&xml, RIG_SAME, "one  two\n<b> three</b>", "ONE TWO\n<b> THREE</b>");
}

/* Claim: tags follow their words when these move, and stay nested. */
static void tags_follow_words(void **state)
{
    (void)state;
    check(&html, RIG_REVERSED, "the <b>red</b> car.", "CAR <b>RED</b> THE.");
    check(&html, RIG_REVERSED, "<b>red</b> car.", "CAR <b>RED</b>.");
    check(&html, RIG_REVERSED, "a <b>red</b> <i>fast</i> car", "CAR <i>FAST</i> <b>RED</b> A");
    check(&html, RIG_REVERSED, "a <b>very <i>red</i></b> car", "CAR <b><i>RED</i> VERY</b> A");
    check(&html, RIG_REVERSED, "run <code>x</code> now please", "PLEASE NOW RUN <code>x</code>");
    check(&html, RIG_REVERSED, "see <code>x</code>, now please", "PLEASE NOW, SEE <code>x</code>");
    check(&html, RIG_REVERSED, "see <img src=a>now please", "PLEASE <img src=a>NOW SEE");
    check(&html, RIG_REVERSED, "one <b>two. Three</b> four.", "<b>TWO ONE. FOUR THREE</b>.");
    check(&html, RIG_REVERSED, "un<b>believ</b>able story", "STORY <b>UNBELIEVABLE</b>");
}

/* No tag of the translation stands within a placeholder of its plain text. */
static void check_placeholders_are_whole(const char *source, t5_rig_mode mode)
{
    char *got = translate(&xml, source, mode);
    t5_markup m;
    t5_error err = {0};
    assert_int_equal(t5_markup_parse(got, strlen(got), &xml, &m, &err), T5_OK);
    t5_placeholder p = {0};
    while (t5_placeholder_next(m.plain, m.plain_bytes, p.offset + p.n_bytes, &p))
        for (int32_t i = 0; i < m.n_marks; i++)
            if (m.marks[i].at > p.offset && m.marks[i].at < p.offset + p.n_bytes) fail_msg("%s\n  is %s", source, got);
    t5_markup_deinit(&m);
    free(got);
}

/* Claim: a placeholder is one word, so no tag gets into it. Method: tags that touch one, words that move and links at
 * random; the stand-in's upper case leaves them placeholders. */
static void tags_stay_out_of_placeholders(void **state)
{
    (void)state;
    check(&html, RIG_SAME, "#tag<b>Tom</b> is here", "<b>#TAGTOM</b> IS HERE");
    check(&html, RIG_SAME, "see #tag<b>Tom here", "SEE <b>#TAGTOM HERE");
    check(&html, RIG_SAME, "see #tag</b>Tom here", "SEE</b> #TAGTOM HERE");
    check(&html, RIG_SAME, "see {{<i>name</i>}}, {na<!-- c -->me}", "SEE <i>{{NAME}}</i>,<!-- c --> {NAME}");
    check(&html, RIG_REVERSED, "hi <b>{name}</b>, see <i>me@a.org</i> now.",
          "NOW <i>ME@A.ORG</i> SEE, <b>{NAME}</b> HI.");
    check(&xml, RIG_REVERSED, "{name: a b}<x/> likes {n}", "{N} LIKES {NAME: A B}<x/>");
    static const char *const texts[] = {"{a: b!}<b>c</b> {d}<i>e</i>", "see <b>https://a.org/b?c</b> #<i>d</i>",
                                        "a {{<b> b </b>}} c<i>@d.</i> e", "%<b>s</b> of %<i>1$d</i><u> x</u>",
                                        "/a<b>/b</b> or <i>C:</i>\\x, :sm<u>ile</u>:"};
    for (size_t i = 0; i < T5_COUNT(texts); i++)
        for (int mode = 0; mode < RIG_N_MODES; mode++)
            check_placeholders_are_whole(texts[i], (t5_rig_mode)mode);
}

/* Claim: without an alignment tags go where their words should be, and what aligns to nothing is there all the same. */
static void tags_have_a_place_without_links(void **state)
{
    (void)state;
    check(&html, RIG_UNLINKED, "one two <b>three</b> four.", "ONE TWO <b>THREE</b> FOUR.");
    check(&html, RIG_OTHER, "ab cd <b>ef</b> gh.", "zz zz <b>zz</b> zz.");
    check(&html, RIG_OTHER, "ab <b>cd</b> <i>ef</i> gh 7 <u>ij</u>.", "zz <b>zz</b> <i>zz</i> zz 7 <u>zz</u>.");
}

/* Claim: what both sides have alike is nobody else's, so that a link around a name ends where the name does.
 * Method: translations with more and with fewer words beside it, none of them linked. */
static void kept_words_have_one_partner(void **state)
{
    static const char source_text[] = "see Anna now please";
    static const struct {
        const char *text;
        int32_t want[8];
    } cases[] = {
        {"siehe Anna jetzt und hier bitte sofort", {0, 1, 2, 2, 2, 3, 3}},
        {"also sieh Anna", {0, 0, 1}},
        {"Anna sofort", {1, 2}},
        {"bitte jetzt sieh Anna", {0, 0, 0, 1}},
        {"Anna please sofort see", {1, 3, -1, 0}},
    };
    (void)state;
    t5_error err = {0};
    t5_words source, target;
    assert_int_equal(t5_words_find(source_text, sizeof source_text - 1, &source, &err), T5_OK);
    for (size_t c = 0; c < T5_COUNT(cases); c++) {
        int32_t aligned[8];
        assert_int_equal(t5_words_find(cases[c].text, strlen(cases[c].text), &target, &err), T5_OK);
        assert_int_equal(t5_words_align(&source, &target, NULL, 0, aligned, &err), T5_OK);
        for (int32_t j = 0; j < target.n_items; j++)
            assert_int_equal(aligned[j], cases[c].want[j]);
        t5_words_deinit(&target);
    }
    t5_words_deinit(&source);
}

static void check_poor(t5_rig_mode mode, const char *source, const char *want)
{
    char *got = translate_as(&html, source, mode, true);
    if (strcmp(got, want) != 0) fail_msg("%s\n  is %s\n  want %s", source, got, want);
    free(got);
}

/* Claim: signs that the model cannot say are neither lost nor shown to it, and are never read as tags. Method: reversed
 * sentences of a stand-in that drops nothing, so what it was shown has moved, and in upper case. */
static void strange_signs_are_kept(void **state)
{
    (void)state;
    check_poor(RIG_REVERSED, "salt &amp; pepper", "PEPPER SALT &amp;");
    check_poor(RIG_REVERSED, "one & two", "TWO ONE &amp;");
    check_poor(RIG_REVERSED, "one < two", "TWO ONE &lt;");
    check_poor(RIG_REVERSED, "one &lt;\u00FDes two", "TWO &lt;\u00FDES ONE");
    check_poor(RIG_REVERSED, "see AT&amp;T today", "TODAY SEE AT&amp;T");
    check_poor(RIG_REVERSED, "see R&D <b>x</b> today", "TODAY <b>X</b> SEE R&amp;D");
    check_poor(RIG_SAME, "call (x&y), now", "CALL (x&amp;y), NOW");
    check_poor(RIG_SAME, "hello {{ name }} there", "HELLO {{ NAME }} THERE");
    check_poor(RIG_REVERSED, "good \U0001F600\U0001F44D\U0001F3FD day", "DAY GOOD \U0001F600\U0001F44D\U0001F3FD");
    check_poor(RIG_REVERSED, "see \u2764\uFE0F now, e\u0301.", "E\u0301, NOW SEE \u2764\uFE0F.");
    check_poor(RIG_REVERSED, "don\u2019t go", "GO DON\u2019T");
    check_poor(RIG_SAME, "\u201Cgo home\u201D he said", "\u201CGO HOME\u201D HE SAID");
    check_poor(RIG_REVERSED, "<b>a &amp; b</b> c", "C <b>B A &amp;</b>");
    check_poor(RIG_REVERSED, "&amp; a", "&amp; A");
    check_poor(RIG_SAME, "\u4F60\u597D&\u4E16\u754C", "\u4F60\u597D&amp;\u4E16\u754C");
}

/* Claim: what is text in the source is no markup in front of a translation. Method: signs that begin a tag or an entity
 * before ASCII alone, and a stand-in that moves an ASCII word there. */
static void text_does_not_become_markup(void **state)
{
    (void)state;
    check_poor(RIG_REVERSED, "<\u00E9 b", "&lt;B \u00E9");
    check_poor(RIG_REVERSED, "</\u00E9 b> c", "&lt;C B&gt; \u00E9/");
    check_poor(RIG_REVERSED, "&\u00E9 lt", "&amp;LT \u00E9");
    check_poor(RIG_REVERSED, "<<i>\u00E9</i> b", "&lt;B <i>\u00E9</i>");
    check_poor(RIG_REVERSED, "<p>&lt;\u00E9 b</p>&<p>\u00E9", "<p>&lt;B \u00E9</p>&<p>\u00E9");
}

/* Claim: a placeholder that a tag holds apart from a word is one, although the text without tags has none there, and
 * the word is translated. What reads as one thing, or as none, is what it was. Method: as above. */
static void tags_end_placeholders(void **state)
{
    (void)state;
    check_poor(RIG_SAME, "%s<b>text</b>", "%s<b>TEXT</b>");
    check_poor(RIG_SAME, "<b>%s</b>text", "<b>%s</b>TEXT");
    check_poor(RIG_SAME, "see %s<a href=x>here</a>%s to go", "SEE %s<a href=x>HERE</a>%S TO GO");
    check_poor(RIG_REVERSED, "you have %s<b>new</b> mail", "MAIL %s<b>NEW</b> HAVE YOU");
    check_poor(RIG_SAME, ":smile:<!-- c -->hello %name%<i>house</i>", ":smile:<!-- c -->HELLO %name%<i>HOUSE</i>");
    check_poor(RIG_SAME, "<i>line\\n</i>next", "<i>LINE\\n</i>NEXT");
    check_poor(RIG_SAME, "#tag<b>Tom</b> see a.org<i>anic</i>", "<b>#TAGTOM</b> SEE a.org<i>ANIC</i>");
    check_poor(RIG_SAME, "50%<b>off</b> and 50%d<b>isco</b>, %<b>s</b>",
               "50%<b>OFF</b> AND 50%<b>DISCO</b>, <b>%S</b>");
}

/* Claim: the caller's lists are obeyed, and XML's outline is found. */
static void options_are_obeyed(void **state)
{
    (void)state;
    static const char *const keep[] = {"keep", "x"}, *const split[] = {"par"}, *const inline_[] = {"em"};
    const t5_markup_options ignoring = {.kind = T5_MARKUP_XML, .ignored = {keep, 2}};
    check(&ignoring, RIG_SAME, "say <keep>hello <b>you</b></keep> now", "SAY <keep>hello <b>you</b></keep> NOW");
    check(&ignoring, RIG_SAME, "say <Keep>hello</Keep> now", "SAY <Keep>HELLO</Keep> NOW");
    const t5_markup_options splitting = {.kind = T5_MARKUP_XML, .splitting = {split, 1}};
    check_plain(&splitting, "<par>a</par><par>b</par><em>c</em>", "a\nb\nc");
    const t5_markup_options outline = {.kind = T5_MARKUP_XML, .finds_outline = true, .not_splitting = {inline_, 1}};
    check_plain(&outline, "<d><t>a</t><p>b <i>c</i> d</p></d>", "a\nb c d\n");
    check_plain(&outline, "<d><em>a</em><em>b</em></d>", "ab\n");
    check_plain(&outline, "<d>x <e><f>a</f><g>b</g></e> y</d>", "x ab y\n");
}

/* Claim: entities are what HTML and XML say; all others stay as they are. */
static void entities_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n_bytes;
        uint32_t html_code, xml_code;
    } cases[] = {
        {"&amp;", 5, '&', '&'},
        {"&apos;x", 6, '\'', '\''},
        {"&eacute;", 8, 0xE9, 0},
        {"&thetasym;", 10, 0x3D1, 0},
        {"&zwnj;", 6, 0x200C, 0},
        {"&AElig;", 7, 0xC6, 0},
        {"&#65;", 5, 'A', 'A'},
        {"&#x1F600;", 9, 0x1F600, 0x1F600},
        {"&#xD800;", 8, 0, 0},
        {"&#0;", 4, 0, 0},
        {"&#x110000;", 10, 0, 0},
        {"&am;", 4, 0, 0},
        {"&ampx;", 6, 0, 0},
        {"&amp", 0, 0, 0},
        {"&;", 0, 0, 0},
        {"&#;", 0, 0, 0},
        {"&#x;", 0, 0, 0},
        {"& amp;", 0, 0, 0},
        {"&#99999999999;", 0, 0, 0},
        {"&averyveryverylongname;", 23, 0, 0},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        uint32_t code = 1;
        const size_t n = strlen(cases[i].text);
        assert_int_equal(t5_entity_read(cases[i].text, n, T5_MARKUP_HTML, &code), cases[i].n_bytes);
        assert_int_equal(code, cases[i].html_code);
        assert_int_equal(t5_entity_read(cases[i].text, n, T5_MARKUP_XML, &code), cases[i].n_bytes);
        assert_int_equal(code, cases[i].xml_code);
    }
}

/* ---- random texts ---- */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static const char *const good_parts[] = {
    "Hello",  " big world", ". And",    " then ", "!",           " ",          "\n",
    "&amp;",  "&lt;",       "&hearts;", "<br>",   "<img src=a>", "<!-- c -->", "<code>x y</code>",
    "你好。", "3.5",        ", (",      ")",      "<wbr>",       "<i></i>",    "<input disabled>",
    "é",
};
static const char *const bad_parts[] = {"<b>",      "</b>",  "</p>", "<p>",  "<",     "&",  "<a href='",
                                        "<script>", "</i>",  "<!--", ">",    "</x",   "<?", "&#1;",
                                        "<li>",     "<pre>", "\"",   "<td>", "</td>", "="};
static const char *const elements[] = {"b", "i", "a", "span", "p", "div", "li", "td", "u", "x"};

static void append(t5_buffer *b, const char *text)
{
    t5_error err = {0};
    assert_int_equal(t5_buffer_append(b, text, strlen(text), &err), T5_OK);
}

/* Parts and elements with parts in them, all of them closed. */
static void make_balanced(uint64_t *random, int depth, t5_buffer *out)
{
    const uint32_t n_parts = next_random(random) % 6;
    for (uint32_t i = 0; i < n_parts; i++) {
        if (depth > 4 || next_random(random) % 3 > 0) {
            append(out, good_parts[next_random(random) % T5_COUNT(good_parts)]);
            continue;
        }
        const char *name = elements[next_random(random) % T5_COUNT(elements)];
        char tag[32];
        snprintf(tag, sizeof tag, "<%s k=%u>", name, next_random(random) % 100);
        append(out, tag);
        make_balanced(random, depth + 1, out);
        snprintf(tag, sizeof tag, "</%s>", name);
        append(out, tag);
    }
}

static int compare_tags(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The tags of a text as a sorted list; checks that they are balanced when `is_balanced`. */
static char **list_tags(char *text, bool is_balanced, size_t *out_n)
{
    char **tags = calloc(strlen(text) + 1, sizeof *tags);
    const char **open = calloc(strlen(text) + 1, sizeof *open);
    size_t n_open = 0;
    assert_non_null(tags);
    assert_non_null(open);
    *out_n = 0;
    for (char *tag = text; (tag = strchr(tag, '<')) != NULL;) {
        char *end = strchr(tag, '>');
        assert_non_null(end);
        tags[*out_n] = strndup(tag, (size_t)(end - tag) + 1);
        const char *name = tags[(*out_n)++];
        if (is_balanced && strstr(name, " k=") != NULL) open[n_open++] = name;
        const bool closes = name[1] == '/' && strcmp(name, "</code>") != 0 && strcmp(name, "</i>") != 0;
        const bool closes_i = strcmp(name, "</i>") == 0 && n_open > 0 && open[n_open - 1][1] == 'i' &&
                              strcmp(tags[*out_n - 2], "<i>") != 0;
        if (is_balanced && (closes || closes_i)) {
            assert_true(n_open > 0);
            const char *opened = open[--n_open];
            if (strncmp(opened + 1, name + 2, strlen(name) - 3) != 0) fail_msg("%s closes %s", name, opened);
        }
        tag = end;
    }
    if (n_open != 0) fail_msg("not closed: %s in %s", open[0], text);
    qsort(tags, *out_n, sizeof *tags, compare_tags);
    free(open);
    return tags;
}

static void check_same_tags(char *source, char *target)
{
    size_t n_source = 0, n_target = 0;
    char **a = list_tags(source, true, &n_source), **b = list_tags(target, true, &n_target);
    if (n_source != n_target) fail_msg("%zu tags became %zu: %s\n%s", n_source, n_target, source, target);
    for (size_t i = 0; i < n_source; i++) {
        assert_string_equal(a[i], b[i]);
        free(a[i]);
        free(b[i]);
    }
    free(a);
    free(b);
}

/* Claim: whatever the model says, each tag of a balanced text comes back once and the result is balanced; the same text
 * gives the same result. Method: random fragments, every mode of the rig. */
static void balanced_texts_stay_balanced(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (int i = 0; i < RANDOM_TEXTS; i++) {
        t5_buffer source = {0};
        make_balanced(&random, 0, &source);
        append(&source, "");
        t5_error err = {0};
        assert_int_equal(t5_buffer_append(&source, "", 1, &err), T5_OK);
        const t5_markup_options *options = i % 5 == 0 ? &xml : &html;
        char *first = translate_as(options, source.bytes, (t5_rig_mode)(i % RIG_N_MODES), i % 3 == 0);
        char *second = translate_as(options, source.bytes, (t5_rig_mode)(i % RIG_N_MODES), i % 3 == 0);
        assert_string_equal(first, second);
        check_same_tags(source.bytes, first);
        free(first);
        free(second);
        t5_buffer_deinit(&source);
    }
}

/* Claim: a text that is broken in any way loses nothing: what is not translated comes back byte for byte when there is
 * nothing to translate, every mark comes back once when there is, and marks and text are the whole source. */
static void broken_texts_lose_nothing(void **state)
{
    (void)state;
    uint64_t random = 11;
    for (int i = 0; i < RANDOM_TEXTS; i++) {
        t5_buffer source = {0}, out = {0};
        t5_error err = {0};
        for (uint32_t n = next_random(&random) % 12; n > 0; n--)
            append(&source, next_random(&random) % 2 ? bad_parts[next_random(&random) % T5_COUNT(bad_parts)]
                                                     : good_parts[next_random(&random) % T5_COUNT(good_parts)]);
        const t5_markup_options *options = i % 4 == 0 ? &xml : &html;
        t5_markup m;
        assert_int_equal(t5_markup_parse(source.bytes, source.n_bytes, options, &m, &err), T5_OK);
        assert_true(t5_utf8_is_valid(m.plain, m.plain_bytes));
        t5_markup_writer w = {.markup = &m, .out = &out};
        assert_int_equal(t5_markup_write_rest(&w, &err), T5_OK);
        assert_int_equal(out.n_bytes, source.n_bytes);
        if (out.n_bytes > 0) assert_memory_equal(out.bytes, source.bytes, out.n_bytes);
        out.n_bytes = 0;
        assert_int_equal(
            t5_rig_translate(source.bytes, source.n_bytes, options, (t5_rig_mode)(i % RIG_N_MODES), false, &out, &err),
            T5_OK);
        for (int32_t k = 0; k < m.n_marks; k++)
            assert_non_null(memmem(out.bytes, out.n_bytes, source.bytes + m.marks[k].offset, m.marks[k].n_bytes));
        t5_markup_deinit(&m);
        t5_buffer_deinit(&source);
        t5_buffer_deinit(&out);
    }
}

/* ---- limits ---- */

static t5_buffer repeat(const char *text, size_t n_times)
{
    t5_buffer b = {0};
    for (size_t i = 0; i < n_times; i++)
        append(&b, text);
    return b;
}

static void check_refused(const char *part, size_t n_times, const char *end, const char *want)
{
    t5_buffer source = repeat(part, n_times);
    const size_t n_ends = end[0] != '\0' ? n_times : 0;
    for (size_t i = 0; i < n_ends; i++)
        append(&source, end);
    t5_markup m;
    t5_error err = {0};
    const t5_status status = t5_markup_parse(source.bytes, source.n_bytes, &html, &m, &err);
    assert_int_equal(status, want != NULL ? T5_ERR_ARG : T5_OK);
    if (want != NULL) assert_string_equal(err.text, want);
    t5_markup_deinit(&m);
    t5_buffer_deinit(&source);
}

/* Claim: too much of anything is an error in words, and what nobody closes is not depth. */
static void limits_hold(void **state)
{
    (void)state;
    check_refused("<b>", T5_MARKUP_TAGS_MAX + 1, "", "the text has more than 65536 tags");
    check_refused("&nosuch;", T5_MARKUP_TAGS_MAX + 1, "", "the text has more than 65536 tags");
    check_refused("<b>x", 101, "</b>", "inline tags are nested more than 100 deep");
    check_refused("<b>x", 100, "</b>", NULL);
    check_refused("<div>x", 5000, "</div>", NULL);
    check_refused("<font>x<li>y", 5000, "", NULL);
    t5_buffer names = {0};
    for (int i = 0; i <= T5_MARKUP_NAMES_MAX; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "<t%d>", i);
        append(&names, tag);
    }
    t5_markup m;
    t5_error err = {0};
    assert_int_equal(t5_markup_parse(names.bytes, names.n_bytes, &html, &m, &err), T5_ERR_ARG);
    assert_string_equal(err.text, "the text has more than 1024 different tags");
    t5_buffer_deinit(&names);
}

static int64_t cpu_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Processor time of a parse and a translation of `head` n_times over and then `tail` as often. */
static int64_t time_of(const t5_markup_options *options, const char *head, const char *tail, size_t n_times)
{
    t5_buffer source = repeat(head, n_times), rest = repeat(tail, n_times), out = {0};
    t5_error err = {0};
    assert_int_equal(t5_buffer_append(&source, rest.bytes, rest.n_bytes, &err), T5_OK);
    const int64_t start_ns = cpu_ns();
    const t5_status status = t5_rig_translate(source.bytes, source.n_bytes, options, RIG_SAME, true, &out, &err);
    assert_true(status == T5_OK || status == T5_ERR_ARG);
    t5_buffer_deinit(&source);
    t5_buffer_deinit(&rest);
    t5_buffer_deinit(&out);
    return cpu_ns() - start_ns;
}

/* Claim: nothing makes the time grow with the square of the length. Method: what tempts a parser to look back, in one
 * length and in sixteen times that; a square would take 256 times as long. */
static void time_is_linear(void **state)
{
    (void)state;
    static const char *const parts[][2] = {
        {"<", ""},         {"<a ", ""},        {"<a b='", ""},    {"<!--", ""},     {"</", ""},      {"&", ""},
        {"<b>", ""},       {"</b>", ""},       {"<b><p>", ""},    {"<p></p>", ""},  {"a <b>", ""},   {"<script>", ""},
        {"<x></b>", ""},   {"<i>a. </i>", ""}, {"<b>a</b> ", ""}, {"</script", ""}, {"&#", ""},      {"<td><b>", ""},
        {"  <", ""},       {"<a b=c", ""},     {"<b>", "\u2603"}, {"<b>", "a"},     {"<b>", "a "},   {"<b>", "& "},
        {"<b>", "a& "},    {"<b>", "</b>"},    {"a", "<img>"},    {"& ", "<img>"},  {"a", "\u2603"}, {"{", "}"},
        {" ", "}<i></i>"},
    };
    for (size_t i = 0; i < 2 * T5_COUNT(parts); i++) {
        const char *head = parts[i / 2][0], *tail = parts[i / 2][1];
        const t5_markup_options *options = i % 2 == 0 ? &html : &xml;
        const int64_t short_ns = time_of(options, head, tail, 1000) + 300000;
        const int64_t long_ns = time_of(options, head, tail, 16000);
        if (long_ns > 100 * short_ns)
            fail_msg("%s, %s: %lld ns, then %lld", head, tail, (long long)short_ns, (long long)long_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_is_what_is_read),
        cmocka_unit_test(tags_stay_with_words_in_order),
        cmocka_unit_test(tags_follow_words),
        cmocka_unit_test(tags_stay_out_of_placeholders),
        cmocka_unit_test(tags_have_a_place_without_links),
        cmocka_unit_test(kept_words_have_one_partner),
        cmocka_unit_test(strange_signs_are_kept),
        cmocka_unit_test(text_does_not_become_markup),
        cmocka_unit_test(tags_end_placeholders),
        cmocka_unit_test(options_are_obeyed),
        cmocka_unit_test(entities_are_read),
        cmocka_unit_test(balanced_texts_stay_balanced),
        cmocka_unit_test(broken_texts_lose_nothing),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(time_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
