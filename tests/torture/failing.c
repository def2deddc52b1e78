/* tests/torture/failing.c: see failing.h. */
#include "failing.h"

#include "tokenizer/spm_wrapper.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unicode/uclean.h>

/* The order, shared by parent and child, in one word: so a thread of the child that is about to take it either does, or
 * comes after its end. The lower half counts the calls until the one that fails; negative: it has failed. */
typedef _Atomic uint64_t order;

#define NO_ORDER UINT64_MAX

static order idle = NO_ORDER;
static order *control = &idle;
static bool suffers; /* this process */
static _Thread_local bool is_spared;

static uint64_t order_of(fail_kind kind, int n)
{
    return (uint64_t)kind << 32 | (uint32_t)n;
}

void failing_init(void)
{
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (control == MAP_FAILED) abort();
    atomic_store(control, NO_ORDER);
}

void failing_order(fail_kind kind, int n)
{
    atomic_store(control, order_of(kind, n));
}

bool failing_end(void)
{
    return (int32_t)(uint32_t)atomic_exchange(control, NO_ORDER) < 0;
}

bool failing_now(fail_kind kind)
{
    if (!suffers || is_spared) return false;
    for (uint64_t now = atomic_load(control);;) {
        const int n = (int32_t)(uint32_t)now;
        if (now >> 32 != (uint64_t)kind || n < 0) return false;
        if (atomic_compare_exchange_weak(control, &now, order_of(kind, n - 1))) return n == 0;
    }
}

const char *failing_name(fail_kind kind)
{
    static const char *const names[] = {
        [FAIL_MEMORY] = "memory",
        [FAIL_CPP_MEMORY] = "memory of C++ libraries",
        [FAIL_ICU_MEMORY] = "memory of ICU",
        [FAIL_EPOLL_ADD] = "epoll_ctl",
#define FAIL_CALL(type, name, error, value, params, args) [FAIL_##name] = #name,
#include "failing.def"
#undef FAIL_CALL
    };
    return names[kind];
}

/* --- memory --- */

/* The linker's names for the wrapper and the wrapped. */
#define ALLOCATOR(type, name, params, args) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params \
    { \
        if (!failing_now(FAIL_MEMORY)) return __real_##name args; \
        errno = ENOMEM; \
        return NULL; \
    }
ALLOCATOR(void *, malloc, (size_t n), (n))
ALLOCATOR(void *, calloc, (size_t n, size_t n_bytes), (n, n_bytes))
ALLOCATOR(void *, realloc, (void *p, size_t n), (p, n))
ALLOCATOR(void *, aligned_alloc, (size_t alignment, size_t n), (alignment, n))
ALLOCATOR(char *, strdup, (const char *text), (text))
ALLOCATOR(char *, strndup, (const char *text, size_t n), (text, n))
ALLOCATOR(char *, realpath, (const char *path, char *out), (path, out))
ALLOCATOR(FILE *, open_memstream, (char **out, size_t *n), (out, n))

static void *icu_malloc(const void *ctx, size_t n)
{
    (void)ctx;
    return failing_now(FAIL_ICU_MEMORY) ? NULL : __real_malloc(n);
}

static void *icu_realloc(const void *ctx, void *p, size_t n)
{
    (void)ctx;
    return failing_now(FAIL_ICU_MEMORY) ? NULL : __real_realloc(p, n);
}

static void icu_free(const void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

void failing_suffer(void)
{
    UErrorCode code = U_ZERO_ERROR;
    u_setMemoryFunctions(NULL, icu_malloc, icu_realloc, icu_free, &code);
    if (U_FAILURE(code)) abort();
    suffers = true;
}

/* Calls within which nothing fails. */
#define SPARED(type, name, params, args) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params \
    { \
        is_spared = true; \
        type result = __real_##name args; \
        is_spared = false; \
        return result; \
    }
SPARED(json_t *, json_loadb, (const char *text, size_t n, size_t options, json_error_t *where),
       (text, n, options, where))
SPARED(t5_status, t5_spm_open, (const void *model, size_t n, const char *path, t5_spm **out, t5_error *err),
       (model, n, path, out, err))
SPARED(t5_status, t5_spm_encode,
       (const t5_spm *spm, const char *text, size_t n, size_t n_spare, int32_t **out, size_t *out_n, t5_error *err),
       (spm, text, n, n_spare, out, out_n, err))
SPARED(t5_status, t5_spm_decode,
       (const t5_spm *spm, const int32_t *ids, size_t n, char **out, size_t *out_n, t5_error *err),
       (spm, ids, n, out, out_n, err))

/* --- system calls --- */

#define FAIL_CALL(type, name, error, value, params, args) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params \
    { \
        if (!failing_now(FAIL_##name)) return __real_##name args; \
        if ((error) != 0) errno = (error); \
        return value; \
    }
#include "failing.def"

int __real_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    if (op != EPOLL_CTL_ADD || !failing_now(FAIL_EPOLL_ADD)) return __real_epoll_ctl(epoll_fd, op, fd, event);
    errno = ENOMEM;
    return -1;
}
