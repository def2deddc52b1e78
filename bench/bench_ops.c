/* bench/bench_ops.c: the products of the CPU backend by shape, number of rows and storage: time, GFLOP/s and the rate
 * at which weights are read. Each shape cycles through as many matrices as a model has, of which a core's own caches
 * hold none. First of all the rate at which as many threads read memory and do nothing else: what products of few rows
 * can come to.
 *
 *   bench_ops [threads [compute type [isa]]] */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "cpu/threads.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WEIGHT_BYTES ((size_t)160 << 20) /* what T5-small's decoder reads for a token, in float32 */
#define HUGE_PAGE ((size_t)2 << 20)
#define STREAMS 4 /* places at which a thread reads at once: with one it is slower, with more hardly faster */
#define PASSES 25
#define PASS_SECONDS 0.01

typedef struct {
    t5_backend *backend;
    t5_matrix **matrices;
    int32_t n_matrices, d_in, d_out;
    float *x, *y;
} bench;

static t5_status open_bench(bench *b, const float *values, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_tensor tensor = {.data = values, .dtype = T5_F32, .n_rows = b->d_out, .n_cols = b->d_in};
    b->n_matrices = (int32_t)(WEIGHT_BYTES / ((size_t)b->d_in * (size_t)b->d_out * sizeof(float))) + 1;
    b->matrices = calloc((size_t)b->n_matrices, sizeof(t5_matrix *));
    if (b->matrices == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d matrices", b->n_matrices);
    for (int32_t i = 0; i < b->n_matrices; i++)
        T5_TRY(b->backend->ops->matrix_create(b->backend, &tensor, 1, 1.0f, &b->matrices[i], err));
out:
    return status;
}

static void close_bench(bench *b)
{
    for (int32_t i = 0; b->matrices != NULL && i < b->n_matrices; i++)
        b->backend->ops->matrix_destroy(b->backend, b->matrices[i]);
    free(b->matrices);
}

/* Seconds for one product: the best of several passes, because other programs disturb. */
static t5_status time_rows(bench *b, int32_t n_rows, double *out, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t i_matrix = 0;
    *out = INFINITY;
    for (int32_t i_pass = 0; i_pass < PASSES; i_pass++) {
        int64_t n = 0;
        int64_t end_ns = 0;
        const int64_t start_ns = t5_clock_ns();
        do {
            const t5_linear_args args = {.x = b->x, .n_rows = n_rows, .w = b->matrices[i_matrix], .y = b->y};
            T5_TRY(b->backend->ops->linear(b->backend, &args, err));
            i_matrix = (i_matrix + 1) % b->n_matrices;
            n++;
            end_ns = t5_clock_ns();
        } while ((double)(end_ns - start_ns) < PASS_SECONDS * 1e9);
        *out = fmin(*out, (double)(end_ns - start_ns) / 1e9 / (double)n);
    }
out:
    return status;
}

typedef struct {
    const uint64_t *words;
    size_t n_words; /* of a task */
    _Atomic uint64_t sum;
} reading;

static void read_part(void *ctx, int32_t i_task, int32_t i_thread)
{
    (void)i_thread;
    reading *r = ctx;
    const uint64_t *words = r->words + (size_t)i_task * r->n_words;
    const size_t n = r->n_words / STREAMS;
    uint64_t sums[STREAMS] = {0};
    for (size_t i = 0; i < n; i++) {
        for (size_t s = 0; s < STREAMS; s++)
            sums[s] += words[s * n + i];
    }
    for (size_t s = 0; s < STREAMS; s++)
        atomic_fetch_add(&r->sum, sums[s]);
}

static t5_status print_read_rate(int32_t n_threads, t5_error *err)
{
    t5_status status = T5_OK;
    t5_threads *threads = NULL;
    double seconds = INFINITY;
    uint64_t *words = aligned_alloc(HUGE_PAGE, WEIGHT_BYTES);
    if (words == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", WEIGHT_BYTES);
    (void)madvise(words, WEIGHT_BYTES, MADV_HUGEPAGE); /* as weights have */
    memset(words, 1, WEIGHT_BYTES);
    T5_TRY(t5_threads_create(n_threads, &threads, err));
    n_threads = t5_threads_count(threads);
    reading r = {.words = words, .n_words = WEIGHT_BYTES / sizeof *words / (size_t)n_threads};
    for (int32_t i_pass = 0; i_pass < PASSES; i_pass++) {
        const int64_t start_ns = t5_clock_ns();
        t5_threads_run(threads, n_threads, read_part, &r);
        seconds = fmin(seconds, (double)(t5_clock_ns() - start_ns) / 1e9);
    }
    printf("memory, read by %d threads: %.1f GB/s\n", n_threads, (double)WEIGHT_BYTES / seconds * 1e-9);
out:
    t5_threads_destroy(threads);
    free(words);
    return status;
}

static const struct {
    const char *name;
    t5_compute_type type;
    double bytes;
} storages[] = {{"float32", T5_COMPUTE_F32, 4.0},
                {"float16", T5_COMPUTE_F16, 2.0},
                {"bfloat16", T5_COMPUTE_BF16, 2.0},
                {"int8", T5_COMPUTE_INT8, 1.0},
                {"int4", T5_COMPUTE_INT4, 0.5625}};

int main(int argc, char **argv)
{
    static const int32_t shapes[][2] = {{512, 512}, {512, 2048}, {2048, 512}, {512, 32128}};
    static const int32_t rows[] = {1, 2, 4, 8, 16, 32, 64, 512};
    const size_t n_values = (size_t)512 * 32128;
    const int32_t n_threads = argc > 1 ? atoi(argv[1]) : 1;
    t5_status status = T5_OK;
    t5_error error = {0};
    bench b = {0};
    float *values = malloc(n_values * sizeof *values);
    b.x = malloc((size_t)512 * 2048 * sizeof *b.x);
    b.y = malloc(n_values * sizeof *b.y);
    if (values == NULL || b.x == NULL || b.y == NULL) return 1;
    for (size_t i = 0; i < n_values; i++)
        values[i] = (float)(i % 1013) / 1013.0f - 0.5f;
    for (size_t i = 0; i < (size_t)512 * 2048; i++)
        b.x[i] = (float)(i % 1009) / 1009.0f - 0.5f;
    bool is_known = false;
    T5_TRY(print_read_rate(n_threads, &error));
    for (size_t t = 0; t < T5_COUNT(storages); t++) {
        if (argc > 2 && strcmp(argv[2], storages[t].name) != 0) continue;
        is_known = true;
        const t5_cpu_options options = {
            .n_threads = n_threads, .compute_type = storages[t].type, .isa = argc > 3 ? argv[3] : NULL};
        T5_TRY(t5_cpu_create(&options, &b.backend, &error));
        printf("%s\n%6s %6s %5s %9s %8s %8s\n", b.backend->device, "d_in", "d_out", "rows", "us", "GFLOP/s", "GB/s");
        for (size_t s = 0; s < T5_COUNT(shapes); s++) {
            b.d_in = shapes[s][0];
            b.d_out = shapes[s][1];
            T5_TRY(open_bench(&b, values, &error));
            for (size_t r = 0; r < T5_COUNT(rows); r++) {
                const double n = (double)b.d_in * b.d_out;
                double seconds = 0.0;
                T5_TRY(time_rows(&b, rows[r], &seconds, &error));
                printf("%6d %6d %5d %9.1f %8.1f %8.1f\n", b.d_in, b.d_out, rows[r], seconds * 1e6,
                       2e-9 * n * rows[r] / seconds, n * storages[t].bytes / seconds * 1e-9);
            }
            close_bench(&b);
            b.matrices = NULL;
        }
        b.backend->ops->destroy(b.backend);
        b.backend = NULL;
    }
    if (!is_known) status = T5_FAIL(&error, T5_ERR_ARG, "compute type %s", argv[2]);
out:
    if (status != T5_OK) fprintf(stderr, "bench_ops: %s\n", error.text);
    free(values);
    free(b.x);
    free(b.y);
    return status == T5_OK ? 0 : 1;
}
