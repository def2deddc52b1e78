/* tests/fuzz/fuzz_safetensors.c: any bytes as a safetensors file. Tensors that are accepted are read to their last row.
 */
#include "model/safetensors.h"
#include "tests/fuzz/read_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_read_tensors(t5_safetensors_read, data, n_bytes);
    return 0;
}
