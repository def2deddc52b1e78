/* server/idle.c: see idle.h. The list is one per HTTP thread: a connection is run by one thread for all its life. */
#include "server/idle.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

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

/* All that the client has sent so far is less than a page. */
static bool has_sent_little(int fd)
{
    struct tcp_info info = {0};
    socklen_t n_bytes = sizeof info;
    bool is_known = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n_bytes) == 0 &&
                    n_bytes >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received;
    return is_known && info.tcpi_bytes_received < PAGE_BYTES;
}

/* libmicrohttpd reads a connection's first request to the start of its memory, which is that of a page. A request line
 * that starts a page may also lie further on, behind empty lines, but then these alone fill a page. */
void t5_idle_begin(t5_idle *idle, int fd, const char *start, size_t n_bytes)
{
    stop_waiting(idle);
    if (idle->is_looked_at) return;
    idle->is_looked_at = true;
    bool is_start = n_bytes > MAPPED_BYTES_MIN && (uintptr_t)start % PAGE_BYTES == 0 && has_sent_little(fd);
    if (!is_start) return;
    idle->memory = (char *)(uintptr_t)start;
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
