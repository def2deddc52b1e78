/* bench/serve_client.c: see serve_client.h. Replies end by Content-Length or by chunks, as t5serve sends them. */
#include "bench/serve_client.h"

#include "base/assert.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define IN_BYTES_FIRST 4096
#define IN_BYTES_MAX ((size_t)64 << 20)

typedef struct {
    int fd; /* -1: closed */
    bool is_busy, is_connecting;
    int64_t tag;
    const char *out;
    size_t out_bytes, n_sent;
    char *in; /* what has arrived of the reply, NUL-terminated */
    size_t in_bytes, in_capacity;
    size_t head_bytes; /* 0: the head is not complete */
    bool is_chunked, must_close;
    size_t body_bytes;  /* from Content-Length, or of the chunks decoded so far, which are moved together */
    size_t chunks_read; /* end of what was decoded in `in` */
    int64_t first_ns;
} connection;

struct t5_client {
    struct sockaddr_in address;
    int epoll_fd;
    connection *connections; /* [connections_max] */
    int32_t connections_max, n_pending;
    int32_t *idle; /* [n_idle] a stack: open ones without a request lie above closed ones */
    int32_t n_idle;
};

t5_status t5_client_create(const char *host, int32_t port, int32_t connections_max, t5_client **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_client *c = calloc(1, sizeof *c);
    if (c == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "client: %zu bytes", sizeof *c);
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->address.sin_family = AF_INET;
    c->address.sin_port = htons((uint16_t)port);
    c->connections_max = connections_max;
    c->connections = calloc((size_t)connections_max, sizeof *c->connections);
    c->idle = calloc((size_t)connections_max, sizeof *c->idle);
    if (c->connections == NULL || c->idle == NULL || c->epoll_fd < 0) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "client: %d connections", connections_max);
    } else if (inet_pton(AF_INET, host, &c->address.sin_addr) != 1) {
        status = T5_FAIL(err, T5_ERR_ARG, "%s is not an IPv4 address", host);
    } else {
        for (int32_t i = 0; i < connections_max; i++) {
            c->connections[i].fd = -1;
            c->idle[c->n_idle++] = connections_max - 1 - i;
        }
        *out = c;
        c = NULL; /* handed to the caller */
    }
    t5_client_destroy(c);
    return status;
}

void t5_client_destroy(t5_client *c)
{
    if (c == NULL) return;
    for (int32_t i = 0; c->connections != NULL && i < c->connections_max; i++) {
        if (c->connections[i].fd > 0) close(c->connections[i].fd);
        free(c->connections[i].in);
    }
    if (c->epoll_fd >= 0) close(c->epoll_fd);
    free(c->connections);
    free(c->idle);
    free(c);
}

int32_t t5_client_pending(const t5_client *c)
{
    return c->n_pending;
}

/* --- sending --- */

static void watch(t5_client *c, connection *x, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = x};
    epoll_ctl(c->epoll_fd, op, x->fd, &event);
}

static bool open_connection(t5_client *c, connection *x)
{
    const int one = 1;
    x->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (x->fd < 0) return false;
    setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    x->is_connecting = connect(x->fd, (const struct sockaddr *)&c->address, sizeof c->address) != 0;
    if (x->is_connecting && errno != EINPROGRESS) {
        close(x->fd);
        x->fd = -1;
        return false;
    }
    watch(c, x, EPOLL_CTL_ADD, EPOLLIN | (x->is_connecting ? EPOLLOUT : 0));
    return true;
}

static void close_connection(connection *x)
{
    if (x->fd >= 0) close(x->fd);
    x->fd = -1;
}

/* Sends what the socket takes. False: the connection is broken. */
static bool push(t5_client *c, connection *x)
{
    const bool was_waiting = x->n_sent > 0 || x->is_connecting;
    while (x->n_sent < x->out_bytes) {
        const ssize_t n = send(x->fd, x->out + x->n_sent, x->out_bytes - x->n_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return false;
        if (n < 0) {
            if (!was_waiting) watch(c, x, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return true;
        }
        x->n_sent += (size_t)n;
    }
    if (was_waiting) watch(c, x, EPOLL_CTL_MOD, EPOLLIN);
    x->is_connecting = false;
    return true;
}

bool t5_client_send(t5_client *c, const char *request, size_t n_bytes, int64_t tag)
{
    if (c->n_idle == 0) return false;
    connection *x = &c->connections[c->idle[c->n_idle - 1]];
    if (x->fd < 0 && !open_connection(c, x)) return false;
    c->n_idle--;
    c->n_pending++;
    x->is_busy = true;
    x->tag = tag;
    x->out = request;
    x->out_bytes = n_bytes;
    x->n_sent = x->in_bytes = x->head_bytes = x->body_bytes = x->chunks_read = 0;
    x->is_chunked = x->must_close = false;
    x->first_ns = 0;
    /* A broken connection shows when it is read. */
    if (!x->is_connecting) push(c, x);
    return true;
}

/* --- the reply --- */

/* The value of a header in the head, which ends with an empty line; NULL when it is not there. */
static const char *find_header(const connection *x, const char *name)
{
    const size_t n = strlen(name);
    const char *end = x->in + x->head_bytes;
    for (const char *line = strchr(x->in, '\n'); line != NULL && line + 1 < end; line = strchr(line + 1, '\n')) {
        if (strncasecmp(line + 1, name, n) != 0 || line[n + 1] != ':') continue;
        const char *value = line + n + 2;
        return value + strspn(value, " ");
    }
    return NULL;
}

/* False: what came is no HTTP/1.1. */
static bool read_head(connection *x)
{
    const char *end = strstr(x->in, "\r\n\r\n");
    if (end == NULL) return true;
    if (strncmp(x->in, "HTTP/1.1 ", 9) != 0) return false;
    x->head_bytes = (size_t)(end - x->in) + 4;
    const char *length = find_header(x, "Content-Length"), *coding = find_header(x, "Transfer-Encoding");
    const char *connection_value = find_header(x, "Connection");
    x->must_close = connection_value != NULL && strncasecmp(connection_value, "close", 5) == 0;
    x->is_chunked = coding != NULL && strncasecmp(coding, "chunked", 7) == 0;
    if (length != NULL) x->body_bytes = strtoul(length, NULL, 10);
    x->chunks_read = x->head_bytes;
    return length != NULL || x->is_chunked;
}

/* Moves the chunks that are complete to the end of the body. True when the last one was seen. */
static bool read_chunks(connection *x)
{
    for (;;) {
        char *line = x->in + x->chunks_read, *data = NULL;
        const char *line_end = strstr(line, "\r\n");
        if (line_end == NULL) return false;
        const size_t n = strtoul(line, &data, 16), data_at = (size_t)(line_end - x->in) + 2;
        if (n > IN_BYTES_MAX || x->in_bytes < data_at + n + 2) return false; /* data and its line end */
        memmove(x->in + x->head_bytes + x->body_bytes, x->in + data_at, n);
        x->body_bytes += n;
        x->chunks_read = data_at + n + 2;
        if (n == 0) return true;
    }
}

static bool is_complete(connection *x)
{
    if (x->head_bytes == 0) return false;
    if (x->first_ns == 0 && x->in_bytes > x->head_bytes) x->first_ns = t5_clock_ns();
    return x->is_chunked ? read_chunks(x) : x->in_bytes >= x->head_bytes + x->body_bytes;
}

static bool grow(connection *x)
{
    if (x->in_capacity - x->in_bytes > IN_BYTES_FIRST / 4) return true;
    const size_t capacity = x->in_capacity == 0 ? IN_BYTES_FIRST : 2 * x->in_capacity;
    char *in = capacity <= IN_BYTES_MAX ? realloc(x->in, capacity) : NULL;
    if (in == NULL) return false;
    x->in = in;
    x->in_capacity = capacity;
    return true;
}

typedef enum { PULL_WAIT, PULL_DONE, PULL_BROKEN } pull_result;

static pull_result pull(connection *x)
{
    if (!grow(x)) return PULL_BROKEN;
    const ssize_t n = recv(x->fd, x->in + x->in_bytes, x->in_capacity - x->in_bytes - 1, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return PULL_WAIT;
    if (n <= 0) return PULL_BROKEN;
    x->in_bytes += (size_t)n;
    x->in[x->in_bytes] = '\0';
    if (x->head_bytes == 0 && !read_head(x)) return PULL_BROKEN;
    return is_complete(x) ? PULL_DONE : PULL_WAIT;
}

static void put_idle(t5_client *c, connection *x)
{
    if (x->is_busy) c->n_pending--;
    x->is_busy = false;
    c->idle[c->n_idle++] = (int32_t)(x - c->connections);
}

static void end_request(t5_client *c, connection *x, bool is_whole, t5_client_on_reply on_reply, void *ctx)
{
    t5_client_reply reply = {.end_ns = t5_clock_ns(), .body = ""};
    if (is_whole) {
        x->in[x->head_bytes + x->body_bytes] = '\0';
        reply.http_status = (unsigned)strtoul(x->in + 9, NULL, 10);
        reply.body = x->in + x->head_bytes;
        reply.body_bytes = x->body_bytes;
        reply.first_ns = x->first_ns;
    }
    if (!is_whole || x->must_close) close_connection(x);
    on_reply(ctx, x->tag, &reply); /* before the connection may be used again: the body lies in its buffer */
    put_idle(c, x);
}

static void on_event(t5_client *c, connection *x, uint32_t events, t5_client_on_reply on_reply, void *ctx)
{
    if (!x->is_busy) { /* the server ended an idle connection */
        close_connection(x);
        return;
    }
    if ((events & EPOLLOUT) != 0 && !push(c, x)) {
        end_request(c, x, false, on_reply, ctx);
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
    const pull_result result = pull(x);
    if (result != PULL_WAIT) end_request(c, x, result == PULL_DONE, on_reply, ctx);
}

void t5_client_poll(t5_client *c, int64_t until_ns, t5_client_on_reply on_reply, void *ctx)
{
    struct epoll_event events[EVENTS_MAX];
    const int64_t wait_ns = until_ns - t5_clock_ns();
    const struct timespec timeout = {.tv_sec = wait_ns > 0 ? wait_ns / 1000000000 : 0,
                                     .tv_nsec = wait_ns > 0 ? wait_ns % 1000000000 : 0};
    const int n = epoll_pwait2(c->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
    for (int i = 0; i < n; i++)
        on_event(c, events[i].data.ptr, events[i].events, on_reply, ctx);
}

void t5_client_forget(t5_client *c)
{
    for (int32_t i = 0; i < c->connections_max; i++) {
        connection *x = &c->connections[i];
        if (!x->is_busy) continue;
        close_connection(x);
        put_idle(c, x);
    }
    T5_ASSERT(c->n_pending == 0);
}
