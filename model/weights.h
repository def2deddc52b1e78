/* model/weights.h: the weights of a Hugging Face folder: model.safetensors, its shards with an index, pytorch_model.bin
 * or its shards. Files are mapped read-only; tensors borrow from the map. Every header, offset, shape and dtype is
 * checked before use: the file is hostile until then. The pickle reader knows the few opcodes that a state_dict of
 * tensors needs and refuses everything else; it never executes anything.
 *
 * A quantised weight of a safetensors file is "X" with its scales "X_scale" (made by quantize_folder.h).
 *   int8   X I8 [panels, quads, width * 4]    X_scale F32 [2, rows]: scales, then sums of the rows' integers
 *   int4   X U8 [panels, groups, width * 18]  scales are inside
 * These are panels (panels.h), which the CPU backend maps as they are when its kernels have the same width. Weights row
 * by row are read too:
 *   int8   X I8 [rows, cols], -127 .. 127    X_scale F32  [rows]
 *   int4   X U8 [rows, groups * 16]          X_scale BF16 [rows, groups]    groups of 32 columns
 * An int4 byte holds column 2i in its low half and column 2i + 1 in its high half, each with 8 added. Groups are
 * rounded up; the last one is filled with zeros. */
#pragma once
#include "model/tensor.h"

T5_C_BEGIN

typedef struct t5_weights t5_weights;

/* Opens the weights in `dir`, safetensors first. Errors name the file and the tensor. Close with t5_weights_close(). */
t5_status t5_weights_open(const char *dir, t5_weights **out, t5_error *err);
void t5_weights_close(t5_weights *w); /* accepts NULL; invalidates every tensor */
/* The file, or the index of its shards, for error texts. */
const char *t5_weights_path(const t5_weights *w);
/* NULL when the file has no such tensor. A vector has n_rows 1. Of int4, n_cols counts what fills the last group.
 * Immutable after open: any thread. */
const t5_tensor *t5_weights_find(const t5_weights *w, const char *name);
/* Finds `name` and checks its shape ([n_cols] when n_rows is 1, else [n_rows, n_cols]). T5_ERR_FORMAT names both
 * shapes. */
t5_status t5_weights_get(const t5_weights *w, const char *name, int32_t n_rows, int32_t n_cols, t5_tensor *out,
                         t5_error *err);
/* The next tensor that can be used, in the order of names, scales left out; NULL after the last. *inout_i begins at 0.
 */
const t5_tensor *t5_weights_next(const t5_weights *w, int32_t *inout_i, const char **out_name);
/* For `t5 inspect`: number of tensors and bytes, and the dtype that holds most bytes, a quantised one if there is any.
 */
typedef struct {
    int32_t n_tensors;
    int64_t n_params;
    int64_t n_bytes;
    t5_dtype dtype;
    int32_t panel;   /* of quantised weights, 0: row by row */
    char format[32]; /* "safetensors", "safetensors (6 shards)", "pytorch", "pytorch (2 shards)" */
} t5_weights_summary;
/* The copy of a tied head that a quantised folder has beside the table counts as bytes, not as parameters. */
void t5_weights_summarize(const t5_weights *w, bool is_tied, t5_weights_summary *out);

T5_C_END
