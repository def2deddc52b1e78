/* model/batch_internal.h: what the files of the running batch share: batch.c (memory), batch_request.c (admission,
 * results, release), batch_step.c (encode, step), batch_align.c (alignments) and batch_probe.c (for tests). Nobody else
 * includes it. */
#pragma once
#include "base/assert.h"
#include "model/batch.h"
#include "model/kv_cache.h"

/* What the host knows of a slot besides the mirror of its t5_slot. */
typedef struct {
    bool is_used;
    bool is_encoding;          /* its encoder pass is queued but not done */
    int32_t n_blocks_reserved; /* still to be taken */
    int64_t born;              /* n_steps at admission: outcomes of steps up to that one are not this slot's */
    int32_t n_fresh;           /* of the mirror's `stable`: came with the last outcome and were not taken */

    int32_t n_align_results; /* results that are to be aligned, at most; 0: not wanted */
    int32_t align_begin, align_end;
    bool is_aligning;     /* the search is done, the alignment is not */
    int32_t n_align_left; /* queries whose outcome was not read yet */
} slot_info;

/* Queries of all alignments in one step, at most. */
#define T5_ALIGN_QUERIES_MAX 64

/* Queries pos .. pos + q_len - 1 of a row in an alignment pass. */
typedef struct {
    int32_t slot, row, pos, q_len;
    int32_t q0; /* index of the first in the pass */
} align_part;

/* What the host reads back of one step. */
typedef struct {
    t5_slot *slots;    /* [n_slots_max] */
    int32_t *row_done; /* [n_rows_max] */

    float *align_weights; /* [T5_ALIGN_QUERIES_MAX][weights_stride] of the parts' queries */
    align_part align_parts[T5_ALIGN_QUERIES_MAX];
    int32_t n_align_parts;
} step_outcome;

struct t5_batch {
    t5_model *model;
    t5_batch_limits limits;
    int32_t n_slots_max;

    t5_kv_cache cache;
    t5_kv_view kv;
    int32_t *cross_blocks; /* host mirror [n_slots_max][cross_stride], -1: none */
    void *dev_cross_blocks;

    t5_search_state state; /* [dev] arrays */
    t5_slot
        *slots; /* host mirror: len and n_computed as they are after the steps that are queued, phase as last read */
    slot_info *infos;
    bool *row_used;
    int32_t *row_done;   /* host mirror */
    int32_t *fin_tokens; /* host copy of a done slot's results [n_rows_max][stride] */
    float *fin_logprobs;
    float *fin_scores;
    int32_t *fin_lens;
    int32_t *fin_alignment; /* [n_rows_max][stride] */
    int32_t n_running, n_rows_running;
    int64_t n_nonfinite;

    /* The encoder pass that is being gathered. */
    int32_t *enc_tokens, *enc_first, *enc_slots;
    int32_t enc_n_seqs, enc_n_tokens, enc_len_max;
    void *dev_enc_tokens, *dev_enc_first, *dev_enc_slots;

    t5_error late_error; /* came up where it could not be returned: the next admission or step does */
    int32_t n_encoding;  /* slots whose encoder pass is queued but not done */

    /* The step that is being planned: one block of memory, so that it goes up in one copy. The pointers lead into it.
     */
    int32_t *plan;
    void *dev_plan;
    size_t plan_bytes;
    int32_t *q_row, *q_pos, *q_slot; /* [n_rows_max] */
    t5_step_row *step_rows;          /* [n_rows_max] */
    t5_step_group *groups;           /* [n_rows_max] the host's alone */
    int32_t *self_blocks;            /* [n_rows_max][self_stride], -1: none */
    t5_step dev_step;                /* the same as [dev] pointers */

    int64_t n_steps, n_steps_read; /* steps that were queued; whose outcome was read. At most one apart after a step. */
    step_outcome outcomes[2];      /* of step i at i % 2 */

    int32_t n_aligning;          /* slots that are */
    int32_t *align_next;         /* [n_rows_max] of a result that is aligned: its first position that no pass has */
    t5_search_state align_state; /* as `state`, but rows are results */
    float *align_weights;        /* [dev] [T5_ALIGN_QUERIES_MAX][weights_stride] */
    int32_t weights_stride;      /* positions of the longest source, whole blocks */

    t5_batch_memory memory; /* weights are the backend's to count */
    t5_scratch scratch, enc_scratch;
    float *logits; /* [dev] [n_rows_max][vocab_size] */
};

static inline const t5_async_ops *t5_batch_async(const t5_batch *b)
{
    return b->model->backend->ops->async;
}

/* Copies host integers to backend memory. */
t5_status t5_batch_upload_ints(t5_batch *b, void *dst, const int32_t *src, int32_t n, t5_error *err);
/* Looks whether the queued encoder pass is done; with `waits`, or when it failed, it is afterwards. */
t5_status t5_batch_poll_encoder(t5_batch *b, bool waits, t5_error *err);
/* Returns the late error, once. */
t5_status t5_batch_late_error(t5_batch *b, t5_error *err);
/* Adds q_len queries of one row to the step that is being planned, beginning at position `pos`. */
void t5_batch_plan_row(t5_batch *b, int32_t i_slot, int32_t row, int32_t pos, int32_t q_len, t5_step *step);
/* Brings the plan to backend memory. */
t5_status t5_batch_upload_plan(t5_batch *b, t5_error *err);

/* The results of a slot were read and are to be aligned. */
t5_status t5_batch_start_alignment(t5_batch *b, int32_t i_slot, t5_error *err);
/* Queues the next pass over the results that are being aligned; `outcome` is that of the step it belongs to. The plan
 * of the step itself must be in backend memory: the pass has one of its own. *out_is_queued: there was something to do.
 */
t5_status t5_batch_queue_alignment(t5_batch *b, step_outcome *outcome, bool *out_is_queued, t5_error *err);
/* Reads what a pass found. */
void t5_batch_read_alignment(t5_batch *b, const step_outcome *outcome);
