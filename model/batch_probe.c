/* model/batch_probe.c: encoder states and teacher-forced logits, for tests against Hugging Face. */
#include "model/batch_internal.h"

#include <stdlib.h>
#include <string.h>

/* Downloads n activations as float32. */
static t5_status download_floats(t5_batch *b, float *dst, const void *src, size_t n, t5_error *err)
{
    t5_backend *backend = b->model->backend;
    t5_dtype dtype = backend->act_dtype;
    if (dtype == T5_F32) return backend->ops->download(backend, dst, src, n * sizeof *dst, err);
    uint16_t *halves = malloc(n * sizeof *halves);
    if (halves == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu activations", n);
    t5_status status = backend->ops->download(backend, halves, src, n * sizeof *halves, err);
    for (size_t i = 0; status == T5_OK && i < n; i++) {
        dst[i] = dtype == T5_F16 ? t5_f16_to_f32(halves[i]) : t5_bf16_to_f32(halves[i]);
    }
    free(halves);
    return status;
}

/* Teacher-forced logits of an admitted and encoded slot, whose prompt is the decoder's input. */
static t5_status probe_logits(t5_batch *b, int32_t slot, int32_t n_decoder_ids, float *out_logits, t5_error *err)
{
    t5_status status = T5_OK;
    t5_backend *backend = b->model->backend;
    size_t vocab_size = (size_t)b->model->hp.vocab_size;
    for (int32_t i = 0; i < n_decoder_ids;) {
        t5_step step = b->dev_step;
        int32_t q_len = n_decoder_ids - i < T5_QUERY_LEN_MAX ? n_decoder_ids - i : T5_QUERY_LEN_MAX;
        t5_batch_plan_row(b, slot, b->slots[slot].row0, i, q_len, &step);
        T5_TRY(t5_batch_upload_plan(b, err));
        T5_TRY(t5_model_decode(b->model, &step, &b->kv, &b->scratch, b->logits, err));
        T5_TRY(backend->ops->download(backend, out_logits + (size_t)i * vocab_size, b->logits,
                                      (size_t)q_len * vocab_size * sizeof *out_logits, err));
        i += q_len;
        b->slots[slot].n_computed = i;
        T5_TRY(backend->ops->upload(backend, b->state.slots + slot, &b->slots[slot], sizeof *b->slots, err));
    }
out:
    return status;
}

t5_status t5_batch_probe(t5_batch *b, const int32_t *input_ids, int32_t n, const int32_t *decoder_ids,
                         int32_t n_decoder_ids, float *out_encoder, float *out_logits, t5_error *err)
{
    T5_ASSERT(b->n_running == 0 && n_decoder_ids >= 1);
    t5_status status = T5_OK;
    int32_t slot = -1;
    size_t d_model = (size_t)b->model->hp.d_model;
    /* One given token after the last makes room for the last to be computed. */
    int32_t prompt[T5_SEQ_LEN_MAX];
    T5_ASSERT(n_decoder_ids < b->limits.tgt_len_max);
    memcpy(prompt, decoder_ids + 1, (size_t)(n_decoder_ids - 1) * sizeof *prompt);
    prompt[n_decoder_ids - 1] = b->model->hp.eos_id;
    t5_batch_request request = {.input_ids = input_ids,
                                .n_input_ids = n,
                                .prompt_ids = prompt,
                                .n_prompt_ids = n_decoder_ids,
                                .is_score = true};
    T5_TRY(t5_batch_check(b, &request, err));
    T5_TRY(t5_batch_admit(b, &request, &slot, err));
    T5_TRY(t5_batch_encode(b, err));
    T5_TRY(t5_batch_poll_encoder(b, true, err));
    T5_TRY(download_floats(b, out_encoder, b->enc_scratch.enc_out, (size_t)n * d_model, err));
    T5_TRY(probe_logits(b, slot, n_decoder_ids, out_logits, err));
out:
    if (slot >= 0) t5_batch_release(b, slot);
    return status;
}
