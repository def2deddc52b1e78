/* model/batch_internal.h: what the files of the running batch share: batch.c (memory), batch_request.c (admission,
 * results, release), batch_step.c (encode, step) and batch_probe.c (for tests). Nobody else includes it. */
#pragma once
#include "base/assert.h"
#include "model/batch.h"
#include "model/kv_cache.h"

/* What the host knows of a slot besides the mirror of its t5_slot. */
typedef struct {
    bool is_used;
    int32_t n_blocks_reserved; /* still to be taken */
} slot_info;

struct t5_batch {
    t5_model *model;
    t5_batch_limits limits;
    int32_t n_slots_max;

    t5_kv_cache cache;
    t5_kv_view kv;
    int32_t *self_blocks;  /* host mirror [n_rows_max][self_stride], -1: none */
    int32_t *cross_blocks; /* host mirror [n_slots_max][cross_stride] */
    void *dev_self_blocks, *dev_cross_blocks;

    t5_search_state state; /* [dev] arrays */
    t5_slot *slots;        /* host mirror */
    slot_info *infos;
    bool *row_used;
    int32_t *row_done;   /* host mirror */
    int32_t *fin_tokens; /* host copy of a done slot's results [n_rows_max][stride] */
    float *fin_logprobs;
    float *fin_scores;
    int32_t *fin_lens;
    int32_t n_running, n_rows_running;

    /* The encoder pass that is being gathered. */
    int32_t *enc_tokens, *enc_first, *enc_slots;
    int32_t enc_n_seqs, enc_n_tokens, enc_len_max;
    void *dev_enc_tokens, *dev_enc_first, *dev_enc_slots;

    /* The step that is being planned. */
    int32_t *q_row, *q_pos, *q_slot;
    t5_step_row *step_rows;
    void *dev_q_row, *dev_q_pos, *dev_q_slot, *dev_step_rows;

    t5_scratch scratch;
    float *logits; /* [dev] [n_rows_max][vocab_size] */
    size_t dev_bytes;
};

/* Copies host integers to backend memory. */
t5_status t5_batch_upload_ints(t5_batch *b, void *dst, const int32_t *src, int32_t n, t5_error *err);
/* Adds q_len queries of one row to the step that is being planned, beginning at the slot's n_computed. */
void t5_batch_plan_row(t5_batch *b, int32_t i_slot, int32_t row, int32_t q_len, t5_step *step);
/* An empty step over the batch's query arrays. */
t5_step t5_batch_step_init(t5_batch *b);
t5_status t5_batch_upload_step(t5_batch *b, const t5_step *step, t5_error *err);
