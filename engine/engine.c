/* engine/engine.c: see engine.h. The callers' side: create, submit, stop, look. The devices' threads are in loop.c. */
#include "engine/engine.h"

#include "base/assert.h"
#include "base/clock.h"
#include "engine/engine_internal.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>

#define RETRY_S_MAX 60
#define WAIT_SHARE_MAX 0.75 /* of the time that the deadline leaves to wait: both are estimates */

t5_batch_request t5_engine_request_of(const t5_sequence *seq)
{
    return (t5_batch_request){.input_ids = seq->input_ids,
                              .n_input_ids = seq->n_input_ids,
                              .prompt_ids = seq->prompt_ids,
                              .n_prompt_ids = seq->n_prompt_ids,
                              .decoding = seq->is_score ? NULL : &seq->decoding,
                              .vocab_live = seq->vocab_live,
                              .shortlist = seq->shortlist,
                              .is_score = seq->is_score,
                              .wants_logprobs = seq->wants_logprobs,
                              .wants_alignment = seq->wants_alignment,
                              .align_begin = seq->align_begin,
                              .align_end = seq->align_end,
                              .wants_stream = seq->on_tokens != NULL};
}

/* Signals are the main thread's business. */
static t5_status start_thread(t5_worker *w, t5_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&w->thread, NULL, t5_engine_loop, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) return T5_FAIL(err, T5_ERR_NOMEM, "engine: cannot start a thread (error %d)", code);
    pthread_setname_np(w->thread, "t5-engine");
    return T5_OK;
}

static void init_histograms(t5_engine *e)
{
    enum { us = 1000, ms = 1000000 };
    static const int64_t works[] = {100 * us, 250 * us, 500 * us, 1 * ms,   2500 * us, 5 * ms,   10 * ms,
                                    25 * ms,  50 * ms,  100 * ms, 250 * ms, 500 * ms,  1000 * ms};
    static const int64_t waits[] = {100 * us,
                                    1 * ms,
                                    5 * ms,
                                    10 * ms,
                                    25 * ms,
                                    50 * ms,
                                    100 * ms,
                                    250 * ms,
                                    500 * ms,
                                    1000 * ms,
                                    INT64_C(2500) * ms,
                                    INT64_C(5000) * ms,
                                    INT64_C(10000) * ms,
                                    INT64_C(30000) * ms};
    static const int64_t rows[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048};
    t5_histogram_init(&e->queue_wait_ns, waits, T5_COUNT(waits));
    t5_histogram_init(&e->encode_ns, works, T5_COUNT(works));
    t5_histogram_init(&e->step_ns, works, T5_COUNT(works));
    t5_histogram_init(&e->decode_ns, waits, T5_COUNT(waits));
    t5_histogram_init(&e->step_rows, rows, T5_COUNT(rows));
}

/* Ends the threads that were started and frees everything. */
static void stop(t5_engine *e)
{
    pthread_mutex_lock(&e->mutex);
    e->is_stopping = true;
    pthread_cond_broadcast(&e->has_work);
    pthread_mutex_unlock(&e->mutex);
    for (int32_t i = 0; i < e->n_started; i++)
        pthread_join(e->workers[i].thread, NULL);
    T5_ASSERT(e->n_pending == 0 && e->queue.depth == 0);

    for (int32_t i = 0; e->workers != NULL && i < e->n_workers; i++) {
        t5_batch_destroy(e->workers[i].batch);
        free(e->workers[i].running);
    }
    pthread_cond_destroy(&e->has_work);
    pthread_mutex_destroy(&e->mutex);
    free(e->workers);
    free(e);
}

static t5_status check_options(const t5_engine_options *o, t5_error *err)
{
    if (o->n_rows_max < T5_BEAMS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%d rows, at least %d are needed", o->n_rows_max, T5_BEAMS_MAX);
    if (o->src_len_max < 1 || o->src_len_max > T5_SEQ_LEN_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%d source tokens at most, must be 1 to %d", o->src_len_max, T5_SEQ_LEN_MAX);
    if (o->tgt_len_max < 2 || o->tgt_len_max > T5_SEQ_LEN_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%d target tokens at most, must be 2 to %d", o->tgt_len_max, T5_SEQ_LEN_MAX);
    if (o->enc_tokens_max < o->src_len_max)
        return T5_FAIL(err, T5_ERR_ARG,
                       "encode_tokens: %d, but the longest source (max_source_tokens) has %d and is encoded at once",
                       o->enc_tokens_max, o->src_len_max);
    if (o->kv_tokens < 0) return T5_FAIL(err, T5_ERR_ARG, "%d positions in the KV cache", o->kv_tokens);
    if (o->queue_depth_max < 1) return T5_FAIL(err, T5_ERR_ARG, "queue of %d sequences", o->queue_depth_max);
    return T5_OK;
}

t5_status t5_engine_batch_limits(const t5_engine_options *o, t5_batch_limits *out, t5_error *err)
{
    *out = (t5_batch_limits){.n_rows_max = o->n_rows_max,
                             .src_len_max = o->src_len_max,
                             .tgt_len_max = o->tgt_len_max,
                             .enc_tokens_max = o->enc_tokens_max,
                             .kv_tokens = o->kv_tokens};
    return check_options(o, err);
}

static t5_status init_worker(t5_engine *e, t5_worker *w, t5_model *model, const t5_batch_limits *limits, t5_error *err)
{
    w->engine = e;
    w->i_device = (int32_t)(w - e->workers);
    w->running_max = limits->n_rows_max; /* a slot has at least one row */
    w->turn_tokens_max = limits->enc_tokens_max;
    w->running = calloc((size_t)w->running_max, sizeof(t5_sequence *));
    if (w->running == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "engine: %d slots", w->running_max);
    t5_status status = t5_batch_create(model, limits, &w->batch, err);
    if (status == T5_OK) status = t5_batch_warm_up(w->batch, err);
    if (status != T5_OK) return status;
    w->kv = t5_batch_kv_usage(w->batch);
    w->memory = t5_batch_memory_of(w->batch);
    return T5_OK;
}

t5_status t5_engine_create(t5_model *const *models, int32_t n_models, const t5_engine_options *options, t5_engine **out,
                           t5_error *err)
{
    t5_status status = T5_OK;
    T5_ASSERT(n_models >= 1 && n_models <= T5_DEVICES_MAX);
    t5_batch_limits limits;
    if (t5_engine_batch_limits(options, &limits, err) != T5_OK) return err->status;
    t5_engine *e = calloc(1, sizeof *e);
    if (e == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "engine: %zu bytes", sizeof *e);

    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->has_work, NULL);
    init_histograms(e);
    t5_queue_init(&e->queue, options->queue_depth_max);
    e->n_workers = e->n_live = n_models;
    e->workers = calloc((size_t)n_models, sizeof *e->workers);
    if (e->workers == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "engine: %d devices", n_models);
        goto out;
    }
    for (int32_t i = 0; i < n_models; i++)
        T5_TRY(init_worker(e, &e->workers[i], models[i], &limits, err));
    for (; e->n_started < n_models; e->n_started++)
        T5_TRY(start_thread(&e->workers[e->n_started], err));
    *out = e;
    e = NULL; /* handed to the caller */
out:
    t5_engine_destroy(e);
    return status;
}

void t5_engine_destroy(t5_engine *e)
{
    if (e != NULL) stop(e);
}

t5_status t5_engine_submit(t5_engine *e, t5_sequence *seq, t5_error *err)
{
    return t5_engine_submit_all(e, &seq, 1, err);
}

/* Forgets the results of an earlier run, which the caller has freed. */
static void reset_results(t5_sequence *seq, int64_t now_ns)
{
    t5_error_clear(&seq->error);
    seq->outputs = NULL;
    seq->n_outputs = 0;
    seq->slot = -1;
    seq->is_late = false;
    seq->submitted_ns = now_ns;
    seq->started_ns = seq->encoded_ns = seq->finished_ns = 0;
}

/* Cost that all devices take up in a second; 0 while nothing is known. Under the lock. */
static double rate_per_s(const t5_engine *e)
{
    double rate = 0;
    for (int32_t i = 0; i < e->n_workers; i++)
        rate += t5_speed_per_s(&e->workers[i].rate);
    return rate;
}

/* Says in a refusal when what waits now will have been taken up. Under the lock. */
static t5_status come_back_later(const t5_engine *e, t5_error *err)
{
    const double rate = rate_per_s(e);
    const double seconds = rate > 0 ? (double)e->queue.cost / rate : 0;
    if (seconds >= RETRY_S_MAX) return t5_error_retry_after(err, RETRY_S_MAX);
    return t5_error_retry_after(err, seconds > 1 ? (int)ceil(seconds) : 1);
}

/* T5_ERR_BUSY when a group would wait until it is too late: its work would be in vain, and would make the next too late
 * as well. Under the lock. */
static t5_status check_wait(const t5_engine *e, int32_t n_seqs, int64_t deadline_ms, t5_error *err)
{
    const double rate = rate_per_s(e);
    if (deadline_ms == 0 || rate <= 0 || e->queue.depth == 0) return T5_OK;
    const double left_s = (double)(deadline_ms - t5_clock_ms()) / 1e3 - 2 * e->run_s;
    const double wait_s = t5_queue_cost_until(&e->queue, n_seqs) / rate;
    if (wait_s <= WAIT_SHARE_MAX * left_s) return T5_OK;
    return T5_FAIL(err, T5_ERR_BUSY, "the server is busy: the request would wait %.1f s", wait_s);
}

/* Under the lock: all or none into the queue. Refused sequences stay as they were. */
static t5_status enqueue(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    if (e->stats.is_lost) return T5_FAIL(err, T5_ERR_DEVICE, "a device failed; the server must be restarted");
    if (e->is_stopping) return T5_FAIL(err, T5_ERR_BUSY, "the server is stopping");
    t5_status status = T5_OK;
    if (n_seqs > 0 && !seqs[0]->is_again) status = check_wait(e, n_seqs, seqs[0]->deadline_ms, err);
    if (status == T5_OK) status = t5_queue_push_all(&e->queue, seqs, n_seqs, err);
    if (status == T5_ERR_BUSY) return come_back_later(e, err);
    if (status != T5_OK) return status;
    const int64_t now_ns = t5_clock_ns();
    for (int32_t i = 0; i < n_seqs; i++)
        reset_results(seqs[i], now_ns);
    e->n_pending += n_seqs;
    e->stats.n_sequences += n_seqs;
    pthread_cond_broadcast(&e->has_work);
    return T5_OK;
}

t5_status t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err)
{
    for (int32_t i = 0; i < n_seqs; i++) {
        T5_ASSERT(seqs[i]->on_done != NULL);
        const t5_batch_request request = t5_engine_request_of(seqs[i]);
        const t5_status status = t5_batch_check(e->workers[0].batch, &request, err);
        if (status != T5_OK) return status;
    }
    pthread_mutex_lock(&e->mutex);
    const t5_status status = enqueue(e, seqs, n_seqs, err);
    if (status == T5_ERR_BUSY || status == T5_ERR_DEVICE) e->stats.n_rejected += n_seqs;
    pthread_mutex_unlock(&e->mutex);
    return status;
}

t5_status t5_engine_check_room(t5_engine *e, int64_t deadline_ms, t5_error *err)
{
    pthread_mutex_lock(&e->mutex);
    t5_status status = check_wait(e, 1, deadline_ms, err);
    if (e->queue.depth >= e->queue.depth_max)
        status = T5_FAIL(err, T5_ERR_BUSY, "the queue is full: %d sequences wait", e->queue.depth_max);
    if (status != T5_OK) e->stats.n_rejected++;
    if (status != T5_OK) come_back_later(e, err);
    pthread_mutex_unlock(&e->mutex);
    return status;
}

int32_t t5_engine_rows_fair(const t5_engine *e, int32_t n_input_ids, int32_t n_prompt_ids, int32_t n_new_tokens)
{
    return t5_batch_rows_fair(e->workers[0].batch, n_input_ids, n_prompt_ids, n_new_tokens);
}

void t5_engine_stats_get(t5_engine *e, t5_engine_stats *out)
{
    pthread_mutex_lock(&e->mutex);
    *out = e->stats;
    out->queue_depth = e->queue.depth;
    out->n_running = e->n_pending - e->queue.depth;
    out->n_devices = e->n_workers;
    for (int32_t i = 0; i < e->n_workers; i++) {
        const t5_worker *w = &e->workers[i];
        out->n_rows_running += w->n_rows_running;
        out->n_nonfinite += w->n_nonfinite;
        out->memory.weights += w->memory.weights;
        out->memory.kv += w->memory.kv;
        out->memory.scratch += w->memory.scratch;
        out->memory.host += w->memory.host;
        out->kv.n_blocks += w->kv.n_blocks;
        out->kv.n_reserved += w->kv.n_reserved;
        out->kv.n_used += w->kv.n_used;
    }
    pthread_mutex_unlock(&e->mutex);
    t5_histogram_read(&e->queue_wait_ns, &out->queue_wait_ns);
    t5_histogram_read(&e->encode_ns, &out->encode_ns);
    t5_histogram_read(&e->step_ns, &out->step_ns);
    t5_histogram_read(&e->decode_ns, &out->decode_ns);
    t5_histogram_read(&e->step_rows, &out->step_rows);
}
