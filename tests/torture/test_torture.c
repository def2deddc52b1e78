/* tests/torture/test_torture.c: memory and system calls fail, one at a time, in t5serve with a small model: while it
 * starts, during requests of every kind, and while it stops. */
#include "failing.h"
#include "served.h"

#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Small, so that thousands of runs are quick; greedy and short unless a request says otherwise. */
static const char *const flags[] = {"--config=" T5_SOURCE_DIR "/config/t5serve.example.json",
                                    "--port=0",
                                    "--model=" T5_SOURCE_DIR "/tests/fixtures/madlad",
                                    "--device=cpu",
                                    "--threads=1",
                                    "--max-running-rows=32",
                                    "--max-source-tokens=32",
                                    "--max-new-tokens=8",
                                    "--max-request-bytes=20000",
                                    "--metrics"};

#define CALLS_MAX 400 /* more than any request makes */
#define START_CALLS_MAX 2000

#define JSON_HEAD "POST /translate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
#define GENERATE_HEAD "POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
#define COMPLETION_HEAD \
    "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
#define FORM_HEAD \
    "POST /translate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n"
#define PARTS_HEAD \
    "POST /translate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: multipart/form-data; " \
    "boundary=Bound1\r\n"
#define GET_HEAD "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#define PART(name, value) "--Bound1\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define EN_DE ",\"source\":\"en\",\"target\":\"de\"}"

/* Requests; one with a body gets its Content-Length. */
static const struct {
    const char *name;
    int status;
    const char *head, *body;
    bool varies;            /* the body is not the same each time */
    const char *last_event; /* of a stream, whose pieces may come apart differently each time */
} kinds[] = {
    {"translate", 200, JSON_HEAD, "{\"q\":\"Nobody understands you.\"" EN_DE, false, NULL},
    {"auto", 200, JSON_HEAD, "{\"q\":\"Nobody understands you.\",\"source\":\"auto\",\"target\":\"de\"}", false, NULL},
    {"batch", 200, JSON_HEAD, "{\"q\":[\"Hello, world! Good night.\",\"\",\"Hello\",\"Hello\"]" EN_DE, false, NULL},
    {"alternatives", 200, JSON_HEAD, "{\"q\":\"Hello.\",\"alternatives\":2,\"num_beams\":4" EN_DE, false, NULL},
    {"sampling", 200, JSON_HEAD, "{\"q\":\"Hello.\",\"do_sample\":true,\"num_beams\":1,\"seed\":7" EN_DE, false, NULL},
    {"stream", 200, JSON_HEAD, "{\"q\":\"Nobody understands you.\",\"stream\":true,\"num_beams\":1" EN_DE, true,
     "\"translatedText\":\"Niemand verste\",\"usage\":{\"source_tokens\":12,\"target_tokens\":8}}\n\n"},
    {"stream of a batch", 200, JSON_HEAD, "{\"q\":[\"Hello, world! Good night.\",\"Hello\"],\"stream\":true" EN_DE,
     true, "\"finish_reason\""},
    {"generate", 200, GENERATE_HEAD,
     "{\"input\":[\"<2de> Hello.\",\"Hello\"],\"num_beams\":2,\"max_new_tokens\":4,"
     "\"num_return_sequences\":2,\"token_logprobs\":true,\"prefix\":\"Nie\"}",
     false, NULL},
    {"generate, stream", 200, GENERATE_HEAD, "{\"input\":\"<2de> Hello.\",\"stream\":true,\"max_new_tokens\":6}", true,
     "\"finish_reasons\":[\""},
    {"generate, refused", 400, GENERATE_HEAD, "{\"input\":7}", false, NULL},
    {"completion that stops", 200, COMPLETION_HEAD, "{\"prompt\":\"<2de> Hello.\",\"stop\":[\"never\",\"e\"]}", true,
     NULL},
    {"form", 200, FORM_HEAD, "q=Hello+you%21&source=en&target=de&num_beams=2", false, NULL},
    {"multipart", 200, PARTS_HEAD, PART("q", "Hello") PART("source", "en") PART("target", "de") "--Bound1--\r\n", false,
     NULL},
    {"query", 200, "POST /translate?q=Hello&source=en&target=de " GET_HEAD, "", false, NULL},
    {"bad JSON", 400, JSON_HEAD, "{\"q\":[\"Hello\"", false, NULL},
    {"bad language", 400, JSON_HEAD, "{\"q\":\"Hello\",\"source\":\"en\",\"target\":\"xx\"}", false, NULL},
    {"refused by the engine", 400, JSON_HEAD, "{\"q\":\"Hello\",\"max_new_tokens\":9" EN_DE, false, NULL},
    {"html", 200, JSON_HEAD, "{\"q\":\"<b>Hello</b>\",\"format\":\"html\"" EN_DE, false, NULL},
    {"too large", 413, "POST /translate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 20001\r\n\r\n", "",
     false, NULL},
    {"ambiguous", 400, "GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n", "", false, NULL},
    {"not found", 404, "GET /nothing " GET_HEAD, "", false, NULL},
    {"wrong method", 405, "GET /translate " GET_HEAD, "", false, NULL},
    {"options", 200, "OPTIONS /translate " GET_HEAD, "", false, NULL},
    {"languages", 200, "GET /languages " GET_HEAD, "", false, NULL},
    {"detect", 200, "POST /detect?q=Nobody+understands+you. " GET_HEAD, "", false, NULL},
    {"DeepL", 200, "POST /v2/translate?text=Hello&target_lang=DE " GET_HEAD, "", false, NULL},
    {"page", 200, "GET / " GET_HEAD, "", false, NULL},
    {"spec", 200, "GET /spec " GET_HEAD, "", false, NULL},
    {"health", 200, "GET /health " GET_HEAD, "", false, NULL},
    {"metrics", 200, "GET /metrics " GET_HEAD, "", true, NULL},
};

static void ask(served *s, size_t i_kind, reply *out)
{
    char request[4096];
    const char *body = kinds[i_kind].body;
    int n = 0;
    if (body[0] == '\0')
        n = snprintf(request, sizeof request, "%s", kinds[i_kind].head);
    else
        n = snprintf(request, sizeof request, "%sContent-Length: %zu\r\n\r\n%s", kinds[i_kind].head, strlen(body),
                     body);
    assert_true(n > 0 && (size_t)n < sizeof request);
    served_ask(s, request, (size_t)n, out);
}

/* A failure that the reply tells. */
static bool is_refused(size_t i_kind, const reply *r)
{
    const bool is_broken_off =
        kinds[i_kind].last_event != NULL && r->status == 200 && strstr(r->body, "event: error\n");
    return r->status == 0 || r->status == 500 || r->status == 503 || is_broken_off;
}

static int n_head_lines(const reply *r)
{
    int n = 0;
    for (const char *p = r->raw; p < r->body; p++)
        n += *p == '\n';
    return n;
}

/* Without CLD2 the words alone tell a text's language, less surely. */
static bool is_same(fail_kind kind, size_t i_kind, const reply *a, const reply *b)
{
    if (n_head_lines(a) != n_head_lines(b)) return false;
    const char *last_event = kinds[i_kind].last_event;
    if (last_event != NULL) return strstr(a->body, last_event) != NULL && strstr(b->body, last_event) != NULL;
    if (kinds[i_kind].varies || kind == FAIL_CPP_MEMORY) return true;
    return a->n_body == b->n_body && memcmp(a->body, b->body, a->n_body) == 0;
}

/* One kind of request, with the first, second, ... call of `kind` failing until all succeed. Returns how many failed.
 */
static int torture_request(served *s, fail_kind kind, size_t i_kind)
{
    reply expected, got;
    ask(s, i_kind, &expected);
    if (expected.status != kinds[i_kind].status) fail_msg("%s: %s", kinds[i_kind].name, expected.raw);
    int n = 0;
    for (bool was_reached = true; was_reached && n < CALLS_MAX; n++) {
        failing_order(kind, n);
        ask(s, i_kind, &got);
        was_reached = failing_end();
        const bool is_right = got.status == expected.status && is_same(kind, i_kind, &got, &expected);
        if (!is_right && (!is_refused(i_kind, &got) || !was_reached))
            fail_msg("%s, %s fails at call %d: %s\n", kinds[i_kind].name, failing_name(kind), n, got.raw);
        reply_free(&got);
    }
    ask(s, i_kind, &got); /* nothing of it stays */
    if (got.status != expected.status || !is_same(kind, i_kind, &got, &expected))
        fail_msg("%s, after %s failed: %s", kinds[i_kind].name, failing_name(kind), got.raw);
    reply_free(&got);
    reply_free(&expected);
    return n - 1;
}

/* Every kind of request; the server must go on, and end as usual. */
static int torture_requests(fail_kind kind)
{
    served s;
    int n_failed = 0;
    served_start(&s, flags, T5_COUNT(flags));
    if (s.port == 0) fail_msg("it does not start:\n%s", served_log(&s));
    for (size_t i = 0; i < T5_COUNT(kinds); i++)
        n_failed += torture_request(&s, kind, i);
    served_stop(&s);
    served_expect_exit(&s, 0, "requests");
    served_close(&s);
    printf("%s: %d failures in %zu kinds of requests\n", failing_name(kind), n_failed, T5_COUNT(kinds));
    return n_failed;
}

/* A start of the server with the n-th call of `kind` failing: it serves, or ends with one line that says why. False
 * when the call was not reached. */
static bool torture_start(fail_kind kind, int n)
{
    served s;
    char what[80];
    snprintf(what, sizeof what, "start, %s fails at call %d", failing_name(kind), n);
    failing_order(kind, n);
    served_start(&s, flags, T5_COUNT(flags));
    const bool was_reached = failing_end();
    if (s.port != 0) {
        reply got;
        ask(&s, 0, &got);
        if (got.status != 200) fail_msg("%s: %s", what, got.raw);
        reply_free(&got);
        served_stop(&s);
        served_expect_exit(&s, 0, what);
    } else {
        const char *says = strstr(served_log(&s), "t5serve: ");
        if (says == NULL || strchr(says, '\n') == NULL || strchr(says, '\n')[1] != '\0')
            fail_msg("%s: %s", what, served_log(&s));
        served_expect_exit(&s, WEXITSTATUS(s.exit_status) == 2 ? 2 : 1, what);
        assert_true(was_reached);
    }
    served_close(&s);
    return was_reached;
}

static int torture_starts(fail_kind kind)
{
    int n = 0;
    while (n < START_CALLS_MAX && torture_start(kind, n))
        n++;
    assert_true(n < START_CALLS_MAX);
    return n;
}

/* Claim: what fails while the server starts is told in one line and ends it with exit code 1 or 2, or does not matter.
 * Method: each allocation, then each system call, of a start from a configuration file and flags. */
static void failures_at_start(void **state)
{
    (void)state;
    for (int kind = 0; kind < FAIL_N_KINDS; kind++) {
        if (kind == FAIL_send) continue; /* writes the log, which tells that it listens */
        const int n = torture_starts((fail_kind)kind);
        printf("start: %s: %d failures\n", failing_name((fail_kind)kind), n);
        assert_true(n > 0 || kind > FAIL_MEMORY);
    }
}

/* Claim: an allocation that fails during a request costs at most that request: 500, 503 or a closed connection; no
 * wrong answer, and nothing leaks (AddressSanitizer's build looks at the end). Method: each allocation, for each kind
 * of request; right replies are compared with the one without failures. */
static void memory_fails_during_requests(void **state)
{
    (void)state;
    assert_true(torture_requests(FAIL_MEMORY) > 500);
#ifndef __SANITIZE_ADDRESS__ /* CLD2 and ICU lose what they have got when they get no more */
    torture_requests(FAIL_CPP_MEMORY);
    assert_true(torture_requests(FAIL_ICU_MEMORY) > 20);
#endif
}

/* The same for system calls. Those that threads make all the time never come to an end: CALLS_MAX of them. */
static void system_calls_fail_during_requests(void **state)
{
    (void)state;
    for (int kind = FAIL_EPOLL_ADD; kind < FAIL_N_KINDS; kind++)
        torture_requests((fail_kind)kind);
}

/* Claim: a failure while the server stops changes nothing: exit code 0. Method: as above, from SIGTERM on. */
static void failures_at_stop(void **state)
{
    (void)state;
    int n_failed = 0;
    for (int kind = 0; kind < FAIL_N_KINDS; kind++) {
        bool was_reached = true;
        for (int n = 0; n < CALLS_MAX && was_reached; n++) {
            served s;
            char what[80];
            snprintf(what, sizeof what, "stop, %s fails at call %d", failing_name((fail_kind)kind), n);
            served_start(&s, flags, T5_COUNT(flags));
            failing_order((fail_kind)kind, n);
            served_stop(&s);
            was_reached = failing_end();
            served_expect_exit(&s, 0, what);
            served_close(&s);
            n_failed += was_reached;
        }
    }
    printf("stop: %d failures\n", n_failed);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_fails_during_requests),
        cmocka_unit_test(system_calls_fail_during_requests),
        cmocka_unit_test(failures_at_start),
        cmocka_unit_test(failures_at_stop),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    failing_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
