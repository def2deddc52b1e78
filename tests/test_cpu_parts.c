/* tests/test_cpu_parts.c: parts of the fast CPU backend that stand alone: the thread pool, the quota of control groups,
 * the memory of weights, and the vector versions of what the search does over a vocabulary. */
#include "base/clock.h"
#include "cpu/arena.h"
#include "cpu/kernels.h"
#include "cpu/quota.h"
#include "cpu/threads.h"
#include "cpu_rig.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void check_vocab(const t5_vocab_ops *ops, const float *x, int32_t n)
{
    static const int32_t ks[] = {1, 2, 8, 50, 64, 65, 500};
    t5_candidate want[500], got[500];
    assert_int_equal(ops->argmax(x, n), t5_vocab_ops_plain.argmax(x, n));
    const float sum = t5_vocab_ops_plain.log_sum_exp(x, n);
    if (isinf(sum)) {
        assert_true(ops->log_sum_exp(x, n) == sum);
    } else {
        assert_true(fabsf(ops->log_sum_exp(x, n) - sum) <= 2e-6f * fmaxf(1.0f, fabsf(sum)));
    }
    for (size_t i = 0; i < T5_COUNT(ks); i++) {
        const int32_t n_want = t5_vocab_ops_plain.top_k(x, n, ks[i], want);
        assert_int_equal(ops->top_k(x, n, ks[i], got), n_want);
        for (int32_t j = 0; j < n_want; j++) {
            assert_int_equal(got[j].token, want[j].token);
            assert_true(got[j].score == want[j].score);
        }
    }
}

/* Claim: argmax and top_k equal the plain ones, order among equals included; log_sum_exp within a few ulp. Method:
 * ordinary logits, many ties, masked tokens, only masked tokens, large values; lengths with every rest. */
static void vocab_ops_match_plain(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 3, 16, 31, 255, 256, 257, 1001, 32128};
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
        if (!(*table)->is_supported()) continue;
        for (size_t i = 0; i < T5_COUNT(sizes); i++) {
            const int32_t n = sizes[i];
            float *x = rig_random_floats((size_t)n, 5.0f);
            check_vocab(&(*table)->vocab, x, n);
            for (int32_t j = 0; j < n; j++)
                x[j] = 40.0f + roundf(x[j]);
            check_vocab(&(*table)->vocab, x, n);
            for (int32_t j = 0; j < n; j += 3)
                x[j] = -INFINITY;
            check_vocab(&(*table)->vocab, x, n);
            for (int32_t j = 0; j < n; j++)
                x[j] = -INFINITY;
            check_vocab(&(*table)->vocab, x, n);
            free(x);
        }
    }
}

/* Claim: one NaN in a row makes its log-sum-exp NaN, and its 8-bit scale, which an infinity does too. Method: the value
 * at each place, in rows with and without a rest. */
static void odd_values_are_passed_on(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 5, 16, 64, 67};
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
        if (!(*table)->is_supported()) continue;
        for (size_t i = 0; i < T5_COUNT(sizes) * T5_COUNT(odd); i++) {
            const int32_t n = sizes[i / T5_COUNT(odd)];
            const float value = odd[i % T5_COUNT(odd)];
            float *x = rig_random_floats((size_t)n, 5.0f);
            uint8_t q[68];
            assert_true(isfinite((*table)->quantize_row(x, n, q)));
            for (int32_t j = 0; j < n; j++) {
                const float kept = x[j];
                x[j] = value;
                assert_true(isnan((*table)->quantize_row(x, n, q)));
                if (isnan(value) && n > 1) assert_true(isnan((*table)->vocab.log_sum_exp(x, n)));
                x[j] = kept;
            }
            free(x);
        }
    }
}

/* Claim: a NaN in a query, a key or a score's bias makes that head's context NaN: never a mean of some values. Method:
 * one head over a block and a rest. */
static void attend_passes_nan_on(void **state)
{
    (void)state;
    enum { D_KV = 20, N = 21, BLOCK_LEN = 2 * T5_KV_BLOCK * D_KV };
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
        if (!(*table)->is_supported()) continue;
        for (int32_t place = -1; place < 3; place++) {
            float *memory = rig_random_floats(2 * BLOCK_LEN, 1.0f);
            float *q = rig_random_floats(D_KV, 1.0f), *bias = rig_random_floats(N, 1.0f);
            float scores[2 * T5_KV_BLOCK], ctx[D_KV];
            const uint8_t is_mixed[2] = {0, 0};
            const float *blocks[N];
            for (int32_t j = 0; j < N; j++)
                blocks[j] = memory + j / T5_KV_BLOCK * BLOCK_LEN;
            float *const odd[] = {&q[7], &memory[BLOCK_LEN + 3], &bias[2]};
            if (place >= 0) *odd[place] = NAN;
            (*table)->attend(&(t5_attend){.q = q,
                                          .d_kv = D_KV,
                                          .n = N,
                                          .blocks = blocks,
                                          .is_mixed = is_mixed,
                                          .v_offset = BLOCK_LEN / 2,
                                          .bias = bias,
                                          .scores = scores,
                                          .ctx = ctx});
            for (int32_t d = 0; d < D_KV; d++)
                assert_true(!isnan(ctx[d]) == (place < 0));
            free(memory);
            free(q);
            free(bias);
        }
    }
}

typedef struct {
    _Atomic int32_t n_runs[40];
    _Atomic int32_t n_inside[3];
    _Atomic bool has_clash;
} tally;

static void count_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    tally *t = ctx;
    if (atomic_fetch_add(&t->n_inside[i_thread], 1) != 0) atomic_store(&t->has_clash, true);
    atomic_fetch_add(&t->n_runs[i_task], 1);
    atomic_fetch_sub(&t->n_inside[i_thread], 1);
}

/* Claim: each task of each call runs once, no two at a time under one thread number, also after the workers went to
 * sleep. Method: thousands of short calls, with pauses. */
static void threads_run_each_task_once(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_threads *threads = NULL;
    assert_int_equal(t5_threads_create(3, &threads, &err), T5_OK);
    for (int32_t call = 0; call < 3000; call++) {
        tally t = {0};
        const int32_t n = call % 41;
        if (call % 500 == 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        t5_threads_run(threads, n, count_task, &t);
        for (int32_t i = 0; i < 40; i++)
            assert_int_equal(t.n_runs[i], i < n);
        assert_false(t.has_clash);
    }
    t5_threads_destroy(threads);
}

static void mark_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    uint8_t *marks = ctx; /* tasks share no byte */
    marks[i_task]++;
}

/* Claim: more tasks than a thread's range can hold run once each too. */
static void threads_run_many_tasks(void **state)
{
    (void)state;
    enum { N_TASKS = 600000 };
    t5_error err = {0};
    t5_threads *threads = NULL;
    uint8_t *marks = calloc(N_TASKS + 1, 1);
    assert_non_null(marks);
    assert_int_equal(t5_threads_create(2, &threads, &err), T5_OK);
    t5_threads_run(threads, N_TASKS, mark_task, marks);
    for (int32_t i = 0; i < N_TASKS; i++)
        assert_int_equal(marks[i], 1);
    assert_int_equal(marks[N_TASKS], 0);
    t5_threads_destroy(threads);
    free(marks);
}

typedef struct {
    _Atomic int32_t n_begun;
    int32_t thread_of[4];
} meeting;

/* The first two tasks that begin wait for each other, so that two threads have one each. */
static void meet(void *ctx, int32_t i_task, int32_t i_thread)
{
    meeting *m = ctx;
    const int64_t give_up_ns = t5_clock_ns() + INT64_C(10000000000);
    m->thread_of[i_task] = i_thread;
    atomic_fetch_add(&m->n_begun, 1);
    while (atomic_load(&m->n_begun) < 2 && t5_clock_ns() < give_up_ns) {
    }
}

/* Claim: a thread that waits for work begins with its own share of a call, the same one each time: the caller with the
 * first tasks. (One that still looks for tasks of the call before may stray.) */
static void threads_begin_with_their_own(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_threads *threads = NULL;
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    if (CPU_COUNT(&allowed) < 2) return; /* workers keep off the caller's core */
    assert_int_equal(t5_threads_create(2, &threads, &err), T5_OK);
    int32_t n_strayed = 0;
    for (int32_t call = 0; call < 200; call++) {
        meeting m = {.n_begun = 0};
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        t5_threads_run(threads, 4, meet, &m);
        assert_int_equal(m.thread_of[0], 0);
        n_strayed += m.thread_of[2] != 1;
    }
    assert_in_range(n_strayed, 0, 20);
    t5_threads_destroy(threads);
}

typedef struct {
    tally counts;
    _Atomic int32_t n_by_workers;
    int64_t task_ns, worker_task_ns;
} lasting;

/* Keeps its thread busy, as a product does. */
static void last_task(void *ctx, int32_t i_task, int32_t i_thread)
{
    lasting *l = ctx;
    const int64_t end_ns = t5_clock_ns() + (i_thread == 0 ? l->task_ns : l->worker_task_ns);
    while (t5_clock_ns() < end_ns) {
    }
    if (i_thread != 0) atomic_fetch_add(&l->n_by_workers, 1);
    count_task(&l->counts, i_task, i_thread);
}

static void run_lasting(t5_threads *threads, lasting *l)
{
    enum { N_TASKS = 8 };
    l->counts = (tally){0};
    t5_threads_run(threads, N_TASKS, last_task, l);
    for (int32_t i = 0; i < N_TASKS; i++)
        assert_int_equal(l->counts.n_runs[i], 1);
    assert_false(l->counts.has_clash);
}

static void hold_to(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
}

static _Atomic bool is_neighbour_wanted;

static void *neighbour_main(void *core)
{
    hold_to(*(const int *)core);
    while (atomic_load(&is_neighbour_wanted)) {
    }
    return NULL;
}

/* Claim: beside a thread that wants one core all the time, calls end and run each task once, also with tasks on which
 * the caller waits for long; when it has gone, and after a pause, the workers work again. Method: two threads where the
 * neighbour's core is one of those allowed; first short tasks, of which the worker does many in a turn, then some that
 * are longer than a turn. */
static void threads_work_beside_a_neighbour(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_threads *threads = NULL;
    pthread_t neighbour;
    int core = sched_getcpu();
    lasting l = {.task_ns = 20000, .worker_task_ns = 20000};
    assert_int_equal(t5_threads_create(2, &threads, &err), T5_OK);
    atomic_store(&is_neighbour_wanted, true);
    assert_int_equal(pthread_create(&neighbour, NULL, neighbour_main, &core), 0);
    for (int32_t call = 0; call < 2000; call++)
        run_lasting(threads, &l);
    l.worker_task_ns = 5000000;
    for (int32_t call = 0; call < 50; call++)
        run_lasting(threads, &l);
    atomic_store(&is_neighbour_wanted, false);
    pthread_join(neighbour, NULL);
    nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    l = (lasting){.task_ns = 100000, .worker_task_ns = 100000};
    for (int32_t call = 0; call < 5000 && l.n_by_workers == 0; call++)
        run_lasting(threads, &l);
    if (CPU_COUNT(&allowed) > 1) assert_true(l.n_by_workers > 0);
    t5_threads_destroy(threads);
}

/* Claim: a worker takes no task on the caller's core, where the two would only stop each other. Method: a process with
 * one core, and calls that last longer than what the kernel gives a thread at once. The first call, before which the
 * worker can't know the core, is not counted. */
static void workers_keep_off_the_callers_core(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_threads *threads = NULL;
    cpu_set_t allowed;
    lasting l = {.task_ns = 1000000, .worker_task_ns = 1000000};
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    hold_to(sched_getcpu());
    assert_int_equal(t5_threads_create(3, &threads, &err), T5_OK);
    run_lasting(threads, &l);
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    l.n_by_workers = 0;
    for (int32_t call = 0; call < 20; call++) {
        run_lasting(threads, &l);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    assert_int_equal(l.n_by_workers, 0);
    t5_threads_destroy(threads);
    assert_int_equal(sched_setaffinity(0, sizeof allowed, &allowed), 0);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A folder of our own with groups in groups of both versions. */
static const char *const group_folders[] = {"cpu", "cpu/a", "cpu/a/b", "a", "a/b"};

static void make_groups(char *folder)
{
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < T5_COUNT(group_folders); i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", folder, group_folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
}

static void remove_groups(const char *folder)
{
    for (size_t i = T5_COUNT(group_folders); i-- > 0;) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", folder, group_folders[i]);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* Claim: the smallest quota of a process's groups, and of those around them, bounds the threads, rounded up, in both
 * versions of control groups; no quota, "max", -1 and nonsense are no bound. A path of groups that is not there, as in
 * a container, leads to the top. Method: files as the kernel writes them, in a folder of our own. */
static void quota_bounds_threads(void **state)
{
    (void)state;
    static const struct {
        const char *groups, *name, *text;
        int32_t n_cores; /* 0: no bound */
    } cases[] = {{"", "cpu.max", "200000 100000\n", 2},
                 {"0::/\n", "cpu.max", "150000 100000\n", 2},
                 {"0::/\n", "cpu.max", "1000 100000\n", 1},
                 {"0::/\n", "cpu.max", "max 100000\n", 0},
                 {"0::/\n", "cpu.max", "", 0},
                 {"0::/\n", "cpu.max", "5 0\n", 0},
                 {"0::/\n", "cpu.max", "9000000000 1\n", 0},
                 {"0::/a/b\n", "a/b/cpu.max", "300000 100000\n", 3},
                 {"0::/a/b\n", "a/cpu.max", "300000 100000\n", 3},
                 {"0::/a/b\n", "cpu.max", "300000 100000\n", 3},
                 {"0::/a\n", "a/b/cpu.max", "300000 100000\n", 0},
                 {"0::/docker/0123\n", "cpu.max", "300000 100000\n", 3},
                 {"0::/../a\n", "a/cpu.max", "300000 100000\n", 0},
                 {"4:cpu:/\n", "cpu/cpu.cfs_quota_us", "-1\n", 0},
                 {"", "cpu/cpu.cfs_quota_us", "50000\n", 1},
                 {"4:cpu:/\n", "cpu/cpu.cfs_quota_us", "310000\n", 4},
                 {"7:cpuset:/\n4:cpuacct,cpu:/a/b\n0::/\n", "cpu/a/cpu.cfs_quota_us", "310000\n", 4},
                 {"4:cpu,cpuacct:/docker/0123\n0::/\n", "cpu/cpu.cfs_quota_us", "310000\n", 4},
                 {"7:cpuset:/a\n4:cpuacct:/a\n0::\n:\n\n", "cpu/a/cpu.cfs_quota_us", "310000\n", 0}};
    char folder[] = "/tmp/t5_quota_XXXXXX", groups[64], path[64];
    make_groups(folder);
    snprintf(groups, sizeof groups, "%s/groups", folder);
    assert_int_equal(t5_quota_cores(folder, groups), T5_THREADS_MAX);
    write_file(folder, "cpu/cpu.cfs_period_us", "100000\n");
    write_file(folder, "cpu/a/cpu.cfs_period_us", "100000\n");
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        write_file(folder, "groups", cases[i].groups);
        write_file(folder, cases[i].name, cases[i].text);
        assert_int_equal(t5_quota_cores(folder, groups), cases[i].n_cores == 0 ? T5_THREADS_MAX : cases[i].n_cores);
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].name);
        assert_int_equal(unlink(path), 0);
    }
    write_file(folder, "groups", "0::/a/b\n"); /* the smallest of several */
    write_file(folder, "a/b/cpu.max", "400000 100000\n");
    write_file(folder, "a/cpu.max", "200000 100000\n");
    write_file(folder, "cpu.max", "max 100000\n");
    assert_int_equal(t5_quota_cores(folder, groups), 2);
    static const char *const files[] = {"groups",  "a/b/cpu.max",           "a/cpu.max",
                                        "cpu.max", "cpu/cpu.cfs_period_us", "cpu/a/cpu.cfs_period_us"};
    for (size_t i = 0; i < T5_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(unlink(path), 0);
    }
    remove_groups(folder);
}

/* Claim: weights that are taken one after another lie side by side, in pages that live until the last of them is
 * released, whatever the order, and longer than the arena. Method: sizes around the least that is shared and above a
 * chunk; each is filled, and has kept what it was filled with when the others are gone. */
static void weights_lie_side_by_side(void **state)
{
    (void)state;
    static const size_t sizes[] = {100,     65536,    1000000,  63,      65537, (size_t)40 << 20,
                                   7000000, 20000000, 20000000, 1000000, 1};
    char *areas[T5_COUNT(sizes)];
    t5_chunk *chunks[T5_COUNT(sizes)];
    t5_arena arena = {0};
    for (size_t i = 0; i < T5_COUNT(sizes); i++) {
        areas[i] = t5_arena_take(&arena, sizes[i], &chunks[i]);
        assert_non_null(areas[i]);
        assert_int_equal((uintptr_t)areas[i] % T5_LINE_BYTES, 0);
        memset(areas[i], (int)i, sizes[i]);
    }
    t5_arena_close(&arena);
    assert_ptr_equal(areas[2], areas[1] + 65536);
    assert_ptr_equal(areas[4], areas[2] + 1000000); /* small ones and large ones are elsewhere */
    assert_ptr_equal(areas[6], areas[4] + 65536 + 64);
    for (size_t i = 0; i < T5_COUNT(sizes); i++) {
        const size_t k = i * 7 % T5_COUNT(sizes);
        for (size_t j = 0; j < sizes[k]; j++)
            if (areas[k][j] != (char)k) fail_msg("area %zu, byte %zu", k, j);
        t5_chunk_release(chunks[k]);
    }
    t5_chunk *chunk = NULL;
    assert_null(t5_arena_take(&arena, SIZE_MAX - 100, &chunk));
    assert_null(chunk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_lie_side_by_side),        cmocka_unit_test(vocab_ops_match_plain),
        cmocka_unit_test(odd_values_are_passed_on),        cmocka_unit_test(attend_passes_nan_on),
        cmocka_unit_test(threads_run_each_task_once),      cmocka_unit_test(threads_run_many_tasks),
        cmocka_unit_test(threads_begin_with_their_own),    cmocka_unit_test(quota_bounds_threads),
        cmocka_unit_test(threads_work_beside_a_neighbour), cmocka_unit_test(workers_keep_off_the_callers_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
