/* cuda/search_slots.cu: the second half of a search step, for each slot on its own: chooses the continuations, reorders
 * the rows' histories, finishes. Twin: t5_search_slot in model/search.c, function by function.
 *
 * A block works on a slot. All its threads take the same decisions from the same memory; they part only to copy
 * histories, and thread 0 alone writes single values, with barriers between what is read and what is written. */
#include "cuda/kernels.h"
#include "cuda/keys.cuh"
#include "cuda/launch.cuh"

static const int THREADS = 64;

struct slot_view {
    t5_search_state state;
    const t5_step_row *rows;
    int n_rows;
};

static __device__ __forceinline__ size_t row_at(const t5_search_state &s, int row)
{
    return (size_t)row * (size_t)s.stride;
}

static __device__ float final_score(const t5_slot *slot, float sum, int len)
{
    return sum / (float)pow((double)(len - slot->n_prompt), (double)slot->length_penalty);
}

/* Result `i_result` of the slot = what row `parent` stands for, and then `last` unless it is NULL. */
static __device__ void set_result(const t5_search_state &s, const t5_slot *slot, int i_result, int parent,
                                  const t5_candidate *last, float score)
{
    int row = slot->row0 + i_result, len = slot->len;
    size_t to = row_at(s, row), from = row_at(s, parent);
    for (int i = (int)threadIdx.x; i < len; i += THREADS) {
        s.fin_tokens[to + (size_t)i] = s.tokens[from + (size_t)i];
        s.fin_logprobs[to + (size_t)i] = s.logprobs[from + (size_t)i];
    }
    if (threadIdx.x == 0) {
        if (last != NULL) {
            s.fin_tokens[to + (size_t)len] = last->token;
            s.fin_logprobs[to + (size_t)len] = last->logprob;
        }
        s.fin_lens[row] = len + (last != NULL);
        s.fin_scores[row] = score;
    }
    __syncthreads();
}

/* Greedy and sampling: every row goes on by itself. */
static __device__ void advance_rows(const t5_search_state &s, t5_slot *slot, const t5_step_row *rows, int n_rows)
{
    int len = slot->len, n_finished = slot->n_finished;
    for (int i = 0; i < n_rows; i++) {
        int row = rows[i].row;
        if (s.row_done[row]) continue;
        const t5_candidate c = s.candidates[(size_t)row * 2 * T5_BEAMS_MAX];
        bool ends = c.token == slot->eos_id || len + 1 == slot->len_max;
        __syncthreads(); /* all have read row_done */
        if (ends) {
            set_result(s, slot, row - slot->row0, row, &c, final_score(slot, c.score, len + 1));
            n_finished++;
        }
        if (threadIdx.x == 0) {
            size_t at = row_at(s, row) + (size_t)len;
            s.row_done[row] = ends;
            s.tokens[at] = c.token;
            s.logprobs[at] = c.logprob;
            s.ancestors[at] = (uint8_t)(row - slot->row0);
            s.scores[row] = c.score;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        slot->len = len + 1;
        slot->n_finished = n_finished;
        if (n_finished == slot->n_rows) slot->phase = T5_SLOT_DONE;
    }
}

/* merged = the best 2 * num_beams continuations of all rows, best first, the lower row first among equals. The first
 * warp has a lane per row, at the next of the row's sorted candidates. */
static __device__ int merge_candidates(const t5_search_state &s, const t5_slot *slot, const t5_step_row *rows,
                                       int n_rows, t5_candidate *merged)
{
    int n_out = 2 * slot->n_rows;
    int lane = (int)threadIdx.x;
    if (lane < 32) {
        const t5_candidate *mine =
            lane < n_rows ? s.candidates + (size_t)rows[lane].row * 2 * T5_BEAMS_MAX : s.candidates;
        int used = lane < n_rows ? 0 : n_out;
        for (int i = 0; i < n_out; i++) {
            t5_key key = used < n_out ? t5_key_of(mine[used].score, lane) : 0;
            bool is_winner = t5_warp_max_key(key) == key && key > 0;
            if (is_winner) merged[i] = mine[used++];
        }
    }
    __syncthreads();
    return n_out;
}

/* Result i and those after it move one place down. */
static __device__ void shift_results(const t5_search_state &s, const t5_slot *slot, int i, int n_finished)
{
    for (int to = n_finished - 1; to > i; to--) {
        int row = slot->row0 + to;
        int len = s.fin_lens[row - 1];
        float score = s.fin_scores[row - 1];
        size_t at = row_at(s, row), from = row_at(s, row - 1);
        for (int p = (int)threadIdx.x; p < len; p += THREADS) {
            s.fin_tokens[at + (size_t)p] = s.fin_tokens[from + (size_t)p];
            s.fin_logprobs[at + (size_t)p] = s.fin_logprobs[from + (size_t)p];
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            s.fin_lens[row] = len;
            s.fin_scores[row] = score;
        }
    }
    __syncthreads();
}

/* Keeps a finished hypothesis if it is among the best num_beams; returns how many there are then. */
static __device__ int keep_finished(const t5_search_state &s, const t5_slot *slot, const t5_candidate *c,
                                    int n_finished)
{
    float score = final_score(slot, c->score, slot->len + 1);
    if (!(score > T5_SCORE_NONE)) return n_finished;
    int i = n_finished;
    while (i > 0 && score > s.fin_scores[slot->row0 + i - 1])
        i--;
    if (i == slot->n_rows) return n_finished;
    if (n_finished < slot->n_rows) n_finished++;
    __syncthreads(); /* all have read the scores */
    shift_results(s, slot, i, n_finished);
    set_result(s, slot, i, slot->row0 + c->beam, c, score);
    return n_finished;
}

/* Row i of the slot becomes the continuation next[i]. */
static __device__ void reorder_rows(const t5_search_state &s, const t5_slot *slot, const t5_candidate *next)
{
    int len = slot->len, n_cells = slot->n_rows * (len + 1);
    for (int c = (int)threadIdx.x; c < n_cells; c += THREADS) {
        int i = c / (len + 1), p = c % (len + 1);
        size_t to = row_at(s, slot->row0 + i) + (size_t)p;
        size_t from = row_at(s, slot->row0 + next[i].beam) + (size_t)p;
        s.swap_tokens[to] = p < len ? s.tokens[from] : next[i].token;
        s.swap_logprobs[to] = p < len ? s.logprobs[from] : next[i].logprob;
        s.swap_ancestors[to] = p < len ? s.ancestors[from] : (uint8_t)i;
    }
    __syncthreads();
    for (int c = (int)threadIdx.x; c < n_cells; c += THREADS) {
        int i = c / (len + 1), p = c % (len + 1);
        size_t at = row_at(s, slot->row0 + i) + (size_t)p;
        s.tokens[at] = s.swap_tokens[at];
        s.logprobs[at] = s.swap_logprobs[at];
        s.ancestors[at] = s.swap_ancestors[at];
        if (p == 0) s.scores[slot->row0 + i] = next[i].score;
    }
    __syncthreads();
}

/* Whether a running beam, `len` tokens long, may still beat the finished ones. */
static __device__ bool can_improve(const t5_search_state &s, const t5_slot *slot, int len, int n_finished,
                                   float best_running)
{
    if (n_finished < slot->n_rows) return true;
    bool counts_full_length = slot->early_stopping == T5_EARLY_NEVER && slot->length_penalty > 0.0f;
    float score = final_score(slot, best_running, counts_full_length ? slot->len_max : len);
    return score > s.fin_scores[slot->row0 + slot->n_rows - 1];
}

static __device__ void advance_beams(const t5_search_state &s, t5_slot *slot, const t5_step_row *rows, int n_rows)
{
    T5_SHARED(t5_candidate, merged, [2 * T5_BEAMS_MAX]);
    T5_SHARED(t5_candidate, next, [T5_BEAMS_MAX]);
    int n_merged = merge_candidates(s, slot, rows, n_rows, merged);
    int len = slot->len, n_finished = slot->n_finished, n_next = 0;
    bool is_last = len + 1 == slot->len_max;
    for (int i = 0; i < n_merged; i++) {
        bool ends = merged[i].token == slot->eos_id || is_last;
        if (ends && i < slot->n_rows) n_finished = keep_finished(s, slot, &merged[i], n_finished);
        if (ends || n_next == slot->n_rows) continue;
        if (threadIdx.x == 0) next[n_next] = merged[i];
        n_next++;
    }
    __syncthreads();
    bool is_full = slot->early_stopping == T5_EARLY_TRUE && n_finished == slot->n_rows;
    bool is_done = is_last || n_next < slot->n_rows;
    if (is_done && n_finished == 0) { /* every score is -inf: give the first rather than nothing */
        set_result(s, slot, 0, slot->row0 + merged[0].beam, &merged[0], merged[0].score);
        n_finished = 1;
    }
    if (!is_done) {
        reorder_rows(s, slot, next);
        len++;
        is_done = is_full || !can_improve(s, slot, len, n_finished, next[0].score);
    }
    __syncthreads(); /* all have read the slot */
    if (threadIdx.x == 0) {
        slot->len = len;
        slot->n_finished = n_finished;
        if (is_done) slot->phase = T5_SLOT_DONE;
    }
}

/* The first warp has a lane per row: a token is stable when all lanes see the same one, in the best finished hypothesis
 * as well. Twin: report_stable. */
static __device__ void report_stable(const t5_search_state &s, t5_slot *slot)
{
    bool is_beam = slot->mode == T5_SEARCH_BEAM;
    int lane = (int)threadIdx.x, n_stable = slot->n_stable, end = slot->len;
    bool has_result = is_beam ? slot->n_finished > 0 : s.row_done[slot->row0] != 0;
    size_t first = row_at(s, slot->row0);
    size_t mine = row_at(s, slot->row0 + (is_beam && lane < slot->n_rows ? lane : 0));
    if (has_result && s.fin_lens[slot->row0] < end) end = s.fin_lens[slot->row0];
    int i = 0;
    for (; i < T5_STABLE_MAX && n_stable + i < end; i++) {
        size_t pos = (size_t)(n_stable + i);
        int token = s.tokens[first + pos];
        bool is_same = s.tokens[mine + pos] == token && !(is_beam && has_result && s.fin_tokens[first + pos] != token);
        if (__ballot_sync(0xffffffffu, is_same) != 0xffffffffu) break;
        if (lane == 0) slot->stable[i] = token;
    }
    __syncwarp();
    if (lane == 0) slot->n_stable = n_stable + i;
}

/* The same answer in every thread. Twin: is_any_broken. */
static __device__ bool is_any_broken(const t5_search_state &s, const t5_step_row *rows, int n_rows)
{
    for (int i = 0; i < n_rows; i++) {
        int row = rows[i].row;
        if (!s.row_done[row] && isnan(s.candidates[(size_t)row * 2 * T5_BEAMS_MAX].score)) return true;
    }
    return false;
}

static __device__ void give_up(t5_slot *slot)
{
    if (threadIdx.x == 0) {
        slot->n_finished = 0;
        slot->is_broken = 1;
        slot->phase = T5_SLOT_DONE;
    }
}

static __device__ void finish_score(const t5_search_state &s, t5_slot *slot)
{
    float sum = 0.0f;
    for (int i = 1; i < slot->len; i++)
        sum += s.logprobs[row_at(s, slot->row0) + (size_t)i];
    if (isnan(sum)) {
        give_up(slot);
        return;
    }
    set_result(s, slot, 0, slot->row0, NULL, sum);
    if (threadIdx.x == 0) {
        slot->n_finished = 1;
        slot->phase = T5_SLOT_DONE;
    }
}

/* Launch: a block of 64 threads per row of the step; the block of a slot's first row works for the slot, the others
 * leave at once. Bytes: about 20 * len per beam, twice. */
__global__ void __launch_bounds__(THREADS) search_slots_kernel(slot_view v)
{
    int i_row = (int)blockIdx.x;
    t5_await_previous();
    int i_slot = v.rows[i_row].slot;
    if (i_slot < 0) return; /* fills a recorded step */
    if (i_row > 0 && v.rows[i_row - 1].slot == i_slot) return;
    int n_rows = 1;
    while (i_row + n_rows < v.n_rows && v.rows[i_row + n_rows].slot == i_slot)
        n_rows++;
    t5_slot *slot = &v.state.slots[i_slot];
    if (slot->phase != T5_SLOT_RUNNING) return; /* the host did not know yet */
    int n_computed = slot->n_computed + v.rows[i_row].q_len;
    __syncthreads(); /* all have read n_computed */
    if (threadIdx.x == 0) slot->n_computed = n_computed;
    if (slot->mode == T5_SEARCH_SCORE) {
        if (n_computed >= slot->len - 1) finish_score(v.state, slot);
        return;
    }
    if (n_computed < slot->len) return; /* still reading the prompt */
    if (is_any_broken(v.state, v.rows + i_row, n_rows)) {
        give_up(slot);
        return;
    }
    if (slot->mode == T5_SEARCH_BEAM) {
        advance_beams(v.state, slot, v.rows + i_row, n_rows);
    } else {
        advance_rows(v.state, slot, v.rows + i_row, n_rows);
    }
    __syncthreads(); /* thread 0 has written the slot */
    bool is_first_warp = threadIdx.x < 32;
    if (is_first_warp && slot->wants_stream && slot->phase == T5_SLOT_RUNNING) report_stable(v.state, slot);
}

cudaError_t t5_cuda_search_slots(const t5_step *step, t5_cuda_stream stream)
{
    slot_view v = {*step->state, step->rows, step->n_rows};
    return T5_LAUNCH(search_slots_kernel, dim3((unsigned)step->n_rows), dim3(THREADS), 0, stream, v);
}
