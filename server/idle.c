/* server/idle.c: see idle.h. The list is one per HTTP thread: a connection is run by one thread for all its life. */
#include "server/idle.h"

#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096
#define MAPPED_BYTES_MIN (32 * 1024) /* up to here libmicrohttpd takes its memory from malloc, among other things */
#define WAIT_MS 50                   /* who asks on and on keeps its memory */
#define TRIMS_MAX 4                  /* for each request that ends */

/* The connections of this thread that wait, the longest first. */
static _Thread_local struct {
    t5_idle *first, *last;
} waiting;

static void stop_waiting(t5_idle *idle)
{
    if (!idle->is_waiting) return;
    if (idle->prev != NULL) idle->prev->next = idle->next;
    if (idle->prev == NULL) waiting.first = idle->next;
    if (idle->next != NULL) idle->next->prev = idle->prev;
    if (idle->next == NULL) waiting.last = idle->prev;
    idle->prev = idle->next = NULL;
    idle->is_waiting = false;
}

static void start_waiting(t5_idle *idle, int64_t now_ms)
{
    idle->is_waiting = true;
    idle->since_ms = now_ms;
    idle->prev = waiting.last;
    if (waiting.last != NULL) waiting.last->next = idle;
    if (waiting.last == NULL) waiting.first = idle;
    waiting.last = idle;
}

static void trim(const t5_idle *idle)
{
    static const char zeros[PAGE_BYTES];
    size_t n_zero = 0; /* bytes of zeros before `at` */
    for (size_t at = 0; at <= idle->n_bytes; at += PAGE_BYTES) {
        bool is_zero = at < idle->n_bytes && memcmp(idle->memory + at, zeros, PAGE_BYTES) == 0;
        if (is_zero) n_zero += PAGE_BYTES;
        if (!is_zero && n_zero > 0) madvise(idle->memory + at - n_zero, n_zero, MADV_DONTNEED);
        if (!is_zero) n_zero = 0;
    }
}

void t5_idle_begin(t5_idle *idle, const char *start, size_t n_bytes)
{
    bool is_mapped = n_bytes > MAPPED_BYTES_MIN && (uintptr_t)start % PAGE_BYTES == 0;
    stop_waiting(idle);
    idle->memory = is_mapped ? (char *)(uintptr_t)start : NULL;
    idle->n_bytes = n_bytes / PAGE_BYTES * PAGE_BYTES;
}

void t5_idle_end(t5_idle *idle, int64_t now_ms, bool is_crowded)
{
    for (int i = 0; i < TRIMS_MAX && is_crowded; i++) {
        t5_idle *longest = waiting.first;
        if (longest == NULL || now_ms - longest->since_ms < WAIT_MS) break;
        trim(longest);
        stop_waiting(longest);
    }
    if (idle->memory != NULL) start_waiting(idle, now_ms);
}

void t5_idle_close(t5_idle *idle)
{
    stop_waiting(idle);
}
