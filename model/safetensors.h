/* model/safetensors.h: reads model.safetensors. Any thread. */
#pragma once
#include "model/tensor_list.h"

T5_C_BEGIN

/* Checks the whole header and appends the file's tensors, which borrow from its map. Errors name file and tensor. */
t5_status t5_safetensors_read(const t5_mapped_file *file, int32_t i_file, t5_tensor_list *list, t5_error *err);

T5_C_END
