/* model/hparams.h: what a T5 model is, read from config.json. Nothing is compiled in: every size and special id comes
 * from the file. Checked: sizes are positive and within base/limits.h, ids are inside the vocabulary, the family is T5.
 */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

typedef enum { T5_ACT_RELU, T5_ACT_GELU_TANH, T5_ACT_GELU, T5_ACT_SILU } t5_act;

typedef struct {
    char family[16];             /* model_type: t5, mt5, umt5; byt5 and madlad folders say t5 or mt5 */
    int32_t d_model, d_kv, d_ff; /* n_heads * d_kv may differ from d_model */
    int32_t n_heads;
    int32_t n_enc_layers, n_dec_layers;
    int32_t vocab_size;
    int32_t rel_buckets, rel_distance_max;
    float norm_eps;
    t5_act act;
    bool is_gated;           /* ffn = act(wi_0 x) * (wi_1 x) instead of act(wi x) */
    bool is_tied;            /* the head is shared.weight; else lm_head.weight, where the file has one */
    bool scales_decoder_out; /* decoder output times d_model^-0.5 before the head */
    bool has_layer_bias;     /* UMT5: a relative-bias table in every layer instead of the first only */
    int32_t pad_id, eos_id, start_id;
} t5_hparams;

/* Reads dir/config.json, and the start of dir/generation_config.json where there is one. Errors name the file and the
 * key. */
t5_status t5_hparams_load(const char *dir, t5_hparams *out, t5_error *err);
/* The same from a text that came from `path`. */
t5_status t5_hparams_parse(const char *path, const char *text, size_t n_bytes, t5_hparams *out, t5_error *err);

T5_C_END
