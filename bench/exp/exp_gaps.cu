/* bench/exp/exp_gaps.cu: experiment 1, the constants of the machine that decide how a decode step should be cut: what a
 * dependent kernel, a barrier between blocks, a cluster's barrier and a turn of a device loop cost, and how fast
 * weights come from the L2 cache. Published rows for an H200 to compare with: 1.26 to 1.37 us a graph node of 64
 * kB, 1.04 to 1.31 us a grid barrier with the same work, L2 9.5 to 10 TB/s up to 40 MB. */
#include "bench/exp/device.cuh"

#include <vector>

static const int THREADS = 128;
static const int BLOCKS_MAX = 132;
static const int NODE_BYTES = 64 << 10; /* that each kernel or phase reads, as in the published rows */
static const size_t WEIGHTS_BYTES = (size_t)8 << 20;

/* Reads `n` vectors in turn with the grid's other blocks; returns 0 in a way that no compiler knows. */
static __device__ __forceinline__ float read_share(const uint4 *weights, int n)
{
    unsigned bits = 0;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += (int)(gridDim.x * blockDim.x)) {
        uint4 v = t5_load16(weights + i);
        bits |= v.x | v.y | v.z | v.w;
    }
    return bits == 0xffffffffu ? 1.0f : 0.0f; /* the weights are zero */
}

/* ---- a chain of kernels ---- */

enum trigger { NEVER, LATE, EARLY }; /* when the next kernel's blocks may begin */
static const char *const trigger_names[] = {"none", "late", "early"};

struct node_args {
    const uint4 *weights;
    int n_vectors;
    const float *x; /* [gridDim.x] */
    float *y;
    trigger when;
};

/* y[b] = x[b + 1] + 1: each block needs another's result. Weights are read before the wait: they are constant. */
static __global__ void __launch_bounds__(THREADS) node_kernel(node_args a)
{
    if (a.when == EARLY) exp_let_next_begin();
    float nothing = read_share(a.weights, a.n_vectors);
    if (a.when != NEVER) exp_wait_for_previous();
    if (threadIdx.x == 0) a.y[blockIdx.x] = a.x[(blockIdx.x + 1) % gridDim.x] + 1.0f;
    if (nothing != 0.0f) a.y[blockIdx.x] = 0.0f;
    if (a.when == LATE) exp_let_next_begin();
}

struct chain {
    node_args args;
    float *buffers[2]; /* [dev] */
    int n_blocks;
};

static t5_status run_chain(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    const chain *c = (const chain *)ctx;
    exp_how how = {0, c->args.when != NEVER, false};
    for (int i = 0; i < n; i++) {
        node_args args = c->args;
        args.weights += (size_t)i * NODE_BYTES % WEIGHTS_BYTES / sizeof(uint4);
        args.x = c->buffers[i % 2];
        args.y = c->buffers[(i + 1) % 2];
        t5_status status =
            T5_CUDA(err, EXP_LAUNCH(node_kernel, dim3((unsigned)c->n_blocks), dim3(THREADS), 0, stream, how, args));
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

/* Runs a chain of `n` and compares with what it computes. */
static t5_status check_chain(exp_rig *rig, chain *c, int n, t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<float> x((size_t)c->n_blocks), expected(x.size());
    for (size_t b = 0; b < x.size(); b++)
        x[b] = (float)(b * b % 97);
    for (size_t b = 0; b < x.size(); b++)
        expected[b] = x[(b + (size_t)n) % x.size()] + (float)n;
    T5_TRY(T5_CUDA(
        err, cudaMemcpyAsync(c->buffers[0], x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice, rig->stream)));
    T5_TRY(exp_sync(rig, err));
    T5_TRY(run_chain(c, n, rig->stream, err));
    T5_TRY(exp_download(rig, x.data(), c->buffers[n % 2], x.size() * sizeof(float), err));
    T5_TRY(exp_compare(x.data(), expected.data(), x.size(), 0.0f, err));
out:
    return status;
}

static t5_status make_chain(exp_rig *rig, chain *c, t5_error *err)
{
    t5_status status = T5_OK;
    void *weights = nullptr;
    T5_TRY(exp_alloc(rig, WEIGHTS_BYTES, &weights, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(weights, 0, WEIGHTS_BYTES, rig->stream)));
    c->args.weights = (const uint4 *)weights;
    for (float *&buffer : c->buffers) {
        T5_TRY(exp_alloc(rig, BLOCKS_MAX * sizeof(float), (void **)&buffer, err));
        T5_TRY(T5_CUDA(err, cudaMemsetAsync(buffer, 0, BLOCKS_MAX * sizeof(float), rig->stream)));
    }
out:
    return status;
}

static t5_status run_node_gap(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    static const int block_counts[] = {8, 32, 66, 132};
    chain c = {};
    int n = exp_choose(rig, 200, 3);
    T5_TRY(make_chain(rig, &c, err));
    for (int n_bytes : {0, NODE_BYTES}) {
        for (int n_blocks : block_counts) {
            if (rig->is_rehearsal && n_blocks > 8) continue;
            for (trigger when : {NEVER, LATE, EARLY}) {
                double stream_us = 0.0, graph_us = 0.0;
                if (when != NEVER && !exp_has_clusters(rig)) continue;
                c.n_blocks = n_blocks;
                c.args.n_vectors = n_bytes / (int)sizeof(uint4);
                c.args.when = when;
                T5_TRY(check_chain(rig, &c, 5, err));
                T5_TRY(exp_time_stream(rig, run_chain, &c, n, &stream_us, err));
                T5_TRY(exp_time_unit(rig, run_chain, &c, n, &graph_us, err));
                exp_line(rig, "\"blocks\":%d,\"bytes\":%d,\"trigger\":\"%s\",\"stream_us\":%.3f,\"graph_us\":%.3f",
                         n_blocks, n_bytes, trigger_names[when], stream_us / n, graph_us);
            }
        }
    }
out:
    return status;
}

/* ---- barriers inside one kernel ---- */

enum barrier { COUNTER, FLAGS, SENTINEL };
static const char *const barrier_names[] = {"counter", "flags", "sentinel"};

struct phases_args {
    const uint4 *weights;
    int n_vectors, n_phases;
    barrier kind;
    float *x;        /* [n_phases + 1][gridDim.x]; SENTINEL: NaN where nobody has written */
    unsigned *flags; /* [1 + gridDim.x] counter, then a flag of each block; zero */
};

static __device__ __forceinline__ bool is_nan(float x)
{
    return x != x;
}

/* Waits until phase `p` of every block is there. Every thread of the block calls it. */
static __device__ __forceinline__ void await_phase(const phases_args &a, int p)
{
    if (a.kind == COUNTER) {
        exp_grid_sync(a.flags, (unsigned)p);
    } else if (a.kind == FLAGS) {
        exp_grid_flags(a.flags + 1, (unsigned)p);
    } else {
        for (int b = (int)threadIdx.x; b < (int)gridDim.x; b += (int)blockDim.x) {
            while (is_nan(exp_load_relaxed(&a.x[(size_t)p * gridDim.x + (size_t)b])))
                exp_pause();
        }
        __syncthreads();
    }
}

/* x[p + 1][b] = x[p][b + 1] + 1 with all of x[p] awaited, as a product needs all of its input. */
static __global__ void __launch_bounds__(THREADS) phases_kernel(phases_args a)
{
    int n_blocks = (int)gridDim.x;
    for (int p = 0; p < a.n_phases; p++) {
        size_t at = (size_t)p * (size_t)a.n_vectors % (WEIGHTS_BYTES / sizeof(uint4));
        float nothing = read_share(a.weights + at, a.n_vectors);
        if (p > 0) await_phase(a, p);
        if (threadIdx.x == 0) {
            float x = exp_load_relaxed(&a.x[p * n_blocks + ((int)blockIdx.x + 1) % n_blocks]);
            exp_store_relaxed(&a.x[(p + 1) * n_blocks + (int)blockIdx.x], x + 1.0f + nothing);
        }
    }
}

struct phases {
    phases_args args;
    int n_blocks;
    std::vector<float> first; /* x[0] */
};

static t5_status run_phases(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const phases *p = (const phases *)ctx;
    phases_args args = p->args;
    size_t row_bytes = (size_t)p->n_blocks * sizeof(float);
    args.n_phases = n;
    exp_how how = {0, false, true};
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(args.flags, 0, (1 + BLOCKS_MAX) * sizeof(unsigned), stream)));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync((char *)args.x + row_bytes, 0xff, (size_t)n * row_bytes, stream)));
    T5_TRY(T5_CUDA(err, EXP_LAUNCH(phases_kernel, dim3((unsigned)p->n_blocks), dim3(THREADS), 0, stream, how, args)));
out:
    return status;
}

static t5_status check_phases(exp_rig *rig, phases *p, int n, t5_error *err)
{
    t5_status status = T5_OK;
    size_t n_blocks = (size_t)p->n_blocks;
    std::vector<float> x(n_blocks), expected(n_blocks);
    for (size_t b = 0; b < n_blocks; b++)
        x[b] = (float)(b * b % 97);
    for (size_t b = 0; b < n_blocks; b++)
        expected[b] = x[(b + (size_t)n) % n_blocks] + (float)n;
    T5_TRY(T5_CUDA(
        err, cudaMemcpyAsync(p->args.x, x.data(), n_blocks * sizeof(float), cudaMemcpyHostToDevice, rig->stream)));
    T5_TRY(exp_sync(rig, err));
    T5_TRY(run_phases(p, n, rig->stream, err));
    T5_TRY(exp_download(rig, x.data(), p->args.x + (size_t)n * n_blocks, n_blocks * sizeof(float), err));
    T5_TRY(exp_compare(x.data(), expected.data(), n_blocks, 0.0f, err));
out:
    return status;
}

static t5_status run_flags(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    static const int PHASES_MAX = 400;
    void *weights = nullptr;
    phases p = {};
    T5_TRY(exp_alloc(rig, WEIGHTS_BYTES + NODE_BYTES, &weights, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(weights, 0, WEIGHTS_BYTES + NODE_BYTES, rig->stream)));
    p.args.weights = (const uint4 *)weights;
    T5_TRY(exp_alloc(rig, (PHASES_MAX + 1) * BLOCKS_MAX * sizeof(float), (void **)&p.args.x, err));
    T5_TRY(exp_alloc(rig, (1 + BLOCKS_MAX) * sizeof(unsigned), (void **)&p.args.flags, err));
    for (barrier kind : {COUNTER, FLAGS, SENTINEL}) {
        for (int n_bytes : {0, NODE_BYTES}) {
            double us = 0.0;
            p.args.kind = kind;
            p.args.n_vectors = n_bytes / (int)sizeof(uint4);
            p.n_blocks = exp_choose(rig, rig->device.multiProcessorCount, 8);
            if (p.n_blocks > BLOCKS_MAX) p.n_blocks = BLOCKS_MAX;
            T5_TRY(check_phases(rig, &p, 5, err));
            T5_TRY(exp_time_unit(rig, run_phases, &p, exp_choose(rig, PHASES_MAX / 2, 3), &us, err));
            exp_line(rig, "\"kind\":\"%s\",\"blocks\":%d,\"bytes\":%d,\"us\":%.3f", barrier_names[kind], p.n_blocks,
                     n_bytes, us);
        }
    }
out:
    return status;
}

/* ---- clusters ---- */

struct cluster_args {
    int n_rounds;
    bool reduces; /* sums over the cluster through distributed shared memory, else only meets */
    float *y;     /* [gridDim.x][THREADS] */
};

/* A round: every block adds what all blocks of its cluster hold, in their order, and goes on with 1 / size of it. */
static __global__ void __launch_bounds__(THREADS) cluster_kernel(cluster_args a, unsigned n_cluster)
{
    T5_SHARED(float, s_value, [THREADS]);
    int t = (int)threadIdx.x;
    s_value[t] = (float)(exp_cluster_rank() + (unsigned)t);
    exp_cluster_sync();
    for (int i = 0; i < a.n_rounds; i++) {
        if (a.reduces) {
            float sum = 0.0f;
            for (unsigned rank = 0; rank < n_cluster; rank++)
                sum += *exp_cluster_map(&s_value[t], rank);
            exp_cluster_sync(); /* all have read */
            s_value[t] = sum / (float)n_cluster;
        }
        exp_cluster_sync();
    }
    a.y[blockIdx.x * THREADS + threadIdx.x] = s_value[t];
}

struct cluster_run {
    cluster_args args;
    unsigned n_cluster, n_blocks;
};

static t5_status run_rounds(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    const cluster_run *r = (const cluster_run *)ctx;
    cluster_args args = r->args;
    args.n_rounds = n;
    exp_how how = {r->n_cluster, false, false};
    return T5_CUDA(err,
                   EXP_LAUNCH(cluster_kernel, dim3(r->n_blocks), dim3(THREADS), 0, stream, how, args, r->n_cluster));
}

static t5_status check_rounds(exp_rig *rig, cluster_run *r, t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<float> y((size_t)r->n_blocks * THREADS), expected(y.size());
    for (size_t i = 0; i < y.size(); i++) {
        float rank = (float)(i / THREADS % r->n_cluster), mean = (float)(r->n_cluster - 1) / 2.0f;
        expected[i] = (r->args.reduces ? mean : rank) + (float)(i % THREADS);
    }
    T5_TRY(run_rounds(r, 3, rig->stream, err));
    T5_TRY(exp_download(rig, y.data(), r->args.y, y.size() * sizeof(float), err));
    T5_TRY(exp_compare(y.data(), expected.data(), y.size(), 1e-6f, err));
out:
    return status;
}

static t5_status run_cluster(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    cluster_run r = {};
    if (!exp_has_clusters(rig)) {
        exp_skip(rig, "clusters need compute capability 9.0");
        return T5_OK;
    }
    T5_TRY(exp_alloc(rig, 128 * THREADS * sizeof(float), (void **)&r.args.y, err));
    for (unsigned n_cluster : {2u, 4u, 8u, 16u}) {
        for (bool reduces : {false, true}) {
            double us = 0.0;
            r.n_cluster = n_cluster;
            r.n_blocks = rig->is_rehearsal ? 16 : 96;
            r.args.reduces = reduces;
            T5_TRY(check_rounds(rig, &r, err));
            T5_TRY(exp_time_unit(rig, run_rounds, &r, exp_choose(rig, 500, 2), &us, err));
            exp_line(rig, "\"size\":%u,\"reduces\":%s,\"us\":%.3f", n_cluster, reduces ? "true" : "false", us);
        }
    }
out:
    return status;
}

/* ---- a loop on the device ---- */

struct turn_args {
    chain *nodes;
    int n_nodes;
    int *left; /* [dev] turns to go */
    bool is_loop;
    exp_condition condition;
};

static __global__ void count_kernel(int *left, bool is_loop, exp_condition condition)
{
    int n = *left - 1;
    *left = n;
    if (is_loop) exp_set_condition(condition, n > 0);
}

/* n turns: a few nodes, then the count. */
static t5_status run_turns(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const turn_args *a = (const turn_args *)ctx;
    for (int i = 0; i < n; i++) {
        T5_TRY(run_chain(a->nodes, a->n_nodes, stream, err));
        T5_TRY(T5_CUDA(
            err, EXP_LAUNCH(count_kernel, dim3(1), dim3(1), 0, stream, exp_how{}, a->left, a->is_loop, a->condition)));
    }
out:
    return status;
}

struct whole_loop {
    exp_loop loop;
    int *left;
    const int *n_turns; /* [dev] */
};

static t5_status run_whole_loop(void *ctx, int, cudaStream_t stream, t5_error *err)
{
    whole_loop *w = (whole_loop *)ctx;
    t5_status status =
        T5_CUDA(err, cudaMemcpyAsync(w->left, w->n_turns, sizeof(int), cudaMemcpyDeviceToDevice, stream));
    return status == T5_OK ? exp_loop_launch(&w->loop, 1, stream, err) : status;
}

static t5_status time_loop(exp_rig *rig, turn_args *a, int n_turns, const int *dev_turns, double *out_us, t5_error *err)
{
    t5_status status = T5_OK;
    whole_loop w = {};
    int left = -1;
    w.left = a->left;
    w.n_turns = dev_turns;
    a->is_loop = true;
    T5_TRY(exp_loop_create(rig, run_turns, a, &a->condition, &w.loop, err));
    T5_TRY(run_whole_loop(&w, 1, rig->stream, err));
    T5_TRY(exp_download(rig, &left, a->left, sizeof left, err));
    if (left != 0) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "the loop ended with %d of %d turns to go", left, n_turns);
        goto out;
    }
    T5_TRY(exp_time_stream(rig, run_whole_loop, &w, 1, out_us, err));
out:
    exp_loop_destroy(&w.loop);
    return status;
}

static t5_status run_while(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    chain c = {};
    turn_args a = {};
    int n_turns = exp_choose(rig, 64, 3);
    void *dev_turns = nullptr;
    T5_TRY(make_chain(rig, &c, err));
    c.n_blocks = exp_choose(rig, 66, 4);
    c.args.n_vectors = NODE_BYTES / (int)sizeof(uint4);
    a.nodes = &c;
    T5_TRY(exp_alloc(rig, sizeof(int), (void **)&a.left, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(a.left, 0, sizeof(int), rig->stream)));
    T5_TRY(exp_upload(rig, &n_turns, sizeof n_turns, &dev_turns, err));
    for (int n_nodes : {1, 8, 52}) {
        double graph_us = 0.0, loop_us = 0.0;
        a.n_nodes = n_nodes;
        a.is_loop = false;
        T5_TRY(exp_time_graph(rig, run_turns, &a, n_turns, &graph_us, err));
        T5_TRY(time_loop(rig, &a, n_turns, (const int *)dev_turns, &loop_us, err));
        exp_line(rig, "\"nodes\":%d,\"turns\":%d,\"graph_us\":%.3f,\"while_us\":%.3f", n_nodes + 1, n_turns,
                 graph_us / n_turns, loop_us / n_turns);
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {
        {"node_gap", "a dependent kernel: by stream, in a graph, with dependent launch", run_node_gap},
        {"flags", "a phase of a persistent kernel: counter, flags, values as flags", run_flags},
        {"cluster", "a cluster's barrier and sum over distributed shared memory", run_cluster},
        {"while", "a turn of a WHILE node beside the same turns in one graph", run_while},
    };
    exp_setup();
    return exp_main(argc, argv, 1, cases, T5_COUNT(cases));
}
