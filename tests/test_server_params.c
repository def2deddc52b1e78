/* tests/test_server_params.c: what POST /translate makes of its fields. The wording of errors is tested end to end
 * (e2e/test_statuses.py); here it is what the good ones mean. */
#include "server/params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static t5_pair pairs[] = {{"en", "de", ""}, {"en", "pt-BR", ""}};
static const char *codes[] = {"en", "de", "pt-BR"};
static t5_profile profile = {.name = "test", .pairs = pairs, .n_pairs = 2};

static bool leads(const void *ctx, const char *source, const char *target)
{
    return t5_profile_find(ctx, source, target) != NULL;
}

static const t5_languages languages = {.codes = codes, .n_codes = 3, .leads = leads, .ctx = &profile};
static const t5_params_rules no_limits = {&languages, -1, -1, -1};

static t5_status read_fields(const char *json, bool is_form, const t5_params_rules *rules, t5_params *out,
                             t5_error *err)
{
    json_t *fields = json_loads(json, 0, NULL);
    assert_non_null(fields);
    t5_error_clear(err);
    t5_status status = t5_params_read(fields, is_form, rules, out, err);
    json_decref(fields);
    return status;
}

/* Claim: texts outlive their fields, each with its languages; an array is a batch. Method: read both kinds. */
static void texts_are_copied(void **state)
{
    (void)state;
    t5_params p;
    t5_error err;
    assert_int_equal(
        read_fields("{\"q\":[\"\",\"\\u00e4 \"],\"source\":\"EN\",\"target\":\"pt_br\"}", false, &no_limits, &p, &err),
        T5_OK);
    assert_true(p.is_batch);
    assert_int_equal(p.n_texts, 2);
    assert_int_equal(p.texts[0].n_bytes, 0);
    assert_string_equal(p.texts[1].text, "\303\244 ");
    assert_int_equal(p.texts[1].n_bytes, 3);
    assert_string_equal(p.texts[1].source, "en");
    assert_string_equal(p.texts[1].target, "pt-BR");
    t5_params_deinit(&p);

    assert_int_equal(read_fields("{\"q\":\"a\\n\",\"source\":\"auto\",\"target\":\"pb\"}", false, &no_limits, &p, &err),
                     T5_OK);
    assert_false(p.is_batch);
    assert_string_equal(p.texts[0].text, "a\n");
    assert_string_equal(p.source, "auto");
    t5_params_deinit(&p);
}

/* Claim: line ends of a form become \n, and exactly one at the end goes. Method: a table; JSON is left alone. */
static void form_lines_are_normalized(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a\\r\\nb\\rc\\n", "a\nb\nc"}, {"a\\r\\n\\r\\n", "a\n"}, {"\\n", ""}, {"\\ra", "\na"}, {"a\\r", "a"},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        char json[128];
        t5_params p;
        t5_error err;
        snprintf(json, sizeof json, "{\"q\":\"%s\",\"source\":\"en\",\"target\":\"de\"}", cases[i][0]);
        assert_int_equal(read_fields(json, true, &no_limits, &p, &err), T5_OK);
        assert_string_equal(p.texts[0].text, cases[i][1]);
        assert_int_equal(p.texts[0].n_bytes, strlen(cases[i][1]));
        t5_params_deinit(&p);
    }
}

/* Claim: limits count code points and texts, and name both numbers; 0 alternatives is a limit, -1 none. Method: values
 * at the limit and one above. */
static void limits_hold(void **state)
{
    (void)state;
    static const t5_params_rules tight = {&languages, 3, 2, 0};
    static const struct {
        const char *q, *error;
    } cases[] = {
        {"\"\303\244\303\266\303\274\"", NULL},
        {"\"\303\244\303\266\303\274x\"", "Invalid request: request (4) exceeds text limit (3)"},
        {"[\"abc\",\"abc\"]", NULL},
        {"[\"\",\"\",\"\"]", "Invalid request: request (3) exceeds text limit (2)"},
        {"\"a\",\"alternatives\":0", NULL},
        {"\"a\",\"alternatives\":1", "Invalid request: alternatives parameter must be <= 0"},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        char json[128];
        t5_params p;
        t5_error err;
        snprintf(json, sizeof json, "{\"q\":%s,\"source\":\"en\",\"target\":\"de\"}", cases[i].q);
        t5_status status = read_fields(json, false, &tight, &p, &err);
        assert_int_equal(status, cases[i].error == NULL ? T5_OK : T5_ERR_ARG);
        assert_string_equal(err.text, cases[i].error != NULL ? cases[i].error : "");
        t5_params_deinit(&p);
    }
}

/* Claim: alternatives may be text, are at least 0, and are cut to what a beam can hold. Method: a table. */
static void alternatives_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int32_t n;
    } cases[] = {{"3", 3}, {"\"3\"", 3}, {"\"\"", 0}, {"-5", 0}, {"\"-5\"", 0}, {"1000", T5_BEAMS_MAX - 1}};
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        char json[128];
        t5_params p;
        t5_error err;
        snprintf(json, sizeof json, "{\"q\":\"a\",\"source\":\"en\",\"target\":\"de\",\"alternatives\":%s}",
                 cases[i].value);
        assert_int_equal(read_fields(json, false, &no_limits, &p, &err), T5_OK);
        assert_int_equal(p.n_alternatives, cases[i].n);
        t5_params_deinit(&p);
    }
}

/* Claim: decoding options of the request lie over those of a model; null and "" keep them; only a client's own
 * max_new_tokens counts as chosen. Method: the same options in JSON and as form values. */
static void options_overlay_the_model(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{\"q\":\"a\",\"source\":\"en\",\"target\":\"de\",\"num_beams\":7,\"max_new_tokens\":9,\"top_k\":null}",
        "{\"q\":\"a\",\"source\":\"en\",\"target\":\"de\",\"num_beams\":\"7\",\"max_new_tokens\":\"9\",\"top_k\":\"\"}",
    };
    t5_decoding model;
    t5_decoding_init(&model);
    model.top_k = 11;
    for (int is_form = 0; is_form <= 1; is_form++) {
        t5_params p;
        t5_error err;
        assert_int_equal(read_fields(json[is_form], is_form == 1, &no_limits, &p, &err), T5_OK);
        t5_decoding_overlay(&model, &p.decoding, p.given);
        assert_int_equal(model.num_beams, 7);
        assert_int_equal(model.max_new_tokens, 9);
        assert_int_equal(model.top_k, 11);
        assert_true(p.has_max_new_tokens);
        t5_params_deinit(&p);
    }
    t5_params p;
    t5_error err;
    assert_int_equal(read_fields("{\"q\":\"a\",\"source\":\"en\",\"target\":\"de\"}", false, &no_limits, &p, &err),
                     T5_OK);
    assert_false(p.has_max_new_tokens);
    assert_int_equal(p.given, 0);
    t5_params_deinit(&p);
}

/* Claim: a client that asks for sampling need not know that the model's folder asks for beams; one that asks for both
 * is left to the check. Method: sampling with num_beams absent, null, empty and given, over a model with beams. */
static void sampling_needs_no_num_beams(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        bool is_form;
        int32_t num_beams;
    } cases[] = {{"\"do_sample\":true", false, 1},
                 {"\"do_sample\":true,\"num_beams\":null", false, 1},
                 {"\"do_sample\":true,\"num_beams\":3", false, 3},
                 {"\"do_sample\":false", false, 4},
                 {"\"do_sample\":null", false, 4},
                 {"\"do_sample\":\"true\"", true, 1},
                 {"\"do_sample\":\"true\",\"num_beams\":\"\"", true, 1},
                 {"\"do_sample\":\"true\",\"num_beams\":\"3\"", true, 3}};
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        char json[128];
        t5_params p;
        t5_error err;
        t5_decoding model;
        t5_decoding_init(&model);
        model.num_beams = 4;
        snprintf(json, sizeof json, "{\"q\":\"a\",\"source\":\"en\",\"target\":\"de\",%s}", cases[i].options);
        assert_int_equal(read_fields(json, cases[i].is_form, &no_limits, &p, &err), T5_OK);
        t5_decoding_overlay(&model, &p.decoding, p.given);
        assert_int_equal(model.num_beams, cases[i].num_beams);
        t5_params_deinit(&p);
    }
}

/* Claim: an error text holds at most 32 bytes of a client's value, cut between characters, on one line. Method: odd
 * codes. */
static void echo_is_cut(void **state)
{
    (void)state;
    char json[512], expected[64];
    t5_params p;
    t5_error err;
    const char *umlauts = "\303\244\303\244\303\244\303\244\303\244\303\244\303\244\303\244\303\244\303\244";
    snprintf(json, sizeof json, "{\"q\":\"a\",\"source\":\"en\",\"target\":\"x%s%s\"}", umlauts, umlauts);
    assert_int_equal(read_fields(json, false, &no_limits, &p, &err), T5_ERR_ARG);
    snprintf(expected, sizeof expected, "x%.20s%.10s is not supported", umlauts, umlauts);
    assert_string_equal(err.text, expected);
    assert_int_equal(read_fields("{\"q\":\"a\",\"source\":\"en\",\"target\":\"x\\n\"}", false, &no_limits, &p, &err),
                     T5_ERR_ARG);
    assert_string_equal(err.text, "x? is not supported");
}

/* Claim: a pair that the model lacks is named as LibreTranslate does; no pair is needed from a language to itself or
 * for "auto". Method: one of each. */
static void pairs_are_checked(void **state)
{
    (void)state;
    static const char *const fine[] = {"{\"q\":\"a\",\"source\":\"de\",\"target\":\"DE-at\"}",
                                       "{\"q\":\"a\",\"source\":\"AUTO\",\"target\":\"en\"}"};
    t5_params p;
    t5_error err;
    for (size_t i = 0; i < T5_COUNT(fine); i++) {
        assert_int_equal(read_fields(fine[i], false, &no_limits, &p, &err), T5_OK);
        t5_params_deinit(&p);
    }
    assert_int_equal(read_fields("{\"q\":\"a\",\"source\":\"de\",\"target\":\"en\"}", false, &no_limits, &p, &err),
                     T5_ERR_ARG);
    assert_string_equal(err.text, "English (en) is not available as a target language from German (de)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_copied),
        cmocka_unit_test(form_lines_are_normalized),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(alternatives_are_read),
        cmocka_unit_test(options_overlay_the_model),
        cmocka_unit_test(sampling_needs_no_num_beams),
        cmocka_unit_test(echo_is_cut),
        cmocka_unit_test(pairs_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
