/* tests/failing_alloc.c: see failing_alloc.h. */
#include "failing_alloc.h"

#include <stdatomic.h>
#include <stddef.h>

static atomic_int n_until_failure = -1; /* negative: none fails */

/* The linker's names for the wrapper and the wrapped. */
void *__wrap_malloc(size_t n_bytes);
void *__wrap_calloc(size_t n, size_t n_bytes);
void *__wrap_realloc(void *p, size_t n_bytes);
void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t n_bytes);
void *__real_realloc(void *p, size_t n_bytes);

static bool fails_now(void)
{
    return atomic_fetch_sub(&n_until_failure, 1) == 0;
}

void *__wrap_malloc(size_t n_bytes)
{
    return fails_now() ? NULL : __real_malloc(n_bytes);
}

void *__wrap_calloc(size_t n, size_t n_bytes)
{
    return fails_now() ? NULL : __real_calloc(n, n_bytes);
}

void *__wrap_realloc(void *p, size_t n_bytes)
{
    return fails_now() ? NULL : __real_realloc(p, n_bytes);
}

void failing_alloc_begin(int n)
{
    atomic_store(&n_until_failure, n);
}

bool failing_alloc_end(void)
{
    return atomic_exchange(&n_until_failure, -1) < 0;
}
