/* engine/queue.c: see queue.h. */
#include "engine/queue.h"

#include "base/assert.h"

void t5_queue_init(t5_queue *q, int32_t depth_max)
{
    T5_ASSERT(depth_max > 0);
    *q = (t5_queue){.depth_max = depth_max};
}

static void append(t5_queue *q, t5_sequence *seq)
{
    seq->next = NULL;
    if (q->last != NULL)
        q->last->next = seq;
    else
        q->first = seq;
    q->last = seq;
    q->depth++;
    q->cost += t5_sequence_cost(seq);
}

t5_status t5_queue_push_all(t5_queue *q, t5_sequence *const *seqs, int32_t n_seqs, t5_error *err)
{
    T5_ASSERT(n_seqs >= 0);
    if (n_seqs > q->depth_max)
        return T5_FAIL(err, T5_ERR_ARG, "the request has %d sequences, at most %d can wait", n_seqs, q->depth_max);
    if (n_seqs > q->depth_max - q->depth)
        return T5_FAIL(err, T5_ERR_BUSY, "the queue is full: %d of %d sequences wait, the request has %d", q->depth,
                       q->depth_max, n_seqs);
    for (int32_t i = 0; i < n_seqs; i++)
        append(q, seqs[i]);
    return T5_OK;
}

t5_sequence *t5_queue_pop(t5_queue *q)
{
    t5_sequence *seq = q->first;
    T5_ASSERT(seq != NULL && q->depth > 0);
    q->first = seq->next;
    if (q->first == NULL) q->last = NULL;
    q->depth--;
    q->cost -= t5_sequence_cost(seq);
    seq->next = NULL;
    return seq;
}

t5_sequence *t5_queue_take_given_up(t5_queue *q, int64_t now_ms)
{
    t5_queue kept = {.depth_max = q->depth_max};
    t5_queue taken = {.depth_max = q->depth_max};
    t5_sequence *next = NULL;
    for (t5_sequence *seq = q->first; seq != NULL; seq = next) {
        next = seq->next;
        append(t5_sequence_is_given_up(seq, now_ms) ? &taken : &kept, seq);
    }
    *q = kept;
    return taken.first;
}

t5_sequence *t5_queue_take_all(t5_queue *q)
{
    t5_sequence *first = q->first;
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
