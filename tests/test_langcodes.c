/* tests/test_langcodes.c: language codes and prompt templates. */
#include "text/langcodes.h"
#include "text/template.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *code, *name;
} languages[] = {
#define T5_LANG(code, name) {code, name},
#include "text/langcodes.def"
#undef T5_LANG
};

/* Claim: each language of the table is found, and what stands just before or behind it is not taken for it. Method: all
 * rows by their code and by their code in upper case; each code with a letter more. */
static void every_language_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < T5_COUNT(languages); i++) {
        char upper[T5_LANGCODE_BYTES] = "", longer[T5_LANGCODE_BYTES], code[T5_LANGCODE_BYTES];
        for (size_t k = 0; languages[i].code[k] != '\0'; k++)
            upper[k] = (char)toupper(languages[i].code[k]);
        assert_string_equal(t5_langcode_name(languages[i].code), languages[i].name);
        snprintf(longer, sizeof longer, "%sqqq", languages[i].code);
        assert_null(t5_langcode_name(longer));
        const bool is_alias = strcmp(upper, "ZH") == 0 || strcmp(upper, "NO") == 0;
        assert_true(t5_langcode_normalize(upper, code));
        if (!is_alias) assert_string_equal(code, languages[i].code);
    }
    assert_null(t5_langcode_name("PT-br"));
    assert_null(t5_langcode_name(""));
}

/* Claim: every way in which clients write a code becomes the public one. Method: the aliases of the API and odd
 * spellings, one by one. */
static void codes_become_public(void **state)
{
    static const char *const pairs[][2] = {
        {"en", "en"},
        {"EN", "en"},
        {"en-US", "en"},
        {"en_GB", "en"},
        {"de-AT", "de"},
        {"es-419", "es"},
        {"fr-CA", "fr"},
        {"pt", "pt"},
        {"pt-PT", "pt"},
        {"pt_pt", "pt"},
        {"pt-BR", "pt-BR"},
        {"PT_br", "pt-BR"},
        {"pb", "pt-BR"},
        {"zh", "zh-Hans"},
        {"zh-CN", "zh-Hans"},
        {"zh_CN", "zh-Hans"},
        {"zh-SG", "zh-Hans"},
        {"zh-Hans-CN", "zh-Hans"},
        {"zt", "zh-Hant"},
        {"zh-TW", "zh-Hant"},
        {"ZH_HK", "zh-Hant"},
        {"zh-hant", "zh-Hant"},
        {"zh-Hant-TW", "zh-Hant"},
        {"no", "nb"},
        {"nb-NO", "nb"},
        {"iw", "he"},
        {"in", "id"},
        {"ji", "yi"},
        {"jw", "jv"},
        {"mo", "ro"},
        {"zh_Latn", "zh-Latn"},
        {"sr-Cyrl-RS", "sr-Cyrl"},
        {"Xx-yy", "xx-yy"},
        {"qqq", "qqq"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(pairs); i++) {
        char code[T5_LANGCODE_BYTES];
        assert_true(t5_langcode_normalize(pairs[i][0], code));
        assert_string_equal(code, pairs[i][1]);
    }
}

/* Claim: what cannot be a code is refused and leaves "". Method: empty, too long, and bytes that codes never have. */
static void odd_codes_are_refused(void **state)
{
    static const char *const odd[] = {"", "en us", "en\"", "d\xC3\xA9", "../en", "abcdefghijklmnop", "e\n"};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(odd); i++) {
        char code[T5_LANGCODE_BYTES] = "x";
        assert_false(t5_langcode_normalize(odd[i], code));
        assert_string_equal(code, "");
        assert_null(t5_langcode_match(odd[i], (const char *const[]){"en"}, 1));
    }
}

/* Claim: a client's code finds the served language which it means, and no other. Method: a served list per rule. */
static void codes_match_served(void **state)
{
    static const char *const served[] = {"de", "en", "fil", "pt", "zh-Hans", "nb"};
    static const char *const pairs[][2] = {{"en-US", "en"}, {"tl", "fil"},     {"fil", "fil"},
                                           {"pt-BR", "pt"}, {"ZH", "zh-Hans"}, {"no", "nb"}};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(pairs); i++)
        assert_string_equal(t5_langcode_match(pairs[i][0], served, T5_COUNT(served)), pairs[i][1]);
    assert_null(t5_langcode_match("fr", served, T5_COUNT(served)));
    assert_null(t5_langcode_match("zh-TW", served, T5_COUNT(served)));
    assert_null(t5_langcode_match("auto", served, T5_COUNT(served)));
    assert_string_equal(t5_langcode_match("pt", (const char *const[]){"en", "pt-BR"}, 2), "pt-BR");
}

/* Claim: a list is walked whatever stands between its codes, and what is no code is "" and not the end of it. */
static void lists_are_walked(void **state)
{
    (void)state;
    char code[T5_LANGCODE_BYTES];
    const char *rest = t5_langcode_next(" en-US,, pb zh,no-such-code-is-so-long,d!e ", code);
    static const char *const wanted[] = {"en", "pt-BR", "zh-Hans", "", ""};
    for (size_t i = 0; i < T5_COUNT(wanted); i++) {
        assert_non_null(rest);
        assert_string_equal(code, wanted[i]);
        rest = t5_langcode_next(rest, code);
    }
    assert_null(rest);
    assert_null(t5_langcode_next("", code));
}

/* Claim: names and internal codes are those that LibreTranslate's clients know. Method: the ones that differ. */
static void names_are_known(void **state)
{
    (void)state;
    assert_string_equal(t5_langcode_name("de"), "German");
    assert_string_equal(t5_langcode_name("nb"), "Norwegian");
    assert_string_equal(t5_langcode_name("zh-Hant"), "Chinese (traditional)");
    assert_string_equal(t5_langcode_name("pt-BR"), "Portuguese (Brazil)");
    assert_null(t5_langcode_name("zh"));
    assert_null(t5_langcode_name(""));
    assert_string_equal(t5_langcode_internal("zh-Hant"), "zt");
    assert_string_equal(t5_langcode_internal("zh-Hans"), "zh");
    assert_string_equal(t5_langcode_internal("pt-BR"), "pb");
    assert_string_equal(t5_langcode_internal("xx"), "xx");
}

/* Claim: templates expand to the prompts that the models were trained with. Method: the two usual ones, and braces. */
static void templates_expand(void **state)
{
    char out[64];
    t5_error err = {0};
    (void)state;
    assert_int_equal(
        t5_template_expand("translate {source_name} to {target_name}: ", "en", "de", out, sizeof out, &err), T5_OK);
    assert_string_equal(out, "translate English to German: ");
    assert_int_equal(t5_template_expand("<2{target}> ", "", "zh-Hans", out, sizeof out, &err), T5_OK);
    assert_string_equal(out, "<2zh-Hans> ");
    assert_int_equal(t5_template_expand("{{{source}}}", "en", "de", out, sizeof out, &err), T5_OK);
    assert_string_equal(out, "{en}");
    assert_int_equal(t5_template_expand("", "en", "de", out, 1, &err), T5_OK);
}

/* Claim: a bad template is an error that says why. Method: each mistake, and the part of the text that names it. */
static void bad_templates_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"{lang}", "{lang}"},         {"{source", "partner"},
        {"source}", "partner"},       {"{", "partner"},
        {"{sou{rce}", "partner"},     {"{}", "{}"},
        {"{source_name}", "no name"}, {"0123456789abcdefghi", "longer"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        char out[16];
        t5_error err = {0};
        assert_int_equal(t5_template_expand(cases[i][0], "qqq", "de", out, sizeof out, &err), T5_ERR_FORMAT);
        assert_non_null(strstr(err.text, cases[i][1]));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_language_is_found), cmocka_unit_test(codes_become_public),
        cmocka_unit_test(odd_codes_are_refused),   cmocka_unit_test(codes_match_served),
        cmocka_unit_test(names_are_known),         cmocka_unit_test(lists_are_walked),
        cmocka_unit_test(templates_expand),        cmocka_unit_test(bad_templates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
