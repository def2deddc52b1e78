/* cpu/threads.c: see threads.h.
 *
 * Each thread has a range of a call's tasks, neighbours, the same ones whenever calls are alike: what they read and
 * write stays in its core's cache from step to step. It takes its first, and when it has none left, the last of
 * another's. A range is one word with the number of the call, so a task is taken with compare-and-swap: that fails when
 * the call is over, so a late worker can't take from the next call by mistake, and what describes the call may be read
 * after a success, because the call can't end before the task does.
 *
 * Sleeping: a worker says so and looks at its range once more before it waits; the caller fills the range and then
 * looks whether its worker sleeps. Both orders are sequentially consistent, so one sees the other. The same between the
 * caller, who waits for the last task, and the thread that ends it.
 *
 * Shared cores: when another process wants a worker's core, the kernel stops the worker at one of its ticks, most
 * likely in the middle of a task, and the caller, which has a core of its own, waits milliseconds for it. Two threads
 * are then slower than one. So a worker offers its core between tasks, every TURN_NS: a neighbour has its turn while
 * the worker holds no task, and the caller works alone. Without a neighbour that is a system call of less than a
 * microsecond.
 *
 * When no core is idle, the kernel may also wake a worker on the caller's core, where each stops the other. So a worker
 * that finds itself there leaves, by forbidding itself that core for a moment. (The kernel then takes the cores of that
 * moment for its wish: cores that the process is given later it does not use. The pool does not grow either.) */
#include "cpu/threads.h"

#include "base/assert.h"
#include "base/clock.h"
#include "cpu/quota.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define SPIN_NS 50000      /* longer than the gap between two operations of a step */
#define SPINS_PER_CLOCK 64 /* looks at what is awaited between looks at the clock */

/* Longer than the kernel lets a thread run at least (1.4 ms with two cores), the rest of which who yields earlier
 * loses. Two of them are shorter than its tick (4 ms), at which it takes the core itself. */
#define TURN_NS 1800000

/* Bits of a range: the call, the first task, and the task past the last. */
#define TASK_BITS 18
#define TASKS_MAX ((1 << TASK_BITS) - 1) /* of one range */

typedef struct {
    _Alignas(64) _Atomic uint64_t bits;
    _Atomic bool is_asleep; /* its worker */
} range;

typedef struct {
    t5_threads *threads;
    pthread_t id;
    pthread_cond_t wake;
    int32_t i_thread;
    int64_t turn_end_ns;
    int64_t n_stopped; /* by the kernel, when the turn began */
} worker;

struct t5_threads {
    int32_t n_threads;
    int32_t n_workers; /* that were started */
    worker *workers;
    range *ranges; /* [n_threads] */
    uint64_t call; /* number of it; the caller's own */
    /* The call: written by the caller while no task is open, read by who took a task. */
    t5_task *task;
    void *ctx;
    int32_t first_task, n_tasks;
    _Alignas(64) _Atomic int32_t n_done;
    _Alignas(64) _Atomic bool caller_sleeps;
    _Atomic int caller_core; /* when the call began; -1 before the first */
    _Atomic bool is_stopping;
    pthread_mutex_t mutex; /* for the conditions only */
    pthread_cond_t all_done;
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int32_t end_of(uint64_t bits)
{
    return (int32_t)(bits & TASKS_MAX);
}

static int32_t begin_of(uint64_t bits)
{
    return end_of(bits >> TASK_BITS);
}

/* The first task of a range, or the last. False when none is left. */
static bool take(range *r, bool is_first, int32_t *i_task)
{
    uint64_t bits = atomic_load(&r->bits);
    do {
        if (begin_of(bits) == end_of(bits)) return false;
        *i_task = is_first ? begin_of(bits) : end_of(bits) - 1;
    } while (!atomic_compare_exchange_weak(&r->bits, &bits, is_first ? bits + ((uint64_t)1 << TASK_BITS) : bits - 1));
    return true;
}

/* Runs one task of the open call. False when none is left. */
static bool run_one(t5_threads *threads, int32_t i_thread)
{
    int32_t i_task = 0, i_range = i_thread;
    while (!take(&threads->ranges[i_range], i_range == i_thread, &i_task)) {
        i_range = (i_range + 1) % threads->n_threads;
        if (i_range == i_thread) return false;
    }
    const int32_t n_tasks = threads->n_tasks; /* the next call may change it once this task is done */
    threads->task(threads->ctx, threads->first_task + i_task, i_thread);
    if (atomic_fetch_add(&threads->n_done, 1) + 1 < n_tasks) return true;
    if (!atomic_load(&threads->caller_sleeps)) return true;
    pthread_mutex_lock(&threads->mutex);
    pthread_cond_signal(&threads->all_done);
    pthread_mutex_unlock(&threads->mutex);
    return true;
}

/* Of the worker's own range: those of others don't grow. */
static bool has_work(t5_threads *threads, int32_t i_thread)
{
    const uint64_t bits = atomic_load(&threads->ranges[i_thread].bits);
    return begin_of(bits) != end_of(bits) || atomic_load(&threads->is_stopping);
}

static bool is_done(t5_threads *threads, int32_t i_thread)
{
    (void)i_thread;
    return atomic_load(&threads->n_done) == threads->n_tasks;
}

/* Looks for a short while whether it has come. */
static bool comes_soon(t5_threads *threads, int32_t i_thread, bool (*has_come)(t5_threads *, int32_t))
{
    const int64_t give_up_ns = t5_clock_ns() + SPIN_NS;
    do {
        for (int32_t i = 0; i < SPINS_PER_CLOCK; i++) {
            if (has_come(threads, i_thread)) return true;
            pause_cpu();
        }
    } while (t5_clock_ns() < give_up_ns);
    return false;
}

/* How often the kernel has stopped this thread for another one. */
static int64_t times_stopped(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

static void begin_turn(worker *w)
{
    w->n_stopped = times_stopped();
    w->turn_end_ns = t5_clock_ns() + TURN_NS;
}

static void sleep_until_work(worker *w)
{
    t5_threads *threads = w->threads;
    _Atomic bool *is_asleep = &threads->ranges[w->i_thread].is_asleep;
    pthread_mutex_lock(&threads->mutex);
    atomic_store(is_asleep, true);
    while (!has_work(threads, w->i_thread))
        pthread_cond_wait(&w->wake, &threads->mutex);
    atomic_store(is_asleep, false);
    pthread_mutex_unlock(&threads->mutex);
    begin_turn(w);
}

/* The worker holds no task. Offers its core when its turn is over and no neighbour has had it meanwhile. */
static void take_turns(worker *w)
{
    if (t5_clock_ns() < w->turn_end_ns) return;
    if (times_stopped() == w->n_stopped) sched_yield();
    begin_turn(w);
}

static void leave_core(int core)
{
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
    others = allowed;
    CPU_CLR((size_t)core, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0)
        nanosleep(&(struct timespec){.tv_nsec = TURN_NS}, NULL); /* nowhere to go */
    else
        sched_setaffinity(0, sizeof allowed, &allowed);
}

static void *worker_main(void *arg)
{
    worker *self = arg;
    t5_threads *threads = self->threads;
    while (!atomic_load(&threads->is_stopping)) {
        take_turns(self);
        const int core = sched_getcpu();
        if (core >= 0 && core == atomic_load_explicit(&threads->caller_core, memory_order_relaxed)) {
            has_work(threads, self->i_thread) ? leave_core(core) : sleep_until_work(self);
        } else if (!run_one(threads, self->i_thread) && !comes_soon(threads, self->i_thread, has_work)) {
            sleep_until_work(self);
        }
    }
    return NULL;
}

static void wait_for_tasks(t5_threads *threads)
{
    if (is_done(threads, 0) || comes_soon(threads, 0, is_done)) return;
    pthread_mutex_lock(&threads->mutex);
    atomic_store(&threads->caller_sleeps, true);
    while (!is_done(threads, 0))
        pthread_cond_wait(&threads->all_done, &threads->mutex);
    atomic_store(&threads->caller_sleeps, false);
    pthread_mutex_unlock(&threads->mutex);
}

/* A range without tasks stays as it is: empty, of an earlier call. The caller's comes last: a worker that looks around
 * meanwhile finds its own first. */
static void fill_ranges(t5_threads *threads)
{
    const int64_t n_tasks = threads->n_tasks, n_threads = threads->n_threads;
    threads->call++;
    for (int32_t i = threads->n_threads - 1; i >= 0; i--) {
        const int64_t begin = (n_tasks * i + n_threads - 1) / n_threads;
        const int64_t end = (n_tasks * (i + 1) + n_threads - 1) / n_threads;
        const uint64_t bits = threads->call << 2 * TASK_BITS | (uint64_t)begin << TASK_BITS | (uint64_t)end;
        if (begin < end) atomic_store(&threads->ranges[i].bits, bits);
    }
}

/* Who sleeps, and has tasks. After all ranges are filled: waking takes long, and others may have the tasks by then. */
static void wake_workers(t5_threads *threads)
{
    for (int32_t i = 1; i < threads->n_threads; i++) {
        if (!atomic_load(&threads->ranges[i].is_asleep) || !has_work(threads, i)) continue;
        pthread_mutex_lock(&threads->mutex);
        pthread_cond_signal(&threads->workers[i - 1].wake);
        pthread_mutex_unlock(&threads->mutex);
    }
}

/* Tasks first_task .. first_task + n_tasks - 1. */
static void run_call(t5_threads *threads, int32_t first_task, int32_t n_tasks, t5_task *task, void *ctx)
{
    threads->task = task;
    threads->ctx = ctx;
    threads->first_task = first_task;
    threads->n_tasks = n_tasks;
    atomic_store_explicit(&threads->caller_core, sched_getcpu(), memory_order_relaxed);
    atomic_store(&threads->n_done, 0);
    fill_ranges(threads);
    wake_workers(threads);
    while (run_one(threads, 0)) {
    }
    wait_for_tasks(threads);
}

void t5_threads_run(t5_threads *threads, int32_t n_tasks, t5_task *task, void *ctx)
{
    T5_ASSERT(n_tasks >= 0);
    if (n_tasks <= 1 || threads->n_workers == 0) {
        for (int32_t i = 0; i < n_tasks; i++)
            task(ctx, i, 0);
        return;
    }
    for (int32_t i = 0; i < n_tasks; i += TASKS_MAX)
        run_call(threads, i, n_tasks - i < TASKS_MAX ? n_tasks - i : TASKS_MAX, task, ctx);
}

static int32_t cores_available(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int32_t n_quota = t5_quota_cores("/sys/fs/cgroup", "/proc/self/cgroup");
    const int32_t n = CPU_COUNT(&set) < n_quota ? CPU_COUNT(&set) : n_quota;
    return n < 1 ? 1 : n;
}

static t5_status start_workers(t5_threads *threads, t5_error *err)
{
    for (int32_t i = 1; i < threads->n_threads; i++) {
        worker *w = &threads->workers[i - 1];
        *w = (worker){.threads = threads, .i_thread = i};
        pthread_cond_init(&w->wake, NULL);
        const int rc = pthread_create(&w->id, NULL, worker_main, w);
        if (rc != 0) {
            pthread_cond_destroy(&w->wake);
            return T5_FAIL(err, T5_ERR_NOMEM, "thread %d of %d: %s", i, threads->n_threads, strerror(rc));
        }
        threads->n_workers++;
    }
    return T5_OK;
}

t5_status t5_threads_create(int32_t n_threads, t5_threads **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_threads *threads = NULL;
    if (n_threads < 0 || n_threads > T5_THREADS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%d threads: must be 0 to %d", n_threads, T5_THREADS_MAX);
    threads = aligned_alloc(_Alignof(t5_threads), sizeof *threads);
    if (threads == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "threads: %zu bytes", sizeof *threads);
    memset(threads, 0, sizeof *threads);
    atomic_store(&threads->caller_core, -1);
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->all_done, NULL);
    threads->n_threads = n_threads == 0 ? cores_available() : n_threads;
    threads->workers = calloc((size_t)threads->n_threads, sizeof *threads->workers);
    threads->ranges = aligned_alloc(_Alignof(range), (size_t)threads->n_threads * sizeof *threads->ranges);
    if (threads->ranges != NULL) memset(threads->ranges, 0, (size_t)threads->n_threads * sizeof *threads->ranges);
    if (threads->workers == NULL || threads->ranges == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%d threads", threads->n_threads);
        goto out;
    }
    T5_TRY(start_workers(threads, err));
    *out = threads;
    threads = NULL;
out:
    t5_threads_destroy(threads);
    return status;
}

void t5_threads_destroy(t5_threads *threads)
{
    if (threads == NULL) return;
    pthread_mutex_lock(&threads->mutex);
    atomic_store(&threads->is_stopping, true);
    for (int32_t i = 0; i < threads->n_workers; i++)
        pthread_cond_signal(&threads->workers[i].wake);
    pthread_mutex_unlock(&threads->mutex);
    for (int32_t i = 0; i < threads->n_workers; i++) {
        pthread_join(threads->workers[i].id, NULL);
        pthread_cond_destroy(&threads->workers[i].wake);
    }
    pthread_cond_destroy(&threads->all_done);
    pthread_mutex_destroy(&threads->mutex);
    free(threads->workers);
    free(threads->ranges);
    free(threads);
}

int32_t t5_threads_count(const t5_threads *threads)
{
    return threads->n_threads;
}
