/* server/probe.c: see probe.h. */
#include "server/probe.h"
#include "base/clock.h"
#include "server/head.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBE_MS 3000

/* Waits until `fd` is ready for `events`, or the time is over. */
static bool wait_ready(int fd, short events, int64_t end_ms)
{
    int64_t left_ms = end_ms - t5_clock_ms();
    struct pollfd ready = {.fd = fd, .events = events};
    return left_ms > 0 && poll(&ready, 1, (int)left_ms) == 1;
}

/* Sends the request and reads the status line. 0: no answer. */
static int ask(const struct addrinfo *address, const char *request, int64_t end_ms)
{
    char reply[64] = "";
    int http_status = 0, cause = 0;
    socklen_t n_cause = sizeof cause;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return 0;
    bool is_begun = connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS;
    bool is_open = is_begun && wait_ready(fd, POLLOUT, end_ms) &&
                   getsockopt(fd, SOL_SOCKET, SO_ERROR, &cause, &n_cause) == 0 && cause == 0;
    bool is_sent = is_open && send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request);
    if (is_sent && wait_ready(fd, POLLIN, end_ms) && recv(fd, reply, sizeof reply - 1, 0) > 0)
        sscanf(reply, "HTTP/1.%*1[01] %3d", &http_status);
    close(fd);
    return http_status;
}

t5_status t5_probe(const t5_probe_options *options, t5_error *err)
{
    const char *host = options->host;
    const int32_t port = options->port;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const int64_t end_ms = t5_clock_ms() + PROBE_MS;
    struct addrinfo *addresses = NULL;
    char service[16], request[T5_PATH_PREFIX_MAX + 100];
    int http_status = 0;
    snprintf(request, sizeof request, "GET %s/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             options->path_prefix);
    snprintf(service, sizeof service, "%d", port);
    bool is_any = strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    int rc = getaddrinfo(is_any ? NULL : host, service, &hints, &addresses); /* without a host: the loopback */
    if (rc != 0) return T5_FAIL(err, T5_ERR_IO, "host '%.100s': %s", host, gai_strerror(rc));
    for (const struct addrinfo *a = addresses; a != NULL && http_status == 0; a = a->ai_next)
        http_status = ask(a, request, end_ms);
    freeaddrinfo(addresses);
    if (http_status == 0) return T5_FAIL(err, T5_ERR_IO, "no answer from port %d of %.100s", port, host);
    if (http_status != 200) return T5_FAIL(err, T5_ERR_IO, "the server on port %d answers %d", port, http_status);
    return T5_OK;
}
