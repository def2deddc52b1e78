/* cuda/product.c: products of rows with a weight: own kernels while rows are few and the weight's bytes are what takes
 * the time, cuBLAS beyond. With is_deterministic always own kernels, so that an element does not depend on the rows
 * beside it. Rows beyond what the scratch buffers hold go in pieces. */
#include "base/assert.h"
#include "cuda/cuda_backend.h"

/* Rows up to which the own kernel reads the weight once. */
#define OWN_ROWS_MAX 64

/* The product of p with w alone, before an activation. `p` has its norm behind it. */
static t5_cuda_gemm gemm_of(t5_cuda_backend *cuda, const t5_cuda_linear_args *p, const t5_matrix *w)
{
    t5_cuda_gemm g = {.w = w, .x = p->x, .n_rows = p->n_rows, .alpha = p->x_scale, .y_type = T5_F32};
    if (p->has_act || p->w_up != NULL) {
        T5_ASSERT(p->output == T5_CUDA_STORE);
        g.y = cuda->lane->wide;
        return g;
    }
    g.alpha *= p->y_scale;
    g.beta = p->output == T5_CUDA_ADD_F32 ? 1.0f : 0.0f;
    g.y = p->y;
    if (p->output == T5_CUDA_STORE) g.y_type = cuda->type;
    return g;
}

/* cuBLAS, then the activation in a kernel of its own. */
static t5_status by_cublas(t5_cuda_backend *cuda, const t5_cuda_linear_args *p, const t5_matrix *w,
                           const t5_matrix *w_up, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_gemm gate = gemm_of(cuda, p, w);
    T5_TRY(t5_cuda_multiply(cuda, &gate, err));
    if (!p->has_act && w_up == NULL) goto out;
    size_t n = (size_t)p->n_rows * (size_t)p->d_out;
    t5_cuda_gemm up = gate;
    up.w = w_up;
    up.y = w_up != NULL ? cuda->lane->wide + n : NULL;
    if (w_up != NULL) T5_TRY(t5_cuda_multiply(cuda, &up, err));
    T5_TRY(T5_CUDA(
        err, t5_cuda_activate(cuda->type, gate.y, up.y, p->has_act, p->act, p->y_scale, n, p->y, cuda->lane->stream)));
out:
    return status;
}

/* Rows that fit into the scratch buffers at once. */
static int32_t rows_at_once(const t5_cuda_backend *cuda, const t5_cuda_linear_args *p, bool uses_cublas)
{
    size_t n = (size_t)p->n_rows;
    size_t n_normalized = T5_CUDA_NORMALIZED_BYTES / ((size_t)p->d_in * t5_dtype_bytes(cuda->type));
    size_t n_wide = T5_CUDA_WIDE_BYTES / ((size_t)p->d_out * 2 * sizeof(float));
    if (p->norm_gain != NULL && n > n_normalized) n = n_normalized;
    if (uses_cublas && p->has_act && n > n_wide) n = n_wide;
    return (int32_t)n;
}

/* lane->normalized = n(x). */
static t5_status normalize(t5_cuda_backend *cuda, const void *x, const float *gain, float eps, int32_t n_rows,
                           int32_t d_in, t5_error *err)
{
    t5_cuda_norm_args norm = {
        .x = x, .gain = gain, .eps = eps, .n_rows = n_rows, .d = d_in, .y = cuda->lane->normalized};
    return T5_CUDA(err, t5_cuda_rms_norm(cuda->type, &norm, cuda->lane->stream));
}

/* One piece: normalizes the rows where the product does not, then multiplies. */
static t5_status run_piece(t5_cuda_backend *cuda, t5_cuda_linear_args p, bool uses_cublas, const t5_matrix *w,
                           const t5_matrix *w_up, t5_error *err)
{
    t5_status status = T5_OK;
    bool is_fused = !uses_cublas && t5_cuda_linear_normalizes(cuda->type, p.n_rows, p.d_in);
    if (p.norm_gain != NULL && !is_fused) {
        T5_TRY(normalize(cuda, p.x, p.norm_gain, p.norm_eps, p.n_rows, p.d_in, err));
        p.x = cuda->lane->normalized;
        p.norm_gain = NULL;
    }
    if (uses_cublas) return by_cublas(cuda, &p, w, w_up, err);
    T5_TRY(T5_CUDA(err, t5_cuda_linear(cuda->type, &p, cuda->lane->stream)));
out:
    return status;
}

static t5_status run_product(t5_cuda_backend *cuda, const t5_cuda_linear_args *args, const t5_matrix *w,
                             const t5_matrix *w_up, t5_error *err)
{
    t5_status status = T5_OK;
    bool uses_cublas = !cuda->is_deterministic && args->n_rows > OWN_ROWS_MAX;
    int32_t n_at_once = rows_at_once(cuda, args, uses_cublas);
    if (n_at_once < 1) return T5_FAIL(err, T5_ERR_ARG, "a layer of %d is too wide for this backend", args->d_out);
    size_t x_bytes = (size_t)args->d_in * (args->norm_gain != NULL ? sizeof(float) : t5_dtype_bytes(cuda->type));
    size_t y_bytes = (size_t)args->d_out * (args->output == T5_CUDA_STORE ? t5_dtype_bytes(cuda->type) : sizeof(float));
    T5_TRY(t5_cuda_enter(cuda, err));
    for (int32_t r = 0; r < args->n_rows; r += n_at_once) {
        t5_cuda_linear_args piece = *args;
        piece.n_rows = args->n_rows - r < n_at_once ? args->n_rows - r : n_at_once;
        piece.x = (const char *)args->x + (size_t)r * x_bytes;
        piece.y = (char *)args->y + (size_t)r * y_bytes;
        T5_TRY(run_piece(cuda, piece, uses_cublas, w, w_up, err));
    }
out:
    return status;
}

static t5_cuda_linear_args product_of(const t5_cuda_backend *cuda, const t5_linear_args *args)
{
    const t5_matrix *w = args->w;
    const t5_matrix *w_up = args->w_up;
    T5_ASSERT(args->n_rows >= 1 && (w_up == NULL || (w_up->n_rows == w->n_rows && w_up->n_cols == w->n_cols)));
    T5_ASSERT(!args->adds || !args->has_act);
    float ffn_scale = cuda->type == T5_F16 ? T5_CUDA_FFN_SCALE : 1.0f;
    return (t5_cuda_linear_args){.x = args->x,
                                 .norm_gain = args->norm_gain,
                                 .norm_eps = args->norm_eps,
                                 .n_rows = args->n_rows,
                                 .d_in = w->n_cols,
                                 .d_out = w->n_rows,
                                 .w = w->values,
                                 .w_up = w_up != NULL ? w_up->values : NULL,
                                 .ld = w->ld,
                                 .x_scale = args->x_is_ffn ? ffn_scale : 1.0f,
                                 .y_scale = args->has_act ? 1.0f / ffn_scale : 1.0f,
                                 .has_act = args->has_act,
                                 .act = args->act,
                                 .output = args->adds ? T5_CUDA_ADD_F32 : T5_CUDA_STORE,
                                 .y = args->y};
}

t5_status t5_cuda_product(t5_backend *b, const t5_linear_args *args, t5_error *err)
{
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_cuda_linear_args product = product_of(cuda, args);
    return run_product(cuda, &product, args->w, args->w_up, err);
}

t5_status t5_cuda_tune_product(t5_backend *b, const t5_linear_args *args, t5_error *err)
{
    t5_cuda_backend *cuda = t5_cuda_of(b);
    t5_cuda_linear_args product = product_of(cuda, args);
    if (cuda->is_deterministic || product.n_rows <= OWN_ROWS_MAX) return T5_OK;
    product.n_rows = rows_at_once(cuda, &product, true);
    if (product.norm_gain != NULL) product.x = cuda->lane->normalized;
    t5_status status = t5_cuda_enter(cuda, err);
    t5_cuda_gemm gemm = gemm_of(cuda, &product, args->w);
    return status == T5_OK && gemm.n_rows >= 1 ? t5_cuda_choose_algorithms(cuda, &gemm, err) : status;
}

/* Queries that the scratch of normalized rows holds at once, a multiple of the tiles. */
static int32_t queries_at_once(const t5_cuda_backend *cuda, int32_t d_in)
{
    size_t n = T5_CUDA_NORMALIZED_BYTES / ((size_t)d_in * t5_dtype_bytes(cuda->type));
    return n > INT32_MAX ? INT32_MAX : (int32_t)n;
}

static t5_status head_piece(t5_cuda_backend *cuda, t5_cuda_head_args head, t5_error *err)
{
    t5_status status = T5_OK;
    if (!t5_cuda_head_normalizes(cuda->type, head.n_queries, head.d_in)) {
        T5_TRY(normalize(cuda, head.x, head.norm_gain, head.norm_eps, head.n_queries, head.d_in, err));
        head.x = cuda->lane->normalized;
        head.norm_gain = NULL;
    }
    T5_TRY(T5_CUDA(err, t5_cuda_head_rows(cuda->type, &head, cuda->lane->stream)));
out:
    return status;
}

t5_status t5_cuda_head_of_step(t5_backend *b, const t5_step *step, const float *x, const float *norm_gain, float eps,
                               const t5_matrix *w, float *logits, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_backend *cuda = t5_cuda_of(b);
    int32_t n_at_once = queries_at_once(cuda, w->n_cols);
    if (n_at_once < 1) return T5_FAIL(err, T5_ERR_ARG, "a head of %d columns is too wide for this backend", w->n_cols);
    T5_TRY(t5_cuda_enter(cuda, err));
    for (int32_t q = 0; q < step->n_queries; q += n_at_once) {
        int32_t n = step->n_queries - q < n_at_once ? step->n_queries - q : n_at_once;
        t5_cuda_head_args head = {.x = x + (size_t)q * (size_t)w->n_cols,
                                  .norm_gain = norm_gain,
                                  .norm_eps = eps,
                                  .n_queries = n,
                                  .d_in = w->n_cols,
                                  .vocab_size = w->n_rows,
                                  .w = w->values,
                                  .ld = w->ld,
                                  .logits = logits + (size_t)q * (size_t)w->n_rows};
        if (step->state != NULL) {
            head.slots = step->state->slots;
            head.row = step->row + q;
            head.pos = step->pos + q;
            head.slot = step->slot + q;
        }
        T5_TRY(head_piece(cuda, head, err));
    }
out:
    return status;
}

t5_status t5_cuda_head(t5_backend *b, const float *x, int32_t n_queries, const float *norm_gain, float eps,
                       const t5_matrix *w, float *logits, t5_error *err)
{
    const t5_step every_logit = {.n_queries = n_queries};
    return t5_cuda_head_of_step(b, &every_logit, x, norm_gain, eps, w, logits, err);
}
