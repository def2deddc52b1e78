/* server/head.c: see head.h. */
#include "server/head.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TIMEOUT_MS_MAX 86400000 /* a day, as for the setting */
#define TIMEOUT_DIGITS_MAX 8

/* splitmix64's last step: a bijection, so that different counts give different ids that do not look alike. */
static uint64_t scramble(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Where the count starts: drawn once, so that two processes do not give the same ids. Never 0. */
static uint64_t draw_start(void)
{
    static _Atomic uint64_t start;
    uint64_t now = atomic_load(&start), drawn = 0;
    if (now != 0) return now;
    if (getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) != (ssize_t)sizeof drawn) drawn = (uint64_t)t5_clock_ns();
    drawn |= 1;
    return atomic_compare_exchange_strong(&start, &now, drawn) ? drawn : now;
}

void t5_head_request_id(const char *given, char out[T5_REQUEST_ID_BYTES])
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/+=@";
    static _Atomic uint64_t n_made;
    size_t n = given != NULL ? strspn(given, safe) : 0;
    if (n > 0 && n < T5_REQUEST_ID_BYTES && given[n] == '\0') {
        memcpy(out, given, n + 1);
        return;
    }
    uint64_t count = draw_start() + atomic_fetch_add_explicit(&n_made, 1, memory_order_relaxed);
    snprintf(out, T5_REQUEST_ID_BYTES, "%016" PRIx64, scramble(count));
}

t5_status t5_head_timeout(const char *given, int64_t ms_max, int64_t *out_ms, t5_error *err)
{
    *out_ms = ms_max;
    if (given == NULL) return T5_OK;
    size_t n = strspn(given, "0123456789");
    int64_t ms = n > 0 && n <= TIMEOUT_DIGITS_MAX && given[n] == '\0' ? strtoll(given, NULL, 10) : 0;
    if (ms < 1 || ms > TIMEOUT_MS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "Invalid request: header %s must be a whole number from 1 to %d",
                       T5_HEADER_REQUEST_TIMEOUT, TIMEOUT_MS_MAX);
    if (ms_max == 0 || ms < ms_max) *out_ms = ms;
    return T5_OK;
}

/* Each part between slashes is a name: what clients and proxies resolve before they ask ("..", "a//b") is not. */
static bool has_plain_parts(const char *path, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes;) {
        size_t n = 0;
        while (i + n < n_bytes && path[i + n] != '/')
            n++;
        if (n == 0 || strspn(path + i, ".") >= n) return false;
        i += n + 1;
    }
    return true;
}

t5_status t5_head_prefix(const char *given, char out[T5_PATH_PREFIX_MAX + 1], t5_error *err)
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    const char *begin = given + strspn(given, "/");
    size_t n = strlen(begin);
    while (n > 0 && begin[n - 1] == '/')
        n--;
    if (n >= T5_PATH_PREFIX_MAX || strspn(begin, safe) < n || !has_plain_parts(begin, n))
        return T5_FAIL(err, T5_ERR_ARG,
                       "url_prefix: must be like /translate/v1, of at most %d letters, digits and -._~",
                       T5_PATH_PREFIX_MAX);
    snprintf(out, T5_PATH_PREFIX_MAX + 1, "%s%.*s", n > 0 ? "/" : "", (int)n, begin);
    return T5_OK;
}

t5_status t5_head_origin(const char *given, t5_error *err)
{
    static const char scheme[] = "abcdefghijklmnopqrstuvwxyz0123456789-+.";
    static const char host[] = "abcdefghijklmnopqrstuvwxyz0123456789-._:[]";
    if (given[0] == '\0' || strcmp(given, "*") == 0 || strcmp(given, "null") == 0) return T5_OK;
    const size_t n_scheme = strspn(given, scheme);
    const bool has_scheme = n_scheme > 0 && strncmp(given + n_scheme, "://", 3) == 0;
    const char *rest = has_scheme ? given + n_scheme + 3 : "";
    const bool is_origin = *rest != '\0' && rest[strspn(rest, host)] == '\0';
    if (!is_origin)
        return T5_FAIL(err, T5_ERR_ARG,
                       "cors_origin: '%.100s' is neither * nor one origin as browsers send it, such as "
                       "https://example.org: in small letters, without a path or a slash at its end",
                       given);
    return T5_OK;
}

const char *t5_head_method(const char *method)
{
    static const char *const methods[] = {"GET",    "HEAD",    "POST",    "PUT",  "PATCH",
                                          "DELETE", "OPTIONS", "CONNECT", "TRACE"};
    for (size_t i = 0; i < T5_COUNT(methods); i++)
        if (strcmp(method, methods[i]) == 0) return methods[i];
    return "other";
}
