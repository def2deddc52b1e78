/* tests/test_server_fields.c: every way to send fields ends in the same JSON object; what cannot be read is refused. */
#include "server/fields.h"
#include "server/guard.h"
#include "server/head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Claim: the kind follows the media type alone. Method: case, parameters, look-alikes. */
static void content_type_is_recognized(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        t5_content_kind kind;
    } cases[] = {
        {NULL, T5_CONTENT_OTHER},
        {"", T5_CONTENT_OTHER},
        {"application/json", T5_CONTENT_JSON},
        {" Application/JSON ;charset=utf-8", T5_CONTENT_JSON},
        {"application/ld+json; x=y", T5_CONTENT_JSON},
        {"application/jsonp", T5_CONTENT_OTHER},
        {"text/x+json", T5_CONTENT_OTHER},
        {"+json", T5_CONTENT_OTHER},
        {"application/x-www-form-urlencoded", T5_CONTENT_FORM},
        {"application/x-www-form-urlencoded; charset=UTF-8", T5_CONTENT_FORM},
        {"multipart/form-data; boundary=x", T5_CONTENT_MULTIPART},
        {"text/plain", T5_CONTENT_OTHER},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++)
        assert_int_equal(t5_content_kind_of(cases[i].header), cases[i].kind);
}

/* Claim: a form decodes as browsers and Python do it, the first of equal names wins. Method: compare the JSON. */
static void forms_decode(void **state)
{
    (void)state;
    static const struct {
        const char *body, *json;
    } cases[] = {
        {"", "{}"},
        {"&&", "{}"},
        {"q", "{\"q\":\"\"}"},
        {"q=", "{\"q\":\"\"}"},
        {"=x", "{\"\":\"x\"}"},
        {"q=a=b", "{\"q\":\"a=b\"}"},
        {"q=a+b&r=%2B%2b", "{\"q\":\"a b\",\"r\":\"++\"}"},
        {"q=%C3%A4%", "{\"q\":\"\303\244%\"}"},
        {"q=%4&r=%zz", "{\"q\":\"%4\",\"r\":\"%zz\"}"},
        {"q%20r=1", "{\"q r\":\"1\"}"},
        {"q=1&q=2&r=3", "{\"q\":\"1\",\"r\":\"3\"}"},
        {"q=%0d%0a", "{\"q\":\"\\r\\n\"}"},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_error err = {0};
        json_t *fields = json_object();
        assert_int_equal(t5_fields_add_form(fields, cases[i].body, strlen(cases[i].body), &err), T5_OK);
        char *json = json_dumps(fields, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(json, cases[i].json);
        free(json);
        json_decref(fields);
    }
}

/* Claim: a form is refused for NUL, invalid UTF-8 and too many fields. Method: one of each, in name and value. */
static void bad_forms_are_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {"q=%00", "%00=q", "q=%ff", "%c3=q", "q=%ed%a0%80", "q=\xff"};
    for (size_t i = 0; i < T5_COUNT(bodies); i++) {
        t5_error err = {0};
        json_t *fields = json_object();
        assert_int_equal(t5_fields_add_form(fields, bodies[i], strlen(bodies[i]), &err), T5_ERR_ARG);
        json_decref(fields);
    }

    t5_error err = {0};
    json_t *fields = json_object();
    t5_status status = T5_OK;
    for (int i = 0; i <= T5_FORM_FIELDS_MAX && status == T5_OK; i++) {
        char name[16];
        int n = snprintf(name, sizeof name, "k%d", i);
        status = t5_fields_add(fields, name, (size_t)n, "", 0, &err);
    }
    assert_int_equal(status, T5_ERR_ARG);
    assert_int_equal(json_object_size(fields), T5_FORM_FIELDS_MAX);
    json_decref(fields);
}

static t5_status from_json(const char *body, t5_error *err)
{
    json_t *fields = NULL;
    t5_error_clear(err);
    t5_status status = t5_fields_from_json(body, strlen(body), &fields, err);
    json_decref(fields);
    return status;
}

/* Claim: JSON is an object of bounded size, and the bound does not count characters in strings. Method: texts on both
 * sides of each border. */
static void json_is_bounded(void **state)
{
    (void)state;
    t5_error err = {0};
    assert_int_equal(from_json("{\"q\": \"a\\\\\\\",,,\"}", &err), T5_OK);
    assert_int_equal(from_json("", &err), T5_ERR_ARG);
    assert_string_equal(err.text, T5_TEXT_BAD_REQUEST);
    assert_int_equal(from_json("[]", &err), T5_ERR_ARG);
    assert_string_equal(err.text, "Invalid JSON format");
    assert_int_equal(from_json("{\"a\":1,\"a\":2}", &err), T5_ERR_ARG);

    for (int extra = 0; extra <= 1; extra++) {
        char *body = malloc(2 * T5_JSON_VALUES_MAX + 64);
        char *end = stpcpy(body, "{\"q\":[1"); /* three values so far: the root, the list, its first */
        for (int i = 3; i < T5_JSON_VALUES_MAX + extra; i++)
            end = stpcpy(end, ",1");
        stpcpy(end, "]}");
        assert_int_equal(from_json(body, &err), extra == 0 ? T5_OK : T5_ERR_ARG);
        free(body);
    }
}

static bool accepts(const t5_header *headers, size_t n_headers)
{
    t5_guard g = {0};
    for (size_t i = 0; i < n_headers; i++)
        t5_guard_add(&g, &headers[i]);
    return t5_guard_accepts(&g);
}

#define HEADER(name, value) \
    { \
        (name), (value), sizeof(name) - 1, sizeof(value) - 1 \
    }

/* Claim: a head that a proxy may read differently is refused, an ordinary one passes. Method: a table of heads. */
static void guard_refuses_ambiguous_heads(void **state)
{
    (void)state;
    static const struct {
        bool is_fine;
        t5_header headers[2];
        size_t n_headers;
    } cases[] = {
        {true, {HEADER("Host", "a"), HEADER("Content-Length", "5")}, 2},
        {true, {HEADER("host", "a"), HEADER("transfer-encoding", "Chunked")}, 2},
        {true, {HEADER("X-Tab", "a\tb"), HEADER("X-Latin", "\xe4")}, 2},
        {true, {HEADER("X", "")}, 1},
        {false, {HEADER("Content-Length", "5"), HEADER("Transfer-Encoding", "chunked")}, 2},
        {false, {HEADER("Content-Length", "5"), HEADER("content-length", "5")}, 2},
        {false, {HEADER("Transfer-Encoding", "chunked"), HEADER("Transfer-Encoding", "chunked")}, 2},
        {false, {HEADER("Host", "a"), HEADER("HOST", "a")}, 2},
        {false, {HEADER("Transfer-Encoding", "gzip, chunked")}, 1},
        {false, {HEADER("Transfer-Encoding", "xchunked")}, 1},
        {false, {HEADER("Content-Length ", "5")}, 1},
        {false, {HEADER("Content-Length", "3\0005")}, 1},
        {false, {HEADER("Content-Length", "+3")}, 1},
        {false, {HEADER("Content-Length", "")}, 1},
        {false, {HEADER("X\0", "a")}, 1},
        {false, {HEADER("", "a")}, 1},
        {false, {HEADER("X", "a\0b")}, 1},
        {false, {HEADER("X", "a\nb")}, 1},
    };
    for (size_t i = 0; i < T5_COUNT(cases); i++)
        if (accepts(cases[i].headers, cases[i].n_headers) != cases[i].is_fine)
            fail_msg("case %zu: %s: %s", i, cases[i].headers[0].name, cases[i].headers[0].value);
}

/* Claim: a folder in front of all paths may be written with or without slashes; what could be read as something else is
 * refused by the setting's name. */
static void prefixes_are_folders(void **state)
{
    static const char *const same[][2] = {
        {"", ""}, {"/", ""}, {"tr", "/tr"}, {"/tr/", "/tr"}, {"//a/b-1.x_~//", "/a/b-1.x_~"}};
    static const char *const wrong[] = {"a b",  "a?b",     "/a#", "http://x", "a%2f", "\xc3\xa4",
                                        "a\\b", "/a/../b", "..",  "a/.",      "a//b", "."};
    char out[T5_PATH_PREFIX_MAX + 1], longest[T5_PATH_PREFIX_MAX + 2];
    t5_error err = {0};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(same); i++) {
        assert_int_equal(t5_head_prefix(same[i][0], out, &err), T5_OK);
        assert_string_equal(out, same[i][1]);
    }
    for (size_t i = 0; i < T5_COUNT(wrong); i++) {
        t5_error_clear(&err);
        assert_int_equal(t5_head_prefix(wrong[i], out, &err), T5_ERR_ARG);
        assert_memory_equal(err.text, "url_prefix:", 11);
    }
    memset(longest, 'a', sizeof longest);
    longest[T5_PATH_PREFIX_MAX] = '\0';
    assert_int_equal(t5_head_prefix(longest, out, &err), T5_ERR_ARG);
    longest[T5_PATH_PREFIX_MAX - 1] = '\0';
    t5_error_clear(&err);
    assert_int_equal(t5_head_prefix(longest, out, &err), T5_OK);
    assert_int_equal(strlen(out), T5_PATH_PREFIX_MAX);
}

/* Claim: what a browser could never send as its origin is refused by the setting's name, and all that it can send is
 * taken. */
static void origins_are_those_of_browsers(void **state)
{
    static const char *const fine[] = {
        "", "*", "null", "https://example.org", "http://localhost:3000", "http://[::1]:80", "moz-extension://0a-1b"};
    static const char *const wrong[] = {"https://example.org/",
                                        "https://example.org/app",
                                        "example.org",
                                        "https://Example.org",
                                        "https://",
                                        "://example.org",
                                        "https://a, https://b",
                                        "*,https://a",
                                        "https://*.example.org",
                                        "https:example.org",
                                        " *",
                                        "https://u@example.org"};
    t5_error err = {0};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(fine); i++)
        assert_int_equal(t5_head_origin(fine[i], &err), T5_OK);
    for (size_t i = 0; i < T5_COUNT(wrong); i++) {
        t5_error_clear(&err);
        assert_int_equal(t5_head_origin(wrong[i], &err), T5_ERR_ARG);
        assert_memory_equal(err.text, "cors_origin:", 12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_type_is_recognized),    cmocka_unit_test(forms_decode),
        cmocka_unit_test(bad_forms_are_refused),         cmocka_unit_test(json_is_bounded),
        cmocka_unit_test(guard_refuses_ambiguous_heads), cmocka_unit_test(prefixes_are_folders),
        cmocka_unit_test(origins_are_those_of_browsers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
