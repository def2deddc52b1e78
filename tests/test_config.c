/* tests/test_config.c: settings come from four places in the documented order, and every mistake is named. */
#include "base/limits.h"
#include "config/config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define WORDS_MAX 8

typedef struct {
    const char *file; /* content of the configuration file, or NULL */
    const char *env[WORDS_MAX];
    const char *flags[WORDS_MAX];
} sources;

/* Loads `s` as a process would see it; the file lies in a temporary folder. */
static t5_status load(const sources *s, t5_config *out, t5_config_action *action, t5_error *err)
{
    char path[] = "/tmp/t5-config-XXXXXX";
    char *argv[WORDS_MAX + 4] = {(char *)(size_t) "t5serve"}, *env[WORDS_MAX + 1] = {NULL};
    int argc = 1;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    if (s->file != NULL) {
        assert_int_equal(write(fd, s->file, strlen(s->file)), (ssize_t)strlen(s->file));
        argv[argc++] = (char *)(size_t) "--config";
        argv[argc++] = path;
    }
    for (int i = 0; i < WORDS_MAX && s->flags[i] != NULL; i++)
        argv[argc++] = (char *)(size_t)s->flags[i];
    for (int i = 0; i < WORDS_MAX && s->env[i] != NULL; i++)
        env[i] = (char *)(size_t)s->env[i];
    t5_error_clear(err);
    t5_status status = t5_config_load(argc, argv, env, out, action, err);
    close(fd);
    unlink(path);
    return status;
}

/* Claim: an address may stand in brackets, as in URLs and in LibreTranslate's images; a byte order mark before the file
 * changes nothing. */
static void hosts_and_marks(void **state)
{
    static const char *const hosts[][2] = {{"[::1]", "::1"}, {"[::]", "::"},   {"::1", "::1"},
                                           {"[]", "[]"},     {"[::1", "[::1"}, {"a.b", "a.b"}};
    t5_config c;
    t5_config_action action;
    t5_error err = {0};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(hosts); i++) {
        char variable[32];
        snprintf(variable, sizeof variable, "LT_HOST=%s", hosts[i][0]);
        const sources from = {.file = "\xef\xbb\xbf{\"port\": 7}", .env = {variable}};
        assert_int_equal(load(&from, &c, &action, &err), T5_OK);
        assert_string_equal(c.host, hosts[i][1]);
        assert_int_equal(c.port, 7);
    }
}

/* Claim: file < LT_ < T5_ < flag, and each value tells its origin. Method: the same key in one place more each time. */
static void later_sources_win(void **state)
{
    (void)state;
    static const struct {
        sources from;
        int64_t port;
        const char *origin;
    } cases[] = {
        {{NULL, {NULL}, {NULL}}, 5000, "default"},
        {{"{\"port\": 1}", {NULL}, {NULL}}, 1, "file /tmp/t5-config-"},
        {{"{\"port\": 1}", {"LT_PORT=2"}, {NULL}}, 2, "environment LT_PORT"},
        {{"{\"port\": 1}", {"T5_PORT=3", "LT_PORT=2"}, {NULL}}, 3, "environment T5_PORT"},
        {{"{\"port\": 1}", {"LT_PORT=2", "T5_PORT=3"}, {"--port", "4"}}, 4, "flag --port"},
        {{"{\"port\": 1}", {"T5_PORT=3"}, {"--port=4", "--port=5"}}, 5, "flag --port"},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_config c;
        t5_config_action action;
        t5_error err;
        assert_int_equal(load(&cases[i].from, &c, &action, &err), T5_OK);
        assert_int_equal(c.port, cases[i].port);
        assert_memory_equal(c.origins[T5_KEY_port], cases[i].origin, strlen(cases[i].origin));
        assert_int_equal(action, T5_CONFIG_RUN);
    }
}

/* Claim: every type can be set everywhere, with dashes or underscores in flags. Method: read the values back. */
static void every_type_is_read(void **state)
{
    (void)state;
    t5_config c;
    t5_config_action action;
    t5_error err;
    const sources s = {"{\"_comment\": 1, \"metrics\": true, \"log_level\": \"debug\", \"char_limit\": -1}",
                       {"T5_HOST=::1", "HOME=/root", "LT_BATCH_LIMIT=7", "LT_CHAR_LIMIT="},
                       {"--max-running-rows=99", "--http_threads", "3", "--print-config", "--metrics=false"}};
    assert_int_equal(load(&s, &c, &action, &err), T5_OK);
    assert_string_equal(c.host, "::1");
    assert_string_equal(c.log_level, "debug");
    assert_int_equal(c.max_texts_per_request, 7);
    assert_int_equal(c.char_limit, -1);
    assert_int_equal(c.max_running_rows, 99);
    assert_int_equal(c.http_threads, 3);
    assert_false(c.metrics);
    assert_int_equal(action, T5_CONFIG_PRINT);
    assert_string_equal(c.warning, "");
}

/* Claim: LibreTranslate's variables set what they set there; a limit or a lock that we lack is a warning, and what is
 * off or only tunes LibreTranslate is none. Method: a compose file's environment, in two parts. */
static void libretranslate_variables(void **state)
{
    (void)state;
    t5_config c;
    t5_config_action action;
    t5_error err;
    const sources limits = {NULL,
                            {"LT_URL_PREFIX=/tr", "LT_LOAD_ONLY=en,de", "LT_HOURLY_REQ_LIMIT=100",
                             "LT_DAILY_REQ_LIMIT=500", "LT_API_KEYS=true", "T5_API_KEYS=keys.json",
                             "LT_METRICS_AUTH_TOKEN=secret"},
                            {NULL}};
    assert_int_equal(load(&limits, &c, &action, &err), T5_OK);
    assert_string_equal(c.url_prefix, "/tr");
    assert_string_equal(c.languages, "en,de");
    assert_int_equal(c.hourly_req_limit, 100);
    assert_int_equal(c.daily_req_limit, 500);
    assert_string_equal(c.metrics_auth_token, "secret");
    assert_string_equal(c.warning, "");
    const sources others = {NULL,
                            {"LT_FRONTEND_TIMEOUT=200", "LT_FRONTEND_LANGUAGE_TARGET=fr", "LT_THREADS=8",
                             "LT_API_KEYS=false", "LT_REQ_FLOOD_THRESHOLD=-1", "LT_UNDER_ATTACK=true",
                             "LT_REQUIRE_API_KEY_ORIGIN=example.org"},
                            {NULL}};
    assert_int_equal(load(&others, &c, &action, &err), T5_OK);
    assert_int_equal(c.frontend_timeout, 200);
    assert_string_equal(c.frontend_language_target, "fr");
    assert_string_equal(c.warning, "environment LT_REQUIRE_API_KEY_ORIGIN: has no effect here; "
                                   "environment LT_UNDER_ATTACK: has no effect here");
}

/* Claim: a number of bytes takes a unit of 1024, in text as in the file. Method: the same size in every way. */
static void bytes_have_units(void **state)
{
    (void)state;
    static const sources ways[] = {
        {NULL, {NULL}, {"--kv-memory=3221225472"}},      {NULL, {"T5_KV_MEMORY=3145728k"}, {NULL}},
        {NULL, {NULL}, {"--kv-memory", "3072M"}},        {"{\"kv_memory\": \"3G\"}", {NULL}, {NULL}},
        {"{\"kv_memory\": 3221225472}", {NULL}, {NULL}},
    };
    for (size_t i = 0; i < T5_COUNT(ways); i++) {
        t5_config c;
        t5_config_action action;
        t5_error err;
        assert_int_equal(load(&ways[i], &c, &action, &err), T5_OK);
        assert_true(c.kv_memory == INT64_C(3) << 30);
    }
}

/* Claim: a list is what its last source says, from a flag for each text, an array, or a variable with colons; it is
 * printed as it can be read again. Method: the same three folders in all ways, and lists of one and of none. */
static void lists_are_read(void **state)
{
    (void)state;
    static const struct {
        sources from;
        const char *texts[4], *printed;
    } cases[] = {
        {{NULL, {NULL}, {"--model", "a", "--model=b:c", "--port=1", "--model", "d"}}, {"a", "b:c", "d"}, "\"b:c\""},
        {{"{\"model\": [\"a\", \"b\", \"c\"]}", {NULL}, {NULL}}, {"a", "b", "c"}, "\"b\""},
        {{"{\"model\": [\"x\", \"y\"]}", {"T5_MODEL=/a:b::c:"}, {NULL}}, {"/a", "b", "c"}, "\"/a\""},
        {{"{\"model\": [\"x\"]}", {"T5_MODEL=y:z"}, {"--model", "a"}}, {"a"}, "\"model\": \"a\""},
        {{"{\"model\": \"x\"}", {NULL}, {NULL}}, {"x"}, "\"model\": \"x\""},
        {{"{\"model\": [\"x\", \"y\"]}", {NULL}, {"--model="}}, {NULL}, "\"model\": \"\""},
        {{"{\"model\": []}", {NULL}, {NULL}}, {NULL}, "\"model\": \"\""},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_config c;
        t5_config_action action;
        t5_error err;
        assert_int_equal(load(&cases[i].from, &c, &action, &err), T5_OK);
        const char *text = NULL;
        for (size_t k = 0; (text = t5_config_list_next(&c.model, text)) != NULL; k++)
            assert_string_equal(text, cases[i].texts[k]);
        assert_int_equal(c.model.n_texts,
                         (cases[i].texts[0] != NULL) + (cases[i].texts[1] != NULL) + (cases[i].texts[2] != NULL));
        char *printed = NULL;
        size_t n_bytes = 0;
        FILE *file = open_memstream(&printed, &n_bytes);
        assert_int_equal(t5_config_print(&c, file, &err), T5_OK);
        fclose(file);
        assert_non_null(strstr(printed, cases[i].printed));
        const sources again = {printed, {NULL}, {NULL}};
        t5_config copy;
        assert_int_equal(load(&again, &copy, &action, &err), T5_OK);
        assert_memory_equal(&copy.model, &c.model, sizeof c.model);
        free(printed);
    }
}

/* Claim: a models folder gives its subfolders that are models, by name, behind those that are named; none is an error,
 * and too many are. Method: folders with and without config.json. */
static void models_are_found(void **state)
{
    (void)state;
    char top[] = "/tmp/t5-models-XXXXXX", path[64], expected[64];
    static const char *const names[] = {"b", "a", "empty", ".hidden"};
    assert_non_null(mkdtemp(top));
    static t5_config c;
    t5_config_list list;
    t5_error err = {0};
    t5_config_init(&c);
    snprintf(c.models_dir, sizeof c.models_dir, "%s", top);
    assert_int_equal(t5_config_models(&c, &list, &err), T5_ERR_IO);
    assert_non_null(strstr(err.text, top));
    for (size_t i = 0; i < T5_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", top, names[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(path, sizeof path, "%s/%s/config.json", top, names[i]);
        if (i != 2) assert_true(close(open(path, O_CREAT | O_WRONLY, 0600)) == 0);
    }
    t5_error_clear(&err);
    snprintf(c.model.bytes, sizeof c.model.bytes, "first");
    c.model.n_bytes = sizeof "first";
    c.model.n_texts = 1;
    assert_int_equal(t5_config_models(&c, &list, &err), T5_OK);
    assert_int_equal(list.n_texts, 3);
    const char *text = t5_config_list_next(&list, NULL);
    assert_string_equal(text, "first");
    for (size_t i = 0; i < 2; i++) {
        snprintf(expected, sizeof expected, "%s/%c", top, "ab"[i]);
        text = t5_config_list_next(&list, text);
        assert_string_equal(text, expected);
    }
    for (c.model.n_bytes = 0, c.model.n_texts = 0; c.model.n_texts <= T5_MODELS_MAX; c.model.n_texts++) {
        memcpy(c.model.bytes + c.model.n_bytes, "x", 2);
        c.model.n_bytes += 2;
    }
    assert_int_equal(t5_config_models(&c, &list, &err), T5_ERR_ARG);
    for (size_t i = 0; i < T5_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s/config.json", top, names[i]);
        unlink(path);
        snprintf(path, sizeof path, "%s/%s", top, names[i]);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(rmdir(top), 0);
}

/* Claim: a mistake names the key, its origin and what is allowed. Method: a table of mistakes and of what the text must
 * contain. */
static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        sources from;
        t5_status status;
        const char *parts[3];
    } cases[] = {
        {{NULL, {NULL}, {"--prot", "1"}}, T5_ERR_ARG, {"--prot", "did you mean port?"}},
        {{NULL, {NULL}, {"--max-running-row", "1"}},
         T5_ERR_ARG,
         {"--max-running-row", "did you mean max_running_rows?"}},
        {{NULL, {NULL}, {"--zzzzzzzzzz", "1"}}, T5_ERR_ARG, {"unknown flag --zzzzzzzzzz"}},
        {{NULL, {NULL}, {"--port"}}, T5_ERR_ARG, {"--port", "needs a value"}},
        {{NULL, {NULL}, {"--port", "65536"}}, T5_ERR_ARG, {"port", "flag --port", "0 to 65535"}},
        {{NULL, {NULL}, {"--threads", "257"}}, T5_ERR_ARG, {"flag --threads", "0 to 256"}},
        {{NULL, {NULL}, {"--max-running-rows", "31"}},
         T5_ERR_ARG,
         {"max_running_rows (flag --max-running-rows)", "32 to 4096, or 0"}},
        {{NULL, {NULL}, {"--max-running-rows", "x"}}, T5_ERR_ARG, {"flag --max-running-rows", "32 to 4096, or 0"}},
        {{NULL, {NULL}, {"--port", "99999999999999999999"}}, T5_ERR_ARG, {"flag --port", "0 to 65535"}},
        {{NULL, {NULL}, {"--port="}}, T5_ERR_ARG, {"flag --port", "whole number"}},
        {{NULL, {NULL}, {"--port=5 "}}, T5_ERR_ARG, {"flag --port", "whole number"}},
        {{NULL, {NULL}, {"--kv-memory", "1T"}},
         T5_ERR_ARG,
         {"kv_memory (flag --kv-memory)", "'1T'", "1048576, 1024K or 1M"}},
        {{NULL, {NULL}, {"--kv-memory", "1MB"}}, T5_ERR_ARG, {"number of bytes"}},
        {{NULL, {NULL}, {"--kv-memory", "M"}}, T5_ERR_ARG, {"number of bytes"}},
        {{NULL, {NULL}, {"--kv-memory", "-1K"}}, T5_ERR_ARG, {"number of bytes"}},
        {{NULL, {NULL}, {"--kv-memory="}}, T5_ERR_ARG, {"number of bytes"}},
        {{NULL, {NULL}, {"--kv-memory", "9007199254740993K"}}, T5_ERR_ARG, {"number of bytes"}},
        {{NULL, {NULL}, {"--kv-memory", "2000G"}}, T5_ERR_ARG, {"2147483648000 is not within 0 to 1099511627776"}},
        {{"{\"kv_memory\": \"1q\"}", {NULL}, {NULL}}, T5_ERR_ARG, {"kv_memory (file", "number of bytes"}},
        {{"{\"kv_memory\": true}", {NULL}, {NULL}}, T5_ERR_ARG, {"whole number or a string such as \"512M\""}},
        {{"{\"model\": [\"a\", 1]}", {NULL}, {NULL}}, T5_ERR_ARG, {"model (file", "an array of strings"}},
        {{NULL, {NULL}, {"--model", "a\nb"}}, T5_ERR_ARG, {"model (flag --model)", "control character"}},
        {{NULL, {NULL}, {"model"}}, T5_ERR_ARG, {"unexpected argument 'model'"}},
        {{NULL, {NULL}, {"--metrics=maybe"}}, T5_ERR_ARG, {"metrics", "true nor false"}},
        {{NULL, {NULL}, {"--access-log", "false"}}, T5_ERR_ARG, {"unexpected argument 'false'", "--access-log=false"}},
        {{NULL, {NULL}, {"--cors-origin=a\r\nb"}}, T5_ERR_ARG, {"cors_origin", "control character"}},
        {{NULL, {"T5_LOG_LEVEL=loud"}, {NULL}}, T5_ERR_ARG, {"environment T5_LOG_LEVEL", "error|warn|info|debug"}},
        {{NULL, {"LT_PORT=tcp://10.0.0.1"}, {NULL}}, T5_ERR_ARG, {"environment LT_PORT", "whole number"}},
        {{NULL, {"LT_API_KEYS=true"}, {NULL}}, T5_ERR_ARG, {"LT_API_KEYS", "t5serve keys add", "T5_API_KEYS"}},
        {{"{\"prt\": 1}", {NULL}, {NULL}}, T5_ERR_ARG, {"unknown key 'prt'", "/tmp/t5-config", "did you mean port?"}},
        {{"{\"max-running-rows\": 1}", {NULL}, {NULL}},
         T5_ERR_ARG,
         {"unknown key 'max-running-rows'", "max_running_rows"}},
        {{"{\"port\": \"1\"}", {NULL}, {NULL}}, T5_ERR_ARG, {"port", "file /tmp/", "must be a whole number"}},
        {{"{\"port\": 1.0}", {NULL}, {NULL}}, T5_ERR_ARG, {"must be a whole number"}},
        {{"{\"host\": null}", {NULL}, {NULL}}, T5_ERR_ARG, {"host", "must be a string"}},
        {{"{\"metrics\": 1}", {NULL}, {NULL}}, T5_ERR_ARG, {"metrics", "true or false"}},
        {{"{\"port\": 1, \"port\": 2}", {NULL}, {NULL}}, T5_ERR_FORMAT, {"/tmp/t5-config", "duplicate"}},
        {{"{\"port\": 1", {NULL}, {NULL}}, T5_ERR_FORMAT, {"line 1"}},
        {{"[]", {NULL}, {NULL}}, T5_ERR_FORMAT, {"must be a JSON object"}},
        {{NULL, {"T5_CONFIG=/nonexistent.json"}, {NULL}}, T5_ERR_IO, {"/nonexistent.json", "No such file"}},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_config c;
        t5_config_action action;
        t5_error err;
        assert_int_equal(load(&cases[i].from, &c, &action, &err), cases[i].status);
        for (size_t k = 0; k < T5_COUNT(cases[i].parts) && cases[i].parts[k] != NULL; k++)
            if (strstr(err.text, cases[i].parts[k]) == NULL)
                fail_msg("'%s' does not say '%s'", err.text, cases[i].parts[k]);
    }
}

/* Claim: an unknown T5_ variable warns and does not stop the start. Method: what Kubernetes adds, and a typing error.
 */
static void unknown_variables_warn(void **state)
{
    (void)state;
    t5_config c;
    t5_config_action action;
    t5_error err;
    const sources s = {NULL, {"T5_MAX_RUNNING_ROW=1"}, {NULL}};
    assert_int_equal(load(&s, &c, &action, &err), T5_OK);
    assert_string_equal(c.warning, "environment T5_MAX_RUNNING_ROW: no such setting, did you mean max_running_rows?");
    const sources plugin = {NULL, {"T5_CUDA_DETERMINISTIC=1"}, {NULL}}; /* the GPU plug-in's, no setting */
    assert_int_equal(load(&plugin, &c, &action, &err), T5_OK);
    assert_string_equal(c.warning, "");
}

/* Claim: what --print-config prints is a configuration file with the same values. Method: print, load, print again. */
static void printed_settings_load_again(void **state)
{
    (void)state;
    t5_config first, second;
    t5_config_action action;
    t5_error err;
    char *text = NULL, *again = NULL;
    size_t n_bytes = 0;
    const sources s = {NULL, {"T5_MODEL=/m\xc3\xb6"}, {"--port", "81", "--metrics"}};
    assert_int_equal(load(&s, &first, &action, &err), T5_OK);
    FILE *file = open_memstream(&text, &n_bytes);
    assert_int_equal(t5_config_print(&first, file, &err), T5_OK);
    fclose(file);
    assert_non_null(strstr(text, "\"port\": 81"));
    assert_non_null(strstr(text, "\"port\": \"flag --port\""));

    const sources printed = {text, {NULL}, {NULL}};
    assert_int_equal(load(&printed, &second, &action, &err), T5_OK);
    memcpy(second.origins, first.origins, sizeof second.origins);
    file = open_memstream(&again, &n_bytes);
    assert_int_equal(t5_config_print(&second, file, &err), T5_OK);
    fclose(file);
    assert_string_equal(text, again);
    free(text);
    free(again);
}

/* Claim: --help wins over any mistake and names each key as a flag. Method: look for a flag of each type. */
static void help_names_every_key(void **state)
{
    (void)state;
    t5_config c;
    t5_config_action action;
    t5_error err;
    char *text = NULL;
    size_t n_bytes = 0;
    const sources s = {NULL, {NULL}, {"--prot", "1", "--help"}};
    assert_int_equal(load(&s, &c, &action, &err), T5_OK);
    assert_int_equal(action, T5_CONFIG_HELP);
    FILE *file = open_memstream(&text, &n_bytes);
    t5_config_print_help(file);
    fclose(file);
    assert_non_null(strstr(text, "--http-threads N"));
    assert_non_null(strstr(text, "--host TEXT"));
    assert_non_null(strstr(text, "--metrics"));
    free(text);
}

/* Claim: the example file is valid. Method: load it as it lies in the tree. */
static void example_file_loads(void **state)
{
    (void)state;
    t5_config c;
    t5_config_action action;
    t5_error err;
    char *argv[] = {(char *)(size_t) "t5serve", (char *)(size_t) "--config",
                    (char *)(size_t)T5_SOURCE_DIR "/config/t5serve.example.json", NULL};
    char *env[] = {NULL};
    t5_error_clear(&err);
    assert_int_equal(t5_config_load(3, argv, env, &c, &action, &err), T5_OK);
    assert_true(c.metrics);
}

/* Claim: the bundled model is found from a build tree. Method: it is a folder with a config.json. */
static void bundled_model_is_found(void **state)
{
    (void)state;
    char dir[4096], path[4200];
    t5_error err;
    t5_error_clear(&err);
    assert_int_equal(t5_config_bundled_model(dir, sizeof dir, &err), T5_OK);
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(t5_config_bundled_model(dir, 8, &err), T5_ERR_IO); /* a short buffer is no crash */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_and_marks),        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(every_type_is_read),     cmocka_unit_test(bytes_have_units),
        cmocka_unit_test(mistakes_are_named),     cmocka_unit_test(libretranslate_variables),
        cmocka_unit_test(unknown_variables_warn), cmocka_unit_test(printed_settings_load_again),
        cmocka_unit_test(help_names_every_key),   cmocka_unit_test(example_file_loads),
        cmocka_unit_test(lists_are_read),         cmocka_unit_test(models_are_found),
        cmocka_unit_test(bundled_model_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
