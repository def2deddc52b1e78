/* server/probe.c: see probe.h. */
#include "server/probe.h"
#include "base/clock.h"
#include "server/head.h"

#include <errno.h>
#include <gnutls/gnutls.h>
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

static bool is_connected(int fd, const struct addrinfo *address, int64_t end_ms)
{
    int cause = 0;
    socklen_t n_cause = sizeof cause;
    const bool is_begun = connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS;
    return is_begun && wait_ready(fd, POLLOUT, end_ms) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &cause, &n_cause) == 0 &&
           cause == 0;
}

/* The start of the reply; false when there is none. */
static bool ask_plain(int fd, const char *request, char *reply, size_t reply_bytes, int64_t end_ms)
{
    const ssize_t n_bytes = (ssize_t)strlen(request);
    return send(fd, request, (size_t)n_bytes, MSG_NOSIGNAL) == n_bytes && wait_ready(fd, POLLIN, end_ms) &&
           recv(fd, reply, reply_bytes - 1, 0) > 0;
}

/* Whether a call of GnuTLS that did not end is worth repeating: the socket has become ready for it. */
static bool is_ready_again(gnutls_session_t session, ssize_t rc, int fd, int64_t end_ms)
{
    const bool is_unfinished = rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
    return is_unfinished && wait_ready(fd, gnutls_record_get_direction(session) == 1 ? POLLOUT : POLLIN, end_ms);
}

static bool ask_session(gnutls_session_t session, int fd, const char *request, char *reply, size_t reply_bytes,
                        int64_t end_ms)
{
    ssize_t rc = 0;
    do
        rc = gnutls_handshake(session);
    while (rc < 0 && is_ready_again(session, rc, fd, end_ms));
    if (rc < 0) return false;
    do
        rc = gnutls_record_send(session, request, strlen(request));
    while (rc < 0 && is_ready_again(session, rc, fd, end_ms));
    if (rc < 0) return false;
    do
        rc = gnutls_record_recv(session, reply, reply_bytes - 1);
    while (rc < 0 && is_ready_again(session, rc, fd, end_ms));
    return rc > 0;
}

static bool ask_tls(int fd, const char *request, char *reply, size_t reply_bytes, int64_t end_ms)
{
    gnutls_session_t session = NULL;
    gnutls_certificate_credentials_t credentials = NULL;
    bool is_answered = false;
    if (gnutls_certificate_allocate_credentials(&credentials) < 0) return false;
    if (gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) == 0) {
        gnutls_transport_set_int(session, fd);
        if (gnutls_set_default_priority(session) == 0 &&
            gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials) == 0)
            is_answered = ask_session(session, fd, request, reply, reply_bytes, end_ms);
        gnutls_deinit(session);
    }
    gnutls_certificate_free_credentials(credentials);
    return is_answered;
}

/* Sends the request and reads the status line. 0: no answer. */
static int ask(const struct addrinfo *address, bool is_tls, const char *request, int64_t end_ms)
{
    char reply[64] = "";
    int http_status = 0;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return 0;
    bool is_answered =
        is_connected(fd, address, end_ms) && (is_tls ? ask_tls : ask_plain)(fd, request, reply, sizeof reply, end_ms);
    if (is_answered) sscanf(reply, "HTTP/1.%*1[01] %3d", &http_status);
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
        http_status = ask(a, options->is_tls, request, end_ms);
    freeaddrinfo(addresses);
    if (http_status == 0) return T5_FAIL(err, T5_ERR_IO, "no answer from port %d of %.100s", port, host);
    if (http_status != 200) return T5_FAIL(err, T5_ERR_IO, "the server on port %d answers %d", port, http_status);
    return T5_OK;
}
