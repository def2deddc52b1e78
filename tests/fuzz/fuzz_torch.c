/* tests/fuzz/fuzz_torch.c: any bytes as pytorch_model.bin: zip records, pickle and storages. Tensors that are accepted
 * are read to their last row. */
#include "model/torch_file.h"
#include "tests/fuzz/read_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_read_tensors(t5_torch_file_read, data, n_bytes);
    return 0;
}
