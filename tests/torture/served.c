/* tests/torture/served.c: see served.h. */
#include "served.h"

#include "base/clock.h"
#include "failing.h"

#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 120000 /* a sanitizer build on a busy machine; more is a hang */
#define FLAGS_MAX 32
#define LOG_MAX (1 << 20)

/* server/main.c, which is compiled with main renamed. */
int t5serve_main(int argc, char **argv);

/* Sanitizers end a process with codes that t5serve does not use. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "exitcode=99";
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static _Noreturn void run_child(const served *s, const char *const *flags, int n_flags)
{
    char *argv[FLAGS_MAX + 2] = {"t5serve"};
    for (int i = 0; i < n_flags; i++)
        argv[i + 1] = (char *)(size_t)flags[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves it behind */
    dup2(s->log_fd, STDERR_FILENO);
    failing_suffer();
    exit(t5serve_main(n_flags + 1, argv));
}

const char *served_log(const served *s)
{
    static char text[LOG_MAX];
    const ssize_t n = pread(s->log_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static bool has_ended(served *s)
{
    return waitpid(s->pid, &s->exit_status, WNOHANG) == s->pid;
}

static void fail_hung(served *s, const char *what)
{
    if (!has_ended(s)) kill(s->pid, SIGKILL);
    fprintf(stderr, "status %d\n", s->exit_status);
    fprintf(stderr, "the log:\n%s", served_log(s)); /* longer than cmocka's messages may be */
    fail_msg("%s", what);
}

void served_start(served *s, const char *const *flags, int n_flags)
{
    static const char mark[] = "listening url=http://127.0.0.1:";
    assert_true(n_flags <= FLAGS_MAX);
    *s = (served){.log_fd = memfd_create("log", MFD_CLOEXEC)};
    assert_true(s->log_fd >= 0);
    fflush(NULL);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) run_child(s, flags, n_flags);

    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    for (;;) {
        const bool is_over = has_ended(s);
        const char *found = strstr(served_log(s), mark);
        if (found != NULL && !is_over) s->port = atoi(found + sizeof mark - 1);
        if (is_over || s->port != 0) return;
        if (t5_clock_ms() > until_ms) fail_hung(s, "it neither listens nor ends");
        nap();
    }
}

void served_stop(served *s)
{
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    kill(s->pid, SIGTERM);
    while (!has_ended(s)) {
        if (t5_clock_ms() > until_ms) fail_hung(s, "it does not stop");
        nap();
    }
}

void served_expect_exit(const served *s, int code, const char *what)
{
    if (WIFEXITED(s->exit_status) && WEXITSTATUS(s->exit_status) == code) return;
    fprintf(stderr, "the log:\n%s", served_log(s));
    fail_msg("%s: ended with %s %d, not exit code %d", what, WIFSIGNALED(s->exit_status) ? "signal" : "exit code",
             WIFSIGNALED(s->exit_status) ? WTERMSIG(s->exit_status) : WEXITSTATUS(s->exit_status), code);
}

void served_close(served *s)
{
    close(s->log_fd);
}

/* --- the client --- */

static int connect_to(served *s)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) fail_hung(s, "nobody listens");
    return fd;
}

/* All that comes until the end of the connection. */
static size_t read_all(served *s, int fd, char **out)
{
    const int64_t until_ms = t5_clock_ms() + WAIT_MS;
    size_t n = 0, capacity = 4096;
    char *raw = malloc(capacity);
    assert_non_null(raw);
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (t5_clock_ms() > until_ms) fail_hung(s, "a client waits for ever");
        if (poll(&ready, 1, 100) <= 0) continue;
        const ssize_t n_read = recv(fd, raw + n, capacity - n - 1, 0);
        if (n_read <= 0) break;
        n += (size_t)n_read;
        if (n + 1 < capacity) continue;
        capacity *= 2;
        raw = realloc(raw, capacity);
        assert_non_null(raw);
    }
    raw[n] = '\0';
    *out = raw;
    return n;
}

/* The reply is whole: as long as it says, or with its last chunk. */
static bool is_complete(const reply *r)
{
    const char *length = strcasestr(r->raw, "\r\ncontent-length: ");
    if (length != NULL && length < r->body) return strtoull(length + 18, NULL, 10) == r->n_body;
    return r->n_body >= 5 && memcmp(r->body + r->n_body - 5, "0\r\n\r\n", 5) == 0;
}

void served_ask(served *s, const char *request, size_t n_bytes, reply *out)
{
    const int fd = connect_to(s);
    size_t n_sent = 0;
    while (n_sent < n_bytes) {
        const ssize_t n = send(fd, request + n_sent, n_bytes - n_sent, MSG_NOSIGNAL);
        if (n <= 0) break; /* refused early: there may be a reply all the same */
        n_sent += (size_t)n;
    }
    *out = (reply){0};
    const size_t n = read_all(s, fd, &out->raw);
    close(fd);
    const char *end = strstr(out->raw, "\r\n\r\n");
    if (end == NULL || strncmp(out->raw, "HTTP/1.1 ", 9) != 0) return;
    out->body = end + 4;
    out->n_body = n - (size_t)(out->body - out->raw);
    if (is_complete(out)) out->status = atoi(out->raw + 9);
}

void reply_free(reply *r)
{
    free(r->raw);
    *r = (reply){0};
}
