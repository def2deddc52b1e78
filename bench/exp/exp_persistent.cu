/* bench/exp/exp_persistent.cu: experiment 8's second half: 32 steps of int8 products as four graphs of 8 steps, as one
 * WHILE graph, and as one persistent kernel whose blocks meet after every product. Decides whether a persistent kernel
 * is worth having: it must win 15 %. The kernel does the additions of the graphs' kernels, so all ways must give the
 * same bits. */
#include "bench/exp/int8_steps.cuh"

enum { AHEAD = 2, THREADS = 32 * EXP_W8_WARPS, BLOCKS_MAX = 4 * 160 };

enum barrier { COUNTER, FLAGS };
static const char *const barrier_names[] = {"counter", "flags"};

struct walk_args {
    const steps_product *products;
    int n_products, n_phases; /* a phase is a product of some step */
    const uint8_t *w;
    const float *scale;
    half *rows[2];
    barrier kind;
    unsigned *flags; /* [BLOCKS_MAX] zero; the counter is the first */
};

static __device__ __forceinline__ exp_w8_args product_of(const walk_args &a, int phase)
{
    int i = phase % a.n_products;
    steps_product p = a.products[i];
    const half *from = i % 2 == 0 ? a.rows[0] : a.rows[1];
    half *to = i % 2 == 0 ? a.rows[1] : a.rows[0];
    return {a.w + p.w_at, a.scale + p.scale_at, from, 1, p.d_in, p.d_out, nullptr, to};
}

/* A warp's first weights of a tile, which are constant: fetched before the blocks meet. */
struct weights_ahead {
    exp_w8_rows rows[AHEAD];

    /* The warp's u-th k. */
    static __device__ __forceinline__ int chunk_at(int u)
    {
        return ((int)threadIdx.x / 32 + u * EXP_W8_WARPS) * EXP_W8_CHUNK;
    }
    __device__ __forceinline__ void load(const exp_w8_args &p, int tile)
    {
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (tile < p.d_out / EXP_W8_TILE_OUT && chunk_at(u) < p.d_in) rows[u] = exp_w8_load(p, tile, chunk_at(u));
        }
    }
    __device__ __forceinline__ void multiply(const exp_w8_args &p, int tile, float (&sums)[4]) const
    {
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (chunk_at(u) < p.d_in) exp_w8_multiply<EXP_INT8>(p, rows[u], 0, chunk_at(u), sums);
        }
        for (int u = AHEAD; chunk_at(u) < p.d_in; u++)
            exp_w8_multiply<EXP_INT8>(p, exp_w8_load(p, tile, chunk_at(u)), 0, chunk_at(u), sums);
    }
};

/* Launch: as many blocks as are under way at once; each takes every gridDim.x-th tile of 16 outputs of each product.
 * Bytes: the weights once a step. */
static __global__ void __launch_bounds__(THREADS) walk_kernel(walk_args a)
{
    T5_SHARED(float, s_sums, [EXP_W8_WARPS][EXP_W8_TILE_OUT][EXP_W8_TILE_ROWS + 1]);
    exp_w8_args p = product_of(a, 0);
    weights_ahead w = {};
    w.load(p, (int)blockIdx.x);
    for (int phase = 0; phase < a.n_phases;) {
        int n_tiles = p.d_out / EXP_W8_TILE_OUT;
        for (int tile = (int)blockIdx.x; tile < n_tiles; tile += (int)gridDim.x) {
            float sums[4] = {};
            w.multiply(p, tile, sums);
            w.load(p, tile + (int)gridDim.x);
            exp_w8_finish(p, tile, 0, sums, s_sums);
            __syncthreads(); /* s_sums is free */
        }
        if (++phase == a.n_phases) break;
        p = product_of(a, phase);
        w.load(p, (int)blockIdx.x);
        if (a.kind == COUNTER) {
            exp_grid_sync(a.flags, (unsigned)phase);
        } else {
            exp_grid_flags(a.flags, (unsigned)phase);
        }
    }
}

/* ---- the three ways; each is n_steps steps ---- */

struct ways {
    steps s;
    int n_steps;
    cudaGraphExec_t exec; /* of a fourth of the steps */
    exp_loop loop;
    const int *dev_steps; /* [dev] n_steps */
    walk_args walk;
    int n_blocks;
};

static t5_status run_graphs(void *ctx, int, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    for (int i = 0; i < 4 && status == T5_OK; i++)
        status = T5_CUDA(err, cudaGraphLaunch(((const ways *)ctx)->exec, stream));
    return status;
}

static t5_status run_while(void *ctx, int, cudaStream_t stream, t5_error *err)
{
    ways *w = (ways *)ctx;
    t5_status status =
        T5_CUDA(err, cudaMemcpyAsync(w->s.left, w->dev_steps, sizeof(int), cudaMemcpyDeviceToDevice, stream));
    return status == T5_OK ? exp_loop_launch(&w->loop, 1, stream, err) : status;
}

static t5_status run_walk(void *ctx, int, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const ways *w = (const ways *)ctx;
    exp_how how = {0, false, true};
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(w->walk.flags, 0, BLOCKS_MAX * sizeof(unsigned), stream)));
    T5_TRY(T5_CUDA(err, EXP_LAUNCH(walk_kernel, dim3((unsigned)w->n_blocks), dim3(THREADS), 0, stream, how, w->walk)));
out:
    return status;
}

/* What a way leaves of the steps in rows[0], [d_model], and rows[1], the logits, from a start that is always the
 * same. */
static t5_status result_of(exp_rig *rig, ways *w, exp_body body, std::vector<float> *out, t5_error *err)
{
    t5_status status = T5_OK;
    size_t d_model = (size_t)w->s.m.d_model, n = d_model + (size_t)w->s.m.vocab_size;
    std::vector<half> rows(n);
    for (size_t i = 0; i < d_model; i++)
        rows[i] = __float2half_rn(exp_random(i, 7));
    T5_TRY(T5_CUDA(
        err, cudaMemcpyAsync(w->s.rows[0], rows.data(), d_model * sizeof(half), cudaMemcpyHostToDevice, rig->stream)));
    T5_TRY(exp_sync(rig, err));
    T5_TRY(body(w, 1, rig->stream, err));
    T5_TRY(exp_download(rig, rows.data(), w->s.rows[0], d_model * sizeof(half), err));
    T5_TRY(exp_download(rig, rows.data() + d_model, w->s.rows[1], (n - d_model) * sizeof(half), err));
    out->clear();
    for (half value : rows)
        out->push_back(__half2float(value));
out:
    return status;
}

/* Microseconds a step, after a check against `expected`. */
static t5_status time_way(exp_rig *rig, ways *w, exp_body body, const std::vector<float> &expected, double *out_us,
                          t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<float> got;
    T5_TRY(result_of(rig, w, body, &got, err));
    T5_TRY(exp_compare(got.data(), expected.data(), got.size(), 0.0f, err));
    T5_TRY(exp_time_stream(rig, body, w, 1, out_us, err));
    *out_us /= w->n_steps;
out:
    return status;
}

static t5_status time_walks(exp_rig *rig, ways *w, const char *shape, const std::vector<float> &expected, t5_error *err)
{
    t5_status status = T5_OK;
    for (barrier kind : {COUNTER, FLAGS}) {
        for (int n_per_sm : {1, 2, 4}) {
            double us = 0.0;
            w->walk.kind = kind;
            w->n_blocks = n_per_sm * exp_choose(rig, rig->device.multiProcessorCount, 3);
            if (w->n_blocks > BLOCKS_MAX) continue;
            T5_TRY(time_way(rig, w, run_walk, expected, &us, err));
            exp_line(rig, "\"shape\":\"%s\",\"way\":\"persistent\",\"barrier\":\"%s\",\"blocks\":%d,\"us_a_step\":%.2f",
                     shape, barrier_names[kind], w->n_blocks, us);
        }
    }
out:
    return status;
}

static t5_status make_ways(exp_rig *rig, const steps_shape &m, ways *w, t5_error *err)
{
    t5_status status = T5_OK;
    w->n_steps = exp_choose(rig, 32, 4);
    T5_TRY(steps_make(rig, m, &w->s, err));
    T5_TRY(exp_upload(rig, &w->n_steps, sizeof w->n_steps, (void **)&w->dev_steps, err));
    T5_TRY(exp_upload(rig, w->s.products.data(), w->s.products.size() * sizeof(steps_product),
                      (void **)&w->walk.products, err));
    T5_TRY(exp_alloc(rig, BLOCKS_MAX * sizeof(unsigned), (void **)&w->walk.flags, err));
    w->walk.n_products = (int)w->s.products.size();
    w->walk.n_phases = w->walk.n_products * w->n_steps;
    w->walk.w = w->s.w8;
    w->walk.scale = w->s.scale;
    for (int i = 0; i < 2; i++)
        w->walk.rows[i] = w->s.rows[i];
    T5_TRY(exp_record(rig, steps_run, &w->s, w->n_steps / 4, &w->exec, err));
    w->s.is_loop = true;
    T5_TRY(exp_loop_create(rig, steps_run, &w->s, &w->s.condition, &w->loop, err));
out:
    return status;
}

static t5_status time_ways(exp_rig *rig, ways *w, const char *shape, t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<float> expected;
    double us = 0.0;
    T5_TRY(result_of(rig, w, run_graphs, &expected, err));
    if (!(fabsf(expected[0]) > 0.0f)) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "the chain of products died out");
        goto out;
    }
    T5_TRY(time_way(rig, w, run_graphs, expected, &us, err));
    exp_line(rig, "\"shape\":\"%s\",\"way\":\"graphs\",\"us_a_step\":%.2f", shape, us);
    T5_TRY(time_way(rig, w, run_while, expected, &us, err));
    exp_line(rig, "\"shape\":\"%s\",\"way\":\"while\",\"us_a_step\":%.2f", shape, us);
    T5_TRY(time_walks(rig, w, shape, expected, err));
out:
    return status;
}

template <int I> static t5_status run_ways(exp_rig *rig, t5_error *err)
{
    ways w = {};
    t5_status status = make_ways(rig, rig->is_rehearsal ? steps_tiny : steps_shapes[I], &w, err);
    if (status == T5_OK) status = time_ways(rig, &w, steps_shapes[I].name, err);
    exp_loop_destroy(&w.loop);
    if (w.exec != nullptr) cudaGraphExecDestroy(w.exec);
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {{"bundled", "32 steps of the bundled model's shape, each way", run_ways<0>},
                                     {"small", "32 steps of T5-small's shape, each way", run_ways<1>}};
    exp_setup();
    return exp_main(argc, argv, 8, cases, T5_COUNT(cases));
}
