/* model/search.c: the search in plain C: the definition that every backend's search operation must agree with.
 * Rows are independent in the first half (t5_search_row), slots in the second (t5_search_slot); no function here keeps
 * state of its own, so different rows, and later different slots, may run on different threads. */
#include "model/search.h"
#include "base/assert.h"

#include <math.h>
#include <string.h>

static size_t at(const t5_search_state *s, int32_t row)
{
    T5_ASSERT(row >= 0 && row < s->n_rows_max);
    return (size_t)row * (size_t)s->stride;
}

bool t5_search_state_alloc(t5_search_state *s, void *(*alloc)(void *ctx, size_t n_bytes), void *ctx)
{
    size_t n_rows = (size_t)s->n_rows_max;
    size_t n_cells = n_rows * (size_t)s->stride;
    s->slots = alloc(ctx, (size_t)s->n_slots_max * sizeof *s->slots);
    s->tokens = alloc(ctx, n_cells * sizeof *s->tokens);
    s->logprobs = alloc(ctx, n_cells * sizeof *s->logprobs);
    s->ancestors = alloc(ctx, n_cells);
    s->scores = alloc(ctx, n_rows * sizeof *s->scores);
    s->row_done = alloc(ctx, n_rows * sizeof *s->row_done);
    s->fin_tokens = alloc(ctx, n_cells * sizeof *s->fin_tokens);
    s->fin_logprobs = alloc(ctx, n_cells * sizeof *s->fin_logprobs);
    s->fin_scores = alloc(ctx, n_rows * sizeof *s->fin_scores);
    s->fin_lens = alloc(ctx, n_rows * sizeof *s->fin_lens);
    s->candidates = alloc(ctx, n_rows * 2 * T5_BEAMS_MAX * sizeof *s->candidates);
    s->swap_tokens = alloc(ctx, n_cells * sizeof *s->swap_tokens);
    s->swap_logprobs = alloc(ctx, n_cells * sizeof *s->swap_logprobs);
    s->swap_ancestors = alloc(ctx, n_cells);
    return s->slots && s->tokens && s->logprobs && s->ancestors && s->scores && s->row_done && s->fin_tokens &&
           s->fin_logprobs && s->fin_scores && s->fin_lens && s->candidates && s->swap_tokens && s->swap_logprobs &&
           s->swap_ancestors;
}

void t5_search_state_free(t5_search_state *s, void (*release)(void *ctx, void *p), void *ctx)
{
    void *arrays[] = {s->slots,      s->tokens,      s->logprobs,      s->ancestors,     s->scores,
                      s->row_done,   s->fin_tokens,  s->fin_logprobs,  s->fin_scores,    s->fin_lens,
                      s->candidates, s->swap_tokens, s->swap_logprobs, s->swap_ancestors};
    for (size_t i = 0; i < T5_COUNT(arrays); i++)
        release(ctx, arrays[i]);
    memset(s, 0, sizeof *s);
}

/* ---- plain vocabulary operations ---- */

static float plain_log_sum_exp(const float *x, int32_t n)
{
    float max = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (x[i] > max) max = x[i];
    }
    if (max == -INFINITY) return max;
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)(x[i] - max));
    return max + (float)log(sum);
}

static int32_t plain_argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (x[i] > x[best]) best = i;
    }
    return best;
}

/* Larger score first, lower token first among equals. */
static bool is_better(const t5_candidate *a, const t5_candidate *b)
{
    if (a->score != b->score) return a->score > b->score;
    return a->token < b->token;
}

/* Restores the heap under `i`: the worst candidate is at the root. */
static void sift_down(t5_candidate *heap, int32_t n, int32_t i)
{
    for (;;) {
        int32_t worst = i;
        for (int32_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++) {
            if (is_better(&heap[worst], &heap[child])) worst = child;
        }
        if (worst == i) return;
        t5_candidate moved = heap[i];
        heap[i] = heap[worst];
        heap[worst] = moved;
        i = worst;
    }
}

/* A heap of the k best so far, then heap sort: n log k. */
static int32_t plain_top_k(const float *x, int32_t n, int32_t k, t5_candidate *out)
{
    int32_t n_out = k < n ? k : n;
    for (int32_t i = 0; i < n_out; i++)
        out[i] = (t5_candidate){.score = x[i], .token = i};
    for (int32_t i = n_out / 2 - 1; i >= 0; i--)
        sift_down(out, n_out, i);
    for (int32_t i = n_out; i < n; i++) {
        if (!(x[i] > out[0].score)) continue; /* an equal score has a higher index than what is kept */
        out[0] = (t5_candidate){.score = x[i], .token = i};
        sift_down(out, n_out, 0);
    }
    for (int32_t i = n_out - 1; i > 0; i--) {
        t5_candidate worst = out[0];
        out[0] = out[i];
        out[i] = worst;
        sift_down(out, i, 0);
    }
    return n_out;
}

const t5_vocab_ops t5_vocab_ops_plain = {plain_log_sum_exp, plain_argmax, plain_top_k};

/* ---- words and their logits ---- */

/* NULL: the logits are the whole vocabulary's. */
static const t5_shortlist *shortlist_of(const t5_search_state *s, const t5_slot *slot)
{
    return slot->shortlist > 0 ? &s->shortlists[slot->shortlist - 1] : NULL;
}

static int32_t word_at(const t5_shortlist *list, int32_t i_logit)
{
    return list != NULL ? list->ids[i_logit] : i_logit;
}

/* Index of a word's logit, or -1: it is not on the list. */
static int32_t logit_of(const t5_shortlist *list, int32_t word)
{
    if (list == NULL) return word;
    int32_t begin = 0;
    for (int32_t end = list->n; begin < end;) {
        const int32_t middle = begin + (end - begin) / 2;
        if (list->ids[middle] < word) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin < list->n && list->ids[begin] == word ? begin : -1;
}

static void ban(const t5_shortlist *list, int32_t word, float *x)
{
    const int32_t i = logit_of(list, word);
    if (i >= 0) x[i] = -INFINITY;
}

/* ---- processors (transformers: generation/logits_process.py) ---- */

/* Each token of the history once, start token included. `shift` is what turns x into what the penalty acts on: beam
 * search penalizes log-probabilities, the other modes logits. `seen` has a byte for each logit, whatever is in it. */
static void penalize_repetition(const t5_shortlist *list, const int32_t *tokens, int32_t len, float penalty,
                                float shift, float *x, uint8_t *seen)
{
    for (int32_t i = 0; i < len; i++) {
        const int32_t i_logit = logit_of(list, tokens[i]);
        if (i_logit >= 0) seen[i_logit] = 0;
    }
    for (int32_t i = 0; i < len; i++) {
        const int32_t i_logit = logit_of(list, tokens[i]);
        if (i_logit < 0 || seen[i_logit]) continue;
        seen[i_logit] = 1;
        float value = x[i_logit] - shift;
        value = value < 0.0f ? value * penalty : value / penalty;
        x[i_logit] = value + shift;
    }
}

/* Bans each token that would complete an n-gram that the history has already. */
static void ban_repeated_ngrams(const t5_shortlist *list, const int32_t *tokens, int32_t len, int32_t n, float *x)
{
    const int32_t *last = tokens + len - (n - 1);
    for (int32_t i = 0; i + n <= len; i++) {
        if (memcmp(tokens + i, last, (size_t)(n - 1) * sizeof *tokens) == 0) ban(list, tokens[i + n - 1], x);
    }
}

static void ban_words(const t5_slot *slot, const t5_shortlist *list, const int32_t *tokens, float *x, int32_t n_logits)
{
    int32_t n = slot->no_repeat_ngram_size;
    if (n > 0 && slot->len + 1 >= n) ban_repeated_ngrams(list, tokens, slot->len, n, x);
    if (slot->len - slot->n_prompt < slot->min_new_tokens) ban(list, slot->eos_id, x);
    for (int32_t i = 0; i < slot->n_suppress; i++)
        ban(list, slot->suppress_tokens[i], x);
    for (int32_t i = n_logits; i > 0 && word_at(list, i - 1) >= slot->vocab_live; i--)
        x[i - 1] = -INFINITY;
}

static void process_logits(const t5_slot *slot, const t5_shortlist *list, const int32_t *tokens, float shift, float *x,
                           int32_t n_logits, t5_candidate *scratch)
{
    if (slot->repetition_penalty != 1.0f) {
        penalize_repetition(list, tokens, slot->len, slot->repetition_penalty, shift, x, (uint8_t *)scratch);
    }
    ban_words(slot, list, tokens, x, n_logits);
}

void t5_search_ban(const t5_search_state *s, const t5_step_row *row, float *x, int32_t n_logits)
{
    const t5_slot *slot = &s->slots[row->slot];
    ban_words(slot, shortlist_of(s, slot), s->tokens + at(s, row->row), x, n_logits);
}

/* ---- first half: one row ---- */

/* Uniform in [0, 1) from (seed, row, position) alone, so that a sample does not depend on what else runs.
 * splitmix64 (Steele, Lea, Flood 2014) over the three. */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float uniform(uint64_t seed, int32_t i_beam, int32_t position)
{
    uint64_t z = mix(mix(mix(seed) ^ (uint64_t)i_beam) ^ (uint64_t)position);
    return (float)(z >> 40) * 0x1p-24f;
}

/* Candidates that an unlimited draw sorts at first. They hold nearly always what is drawn; else it sorts more. */
#define DRAW_SORTED_FIRST 256

/* log(sum(exp(score))) of candidates, best first. */
static float log_sum_candidates(const t5_candidate *c, int32_t n)
{
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)(c[i].score - c[0].score));
    return c[0].score + (float)log(sum);
}

/* Temperature, then top_k, then top_p, then one draw: of the best candidates, as few as have a probability of top_p,
 * the one at which the running probability passes u. Changes x. `kept` has room for the vocabulary. */
static t5_candidate draw(const t5_slot *slot, int32_t i_beam, float *x, int32_t vocab_size, const t5_vocab_ops *ops,
                         t5_candidate *kept)
{
    for (int32_t i = 0; i < vocab_size; i++)
        x[i] /= slot->temperature;
    bool is_limited = slot->top_k > 0 && slot->top_k < vocab_size;
    float log_sum = is_limited ? 0.0f : ops->log_sum_exp(x, vocab_size);
    double top_p = (double)slot->top_p;
    double u = (double)uniform(slot->seed, i_beam, slot->len);
    for (int32_t n_sorted = is_limited ? slot->top_k : DRAW_SORTED_FIRST;; n_sorted *= 8) {
        int32_t n = ops->top_k(x, vocab_size, n_sorted < vocab_size ? n_sorted : vocab_size, kept);
        if (is_limited) log_sum = log_sum_candidates(kept, n);
        double mass = 0.0;
        int32_t n_kept = 0;
        while (n_kept < n && (n_kept == 0 || mass < top_p))
            mass += exp((double)(kept[n_kept++].score - log_sum));
        bool has_all = is_limited || n == vocab_size || mass >= top_p;
        if (!has_all && !(top_p == 1.0 && u < mass)) continue; /* what is drawn is not among the sorted */
        double left = has_all ? u * mass : u;
        int32_t i = 0;
        for (; i < n_kept - 1; i++) {
            left -= exp((double)(kept[i].score - log_sum));
            if (left < 0.0) break;
        }
        kept[i].logprob = kept[i].score - log_sum - (has_all ? (float)log(mass) : 0.0f);
        return kept[i];
    }
}

/* Whether a score is no number; -inf is one, of what is banned. */
static bool is_broken(const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (!(x[i] < INFINITY)) return true;
    }
    return false;
}

/* Log-probability of each given token after the row's queries. */
static void score_row(t5_search_state *s, const t5_slot *slot, const t5_step_row *row, const float *logits,
                      int32_t vocab_size, const t5_vocab_ops *ops)
{
    for (int32_t i = 0; i < row->q_len; i++) {
        int32_t next = slot->n_computed + i + 1;
        if (next >= slot->len) return;
        const float *x = logits + (size_t)(row->q0 + i) * (size_t)vocab_size;
        s->logprobs[at(s, row->row) + (size_t)next] =
            x[s->tokens[at(s, row->row) + (size_t)next]] - ops->log_sum_exp(x, vocab_size);
    }
}

t5_logits_wanted t5_search_wants(const t5_search_state *s, const t5_step_row *row)
{
    if (row->row < 0) return T5_LOGITS_NONE; /* fills a recorded step */
    const t5_slot *slot = &s->slots[row->slot];
    if (slot->phase != T5_SLOT_RUNNING) return T5_LOGITS_NONE; /* the host did not know yet */
    if (slot->mode == T5_SEARCH_SCORE) return T5_LOGITS_ALL;
    if (slot->n_computed + row->q_len < slot->len) return T5_LOGITS_NONE; /* still reading the prompt */
    const bool is_best_enough =
        slot->mode == T5_SEARCH_GREEDY && !slot->wants_logprobs && slot->repetition_penalty == 1.0f;
    return is_best_enough ? T5_LOGITS_BEST : T5_LOGITS_ALL;
}

void t5_search_row(t5_search_state *s, const t5_step_row *row, float *logits, int32_t n_logits, const t5_vocab_ops *ops,
                   t5_candidate *scratch)
{
    if (t5_search_wants(s, row) == T5_LOGITS_NONE) return;
    const t5_slot *slot = &s->slots[row->slot];
    if (slot->mode == T5_SEARCH_SCORE) {
        score_row(s, slot, row, logits, n_logits, ops);
        return;
    }
    float *x = logits + (size_t)(row->q0 + row->q_len - 1) * (size_t)n_logits;
    const int32_t *tokens = s->tokens + at(s, row->row);
    t5_candidate *out = s->candidates + (size_t)row->row * 2 * T5_BEAMS_MAX;
    int32_t i_beam = row->row - slot->row0;
    const t5_shortlist *list = shortlist_of(s, slot);
    T5_ASSERT(list == NULL || list->n == n_logits);

    if (slot->mode == T5_SEARCH_BEAM) {
        float log_sum = ops->log_sum_exp(x, n_logits);
        process_logits(slot, list, tokens, log_sum, x, n_logits, scratch);
        int32_t n = ops->top_k(x, n_logits, 2 * slot->n_rows, out);
        T5_ASSERT(n == 2 * slot->n_rows);
        for (int32_t i = 0; i < n; i++) {
            out[i].token = word_at(list, out[i].token);
            out[i].beam = i_beam;
            out[i].logprob = out[i].score - log_sum;
            out[i].score = out[i].logprob + s->scores[row->row];
        }
        return;
    }
    process_logits(slot, list, tokens, 0.0f, x, n_logits, scratch);
    if (slot->mode == T5_SEARCH_SAMPLE) {
        out[0] = draw(slot, i_beam, x, n_logits, ops, scratch);
    } else {
        out[0].token = ops->argmax(x, n_logits);
        out[0].logprob = slot->wants_logprobs ? x[out[0].token] - ops->log_sum_exp(x, n_logits) : 0.0f;
    }
    if (!isfinite(x[out[0].token])) out[0].logprob = is_broken(x, n_logits) ? NAN : -INFINITY;
    out[0].token = word_at(list, out[0].token);
    out[0].beam = i_beam;
    out[0].score = s->scores[row->row] + out[0].logprob;
}

/* ---- second half: one slot ---- */

static float final_score(const t5_slot *slot, float sum, int32_t len)
{
    return sum / (float)pow((double)(len - slot->n_prompt), (double)slot->length_penalty);
}

/* Result `i_result` of the slot = what row `parent` stands for, and then `token` unless it is negative. */
static void set_result(t5_search_state *s, const t5_slot *slot, int32_t i_result, int32_t parent,
                       const t5_candidate *last, float score)
{
    size_t to = at(s, slot->row0 + i_result);
    size_t from = at(s, parent);
    size_t len = (size_t)slot->len;
    memcpy(s->fin_tokens + to, s->tokens + from, len * sizeof *s->tokens);
    memcpy(s->fin_logprobs + to, s->logprobs + from, len * sizeof *s->logprobs);
    if (last != NULL) {
        s->fin_tokens[to + len] = last->token;
        s->fin_logprobs[to + len] = last->logprob;
        len++;
    }
    s->fin_lens[slot->row0 + i_result] = (int32_t)len;
    s->fin_scores[slot->row0 + i_result] = score;
}

/* Whether a row has no candidate with a score that is a number: its best one is the first to be none. */
static bool is_any_broken(const t5_search_state *s, const t5_step_row *rows, int32_t n_rows)
{
    for (int32_t i = 0; i < n_rows; i++) {
        const t5_candidate *best = &s->candidates[(size_t)rows[i].row * 2 * T5_BEAMS_MAX];
        if (!s->row_done[rows[i].row] && isnan(best->score)) return true;
    }
    return false;
}

static void give_up(t5_slot *slot)
{
    slot->n_finished = 0;
    slot->is_broken = 1;
    slot->phase = T5_SLOT_DONE;
}

/* Greedy and sampling: every row goes on by itself. */
static void advance_rows(t5_search_state *s, t5_slot *slot, const t5_step_row *rows, int32_t n_rows)
{
    int32_t len = slot->len;
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t row = rows[i].row;
        if (s->row_done[row]) continue;
        const t5_candidate *c = &s->candidates[(size_t)row * 2 * T5_BEAMS_MAX];
        if (c->token == slot->eos_id || len + 1 == slot->len_max) {
            set_result(s, slot, row - slot->row0, row, c, final_score(slot, c->score, len + 1));
            s->row_done[row] = 1;
            slot->n_finished++;
        }
        s->tokens[at(s, row) + (size_t)len] = c->token;
        s->logprobs[at(s, row) + (size_t)len] = c->logprob;
        s->ancestors[at(s, row) + (size_t)len] = (uint8_t)(row - slot->row0);
        s->scores[row] = c->score;
    }
    slot->len = len + 1;
    if (slot->n_finished == slot->n_rows) slot->phase = T5_SLOT_DONE;
}

/* The best 2 * num_beams continuations of all rows, best first; the lower row first among equals. */
static int32_t merge_candidates(const t5_search_state *s, const t5_slot *slot, const t5_step_row *rows, int32_t n_rows,
                                t5_candidate *out)
{
    int32_t used[T5_BEAMS_MAX] = {0};
    int32_t n_out = 2 * slot->n_rows;
    for (int32_t i = 0; i < n_out; i++) {
        int32_t best = -1;
        const t5_candidate *best_candidate = NULL;
        for (int32_t r = 0; r < n_rows; r++) {
            if (used[r] == n_out) continue;
            const t5_candidate *c = &s->candidates[(size_t)rows[r].row * 2 * T5_BEAMS_MAX + (size_t)used[r]];
            if (best_candidate != NULL && !(c->score > best_candidate->score)) continue;
            best = r;
            best_candidate = c;
        }
        out[i] = *best_candidate;
        used[best]++;
    }
    return n_out;
}

/* Keeps a finished hypothesis if it is among the best num_beams; results stay sorted, earlier ones first among equals.
 */
static void keep_finished(t5_search_state *s, t5_slot *slot, const t5_candidate *c)
{
    float score = final_score(slot, c->score, slot->len + 1);
    if (!(score > T5_SCORE_NONE)) return;
    int32_t i = slot->n_finished;
    while (i > 0 && score > s->fin_scores[slot->row0 + i - 1])
        i--;
    if (i == slot->n_rows) return;
    if (slot->n_finished < slot->n_rows) slot->n_finished++;
    size_t n_moved = (size_t)(slot->n_finished - 1 - i);
    size_t from = at(s, slot->row0 + i);
    size_t n_cells = n_moved * (size_t)s->stride;
    if (n_moved > 0) {
        size_t row = (size_t)(slot->row0 + i);
        memmove(s->fin_tokens + from + s->stride, s->fin_tokens + from, n_cells * sizeof *s->fin_tokens);
        memmove(s->fin_logprobs + from + s->stride, s->fin_logprobs + from, n_cells * sizeof *s->fin_logprobs);
        memmove(s->fin_lens + row + 1, s->fin_lens + row, n_moved * sizeof *s->fin_lens);
        memmove(s->fin_scores + row + 1, s->fin_scores + row, n_moved * sizeof *s->fin_scores);
    }
    set_result(s, slot, i, slot->row0 + c->beam, c, score);
}

/* Row i of the slot becomes the continuation next[i]. */
static void reorder_rows(t5_search_state *s, t5_slot *slot, const t5_candidate *next)
{
    size_t len = (size_t)slot->len;
    for (int32_t i = 0; i < slot->n_rows; i++) {
        size_t to = at(s, slot->row0 + i);
        size_t from = at(s, slot->row0 + next[i].beam);
        memcpy(s->swap_tokens + to, s->tokens + from, len * sizeof *s->tokens);
        memcpy(s->swap_logprobs + to, s->logprobs + from, len * sizeof *s->logprobs);
        memcpy(s->swap_ancestors + to, s->ancestors + from, len);
        s->swap_tokens[to + len] = next[i].token;
        s->swap_logprobs[to + len] = next[i].logprob;
        s->swap_ancestors[to + len] = (uint8_t)i;
    }
    for (int32_t i = 0; i < slot->n_rows; i++) {
        size_t row = at(s, slot->row0 + i);
        memcpy(s->tokens + row, s->swap_tokens + row, (len + 1) * sizeof *s->tokens);
        memcpy(s->logprobs + row, s->swap_logprobs + row, (len + 1) * sizeof *s->logprobs);
        memcpy(s->ancestors + row, s->swap_ancestors + row, len + 1);
        s->scores[slot->row0 + i] = next[i].score;
    }
}

/* Whether a running beam may still beat the finished ones (transformers: _check_early_stop_heuristic). */
static bool can_improve(const t5_search_state *s, const t5_slot *slot, float best_running)
{
    if (slot->n_finished < slot->n_rows) return true;
    bool counts_full_length = slot->early_stopping == T5_EARLY_NEVER && slot->length_penalty > 0.0f;
    int32_t len = counts_full_length ? slot->len_max : slot->len;
    return final_score(slot, best_running, len) > s->fin_scores[slot->row0 + slot->n_rows - 1];
}

static void advance_beams(t5_search_state *s, t5_slot *slot, const t5_step_row *rows, int32_t n_rows)
{
    t5_candidate merged[2 * T5_BEAMS_MAX];
    t5_candidate next[T5_BEAMS_MAX];
    int32_t n_next = 0;
    int32_t n_merged = merge_candidates(s, slot, rows, n_rows, merged);
    bool is_last = slot->len + 1 == slot->len_max;
    for (int32_t i = 0; i < n_merged; i++) {
        bool ends = merged[i].token == slot->eos_id || is_last;
        if (ends && i < slot->n_rows) keep_finished(s, slot, &merged[i]);
        if (!ends && n_next < slot->n_rows) next[n_next++] = merged[i];
    }
    bool is_full = slot->early_stopping == T5_EARLY_TRUE && slot->n_finished == slot->n_rows;
    if (is_last || n_next < slot->n_rows) {
        if (slot->n_finished == 0) { /* every score is -inf: give the first rather than nothing */
            set_result(s, slot, 0, slot->row0 + merged[0].beam, &merged[0], merged[0].score);
            slot->n_finished = 1;
        }
        slot->phase = T5_SLOT_DONE;
        return;
    }
    reorder_rows(s, slot, next);
    slot->len++;
    if (is_full || !can_improve(s, slot, next[0].score)) slot->phase = T5_SLOT_DONE;
}

static void finish_score(t5_search_state *s, t5_slot *slot)
{
    float sum = 0.0f;
    for (int32_t i = 1; i < slot->len; i++)
        sum += s->logprobs[at(s, slot->row0) + (size_t)i];
    if (isnan(sum)) {
        give_up(slot);
        return;
    }
    set_result(s, slot, 0, slot->row0, NULL, sum);
    slot->n_finished = 1;
    slot->phase = T5_SLOT_DONE;
}

/* Token `pos` is the same in all that may be returned first: sampling returns row 0 first; a beam search its best
 * finished hypothesis or what becomes of a running row. */
static bool is_stable(const t5_search_state *s, const t5_slot *slot, int32_t pos)
{
    if (slot->mode != T5_SEARCH_BEAM) return !s->row_done[slot->row0] || pos < s->fin_lens[slot->row0];
    size_t first = at(s, slot->row0) + (size_t)pos;
    int32_t token = s->tokens[first];
    if (slot->n_finished > 0 && (pos >= s->fin_lens[slot->row0] || s->fin_tokens[first] != token)) return false;
    for (int32_t i = 1; i < slot->n_rows; i++) {
        if (s->tokens[first + (size_t)i * (size_t)s->stride] != token) return false;
    }
    return true;
}

static void report_stable(const t5_search_state *s, t5_slot *slot)
{
    const int32_t *tokens = s->tokens + at(s, slot->row0);
    int32_t i = 0;
    for (; i < T5_STABLE_MAX && slot->n_stable < slot->len && is_stable(s, slot, slot->n_stable); i++)
        slot->stable[i] = tokens[slot->n_stable++];
}

void t5_search_slots(t5_search_state *s, const t5_step_row *rows, int32_t n_rows)
{
    for (int32_t i = 0, n = 0; i < n_rows; i += n) {
        n = 1;
        while (i + n < n_rows && rows[i + n].slot == rows[i].slot)
            n++;
        t5_search_slot(s, rows[i].slot, &rows[i], n);
    }
}

void t5_search_slot(t5_search_state *s, int32_t i_slot, const t5_step_row *rows, int32_t n_rows)
{
    if (i_slot < 0) return;
    t5_slot *slot = &s->slots[i_slot];
    if (slot->phase != T5_SLOT_RUNNING) return;
    T5_ASSERT(n_rows >= 1 && n_rows <= slot->n_rows);
    slot->n_computed += rows[0].q_len;
    if (slot->mode == T5_SEARCH_SCORE) {
        if (slot->n_computed >= slot->len - 1) finish_score(s, slot);
        return;
    }
    if (slot->n_computed < slot->len) return; /* still reading the prompt */
    T5_ASSERT(slot->len < slot->len_max);
    if (is_any_broken(s, rows, n_rows)) {
        give_up(slot);
    } else if (slot->mode == T5_SEARCH_BEAM) {
        advance_beams(s, slot, rows, n_rows);
    } else {
        advance_rows(s, slot, rows, n_rows);
    }
    if (slot->wants_stream && slot->phase == T5_SLOT_RUNNING) report_stable(s, slot);
}
