/* device/plugin.h: the contract with the GPU backend, which is a shared object that is opened at run time, so that a
 * program starts and works on a machine without a driver, and an install for the CPU carries nothing of CUDA.
 *
 * device/device.c opens the file that the environment variable T5_CUDA_PLUGIN names, else T5_CUDA_PLUGIN_FILE in the
 * folder of the executable. It stays open until the process ends. */
#pragma once
#include "model/backend.h"

/* Raised whenever the layout or the meaning of anything in model/backend.h, search.h, decoding.h or tensor.h changes. A
 * plug-in of another version is refused. */
#define T5_CUDA_PLUGIN_ABI 8

#define T5_CUDA_PLUGIN_FILE "libt5cuda.so"
#define T5_CUDA_PLUGIN_ABI_SYMBOL "t5_cuda_plugin_abi"
#define T5_CUDA_PLUGIN_CREATE_SYMBOL "t5_cuda_plugin_create"

/* Device number, and "auto", "float32", "float16", "bfloat16", "int8" or "int4". T5_ERR_DEVICE says why the device
 * cannot be used: no driver, no such device, no cuBLAS. The backend is destroyed through its ops. */
typedef t5_status (*t5_cuda_plugin_create_fn)(int device, const char *compute_type, t5_backend **out, t5_error *err);

T5_C_BEGIN

/* What the plug-in exports, with default visibility. */
extern const int32_t t5_cuda_plugin_abi; /* T5_CUDA_PLUGIN_ABI */
t5_status t5_cuda_plugin_create(int device, const char *compute_type, t5_backend **out, t5_error *err);

T5_C_END
