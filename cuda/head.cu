/* cuda/head.cu: logits = n(x) w^T over the vocabulary, and of rows that only choose from them the tiles' best instead
 * (head.cuh). The head is two fifths of T5-small's weights, and its logits as many bytes as a hundred layers' outputs:
 * written, and read three times by the search.
 *
 * Each warp sums over the whole of k for its 16 words, chunk after chunk: the order depends on nothing else, so logits
 * do not depend on the number of rows, nor on whether they are written. */
#include "cuda/dispatch.cuh"
#include "cuda/head.cuh"
#include "cuda/rows.cuh"

static const int THREADS = 256;
static const int LOGITS_STRIDE = T5_TILE + 4; /* so that the stores of an mma's sums meet no bank twice */

static_assert(T5_TILE == THREADS / 32 * T5_ROWS_OUT, "a warp has 16 words");
static_assert(T5_TILE == 4 * 32 && 2 * T5_BEAMS_MAX <= T5_TILE, "a lane has 4 words of a row");

/* What becomes of a row's logits; read once a block, by a thread per row. */
enum row_use { USE_NONE, USE_LOGITS, USE_TILE };
struct row_plan {
    int use; /* row_use */
    int n_wanted;
    bool needs_sum, sums_masked;
    /* What is masked: the words from vocab_live on, `banned_end` unless it is negative, and these. */
    int vocab_live, banned_end, n_suppress;
    const int32_t *suppress_tokens;
};

static __device__ row_plan plan_row(const t5_cuda_head_args &args, int q)
{
    row_plan plan = {};
    plan.use = USE_LOGITS;
    if (args.slots == NULL) return plan;
    plan.use = USE_NONE;
    if (args.row[q] < 0) return plan; /* fills a recorded step */
    const t5_slot *slot = &args.slots[args.slot[q]];
    if (slot->phase != T5_SLOT_RUNNING) return plan;
    bool is_last = args.pos[q] + 1 == slot->len;
    if (slot->mode == T5_SEARCH_SCORE) {
        if (!is_last) plan.use = USE_LOGITS;
    } else if (is_last) {
        plan.use = t5_tiles_suffice(slot, args.vocab_size) ? USE_TILE : USE_LOGITS;
        plan.n_wanted = t5_n_wanted(slot);
        plan.needs_sum = t5_tiles_need_sums(slot);
        plan.sums_masked = slot->mode == T5_SEARCH_GREEDY; /* beams take log-probabilities before the processors */
        plan.vocab_live = slot->vocab_live;
        plan.banned_end = slot->len - slot->n_prompt < slot->min_new_tokens ? slot->eos_id : -1;
        plan.n_suppress = slot->n_suppress;
        plan.suppress_tokens = slot->suppress_tokens;
    }
    return plan;
}

/* A thread per row; the barrier before the plans are read is the one before the logits are. */
static __device__ void plan_rows(const t5_cuda_head_args &args, int first_row, int n_rows, row_plan *plans)
{
    int r = (int)threadIdx.x;
    if (r < n_rows) plans[r] = plan_row(args, first_row + r);
}

/* ---- the tile's logits: logits[row][word] in shared memory ---- */

template <class T, int N_TILES> struct tile_product {
    static const int ROWS = N_TILES * T5_ROWS_TILE;
    static const int AHEAD = N_TILES == 1 ? 4 : 2; /* chunks whose weights are on their way together */

    /* Loads the chunks c .. c + AHEAD - 1. */
    static __device__ __forceinline__ void load_ahead(const T *w, int ld, int c, int n_chunks,
                                                      t5_weight_rows (&rows)[AHEAD])
    {
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (c + u < n_chunks) t5_load_weights(w + (size_t)((c + u) * T5_ROWS_CHUNK), ld, rows[u]);
        }
    }

    static __device__ __forceinline__ void multiply(const t5_cuda_head_args &args, const T *staged, int first_row,
                                                    int n_rows, int c, const t5_weight_rows &w,
                                                    float (&sums)[N_TILES][4])
    {
        int lane = (int)threadIdx.x % 32, k = c * T5_ROWS_CHUNK + 8 * (lane % 4);
        int n_tiles = (n_rows + T5_ROWS_TILE - 1) / T5_ROWS_TILE;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            if (n >= n_tiles) break;
            int row = n * T5_ROWS_TILE + lane / 4;
            uint4 x = make_uint4(0, 0, 0, 0);
            if (staged != NULL) {
                x = t5_load16(staged + t5_staged_at(t5_staged_stride(args.d_in), row, k));
            } else if (row < n_rows) {
                x = t5_load_x((const T *)args.x, first_row + row, k, args.d_in);
            }
            t5_multiply_chunk<T>(sums[n], w, x);
        }
    }

    /* Every row of the block in `logits`, which may take the place of the staged rows. */
    static __device__ __forceinline__ void run(const t5_cuda_head_args &args, int first_row, int n_rows, int first_word,
                                               row_plan *plans, float *logits)
    {
        int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
        int n_chunks = (args.d_in + T5_ROWS_CHUNK - 1) / T5_ROWS_CHUNK;
        int word = warp * T5_ROWS_OUT + lane / 4;
        if (first_word + warp * T5_ROWS_OUT >= args.vocab_size) n_chunks = 0; /* past the weight's last rows */
        const T *w = (const T *)args.w + (size_t)(first_word + word) * (size_t)args.ld + 8 * (lane % 4);
        t5_weight_rows rows[AHEAD];
        float sums[N_TILES][4] = {};
        load_ahead(w, args.ld, 0, n_chunks, rows);
        t5_await_previous();
        plan_rows(args, first_row, n_rows, plans);
        T *staged = args.norm_gain != NULL ? (T *)logits : NULL;
        if (staged != NULL) {
            t5_stage_normalized((const float *)args.x + (size_t)first_row * (size_t)args.d_in, args.norm_gain,
                                args.norm_eps, args.d_in, n_rows, staged);
            __syncthreads();
        }
        for (int c = 0; c < n_chunks;) {
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                if (c + u < n_chunks) multiply(args, staged, first_row, n_rows, c + u, rows[u], sums);
            }
            c += AHEAD;
            load_ahead(w, args.ld, c, n_chunks, rows);
        }
        __syncthreads();
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            float *to = logits + (n * T5_ROWS_TILE + lane % 4 * 2) * LOGITS_STRIDE + word;
            to[0] = sums[n][0];
            to[LOGITS_STRIDE] = sums[n][1];
            to[8] = sums[n][2];
            to[LOGITS_STRIDE + 8] = sums[n][3];
        }
    }
};

/* In float without tensor cores, for exact comparison: x is normalized already, a thread has one word of 4 rows. */
template <> struct tile_product<float, 1> {
    static const int ROWS = T5_ROWS_TILE;

    static __device__ void run(const t5_cuda_head_args &args, int first_row, int n_rows, int first_word,
                               row_plan *plans, float *logits)
    {
        int word = (int)threadIdx.x % T5_TILE;
        const float *w = (const float *)args.w + (size_t)(first_word + word) * (size_t)args.ld;
        t5_await_previous();
        plan_rows(args, first_row, n_rows, plans);
        for (int row = (int)threadIdx.x / T5_TILE; row < n_rows; row += THREADS / T5_TILE) {
            const float *x = (const float *)args.x + (size_t)(first_row + row) * (size_t)args.d_in;
            float sum = 0.0f;
            for (int k = 0; k < args.d_in && first_word + word < args.vocab_size; k++)
                sum += x[k] * w[k];
            logits[row * LOGITS_STRIDE + word] = sum;
        }
    }
};

/* ---- what is left of a row ---- */

/* Sets what the slot's processors mask to -inf; a lane has the words 4 l .. 4 l + 3 of the tile. */
static __device__ void mask_words(const row_plan &plan, int first_word, float (&x)[4])
{
    int lane_word = first_word + 4 * ((int)threadIdx.x % 32);
    for (int i = -1; i < plan.n_suppress; i++) {
        int e = (i < 0 ? plan.banned_end : plan.suppress_tokens[i]) - lane_word;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j == e) x[j] = -INFINITY;
        }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (lane_word + j >= plan.vocab_live) x[j] = -INFINITY;
    }
}

/* The warp's largest x and sum of exp(x - that), over the first n words of the tile. */
static __device__ void sum_tile(const float (&x)[4], int n, const t5_tile_part &part)
{
    int lane = (int)threadIdx.x % 32;
    float top = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (4 * lane + j < n) top = fmaxf(top, x[j]);
    }
    top = t5_warp_max(top);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (4 * lane + j < n && top != -INFINITY) sum += expf(x[j] - top);
    }
    sum = t5_warp_sum(sum);
    if (lane == 0) {
        *part.top = top;
        *part.sum = sum;
    }
}

/* The k best of the first n words, best first, the lower word first among equals: lanes hold words in rising order, so
 * the lowest lane with the best rank has it. */
static __device__ void list_best(const float (&x)[4], int n, int k, const t5_tile_part &part)
{
    int lane = (int)threadIdx.x % 32;
    unsigned ranks[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        ranks[j] = 4 * lane + j < n ? t5_rank_of(x[j]) : 0;
    for (int r = 0; r < min(k, n); r++) {
        unsigned mine = 0;
#pragma unroll
        for (int j = 0; j < 4; j++)
            mine = ranks[j] > mine ? ranks[j] : mine;
        unsigned best = __reduce_max_sync(0xffffffffu, mine);
        unsigned owners = __ballot_sync(0xffffffffu, mine == best);
        if ((owners & ((1u << lane) - 1)) != 0 || mine != best) continue;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (ranks[j] != mine) continue;
            part.scores[r] = x[j];
            part.words[r] = (uint8_t)(4 * lane + j);
            ranks[j] = 0;
            break;
        }
    }
}

/* By one warp. */
static __device__ void finish_row(const t5_cuda_head_args &args, const row_plan &plan, int q, int first_word,
                                  const float *logits)
{
    int lane = (int)threadIdx.x % 32, n = min(args.vocab_size - first_word, T5_TILE);
    float *out = args.logits + (size_t)q * (size_t)args.vocab_size;
    if (plan.use == USE_LOGITS) {
        for (int i = lane; i < n; i += 32)
            out[first_word + i] = logits[i];
        return;
    }
    t5_tile_part part = t5_tile_part_of(out, (int)blockIdx.y, plan.n_wanted);
    float x[4];
    t5_load_vector(logits + 4 * lane, x);
    if (plan.needs_sum && !plan.sums_masked) sum_tile(x, n, part);
    mask_words(plan, first_word, x);
    if (plan.needs_sum && plan.sums_masked) sum_tile(x, n, part);
    list_best(x, n, plan.n_wanted, part);
}

/* x: [n_queries, d_in] T, or float to normalize; w: [vocab_size, ld] T; logits: [n_queries, vocab_size] float
 * Launch: blocks of 8 N_TILES rows x 128 words, the row blocks of a tile side by side, so that they share its weights
 * in L2; 8 warps. Shared memory: the normalized rows, then the logits in their place.
 * Bytes: w once, x once per block (from L2); a row that chooses writes 4 + k (4 + 1) bytes a tile, others all logits.
 * Memory bound. Twin: ref_head, then what t5_search_row reads. */
template <class T, int N_TILES> __global__ void __launch_bounds__(THREADS) head_kernel(t5_cuda_head_args args)
{
    typedef tile_product<T, N_TILES> product;
    T5_DYNAMIC_SHARED(float, shared);
    T5_SHARED(row_plan, plans, [product::ROWS]);
    int first_row = (int)blockIdx.x * product::ROWS, first_word = (int)blockIdx.y * T5_TILE;
    int n_rows = min(args.n_queries - first_row, product::ROWS);
    product::run(args, first_row, n_rows, first_word, plans, shared);
    __syncthreads();
    for (int r = (int)threadIdx.x / 32; r < n_rows; r += THREADS / 32) {
        if (plans[r].use != USE_NONE) finish_row(args, plans[r], first_row + r, first_word, shared + r * LOGITS_STRIDE);
    }
}

/* Instantiations: {half, bfloat16} x {8, 64 rows}, float x 8 rows. */
template <class T, int N_TILES> static cudaError_t launch_tiles(const t5_cuda_head_args &args, t5_cuda_stream stream)
{
    const int ROWS = N_TILES * T5_ROWS_TILE;
    int n_rows = args.n_queries < ROWS ? args.n_queries : ROWS;
    size_t logits_bytes = (size_t)ROWS * LOGITS_STRIDE * sizeof(float);
    size_t staged_bytes = args.norm_gain != NULL ? t5_staged_bytes(n_rows, args.d_in) : 0;
    size_t shared_bytes = logits_bytes > staged_bytes ? logits_bytes : staged_bytes;
    cudaError_t error = t5_allow_shared(head_kernel<T, N_TILES>, shared_bytes);
    if (error != cudaSuccess) return error;
    dim3 grid((unsigned)((args.n_queries + ROWS - 1) / ROWS), (unsigned)((args.vocab_size + T5_TILE - 1) / T5_TILE));
    return T5_LAUNCH((head_kernel<T, N_TILES>), grid, dim3((unsigned)THREADS), shared_bytes, stream, args);
}

template <class T> struct launch_head {
    static cudaError_t run(const t5_cuda_head_args &args, t5_cuda_stream stream)
    {
        return args.n_queries <= T5_ROWS_TILE ? launch_tiles<T, 1>(args, stream) : launch_tiles<T, 8>(args, stream);
    }
};

template <> struct launch_head<float> {
    static cudaError_t run(const t5_cuda_head_args &args, t5_cuda_stream stream)
    {
        return launch_tiles<float, 1>(args, stream);
    }
};

cudaError_t t5_cuda_head_rows(t5_dtype type, const t5_cuda_head_args *args, t5_cuda_stream stream)
{
    return t5_dispatch<launch_head>(type, *args, stream);
}

bool t5_cuda_head_normalizes(t5_dtype type, int32_t n_queries, int32_t d_in)
{
    return t5_rows_can_be_staged(type, n_queries < 64 ? n_queries : 64, d_in);
}
