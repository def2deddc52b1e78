/* server/stream.h: an answer that is sent while it is made, as server-sent events (WHATWG HTML, 9.2).
 *
 *   t5_stream_create() -> start the work, with t5_stream_progress and t5_stream_done as its callbacks
 *   -> t5_stream_answer() -> (HTTP thread, when the client can take more: ops->read) -> ops->finish
 *
 * libmicrohttpd asks for bytes when the client has room for them. While there are none the connection is suspended, and
 * the work's callbacks wake it up. So a slow reader holds up nobody, and what waits for it is what the work keeps
 * anyway. When the client leaves, ops->cancel is called; the work and its state live until it has said that it is done.
 */
#pragma once
#include "base/buffer.h"
#include "server/http.h"
#include "translate/translator.h"

struct json_t;
typedef struct t5_stream t5_stream;

/* `work` is the state that the stream was created with. read and finish are called by the HTTP thread. */
typedef struct {
    /* Appends events for what is certain by now and was not told before. An error ends the stream. */
    t5_status (*read)(void *work, t5_buffer *events, t5_error *err);
    /* After done, once: appends the last event. */
    t5_status (*finish)(void *work, t5_exchange *x, t5_buffer *events, t5_error *err);
    void (*cancel)(void *work);  /* any thread, under a lock: must be short */
    void (*destroy)(void *work); /* nobody uses it any more; on whichever thread was the last */
} t5_stream_ops;

/* Takes over `work`, unless it returns NULL: out of memory. One stream an exchange. */
t5_stream *t5_stream_create(t5_exchange *x, const t5_stream_ops *ops, void *work);
/* The work could not start: its callbacks will not come. The exchange is still to be answered. */
void t5_stream_abandon(t5_stream *s);
/* The work has started: answers the exchange. */
void t5_stream_answer(t5_stream *s);
/* For the exchange's release; cancels what still runs. Accepts NULL. */
void t5_stream_release(t5_stream *s);
void t5_stream_cancel(t5_stream *s); /* for the route's cancel */

/* The work's callbacks, with the stream as their context. Any thread; nothing comes after done. */
void t5_stream_progress(void *stream);
void t5_stream_done(void *stream);

/* Appends a piece of text: {"text":..}, with its index when there are several texts. */
t5_status t5_stream_piece(t5_buffer *events, const t5_piece *piece, bool has_index, t5_error *err);
/* {"source_tokens":..,"target_tokens":..}; NULL when out of memory. */
struct json_t *t5_stream_usage(const t5_usage *usage);
/* Appends "data: VALUE", or with a name "event: NAME" before it. Steals `value`; T5_ERR_NOMEM also when it is NULL. */
t5_status t5_stream_event(t5_buffer *events, const char *name, struct json_t *value, t5_error *err);
