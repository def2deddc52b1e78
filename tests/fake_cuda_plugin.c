/* tests/fake_cuda_plugin.c: a CUDA plug-in without CUDA, built as a shared object for test_device.c. Device 0 is an
 * empty backend; other devices do not exist. FAKE_ABI is the version that it claims. */
#include "device/plugin.h"

#include <stdlib.h>

__attribute__((visibility("default"))) const int32_t t5_cuda_plugin_abi = FAKE_ABI;

static void destroy(t5_backend *b)
{
    free(b);
}

static const t5_backend_ops ops = {.name = "cuda", .destroy = destroy};

__attribute__((visibility("default"))) t5_status t5_cuda_plugin_create(int device, const char *compute_type,
                                                                       t5_backend **out, t5_error *err)
{
    if (device != 0) return T5_FAIL(err, T5_ERR_DEVICE, "there is no such device");
    t5_backend *b = calloc(1, sizeof *b);
    if (b == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", sizeof *b);
    b->ops = &ops;
    b->device[0] = compute_type[0];
    *out = b;
    return T5_OK;
}
