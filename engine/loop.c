/* engine/loop.c: the thread of a device, which owns the batch and with it the backend. A turn of its loop is
 *
 *     retire what is done or given up -> admit from the queue -> encode what was admitted -> one decode step
 *
 * so a slot that the last step finished is free again before the next step. Encoder passes of at most enc_tokens_max
 * tokens a turn bound how long running rows wait for new ones. Clients whose answers a turn sent ask again while it
 * encodes: it looks twice, so that their rows are in the next step and not in the one after it. With nothing to do the
 * thread sleeps; nothing is ever due then, because an idle batch takes whatever waits. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_internal.h"
#include "engine/results.h"

#define RUNS_OF_MEAN 64   /* sequences */
#define LOOKS_OF_A_TURN 2 /* into the queue; the second only behind an encoder pass */

/* Under the lock: the gauges of the batch. */
static void show_load(t5_worker *w)
{
    w->n_rows_running = t5_batch_n_rows_running(w->batch);
    w->kv = t5_batch_kv_usage(w->batch);
    w->n_nonfinite = t5_batch_n_nonfinite(w->batch);
}

/* Ends one sequence, which may be gone afterwards. Its slot, if it had one, is free already. */
static void finish(t5_worker *w, t5_sequence *seq, int32_t n_target_tokens)
{
    t5_engine *e = w->engine;
    const t5_status status = seq->error.status;
    seq->finished_ns = t5_clock_ns();
    if (status == T5_OK) t5_histogram_add(&e->decode_ns, seq->finished_ns - seq->encoded_ns);

    pthread_mutex_lock(&e->mutex);
    e->stats.n_target_tokens += n_target_tokens;
    if (status == T5_OK) e->run_s += ((double)(seq->finished_ns - seq->started_ns) / 1e9 - e->run_s) / RUNS_OF_MEAN;
    if (status == T5_ERR_TIMEOUT && seq->is_late)
        e->stats.n_late++;
    else if (status == T5_ERR_TIMEOUT)
        e->stats.n_cancelled++;
    else if (status != T5_OK)
        e->stats.n_failed++;
    show_load(w);
    pthread_mutex_unlock(&e->mutex);

    seq->on_done(seq, seq->ctx);

    pthread_mutex_lock(&e->mutex);
    T5_ASSERT(e->n_pending > 0);
    e->n_pending--;
    pthread_mutex_unlock(&e->mutex);
}

static void finish_with_error(t5_worker *w, t5_sequence *seq, const t5_error *err)
{
    if (err != NULL) seq->error = *err;
    finish(w, seq, 0);
}

/* Ends a list linked by `next`, with the same error, or each with its own when `err` is NULL. */
static void finish_list(t5_worker *w, t5_sequence *first, const t5_error *err)
{
    t5_sequence *next = NULL;
    for (t5_sequence *seq = first; seq != NULL; seq = next) {
        next = seq->next;
        finish_with_error(w, seq, err);
    }
}

/* Ends the running sequences from `i_first` on. */
static void finish_running(t5_worker *w, int32_t i_first, const t5_error *err)
{
    const int32_t n = w->n_running;
    w->n_running = i_first;
    if (w->n_encoded > i_first) w->n_encoded = i_first;
    for (int32_t i = i_first; i < n; i++) {
        t5_batch_release(w->batch, w->running[i]->slot);
        finish_with_error(w, w->running[i], err);
    }
}

static void finish_waiting(t5_worker *w, const t5_error *err)
{
    t5_engine *e = w->engine;
    pthread_mutex_lock(&e->mutex);
    t5_sequence *waiting = t5_queue_take_all(&e->queue);
    pthread_mutex_unlock(&e->mutex);
    finish_list(w, waiting, err);
}

/* The device failed, for good. Other devices, if there are any, finish what waits. */
static void lose_device(t5_worker *w, const t5_error *err)
{
    t5_engine *e = w->engine;
    pthread_mutex_lock(&e->mutex);
    w->is_lost = true;
    e->stats.is_lost = true;
    const int32_t n_live = --e->n_live;
    pthread_mutex_unlock(&e->mutex);
    finish_running(w, 0, err);
    if (n_live == 0) finish_waiting(w, err);
}

/* A pass over the batch failed. The sequences from `i_first` on were part of it. */
static void on_batch_error(t5_worker *w, int32_t i_first, const t5_error *err)
{
    const bool is_lost = err->status == T5_ERR_DEVICE;
    char text[2 * T5_ERROR_TEXT_MAX];
    t5_log(T5_LOG_ERROR, "%s device=%d text=%s", is_lost ? "device_lost" : "step_failed", w->i_device,
           t5_log_quote(text, sizeof text, err->text));
    if (is_lost)
        lose_device(w, err);
    else
        finish_running(w, i_first, err);
}

/* Sleeps until there is something to do. False when the engine stops. */
static bool wait_for_work(t5_worker *w)
{
    t5_engine *e = w->engine;
    pthread_mutex_lock(&e->mutex);
    while (!e->is_stopping && w->n_running == 0 && e->queue.depth == 0)
        pthread_cond_wait(&e->has_work, &e->mutex);
    const bool goes_on = !e->is_stopping;
    pthread_mutex_unlock(&e->mutex);
    return goes_on;
}

/* Frees the slots of running sequences that are done or that nobody wants any more. */
static void retire(t5_worker *w, int64_t now_ms)
{
    int32_t n_kept = 0;
    for (int32_t i = 0; i < w->n_running; i++) {
        t5_sequence *seq = w->running[i];
        const bool is_done = t5_batch_is_done(w->batch, seq->slot);
        if (!is_done && !t5_sequence_is_given_up(seq, now_ms)) {
            w->running[n_kept++] = seq;
            continue;
        }
        const int32_t n_tokens = is_done ? t5_results_copy(w->batch, seq) : 0;
        t5_batch_release(w->batch, seq->slot);
        finish(w, seq, n_tokens);
    }
    w->n_running = n_kept;
    w->n_encoded = n_kept;
}

/* Ends waiting sequences that nobody wants any more. A look through a long queue costs more than a step of a small
 * model, and deadlines have a resolution of a millisecond: one look in a millisecond is enough. */
static void retire_waiting(t5_worker *w, int64_t now_ms)
{
    t5_engine *e = w->engine;
    t5_sequence *given_up = NULL;
    pthread_mutex_lock(&e->mutex);
    if (now_ms != e->sweep_now_ms) given_up = t5_queue_take_given_up(&e->queue, now_ms);
    e->sweep_now_ms = now_ms;
    pthread_mutex_unlock(&e->mutex);
    finish_list(w, given_up, NULL);
}

/* How many sequences a device may take in one turn: its share of what waits, so that they fill evenly. */
static int32_t share_of_waiting(t5_engine *e)
{
    pthread_mutex_lock(&e->mutex);
    const int32_t n = (e->queue.depth + e->n_live - 1) / e->n_live;
    pthread_mutex_unlock(&e->mutex);
    return n;
}

/* What earlier looks of this turn encoded leaves too little of its tokens. */
static bool is_turn_over(const t5_worker *w, const t5_sequence *seq)
{
    return w->turn_tokens > 0 && w->turn_tokens + seq->n_input_ids > w->turn_tokens_max;
}

/* Takes the next sequence out of the queue; NULL when none waits, or when it has to wait for room in the batch. In an
 * empty batch it would wait for ever: it is taken, and its admission tells why. */
static t5_sequence *take_next(t5_worker *w)
{
    t5_engine *e = w->engine;
    pthread_mutex_lock(&e->mutex);
    t5_sequence *seq = t5_queue_first(&e->queue);
    if (seq != NULL && w->n_running > 0) {
        const t5_batch_request request = t5_engine_request_of(seq);
        if (is_turn_over(w, seq) || !t5_batch_fits(w->batch, &request)) seq = NULL;
    }
    if (seq != NULL) t5_queue_pop(&e->queue);
    pthread_mutex_unlock(&e->mutex);
    return seq;
}

/* Brings one sequence into the batch, or ends it. */
static void admit_one(t5_worker *w, t5_sequence *seq, int64_t now_ms)
{
    t5_error err = {0};
    seq->started_ns = t5_clock_ns();
    w->turn_cost += t5_sequence_cost(seq);
    t5_histogram_add(&w->engine->queue_wait_ns, seq->started_ns - seq->submitted_ns);
    if (t5_sequence_is_given_up(seq, now_ms)) {
        finish(w, seq, 0);
        return;
    }
    const t5_batch_request request = t5_engine_request_of(seq);
    if (t5_batch_admit(w->batch, &request, &seq->slot, &err) != T5_OK) {
        if (err.status == T5_ERR_DEVICE) on_batch_error(w, 0, &err);
        finish_with_error(w, seq, &err);
        return;
    }
    T5_ASSERT(w->n_running < w->running_max);
    w->running[w->n_running++] = seq;
}

/* Moves sequences from the queue into the batch until the next one does not fit. */
static void admit(t5_worker *w, int64_t now_ms)
{
    for (int32_t n = share_of_waiting(w->engine); n > 0 && !w->is_lost; n--) {
        t5_sequence *seq = take_next(w);
        if (seq == NULL) return;
        admit_one(w, seq, now_ms);
    }
}

/* Encodes what was admitted and is not encoded yet. When it fails only these end; the others' state is untouched. */
static void encode(t5_worker *w)
{
    if (w->n_encoded == w->n_running) return;
    t5_error err = {0};
    int64_t n_tokens = 0;
    for (int32_t i = w->n_encoded; i < w->n_running; i++)
        n_tokens += w->running[i]->n_input_ids;
    const int64_t start_ns = t5_clock_ns();
    if (t5_batch_encode(w->batch, &err) != T5_OK) {
        on_batch_error(w, w->n_encoded, &err);
        return;
    }
    const int64_t end_ns = t5_clock_ns();
    for (; w->n_encoded < w->n_running; w->n_encoded++)
        w->running[w->n_encoded]->encoded_ns = end_ns;
    w->turn_tokens += n_tokens;
    t5_histogram_add(&w->engine->encode_ns, end_ns - start_ns);
    pthread_mutex_lock(&w->engine->mutex);
    w->engine->stats.n_source_tokens += n_tokens;
    pthread_mutex_unlock(&w->engine->mutex);
}

/* Tells those who want to know what the last step made certain. */
static t5_status tell_tokens(t5_worker *w, t5_error *err)
{
    t5_status status = T5_OK;
    for (int32_t i = 0; i < w->n_running && status == T5_OK; i++) {
        t5_sequence *seq = w->running[i];
        const int32_t *ids = NULL;
        const int32_t n_ids = seq->on_tokens != NULL ? t5_batch_take_stable(w->batch, seq->slot, &ids) : 0;
        const bool is_enough = n_ids > 0 && !seq->on_tokens(seq, ids, n_ids, seq->ctx);
        if (is_enough) status = t5_batch_cut(w->batch, seq->slot, err);
    }
    return status;
}

static void step(t5_worker *w)
{
    if (w->n_running == 0) return;
    t5_error err = {0};
    const int32_t n_rows = t5_batch_n_rows_running(w->batch);
    const int64_t start_ns = t5_clock_ns();
    if (t5_batch_step(w->batch, &err) != T5_OK) {
        on_batch_error(w, 0, &err);
        return;
    }
    t5_histogram_add(&w->engine->step_ns, t5_clock_ns() - start_ns);
    t5_histogram_add(&w->engine->step_rows, n_rows);
    if (tell_tokens(w, &err) != T5_OK) on_batch_error(w, 0, &err);
}

/* The speed that counts is that of a full batch: a device that could take more says nothing about it. */
static void end_turn(t5_worker *w, int64_t start_ns)
{
    t5_engine *e = w->engine;
    pthread_mutex_lock(&e->mutex);
    if (e->queue.depth > 0) t5_speed_add(&w->rate, w->turn_cost, t5_clock_ns() - start_ns);
    show_load(w);
    pthread_mutex_unlock(&e->mutex);
    w->turn_cost = 0;
    w->turn_tokens = 0;
}

/* Fills the batch from the queue. What comes while one of several devices encodes is left to those that look next. */
static void fill(t5_worker *w, int64_t now_ms)
{
    const int32_t n_looks = w->engine->n_workers > 1 ? 1 : LOOKS_OF_A_TURN;
    for (int32_t i = 0; i < n_looks && !w->is_lost; i++) {
        admit(w, now_ms);
        if (w->n_encoded == w->n_running) return;
        encode(w);
    }
}

void *t5_engine_loop(void *arg)
{
    t5_worker *w = arg;
    while (!w->is_lost && wait_for_work(w)) {
        const int64_t start_ns = t5_clock_ns();
        const int64_t now_ms = start_ns / 1000000;
        retire(w, now_ms);
        retire_waiting(w, now_ms);
        fill(w, now_ms);
        step(w);
        end_turn(w, start_ns);
    }
    if (w->is_lost) return NULL;
    t5_error err = {0};
    T5_FAIL(&err, T5_ERR_BUSY, "the server is stopping");
    finish_running(w, 0, &err);
    finish_waiting(w, &err);
    return NULL;
}
