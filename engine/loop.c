/* engine/loop.c: the device thread, which owns the batch and with it the backend. A turn of its loop is
 *
 *     retire what is done or given up -> admit from the queue -> encode what was admitted -> one decode step
 *
 * so a slot that the last step finished is free again before the next step. One encoder pass a turn, of at most
 * enc_tokens_max tokens, bounds how long running rows wait for new ones. With nothing to do the thread sleeps; nothing
 * is ever due then, because an idle batch takes whatever waits. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_internal.h"
#include "engine/results.h"

/* Under the lock: the gauges of the batch. */
static void show_load(t5_engine *e)
{
    e->stats.n_rows_running = t5_batch_n_rows_running(e->batch);
    e->stats.kv = t5_batch_kv_usage(e->batch);
}

/* Ends one sequence, which may be gone afterwards. Its slot, if it had one, is free already. */
static void finish(t5_engine *e, t5_sequence *seq, int32_t n_target_tokens)
{
    const t5_status status = seq->error.status;
    seq->finished_ns = t5_clock_ns();
    if (status == T5_OK) t5_histogram_add(&e->decode_ns, seq->finished_ns - seq->encoded_ns);

    pthread_mutex_lock(&e->mutex);
    e->stats.n_target_tokens += n_target_tokens;
    if (status == T5_ERR_TIMEOUT && seq->is_late)
        e->stats.n_late++;
    else if (status == T5_ERR_TIMEOUT)
        e->stats.n_cancelled++;
    else if (status != T5_OK)
        e->stats.n_failed++;
    show_load(e);
    pthread_mutex_unlock(&e->mutex);

    seq->on_done(seq, seq->ctx);

    pthread_mutex_lock(&e->mutex);
    T5_ASSERT(e->n_pending > 0);
    if (--e->n_pending == 0) pthread_cond_broadcast(&e->is_idle);
    pthread_mutex_unlock(&e->mutex);
}

static void finish_with_error(t5_engine *e, t5_sequence *seq, const t5_error *err)
{
    if (err != NULL) seq->error = *err;
    finish(e, seq, 0);
}

/* Ends a list linked by `next`, with the same error, or each with its own when `err` is NULL. */
static void finish_list(t5_engine *e, t5_sequence *first, const t5_error *err)
{
    t5_sequence *next = NULL;
    for (t5_sequence *seq = first; seq != NULL; seq = next) {
        next = seq->next;
        finish_with_error(e, seq, err);
    }
}

/* Ends the running sequences from `i_first` on. */
static void finish_running(t5_engine *e, int32_t i_first, const t5_error *err)
{
    const int32_t n = e->n_running;
    e->n_running = i_first;
    if (e->n_encoded > i_first) e->n_encoded = i_first;
    for (int32_t i = i_first; i < n; i++) {
        t5_batch_release(e->batch, e->running[i]->slot);
        finish_with_error(e, e->running[i], err);
    }
}

/* Ends all that runs or waits. `is_lost`: for good, because the device failed. */
static void finish_all(t5_engine *e, bool is_lost, const t5_error *err)
{
    pthread_mutex_lock(&e->mutex);
    if (is_lost) e->stats.is_lost = true;
    t5_sequence *waiting = t5_queue_take_all(&e->queue);
    pthread_mutex_unlock(&e->mutex);
    finish_running(e, 0, err);
    finish_list(e, waiting, err);
}

/* A pass over the batch failed. The sequences from `i_first` on were part of it. */
static void on_batch_error(t5_engine *e, int32_t i_first, const t5_error *err)
{
    const bool is_lost = err->status == T5_ERR_DEVICE;
    t5_log(T5_LOG_ERROR, "engine: %s: %s", is_lost ? "the device is lost" : "step failed", err->text);
    if (is_lost)
        finish_all(e, true, err);
    else
        finish_running(e, i_first, err);
}

/* Sleeps until there is something to do. False when the engine stops. */
static bool wait_for_work(t5_engine *e)
{
    pthread_mutex_lock(&e->mutex);
    while (!e->is_stopping && e->n_running == 0 && e->queue.depth == 0)
        pthread_cond_wait(&e->has_work, &e->mutex);
    const bool goes_on = !e->is_stopping;
    pthread_mutex_unlock(&e->mutex);
    return goes_on;
}

/* Frees the slots of running sequences that are done or that nobody wants any more. */
static void retire(t5_engine *e, int64_t now_ms)
{
    int32_t n_kept = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        t5_sequence *seq = e->running[i];
        const bool is_done = t5_batch_is_done(e->batch, seq->slot);
        if (!is_done && !t5_sequence_is_given_up(seq, now_ms)) {
            e->running[n_kept++] = seq;
            continue;
        }
        const int32_t n_tokens = is_done ? t5_results_copy(e->batch, seq) : 0;
        t5_batch_release(e->batch, seq->slot);
        finish(e, seq, n_tokens);
    }
    e->n_running = n_kept;
    e->n_encoded = n_kept;
}

/* Ends waiting sequences that nobody wants any more. A look through a long queue costs more than a step of a small
 * model, and deadlines have a resolution of a millisecond: one look in a millisecond is enough. */
static void retire_waiting(t5_engine *e, int64_t now_ms)
{
    if (now_ms == e->sweep_now_ms) return;
    e->sweep_now_ms = now_ms;
    pthread_mutex_lock(&e->mutex);
    t5_sequence *given_up = t5_queue_take_given_up(&e->queue, now_ms);
    pthread_mutex_unlock(&e->mutex);
    finish_list(e, given_up, NULL);
}

static t5_sequence *queue_head(t5_engine *e)
{
    pthread_mutex_lock(&e->mutex);
    t5_sequence *seq = t5_queue_first(&e->queue);
    pthread_mutex_unlock(&e->mutex);
    return seq;
}

/* Takes the head, `seq`, out of the queue. */
static void queue_pop(t5_engine *e, t5_sequence *seq)
{
    seq->started_ns = t5_clock_ns();
    pthread_mutex_lock(&e->mutex);
    const t5_sequence *head = t5_queue_pop(&e->queue);
    T5_ASSERT(head == seq);
    pthread_mutex_unlock(&e->mutex);
    e->turn_cost += t5_sequence_cost(seq);
    t5_histogram_add(&e->queue_wait_ns, seq->started_ns - seq->submitted_ns);
}

/* Moves sequences from the queue into the batch, first come, first served, until one does not fit. */
static void admit(t5_engine *e, int64_t now_ms)
{
    for (t5_sequence *seq = queue_head(e); seq != NULL; seq = queue_head(e)) {
        if (t5_sequence_is_given_up(seq, now_ms)) {
            queue_pop(e, seq);
            finish(e, seq, 0);
            continue;
        }
        t5_error err = {0};
        const t5_batch_request request = t5_engine_request_of(seq);
        const t5_status status = t5_batch_admit(e->batch, &request, &seq->slot, &err);
        if (status == T5_ERR_BUSY && e->n_running > 0) return; /* in an empty batch it would never fit: it ends */
        queue_pop(e, seq);
        if (status == T5_OK) {
            T5_ASSERT(e->n_running < e->running_max);
            e->running[e->n_running++] = seq;
        } else if (status == T5_ERR_DEVICE) {
            finish_with_error(e, seq, &err);
            on_batch_error(e, 0, &err);
        } else {
            finish_with_error(e, seq, &err);
        }
    }
}

/* Encodes what was admitted in this turn. When it fails only these end; the others' state is untouched. */
static void encode(t5_engine *e)
{
    if (e->n_encoded == e->n_running) return;
    t5_error err = {0};
    int64_t n_tokens = 0;
    for (int32_t i = e->n_encoded; i < e->n_running; i++)
        n_tokens += e->running[i]->n_input_ids;
    const int64_t start_ns = t5_clock_ns();
    if (t5_batch_encode(e->batch, &err) != T5_OK) {
        on_batch_error(e, e->n_encoded, &err);
        return;
    }
    const int64_t end_ns = t5_clock_ns();
    for (; e->n_encoded < e->n_running; e->n_encoded++)
        e->running[e->n_encoded]->encoded_ns = end_ns;
    t5_histogram_add(&e->encode_ns, end_ns - start_ns);
    pthread_mutex_lock(&e->mutex);
    e->stats.n_source_tokens += n_tokens;
    pthread_mutex_unlock(&e->mutex);
}

/* Tells those who want to know what the last step made certain. */
static void tell_tokens(t5_engine *e)
{
    for (int32_t i = 0; i < e->n_running; i++) {
        t5_sequence *seq = e->running[i];
        const int32_t *ids = NULL;
        const int32_t n_ids = seq->on_tokens != NULL ? t5_batch_take_stable(e->batch, seq->slot, &ids) : 0;
        if (n_ids > 0) seq->on_tokens(seq, ids, n_ids, seq->ctx);
    }
}

static void step(t5_engine *e)
{
    if (e->n_running == 0) return;
    t5_error err = {0};
    const int32_t n_rows = t5_batch_n_rows_running(e->batch);
    const int64_t start_ns = t5_clock_ns();
    if (t5_batch_step(e->batch, &err) != T5_OK) {
        on_batch_error(e, 0, &err);
        return;
    }
    t5_histogram_add(&e->step_ns, t5_clock_ns() - start_ns);
    t5_histogram_add(&e->step_rows, n_rows);
    tell_tokens(e);
}

static void end_turn(t5_engine *e, int64_t start_ns)
{
    pthread_mutex_lock(&e->mutex);
    t5_rate_add(&e->rate, e->turn_cost, t5_clock_ns() - start_ns);
    show_load(e);
    pthread_mutex_unlock(&e->mutex);
    e->turn_cost = 0;
}

void *t5_engine_loop(void *arg)
{
    t5_engine *e = arg;
    while (wait_for_work(e)) {
        const int64_t start_ns = t5_clock_ns();
        const int64_t now_ms = start_ns / 1000000;
        retire(e, now_ms);
        retire_waiting(e, now_ms);
        admit(e, now_ms);
        encode(e);
        step(e);
        end_turn(e, start_ns);
    }
    t5_error err = {0};
    T5_FAIL(&err, T5_ERR_BUSY, "the server is stopping");
    finish_all(e, false, &err);
    return NULL;
}
