/* model/search.h: the search over running sequences, step by step, exactly as Hugging Face's generate() does it
 * (transformers 4.57, generation/utils.py: _sample and _beam_search; logits_process.py for the processors).
 *
 * All state is plain data in backend memory, the same bytes on CPU and GPU: one t5_slot per running sequence and arrays
 * indexed by row. A slot owns the rows row0 .. row0 + n_rows - 1, one per hypothesis. search.c is the definition; a GPU
 * kernel that does the same is compared with it.
 *
 * Beam search never moves the KV cache. A row writes position t of the cache once, into its own blocks.
 * `ancestors[row][t]` says which sibling (0 .. n_rows - 1) wrote position t of what the row now stands for; reordering
 * permutes these bytes. */
#pragma once
#include "base/limits.h"
#include "model/decoding.h"
#include <stddef.h>

T5_C_BEGIN

#define T5_SCORE_NONE (-1e9f) /* of a hypothesis that does not exist (transformers: beam_scores = -1e9) */

typedef enum {
    T5_SEARCH_GREEDY,
    T5_SEARCH_BEAM,
    T5_SEARCH_SAMPLE, /* n_rows independent samples of one source */
    T5_SEARCH_SCORE,  /* the tokens are given; only their log-probabilities are wanted */
} t5_search_mode;

typedef enum { T5_SLOT_FREE, T5_SLOT_RUNNING, T5_SLOT_DONE } t5_slot_phase;

typedef struct {
    /* Set at admission. */
    int32_t mode; /* t5_search_mode */
    int32_t row0, n_rows;
    int32_t n_prompt; /* tokens given at the start, start token included; in score mode all tokens */
    int32_t len_max;  /* n_prompt + max_new_tokens: tokens in a row, prompt included, at most */
    int32_t min_new_tokens;
    int32_t early_stopping; /* t5_early_stopping */
    int32_t no_repeat_ngram_size;
    int32_t top_k;
    int32_t eos_id;
    int32_t vocab_live;     /* tokens at and above are never chosen (rows without a piece); vocab_size: no limit */
    int32_t wants_logprobs; /* greedy and sampling: compute log-probabilities too */
    int32_t n_suppress;
    int32_t suppress_tokens[T5_SUPPRESS_MAX];
    float length_penalty, repetition_penalty, temperature, top_p;
    uint64_t seed;
    int32_t src_len;      /* tokens of the source: positions of its cross-attention cache */
    int32_t shortlist;    /* number of the list it chooses from, from 1 on; 0: the whole vocabulary */
    int32_t wants_stream; /* the two last fields are wanted */
    /* Progress: written by the search. */
    int32_t len;        /* tokens in each running row, prompt included */
    int32_t n_computed; /* positions of each row that are in the KV cache */
    int32_t n_finished; /* results in fin_*: beams that ended; greedy and sampling: rows that ended */
    int32_t phase;      /* t5_slot_phase */
    int32_t is_broken;  /* done without results: its scores were no numbers */
    /* Streaming. Every hypothesis that may still be returned first shares its first n_stable tokens, prompt included;
     * the number never shrinks, and starts as n_prompt. It grows by at most T5_STABLE_MAX in a step, whose tokens these
     * are; what is left when the slot is done is in its result. */
    int32_t n_stable;
    int32_t stable[T5_STABLE_MAX];
} t5_slot;

/* A candidate continuation of one row. */
typedef struct {
    float score; /* running sum of log-probabilities, this token included */
    int32_t token;
    int32_t beam;  /* parent row, relative to row0 */
    float logprob; /* of this token alone, processed */
} t5_candidate;

/* Words that a sequence chooses from, if not from all: no logits of others are computed, as if they were -inf. A row's
 * logits are then those of the list's words, in its order. */
typedef struct {
    int32_t n;
    const int32_t *ids; /* [n] rising; eos is among them */
} t5_shortlist;

/* The arrays of a running batch; each pointer is backend memory. `stride` is the longest row, prompt included. */
typedef struct {
    int32_t n_slots_max, n_rows_max, stride;
    t5_slot *slots;     /* [n_slots_max] */
    int32_t *tokens;    /* [n_rows_max][stride] history, start token first */
    float *logprobs;    /* [n_rows_max][stride] of each token; 0 for the prompt */
    uint8_t *ancestors; /* [n_rows_max][stride] */
    float *scores;      /* [n_rows_max] running sum */
    int32_t *row_done;  /* [n_rows_max] sampling and greedy: the row has ended */
    /* Results of slot s in rows row0 ..: best first when the slot is done. */
    int32_t *fin_tokens; /* [n_rows_max][stride], prompt included */
    float *fin_logprobs; /* [n_rows_max][stride] */
    float *fin_scores;   /* [n_rows_max] sum / length^length_penalty */
    int32_t *fin_lens;   /* [n_rows_max] tokens, prompt included */
    /* Scratch. */
    t5_candidate *candidates;       /* [n_rows_max][2 * T5_BEAMS_MAX] each row's best continuations, best first */
    int32_t *swap_tokens;           /* [n_rows_max][stride] */
    float *swap_logprobs;           /* [n_rows_max][stride] */
    uint8_t *swap_ancestors;        /* [n_rows_max][stride] */
    const t5_shortlist *shortlists; /* list i is at i - 1; only where the backend has them, see backend.h */
} t5_search_state;

/* One row's part of a step: which logits belong to which row. `q0` is the first of the row's q_len queries. */
typedef struct {
    int32_t slot;
    int32_t row;   /* absolute */
    int32_t q0;    /* index of its first query in the step's logits */
    int32_t q_len; /* 1 to T5_QUERY_LEN_MAX; more than 1 while a prompt is read or a target is scored */
} t5_step_row;

/* What the search does over a whole vocabulary; the fast CPU backend has vector versions. x[n]. */
typedef struct {
    /* log(sum(exp(x))), exact to a few ulp; -inf when every x is. */
    float (*log_sum_exp)(const float *x, int32_t n);
    /* Index of the largest x, the lowest one among equals. */
    int32_t (*argmax)(const float *x, int32_t n);
    /* The k largest as (score, token), largest first, lower index first among equals; n_out = min(k, n). */
    int32_t (*top_k)(const float *x, int32_t n, int32_t k, t5_candidate *out);
} t5_vocab_ops;
extern const t5_vocab_ops t5_vocab_ops_plain;

/* Bytes of every array of `s` for its n_slots_max, n_rows_max and stride, in the order of the struct, so that whoever
 * has an allocator can fill the pointers: calls alloc(ctx, bytes) once per array. Returns false when one call returned
 * NULL. */
bool t5_search_state_alloc(t5_search_state *s, void *(*alloc)(void *ctx, size_t n_bytes), void *ctx);
void t5_search_state_free(t5_search_state *s, void (*release)(void *ctx, void *p), void *ctx);

/* What the search looks at of a row's logits in a step; for a backend that need not compute the rest. */
typedef enum {
    T5_LOGITS_NONE, /* nothing, or of a row whose prompt is still read */
    T5_LOGITS_BEST, /* of the last query the largest after t5_search_ban(); the others may be -inf */
    T5_LOGITS_ALL,
} t5_logits_wanted;
t5_logits_wanted t5_search_wants(const t5_search_state *s, const t5_step_row *row);
/* What t5_search_row() bans of the last query's logits x[n_logits]: they become -inf. */
void t5_search_ban(const t5_search_state *s, const t5_step_row *row, float *x, int32_t n_logits);

/* A model that overflows gives logits that are no numbers. Then the first half gives the row a candidate whose score is
 * NaN (score mode: a log-probability), and the second ends the slot as broken. When every word is banned its score is
 * -inf, and the search goes on.
 * Both halves leave rows and slots of -1 and slots that are not running alone.
 * First half of a step, for each row on its own (rows may run in parallel): applies the processors to the logits in
 * place and fills the row's candidates, or, in score mode, the log-probabilities. logits: [n_queries][n_logits], those
 * of the vocabulary or of the slot's shortlist. `scratch` is n_logits candidates that only sampling uses; each thread
 * has its own. */
void t5_search_row(t5_search_state *s, const t5_step_row *row, float *logits, int32_t n_logits, const t5_vocab_ops *ops,
                   t5_candidate *scratch);
/* Second half, for each slot on its own: chooses the continuations, reorders, finishes. `n_rows` rows took part.
 * Advances len and n_computed; sets phase to T5_SLOT_DONE and sorts the results when nothing is left to do. */
void t5_search_slot(t5_search_state *s, int32_t i_slot, const t5_step_row *rows, int32_t n_rows);
/* The second half for every slot of a step's rows; rows of a slot stand side by side. */
void t5_search_slots(t5_search_state *s, const t5_step_row *rows, int32_t n_rows);

T5_C_END
