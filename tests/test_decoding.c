/* tests/test_decoding.c: decoding options from JSON, flags and generation_config.json. */
#include "model/decoding.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static t5_status set_json(t5_decoding *d, const char *name, const char *text, t5_error *err)
{
    t5_error_clear(err);
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    t5_status status = t5_decoding_set_json(d, name, value, err);
    json_decref(value);
    return status;
}

static t5_status set_text(t5_decoding *d, const char *name, const char *text, t5_error *err)
{
    t5_error_clear(err);
    return t5_decoding_set_text(d, name, text, err);
}

/* Claim: the defaults are Hugging Face's where there are such, and every option is known by name. */
static void defaults(void **state)
{
    (void)state;
    t5_decoding d;
    memset(&d, 0xff, sizeof d);
    t5_decoding_init(&d);
    assert_true(d.num_beams == 1 && d.num_return_sequences == 1 && d.max_new_tokens == 256 && d.min_new_tokens == 0);
    assert_true(d.length_penalty == 1.0 && d.early_stopping == T5_EARLY_FALSE && d.repetition_penalty == 1.0);
    assert_true(d.no_repeat_ngram_size == 0 && !d.do_sample && d.temperature == 1.0 && d.top_k == 50 && d.top_p == 1.0);
    assert_true(d.seed == 0 && d.n_suppress == 0);
    assert_true(t5_decoding_has("num_beams") && t5_decoding_has("suppress_tokens") && t5_decoding_has("seed"));
    assert_false(t5_decoding_has("num-beams") || t5_decoding_has("num_beam") || t5_decoding_has("num_beamsx") ||
                 t5_decoding_has("") || t5_decoding_has("model_type"));
    t5_error err = {0};
    assert_int_equal(t5_decoding_check(&d, 100, &err), T5_OK);
}

/* Claim: an overlay takes the options that are named, of every type, and no other. Method: two sets that differ in
 * everything; each option alone, then all. */
static void overlay_takes_what_is_named(void **state)
{
    (void)state;
    static const char *const names[] = {"num_beams",
                                        "num_return_sequences",
                                        "max_new_tokens",
                                        "min_new_tokens",
                                        "length_penalty",
                                        "early_stopping",
                                        "repetition_penalty",
                                        "no_repeat_ngram_size",
                                        "do_sample",
                                        "temperature",
                                        "top_k",
                                        "top_p",
                                        "seed",
                                        "suppress_tokens"};
    t5_decoding base, over, mixed;
    t5_decoding_init(&base);
    over = (t5_decoding){2, 2, 2, 2, 2.0, 2, 2.0, 2, true, 2.0, 2, 0.5, UINT64_C(1) << 40, 2, {5, 6}};
    uint32_t all = 0;
    for (size_t i = 0; i < T5_COUNT(names); i++) {
        const uint32_t bit = t5_decoding_bit(names[i]);
        assert_true(bit != 0 && (all & bit) == 0);
        all |= bit;
        mixed = base;
        t5_decoding_overlay(&mixed, &over, bit);
        assert_memory_not_equal(&mixed, &base, sizeof base);
        t5_decoding_overlay(&mixed, &base, bit);
        assert_memory_equal(&mixed, &base, sizeof base);
    }
    mixed = base;
    t5_decoding_overlay(&mixed, &over, all);
    assert_true(mixed.seed == over.seed && mixed.top_p == 0.5 && mixed.do_sample && mixed.num_beams == 2);
    assert_true(mixed.n_suppress == 2 && mixed.suppress_tokens[1] == 6 && mixed.early_stopping == 2);
    assert_int_equal(t5_decoding_bit("num_beam"), 0);
}

/* Claim: each type is read from JSON and from text, at the ends of its range. */
static void good_values(void **state)
{
    (void)state;
    t5_decoding d;
    t5_error err;
    t5_decoding_init(&d);
    assert_int_equal(set_json(&d, "num_beams", "32", &err), T5_OK);
    assert_int_equal(d.num_beams, 32);
    assert_int_equal(set_json(&d, "num_beams", "4.0", &err), T5_OK);
    assert_int_equal(d.num_beams, 4);
    assert_int_equal(set_json(&d, "num_beams", "null", &err), T5_OK);
    assert_int_equal(d.num_beams, 4);
    assert_int_equal(set_text(&d, "num-beams", "5", &err), T5_OK);
    assert_int_equal(d.num_beams, 5);
    assert_int_equal(set_json(&d, "length_penalty", "-10", &err), T5_OK);
    assert_true(d.length_penalty == -10.0);
    assert_int_equal(set_text(&d, "length_penalty", "0.6e0", &err), T5_OK);
    assert_true(d.length_penalty == 0.6);
    assert_int_equal(set_json(&d, "early_stopping", "true", &err), T5_OK);
    assert_int_equal(d.early_stopping, T5_EARLY_TRUE);
    assert_int_equal(set_json(&d, "early_stopping", "\"never\"", &err), T5_OK);
    assert_int_equal(d.early_stopping, T5_EARLY_NEVER);
    assert_int_equal(set_text(&d, "early-stopping", "false", &err), T5_OK);
    assert_int_equal(d.early_stopping, T5_EARLY_FALSE);
    assert_int_equal(set_text(&d, "do-sample", "true", &err), T5_OK);
    assert_true(d.do_sample);
    assert_int_equal(set_json(&d, "do_sample", "false", &err), T5_OK);
    assert_false(d.do_sample);
    assert_int_equal(set_text(&d, "seed", "9223372036854775807", &err), T5_OK);
    assert_true(d.seed == INT64_MAX);
    assert_int_equal(set_json(&d, "seed", "9223372036854775807", &err), T5_OK);
    assert_true(d.seed == INT64_MAX);
    assert_int_equal(set_json(&d, "seed", "9007199254740993", &err), T5_OK);
    assert_true(d.seed == 9007199254740993u);
    assert_int_equal(set_json(&d, "suppress_tokens", "[3, 17.0]", &err), T5_OK);
    assert_true(d.n_suppress == 2 && d.suppress_tokens[0] == 3 && d.suppress_tokens[1] == 17);
    assert_int_equal(set_text(&d, "suppress-tokens", "[4]", &err), T5_OK);
    assert_true(d.n_suppress == 1 && d.suppress_tokens[0] == 4);
    assert_int_equal(set_text(&d, "suppress-tokens", "5, 6,7", &err), T5_OK);
    assert_true(d.n_suppress == 3 && d.suppress_tokens[2] == 7);
    assert_int_equal(set_text(&d, "suppress-tokens", "", &err), T5_OK);
    assert_int_equal(d.n_suppress, 0);
}

/* Claim: a bad value leaves everything as it was and the text names option, value and what is allowed. */
static void bad_values(void **state)
{
    (void)state;
    static const struct {
        char how; /* j: JSON, t: text */
        const char *name, *value, *text;
    } rows[] = {
        {'j', "num_beams", "0", "num_beams: 0 is out of range, allowed 1 to 32"},
        {'j', "num_beams", "33", "num_beams: 33 is out of range, allowed 1 to 32"},
        {'j', "num_beams", "9223372036854775807", "num_beams: 9223372036854775807 is out of range, allowed 1 to 32"},
        {'j', "num_beams", "1.5", "num_beams: 1.5 is not an integer, allowed 1 to 32"},
        {'j', "num_beams", "1e300", "num_beams: 1e+300 is not an integer, allowed 1 to 32"},
        {'j', "num_beams", "\"4\"", "num_beams: \"4\" is not an integer, allowed 1 to 32"},
        {'j', "num_beams", "true", "num_beams: true is not an integer, allowed 1 to 32"},
        {'j', "num_beams", "[1]", "num_beams: a list of 1 is not an integer, allowed 1 to 32"},
        {'j', "max_new_tokens", "4096", "max_new_tokens: 4096 is out of range, allowed 1 to 4095"},
        {'j', "length_penalty", "10.5", "length_penalty: 10.5 is out of range, allowed -10 to 10"},
        {'j', "length_penalty", "\"x\"", "length_penalty: \"x\" is not a number, allowed -10 to 10"},
        {'j', "temperature", "0", "temperature: 0 is out of range, allowed 0.01 to 100"},
        {'j', "top_p", "1.01", "top_p: 1.01 is out of range, allowed 0 to 1"},
        {'j', "do_sample", "1", "do_sample: 1 is not true or false"},
        {'j', "early_stopping", "\"true\"", "early_stopping: \"true\" is not true, false or \"never\""},
        {'j', "early_stopping", "1", "early_stopping: 1 is not true, false or \"never\""},
        {'j', "seed", "-1", "seed: -1 is out of range, allowed 0 to 9223372036854775807"},
        {'j', "seed", "0.5", "seed: 0.5 is not an integer, allowed 0 to 9223372036854775807"},
        {'j', "suppress_tokens", "3", "suppress_tokens: 3 is not a list of token ids"},
        {'j', "suppress_tokens", "[1, -1]", "suppress_tokens: -1 is not a token id, allowed 0 to 1048575"},
        {'j', "suppress_tokens", "[\"a\"]", "suppress_tokens: \"a\" is not a token id, allowed 0 to 1048575"},
        {'j', "unknown", "3", "unknown: no such decoding option"},
        {'t', "num-beams", "", "num_beams: \"\" is not an integer, allowed 1 to 32"},
        {'t', "num-beams", "4x", "num_beams: \"4x\" is not an integer, allowed 1 to 32"},
        {'t', "num-beams", " 4", "num_beams: \" 4\" is not an integer, allowed 1 to 32"},
        {'t', "num-beams", "99999999999999999999",
         "num_beams: \"99999999999999999999\" is out of range, allowed 1 to 32"},
        {'t', "length-penalty", "nan", "length_penalty: \"nan\" is not a number, allowed -10 to 10"},
        {'t', "length-penalty", "1e999", "length_penalty: \"1e999\" is out of range, allowed -10 to 10"},
        {'t', "length-penalty", "0x1", "length_penalty: \"0x1\" is not a number, allowed -10 to 10"},
        {'t', "length-penalty", "-", "length_penalty: \"-\" is not a number, allowed -10 to 10"},
        {'t', "do-sample", "yes", "do_sample: \"yes\" is not true or false"},
        {'t', "early-stopping", "maybe", "early_stopping: \"maybe\" is not true, false or \"never\""},
        {'t', "seed", "-1", "seed: \"-1\" is not an integer, allowed 0 to 9223372036854775807"},
        {'t', "seed", "9223372036854775808",
         "seed: \"9223372036854775808\" is not an integer, allowed 0 to 9223372036854775807"},
        {'t', "seed", "99999999999999999999",
         "seed: \"99999999999999999999\" is not an integer, allowed 0 to 9223372036854775807"},
        {'t', "suppress-tokens", "a", "suppress_tokens: not a list of token ids such as 3,17"},
        {'t', "suppress-tokens", "1,", "suppress_tokens: not a list of token ids such as 3,17"},
        {'t', "num beams", "1", "num beams: no such decoding option"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        t5_decoding d, before;
        t5_error err;
        t5_decoding_init(&d);
        before = d;
        t5_status status = rows[i].how == 'j' ? set_json(&d, rows[i].name, rows[i].value, &err)
                                              : set_text(&d, rows[i].name, rows[i].value, &err);
        assert_int_equal(status, T5_ERR_ARG);
        assert_string_equal(err.text, rows[i].text);
        assert_memory_equal(&d, &before, sizeof d);
    }
    t5_decoding d;
    t5_error err;
    char many[4 * (T5_SUPPRESS_MAX + 1) + 1] = "";
    t5_decoding_init(&d);
    for (int i = 0; i <= T5_SUPPRESS_MAX; i++)
        strcat(many, i == 0 ? "1" : ",1");
    assert_int_equal(set_text(&d, "suppress-tokens", many, &err), T5_ERR_ARG);
    assert_string_equal(err.text, "suppress_tokens: 65 ids are too many, allowed 0 to 64");
}

/* Claim: options that contradict each other are named; the same options agree with the right partner. */
static void options_must_agree(void **state)
{
    (void)state;
    static const struct {
        const char *good, *bad, *text;
    } rows[] = {
        {"{\"num_return_sequences\":3,\"num_beams\":3}", "{\"num_return_sequences\":3}",
         "num_return_sequences: 3 is more than num_beams, 1, and do_sample is false"},
        {"{\"num_return_sequences\":3,\"do_sample\":true}", "{\"num_return_sequences\":3,\"num_beams\":2}",
         "num_return_sequences: 3 is more than num_beams, 2, and do_sample is false"},
        {"{\"do_sample\":true}", "{\"do_sample\":true,\"num_beams\":4}",
         "do_sample: sampling needs num_beams 1, it is 4"},
        {"{\"min_new_tokens\":9,\"max_new_tokens\":9}", "{\"min_new_tokens\":10,\"max_new_tokens\":9}",
         "min_new_tokens: 10 is more than max_new_tokens, 9"},
        {"{\"num_beams\":20}", "{\"num_beams\":21}", "num_beams: 21 needs a vocabulary of 42 tokens, it has 40"},
        {"{\"suppress_tokens\":[39]}", "{\"suppress_tokens\":[39,40]}",
         "suppress_tokens: 40 is outside the vocabulary of 40 tokens"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        for (int is_bad = 0; is_bad < 2; is_bad++) {
            t5_decoding d;
            t5_error err = {0};
            t5_decoding_init(&d);
            json_t *object = json_loads(is_bad ? rows[i].bad : rows[i].good, 0, NULL);
            assert_non_null(object);
            assert_int_equal(t5_decoding_set_object(&d, object, &err), T5_OK);
            assert_int_equal(t5_decoding_check(&d, 40, &err), is_bad ? T5_ERR_ARG : T5_OK);
            if (is_bad) assert_string_equal(err.text, rows[i].text);
            json_decref(object);
        }
    }
}

static t5_status load(const char *dir, const char *text, t5_decoding *d, t5_error *err)
{
    t5_decoding_init(d);
    t5_error_clear(err);
    file_write_text(dir, "generation_config.json", text);
    return t5_decoding_load(dir, d, err);
}

/* Claim: generation_config.json overlays the defaults under Hugging Face's names; max_length and min_length count the
 * start token and yield to the newer names; errors name the file; without the file nothing changes. */
static void generation_config_is_read(void **state)
{
    const char *dir = *state;
    t5_decoding d;
    t5_error err = {0};
    t5_decoding_init(&d);
    assert_int_equal(t5_decoding_load(dir, &d, &err), T5_OK);
    assert_int_equal(d.max_new_tokens, 256);
    const char *text = "{\"num_beams\":4,\"early_stopping\":true,\"eos_token_id\":[1,1],\"bad\":{},\"top_k\":null,"
                       "\"max_length\":64,\"min_length\":3}";
    assert_int_equal(load(dir, text, &d, &err), T5_OK);
    assert_true(d.num_beams == 4 && d.early_stopping == T5_EARLY_TRUE && d.top_k == 50);
    assert_true(d.max_new_tokens == 63 && d.min_new_tokens == 2);
    assert_int_equal(load(dir, "{\"max_new_tokens\":7,\"max_length\":64}", &d, &err), T5_OK);
    assert_int_equal(d.max_new_tokens, 7);
    assert_int_equal(load(dir, "{\"max_new_tokens\":null,\"max_length\":100000,\"min_length\":0}", &d, &err), T5_OK);
    assert_true(d.max_new_tokens == T5_SEQ_LEN_MAX - 1 && d.min_new_tokens == 0);
    assert_int_equal(load(dir, "{\"num_beams\":0}", &d, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "/generation_config.json: num_beams: 0 is out of range"));
    assert_int_equal(load(dir, "{\"max_length\":\"long\"}", &d, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "max_length: \"long\" is not an integer"));
    assert_int_equal(load(dir, "{\"num_beams\":4,\"length_penalty\":70}", &d, &err), T5_ERR_FORMAT);
    assert_int_equal(d.num_beams, 1); /* nothing of a bad file is taken */
    assert_int_equal(load(dir, "{\"top_p\":7,\"do_sample\":true}", &d, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "top_p: 7 is out of range"));
    assert_int_equal(load(dir, "[]", &d, &err), T5_ERR_FORMAT);
    assert_int_equal(load(dir, "{\"num_beams\":", &d, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "generation_config.json: not valid JSON at line 1"));
}

/* Claim: what Hugging Face's generate() takes does not make a folder unusable: lengths beyond ours are lowered, and
 * options of sampling out of our range count only when the folder samples. */
static void generation_config_is_lenient(void **state)
{
    const char *dir = *state;
    t5_decoding d;
    t5_error err;
    assert_int_equal(load(dir, "{\"max_new_tokens\":5000,\"min_new_tokens\":0}", &d, &err), T5_OK);
    assert_true(d.max_new_tokens == T5_SEQ_LEN_MAX - 1 && d.min_new_tokens == 0);
    assert_int_equal(load(dir, "{\"max_length\":1,\"min_length\":9999}", &d, &err), T5_OK);
    assert_true(d.max_new_tokens == 1 && d.min_new_tokens == T5_SEQ_LEN_MAX - 1);
    assert_int_equal(load(dir, "{\"max_new_tokens\":-1}", &d, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "max_new_tokens: -1 is not an integer, allowed 0 to"));
    assert_int_equal(load(dir, "{\"temperature\":0.0,\"top_k\":1000000,\"top_p\":0.9}", &d, &err), T5_OK);
    assert_true(d.temperature == 1.0 && d.top_k == 50 && d.top_p == 0.9);
    assert_int_equal(load(dir, "{\"temperature\":0.0,\"do_sample\":true}", &d, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "temperature: 0 is out of range"));
}

/* Claim: a folder older than generation_config.json has its options in config.json, and they count when there is no
 * other file, as in generate(). */
static void old_folders_are_read(void **state)
{
    const char *dir = *state;
    t5_decoding d;
    t5_error err = {0};
    t5_decoding_init(&d);
    file_write_text(dir, "config.json",
                    "{\"model_type\":\"t5\",\"num_beams\":4,\"max_length\":300,\"no_repeat_ngram_size\":3}");
    if (t5_decoding_load(dir, &d, &err) != T5_OK) fail_msg("%s", err.text);
    assert_true(d.num_beams == 4 && d.max_new_tokens == 299 && d.no_repeat_ngram_size == 3);
    assert_int_equal(load(dir, "{\"length_penalty\":0.5}", &d, &err), T5_OK);
    assert_true(d.num_beams == 1 && d.max_new_tokens == 256 && d.length_penalty == 0.5);
}

/* Claim: what changes the results of generate() and is not done here is refused by name, and taken where it says that
 * nothing changes. */
static void unsupported_options_are_refused(void **state)
{
    const char *dir = *state;
    static const char *const good[] = {
        "{\"num_beam_groups\":1,\"diversity_penalty\":0.0,\"bad_words_ids\":null,\"renormalize_logits\":false}",
        "{\"forced_bos_token_id\":null,\"begin_suppress_tokens\":[],\"encoder_no_repeat_ngram_size\":0}",
        "{\"min_p\":0.1,\"typical_p\":0.5,\"epsilon_cutoff\":0.1}",
        "{\"do_sample\":true,\"typical_p\":1.0,\"eta_cutoff\":0.0,\"min_p\":null}",
        "{\"eos_token_id\":[1]}",
    };
    static const struct {
        const char *text, *named;
    } bad[] = {
        {"{\"num_beams\":4,\"num_beam_groups\":2}", "num_beam_groups: 2 is not supported"},
        {"{\"forced_bos_token_id\":5}", "forced_bos_token_id: 5 is not supported"},
        {"{\"forced_eos_token_id\":0}", "forced_eos_token_id: 0 is not supported"},
        {"{\"bad_words_ids\":[[5]]}", "bad_words_ids: a list of 1 is not supported"},
        {"{\"renormalize_logits\":true}", "renormalize_logits: true is not supported"},
        {"{\"do_sample\":true,\"min_p\":0.1}", "min_p: 0.1 is not supported"},
        {"{\"eos_token_id\":[1,1,2]}",
         "eos_token_id: a list of 3: only one end of sequence is supported; name that of the model alone"},
    };
    t5_decoding d;
    t5_error err;
    for (size_t i = 0; i < T5_COUNT(good); i++)
        if (load(dir, good[i], &d, &err) != T5_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < T5_COUNT(bad); i++) {
        assert_int_equal(load(dir, bad[i].text, &d, &err), T5_ERR_FORMAT);
        if (strstr(err.text, bad[i].named) == NULL) fail_msg("%s", err.text);
    }
}

/* Claim: --help has one line per option with flag and default. */
static void help_lists_every_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *file = open_memstream(&text, &n_bytes);
    t5_decoding_print_help(file);
    fclose(file);
    int n_lines = 0;
    for (const char *p = text; *p != '\0'; p++)
        n_lines += *p == '\n';
    assert_int_equal(n_lines, 14);
    assert_non_null(strstr(text, "  --num-beams N "));
    assert_non_null(strstr(text, "1 is greedy search (default 1)\n"));
    assert_non_null(strstr(text, "  --early-stopping WHEN "));
    assert_non_null(strstr(text, "(default false)\n"));
    assert_non_null(strstr(text, "  --suppress-tokens LIST "));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(overlay_takes_what_is_named),
        cmocka_unit_test(good_values),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(options_must_agree),
        IN_FOLDER(generation_config_is_read),
        IN_FOLDER(generation_config_is_lenient),
        IN_FOLDER(old_folders_are_read),
        IN_FOLDER(unsupported_options_are_refused),
        cmocka_unit_test(help_lists_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
