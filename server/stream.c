/* server/stream.c: see stream.h. Two hold a stream: the exchange until libmicrohttpd is through with it, and the work
 * until it is done. The last of them frees it. */
#include "server/stream.h"
#include "base/assert.h"
#include "base/clock.h"
#include "server/exchange.h"
#include "server/json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 4096 /* what libmicrohttpd asks for at most, and keeps for each stream */

struct t5_stream {
    t5_exchange *x;
    struct MHD_Connection *connection;
    const t5_stream_ops *ops;
    void *work;
    atomic_int n_holders;
    /* The HTTP thread's. */
    t5_buffer events;
    bool is_watched;  /* the connection is watched for its client's leaving */
    bool is_finished; /* the last event is in `events`, or was sent */
    bool is_counted;  /* in n_working: libmicrohttpd must not stop while a connection sleeps */
    bool is_broken;   /* or could not be made: the end must not look like one */
    /* Under the mutex. */
    pthread_mutex_t mutex;
    bool has_news, is_done, is_suspended;
};

static const char *const headers[] = {"Cache-Control", "no-cache", "X-Accel-Buffering", "no", NULL};

t5_stream *t5_stream_create(t5_exchange *x, const t5_stream_ops *ops, void *work)
{
    t5_stream *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->x = x;
    s->connection = x->connection;
    s->ops = ops;
    s->work = work;
    atomic_init(&s->n_holders, 2);
    pthread_mutex_init(&s->mutex, NULL);
    return s;
}

static void let_go(t5_stream *s)
{
    if (atomic_fetch_sub(&s->n_holders, 1) > 1) return;
    pthread_mutex_destroy(&s->mutex);
    t5_buffer_deinit(&s->events);
    s->ops->destroy(s->work);
    free(s);
}

/* --- the work's side --- */

/* Wakes the connection up if it sleeps. While it does, libmicrohttpd keeps it and with it the exchange. */
static void wake(t5_stream *s, bool is_done)
{
    pthread_mutex_lock(&s->mutex);
    s->has_news = true;
    s->is_done = s->is_done || is_done;
    if (s->is_suspended) {
        s->is_suspended = false;
        t5_exchange_unpark(s->x->http, s->connection);
    }
    pthread_mutex_unlock(&s->mutex);
}

void t5_stream_progress(void *stream)
{
    wake(stream, false);
}

void t5_stream_done(void *stream)
{
    wake(stream, true);
    let_go(stream);
}

void t5_stream_abandon(t5_stream *s)
{
    s->is_done = true;
    let_go(s);
}

/* --- the client's side --- */

static void gone(void *ctx)
{
    t5_stream_cancel(ctx);
}

/* Once, when libmicrohttpd asks for the first time: the exchange has left all other hands. */
static void begin_watch(t5_stream *s)
{
    t5_http *h = s->x->http;
    s->is_watched = true;
    t5_watch_begin_work(h->watch, s->x->watched);
    t5_watch_await_gone(h->watch, s->x->watched, gone, s);
}

/* The stream's last event when it goes wrong: the status is sent long ago. */
static void append_failure(t5_stream *s, const t5_error *err)
{
    t5_error failure = {0};
    const bool is_clients = err->status == T5_ERR_ARG; /* known late where a model had to be opened first */
    const unsigned http_status = is_clients ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_SERVICE_UNAVAILABLE;
    s->is_finished = true;
    json_t *value = t5_exchange_failure(s->x, http_status, t5_exchange_explain(s->x, err));
    s->is_broken = t5_stream_event(&s->events, "error", value, &failure) != T5_OK;
}

/* Fills `events` with what there is. */
static void read_work(t5_stream *s, bool is_done)
{
    t5_error err = {0};
    s->events.n_bytes = 0;
    t5_status status = s->ops->read(s->work, &s->events, &err);
    if (status == T5_OK && is_done) {
        s->is_finished = true;
        status = s->ops->finish(s->work, s->x, &s->events, &err);
    }
    if (status == T5_OK) return;
    s->ops->cancel(s->work);
    append_failure(s, &err);
}

/* Counts first and looks at is_stopping then, as hand_over() in exchange.c does. */
static void count(t5_stream *s, bool is_counted)
{
    if (is_counted != s->is_counted) atomic_fetch_add(&s->x->http->n_working, is_counted ? 1 : -1);
    s->is_counted = is_counted;
}

/* Puts the connection to sleep unless there are news since `has_news` was last looked at. The watch has a lock of its
 * own, which must not be taken under ours: it calls `gone` with it. */
static bool sleeps(t5_stream *s)
{
    t5_watch_set_deadline(s->x->http->watch, s->x->watched, 0); /* not the client's delay */
    pthread_mutex_lock(&s->mutex);
    if (!s->has_news) {
        s->is_suspended = true;
        MHD_suspend_connection(s->connection);
    }
    const bool is_asleep = !s->has_news;
    pthread_mutex_unlock(&s->mutex);
    return is_asleep;
}

/* What libmicrohttpd asks for bytes. On the HTTP thread; 0 only when the connection sleeps. */
static ssize_t on_read(void *ctx, uint64_t position, char *out, size_t n_max)
{
    t5_stream *s = ctx;
    (void)position;
    if (!s->is_watched) begin_watch(s);
    count(s, false); /* it is awake */
    while (s->events.n_bytes == 0) {
        if (s->is_broken) return MHD_CONTENT_READER_END_WITH_ERROR;
        if (s->is_finished) return MHD_CONTENT_READER_END_OF_STREAM;
        pthread_mutex_lock(&s->mutex);
        s->has_news = false;
        const bool is_done = s->is_done;
        pthread_mutex_unlock(&s->mutex);
        read_work(s, is_done);
        if (s->events.n_bytes > 0 || s->is_finished) continue;
        count(s, true);
        if (atomic_load(&s->x->http->is_stopping)) return MHD_CONTENT_READER_END_WITH_ERROR;
        if (sleeps(s)) return 0;
        count(s, false);
    }
    const size_t n = s->events.n_bytes < n_max ? s->events.n_bytes : n_max;
    memcpy(out, s->events.bytes, n);
    t5_buffer_drop(&s->events, n);
    s->x->reply_bytes += n;
    t5_watch_set_deadline(s->x->http->watch, s->x->watched, t5_clock_ms() + s->x->http->options.receive_timeout_ms);
    return (ssize_t)n;
}

void t5_stream_answer(t5_stream *s)
{
    t5_exchange *x = s->x;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, on_read, s, NULL);
    if (response == NULL) return; /* the phase tells that nothing was queued; the connection closes */
    t5_exchange_set_headers(x, headers);
    t5_exchange_answer(x, MHD_HTTP_OK, "text/event-stream", response);
}

void t5_stream_cancel(t5_stream *s)
{
    s->ops->cancel(s->work);
}

void t5_stream_release(t5_stream *s)
{
    if (s == NULL) return;
    t5_http *h = s->x->http;
    if (s->is_watched) t5_watch_end_work(h->watch, s->x->watched);
    pthread_mutex_lock(&s->mutex);
    const bool is_done = s->is_done;
    pthread_mutex_unlock(&s->mutex);
    if (!is_done) s->ops->cancel(s->work);
    count(s, false);
    let_go(s);
}

/* --- events --- */

t5_status t5_stream_piece(t5_buffer *events, const t5_piece *piece, bool has_index, t5_error *err)
{
    json_t *value = json_pack("{s:o}", "text", json_stringn(piece->bytes, piece->n_bytes));
    if (has_index) json_object_set_new(value, "index", json_integer(piece->i_text));
    return t5_stream_event(events, NULL, value, err);
}

json_t *t5_stream_usage(const t5_usage *usage)
{
    return json_pack("{s:I, s:I}", "source_tokens", (json_int_t)usage->n_source_tokens, "target_tokens",
                     (json_int_t)usage->n_target_tokens);
}

t5_status t5_stream_event(t5_buffer *events, const char *name, json_t *value, t5_error *err)
{
    t5_status status = T5_OK;
    char *text = value != NULL ? json_dumps(value, T5_REPLY_JSON) : NULL;
    const size_t n_before = events->n_bytes;
    const bool is_incomplete = t5_json_memory_ran_out() || text == NULL;
    if (is_incomplete) T5_TRY(T5_FAIL(err, T5_ERR_NOMEM, "an event of a stream"));
    if (name != NULL) {
        T5_TRY(t5_buffer_append(events, "event: ", 7, err));
        T5_TRY(t5_buffer_append(events, name, strlen(name), err));
        T5_TRY(t5_buffer_append(events, "\n", 1, err));
    }
    T5_TRY(t5_buffer_append(events, "data: ", 6, err));
    T5_TRY(t5_buffer_append(events, text, strlen(text), err));
    T5_TRY(t5_buffer_append(events, "\n\n", 2, err));
out:
    if (status != T5_OK) events->n_bytes = n_before;
    free(text);
    json_decref(value);
    return status;
}
