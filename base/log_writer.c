/* base/log_writer.c: t5_log_start(), _stop(), _dropped(): a ring of bytes between those who log and the thread that
 * writes. Why a thread: write(2) waits for a full pipe, a stopped terminal or a slow disk, and a server must not.
 *
 * The thread itself never waits without end either: it asks poll(2) whether there is room, and a pipe that has some
 * takes PIPE_BUF bytes without waiting. So it can always be joined. */
#include "base/log_writer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/log_line.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_BYTES (1 << 18) /* some 1 500 lines */
#define GATHER_MS 20         /* lines that come within this are written together: a wake-up costs more than a line */
#define POLL_MS 50           /* how often a waiting thread looks whether it must end */
#define STOP_MS 1000
#define CHUNK_BYTES (2 * T5_LOG_LINE_MAX)

static struct {
    pthread_mutex_t mutex; /* guards what follows but the counter */
    pthread_cond_t wake;   /* the ring is not empty, or is_stopping */
    pthread_t thread;
    bool is_running;
    size_t first, n_bytes; /* of the ring */
    char ring[RING_BYTES];
    atomic_bool is_stopping;
    _Atomic int64_t stop_ms; /* when the thread gives up, after is_stopping */
    _Atomic int64_t n_dropped;
    int64_t n_told; /* of n_dropped; the thread's while it runs */
} log_writer = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

bool t5_log_writer_push(const char *line, size_t n_bytes)
{
    pthread_mutex_lock(&log_writer.mutex);
    bool is_running = log_writer.is_running;
    bool fits = log_writer.n_bytes + n_bytes <= RING_BYTES;
    if (is_running && fits) {
        size_t at = (log_writer.first + log_writer.n_bytes) % RING_BYTES;
        size_t n_before_end = RING_BYTES - at < n_bytes ? RING_BYTES - at : n_bytes;
        memcpy(log_writer.ring + at, line, n_before_end);
        memcpy(log_writer.ring, line + n_before_end, n_bytes - n_before_end);
        if (log_writer.n_bytes == 0) pthread_cond_signal(&log_writer.wake);
        log_writer.n_bytes += n_bytes;
    }
    pthread_mutex_unlock(&log_writer.mutex);
    if (is_running && !fits) atomic_fetch_add(&log_writer.n_dropped, 1);
    return is_running;
}

static int64_t count_lines(const char *bytes, size_t n_bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n += bytes[i] == '\n';
    return n;
}

/* Under the lock: waits for the first line, and a moment for others. */
static void await_lines(void)
{
    if (log_writer.n_bytes > 0) return;
    while (log_writer.n_bytes == 0 && !atomic_load(&log_writer.is_stopping))
        pthread_cond_wait(&log_writer.wake, &log_writer.mutex);
    if (atomic_load(&log_writer.is_stopping)) return;
    pthread_mutex_unlock(&log_writer.mutex);
    nanosleep(&(struct timespec){.tv_nsec = GATHER_MS * 1000000L}, NULL);
    pthread_mutex_lock(&log_writer.mutex);
}

/* Moves whole lines out of the ring, as many as fit; waits for the first. 0: the writer stops and nothing is left. */
static size_t take_lines(char chunk[CHUNK_BYTES])
{
    pthread_mutex_lock(&log_writer.mutex);
    await_lines();
    size_t n = log_writer.n_bytes < CHUNK_BYTES ? log_writer.n_bytes : CHUNK_BYTES;
    for (size_t i = 0; i < n; i++)
        chunk[i] = log_writer.ring[(log_writer.first + i) % RING_BYTES];
    while (n > 0 && chunk[n - 1] != '\n')
        n--;
    log_writer.first = (log_writer.first + n) % RING_BYTES;
    log_writer.n_bytes -= n;
    pthread_mutex_unlock(&log_writer.mutex);
    return n;
}

/* The writer ends, and its time for that is over. */
static bool is_late(void)
{
    return atomic_load(&log_writer.is_stopping) && t5_clock_ms() > atomic_load(&log_writer.stop_ms);
}

/* Writes some bytes once there is room, which it awaits for a moment. Returns how many, 0 when there is no room yet, -1
 * when it cannot be done. */
static ssize_t write_some(const char *bytes, size_t n_bytes)
{
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    int n_ready = poll(&room, 1, is_late() ? 0 : POLL_MS);
    if (n_ready <= 0) return 0;
    if (n_bytes > PIPE_BUF) n_bytes = PIPE_BUF;
    ssize_t n = send(STDERR_FILENO, bytes, n_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK) n = write(STDERR_FILENO, bytes, n_bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    return n;
}

/* Returns how many lines could not be written. */
static int64_t write_lines(const char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n = write_some(bytes, n_bytes);
        if (n < 0 || (n == 0 && is_late())) return count_lines(bytes, n_bytes);
        bytes += n;
        n_bytes -= (size_t)n;
    }
    return 0;
}

/* Around the ring, which may be full. */
static void tell_dropped(void)
{
    char text[T5_LOG_TEXT_MAX], line[T5_LOG_LINE_MAX];
    int64_t n_dropped = atomic_load(&log_writer.n_dropped);
    if (n_dropped == log_writer.n_told) return;
    snprintf(text, sizeof text, "log_dropped lines=%lld", (long long)(n_dropped - log_writer.n_told));
    size_t n_bytes = t5_log_make_line(T5_LOG_WARN, text, line);
    if (write_lines(line, n_bytes) == 0) log_writer.n_told = n_dropped;
}

static void *run(void *arg)
{
    char chunk[CHUNK_BYTES];
    (void)arg;
    for (size_t n = take_lines(chunk); n > 0; n = take_lines(chunk)) {
        int64_t n_lost = write_lines(chunk, n);
        atomic_fetch_add(&log_writer.n_dropped, n_lost);
        if (n_lost == 0) tell_dropped();
    }
    return NULL;
}

t5_status t5_log_start(t5_error *err)
{
    atomic_store(&log_writer.is_stopping, false);
    log_writer.n_told = atomic_load(&log_writer.n_dropped);
    if (pthread_create(&log_writer.thread, NULL, run, NULL) != 0)
        return T5_FAIL(err, T5_ERR_NOMEM, "log: cannot start a thread");
    pthread_mutex_lock(&log_writer.mutex);
    log_writer.is_running = true;
    pthread_mutex_unlock(&log_writer.mutex);
    return T5_OK;
}

void t5_log_stop(void)
{
    pthread_mutex_lock(&log_writer.mutex);
    bool was_running = log_writer.is_running;
    log_writer.is_running = false; /* later lines are written where they are made */
    atomic_store(&log_writer.stop_ms, t5_clock_ms() + STOP_MS);
    atomic_store(&log_writer.is_stopping, true);
    pthread_cond_signal(&log_writer.wake);
    pthread_mutex_unlock(&log_writer.mutex);
    if (was_running) pthread_join(log_writer.thread, NULL);
}

int64_t t5_log_dropped(void)
{
    return atomic_load(&log_writer.n_dropped);
}
