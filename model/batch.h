/* model/batch.h: the running batch: slots, rows and KV blocks of the sequences that are decoded together, and one step
 * over all of them. All memory is taken at create. One thread, the backend's owner, calls these.
 *
 *   admit (reserve a slot, rows and blocks) -> encode (one packed pass for all that were admitted)
 *   -> step ... -> slot done -> read results -> release (the slot is free for the next) */
#pragma once
#include "model/model.h"

T5_C_BEGIN

typedef struct {
    int32_t n_rows_max;     /* hypotheses that are decoded together; at least T5_BEAMS_MAX */
    int32_t src_len_max;    /* tokens of one source */
    int32_t tgt_len_max;    /* tokens of one target, start token included */
    int32_t enc_tokens_max; /* tokens of one packed encoder pass; at least src_len_max */
    int32_t kv_tokens;      /* positions in the KV cache; 0: enough for a typical load, see batch.c */
} t5_batch_limits;

typedef struct t5_batch t5_batch;

/* What to run. Ids are borrowed for the call. */
typedef struct {
    const int32_t *input_ids; /* source, eos included */
    int32_t n_input_ids;
    const int32_t *prompt_ids; /* forced start of the target, without the start token; score: the whole target */
    int32_t n_prompt_ids;
    const t5_decoding *decoding; /* NULL in score mode */
    int32_t vocab_live;          /* see t5_slot; 0: no limit */
    int32_t shortlist;           /* of t5_model_add_shortlist(); 0, and always in score mode: the whole vocabulary */
    bool is_score;
    bool wants_logprobs; /* greedy and sampling: log-probabilities as well */
    bool wants_stream;   /* t5_batch_take_stable() is called after each step */
    /* Results say to which source token each of theirs belongs. Source tokens align_begin .. align_end - 1 may be
     * chosen; align_end 0: all but an eos at the end. Costs nothing until the search is done, then a pass of the
     * decoder without its head for each T5_QUERY_LEN_MAX tokens. */
    bool wants_alignment;
    int32_t align_begin, align_end;
} t5_batch_request;

/* One result. Ids exclude the start token; a forced prompt is included; eos is included when it was generated. */
typedef struct {
    int32_t n_ids;
    const int32_t *ids;    /* [n_ids], valid until the slot is released */
    const float *logprobs; /* [n_ids] log-probability of each token; 0 for a forced prompt, or when not asked for */
    /* Sum / n_new^length_penalty, n_new without the prompt; score mode: the sum. T5_SCORE_NONE when some step had every
     * token banned, and the sum is -inf. */
    float score;
    bool is_truncated; /* ended by max_new_tokens, not by eos */
    /* [n_ids] index into input_ids of each token, NULL unless wanted. -1: a token of a forced prompt, eos, or no source
     * token may be chosen. In score mode the given target is aligned. */
    const int32_t *alignment;
} t5_batch_result;

t5_status t5_batch_create(t5_model *model, const t5_batch_limits *limits, t5_batch **out, t5_error *err);
void t5_batch_destroy(t5_batch *b); /* accepts NULL */

/* Runs and records the steps of the sizes that a device records, so that the first requests find them.
 * Before the first admission. */
t5_status t5_batch_warm_up(t5_batch *b, t5_error *err);

/* Checks a request against the limits: lengths, ids inside the vocabulary, options. T5_ERR_ARG names what is wrong.
 * Does not change the batch: any thread. */
t5_status t5_batch_check(const t5_batch *b, const t5_batch_request *request, t5_error *err);
/* Rows that one sequence may take and leave room to others: what half of an empty batch, of its rows and of the cache,
 * has room for, each of up to n_new_tokens behind a prompt. Maybe 0 or less. Any thread. */
int32_t t5_batch_rows_fair(const t5_batch *b, int32_t n_input_ids, int32_t n_prompt_ids, int32_t n_new_tokens);
/* True when t5_batch_admit() would not answer T5_ERR_BUSY. Changes nothing; cheap. */
bool t5_batch_fits(const t5_batch *b, const t5_batch_request *request);
/* Takes a slot, rows and blocks. T5_ERR_BUSY when they do not fit right now, or when the encoder pass that is being
 * gathered is full; the request must have passed t5_batch_check(). *out_slot stays valid until release. */
t5_status t5_batch_admit(t5_batch *b, const t5_batch_request *request, int32_t *out_slot, t5_error *err);
/* Encodes what was admitted since the last call. Nothing to do is fine. */
t5_status t5_batch_encode(t5_batch *b, t5_error *err);
/* One decode step over all running slots. */
t5_status t5_batch_step(t5_batch *b, t5_error *err);
/* Tokens behind the forced prompt that the first result is now certain to have, whatever comes: those since the last
 * call, at most T5_STABLE_MAX a step. *out_ids is valid until the next step. 0 once the slot is done: the rest is in
 * its result. Call after each step; a device that runs behind the host tells a step late. */
int32_t t5_batch_take_stable(t5_batch *b, int32_t slot, const int32_t **out_ids);
/* Nobody wants more tokens of a slot that runs: it ends with the next step that it has, as max_new_tokens would end it.
 * What was stable stays. Results, their scores and alignments are those of a search that was as long; but one with
 * early_stopping "never" and a length_penalty above 0 hoped, up to the cut, for what it could reach with
 * max_new_tokens, and so may have gone on where a shorter one would have ended. */
t5_status t5_batch_cut(t5_batch *b, int32_t slot, t5_error *err);
bool t5_batch_is_done(const t5_batch *b, int32_t slot);
/* T5_OK when a slot that is done has results; T5_ERR_FORMAT when the model gave it no numbers. */
t5_status t5_batch_outcome(const t5_batch *b, int32_t slot, t5_error *err);
/* Number of results of a slot that is done. */
int32_t t5_batch_n_results(const t5_batch *b, int32_t slot);
/* Result `i`, best first. */
void t5_batch_result_get(const t5_batch *b, int32_t slot, int32_t i, t5_batch_result *out);
/* Frees the slot, whether done or not (a client left). */
void t5_batch_release(t5_batch *b, int32_t slot);

int64_t t5_batch_n_nonfinite(const t5_batch *b);    /* slots so far that the model gave no numbers */
int32_t t5_batch_n_running(const t5_batch *b);      /* slots */
int32_t t5_batch_n_rows_running(const t5_batch *b); /* rows */

/* Bytes by what they are for, all taken at create: the model's weights, the KV cache, what a pass and the search work
 * with in backend memory, and the host's own. */
typedef struct {
    size_t weights, kv, scratch, host;
} t5_batch_memory;
t5_batch_memory t5_batch_memory_of(const t5_batch *b);
/* Bytes of a block of the KV cache for this model with activations of that type. */
size_t t5_kv_block_bytes(const t5_hparams *hp, t5_dtype act_dtype);

/* Blocks of the KV cache. What is reserved is promised to running sequences; what is used of it holds keys and values.
 */
typedef struct {
    int32_t n_blocks, n_reserved, n_used;
} t5_kv_usage;
t5_kv_usage t5_batch_kv_usage(const t5_batch *b);

/* For tests: encoder states of `input_ids` [n, d_model] and teacher-forced logits [n_decoder_ids, vocab_size] in
 * float32. The batch must be idle. */
t5_status t5_batch_probe(t5_batch *b, const int32_t *input_ids, int32_t n, const int32_t *decoder_ids,
                         int32_t n_decoder_ids, float *out_encoder, float *out_logits, t5_error *err);

T5_C_END
