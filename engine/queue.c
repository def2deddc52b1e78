/* engine/queue.c: see queue.h. The groups stand in one list in order of age, each known by its first sequence. */
#include "engine/queue.h"

#include "base/assert.h"

#define PLACES_PER_OLDEST 4

void t5_queue_init(t5_queue *q, int32_t depth_max)
{
    T5_ASSERT(depth_max > 0);
    *q = (t5_queue){.depth_max = depth_max};
}

/* Puts `rest`, what is left of a group, where `group` stood; NULL: the group leaves. */
static void replace_group(t5_queue *q, t5_sequence *group, t5_sequence *rest)
{
    t5_sequence *before = group->group_prev, *after = group->group_next;
    group->group_prev = group->group_next = NULL;
    if (rest != NULL) {
        rest->group_prev = before;
        rest->group_next = after;
    }
    *(before != NULL ? &before->group_next : &q->first) = rest != NULL ? rest : after;
    *(after != NULL ? &after->group_prev : &q->last) = rest != NULL ? rest : before;
    if (rest == NULL) q->n_groups--;
    if (q->turn == group) q->turn = rest != NULL ? rest : after;
}

t5_status t5_queue_push_all(t5_queue *q, t5_sequence *const *seqs, int32_t n_seqs, t5_error *err)
{
    T5_ASSERT(n_seqs >= 0);
    if (n_seqs == 0) return T5_OK;
    const bool is_bounded = !seqs[0]->is_again;
    if (is_bounded && n_seqs > q->depth_max)
        return T5_FAIL(err, T5_ERR_ARG, "the request has %d sequences, at most %d can wait", n_seqs, q->depth_max);
    if (is_bounded && n_seqs > q->depth_max - q->depth)
        return T5_FAIL(err, T5_ERR_BUSY, "the queue is full: %d of %d sequences wait, the request has %d", q->depth,
                       q->depth_max, n_seqs);
    for (int32_t i = 0; i < n_seqs; i++) {
        seqs[i]->next = i + 1 < n_seqs ? seqs[i + 1] : NULL;
        q->cost += t5_sequence_cost(seqs[i]);
    }
    q->depth += n_seqs;
    q->n_groups++;
    seqs[0]->group_prev = q->last;
    seqs[0]->group_next = NULL;
    *(q->last != NULL ? &q->last->group_next : &q->first) = seqs[0];
    q->last = seqs[0];
    if (q->turn == NULL) q->turn = seqs[0];
    return T5_OK;
}

double t5_queue_cost_until(const t5_queue *q, int32_t n_seqs)
{
    if (q->depth == 0) return 0;
    const double n_places = (q->n_groups + 1.0) * n_seqs * PLACES_PER_OLDEST / (PLACES_PER_OLDEST - 1);
    const double n_most = 2.0 * q->depth + n_seqs;
    return (n_places < n_most ? n_places : n_most) * (double)q->cost / q->depth;
}

static bool is_for_oldest(const t5_queue *q)
{
    return q->n_taken % PLACES_PER_OLDEST == PLACES_PER_OLDEST - 1;
}

t5_sequence *t5_queue_first(const t5_queue *q)
{
    return is_for_oldest(q) || q->turn == NULL ? q->first : q->turn;
}

t5_sequence *t5_queue_pop(t5_queue *q)
{
    T5_ASSERT(q->depth > 0);
    t5_sequence *seq = t5_queue_first(q);
    if (!is_for_oldest(q)) q->turn = seq->group_next;
    q->n_taken++;
    q->depth--;
    q->cost -= t5_sequence_cost(seq);
    replace_group(q, seq, seq->next);
    seq->next = NULL;
    return seq;
}

/* Moves the given-up sequences of one group to the end of a list, *out_end. */
static void filter_group(t5_queue *q, t5_sequence *group, int64_t now_ms, t5_sequence ***out_end)
{
    t5_sequence *kept = NULL;
    t5_sequence **kept_end = &kept;
    t5_sequence *next = NULL;
    for (t5_sequence *seq = group; seq != NULL; seq = next) {
        next = seq->next;
        seq->next = NULL;
        if (!t5_sequence_is_given_up(seq, now_ms)) {
            *kept_end = seq;
            kept_end = &seq->next;
            continue;
        }
        q->depth--;
        q->cost -= t5_sequence_cost(seq);
        **out_end = seq;
        *out_end = &seq->next;
    }
    if (kept != group) replace_group(q, group, kept);
}

t5_sequence *t5_queue_take_given_up(t5_queue *q, int64_t now_ms)
{
    t5_sequence *taken = NULL;
    t5_sequence **end = &taken;
    t5_sequence *next_group = NULL;
    for (t5_sequence *group = q->first; group != NULL; group = next_group) {
        next_group = group->group_next;
        filter_group(q, group, now_ms, &end);
    }
    return taken;
}

t5_sequence *t5_queue_take_all(t5_queue *q)
{
    t5_sequence *first = NULL;
    t5_sequence **end = &first;
    for (t5_sequence *group = q->first; group != NULL; group = group->group_next) {
        *end = group;
        while (*end != NULL)
            end = &(*end)->next;
    }
    t5_queue_init(q, q->depth_max);
    return first;
}

bool t5_sequence_is_given_up(t5_sequence *seq, int64_t now_ms)
{
    if (atomic_load_explicit(&seq->is_cancelled, memory_order_relaxed)) {
        T5_FAIL(&seq->error, T5_ERR_TIMEOUT, "the request was cancelled");
        return true;
    }
    seq->is_late = seq->deadline_ms != 0 && now_ms > seq->deadline_ms;
    if (seq->is_late) T5_FAIL(&seq->error, T5_ERR_TIMEOUT, "the deadline passed");
    return seq->is_late;
}

int64_t t5_sequence_cost(const t5_sequence *seq)
{
    const t5_decoding *d = &seq->decoding;
    if (seq->is_score) return seq->n_input_ids + seq->n_prompt_ids;
    const int32_t n_rows = d->do_sample ? d->num_return_sequences : d->num_beams;
    return seq->n_input_ids + (int64_t)n_rows * (seq->n_prompt_ids + d->max_new_tokens);
}
