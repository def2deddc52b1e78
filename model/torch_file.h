/* model/torch_file.h: reads pytorch_model.bin, as torch.save() writes a state_dict. Any thread. */
#pragma once
#include "model/tensor_list.h"

T5_C_BEGIN

/* Checks the file's structure and appends its tensors, which borrow from its map. Errors name file and tensor. */
t5_status t5_torch_file_read(const t5_mapped_file *file, int32_t i_file, t5_tensor_list *list, t5_error *err);

T5_C_END
