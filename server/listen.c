/* server/listen.c: see listen.h. */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

/* A bound socket, or -1 with errno set. */
static int open_socket(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, off = 0;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0) return fd;
    int cause = errno;
    close(fd);
    errno = cause;
    return -1;
}

static bool is_listening(int fd)
{
    int flag = 0;
    socklen_t n_bytes = sizeof flag;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &flag, &n_bytes) == 0 && flag != 0;
}

/* The bound address as a URL; an address that means "every" is shown as localhost. False with errno set on failure. */
static bool format_url(int fd, const char *scheme, char *url, size_t url_bytes)
{
    struct sockaddr_storage bound = {0};
    socklen_t n_bytes = sizeof bound;
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, (struct sockaddr *)&bound, &n_bytes) != 0) return false;
    if (bound.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&bound;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        int port = ntohs(in6->sin6_port);
        if (strcmp(host, "::") == 0) snprintf(url, url_bytes, "%s://localhost:%d", scheme, port);
        if (strcmp(host, "::") != 0) snprintf(url, url_bytes, "%s://[%s]:%d", scheme, host, port);
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&bound;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        bool is_any = strcmp(host, "0.0.0.0") == 0;
        snprintf(url, url_bytes, "%s://%s:%d", scheme, is_any ? "localhost" : host, ntohs(in->sin_port));
    }
    return true;
}

/* A bound socket of one of the host's addresses, or -1 with errno or *out_rc set. */
static int open_host(const char *host, int32_t port, int *out_rc)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    char service[16];
    int fd = -1;
    snprintf(service, sizeof service, "%d", port);
    *out_rc = getaddrinfo(host, service, &hints, &addresses);
    if (*out_rc != 0) return -1;
    for (const struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next)
        fd = open_socket(a);
    int cause = errno;
    freeaddrinfo(addresses);
    errno = cause;
    return fd;
}

t5_status t5_listen_bind(const char *host, int32_t port, int *out_fd, t5_error *err)
{
    bool is_any = strcmp(host, "*") == 0;
    int rc = 0;
    int fd = open_host(is_any ? "::" : host, port, &rc);
    if (fd < 0 && is_any && errno != EADDRINUSE) fd = open_host("0.0.0.0", port, &rc); /* a machine without IPv6 */
    int cause = errno;
    if (rc != 0) return T5_FAIL(err, T5_ERR_IO, "cannot listen on host '%.100s': %s", host, gai_strerror(rc));
    if (fd < 0 && cause == EADDRINUSE)
        return T5_FAIL(err, T5_ERR_IO, "port %d on %.100s is taken: stop the other server or choose another --port",
                       port, host);
    if (fd < 0 && cause == EACCES)
        return T5_FAIL(err, T5_ERR_IO, "port %d on %.100s: not permitted; choose a --port above 1023", port, host);
    if (fd < 0) return T5_FAIL(err, T5_ERR_IO, "cannot listen on %.100s port %d: %s", host, port, strerror(cause));
    *out_fd = fd;
    return T5_OK;
}

t5_status t5_listen_take(int fd, t5_error *err)
{
    struct sockaddr_storage bound = {0};
    socklen_t n_bytes = sizeof bound;
    bool is_socket = getsockname(fd, (struct sockaddr *)&bound, &n_bytes) == 0;
    bool is_tcp = is_socket && (bound.ss_family == AF_INET || bound.ss_family == AF_INET6);
    if (!is_tcp || !is_listening(fd))
        return T5_FAIL(err, T5_ERR_ARG, "file descriptor %d, handed to us, is no listening TCP socket", fd);
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return T5_FAIL(err, T5_ERR_IO, "file descriptor %d: %s", fd, strerror(errno));
    return T5_OK;
}

t5_status t5_listen_start(int fd, const char *scheme, char *url, size_t url_bytes, t5_error *err)
{
    if (!format_url(fd, scheme, url, url_bytes))
        return T5_FAIL(err, T5_ERR_IO, "the address to listen on: %s", strerror(errno));
    if (is_listening(fd) || listen(fd, BACKLOG) == 0) return T5_OK;
    if (errno == EADDRINUSE) /* by one that was bound when we were */
        return T5_FAIL(err, T5_ERR_IO, "%.100s is taken: stop the other server or choose another --port", url);
    return T5_FAIL(err, T5_ERR_IO, "cannot listen on %.100s: %s", url, strerror(errno));
}
