/* bench/exp/exp.c: see exp.h. */
#include "bench/exp/exp.h"
#include "base/clock.h"
#include "cuda/check.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CASE_SECONDS = 60, REPEATS = 41, WARM_REPEATS = 2 };

typedef struct {
    bool is_rehearsal, lists;
    const char *only, *model_dir;
    int seconds;
} options;

int exp_choose(const exp_rig *rig, int on_gpu, int in_rehearsal)
{
    return rig->is_rehearsal ? in_rehearsal : on_gpu;
}

/* ---- output ---- */

static void begin_line(const exp_rig *rig)
{
    printf("{\"experiment\":%d,\"case\":\"%s\",%s", rig->experiment, rig->case_name,
           rig->is_rehearsal ? "\"rehearsal\":true," : "");
}

static void end_line(void)
{
    printf("}\n");
    fflush(stdout);
}

void exp_line(const exp_rig *rig, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    begin_line(rig);
    vprintf(format, args);
    end_line();
    va_end(args);
}

/* A text as a JSON string: what would need escaping becomes a space. */
static void text_line(const exp_rig *rig, const char *key, const char *text)
{
    begin_line(rig);
    printf("\"%s\":\"", key);
    for (const char *p = text; *p != '\0'; p++)
        putchar(*p == '"' || *p == '\\' || (unsigned char)*p < ' ' ? ' ' : *p);
    putchar('"');
    end_line();
}

void exp_skip(const exp_rig *rig, const char *reason)
{
    text_line(rig, "skipped", reason);
}

/* ---- memory ---- */

t5_status exp_alloc(exp_rig *rig, size_t n_bytes, void **out, t5_error *err)
{
    if (rig->n_buffers == EXP_BUFFERS_MAX) return T5_FAIL(err, T5_ERR_NOMEM, "more than %d buffers", EXP_BUFFERS_MAX);
    t5_status status = T5_CUDA(err, cudaMalloc(out, n_bytes));
    if (status == T5_OK) rig->buffers[rig->n_buffers++] = *out;
    return status;
}

t5_status exp_upload(exp_rig *rig, const void *src, size_t n_bytes, void **out, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(exp_alloc(rig, n_bytes, out, err));
    T5_TRY(T5_CUDA(err, cudaMemcpyAsync(*out, src, n_bytes, cudaMemcpyHostToDevice, rig->stream)));
    T5_TRY(exp_sync(rig, err));
out:
    return status;
}

t5_status exp_download(exp_rig *rig, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(T5_CUDA(err, cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToHost, rig->stream)));
    T5_TRY(exp_sync(rig, err));
out:
    return status;
}

t5_status exp_sync(exp_rig *rig, t5_error *err)
{
    return T5_CUDA(err, cudaStreamSynchronize(rig->stream));
}

/* ---- time ---- */

/* The stream is empty when this is called. The fibers have no events with times; their clock is the host's. */
static t5_status time_once(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err)
{
    t5_status status = T5_OK;
#ifdef EXP_ON_FIBERS
    int64_t start_ns = t5_clock_ns();
    T5_TRY(body(ctx, n, rig->stream, err));
    T5_TRY(exp_sync(rig, err));
    *out_us = (double)(t5_clock_ns() - start_ns) / 1e3;
#else
    float ms = 0.0f;
    T5_TRY(T5_CUDA(err, cudaEventRecord(rig->start, rig->stream)));
    T5_TRY(body(ctx, n, rig->stream, err));
    T5_TRY(T5_CUDA(err, cudaEventRecord(rig->stop, rig->stream)));
    T5_TRY(exp_sync(rig, err));
    T5_TRY(T5_CUDA(err, cudaEventElapsedTime(&ms, rig->start, rig->stop)));
    *out_us = (double)ms * 1e3;
#endif
out:
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

t5_status exp_time_stream(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err)
{
    t5_status status = T5_OK;
    double us[REPEATS];
    int n_repeats = exp_choose(rig, REPEATS, 1);
    T5_TRY(exp_sync(rig, err));
    for (int i = -exp_choose(rig, WARM_REPEATS, 0); i < n_repeats; i++)
        T5_TRY(time_once(rig, body, ctx, n, &us[i < 0 ? 0 : i], err));
    qsort(us, (size_t)n_repeats, sizeof *us, by_value);
    *out_us = us[n_repeats / 2];
out:
    return status;
}

t5_status exp_record(exp_rig *rig, exp_body body, void *ctx, int n, cudaGraphExec_t *out, t5_error *err)
{
    t5_status status = T5_OK;
    cudaGraph_t graph = NULL;
    T5_TRY(body(ctx, 1, rig->stream, err)); /* loads the kernels, which a recording does not allow */
    T5_TRY(exp_sync(rig, err));
    T5_TRY(T5_CUDA(err, cudaStreamBeginCapture(rig->stream, cudaStreamCaptureModeThreadLocal)));
    status = body(ctx, n, rig->stream, err);
    t5_status end_status = T5_CUDA(err, cudaStreamEndCapture(rig->stream, &graph));
    if (status == T5_OK) status = end_status;
    if (status == T5_OK) status = T5_CUDA(err, cudaGraphInstantiate(out, graph, 0));
out:
    if (graph != NULL) cudaGraphDestroy(graph);
    return status;
}

static t5_status replay(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    (void)n;
    return T5_CUDA(err, cudaGraphLaunch(*(cudaGraphExec_t *)ctx, stream));
}

t5_status exp_time_graph(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err)
{
    t5_status status = T5_OK;
    cudaGraphExec_t exec = NULL;
    T5_TRY(exp_record(rig, body, ctx, n, &exec, err));
    T5_TRY(exp_time_stream(rig, replay, &exec, 1, out_us, err));
out:
    if (exec != NULL) cudaGraphExecDestroy(exec);
    return status;
}

t5_status exp_time_unit(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err)
{
    t5_status status = T5_OK;
    double once_us = 0.0, twice_us = 0.0;
    T5_TRY(exp_time_graph(rig, body, ctx, n, &once_us, err));
    T5_TRY(exp_time_graph(rig, body, ctx, 2 * n, &twice_us, err));
    *out_us = (twice_us - once_us) / n;
out:
    return status;
}

t5_status exp_compare(const float *got, const float *expected, size_t n, float tolerance, t5_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(got[i] - expected[i]) <= tolerance * (1.0f + fabsf(expected[i])))) /* NaN too */
            return T5_FAIL(err, T5_ERR_FORMAT, "wrong result: element %zu of %zu is %g, expected %g", i, n,
                           (double)got[i], (double)expected[i]);
    }
    return T5_OK;
}

/* ---- cases ---- */

static t5_status open_rig(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    int n_devices = 0;
    T5_TRY(T5_CUDA(err, cudaGetDeviceCount(&n_devices)));
    if (n_devices == 0) return T5_FAIL(err, T5_ERR_DEVICE, "no CUDA device");
    T5_TRY(T5_CUDA(err, cudaSetDevice(0)));
    T5_TRY(T5_CUDA(err, cudaGetDeviceProperties(&rig->device, 0)));
    T5_TRY(T5_CUDA(err, cudaStreamCreateWithFlags(&rig->stream, cudaStreamNonBlocking)));
    T5_TRY(T5_CUDA(err, cudaStreamCreateWithFlags(&rig->side, cudaStreamNonBlocking)));
    T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&rig->start, 0)));
    T5_TRY(T5_CUDA(err, cudaEventCreateWithFlags(&rig->stop, 0)));
out:
    return status;
}

static void close_rig(exp_rig *rig)
{
    for (int i = 0; i < rig->n_buffers; i++)
        cudaFree(rig->buffers[i]);
    if (rig->start != NULL) cudaEventDestroy(rig->start);
    if (rig->stop != NULL) cudaEventDestroy(rig->stop);
    if (rig->side != NULL) cudaStreamDestroy(rig->side);
    if (rig->stream != NULL) cudaStreamDestroy(rig->stream);
}

/* In the child: returns its exit code. */
static int run_case(exp_rig *rig, const exp_case *c)
{
    t5_error err = {0};
    t5_status status = open_rig(rig, &err);
    if (status == T5_OK) status = c->run(rig, &err);
    if (status != T5_OK) text_line(rig, "error", err.text);
    close_rig(rig);
    return status == T5_OK ? 0 : 1;
}

/* True when the case ended well. A case that was killed gets its line here. */
static bool fork_case(exp_rig *rig, const exp_case *c, int seconds)
{
    int exit_status = 0;
    char text[64];
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm((unsigned)seconds);
        exit(run_case(rig, c));
    }
    if (child < 0 || waitpid(child, &exit_status, 0) != child) {
        text_line(rig, "error", "no process");
        return false;
    }
    if (WIFEXITED(exit_status)) {
        int code = WEXITSTATUS(exit_status);
        if (code > 1) {
            snprintf(text, sizeof text, "exit code %d", code);
            text_line(rig, "error", text);
        }
        return code == 0;
    }
    int signal_number = WTERMSIG(exit_status);
    if (signal_number == SIGALRM) {
        snprintf(text, sizeof text, "stopped after %d s", seconds);
    } else {
        snprintf(text, sizeof text, "killed by signal %d", signal_number);
    }
    text_line(rig, "error", text);
    return false;
}

static void usage(FILE *to, const char *program, const exp_case *cases, size_t n_cases)
{
    fprintf(to,
            "usage: %s [--rehearse] [--case NAME] [--seconds N] [--list] [--model DIR]\ncases, a JSON line for each "
            "result:\n",
            program);
    for (size_t i = 0; i < n_cases; i++)
        fprintf(to, "  %-12s %s\n", cases[i].name, cases[i].help);
}

/* -1, or the exit code to leave with. */
static int parse(int argc, char **argv, const exp_case *cases, size_t n_cases, options *out)
{
    static const struct option flags[] = {{"rehearse", no_argument, NULL, 'r'},
                                          {"case", required_argument, NULL, 'c'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"list", no_argument, NULL, 'l'},
                                          {"model", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    *out = (options){.seconds = CASE_SECONDS};
    for (int c = 0; (c = getopt_long(argc, argv, "h", flags, NULL)) != -1;) {
        if (c == 'r') out->is_rehearsal = true;
        if (c == 'c') out->only = optarg;
        if (c == 's') out->seconds = atoi(optarg);
        if (c == 'l') out->lists = true;
        if (c == 'm') out->model_dir = optarg;
        if (c == 'h') {
            usage(stdout, argv[0], cases, n_cases);
            return 0;
        }
        if (c == '?') return 2;
    }
    if (optind == argc && out->seconds >= 1) return -1;
    usage(stderr, argv[0], cases, n_cases);
    return 2;
}

int exp_main(int argc, char **argv, int experiment, const exp_case *cases, size_t n_cases)
{
    options o;
    int n_run = 0, n_failed = 0;
    int exit_code = parse(argc, argv, cases, n_cases, &o);
    if (exit_code >= 0) return exit_code;
    for (size_t i = 0; i < n_cases; i++) {
        exp_rig rig = {.experiment = experiment,
                       .case_name = cases[i].name,
                       .model_dir = o.model_dir,
                       .is_rehearsal = o.is_rehearsal};
        if (o.only != NULL && strcmp(o.only, cases[i].name) != 0) continue;
        n_run++;
        if (o.lists) {
            printf("%s\n", cases[i].name);
        } else if (!fork_case(&rig, &cases[i], o.seconds)) {
            n_failed++;
        }
    }
    if (n_run == 0) {
        fprintf(stderr, "%s: no case %s; see --list\n", argv[0], o.only);
        return 2;
    }
    return n_failed == 0 ? 0 : 1;
}
