/* cli/line_reader.c: see line_reader.h. Bytes are read in large pieces into one buffer that grows with the longest
 * line; poll() waits for the input and for an eventfd that stop() writes. */
#include "cli/line_reader.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define READ_BYTES 65536
#define LINE_BYTES_MAX (64 << 20) /* of text: minutes of work; more is a file that has no lines */

struct t5_line_reader {
    const char *name;
    int fd, stop_fd;
    char *buffer;
    size_t buffer_bytes; /* allocated */
    size_t start, end;   /* the bytes not yet handed out */
    bool is_at_end;
    bool is_begun; /* the first line was looked for */
};

t5_status t5_line_reader_open(const char *path, t5_line_reader **out, t5_error *err)
{
    bool is_stdin = path == NULL || strcmp(path, "-") == 0;
    t5_line_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "line reader: %zu bytes", sizeof *r);
    r->name = is_stdin ? "stdin" : path;
    r->stop_fd = eventfd(0, EFD_CLOEXEC);
    r->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || r->stop_fd < 0) {
        t5_status status = T5_FAIL(err, T5_ERR_IO, "%s: %s", r->name, strerror(errno));
        t5_line_reader_close(r);
        return status;
    }
    *out = r;
    return T5_OK;
}

void t5_line_reader_close(t5_line_reader *r)
{
    if (r == NULL) return;
    if (r->fd > STDIN_FILENO) close(r->fd);
    if (r->stop_fd >= 0) close(r->stop_fd);
    free(r->buffer);
    free(r);
}

const char *t5_line_reader_name(const t5_line_reader *r)
{
    return r->name;
}

void t5_line_reader_stop(t5_line_reader *r)
{
    const uint64_t one = 1;
    while (write(r->stop_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static t5_status make_room(t5_line_reader *r, t5_error *err)
{
    if (r->start > 0) {
        memmove(r->buffer, r->buffer + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    if (r->buffer_bytes - r->end >= READ_BYTES) return T5_OK;
    if (r->end > LINE_BYTES_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: a line of over %d bytes", r->name, LINE_BYTES_MAX);
    size_t wanted = 2 * r->buffer_bytes + READ_BYTES;
    char *buffer = realloc(r->buffer, wanted);
    if (buffer == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: a line of over %zu bytes", r->name, r->end);
    r->buffer = buffer;
    r->buffer_bytes = wanted;
    return T5_OK;
}

/* Waits for input and reads once. */
static t5_status read_more(t5_line_reader *r, t5_error *err)
{
    t5_status status = make_room(r, err);
    if (status != T5_OK) return status;
    for (;;) {
        struct pollfd fds[] = {{.fd = r->fd, .events = POLLIN}, {.fd = r->stop_fd, .events = POLLIN}};
        ssize_t n_bytes = -1;
        if (poll(fds, 2, -1) > 0) {
            if (fds[1].revents != 0) {
                r->is_at_end = true;
                r->start = r->end;
                return T5_OK;
            }
            n_bytes = read(r->fd, r->buffer + r->end, READ_BYTES);
        }
        if (n_bytes < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n_bytes < 0) return T5_FAIL(err, T5_ERR_IO, "%s: %s", r->name, strerror(errno));
        r->end += (size_t)n_bytes;
        r->is_at_end = n_bytes == 0;
        return T5_OK;
    }
}

/* The first line, or all that there is of it, lies in the buffer. */
static void skip_mark(t5_line_reader *r)
{
    if (!r->is_begun) r->start += t5_utf8_mark(r->buffer + r->start, r->end - r->start);
    r->is_begun = true;
}

t5_status t5_line_reader_next(t5_line_reader *r, char **out_text, size_t *out_bytes, t5_error *err)
{
    size_t n_searched = 0; /* of the bytes from start on */
    const char *newline = NULL;
    *out_text = NULL;
    *out_bytes = 0;
    for (;;) {
        size_t n_left = r->end - r->start;
        if (n_left > n_searched) newline = memchr(r->buffer + r->start + n_searched, '\n', n_left - n_searched);
        if (newline != NULL || r->is_at_end) break;
        n_searched = n_left;
        t5_status status = read_more(r, err);
        if (status != T5_OK) return status;
    }
    skip_mark(r);
    if (newline == NULL && r->start == r->end) return T5_OK;
    size_t n_bytes = (newline == NULL ? r->end : (size_t)(newline - r->buffer)) - r->start;
    char *text = malloc(n_bytes + 1);
    if (text == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: a line of %zu bytes", r->name, n_bytes);
    memcpy(text, r->buffer + r->start, n_bytes);
    text[n_bytes] = '\0';
    r->start += n_bytes + (newline != NULL);
    *out_text = text;
    *out_bytes = n_bytes;
    return T5_OK;
}
