/* cuda/search_rows.cu: the first half of a search step, for each row on its own: processors, then the row's best
 * continuations or its sample. Twin: t5_search_row in model/search.c, function by function; what is different is that
 * a block works on a row, and that sums over the vocabulary are float where search.c uses double. */
#include "cuda/head_merge.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

static const int SORTED_DRAW_MAX = 2 * T5_BEAMS_MAX; /* largest top_k whose tokens are drawn from a sorted list */

struct search_view {
    t5_search_state state;
    const t5_step_row *rows;
    float *logits;
    int vocab_size;
    bool has_tiles; /* the head has left the best of each tile where that is enough */
};

static __device__ __forceinline__ size_t row_at(const t5_search_state &s, int row)
{
    return (size_t)row * (size_t)s.stride;
}

/* Several threads may ban the same token. */
static __device__ __forceinline__ void ban(float *x, int token)
{
    atomicExch(&x[token], -INFINITY);
}

static __device__ void penalize_repetition(const int32_t *tokens, int len, float penalty, float shift, float *x)
{
    for (int i = (int)threadIdx.x; i < len; i += (int)blockDim.x) {
        int token = tokens[i];
        bool is_first = true;
        for (int j = 0; j < i && is_first; j++)
            is_first = tokens[j] != token;
        if (!is_first) continue;
        float value = x[token] - shift;
        value = value < 0.0f ? value * penalty : value / penalty;
        x[token] = value + shift;
    }
    __syncthreads();
}

static __device__ void ban_repeated_ngrams(const int32_t *tokens, int len, int n, float *x)
{
    const int32_t *last = tokens + len - (n - 1);
    for (int i = (int)threadIdx.x; i + n <= len; i += (int)blockDim.x) {
        bool is_same = true;
        for (int j = 0; j < n - 1 && is_same; j++)
            is_same = tokens[i + j] == last[j];
        if (is_same) ban(x, tokens[i + n - 1]);
    }
}

static __device__ void process_logits(const t5_slot *slot, const int32_t *tokens, float shift, float *x, int vocab_size)
{
    int thread = (int)threadIdx.x;
    if (slot->repetition_penalty != 1.0f) penalize_repetition(tokens, slot->len, slot->repetition_penalty, shift, x);
    int n = slot->no_repeat_ngram_size;
    if (n > 0 && slot->len + 1 >= n) ban_repeated_ngrams(tokens, slot->len, n, x);
    if (thread == 0 && slot->len - slot->n_prompt < slot->min_new_tokens) ban(x, slot->eos_id);
    for (int i = thread; i < slot->n_suppress; i += (int)blockDim.x)
        ban(x, slot->suppress_tokens[i]);
    __syncthreads();
    for (int i = slot->vocab_live + thread; i < vocab_size; i += (int)blockDim.x)
        x[i] = -INFINITY;
    __syncthreads();
}

/* splitmix64 of (seed, row, position), as search.c has it. */
static __device__ uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static __device__ float uniform(uint64_t seed, int i_beam, int position)
{
    uint64_t z = mix(mix(mix(seed) ^ (uint64_t)i_beam) ^ (uint64_t)position);
    return (float)(z >> 40) * 0x1p-24f;
}

/* Where a draw ended: the token, its scaled score (0 for the best token's), and the mass that it was drawn from. */
struct drawn {
    int token;
    float scaled;
    double mass;
};

/* From the k best keys, in their order: every thread does the same few additions. */
static __device__ drawn draw_sorted(const t5_slot *slot, int i_beam, const float *x, int k, const t5_key *keys)
{
    float top = x[t5_key_token(keys[0])];
    double sum = 0.0, above = 0.0;
    for (int i = 0; i < k; i++)
        sum += exp((double)((x[t5_key_token(keys[i])] - top) / slot->temperature));
    int n_kept = 0;
    while (n_kept < k && (n_kept == 0 || above < (double)slot->top_p * sum)) {
        above += exp((double)((x[t5_key_token(keys[n_kept])] - top) / slot->temperature));
        n_kept++;
    }
    double left = (double)uniform(slot->seed, i_beam, slot->len) * above;
    int i = 0;
    for (; i < n_kept - 1; i++) {
        left -= exp((double)((x[t5_key_token(keys[i])] - top) / slot->temperature));
        if (left < 0.0) break;
    }
    int token = t5_key_token(keys[i]);
    return {token, (x[token] - top) / slot->temperature, above};
}

/* Probability mass (unscaled) and number of the tokens whose keys are at least `least`. */
struct mass {
    double sum;
    int count;
};
static __device__ mass mass_from(const float *x, int n, float top, float temperature, t5_key least)
{
    double sum = 0.0;
    int count = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        if (t5_key_of(x[i], i) < least) continue;
        sum += exp((double)((x[i] - top) / temperature));
        count++;
    }
    return {t5_block_reduce(sum, t5_add<double>()), t5_block_reduce(count, t5_add<int>())};
}

struct smaller_key {
    __device__ t5_key operator()(t5_key a, t5_key b) const
    {
        return a < b ? a : b;
    }
};

/* The least key of at least `cut`; `best` is one of those. */
static __device__ t5_key least_key(const float *x, int n, t5_key cut, t5_key best)
{
    t5_key least = best;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        t5_key key = t5_key_of(x[i], i);
        if (key >= cut && key < least) least = key;
    }
    return t5_block_reduce(least, smaller_key());
}

/* From all tokens, or more than a sorted list holds: the k best, the nucleus and the draw are thresholds on keys, each
 * found by bisection. 64 passes over the vocabulary each: for the settings where nothing shorter is exact. */
static __device__ drawn draw_by_threshold(const t5_slot *slot, int i_beam, const float *x, int n, int k, t5_key best)
{
    float top = x[t5_key_token(best)];
    float temperature = slot->temperature;
    t5_key low = 0, high = best; /* the largest threshold with at least k tokens */
    while (k < n && low < high) {
        t5_key middle = low + (high - low + 1) / 2;
        if (mass_from(x, n, top, temperature, middle).count >= k) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    t5_key cut = low;
    double limit = (double)slot->top_p * mass_from(x, n, top, temperature, cut).sum;
    low = cut;
    high = best; /* the least threshold above which there is less than the nucleus */
    while (low < high) {
        t5_key middle = low + (high - low) / 2;
        if (mass_from(x, n, top, temperature, middle + 1).sum < limit) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    cut = low;
    double above = mass_from(x, n, top, temperature, cut).sum;
    double left = (double)uniform(slot->seed, i_beam, slot->len) * above;
    high = best; /* the largest threshold with more mass than was drawn */
    while (low < high) {
        t5_key middle = low + (high - low + 1) / 2;
        if (mass_from(x, n, top, temperature, middle).sum > left) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    int token = t5_key_token(low == cut ? least_key(x, n, cut, best) : low);
    return {token, (x[token] - top) / temperature, above};
}

/* Log-probability of each given token after the row's queries. */
static __device__ void score_row(const search_view &v, const t5_slot *slot, const t5_step_row &row)
{
    for (int i = 0; i < row.q_len; i++) {
        int next = slot->n_computed + i + 1;
        if (next >= slot->len) return;
        const float *x = v.logits + (size_t)(row.q0 + i) * (size_t)v.vocab_size;
        float log_sum = t5_log_sum_exp(x, v.vocab_size);
        size_t at = row_at(v.state, row.row) + (size_t)next;
        if (threadIdx.x == 0) v.state.logprobs[at] = x[v.state.tokens[at]] - log_sum;
    }
}

static __device__ void beam_row(const search_view &v, const t5_slot *slot, int row, float *x, t5_key *lists,
                                t5_key *keys)
{
    float log_sum = t5_log_sum_exp(x, v.vocab_size);
    process_logits(slot, v.state.tokens + row_at(v.state, row), log_sum, x, v.vocab_size);
    int n = 2 * slot->n_rows;
    t5_top_k(x, v.vocab_size, n, lists, keys);
    t5_candidate *out = v.state.candidates + (size_t)row * 2 * T5_BEAMS_MAX;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        int token = t5_key_token(keys[i]);
        float logprob = x[token] - log_sum;
        out[i] = {logprob + v.state.scores[row], token, row - slot->row0, logprob};
    }
}

/* The log-probability of what was chosen, given the row's best score: what is no number sorts above all others, and
 * -inf means that every word is banned. */
static __device__ float logprob_of_best(float best, float logprob)
{
    return isfinite(best) ? logprob : best < 0.0f ? -INFINITY : NAN;
}

/* Greedy and sampling: one continuation. */
static __device__ void single_row(const search_view &v, const t5_slot *slot, int row, float *x, t5_key *lists,
                                  t5_key *keys)
{
    process_logits(slot, v.state.tokens + row_at(v.state, row), 0.0f, x, v.vocab_size);
    int i_beam = row - slot->row0;
    t5_candidate chosen = {0.0f, 0, i_beam, 0.0f};
    if (slot->mode == T5_SEARCH_SAMPLE) {
        int k = slot->top_k > 0 && slot->top_k < v.vocab_size ? slot->top_k : v.vocab_size;
        bool is_sorted = k <= SORTED_DRAW_MAX;
        t5_top_k(x, v.vocab_size, is_sorted ? k : 1, lists, keys);
        drawn d = is_sorted ? draw_sorted(slot, i_beam, x, k, keys)
                            : draw_by_threshold(slot, i_beam, x, v.vocab_size, k, keys[0]);
        chosen.token = d.token;
        chosen.logprob = d.scaled - (float)log(d.mass);
    } else {
        t5_top_k(x, v.vocab_size, 1, lists, keys);
        chosen.token = t5_key_token(keys[0]);
        if (slot->wants_logprobs) chosen.logprob = x[chosen.token] - t5_log_sum_exp(x, v.vocab_size);
    }
    chosen.logprob = logprob_of_best(x[t5_key_token(keys[0])], chosen.logprob);
    chosen.score = v.state.scores[row] + chosen.logprob;
    if (threadIdx.x == 0) v.state.candidates[(size_t)row * 2 * T5_BEAMS_MAX] = chosen;
}

/* Greedy or beams, of which the head has left the tiles' best instead of logits. */
static __device__ void tiled_row(const search_view &v, const t5_slot *slot, int row, float *tiles, t5_key *lists,
                                 t5_key *keys)
{
    int n = t5_n_wanted(slot);
    bool has_sum = t5_tiles_need_sums(slot);
    float log_sum = has_sum ? t5_log_sum_of_tiles(tiles, t5_n_tiles(v.vocab_size), n) : 0.0f;
    t5_top_k_of_tiles(tiles, v.vocab_size, n, lists, keys);
    t5_candidate *out = v.state.candidates + (size_t)row * 2 * T5_BEAMS_MAX;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        float logprob = has_sum ? t5_key_score(keys[i]) - log_sum : 0.0f;
        if (slot->mode == T5_SEARCH_GREEDY) logprob = logprob_of_best(t5_key_score(keys[i]), logprob);
        out[i] = {logprob + v.state.scores[row], t5_key_token(keys[i]), row - slot->row0, logprob};
    }
}

/* Launch: a block per row, its threads by the size of the vocabulary. Bytes: the row's logits, two or three times,
 * 4 * vocab_size each, from L2 where the head left them. */
__global__ void __launch_bounds__(1024) search_rows_kernel(search_view v)
{
    T5_DYNAMIC_SHARED(t5_key, lists);
    T5_SHARED(t5_key, keys, [2 * T5_BEAMS_MAX]);
    t5_await_previous();
    const t5_step_row row = v.rows[blockIdx.x];
    if (row.row < 0) return; /* fills a recorded step */
    const t5_slot *slot = &v.state.slots[row.slot];
    if (slot->phase != T5_SLOT_RUNNING) return; /* the host did not know yet */
    if (slot->mode == T5_SEARCH_SCORE) {
        score_row(v, slot, row);
        return;
    }
    if (slot->n_computed + row.q_len < slot->len) return; /* still reading the prompt */
    float *x = v.logits + (size_t)(row.q0 + row.q_len - 1) * (size_t)v.vocab_size;
    if (v.has_tiles && t5_tiles_suffice(slot, v.vocab_size)) {
        tiled_row(v, slot, row.row, x, lists, keys);
    } else if (slot->mode == T5_SEARCH_BEAM) {
        beam_row(v, slot, row.row, x, lists, keys);
    } else {
        single_row(v, slot, row.row, x, lists, keys);
    }
}

cudaError_t t5_cuda_search_rows(const t5_step *step, float *logits, int32_t vocab_size, bool has_tiles,
                                t5_cuda_stream stream)
{
    search_view v = {*step->state, step->rows, logits, vocab_size, has_tiles};
    unsigned n_threads = (unsigned)vocab_size / 32 / 32 * 32;
    n_threads = n_threads < 128 ? 128 : n_threads > 1024 ? 1024 : n_threads;
    size_t shared_bytes = n_threads * T5_VOCAB_LIST * sizeof(t5_key);
    return T5_LAUNCH(search_rows_kernel, dim3((unsigned)step->n_rows), dim3(n_threads), shared_bytes, stream, v);
}
