/* bench/exp/loop.h: graphs that repeat on the device. */
#pragma once
#include "bench/exp/exp.h"

T5_C_BEGIN

/* The condition of a loop; a kernel of its body sets it (exp_set_condition() in device.cuh). */
#ifdef EXP_ON_FIBERS
typedef unsigned *exp_condition; /* in host memory */
#else
typedef cudaGraphConditionalHandle exp_condition;
#endif

typedef struct {
    cudaGraphExec_t exec;
    exp_condition condition;
    exp_body body;
    void *ctx;
} exp_loop;

/* A graph whose one node repeats what body(ctx, 1) queues until a kernel of it clears the condition, which *to_ctx
 * holds before anything is recorded. Release with exp_loop_destroy(), also after an error. */
t5_status exp_loop_create(exp_rig *rig, exp_body body, void *ctx, exp_condition *to_ctx, exp_loop *out, t5_error *err);
/* Queues the loop; an exp_body whose ctx is the exp_loop. */
t5_status exp_loop_launch(void *loop, int n, cudaStream_t stream, t5_error *err);
void exp_loop_destroy(exp_loop *loop);

T5_C_END
