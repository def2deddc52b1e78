/* model/quantize_folder.h: a model folder with its weights quantised once, for good (`t5 quantize`). One thread. */
#pragma once
#include "model/tensor.h"

T5_C_BEGIN

typedef struct {
    const char *dir;     /* of a model in float32, float16 or bfloat16 */
    const char *out_dir; /* made; an empty folder is taken too */
    t5_dtype type;       /* T5_I8 or T5_I4 */
    int32_t panel;       /* width of the panels: 16, 32 or 64; processors with kernels of that width map the file */
} t5_quantize_args;

typedef struct {
    int32_t n_quantized; /* tensors */
    int64_t from_bytes, to_bytes;
} t5_quantize_report;

/* Writes model.safetensors in the layout that weights.h describes, config.json with a quantization_config, and copies
 * of the small files beside them. Every weight that is multiplied with is quantised as the CPU backend quantises it at
 * load, so the results are the same bits; embeddings, norms and bias tables stay as they are. The head of a model that
 * multiplies with its embedding table becomes lm_head.weight. T5_ERR_ARG when out_dir holds something or the model is
 * quantised already; T5_ERR_IO with the file's name. What was written before an error stays. */
t5_status t5_quantize_folder(const t5_quantize_args *args, t5_quantize_report *out, t5_error *err);

T5_C_END
