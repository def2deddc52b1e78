/* cpu/host.c: see host.h. */
#include "cpu/host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large areas come as fresh zero pages from the kernel, so that what is reserved but never used costs no memory (and
 * memory may run short when it is first used, not here); small ones from the heap. The size is kept in front of what
 * the caller gets. */
#define HEADER_BYTES 256
#define MAP_BYTES_MIN ((size_t)1 << 20)
/* Large pages from here on: five hundred times fewer faults when it is first used. */
#define HUGE_BYTES_MIN ((size_t)4 << 20)

t5_status t5_host_alloc(t5_backend *b, size_t n_bytes, void **out, t5_error *err)
{
    (void)b;
    if (n_bytes > SIZE_MAX / 2) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes of host memory", n_bytes);
    size_t n_total = (n_bytes + 2 * HEADER_BYTES - 1) / HEADER_BYTES * HEADER_BYTES;
    char *area = NULL;
    if (n_total >= MAP_BYTES_MIN) {
        void *map = mmap(NULL, n_total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map != MAP_FAILED) area = map;
        if (area != NULL && n_total >= HUGE_BYTES_MIN) (void)madvise(area, n_total, MADV_HUGEPAGE);
    } else {
        area = aligned_alloc(HEADER_BYTES, n_total);
        if (area != NULL) memset(area, 0, n_total);
    }
    if (area == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes of host memory", n_bytes);
    memcpy(area, &n_total, sizeof n_total);
    *out = area + HEADER_BYTES;
    return T5_OK;
}

void t5_host_release(t5_backend *b, void *p)
{
    (void)b;
    if (p == NULL) return;
    char *area = (char *)p - HEADER_BYTES;
    size_t n_total = 0;
    memcpy(&n_total, area, sizeof n_total);
    if (n_total >= MAP_BYTES_MIN) {
        munmap(area, n_total);
    } else {
        free(area);
    }
}

t5_status t5_host_copy(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    (void)b;
    (void)err;
    memcpy(dst, src, n_bytes);
    return T5_OK;
}

t5_status t5_host_sync(t5_backend *b, t5_error *err)
{
    (void)b;
    (void)err;
    return T5_OK;
}
