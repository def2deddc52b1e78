/* bench/exp/loop.c: graphs that repeat on the device: one conditional WHILE node (CUDA 12.4 on). The fibers repeat by
 * hand. See loop.h. */
#include "bench/exp/loop.h"
#include "cuda/check.h"

#include <stdlib.h>

#ifdef EXP_ON_FIBERS

t5_status exp_loop_create(exp_rig *rig, exp_body body, void *ctx, exp_condition *to_ctx, exp_loop *out, t5_error *err)
{
    (void)rig;
    unsigned *condition = calloc(1, sizeof *condition);
    if (condition == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "a condition");
    *to_ctx = condition;
    *out = (exp_loop){.condition = condition, .body = body, .ctx = ctx};
    return T5_OK;
}

t5_status exp_loop_launch(void *loop, int n, cudaStream_t stream, t5_error *err)
{
    (void)n;
    exp_loop *l = loop;
    t5_status status = T5_OK;
    do {
        status = l->body(l->ctx, 1, stream, err);
        if (status == T5_OK) status = T5_CUDA(err, cudaStreamSynchronize(stream));
    } while (status == T5_OK && *l->condition != 0);
    return status;
}

void exp_loop_destroy(exp_loop *loop)
{
    free(loop->condition);
    loop->condition = NULL;
}

#else

/* An empty WHILE node in `graph`; *out_inside is the graph that it repeats, and belongs to it. */
static t5_status add_loop(cudaGraph_t graph, exp_condition condition, cudaGraph_t *out_inside, t5_error *err)
{
    cudaGraphNode_t node;
    struct cudaGraphNodeParams params = {0};
    params.type = cudaGraphNodeTypeConditional;
    params.conditional.handle = condition;
    params.conditional.type = cudaGraphCondTypeWhile;
    params.conditional.size = 1;
#if CUDART_VERSION >= 13000
    t5_status status = T5_CUDA(err, cudaGraphAddNode(&node, graph, NULL, NULL, 0, &params));
#else
    t5_status status = T5_CUDA(err, cudaGraphAddNode(&node, graph, NULL, 0, &params));
#endif
    if (status == T5_OK) *out_inside = params.conditional.phGraph_out[0];
    return status;
}

static t5_status record_inside(exp_rig *rig, exp_body body, void *ctx, cudaGraph_t inside, t5_error *err)
{
    cudaGraph_t same = NULL;
    t5_status status = T5_CUDA(
        err, cudaStreamBeginCaptureToGraph(rig->stream, inside, NULL, NULL, 0, cudaStreamCaptureModeThreadLocal));
    if (status != T5_OK) return status;
    status = body(ctx, 1, rig->stream, err);
    t5_status end_status = T5_CUDA(err, cudaStreamEndCapture(rig->stream, &same));
    return status == T5_OK ? end_status : status;
}

t5_status exp_loop_create(exp_rig *rig, exp_body body, void *ctx, exp_condition *to_ctx, exp_loop *out, t5_error *err)
{
    t5_status status = T5_OK;
    cudaGraph_t graph = NULL, inside = NULL;
    *out = (exp_loop){.body = body, .ctx = ctx};
    T5_TRY(T5_CUDA(err, cudaGraphCreate(&graph, 0)));
    T5_TRY(T5_CUDA(err, cudaGraphConditionalHandleCreate(&out->condition, graph, 1, cudaGraphCondAssignDefault)));
    *to_ctx = out->condition;
    T5_TRY(add_loop(graph, out->condition, &inside, err));
    T5_TRY(record_inside(rig, body, ctx, inside, err));
    T5_TRY(T5_CUDA(err, cudaGraphInstantiate(&out->exec, graph, 0)));
out:
    if (graph != NULL) cudaGraphDestroy(graph);
    return status;
}

t5_status exp_loop_launch(void *loop, int n, cudaStream_t stream, t5_error *err)
{
    (void)n;
    return T5_CUDA(err, cudaGraphLaunch(((exp_loop *)loop)->exec, stream));
}

void exp_loop_destroy(exp_loop *loop)
{
    if (loop->exec != NULL) cudaGraphExecDestroy(loop->exec);
    loop->exec = NULL;
}

#endif
