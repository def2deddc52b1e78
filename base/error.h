/* base/error.h: how a call fails. Every fallible function returns a t5_status and takes a t5_error as its last
 * argument, which is never NULL and which receives a text for people and the place in the code. The first error wins: a
 * clean-up that fails too does not hide the cause. Library code never exits, aborts or prints. */
#pragma once
#include <stdbool.h>

#ifdef __cplusplus
#define T5_C_BEGIN extern "C" {
#define T5_C_END }
#else
#define T5_C_BEGIN
#define T5_C_END
#endif

T5_C_BEGIN

typedef enum {
    T5_OK = 0,
    T5_ERR_ARG,     /* the caller asked for something that does not make sense: a request, a flag */
    T5_ERR_NOMEM,   /* host or device memory */
    T5_ERR_IO,      /* a file or socket could not be opened, read or written */
    T5_ERR_FORMAT,  /* a file was read but its content is wrong */
    T5_ERR_DEVICE,  /* the GPU failed; the process must be restarted */
    T5_ERR_BUSY,    /* a queue is full, or the server is stopping: try again later */
    T5_ERR_TIMEOUT, /* a deadline passed, or the client left */
} t5_status;

#define T5_ERROR_TEXT_MAX 512

typedef struct {
    t5_status status; /* T5_OK until the first error */
    int line;
    int retry_after_s; /* of T5_ERR_BUSY: when it is worth trying again, 1 or more; 0: not known */
    const char *file;
    char text[T5_ERROR_TEXT_MAX]; /* one line, no newline, valid for the life of the struct */
} t5_error;

/* Records status, place and text unless an error is recorded already. Returns `status`. The text of T5_ERR_NOMEM says
 * what the memory was for; "out of memory: " is put before it. */
t5_status t5_error_set(t5_error *err, t5_status status, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* When it is worth trying again. Returns err->status, which is an error already. */
t5_status t5_error_retry_after(t5_error *err, int seconds);
/* Forgets the error, so that the struct can be used again. */
void t5_error_clear(t5_error *err);
/* "bad argument", "out of memory", ...: a static text. */
const char *t5_status_name(t5_status status);

T5_C_END

/* Records the error and is the status itself, so that the compiler sees that it is not T5_OK. */
#define T5_FAIL(err, status, ...) \
    ({ \
        const t5_status t5_fail_status_ = (status); \
        t5_error_set((err), t5_fail_status_, __FILE__, __LINE__, __VA_ARGS__); \
        t5_fail_status_; \
    })

/* The only macro that jumps: needs a local `status` and a label `out`. */
#define T5_TRY(call) \
    do { \
        status = (call); \
        if (status != T5_OK) goto out; \
    } while (0)

#define T5_COUNT(array) (sizeof(array) / sizeof((array)[0]))
