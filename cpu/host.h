/* cpu/host.h: backend memory when the device is the CPU: plain memory. Shared by the CPU backends. */
#pragma once
#include "model/backend.h"

T5_C_BEGIN

t5_status t5_host_alloc(t5_backend *b, size_t n_bytes, void **out, t5_error *err);
void t5_host_release(t5_backend *b, void *p);
t5_status t5_host_copy(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err);
t5_status t5_host_sync(t5_backend *b, t5_error *err);

T5_C_END
