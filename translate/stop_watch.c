/* translate/stop_watch.c: see stop_watch.h. */
#include "translate/stop_watch.h"

void t5_stop_watch_init(t5_stop_watch *w, const t5_stops *stops, const t5_tokenizer *tokenizer)
{
    *w = (t5_stop_watch){.stops = stops};
    t5_detokenizer_init(&w->certain, tokenizer);
}

void t5_stop_watch_deinit(t5_stop_watch *w)
{
    t5_detokenizer_deinit(&w->certain);
    t5_buffer_deinit(&w->text.held);
}

bool t5_stop_watch_add(t5_stop_watch *w, const int32_t *ids, int32_t n_ids)
{
    t5_error ignored = {0};
    t5_buffer piece = {0};
    size_t n_bytes = 0;
    if (w->is_lost) return w->text.is_stopped;
    t5_status status = t5_detokenizer_add(&w->certain, ids, n_ids, false, &piece, &ignored);
    if (status == T5_OK) status = t5_stops_tell(w->stops, &w->text, piece.bytes, piece.n_bytes, &n_bytes, &ignored);
    if (status == T5_OK) t5_told_text_drop(&w->text, n_bytes);
    w->is_lost = status != T5_OK;
    t5_buffer_deinit(&piece);
    return w->text.is_stopped;
}
