/* tests/torture/served.h: t5serve's main() in a forked process, and a client that expects the worst. The test program
 * has one thread, so that it may fork. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;
    int log_fd;      /* what it wrote to stderr, in a file without a name */
    int port;        /* 0: it ended before it listened */
    int exit_status; /* of waitpid(), once it has ended */
} served;

/* Starts t5serve with these flags ([n_flags], without the program's name) and waits until it listens or has ended. A
 * failed test when it does neither. */
void served_start(served *s, const char *const *flags, int n_flags);
/* SIGTERM; waits for the end. A failed test, with the log, when it takes too long. */
void served_stop(served *s);
/* What it has logged; valid until the next call. */
const char *served_log(const served *s);
/* Fails the test unless the process exited by itself with `code`: no signal, no report of a sanitizer. */
void served_expect_exit(const served *s, int code, const char *what);

void served_close(served *s); /* after its end: frees the log */

typedef struct {
    int status; /* of HTTP; 0: the connection was closed or cut before the reply was complete */
    char *raw;  /* all bytes that came */
    const char *body;
    size_t n_body;
} reply;

/* Sends `request` on a connection of its own and reads until the server closes it; the request must ask for that. A
 * failed test when no end comes. Free with reply_free(). */
void served_ask(served *s, const char *request, size_t n_bytes, reply *out);
void reply_free(reply *r);
