/* tests/test_profile.c: language pairs, prompts and defaults of model folders. */
#include "translate/profile.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BUNDLED T5_SOURCE_DIR "/models/t5-tatoeba"
#define FIXTURES T5_SOURCE_DIR "/tests/fixtures/"

static t5_tokenizer *open_tokenizer(const char *dir, int32_t vocab_size)
{
    t5_tokenizer *t = NULL;
    t5_error err = {0};
    t5_tokenizer_options options = {.vocab_size = vocab_size, .pad_id = 0, .eos_id = 1};
    if (t5_tokenizer_open(dir, &options, &t, &err) != T5_OK) fail_msg("%s", err.text);
    return t;
}

static const char *profile_dir(void)
{
    static char dir[] = "/tmp/t5-profile-XXXXXX";
    static bool is_made = false;
    if (!is_made) assert_non_null(mkdtemp(dir));
    is_made = true;
    return dir;
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", profile_dir(), name);
    if (text == NULL) {
        unlink(path);
        return;
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* Loads a folder of a config.json and, unless it is NULL, a t5serve.json. */
static t5_status load_texts(const char *config, const char *own, t5_profile *out, t5_error *err)
{
    t5_tokenizer *tokenizer = open_tokenizer(FIXTURES "byt5", 384);
    write_file("config.json", config);
    write_file("t5serve.json", own);
    t5_status status = t5_profile_load(profile_dir(), tokenizer, 384, out, err);
    t5_tokenizer_close(tokenizer);
    return status;
}

static int remove_dir(void **state)
{
    (void)state;
    write_file("config.json", NULL);
    write_file("t5serve.json", NULL);
    return rmdir(profile_dir());
}

/* Claim: the bundled model translates en to de and fr with the prompts it was trained with. Method: load its folder. */
static void bundled_model_has_pairs(void **state)
{
    t5_tokenizer *tokenizer = open_tokenizer(BUNDLED, 8192);
    t5_profile p;
    t5_error err = {0};
    const char *codes[8];

    (void)state;
    if (t5_profile_load(BUNDLED "/", tokenizer, 8192, &p, &err) != T5_OK) fail_msg("%s", err.text);
    assert_string_equal(p.name, "t5-tatoeba");
    assert_true(p.n_pairs >= 2);
    assert_string_equal(t5_profile_find(&p, "en", "de")->prompt, "translate English to German: ");
    assert_string_equal(t5_profile_find(&p, "en", "fr")->prompt, "translate English to French: ");
    assert_null(t5_profile_find(&p, "de", "fr"));
    assert_null(t5_profile_find(&p, "en", "it"));
    assert_true(t5_profile_has_source(&p, "en") && !t5_profile_has_source(&p, "it"));
    assert_true(t5_profile_has_target(&p, "fr") && !t5_profile_has_target(&p, "it"));
    assert_int_equal(p.defaults.num_beams, 4);
    assert_int_equal(p.defaults.max_new_tokens, 128);
    assert_true(t5_profile_languages(&p, codes, 8) >= 3);
    assert_string_equal(codes[0], "en");
    assert_string_equal(codes[1], "de");
    assert_int_equal(t5_profile_languages(&p, codes, 2), 2);
    assert_string_equal(codes[1], "de");
    t5_profile_deinit(&p);
    t5_tokenizer_close(tokenizer);
}

/* Claim: MADLAD's languages are its <2xx> pieces, any source goes to each. Method: the fixture, which has four. */
static void madlad_tags_are_pairs(void **state)
{
    t5_tokenizer *tokenizer = open_tokenizer(FIXTURES "madlad", 1280);
    t5_profile p;
    t5_error err = {0};

    (void)state;
    if (t5_profile_load(FIXTURES "madlad", tokenizer, 1280, &p, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(p.n_pairs, 4);
    assert_string_equal(p.name, "madlad");
    assert_string_equal(t5_profile_find(&p, "fr", "de")->prompt, "<2de> ");
    assert_string_equal(t5_profile_find(&p, "sw", "zh-Latn")->prompt, "<2zh_Latn> ");
    assert_string_equal(t5_profile_find(&p, "de", "en")->source, "");
    assert_null(t5_profile_find(&p, "en", "es"));
    assert_true(t5_profile_has_source(&p, "es"));
    assert_false(t5_profile_has_source(&p, "qqq"));
    t5_profile_deinit(&p);
    t5_tokenizer_close(tokenizer);
}

/* Claim: task_specific_params give pairs and defaults; max_length counts the start token. Method: T5-small's own. */
static void tasks_are_pairs(void **state)
{
    static const char config[] =
        "{\"task_specific_params\": {"
        "\"summarization\": {\"num_beams\": 8, \"prefix\": \"summarize: \"},"
        "\"translation_en_to_de\": {\"early_stopping\": true, \"max_length\": 300, \"num_beams\": 4,"
        " \"prefix\": \"translate English to German: \"},"
        "\"translation_en_to_ro\": {\"early_stopping\": true, \"max_length\": 300, \"num_beams\": 4,"
        " \"prefix\": \"translate English to Romanian: \"}}}";
    t5_profile p;
    t5_error err = {0};

    (void)state;
    if (load_texts(config, NULL, &p, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(p.n_pairs, 2);
    assert_string_equal(t5_profile_find(&p, "en", "ro")->prompt, "translate English to Romanian: ");
    assert_int_equal(p.defaults.num_beams, 4);
    assert_int_equal(p.defaults.max_new_tokens, 299);
    assert_int_equal(p.defaults.early_stopping, T5_EARLY_TRUE);
    t5_profile_deinit(&p);
}

/* Claim: a task's options are read as those of generation_config.json: lengths beyond ours are lowered, both old names
 * are known, sampling options out of range do not matter without sampling. */
static void task_options_are_lenient(void **state)
{
    static const char config[] = "{\"task_specific_params\": {\"translation_en_to_de\": {\"prefix\": \"x: \","
                                 " \"max_length\": 8192, \"min_length\": 4, \"temperature\": 0.0}}}";
    t5_profile p;
    t5_error err = {0};

    (void)state;
    if (load_texts(config, NULL, &p, &err) != T5_OK) fail_msg("%s", err.text);
    assert_int_equal(p.defaults.max_new_tokens, T5_SEQ_LEN_MAX - 1);
    assert_int_equal(p.defaults.min_new_tokens, 3);
    t5_profile_deinit(&p);
}

/* Claim: defaults with which every request would fail are refused when the folder is opened; t5serve.json can mend
 * those of generation_config.json, and a least length above the usual limit is none of them. */
static void defaults_must_agree(void **state)
{
    static const char generation[] = "{\"do_sample\": true, \"num_beams\": 4, \"min_length\": 300}";
    t5_profile p;
    t5_error err = {0};

    (void)state;
    write_file("generation_config.json", generation);
    assert_int_equal(load_texts("{}", NULL, &p, &err), T5_ERR_FORMAT);
    if (strstr(err.text, "generation_config.json") == NULL || strstr(err.text, "do_sample: sampling needs") == NULL)
        fail_msg("\"%s\"", err.text);
    t5_error_clear(&err);
    if (load_texts("{}", "{\"defaults\": {\"num_beams\": 1}}", &p, &err) != T5_OK) fail_msg("%s", err.text);
    t5_profile_deinit(&p);
    write_file("generation_config.json", NULL);
    assert_int_equal(load_texts("{}", "{\"defaults\": {\"suppress_tokens\": [384]}}", &p, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "suppress_tokens: 384 is outside the vocabulary of 384 tokens"));
}

/* Claim: a folder without any of the three only generates; t5serve.json goes before the rest, and its codes may be
 * written in any form. Method: config.json alone, then with a t5serve.json. */
static void own_file_goes_first(void **state)
{
    static const char config[] = "{\"task_specific_params\": {\"translation_en_to_de\": {\"prefix\": \"x: \"}}}";
    t5_profile p;
    t5_error err = {0};

    (void)state;
    assert_int_equal(load_texts("{\"task_specific_params\": null}", NULL, &p, &err), T5_OK);
    assert_int_equal(p.n_pairs, 0);
    t5_profile_deinit(&p);
    assert_int_equal(load_texts(config,
                                "{\"template\": \"<2{target}> \", \"pairs\": [[\"*\", \"zh\"], [\"*\", \"pt_BR\"]]}",
                                &p, &err),
                     T5_OK);
    assert_int_equal(p.n_pairs, 2);
    assert_string_equal(t5_profile_find(&p, "en", "zh-Hans")->prompt, "<2zh> ");
    assert_string_equal(t5_profile_find(&p, "en", "pt-BR")->prompt, "<2pt_BR> ");
    t5_profile_deinit(&p);
    assert_int_equal(load_texts(config, "{}", &p, &err), T5_OK);
    assert_int_equal(p.n_pairs, 0);
    t5_profile_deinit(&p);
}

/* Claim: only pairs of listed languages are kept, however the list writes them; a source that may be any stays. Method:
 * the bundled model's pairs and MADLAD's. */
static void listed_languages_are_kept(void **state)
{
    t5_profile p;
    t5_error err = {0};

    (void)state;
    static const char own[] = "{\"template\": \"{target}: \", \"pairs\": [[\"en\", \"de\"], [\"de\", \"en\"], "
                              "[\"en\", \"pt_BR\"], [\"*\", \"zh\"]]}";
    assert_int_equal(load_texts("{}", own, &p, &err), T5_OK);
    t5_profile_keep(&p, " EN-us, pb,zh ");
    assert_int_equal(p.n_pairs, 2);
    assert_non_null(t5_profile_find(&p, "en", "pt-BR"));
    assert_non_null(t5_profile_find(&p, "de", "zh-Hans"));
    t5_profile_keep(&p, "de,xx");
    assert_int_equal(p.n_pairs, 0);
    t5_profile_deinit(&p);
}

/* Claim: hostile JSON is an error which names file and key. Method: each mistake, and what the text must contain. */
static void bad_files_are_refused(void **state)
{
    static const struct {
        const char *config, *own, *part;
    } cases[] = {
        {"{}", "[]", "t5serve.json"},
        {"{}", "{\"pairs\": [[\"en\"", "t5serve.json"},
        {"{}", "", "t5serve.json"},
        {"{}", "{\"pears\": []}", "pears"},
        {"{}", "{\"name\": 5}", "name"},
        {"{}", "{\"template\": 5}", "template"},
        {"{}", "{\"pairs\": {}}", "pairs"},
        {"{}", "{\"pairs\": [[\"en\", \"de\"]]}", "template"},
        {"{}", "{\"template\": \"x\", \"pairs\": [[\"en\"]]}", "pairs[0]"},
        {"{}", "{\"template\": \"x\", \"pairs\": [[\"en\", \"de\"], \"fr\"]}", "pairs[1]"},
        {"{}", "{\"template\": \"x\", \"pairs\": [[\"en\", 5]]}", "pairs[0]"},
        {"{}", "{\"template\": \"x\", \"pairs\": [[\"e n\", \"de\"]]}", "e n"},
        {"{}", "{\"template\": \"x\", \"pairs\": [[\"en\", \"*\"]]}", "pairs[0]"},
        {"{}", "{\"template\": \"x\", \"pairs\": [[\"en\", \"de\"], [\"en-US\", \"de\"]]}", "twice"},
        {"{}", "{\"template\": \"{lang}\", \"pairs\": [[\"en\", \"de\"]]}", "{lang}"},
        {"{}", "{\"template\": \"{source_name}\", \"pairs\": [[\"*\", \"de\"]]}", "no name"},
        {"{}", "{\"defaults\": 4}", "defaults"},
        {"{}", "{\"defaults\": {\"beams\": 4}}", "beams"},
        {"{}", "{\"defaults\": {\"num_beams\": -1}}", "num_beams"},
        {"{\"task_specific_params\": 3}", NULL, "task_specific_params"},
        {"{\"task_specific_params\": {\"translation_en_to_de\": []}}", NULL, "translation_en_to_de"},
        {"{\"task_specific_params\": {\"translation_en_to_de\": {\"prefix\": 1}}}", NULL, "prefix"},
        {"{\"task_specific_params\": {\"translation_en_to_de\": {\"prefix\": \"\", \"max_length\": 1e99}}}", NULL,
         "max_length"},
        {"{\"task_specific_params\": {\"translation_en_to_de\": {\"prefix\": \"\", \"num_beams\": \"4\"}}}", NULL,
         "num_beams"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_profile p;
        t5_error err = {0};
        if (load_texts(cases[i].config, cases[i].own, &p, &err) != T5_ERR_FORMAT || strstr(err.text, ".json") == NULL ||
            strstr(err.text, cases[i].part) == NULL)
            fail_msg("case %zu: status %d, \"%s\"", i, (int)err.status, err.text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(bundled_model_has_pairs),   cmocka_unit_test(madlad_tags_are_pairs),
        cmocka_unit_test(tasks_are_pairs),           cmocka_unit_test(own_file_goes_first),
        cmocka_unit_test(listed_languages_are_kept), cmocka_unit_test(listed_languages_are_kept),
        cmocka_unit_test(bad_files_are_refused),     cmocka_unit_test(task_options_are_lenient),
        cmocka_unit_test(defaults_must_agree),
    };
    return cmocka_run_group_tests(tests, NULL, remove_dir);
}
