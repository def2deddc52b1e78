/* engine/engine.h: sequences in time. Any thread submits; for each device a thread owns the backend and runs the loop
 *
 *     admit from the queue -> encode what was admitted -> one decode step over all running slots -> retire what is done
 *
 * at step granularity: a finished slot is refilled before the next step, so no request waits for a stranger's longest
 * sentence. Several devices, each with the whole model, take from one queue; on which of them a sequence runs changes
 * nothing but the time.
 *
 * The queue is bounded; when it is full, submit answers T5_ERR_BUSY at once. It is fair between what was submitted
 * together (engine/queue.h). A sequence that does not fit yet holds back those whose turn comes later, so that none
 * starves; it reserves all that it may need when it is admitted, so that nothing runs out of memory half-way. */
#pragma once
#include "base/histogram.h"
#include "model/batch.h"

#include <stdatomic.h>

typedef struct t5_engine t5_engine;

typedef struct {
    int32_t n_rows_max, src_len_max, tgt_len_max, enc_tokens_max, kv_tokens; /* of a device, see t5_batch_limits */
    int32_t queue_depth_max;                                                 /* sequences that wait, for all devices */
} t5_engine_options;

/* One result; owned by its sequence. */
typedef struct {
    int32_t n_ids;
    int32_t *ids;
    float *logprobs; /* NULL unless asked for */
    /* NULL unless asked for. Index into input_ids of the source token that each id belongs to; -1 for a forced prompt,
     * for eos, and for all when no source token may be chosen. */
    int32_t *alignment;
    float score;
    bool is_truncated;
} t5_output;

/* One source with its decoding options. The caller allocates it, fills the first part and keeps it alive until on_done.
 */
typedef struct t5_sequence t5_sequence;
struct t5_sequence {
    int32_t *input_ids; /* borrowed until on_done */
    int32_t n_input_ids;
    int32_t *prompt_ids; /* borrowed; forced start of the target, or the whole target when is_score */
    int32_t n_prompt_ids;
    t5_decoding decoding;
    int32_t vocab_live, shortlist; /* see t5_batch_request */
    bool is_score, wants_logprobs;
    /* Belongs to a request that was accepted before: neither a full queue nor a long one refuses it, so that what a
     * request gets does not depend on who else waits. One group of a request at a time bounds them. */
    bool is_again;
    /* Outputs have an `alignment` (of is_score: of the given target). It costs the sequence itself one more decoder
     * pass for every eight tokens after its search, and others nothing. Source tokens align_begin .. align_end - 1 may
     * be chosen, so that a prompt of the source can be left out; align_end 0: all but an eos at the end. */
    bool wants_alignment;
    int32_t align_begin, align_end;
    int64_t deadline_ms; /* t5_clock_ms() after which it is given up with T5_ERR_TIMEOUT; 0: none */
    /* NULL: not wanted. On a device's thread after a step, before on_done: the next tokens that outputs[0] is certain
     * to have behind its prompt. The rest of them is told by on_done alone. Must be short; ids are borrowed. False: no
     * more are wanted; the sequence ends with its next step, as max_new_tokens would end it. */
    bool (*on_tokens)(t5_sequence *seq, const int32_t *ids, int32_t n_ids, void *ctx);
    /* Called once, on a device's thread (or in t5_engine_destroy), for several sequences at once when there are several
     * devices: must be short and must not call the engine. */
    void (*on_done)(t5_sequence *seq, void *ctx);
    void *ctx;
    atomic_bool is_cancelled; /* any thread: given up with T5_ERR_TIMEOUT before the next step */

    /* Results, valid from on_done on; free with t5_sequence_deinit(). */
    t5_error error; /* status T5_OK: outputs hold the results */
    t5_output *outputs;
    int32_t n_outputs;
    int64_t submitted_ns, started_ns, encoded_ns, finished_ns;

    /* The engine's own. */
    t5_sequence *next;
    t5_sequence *group_prev, *group_next; /* of the first that waits of those that were submitted together */
    int32_t slot;
    bool is_late; /* it ended because its deadline passed */
};

/* What each device's batch is made for. T5_ERR_ARG names an option out of its range. */
t5_status t5_engine_batch_limits(const t5_engine_options *options, t5_batch_limits *out, t5_error *err);
/* Takes over the use of the models' backends (all of which must outlive the engine), one model on each device, and
 * starts a thread for each. 1 to T5_DEVICES_MAX models. Checks the options as t5_engine_batch_limits(). */
t5_status t5_engine_create(t5_model *const *models, int32_t n_models, const t5_engine_options *options, t5_engine **out,
                           t5_error *err);
/* Finishes nothing more: waiting and running sequences end with T5_ERR_BUSY. Joins the threads. Accepts NULL. */
void t5_engine_destroy(t5_engine *e);
/* T5_ERR_ARG: the sequence cannot run (too long, bad option); T5_ERR_BUSY: the queue is full, or so long that the
 * deadline would pass (is_again: never), or the engine is stopping; T5_ERR_DEVICE: a device is lost. On T5_OK on_done
 * will be called. Any thread but a device's.
 *
 * With a long queue err->retry_after_s says when what waits now will have been taken up, from the measured speed: 1 to
 * 60 seconds. */
t5_status t5_engine_submit(t5_engine *e, t5_sequence *seq, t5_error *err);
/* All or none: a request's sequences enter together, so that a half-accepted request is never computed in vain. */
t5_status t5_engine_submit_all(t5_engine *e, t5_sequence **seqs, int32_t n_seqs, t5_error *err);
void t5_sequence_deinit(t5_sequence *seq); /* frees the results */

/* T5_ERR_BUSY when not one more sequence with that deadline (0: none) is taken now, which counts as a rejected one: to
 * refuse a request before it is prepared in vain. Under overload most requests end here. Any thread. */
t5_status t5_engine_check_room(t5_engine *e, int64_t deadline_ms, t5_error *err);

/* See t5_batch_rows_fair(). */
int32_t t5_engine_rows_fair(const t5_engine *e, int32_t n_input_ids, int32_t n_prompt_ids, int32_t n_new_tokens);

/* A snapshot of counters since start and gauges of now. Any thread. */
typedef struct {
    int64_t n_sequences; /* accepted */
    int64_t n_failed;    /* of these, ended by an error other than the next two */
    int64_t n_cancelled; /* of these, given up because the client left */
    int64_t n_late;      /* of these, given up because their deadline passed */
    int64_t n_nonfinite; /* of the failed ones, those that the model gave no numbers: see t5_batch_outcome() */
    int64_t n_rejected;  /* not accepted: queue full, stopping, device lost */
    int64_t n_source_tokens, n_target_tokens;
    t5_histogram_counts queue_wait_ns; /* from submission to a place in the batch, one per sequence */
    t5_histogram_counts encode_ns;     /* one per encoder pass */
    t5_histogram_counts step_ns;       /* one per decode step */
    t5_histogram_counts decode_ns;     /* from the encoder's output to the result, one per sequence with a result */
    t5_histogram_counts step_rows;     /* hypotheses that a decode step moved on */
    int32_t queue_depth, n_running, n_rows_running;
    t5_kv_usage kv;         /* blocks of T5_KV_BLOCK positions */
    t5_batch_memory memory; /* of all devices; constant */
    int32_t n_devices;
    /* A device failed. What ran on it ended with T5_ERR_DEVICE; what others can still do they finish; nothing more is
     * accepted, since only a new process can use the device again. */
    bool is_lost;
} t5_engine_stats;
void t5_engine_stats_get(t5_engine *e, t5_engine_stats *out);
/* Adds those of another engine; their devices are the same ones. */
void t5_engine_stats_add(t5_engine_stats *sum, const t5_engine_stats *stats);
