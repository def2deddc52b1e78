/* bench/exp/exp_encoder.cu: experiment 7, encoder attention: the backend's packed kernel, which knows no padding and no
 * score matrix, against batched cuBLAS products of padded sources with a softmax kernel between them; equal lengths and
 * a ragged mix. What a pass costs the decode steps beside it is bench_gpu's case "overlap". */
#include "bench/exp/w8.cuh"
#include "cuda/cublas.h"
#include "cuda/kernels.h"

#include <dlfcn.h>
#include <vector>

enum { D = 64, N_HEADS = 8, INNER = N_HEADS * D };

/* Of cuBLAS, found at run time. */
typedef cublasStatus_t (*batched_gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                       const void *, const void *const *, cudaDataType, int, const void *const *,
                                       cudaDataType, int, const void *, void *const *, cudaDataType, int, int,
                                       cublasComputeType_t, cublasGemmAlgo_t);

struct attention {
    int n_seqs, len_max, n_tokens;
    std::vector<int32_t> first;
    t5_encoder_attention_args args;
    t5_packed packed;
    half *packed_qkv, *packed_ctx;
    half *qkv, *weights, *ctx; /* padded: [n_seqs][len_max] tokens */
    float *scores;             /* [n_seqs][N_HEADS][len_max][len_max] */
    float *bias;               /* [N_HEADS][2 len_max - 1] */
    int32_t *dev_first;
    void **operands[6]; /* [dev] [n_seqs * N_HEADS] k, q, scores; v, weights, ctx */
    std::vector<void *> host_operands[6];
    t5_cublas cublas;
    cublasHandle_t handle;
    batched_gemm gemm;
};

/* P = softmax(scores + bias) of one query; zero past the source. Launch: a warp a query, head and source. Bytes:
 * len_max * (4 + 4 + 2). */
static __global__ void __launch_bounds__(32)
    softmax_kernel(float *scores, const float *bias, const int32_t *first, int len_max, half *weights)
{
    int i = (int)blockIdx.x, head = (int)blockIdx.y, seq = (int)blockIdx.z, lane = (int)threadIdx.x;
    int len = first[seq + 1] - first[seq];
    size_t at = (((size_t)seq * N_HEADS + (size_t)head) * (size_t)len_max + (size_t)i) * (size_t)len_max;
    const float *row_bias = bias + (size_t)head * (size_t)(2 * len_max - 1) + (len_max - 1 - i);
    float top = -INFINITY, total = 0.0f;
    for (int j = lane; j < len; j += 32)
        top = fmaxf(top, scores[at + (size_t)j] + row_bias[j]);
    top = t5_warp_max(top);
    for (int j = lane; j < len; j += 32)
        total += __expf(scores[at + (size_t)j] + row_bias[j] - top);
    total = t5_warp_sum(total);
    for (int j = lane; j < len_max; j += 32)
        t5_store(&weights[at + (size_t)j], j < len ? __expf(scores[at + (size_t)j] + row_bias[j] - top) / total : 0.0f);
}

/* C = op(A) B for all sources and heads: one call on a GPU, many on the fibers. */
static t5_status multiply(const attention *a, int operand, cublasOperation_t op, int m, int k, int lda, int ldb,
                          cudaDataType c_type, int ldc, t5_error *err)
{
    const float alpha = 1.0f, beta = 0.0f;
    int n_batch = a->n_seqs * N_HEADS, n = a->len_max;
    if (a->gemm != nullptr)
        return T5_CUBLAS(err, a->gemm(a->handle, op, CUBLAS_OP_N, m, n, k, &alpha, a->operands[operand], CUDA_R_16F,
                                      lda, a->operands[operand + 1], CUDA_R_16F, ldb, &beta, a->operands[operand + 2],
                                      c_type, ldc, n_batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    t5_status status = T5_OK;
    for (size_t i = 0; i < (size_t)n_batch && status == T5_OK; i++)
        status =
            T5_CUBLAS(err, a->cublas.gemm_ex(a->handle, op, CUBLAS_OP_N, m, n, k, &alpha, a->host_operands[operand][i],
                                             CUDA_R_16F, lda, a->host_operands[operand + 1][i], CUDA_R_16F, ldb, &beta,
                                             a->host_operands[operand + 2][i], c_type, ldc, CUBLAS_COMPUTE_32F,
                                             CUBLAS_GEMM_DEFAULT));
    return status;
}

static t5_status run_padded(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const attention *a = (const attention *)ctx;
    dim3 grid((unsigned)a->len_max, N_HEADS, (unsigned)a->n_seqs);
    T5_TRY(T5_CUBLAS(err, a->cublas.set_stream(a->handle, stream)));
    for (int i = 0; i < n; i++) {
        T5_TRY(multiply(a, 0, CUBLAS_OP_T, a->len_max, D, 3 * INNER, 3 * INNER, CUDA_R_32F, a->len_max, err));
        T5_TRY(T5_CUDA(err, EXP_LAUNCH(softmax_kernel, grid, dim3(32), 0, stream, exp_how{}, a->scores, a->bias,
                                       a->dev_first, a->len_max, a->weights)));
        T5_TRY(multiply(a, 3, CUBLAS_OP_N, D, a->len_max, 3 * INNER, a->len_max, CUDA_R_16F, INNER, err));
    }
out:
    return status;
}

static t5_status run_packed(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    t5_status status = T5_OK;
    const attention *a = (const attention *)ctx;
    for (int i = 0; i < n && status == T5_OK; i++)
        status = T5_CUDA(err, t5_cuda_encoder_attention(T5_F16, &a->args, {stream, false}));
    return status;
}

/* Value `i` of the packed qkv. */
static float qkv_value(size_t i)
{
    return __half2float(__float2half_rn(exp_random(i, 1) * 0.7f));
}

static t5_status list_operands(exp_rig *rig, attention *a, t5_error *err)
{
    t5_status status = T5_OK;
    size_t len = (size_t)a->len_max;
    for (size_t b = 0; b < (size_t)a->n_seqs; b++) {
        for (size_t h = 0; h < N_HEADS; h++) {
            half *qkv = a->qkv + b * len * 3 * INNER + h * D;
            size_t at = (b * N_HEADS + h) * len * len;
            void *const all[6] = {
                qkv + INNER, qkv, a->scores + at, qkv + 2 * INNER, a->weights + at, a->ctx + b * len * INNER + h * D};
            for (int i = 0; i < 6; i++)
                a->host_operands[i].push_back(all[i]);
        }
    }
    for (int i = 0; i < 6; i++)
        T5_TRY(exp_upload(rig, a->host_operands[i].data(), a->host_operands[i].size() * sizeof(void *),
                          (void **)&a->operands[i], err));
out:
    return status;
}

static t5_status make_attention(exp_rig *rig, attention *a, const std::vector<int> &lens, t5_error *err)
{
    t5_status status = T5_OK;
    a->first.assign(1, 0);
    for (int len : lens)
        a->first.push_back(a->first.back() + len);
    a->n_seqs = (int)lens.size();
    a->n_tokens = a->first.back();
    size_t n_padded = lens.size() * (size_t)a->len_max, n_scores = n_padded * (size_t)a->len_max * N_HEADS;
    std::vector<half> packed((size_t)a->n_tokens * 3 * INNER), padded(n_padded * 3 * INNER, __float2half_rn(0.0f));
    std::vector<float> bias((size_t)N_HEADS * (size_t)(2 * a->len_max - 1));
    for (size_t i = 0; i < packed.size(); i++)
        packed[i] = __float2half_rn(qkv_value(i));
    for (size_t b = 0; b < lens.size(); b++)
        std::copy(packed.begin() + (ptrdiff_t)a->first[b] * 3 * INNER,
                  packed.begin() + (ptrdiff_t)a->first[b + 1] * 3 * INNER,
                  padded.begin() + (ptrdiff_t)(b * (size_t)a->len_max) * 3 * INNER);
    for (size_t i = 0; i < bias.size(); i++)
        bias[i] = exp_random(i, 2);
    T5_TRY(exp_upload(rig, packed.data(), packed.size() * sizeof(half), (void **)&a->packed_qkv, err));
    T5_TRY(exp_upload(rig, padded.data(), padded.size() * sizeof(half), (void **)&a->qkv, err));
    T5_TRY(exp_upload(rig, bias.data(), bias.size() * sizeof(float), (void **)&a->bias, err));
    T5_TRY(exp_upload(rig, a->first.data(), a->first.size() * sizeof(int32_t), (void **)&a->dev_first, err));
    T5_TRY(exp_alloc(rig, packed.size() / 3 * sizeof(half), (void **)&a->packed_ctx, err));
    T5_TRY(exp_alloc(rig, padded.size() / 3 * sizeof(half), (void **)&a->ctx, err));
    T5_TRY(exp_alloc(rig, n_scores * sizeof(float), (void **)&a->scores, err));
    T5_TRY(exp_alloc(rig, n_scores * sizeof(half), (void **)&a->weights, err));
    T5_TRY(list_operands(rig, a, err));
    a->packed.n_seqs = a->n_seqs;
    a->packed.n_tokens = a->n_tokens;
    a->packed.len_max = a->len_max;
    a->packed.first = a->dev_first;
    a->args.packed = &a->packed;
    a->args.qkv = a->packed_qkv;
    a->args.bias = a->bias;
    a->args.bias_len = a->len_max;
    a->args.n_heads = N_HEADS;
    a->args.d_kv = D;
    a->args.ctx = a->packed_ctx;
out:
    return status;
}

/* Context of head 1 of the last token of source `seq`, as plain loops over exp_random's values. */
static void expect(const attention *a, int seq, std::vector<float> *out)
{
    int len = a->first[(size_t)seq + 1] - a->first[(size_t)seq], i = len - 1;
    size_t token0 = (size_t)a->first[(size_t)seq], head = 1;
    std::vector<double> score((size_t)len);
    double top = -1e30, total = 0.0;
    out->assign(D, 0.0f);
    for (int j = 0; j < len; j++) {
        size_t at = head * (size_t)(2 * a->len_max - 1) + (size_t)(j - i + a->len_max - 1);
        score[(size_t)j] = exp_random(at, 2);
        for (size_t d = 0; d < D; d++)
            score[(size_t)j] += (double)qkv_value((token0 + (size_t)i) * 3 * INNER + head * D + d) *
                                (double)qkv_value((token0 + (size_t)j) * 3 * INNER + INNER + head * D + d);
        top = score[(size_t)j] > top ? score[(size_t)j] : top;
    }
    for (double &s : score)
        total += s = exp(s - top);
    for (size_t d = 0; d < D; d++) {
        for (int j = 0; j < len; j++)
            (*out)[d] += (float)(score[(size_t)j] / total *
                                 (double)qkv_value((token0 + (size_t)j) * 3 * INNER + 2 * INNER + head * D + d));
    }
}

static t5_status check(exp_rig *rig, attention *a, bool is_packed, t5_error *err)
{
    t5_status status = T5_OK;
    std::vector<float> expected, got(D);
    std::vector<half> ctx(D);
    T5_TRY((is_packed ? run_packed : run_padded)(a, 1, rig->stream, err));
    for (int seq = 0; seq < a->n_seqs; seq += (a->n_seqs + 3) / 4) {
        int last = a->first[(size_t)seq + 1] - a->first[(size_t)seq] - 1;
        size_t token = (size_t)(is_packed ? a->first[(size_t)seq] : seq * a->len_max) + (size_t)last;
        expect(a, seq, &expected);
        T5_TRY(exp_download(rig, ctx.data(), (is_packed ? a->packed_ctx : a->ctx) + token * INNER + D, D * sizeof(half),
                            err));
        for (size_t d = 0; d < D; d++)
            got[d] = __half2float(ctx[d]);
        T5_TRY(exp_compare(got.data(), expected.data(), D, 4e-3f, err));
    }
out:
    return status;
}

static t5_status run_lens(exp_rig *rig, attention *a, const char *name, const std::vector<int> &lens, t5_error *err)
{
    t5_status status = T5_OK;
    double packed_us = 0.0, padded_us = 0.0;
    int n = exp_choose(rig, 6, 1);
    T5_TRY(make_attention(rig, a, lens, err));
    T5_TRY(check(rig, a, true, err));
    T5_TRY(check(rig, a, false, err));
    T5_TRY(exp_time_stream(rig, run_packed, a, n, &packed_us, err));
    T5_TRY(exp_time_stream(rig, run_padded, a, n, &padded_us, err));
    exp_line(rig,
             "\"lengths\":\"%s\",\"sources\":%d,\"len_max\":%d,\"tokens\":%d,\"packed_us\":%.2f,\"padded_us\":%.2f",
             name, a->n_seqs, a->len_max, a->n_tokens, packed_us / n, padded_us / n);
out:
    return status;
}

static t5_status open_cublas(attention *a, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(t5_cublas_open(&a->cublas, err));
    if (a->cublas.library != nullptr) {
        void *symbol = dlsym(a->cublas.library, "cublasGemmBatchedEx");
        if (symbol == nullptr) return T5_FAIL(err, T5_ERR_DEVICE, "cuBLAS has no cublasGemmBatchedEx");
        memcpy(&a->gemm, &symbol, sizeof symbol);
    }
    T5_TRY(T5_CUBLAS(err, a->cublas.create(&a->handle)));
out:
    return status;
}

static t5_status run_attention(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    for (int len : {32, 64, 128, 256, 512}) {
        for (bool is_ragged : {false, true}) {
            attention a = {};
            std::vector<int> lens((size_t)exp_choose(rig, 4096 / len, 3), len);
            if (rig->is_rehearsal && len > 32) continue;
            for (size_t i = 1; i < lens.size() && is_ragged; i++)
                lens[i] = 1 + (int)(i * 7919) % len;
            a.len_max = len;
            status = open_cublas(&a, err);
            if (status == T5_OK) status = run_lens(rig, &a, is_ragged ? "ragged" : "equal", lens, err);
            if (a.handle != nullptr) a.cublas.destroy(a.handle);
            t5_cublas_close(&a.cublas);
            T5_TRY(status);
        }
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {
        {"attention", "packed kernel against padded cuBLAS, 4 096 tokens of 32 to 512", run_attention}};
    exp_setup();
    return exp_main(argc, argv, 7, cases, T5_COUNT(cases));
}
