/* bench/exp/exp_cluster.cu: experiment 5, whether norm, QKV, self-attention and output product of a decoder layer
 * should be one kernel, a cluster of blocks for each head (cluster_node.cuh), or stay the server's kernels with
 * overlapping launches: four, or three with the norm inside the product. At 1, 4, 8 rows in the middle of a
 * translation. Decides whether a layer of the decoder becomes three kernels. */
#include "bench/exp/cluster_node.cuh"
#include "bench/exp/w8.cuh"

#include <vector>

struct shape {
    const char *name;
    int d_model, n_heads, cluster;
};
/* Widths 32 to 128 of a block: each instantiation of the kernel, on the GPU and in the rehearsal. */
static const shape shapes[] = {
    {"small", 512, 8, 16}, {"small", 512, 8, 8}, {"base", 768, 12, 8}, {"large", 1024, 16, 8}, {"large", 1024, 16, 16}};
static const shape tiny[] = {
    {"small", 512, 1, 16}, {"small", 128, 2, 2}, {"base", 192, 2, 2}, {"large", 256, 2, 2}, {"large", 64, 2, 2}};

static const float EPS = 1e-6f;
static const size_t WEIGHTS_BYTES = (size_t)128 << 20; /* of all layers: more than an L2 cache holds */

struct layer {
    std::vector<half> w_qkv, w_o, cache; /* as on the device */
    std::vector<float> gain, bias, x;
    std::vector<uint8_t> ancestors;
};

struct nodes {
    shape m;
    int n_keys; /* of each row, the new one included */
    int n_layers;
    bool is_fused, has_own_norm; /* which kernels */
    layer host;
    node_args args;  /* of the fused kernel; the weights are those of layer 0 */
    float *x[2];     /* [ROWS_MAX, d] in turn */
    float *parts[2]; /* [n_heads, ROWS_MAX, d] in turn */
    half *normed, *qkv, *ctx;
    t5_kv_view kv;
    t5_search_state state;
    t5_step step;
    t5_cuda_split split;
};

static size_t layer_weights(const shape &m) /* of w_qkv; a third of it is w_o's */
{
    return (size_t)(3 * m.n_heads * NODE_D_KV) * (size_t)m.d_model;
}

/* ---- the two ways ---- */

static t5_status run_fused(const nodes *s, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    for (int i = 0; i < n && status == T5_OK; i++) {
        node_args args = s->args;
        args.w_qkv += (size_t)(i % s->n_layers) * layer_weights(s->m);
        args.w_o += (size_t)(i % s->n_layers) * layer_weights(s->m) / 3;
        args.x = s->x[i % 2];
        args.parts = s->parts[i % 2];
        args.x_out = s->x[1 - i % 2];
        args.parts_out = s->parts[1 - i % 2];
        status = T5_CUDA(err, node_launch(args, s->m.cluster, stream));
    }
    return status;
}

static t5_status run_apart(const nodes *s, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_stream to = {stream, true};
    int inner = s->m.n_heads * NODE_D_KV, n_rows = s->args.n_rows;
    t5_cuda_norm_args norm = {s->x[0], s->args.gain, EPS, n_rows, s->m.d_model, s->normed};
    t5_self_attention_args attention = {&s->step, &s->kv, 0, s->qkv, s->args.bias, s->args.bias_len, s->ctx};
    t5_cuda_linear_args in = {}, out = {};
    in.n_rows = out.n_rows = n_rows;
    in.d_in = in.ld = out.d_out = s->m.d_model;
    in.d_out = 3 * inner;
    out.d_in = out.ld = inner;
    in.x_scale = in.y_scale = out.x_scale = out.y_scale = 1.0f;
    in.x = s->has_own_norm ? (const void *)s->normed : s->x[0];
    in.norm_gain = s->has_own_norm ? nullptr : s->args.gain;
    in.norm_eps = EPS;
    in.output = T5_CUDA_STORE;
    in.y = s->qkv;
    out.x = s->ctx;
    out.output = T5_CUDA_ADD_F32;
    out.y = s->x[0];
    for (int i = 0; i < n; i++) {
        in.w = s->args.w_qkv + (size_t)(i % s->n_layers) * layer_weights(s->m);
        out.w = s->args.w_o + (size_t)(i % s->n_layers) * layer_weights(s->m) / 3;
        if (s->has_own_norm) T5_TRY(T5_CUDA(err, t5_cuda_rms_norm(T5_F16, &norm, to)));
        T5_TRY(T5_CUDA(err, t5_cuda_linear(T5_F16, &in, to)));
        T5_TRY(T5_CUDA(err, t5_cuda_self_attention(T5_F16, &attention, &s->split, to)));
        T5_TRY(T5_CUDA(err, t5_cuda_linear(T5_F16, &out, to)));
    }
out:
    return status;
}

static t5_status run_nodes(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    const nodes *s = (const nodes *)ctx;
    return s->is_fused ? run_fused(s, n, stream, err) : run_apart(s, n, stream, err);
}

/* ---- the same in plain loops ---- */

static float rounded(float x)
{
    return __half2float(__float2half_rn(x));
}

/* y = w x of one row; w: [n, d]. */
static std::vector<float> multiply(const std::vector<half> &w, const std::vector<float> &x)
{
    std::vector<float> y(w.size() / x.size(), 0.0f);
    for (size_t i = 0; i < w.size(); i++)
        y[i / x.size()] += __half2float(w[i]) * x[i % x.size()];
    return y;
}

/* Key (part 0) or value (part 1) element d of position j, which the sibling `owner` has in the cache. */
static float cached(const nodes &s, int part, size_t owner, size_t head, size_t j, size_t d)
{
    size_t inner = (size_t)s.m.n_heads * NODE_D_KV, n_blocks = (size_t)s.kv.self_stride;
    size_t block = (owner * n_blocks + j / T5_KV_BLOCK) * 2 * T5_KV_BLOCK * inner, slot = j % T5_KV_BLOCK;
    size_t at = part == 0 ? d / 8 * T5_KV_BLOCK * 8 + slot * 8 + d % 8 : slot * NODE_D_KV + d;
    return __half2float(s.host.cache[block + (size_t)part * T5_KV_BLOCK * inner + head * T5_KV_BLOCK * NODE_D_KV + at]);
}

/* ctx of one row and head; qkv: [3][n_heads][NODE_D_KV] of the row. */
static void attend(const nodes &s, size_t row, size_t head, const std::vector<float> &qkv, float *ctx)
{
    size_t inner = (size_t)s.m.n_heads * NODE_D_KV, n = (size_t)s.n_keys;
    const float *q = &qkv[head * NODE_D_KV];
    std::vector<float> weights(n), sums(NODE_D_KV, 0.0f);
    float total = 0.0f;
    for (size_t j = 0; j < n; j++) {
        float score = s.host.bias[head * n + n - 1 - j];
        size_t owner = s.host.ancestors[row * (size_t)s.args.stride + j];
        for (size_t d = 0; d < NODE_D_KV; d++)
            score += q[d] * (j + 1 < n ? cached(s, 0, owner, head, j, d) : q[inner + d]);
        weights[j] = expf(score);
        total += weights[j];
        for (size_t d = 0; d < NODE_D_KV; d++)
            sums[d] += weights[j] * (j + 1 < n ? cached(s, 1, owner, head, j, d) : q[2 * inner + d]);
    }
    for (size_t d = 0; d < NODE_D_KV; d++)
        ctx[d] = rounded(sums[d] / total);
}

/* x[n_rows, d] after one node more. */
static void run_plain(const nodes &s, std::vector<float> *x)
{
    size_t d_model = (size_t)s.m.d_model, n_heads = (size_t)s.m.n_heads;
    for (size_t row = 0; row < (size_t)s.args.n_rows; row++) {
        float *here = &(*x)[row * d_model], squares = 0.0f;
        std::vector<float> normed(d_model), ctx(n_heads * NODE_D_KV);
        for (size_t i = 0; i < d_model; i++)
            squares += here[i] * here[i];
        for (size_t i = 0; i < d_model; i++)
            normed[i] = rounded(here[i] / sqrtf(squares / (float)d_model + EPS) * s.host.gain[i]);
        std::vector<float> qkv = multiply(s.host.w_qkv, normed);
        for (float &value : qkv)
            value = rounded(value);
        for (size_t head = 0; head < n_heads; head++)
            attend(s, row, head, qkv, &ctx[head * NODE_D_KV]);
        std::vector<float> out = multiply(s.host.w_o, ctx);
        for (size_t i = 0; i < d_model; i++)
            here[i] += out[i];
    }
}

/* ---- device memory ---- */

static std::vector<half> random_halves(size_t n, float deviation, unsigned seed)
{
    std::vector<half> to(n);
    for (size_t i = 0; i < n; i++)
        to[i] = __float2half_rn(exp_random(i, seed) * deviation * 1.732f);
    return to;
}

/* `w`, and as many copies as there are layers. */
static t5_status upload_layers(exp_rig *rig, const std::vector<half> &w, int n_layers, const half **out, t5_error *err)
{
    t5_status status = T5_OK;
    char *to = nullptr;
    size_t n_bytes = w.size() * sizeof(half);
    T5_TRY(exp_alloc(rig, n_bytes * (size_t)n_layers, (void **)&to, err));
    for (int i = 0; i < n_layers; i++)
        T5_TRY(T5_CUDA(err, cudaMemcpyAsync(to + n_bytes * (size_t)i, i == 0 ? (const void *)w.data() : to, n_bytes,
                                            i == 0 ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToDevice, rig->stream)));
    T5_TRY(exp_sync(rig, err));
    *out = (const half *)to;
out:
    return status;
}

template <class T> static t5_status upload(exp_rig *rig, const std::vector<T> &from, const T **out, t5_error *err)
{
    return exp_upload(rig, from.data(), from.size() * sizeof(T), (void **)out, err);
}

/* One slot of NODE_ROWS_MAX rows that have taken over each other's history, every position but the last cached. */
static t5_status make_cache(exp_rig *rig, nodes *s, t5_error *err)
{
    t5_status status = T5_OK;
    size_t inner = (size_t)s->m.n_heads * NODE_D_KV, n_keys = (size_t)s->n_keys;
    size_t n_blocks = (n_keys + T5_KV_BLOCK - 1) / T5_KV_BLOCK;
    std::vector<int32_t> blocks(NODE_ROWS_MAX * n_blocks), pos(NODE_ROWS_MAX, s->n_keys - 1), slot(NODE_ROWS_MAX, 0);
    std::vector<int32_t> rows(NODE_ROWS_MAX);
    std::vector<t5_slot> slots(1);
    slots[0].n_rows = NODE_ROWS_MAX;
    s->host.ancestors.resize(NODE_ROWS_MAX * n_blocks * T5_KV_BLOCK);
    for (size_t i = 0; i < blocks.size(); i++)
        blocks[i] = (int32_t)i;
    for (size_t i = 0; i < rows.size(); i++)
        rows[i] = (int32_t)i;
    for (size_t i = 0; i < s->host.ancestors.size(); i++)
        s->host.ancestors[i] = (uint8_t)(i * 5 % NODE_ROWS_MAX);
    s->host.cache = random_halves(blocks.size() * 2 * T5_KV_BLOCK * inner, 1.0f, 3);
    T5_TRY(upload(rig, s->host.cache, (const half **)&s->kv.pool, err));
    T5_TRY(upload(rig, blocks, &s->kv.self_blocks, err));
    T5_TRY(upload(rig, s->host.ancestors, (const uint8_t **)&s->state.ancestors, err));
    T5_TRY(upload(rig, slots, (const t5_slot **)&s->state.slots, err));
    T5_TRY(upload(rig, rows, &s->step.row, err));
    T5_TRY(upload(rig, pos, &s->step.pos, err));
    T5_TRY(upload(rig, slot, &s->step.slot, err));
    s->kv.block_bytes = 2 * T5_KV_BLOCK * inner * sizeof(half);
    s->kv.n_layers = 1;
    s->kv.n_heads = s->m.n_heads;
    s->kv.d_kv = NODE_D_KV;
    s->kv.self_stride = (int32_t)n_blocks;
    s->state.stride = (int32_t)(n_blocks * T5_KV_BLOCK);
    s->step.state = &s->state;
out:
    return status;
}

static t5_status make_layer(exp_rig *rig, nodes *s, t5_error *err)
{
    t5_status status = T5_OK;
    size_t d_model = (size_t)s->m.d_model, n_heads = (size_t)s->m.n_heads, inner = n_heads * NODE_D_KV;
    layer &h = s->host;
    h.w_qkv = random_halves(3 * inner * d_model, 1.0f / sqrtf((float)d_model), 1);
    for (size_t i = 0; i < inner * d_model; i++)
        h.w_qkv[i] = __float2half_rn(__half2float(h.w_qkv[i]) / 8.0f); /* scores near 1 */
    h.w_o = random_halves(d_model * inner, 4.0f / sqrtf((float)inner), 2);
    h.gain.resize(d_model);
    h.bias.resize(n_heads * (size_t)s->n_keys);
    h.x.resize(NODE_ROWS_MAX * d_model);
    for (size_t i = 0; i < h.gain.size(); i++)
        h.gain[i] = 1.0f + exp_random(i, 4) / 2.0f;
    for (size_t i = 0; i < h.bias.size(); i++)
        h.bias[i] = exp_random(i, 5);
    for (size_t i = 0; i < h.x.size(); i++)
        h.x[i] = exp_random(i, 6) * 3.0f;
    T5_TRY(upload_layers(rig, h.w_qkv, s->n_layers, &s->args.w_qkv, err));
    T5_TRY(upload_layers(rig, h.w_o, s->n_layers, &s->args.w_o, err));
    T5_TRY(upload(rig, h.gain, &s->args.gain, err));
    T5_TRY(upload(rig, h.bias, &s->args.bias, err));
    s->args.bias_len = s->n_keys;
out:
    return status;
}

static t5_status make_nodes(exp_rig *rig, nodes *s, t5_error *err)
{
    t5_status status = T5_OK;
    size_t d_model = (size_t)s->m.d_model, inner = (size_t)s->m.n_heads * NODE_D_KV;
    size_t layer_bytes = layer_weights(s->m) / 3 * 4 * sizeof(half);
    s->n_layers = exp_choose(rig, (int)(WEIGHTS_BYTES / layer_bytes), 2);
    s->n_keys = exp_choose(rig, 64, s->m.cluster > 2 ? 20 : 15);
    T5_TRY(make_cache(rig, s, err));
    T5_TRY(make_layer(rig, s, err));
    for (int i = 0; i < 2; i++) {
        T5_TRY(exp_alloc(rig, NODE_ROWS_MAX * d_model * sizeof(float), (void **)&s->x[i], err));
        T5_TRY(
            exp_alloc(rig, (size_t)s->m.n_heads * NODE_ROWS_MAX * d_model * sizeof(float), (void **)&s->parts[i], err));
    }
    T5_TRY(exp_alloc(rig, NODE_ROWS_MAX * d_model * sizeof(half), (void **)&s->normed, err));
    T5_TRY(exp_alloc(rig, NODE_ROWS_MAX * 3 * inner * sizeof(half), (void **)&s->qkv, err));
    T5_TRY(exp_alloc(rig, NODE_ROWS_MAX * inner * sizeof(half), (void **)&s->ctx, err));
    T5_TRY(exp_alloc(rig, T5_CUDA_SPLIT_FLOATS * sizeof(float), (void **)&s->split.parts, err));
    T5_TRY(exp_alloc(rig, T5_CUDA_SPLIT_BLOCKS * sizeof(unsigned), (void **)&s->split.arrived, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(s->split.arrived, 0, T5_CUDA_SPLIT_BLOCKS * sizeof(unsigned), rig->stream)));
    s->args.eps = EPS;
    s->args.d = s->m.d_model;
    s->args.n_heads = s->m.n_heads;
    s->args.paged = {(char *)s->kv.pool, s->kv.block_bytes, s->m.n_heads, NODE_D_KV, 0};
    s->args.self_blocks = s->kv.self_blocks;
    s->args.self_stride = s->kv.self_stride;
    s->args.ancestors = s->state.ancestors;
    s->args.stride = s->state.stride;
    s->args.pos = s->step.pos;
    s->args.slot = s->step.slot;
    s->args.slots = s->state.slots;
out:
    return status;
}

/* ---- check and time ---- */

/* A chain of two nodes, so that the slots of one are what the next begins with. */
static t5_status check_nodes(exp_rig *rig, nodes *s, const std::vector<float> &expected, t5_error *err)
{
    t5_status status = T5_OK;
    size_t n = expected.size(), n_heads = (size_t)s->m.n_heads;
    std::vector<float> x(n), parts(n_heads * n);
    T5_TRY(T5_CUDA(err,
                   cudaMemcpyAsync(s->x[0], s->host.x.data(), n * sizeof(float), cudaMemcpyHostToDevice, rig->stream)));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(s->parts[0], 0, n_heads * n * sizeof(float), rig->stream)));
    T5_TRY(run_nodes(s, 2, rig->stream, err));
    T5_TRY(exp_download(rig, x.data(), s->x[0], n * sizeof(float), err));
    T5_TRY(exp_download(rig, parts.data(), s->parts[0], n_heads * n * sizeof(float), err));
    for (size_t i = 0; i < n * n_heads && s->is_fused; i++)
        x[i % n] += parts[i];
    T5_TRY(exp_compare(x.data(), expected.data(), n, 4e-3f, err));
out:
    return status;
}

/* Microseconds of a node, checked first. */
static t5_status time_nodes(exp_rig *rig, nodes *s, bool is_fused, bool has_own_norm,
                            const std::vector<float> &expected, double *out_us, t5_error *err)
{
    t5_status status = T5_OK;
    s->is_fused = is_fused;
    s->has_own_norm = has_own_norm;
    T5_TRY(check_nodes(rig, s, expected, err));
    T5_TRY(exp_time_unit(rig, run_nodes, s, exp_choose(rig, 16, 1), out_us, err));
out:
    return status;
}

template <int I> static t5_status run_shape(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    nodes s = {};
    if (!exp_has_clusters(rig)) {
        exp_skip(rig, "clusters need compute capability 9.0");
        return T5_OK;
    }
    s.m = rig->is_rehearsal ? tiny[I] : shapes[I];
    T5_TRY(make_nodes(rig, &s, err));
    for (int n_rows : {1, 4, 8}) {
        double cluster_us = 0.0, four_us = 0.0, three_us = 0.0;
        std::vector<float> expected(s.host.x.begin(), s.host.x.begin() + n_rows * s.m.d_model);
        s.args.n_rows = s.step.n_queries = s.step.n_rows = n_rows;
        for (int i = 0; i < 2; i++)
            run_plain(s, &expected);
        T5_TRY(time_nodes(rig, &s, true, false, expected, &cluster_us, err));
        T5_TRY(time_nodes(rig, &s, false, true, expected, &four_us, err));
        T5_TRY(time_nodes(rig, &s, false, false, expected, &three_us, err));
        exp_line(rig,
                 "\"shape\":\"%s\",\"cluster\":%d,\"rows\":%d,\"keys\":%d,\"cluster_us\":%.3f,\"four_kernels_us\":%.3f,"
                 "\"three_kernels_us\":%.3f",
                 s.m.name, s.m.cluster, n_rows, s.n_keys, cluster_us, four_us, three_us);
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {
        {"small-16", "T5-small, 8 heads with 16 blocks each", run_shape<0>},
        {"small-8", "the same with 8 blocks each", run_shape<1>},
        {"base-8", "T5-base, 12 heads with 8 blocks each", run_shape<2>},
        {"large-8", "T5-large, 16 heads with 8 blocks each", run_shape<3>},
        {"large-16", "the same with 16 blocks each: two rounds where few fit at once", run_shape<4>},
    };
    exp_setup();
    return exp_main(argc, argv, 5, cases, T5_COUNT(cases));
}
