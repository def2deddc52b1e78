/* model/safetensors_writer.h: writes a safetensors file from front to back, so that no tensor need be in memory whole.
 * One thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

typedef struct {
    const char *name;  /* UTF-8 */
    const char *dtype; /* "F32", "F16", "BF16", "I8", "U8" */
    int32_t n_dims;    /* 1 to 3 */
    int64_t dims[3];
    int64_t n_bytes;
} t5_safetensors_item;

typedef struct t5_safetensors_writer t5_safetensors_writer;

/* Begins "path.part" with the header of these items. The first begins at a multiple of 64 bytes, the others where the
 * one before ends. */
t5_status t5_safetensors_writer_open(const char *path, const t5_safetensors_item *items, int32_t n_items,
                                     t5_safetensors_writer **out, t5_error *err);
/* The next bytes of the items, in their order. */
t5_status t5_safetensors_writer_put(t5_safetensors_writer *w, const void *data, size_t n_bytes, t5_error *err);
/* Gives the file its name once it is on disk; every byte must have been put. */
t5_status t5_safetensors_writer_finish(t5_safetensors_writer *w, t5_error *err);
/* Deletes what was not finished; accepts NULL. */
void t5_safetensors_writer_close(t5_safetensors_writer *w);

T5_C_END
