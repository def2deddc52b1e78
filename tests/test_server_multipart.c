/* tests/test_server_multipart.c: multipart forms as clients write them, and everything that is none. */
#include "server/fields.h"
#include "server/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TYPE "multipart/form-data; boundary="
#define DISPOSITION "Content-Disposition: form-data; name="
#define N_MUTANTS 20000

/* The fields of a body as JSON, which the caller frees; NULL when it is refused. The body is a copy of its own length,
 * so that a sanitizer sees a read beside it. */
static char *read_form(const char *type, const char *body, size_t n_bytes, t5_error *err)
{
    json_t *fields = json_object();
    char *copy = malloc(n_bytes > 0 ? n_bytes : 1), *json = NULL;
    assert_non_null(copy);
    memcpy(copy, body, n_bytes);
    t5_error_clear(err);
    t5_status status = t5_fields_add_multipart(fields, type, copy, n_bytes, err);
    assert_int_equal(status, err->status);
    if (status == T5_OK) json = json_dumps(fields, JSON_COMPACT | JSON_SORT_KEYS);
    free(copy);
    json_decref(fields);
    return json;
}

/* Claim: what clients send is read: curl and browsers, .NET (no quotation marks, the head's lines in another order),
 * Apache's HttpClient (parameters behind the boundary), files, and the freedoms of RFC 2046. */
static void forms_of_clients(void **state)
{
    static const struct {
        const char *type, *body, *json;
    } cases[] = {
        {TYPE "----x1", "------x1\r\n" DISPOSITION "\"q\"\r\n\r\nHello\r\n------x1--\r\n", "{\"q\":\"Hello\"}"},
        {TYPE "\"a-b c\"",
         "--a-b c\r\nContent-Type: text/plain; charset=utf-8\r\n" DISPOSITION "q\r\n\r\nHi\r\n--a-b c--\r\n",
         "{\"q\":\"Hi\"}"},
        {TYPE "x1; charset=UTF-8",
         "--x1\r\n" DISPOSITION
         "\"q\"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
         "\xc3\xa4\r\n--x1--",
         "{\"q\":\"\xc3\xa4\"}"},
        {"Multipart/Form-Data;Boundary=\"x1\" ; a=b", "--x1\r\ncontent-disposition:FORM-DATA;NAME=q\r\n\r\n1\r\n--x1--",
         "{\"q\":\"1\"}"},
        {TYPE "x1",
         "--x1\r\nContent-Disposition: form-data; filename=\"name=z; a\\\"b.txt\"; name=\"file\"\r\n\r\n1\r\n--x1--",
         "{\"file\":\"1\"}"},
        {TYPE "b", "before\r\n--b \t\r\n" DISPOSITION "q\r\n\r\n1\r\n--b--\r\nbehind\r\n--b\r\n", "{\"q\":\"1\"}"},
        {TYPE "b", "--b\r\n" DISPOSITION "q\r\n\r\n\r\n--b\r\n" DISPOSITION "r\r\n\r\n--b--",
         "{\"q\":\"\",\"r\":\"\"}"},
        {TYPE "b", "--b\r\n" DISPOSITION "q\r\n\r\na\r\n--bb\r\n--\r\n --b\n--b--x\r\n\r\n--b--",
         "{\"q\":\"a\\r\\n--bb\\r\\n--\\r\\n --b\\n--b--x\\r\\n\"}"},
        {TYPE "b", "--b\r\n" DISPOSITION "q\r\n\r\n1\r\n--b\r\n" DISPOSITION "q\r\n\r\n2\r\n--b--", "{\"q\":\"1\"}"},
        {TYPE "b", "--b\r\n" DISPOSITION "\"\"\r\n\r\n1\r\n--b--", "{\"\":\"1\"}"},
        {TYPE "b", "--b--", "{}"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_error err = {0};
        char *json = read_form(cases[i].type, cases[i].body, strlen(cases[i].body), &err);
        if (json == NULL) fail_msg("case %zu: %s", i, err.text);
        assert_string_equal(json, cases[i].json);
        free(json);
    }
}

/* Claim: what is no form is refused, and so is what no field may hold. */
static void broken_forms_are_refused(void **state)
{
    static const struct {
        const char *type, *body, *text;
    } cases[] = {
        {"multipart/form-data", "--b--", T5_TEXT_BAD_REQUEST},
        {TYPE, "----", T5_TEXT_BAD_REQUEST},
        {TYPE "\"\"", "----", T5_TEXT_BAD_REQUEST},
        {"multipart/form-data; x=\"; boundary=b\"", "--b--", T5_TEXT_BAD_REQUEST},
        {TYPE "12345678901234567890123456789012345678901234567890123456789012345678901",
         "--12345678901234567890123456789012345678901234567890123456789012345678901--", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--b", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--c--", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "x--b--", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--b\r\n" DISPOSITION "q\r\n\r\nHello", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--b\r\n" DISPOSITION "q\r\n\r\nHello\r\n--b\r\n", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--b\r\n" DISPOSITION "q\n\nHello\n--b--", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--b\r\n" DISPOSITION "q", T5_TEXT_BAD_REQUEST},
        {TYPE "b", "--b\r\n\r\nHello\r\n--b--", "Invalid request: a form field has no name"},
        {TYPE "b", "--b\r\nContent-Disposition: form-data; filename=q\r\n\r\nHello\r\n--b--",
         "Invalid request: a form field has no name"},
        {TYPE "b", "--b\r\n" DISPOSITION "q\r\n\r\n\xff\r\n--b--", "Invalid request: a form field is not valid UTF-8"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_error err = {0};
        char *json = read_form(cases[i].type, cases[i].body, strlen(cases[i].body), &err);
        if (json != NULL) fail_msg("case %zu: %s", i, json);
        assert_int_equal(err.status, T5_ERR_ARG);
        assert_string_equal(err.text, cases[i].text);
    }
    static const char nul[] = "--b\r\n" DISPOSITION "q\r\n\r\na\0b\r\n--b--";
    t5_error err = {0};
    assert_null(read_form(TYPE "b", nul, sizeof nul - 1, &err));
    assert_string_equal(err.text, "Invalid request: a form field has a NUL byte");
}

/* Claim: no body is read beside its bytes, and each is a form or refused with a text. Method: some bytes of a form
 * changed, doubled or cut off, with a header that is changed too; sanitizers watch. */
static void mutants(void **state)
{
    static const char form[] =
        "--b\r\n" DISPOSITION "\"q\"; filename=\"a;b\"\r\n\r\nHello\r\n--b\r\nX: y\r\n" DISPOSITION
        "source\r\n\r\nen\r\n--b--\r\n";
    static const char type[] = TYPE "\"b\"; charset=utf-8";
    static const char bytes[] = "\r\n-b\"\\;= :q\xff";
    unsigned random = 1;
    int n_read = 0;
    (void)state;
    for (int i = 0; i < N_MUTANTS; i++) {
        char body[sizeof form], header[sizeof type];
        t5_error err = {0};
        memcpy(body, form, sizeof form);
        memcpy(header, type, sizeof type);
        random = random * 1664525u + 1013904223u;
        const size_t n_bytes = i % 3 == 0 ? random % sizeof form : sizeof form - 1;
        for (int j = 0; j <= i % 4; j++) {
            random = random * 1664525u + 1013904223u;
            body[(random >> 16) % (sizeof form - 1)] = bytes[(random >> 8) % (sizeof bytes - 1)];
        }
        if (i % 5 == 0) header[19 + (random >> 16) % (sizeof type - 20)] = bytes[(random >> 8) % (sizeof bytes - 1)];
        char *json = read_form(header, body, n_bytes, &err);
        assert_true(json != NULL || (err.status == T5_ERR_ARG && err.text[0] != '\0'));
        n_read += json != NULL;
        free(json);
    }
    assert_in_range(n_read, N_MUTANTS / 10, N_MUTANTS * 9 / 10); /* both happen */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_clients),
        cmocka_unit_test(broken_forms_are_refused),
        cmocka_unit_test(mutants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
