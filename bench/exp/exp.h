/* bench/exp/exp.h: what the GPU experiments share: one process a case, timing, buffers, one JSON line a result.
 *
 * A program names its cases and calls exp_main(). Each case runs in a child process of its own with a time limit, so
 * that a kernel that hangs or corrupts the device spoils nothing else. Results go to stdout, a line each:
 *   {"experiment":1,"case":"node_gap", ...}     {"experiment":1,"case":"cluster","skipped":"why"}
 *   {"experiment":1,"case":"flags","error":"what"}
 *
 * The same files compile for the host fibers of tests/simt; there a rehearsal shows that the kernels are right and the
 * program works, and its times mean nothing. One thread. */
#pragma once
#include "base/error.h"
#include <cuda_runtime_api.h>

#include <stddef.h>

T5_C_BEGIN

enum { EXP_BUFFERS_MAX = 256 };

typedef struct {
    int experiment;
    const char *case_name;
    const char *model_dir; /* --model, or NULL */
    bool is_rehearsal;     /* small sizes, few repetitions */
    struct cudaDeviceProp device;
    cudaStream_t stream, side;
    cudaEvent_t start, stop;
    void *buffers[EXP_BUFFERS_MAX]; /* [dev] freed when the case ends */
    int n_buffers;
} exp_rig;

typedef struct {
    const char *name, *help;
    t5_status (*run)(exp_rig *rig, t5_error *err);
} exp_case;

/* Flags: --rehearse, --case NAME, --seconds N (limit of a case), --list, --model DIR. Returns main()'s exit code: 0
 * when every case ended well or was skipped, 1 when one failed, 2 for bad arguments. */
int exp_main(int argc, char **argv, int experiment, const exp_case *cases, size_t n_cases);

/* One result: `format` makes the members after "case", without braces. */
void exp_line(const exp_rig *rig, const char *format, ...) __attribute__((format(printf, 2, 3)));
void exp_skip(const exp_rig *rig, const char *reason);
/* `on_gpu` on a GPU, `in_rehearsal` on fibers. */
int exp_choose(const exp_rig *rig, int on_gpu, int in_rehearsal);

/* Device memory until the end of the case; contents undefined. */
t5_status exp_alloc(exp_rig *rig, size_t n_bytes, void **out, t5_error *err);
/* The same with a copy of `src` in it, which is free afterwards. */
t5_status exp_upload(exp_rig *rig, const void *src, size_t n_bytes, void **out, t5_error *err);
/* Copies to the host and waits for the stream. */
t5_status exp_download(exp_rig *rig, void *dst, const void *src, size_t n_bytes, t5_error *err);
t5_status exp_sync(exp_rig *rig, t5_error *err);

/* Queues n units of work on `stream`; also called while the stream is recorded. */
typedef t5_status (*exp_body)(void *ctx, int n, cudaStream_t stream, t5_error *err);
/* Records body(ctx, n) as a graph. Destroy with cudaGraphExecDestroy(). */
t5_status exp_record(exp_rig *rig, exp_body body, void *ctx, int n, cudaGraphExec_t *out, t5_error *err);
/* Median microseconds of body(ctx, n), queued as it is or as a graph; the stream is empty before each repetition, so
 * that chains do not run into each other. The first two runs do not count. */
t5_status exp_time_stream(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err);
t5_status exp_time_graph(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err);
/* Microseconds of one unit more, from graphs of n and 2 n units: what a launch costs by itself drops out. */
t5_status exp_time_unit(exp_rig *rig, exp_body body, void *ctx, int n, double *out_us, t5_error *err);

/* T5_ERR_FORMAT naming the first element that differs by more than tolerance * (1 + |expected|); NaN always differs. */
t5_status exp_compare(const float *got, const float *expected, size_t n, float tolerance, t5_error *err);

T5_C_END
