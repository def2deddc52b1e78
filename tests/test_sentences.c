/* tests/test_sentences.c: sentences, what stands between them, and cuts of what is too long. */
#include "base/utf8.h"
#include "text/sentence_rules.h"
#include "text/sentences.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unicode/ubrk.h>
#include <unicode/utext.h>

#include <cmocka.h>

#define SHOWN_BYTES 4096
#define RANDOM_TEXTS 3000

static t5_sentences split_as(const char *text, size_t n_bytes, const char *language, t5_split how)
{
    t5_sentences s;
    t5_error err = {0};
    if (t5_sentences_split(text, n_bytes, language, how, &s, &err) != T5_OK) fail_msg("%s", err.text);
    return s;
}

static t5_sentences split(const char *text, size_t n_bytes, const char *language)
{
    return split_as(text, n_bytes, language, T5_SPLIT_LINES);
}

/* Writes the text spans as "[one][two]" and everything else as it is. */
static void show(const char *text, const t5_sentences *s, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        const t5_span *span = &s->spans[i];
        assert_true(n + span->n_bytes + 3 < SHOWN_BYTES);
        if (span->is_text) out[n++] = '[';
        memcpy(out + n, text + span->offset, span->n_bytes);
        n += span->n_bytes;
        if (span->is_text) out[n++] = ']';
    }
    out[n] = '\0';
}

static void check_as(t5_split how, const char *language, const char *text, const char *want)
{
    char shown[SHOWN_BYTES];
    t5_sentences s = split_as(text, strlen(text), language, how);
    show(text, &s, shown);
    t5_sentences_deinit(&s);
    assert_string_equal(shown, want);
}

static void check(const char *language, const char *text, const char *want)
{
    check_as(T5_SPLIT_LINES, language, text, want);
}

/* The spans must be the text again, without gap, overlap or empty span. */
static void check_whole(const t5_sentences *s, size_t n_bytes)
{
    size_t pos = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        assert_int_equal(s->spans[i].offset, pos);
        assert_true(s->spans[i].n_bytes > 0);
        pos += s->spans[i].n_bytes;
    }
    assert_int_equal(pos, n_bytes);
}

/* Claim: sentences end where a reader says so, and white space stays outside. Method: texts with their brackets. */
static void sentences_end_at_marks(void **state)
{
    (void)state;
    check("en", "How are you? I am fine!  Thanks.", "[How are you?] [I am fine!]  [Thanks.]");
    check("en", "  Hello.\tBye.  ", "  [Hello.]\t[Bye.]  ");
    check("en", "One.\n\nTwo\r\nthree\rfour.", "[One.]\n\n[Two]\r\n[three]\r[four.]");
    check("en", "\n\n a \n", "\n\n [a] \n");
    check("zh-Hans", "你好。再见！今天很好", "[你好。][再见！][今天很好]");
    check("ja", "「行く。」と言った。彼は去った。", "[「行く。」と言った。][彼は去った。]");
    check("hi", "नमस्ते। आप कैसे हैं?", "[नमस्ते।] [आप कैसे हैं?]");
    check("es", "¡Hola! ¿Qué tal? Bien.", "[¡Hola!] [¿Qué tal?] [Bien.]");
    check(NULL, "Wait... Really?! Yes…", "[Wait...] [Really?!] [Yes…]");
    check("en", "Well… Then he left… and came back.", "[Well…] [Then he left… and came back.]");
    check("en", "Wait... what? \"No...\" He left.", "[Wait... what?] [\"No...\"] [He left.]");
    check("my", "မင်္ဂလာပါ။ ကောင်းတယ်။", "[မင်္ဂလာပါ။] [ကောင်းတယ်။]");
    check("km", "សួស្តី។ អ្នកសុខសប្បាយទេ? បាទ។", "[សួស្តី។] [អ្នកសុខសប្បាយទេ?] [បាទ។]");
    check("am", "ሰላም። እንዴት ነህ፧ ደህና ነኝ።", "[ሰላም።] [እንዴት ነህ፧] [ደህና ነኝ።]");
    check("ur", "آپ کیسے ہیں؟ شکریہ۔ اچھا", "[آپ کیسے ہیں؟] [شکریہ۔] [اچھا]");
    check("hy", "Բարեւ։ Լավ։", "[Բարեւ։] [Լավ։]");
    check("th", "สวัสดี คุณสบายดีไหม", "[สวัสดี คุณสบายดีไหม]");
}

/* Claim: dots of abbreviations, initials and numbers end no sentence. Method: one text per rule. */
static void dots_inside_are_kept(void **state)
{
    (void)state;
    check("en", "Mr. Smith met Dr. Who. They left.", "[Mr. Smith met Dr. Who.] [They left.]");
    check("en", "J. R. R. Tolkien wrote it. I read it.", "[J. R. R. Tolkien wrote it.] [I read it.]");
    check("en", "It was you and I. Then he came.", "[It was you and I.] [Then he came.]");
    check("en", "It costs 3.50 e.g. in the U.S. Army. See Fig. 3 and No. 5.",
          "[It costs 3.50 e.g. in the U.S. Army.] [See Fig. 3 and No. 5.]");
    check("en", "She said no. Then he left.", "[She said no.] [Then he left.]");
    check("en", "It was 1990. Then came May 3. Then rain.", "[It was 1990.] [Then came May 3.] [Then rain.]");
    check("de", "Am 3. Mai kam z. B. Herr Dr. Meier. Er blieb.", "[Am 3. Mai kam z. B. Herr Dr. Meier.] [Er blieb.]");
    check("de", "Es war 1990. Dann kam er.", "[Es war 1990.] [Dann kam er.]");
    check("fr", "M. Dupont et Mme. Durand sont là. Bien.", "[M. Dupont et Mme. Durand sont là.] [Bien.]");
    check("en", "\"Why?\" he asked. Yahoo! is here.", "[\"Why?\" he asked.] [Yahoo! is here.]");
    check("en", "He left (now. Really.) at once. Good.", "[He left (now. Really.) at once.] [Good.]");
    check("de", "„Ja. Gut.“ Er ging (bald). Ende.", "[„Ja. Gut.“] [Er ging (bald).] [Ende.]");
}

/* Claim: an abbreviation that may end a sentence ends it before a word that opens sentences, and not before a name.
 * Method: both kinds of what follows, for one text per rule. */
static void abbreviations_may_end_sentences(void **state)
{
    (void)state;
    check("en", "I saw him at 5 p.m. He was late. At 6 a. m. Bob came.",
          "[I saw him at 5 p.m.] [He was late.] [At 6 a. m.] [Bob came.]");
    check("en", "I live in the U.S. My name is Bob.", "[I live in the U.S.] [My name is Bob.]");
    check("en", "I got an A. She got a B. I'm sad.", "[I got an A.] [She got a B.] [I'm sad.]");
    check("en", "Take vitamin C. It helps.", "[Take vitamin C.] [It helps.]");
    check("en", "We went up Main St. He lives there.", "[We went up Main St.] [He lives there.]");
    check("en", "St. John met John A. I. Smith in St. Louis. The end.",
          "[St. John met John A. I. Smith in St. Louis.] [The end.]");
    check("ru", "Он жил в XIX в. Потом умер. Родился в 1990 г. в г. Киеве. Он жив.",
          "[Он жил в XIX в.] [Потом умер.] [Родился в 1990 г. в г. Киеве.] [Он жив.]");
    check("de", "Ich bin 25. Sie kommt am 30. Mai. Nimm Vitamin C. Es hilft.",
          "[Ich bin 25.] [Sie kommt am 30. Mai.] [Nimm Vitamin C.] [Es hilft.]");
    check("de", "Das betrifft z. B. Sie und z.B. Ihr Haus, d. h. Sie zahlen.",
          "[Das betrifft z. B. Sie und z.B. Ihr Haus, d. h. Sie zahlen.]");
    check("pt-BR", "O Sr. Silva mora nos EUA. Ele tem vitamina C. Eu sei.",
          "[O Sr. Silva mora nos EUA.] [Ele tem vitamina C.] [Eu sei.]");
    check("en", "Take vitamin C. \"It helps,\" he said.", "[Take vitamin C.] [\"It helps,\" he said.]");
}

/* Claim: what is not language is copied. Method: emoji, digits, addresses, bullets, and texts of nothing else. */
static void other_than_language_is_copied(void **state)
{
    (void)state;
    check("en", "", "");
    check("en", "   ", "   ");
    check("en", "🙂 👍🏽 !!! 12 + 3 = 15\n---\n", "🙂 👍🏽 !!! 12 + 3 = 15\n---\n");
    check("en", "I love it 🙂👍🏽", "[I love it] 🙂👍🏽");
    check("en", "🇩🇪 Hello.", "🇩🇪 [Hello.]");
    check("en", "→ Hello.\n● Hello ✓\n▶ Hello", "→ [Hello.]\n● [Hello] ✓\n▶ [Hello]");
    check("en", "\uFEFFHello.\n\u202AHello.\u202C\n🏴\U000E0067\U000E007F Hello.\u200B",
          "\uFEFF[Hello.]\n\u202A[Hello.]\u202C\n🏴\U000E0067\U000E007F [Hello.]\u200B");
    check("en", "Hel\u00ADlo.\u200BHello", "[Hel\u00ADlo.\u200BHello]");
    check("en", "- one\n* two\n> > three\n• four\n-5 degrees\n*bold* word",
          "- [one]\n* [two]\n> > [three]\n• [four]\n[-5 degrees]\n[*bold* word]");
    check("en", "https://example.org/a?b=c.d\nme@example.org\nSee https://example.org now.",
          "https://example.org/a?b=c.d\nme@example.org\n[See https://example.org now.]");
    check("en", "1. First item. 2. Second item.", "1. [First item.] 2. [Second item.]");
}

/* Claim: NUL and odd characters are text like any other. Method: a text with each, compared as spans. */
static void odd_characters_are_kept(void **state)
{
    static const char text[] = "One.\0 Two.\xE2\x80\xA8Three.\xEF\xBF\xBD\xF4\x8F\xBF\xBF";
    t5_sentences s = split(text, sizeof text - 1, "en");
    (void)state;
    check_whole(&s, sizeof text - 1);
    assert_true(s.n_spans >= 3);
    t5_sentences_deinit(&s);
}

/* Claim: a sentence may begin with a digit or a placeholder, but for numbers behind their abbreviations. Method: texts
 * with their brackets. */
static void digits_begin_sentences(void **state)
{
    (void)state;
    check("en", "I said no. 3 people left. See no. 3 people.", "[I said no.] [3 people left.] [See no. 3 people.]");
    check("en", "He came. 3 of us left. (It rained.) 2 days passed.",
          "[He came.] [3 of us left.] [(It rained.)] [2 days passed.]");
    check("en", "At 5 p.m. 3 people came. See p. 3 and Fig. 4 here. It was 1990. 20 years passed.",
          "[At 5 p.m.] [3 people came.] [See p. 3 and Fig. 4 here.] [It was 1990.] [20 years passed.]");
    check("de", "Am 3. 10. 2020 kam er. 3 Leute gingen. Nr. 5 lebt.",
          "[Am 3. 10. 2020 kam er.] [3 Leute gingen.] [Nr. 5 lebt.]");
    check("en", "Hello {name}. {count} files are left. %s is here. @bob said no. See p. {page} and Dr. {name}.",
          "[Hello {name}.] [{count} files are left.] [%s is here.] [@bob said no.] [See p. {page} and Dr. {name}.]");
}

/* Claim: a sentence never ends inside a placeholder, and one of placeholders alone is copied. Method: as above. */
static void placeholders_are_whole(void **state)
{
    (void)state;
    check("en", "It is {{ a. B? C! D }} here. Good.", "[It is {{ a. B? C! D }} here.] [Good.]");
    check("en", "%s (%d)\n\n{name}: {0}!\n@user #tag https://example.org",
          "%s (%d)\n\n{name}: {0}!\n@user #tag https://example.org");
    check("en", "%s\n%s is here", "%s\n[%s is here]");
}

static bool is_brace(const char *placeholder, size_t n_bytes, void *ctx)
{
    (void)n_bytes;
    (void)ctx;
    return placeholder[0] == '{';
}

static void check_apart(bool (*is_apart)(const char *, size_t, void *), const char *text, const char *want)
{
    char shown[SHOWN_BYTES];
    t5_error err = {0};
    t5_sentences s = split(text, strlen(text), "en");
    assert_int_equal(t5_sentences_set_apart(text, is_apart, NULL, &s, &err), T5_OK);
    show(text, &s, shown);
    t5_sentences_deinit(&s);
    assert_string_equal(shown, want);
}

/* Claim: placeholders set apart are copied with the marks that join them to their sentence. Method: as above. */
static void placeholders_are_set_apart(void **state)
{
    (void)state;
    check_apart(NULL, "Hello {name}, how are you? I am {x}.", "[Hello] {name}, [how are you?] [I am] {x}.");
    check_apart(NULL, "{a} and {b}: (see {c}) \"{d}\" now", "{a} [and] {b}: ([see] {c}) \"{d}\" [now]");
    check_apart(NULL, "Bob, {name}'s book is %d-fold.", "[Bob], {name}['s book is] %d[-fold.]");
    check_apart(NULL, "Nothing here.", "[Nothing here.]");
    check_apart(is_brace, "Hello {name}, see %s now.", "[Hello] {name}, [see %s now.]");
    check_apart(is_brace, "Hello {name} :smile: is here.", "[Hello] {name} [:smile: is here.]");
    check_apart(is_brace, "I like :smile: {name} here.", "[I like :smile:] {name} [here.]");
    check_apart(NULL, "{a} ( see (this) now", "{a} [( see (this) now]");
    check_apart(NULL, "{a} ( { (see now", "{a} ( { ([see now]");
    check_apart(is_brace, "Dogs &amp; {x}, @user", "[Dogs &amp;] {x}, @user");
}

static int64_t cpu_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Processor time of setting apart what stands before n_marks marks and a word. */
static int64_t time_apart(bool (*is_apart)(const char *, size_t, void *), const char *mark, size_t n_marks)
{
    const size_t mark_bytes = strlen(mark), n_bytes = 3 + n_marks * mark_bytes + 2;
    char *text = malloc(n_bytes);
    t5_error err = {0};
    assert_non_null(text);
    memcpy(text, "{x}", 3);
    for (size_t i = 0; i < n_marks; i++)
        memcpy(text + 3 + i * mark_bytes, mark, mark_bytes);
    memcpy(text + n_bytes - 2, " a", 2);
    t5_sentences s = split(text, n_bytes, "en");
    const int64_t start_ns = cpu_ns();
    assert_int_equal(t5_sentences_set_apart(text, is_apart, NULL, &s, &err), T5_OK);
    const int64_t ns = cpu_ns() - start_ns;
    check_whole(&s, n_bytes);
    t5_sentences_deinit(&s);
    free(text);
    return ns;
}

/* One number of marks and sixteen times that: a square would take 256 times as long. */
static void check_is_linear(bool (*is_apart)(const char *, size_t, void *), const char *mark)
{
    const int64_t few_ns = time_apart(is_apart, mark, 1 << 13) + 300000, many_ns = time_apart(is_apart, mark, 1 << 17);
    if (many_ns > 100 * few_ns) fail_msg("%s: %lld ns, then %lld", mark, (long long)few_ns, (long long)many_ns);
}

/* Claim: marks behind a placeholder are read in linear time. Method: brackets without a partner. */
static void joints_are_cheap(void **state)
{
    static const char *const marks[] = {"(", "([{", "\"", ")", "\u00AB", ". (", "-"};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(marks); i++)
        check_is_linear(NULL, marks[i]);
}

static bool is_not_said(const char *part, size_t n_bytes, void *ctx)
{
    (void)ctx;
    return n_bytes > 0 && ((unsigned char)part[0] >= 0x80 || part[n_bytes - 1] < 0);
}

/* Claim: pictures that a model cannot say are set apart within sentences too, whole. Method: as above. */
static void pictures_are_set_apart(void **state)
{
    (void)state;
    check_apart(is_not_said, "It is red 😀. It is big 👍🏽!", "[It is red] 😀. [It is big] 👍🏽!");
    check_apart(is_not_said, "I go 👩‍👩‍👧🇩🇪 home", "[I go] 👩‍👩‍👧🇩🇪 [home]");
    check_apart(is_not_said, "1️⃣ Hello 2️⃣ you", "1️⃣ [Hello] 2️⃣ [you]");
    check_apart(is_not_said, "I ❤️ you%s 1 and #", "[I] ❤️ [you%s 1 and #]");
    check_apart(is_not_said, "I go → home ★★ and ✓ sleep", "[I go] → [home] ★★ [and] ✓ [sleep]");
    check_apart(is_not_said, "Hel\u200Blo © Ärger™, 5㎏ is £3", "[Hel\u200Blo © Ärger™, 5㎏ is £3]");
    check_apart(is_not_said, "▶︎ Play and ✔︎ stop ✔︎", "▶︎ [Play and] ✔︎ [stop] ✔︎");
    check_apart(is_not_said, "I go ⟶ home ⤴ and ⬈ away", "[I go] ⟶ [home] ⤴ [and] ⬈ [away]");
    check_apart(is_brace, "It is 😀 here", "[It is 😀 here]");
    check_apart(NULL, "It is 😀 here {a}", "[It is 😀 here] {a}");
}

/* Claim: signs of mathematics are no pictures, nor are shapes, lines of tables and accidentals that touch words.
 * Method: a model that cannot say them. */
static void signs_are_no_pictures(void **state)
{
    static const char *const texts[] = {"It was −5 degrees.", "−5 degrees it was.", "If x ≤ 5, stop.",
                                        "The limit is ∞",     "○○さん、こんにちは", "│Name│Price│",
                                        "A ⌘ here",           "Use ⟨x⟩ ⨯ ⟦y⟧.",     "This is in B♭ major.",
                                        "♯4 and ♭3",          "It is 5○ and □x■."};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(texts); i++) {
        char want[SHOWN_BYTES];
        snprintf(want, sizeof want, "[%s]", texts[i]);
        check_apart(is_not_said, texts[i], want);
    }
}

/* Claim: shapes and lines of tables that stand alone are pictures, runs of them too. Method: at the start, in the
 * middle and at the end of sentences, beside emoji, and with a model that can say them. */
static void lone_signs_are_pictures(void **state)
{
    (void)state;
    check_apart(is_not_said, "Show details ▼", "[Show details] ▼");
    check_apart(is_not_said, "The house is red. ■ You have a dog.", "[The house is red.] ■ [You have a dog.]");
    check_apart(is_not_said, "│ Name │ Price ││", "│ [Name] │ [Price] ││");
    check_apart(is_not_said, "├── src ─■\tand ○○\u3000here", "├── [src] ─■\t[and] ○○\u3000[here]");
    check_apart(is_not_said, "I 😀■ go ■😀 home x■ ■x 😀 ■", "[I] 😀■ [go] ■😀 [home x■ ■x] 😀 ■");
    check_apart(is_not_said, "Go ○. Go x■😀", "[Go ○.] [Go x■]😀");
    check_apart(is_brace, "The □ is ○○ here", "[The □ is ○○ here]");
}

/* Claim: pictures and signs are read in linear time. Method: runs of them, touching and apart. */
static void signs_are_cheap(void **state)
{
    static const char *const marks[] = {"■", " ■", "■ ", "😀■", "■ ■x"};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(marks); i++)
        check_is_linear(is_not_said, marks[i]);
}

typedef struct {
    size_t codes_max, n_calls, n_bytes;
} limit;

static bool fits_limit(const char *part, size_t n_bytes, void *ctx)
{
    limit *l = ctx;
    l->n_calls++;
    l->n_bytes += n_bytes;
    return t5_utf8_count(part, n_bytes) <= l->codes_max;
}

static void check_cut(const char *text, size_t codes_max, const char *want)
{
    char shown[SHOWN_BYTES];
    t5_error err = {0};
    limit l = {.codes_max = codes_max};
    t5_sentences s = split(text, strlen(text), "en");
    assert_int_equal(t5_sentences_cut(text, fits_limit, &l, &s, &err), T5_OK);
    show(text, &s, shown);
    t5_sentences_deinit(&s);
    assert_string_equal(shown, want);
}

/* Claim: long sentences are cut at clause marks, else spaces, else between clusters. Method: a limit in characters. */
static void long_sentences_are_cut(void **state)
{
    (void)state;
    check_cut("Short one. Short two.", 20, "[Short one.] [Short two.]");
    check_cut("We came, we saw, we went away.", 20, "[We came, we saw,] [we went away.]");
    check_cut("a, the quick brown fox jumps", 17, "[a, the quick] [brown fox jumps]");
    check_cut("abcdefghij", 4, "[abcd][efgh][ij]");
    check_cut("我们来了，我们看见了，我们走了", 12, "[我们来了，我们看见了，][我们走了]");
    check_cut("e\xCC\x81"
              "e\xCC\x81"
              "e\xCC\x81",
              3, "[e\xCC\x81][e\xCC\x81][e\xCC\x81]");
    check_cut("👨‍👩‍👧x", 2, "👨‍👩‍👧[x]");
    check_cut("a👨‍👩‍👧‍👦b", 2, "[a]👨‍👩‍👧‍👦[b]");
    check_cut("we see {a, b, c} here", 12, "[we see] {a, b, c} [here]");
    check_cut("we see {a, b} here", 16, "[we see {a, b}] [here]");
    check_cut("see https://example.org/a,b;c now", 10, "[see] https://example.org/a,b;c [now]");
    check_cut("see https://example.org/a,b;c", 28, "[see] https://example.org/a,b;c");
}

/* Claim: a cut costs about linear time. Method: 100 kB without a space, and the bytes that `fits` was asked about. */
static void cuts_are_cheap(void **state)
{
    enum { TEXT_BYTES = 100000 };
    char *text = malloc(TEXT_BYTES);
    limit l = {.codes_max = 1000};
    t5_error err = {0};

    (void)state;
    assert_non_null(text);
    memset(text, 'a', TEXT_BYTES);
    t5_sentences s = split(text, TEXT_BYTES, "en");
    assert_int_equal(t5_sentences_cut(text, fits_limit, &l, &s, &err), T5_OK);
    assert_int_equal(s.n_spans, TEXT_BYTES / 1000);
    check_whole(&s, TEXT_BYTES);
    assert_true(l.n_bytes < 20 * TEXT_BYTES);
    t5_sentences_deinit(&s);
    free(text);
}

/* xorshift: the same texts in each run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static size_t random_text(uint32_t *seed, char *text, size_t bytes_max)
{
    static const uint32_t special[] = {' ',  ' ',     '.',    '.',    '!',    '?',    ',',    '\n',   '\r',   '"',
                                       '(',  ')',     'A',    'z',    '7',    0,      0x3002, 0x300C, 0x300D, 0x2028,
                                       0x85, 0x1F642, 0x200D, 0xFE0F, 0x0301, 0x201C, 0x201E, '-',    '*',    0x0E01};
    size_t n_bytes = 0, n_codes = next_random(seed) % 60;
    for (size_t i = 0; i < n_codes && n_bytes + 4 <= bytes_max; i++) {
        uint32_t pick = next_random(seed), code = special[pick % T5_COUNT(special)];
        if (pick >> 28 == 0) code = next_random(seed) % 0x110000;
        if (code >= 0xD800 && code <= 0xDFFF) code = 'e';
        n_bytes += t5_utf8_put(code, text + n_bytes);
    }
    return n_bytes;
}

/* Claim: for any text the spans are the text, split or cut, and each is valid UTF-8.
 * Method: random texts of marks, spaces, joiners and any character. */
static void spans_are_the_text(void **state)
{
    uint32_t seed = 20260101;
    (void)state;
    for (int i = 0; i < RANDOM_TEXTS; i++) {
        char text[256];
        t5_error err = {0};
        limit l = {.codes_max = 1 + next_random(&seed) % 8};
        size_t n_bytes = random_text(&seed, text, sizeof text);
        t5_sentences s = split_as(text, n_bytes, i % 2 == 0 ? "de" : NULL, (t5_split)(i % 3));
        check_whole(&s, n_bytes);
        assert_int_equal(t5_sentences_cut(text, fits_limit, &l, &s, &err), T5_OK);
        check_whole(&s, n_bytes);
        for (size_t k = 0; k < s.n_spans; k++)
            assert_true(t5_utf8_is_valid(text + s.spans[k].offset, s.spans[k].n_bytes));
        t5_sentences_deinit(&s);
    }
}

/* How many sentences ICU alone finds in a line. */
static int32_t count_icu(const char *line, size_t n_bytes, const char *language)
{
    UErrorCode code = U_ZERO_ERROR;
    int32_t n = 0;
    UBreakIterator *iterator = ubrk_open(UBRK_SENTENCE, language, NULL, 0, &code);
    UText *utext = utext_openUTF8(NULL, line, (int64_t)n_bytes, &code);
    ubrk_setUText(iterator, utext, &code);
    assert_true(U_SUCCESS(code));
    while (ubrk_next(iterator) != UBRK_DONE)
        n++;
    utext_close(utext);
    ubrk_close(iterator);
    return n;
}

/* Claim: a line which is said to end its only sentence at its end has no other end for ICU, in no language; and most
 * lines of one sentence are known for it. Method: random texts of letters and marks of all kinds, a few plain ones. */
static void icu_is_not_asked_in_vain(void **state)
{
    static const char *const pieces[] = {
        "a",      "B",        " ",      ".",      "?!",     ";",      ":",      ",",      "\"",     "(",      ")",
        "7",      "\xC2\x85", "\t",     "\v",     "\r",     "\n",     "\u037E", "\u3002", "\u0301", "\u00AD", "\u2024",
        "\u00BB", "\uFF0E",   "\u2026", "\u0964", "\u0915", "\u2029", "\u00A0", "a b",    "aB",     "b a"};
    static const char *const languages[] = {"en", "el", "ja", "fr"};
    static const char *const plain[] = {"Hello there", "Hello there.", "\"Is it?\"  ", "a, b: c (d) - e!", "3 Männer"};
    uint32_t seed = 7;
    int32_t n_known = 0;
    (void)state;
    for (int32_t i = 0; i < 20 * RANDOM_TEXTS; i++) {
        char line[64] = "";
        for (uint32_t n = 1 + next_random(&seed) % 8; n > 0; n--)
            strcat(line, pieces[next_random(&seed) % T5_COUNT(pieces)]);
        const size_t n_bytes = strlen(line);
        if (!t5_break_is_at_end(line, n_bytes)) continue;
        n_known++;
        for (size_t k = 0; k < T5_COUNT(languages); k++)
            if (count_icu(line, n_bytes, languages[k]) != 1) fail_msg("%s: \"%s\"", languages[k], line);
    }
    assert_true(n_known > RANDOM_TEXTS);
    for (size_t i = 0; i < T5_COUNT(plain); i++)
        assert_true(t5_break_is_at_end(plain[i], strlen(plain[i])));
    assert_false(t5_break_is_at_end("One. Two", 8));
}

/* Claim: on request a line end is a space, or nothing ends a sentence; what stands around stays out all the same. */
static void lines_end_sentences_unless_asked(void **state)
{
    (void)state;
    check(NULL, "One\ntwo. Three.", "[One]\n[two.] [Three.]");
    check_as(T5_SPLIT_MARKS, NULL, " One\ntwo.\r\nThree\xC2\x85so on\n\nand on. \n",
             " [One\ntwo.]\r\n[Three\xC2\x85so on\n\nand on.] \n");
    check_as(T5_SPLIT_MARKS, NULL, "Mr.\nSmith\xE2\x80\xA8left.\nGood.", "[Mr.\nSmith\xE2\x80\xA8left.]\n[Good.]");
    check_as(T5_SPLIT_MARKS, NULL, "42\n- 43\n", "42\n- 43\n");
    check_as(T5_SPLIT_NOWHERE, NULL, "\tOne.\nTwo. Three \n", "\t[One.\nTwo. Three] \n");
    check_as(T5_SPLIT_NOWHERE, NULL, "1, 2.\n", "1, 2.\n");
    check_as(T5_SPLIT_NOWHERE, NULL, "", "");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_sentences_unless_asked),
        cmocka_unit_test(sentences_end_at_marks),
        cmocka_unit_test(dots_inside_are_kept),
        cmocka_unit_test(abbreviations_may_end_sentences),
        cmocka_unit_test(other_than_language_is_copied),
        cmocka_unit_test(digits_begin_sentences),
        cmocka_unit_test(placeholders_are_whole),
        cmocka_unit_test(placeholders_are_set_apart),
        cmocka_unit_test(joints_are_cheap),
        cmocka_unit_test(pictures_are_set_apart),
        cmocka_unit_test(signs_are_no_pictures),
        cmocka_unit_test(lone_signs_are_pictures),
        cmocka_unit_test(signs_are_cheap),
        cmocka_unit_test(odd_characters_are_kept),
        cmocka_unit_test(long_sentences_are_cut),
        cmocka_unit_test(cuts_are_cheap),
        cmocka_unit_test(spans_are_the_text),
        cmocka_unit_test(icu_is_not_asked_in_vain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
