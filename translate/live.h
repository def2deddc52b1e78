/* translate/live.h: the sequences of one request while they run: submitted together, counted down, and, when somebody
 * wants to read along, the tokens that are certain so far.
 *
 * Threads: the device thread writes, one reader reads. Told tokens are written in order and counted after that, so the
 * reader needs no lock: it looks at what it counts. */
#pragma once
#include "engine/engine.h"
#include "tokenizer/detokenizer.h"
#include "translate/translator.h"

typedef struct t5_live t5_live;

typedef struct {
    t5_sequence seq; /* the owner fills all but on_done, on_tokens and ctx */
    bool is_held;    /* the owner's: nothing is told of it before it is over */
    t5_live *live;
    int32_t *told;       /* tokens behind the prompt, [seq.decoding.max_new_tokens]; NULL: nobody reads along */
    atomic_int n_told;   /* those that are written */
    atomic_bool is_over; /* seq has its results, or its error */
} t5_live_sequence;

/* Zeroed, then the callbacks set by the owner. */
struct t5_live {
    void (*on_progress)(void *ctx); /* NULL: nobody reads along. Some sequence has told something, or is over */
    void (*on_done)(void *ctx);     /* all are over; after that no callback comes, and the owner may free everything */
    void *ctx; /* both on a device's thread, maybe on several at once, or on the text thread: must be short */
    /* NULL: what a sequence ends with is its result. Else it is asked about each one that ends without an error, on a
     * device's thread; true takes the sequence over, which is not over before t5_live_end(). */
    bool (*takes)(t5_live_sequence *s, void *takes_ctx);
    void *takes_ctx;
    /* NULL: each one runs to its end. Else asked about the next tokens that the first result is certain to have behind
     * its prompt, on a device's thread, of each sequence that is not held; true ends it with its next step. */
    bool (*is_enough)(t5_live_sequence *s, const int32_t *ids, int32_t n_ids);
    atomic_int n_left;
    int32_t *told; /* of all sequences */
};

/* Submits all or none; seqs is only used during the call. With none on_done is called at once. Errors as of
 * t5_engine_submit_all(). Release with t5_live_deinit(), also after an error. */
t5_status t5_live_submit(t5_live *live, t5_engine *engine, t5_live_sequence **seqs, int32_t n_seqs, t5_error *err);
void t5_live_deinit(t5_live *live); /* accepts a zeroed one */
/* Ends a sequence that was taken over; the last one may free them all. Any thread but a device's. */
void t5_live_end(t5_live_sequence *s);

/* Adds the tokens of a sequence that is over. */
void t5_usage_add(t5_usage *usage, const t5_sequence *seq);

/* The text of one sequence's first result, as far as it is certain. */
typedef struct {
    t5_detokenizer detokenizer;
    int32_t n_read; /* tokens, forced prompt included */
} t5_live_reader;

void t5_live_reader_init(t5_live_reader *r, const t5_tokenizer *tokenizer);
void t5_live_reader_deinit(t5_live_reader *r); /* accepts a zeroed one */
/* Appends to `out` what is new since the last call. *out_is_over: that was all; it never is for one that failed. */
t5_status t5_live_read(t5_live_reader *r, t5_live_sequence *s, t5_buffer *out, bool *out_is_over, t5_error *err);
