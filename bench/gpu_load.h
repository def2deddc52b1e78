/* bench/gpu_load.h: the loads that the GPU benchmarks share: sources of random ids in a running batch, timed decode
 * steps, and what a step must move and compute, from the model's shape. No server, queue or tokenizer. One thread. */
#pragma once
#include "model/batch.h"

T5_C_BEGIN

enum { GPU_LOAD_SRC_MAX = 128, GPU_LOAD_TGT_MAX = 176, GPU_LOAD_ROWS_MAX = 256 };

typedef struct {
    t5_model *model;
    t5_batch *batch;
    bool is_quick; /* two steps instead of 128: a rehearsal */
    int32_t slots[GPU_LOAD_ROWS_MAX];
    int32_t n_slots; /* in use */
} gpu_load;

/* The model on `backend`, which must outlive the load, and a batch for n_rows_max rows; close in any case. */
t5_status gpu_load_open(gpu_load *load, const char *model_dir, t5_backend *backend, int32_t n_rows_max, bool is_quick,
                        t5_error *err);
void gpu_load_close(gpu_load *load);

/* Adds one source of src_len tokens that will get exactly new_tokens. */
t5_status gpu_load_admit(gpu_load *load, int32_t src_len, int32_t num_beams, int32_t new_tokens, t5_error *err);
/* Adds n of them and encodes. */
t5_status gpu_load_admit_all(gpu_load *load, int32_t n, int32_t src_len, int32_t num_beams, int32_t new_tokens,
                             t5_error *err);
/* Releases all slots, done or not. */
void gpu_load_release(gpu_load *load);

/* What steps of n_sources * num_beams rows took, averaged over many in a row, and what each had to do. */
typedef struct {
    int32_t n_sources, num_beams;
    double ms;
    double bytes; /* weights and the cache's keys and values once, logits written and read */
    double flops;
} gpu_step_time;
t5_status gpu_load_time_steps(gpu_load *load, int32_t n_sources, int32_t num_beams, gpu_step_time *out, t5_error *err);

/* Floating-point operations of an encoder pass over n_sources of src_len tokens, cross keys and values included. */
double gpu_encoder_flops(const t5_hparams *hp, int32_t n_sources, int32_t src_len);

T5_C_END
