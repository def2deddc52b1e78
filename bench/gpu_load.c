/* bench/gpu_load.c: see gpu_load.h. */
#include "bench/gpu_load.h"
#include "base/assert.h"
#include "base/clock.h"

#include <string.h>

enum { SRC_LEN = 32, WARM_STEPS = 8, STEPS = 128, QUICK_STEPS = 2, KV_TOKENS_A_ROW = 208 };

t5_status gpu_load_open(gpu_load *load, const char *model_dir, t5_backend *backend, int32_t n_rows_max, bool is_quick,
                        t5_error *err)
{
    T5_ASSERT(n_rows_max <= GPU_LOAD_ROWS_MAX);
    t5_status status = T5_OK;
    t5_batch_limits limits = {.n_rows_max = n_rows_max,
                              .src_len_max = GPU_LOAD_SRC_MAX,
                              .tgt_len_max = GPU_LOAD_TGT_MAX,
                              .enc_tokens_max = n_rows_max * 40,
                              .kv_tokens = n_rows_max * KV_TOKENS_A_ROW};
    *load = (gpu_load){.is_quick = is_quick};
    T5_TRY(t5_model_open(model_dir, backend, GPU_LOAD_SRC_MAX, GPU_LOAD_TGT_MAX, &load->model, err));
    T5_TRY(t5_batch_create(load->model, &limits, &load->batch, err));
    T5_TRY(backend->ops->sync(backend, err));
out:
    return status;
}

void gpu_load_close(gpu_load *load)
{
    t5_batch_destroy(load->batch);
    t5_model_close(load->model);
    *load = (gpu_load){0};
}

t5_status gpu_load_admit(gpu_load *load, int32_t src_len, int32_t num_beams, int32_t new_tokens, t5_error *err)
{
    int32_t ids[GPU_LOAD_SRC_MAX];
    t5_decoding decoding;
    const t5_hparams *hp = &load->model->hp;
    T5_ASSERT(src_len >= 1 && src_len <= GPU_LOAD_SRC_MAX && load->n_slots < GPU_LOAD_ROWS_MAX);
    t5_decoding_init(&decoding);
    decoding.num_beams = num_beams;
    decoding.max_new_tokens = new_tokens;
    decoding.min_new_tokens = new_tokens;
    int32_t n_choices = hp->vocab_size > 300 ? hp->vocab_size - 200 : hp->vocab_size - 3;
    for (int32_t i = 0; i < src_len; i++)
        ids[i] = 3 + (i * 7919 + load->n_slots * 104729) % n_choices;
    ids[src_len - 1] = hp->eos_id;
    t5_batch_request request = {.input_ids = ids, .n_input_ids = src_len, .decoding = &decoding};
    t5_status status = t5_batch_admit(load->batch, &request, &load->slots[load->n_slots], err);
    if (status == T5_OK) load->n_slots++;
    return status;
}

t5_status gpu_load_admit_all(gpu_load *load, int32_t n, int32_t src_len, int32_t num_beams, int32_t new_tokens,
                             t5_error *err)
{
    t5_status status = T5_OK;
    for (int32_t i = 0; i < n; i++)
        T5_TRY(gpu_load_admit(load, src_len, num_beams, new_tokens, err));
    T5_TRY(t5_batch_encode(load->batch, err));
out:
    return status;
}

void gpu_load_release(gpu_load *load)
{
    for (int32_t i = 0; i < load->n_slots; i++)
        t5_batch_release(load->batch, load->slots[i]);
    load->n_slots = 0;
}

/* Elements of the weights that a decode step reads. */
static double decoder_weights(const t5_hparams *hp)
{
    double d = hp->d_model, inner = (double)hp->n_heads * hp->d_kv, ff = (double)hp->d_ff * (hp->is_gated ? 3 : 2);
    return hp->n_dec_layers * (6 * inner * d + ff * d) + (double)hp->vocab_size * d;
}

static void count_step(const t5_hparams *hp, double activation_bytes, double n_positions, gpu_step_time *io)
{
    double rows = (double)io->n_sources * io->num_beams, inner = (double)hp->n_heads * hp->d_kv;
    double keys = hp->n_dec_layers * inner * (rows * n_positions + (double)io->n_sources * SRC_LEN);
    io->bytes = activation_bytes * (decoder_weights(hp) + 2 * keys) + 8 * rows * hp->vocab_size;
    io->flops =
        rows * (2 * decoder_weights(hp) + 4 * inner * hp->n_dec_layers * (n_positions + SRC_LEN)); /* q k and w v */
}

t5_status gpu_load_time_steps(gpu_load *load, int32_t n_sources, int32_t num_beams, gpu_step_time *out, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t n_steps = load->is_quick ? QUICK_STEPS : STEPS, n_warm = load->is_quick ? 3 : WARM_STEPS;
    t5_backend *backend = load->model->backend;
    *out = (gpu_step_time){.n_sources = n_sources, .num_beams = num_beams};
    T5_TRY(gpu_load_admit_all(load, n_sources, SRC_LEN, num_beams, n_warm + n_steps + 8, err));
    for (int32_t i = 0; i < n_warm; i++) /* the second records the graph */
        T5_TRY(t5_batch_step(load->batch, err));
    T5_TRY(backend->ops->sync(backend, err));
    int64_t start_ns = t5_clock_ns();
    for (int32_t i = 0; i < n_steps; i++)
        T5_TRY(t5_batch_step(load->batch, err));
    T5_TRY(backend->ops->sync(backend, err));
    out->ms = (double)(t5_clock_ns() - start_ns) / 1e6 / n_steps;
    count_step(&load->model->hp, (double)t5_dtype_bytes(backend->act_dtype), n_warm + n_steps / 2.0, out);
out:
    gpu_load_release(load);
    return status;
}

double gpu_encoder_flops(const t5_hparams *hp, int32_t n_sources, int32_t src_len)
{
    double d = hp->d_model, inner = (double)hp->n_heads * hp->d_kv, ff = (double)hp->d_ff * (hp->is_gated ? 3 : 2);
    double per_token =
        hp->n_enc_layers * (2 * (4 * inner * d + ff * d) + 4 * inner * src_len) + hp->n_dec_layers * 4 * inner * d;
    return per_token * n_sources * src_len;
}
