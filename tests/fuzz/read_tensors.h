/* tests/fuzz/read_tensors.h: what the fuzz targets of the weight files share. */
#pragma once
#include "base/assert.h"
#include "model/tensor_list.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Lets `read` read the bytes, then reads the first and last row of each tensor that it found. A refusal has a text. */
static void fuzz_read_tensors(t5_status (*read)(const t5_mapped_file *, int32_t, t5_tensor_list *, t5_error *),
                              const uint8_t *data, size_t n_bytes)
{
    t5_error err = {0};
    t5_tensor_list list = {0};
    t5_mapped_file file = {.path = "fuzz", .data = data, .n_bytes = n_bytes};
    t5_status status = read(&file, 0, &list, &err);
    T5_ASSERT(status == err.status && (status == T5_OK || strncmp(err.text, "fuzz: ", 6) == 0));
    for (int32_t i = 0; status == T5_OK && i < list.n_entries; i++) {
        const t5_tensor *tensor = &list.entries[i].tensor;
        if (list.entries[i].problem != NULL) continue;
        float *row = malloc((size_t)tensor->n_cols * sizeof *row);
        T5_ASSERT(row != NULL);
        t5_tensor_row_f32(tensor, 0, row);
        t5_tensor_row_f32(tensor, tensor->n_rows - 1, row);
        free(row);
    }
    t5_tensor_list_deinit(&list);
}
