/* device/device.h: picks the backends by name, so that the programs need not know what exists. */
#pragma once
#include "model/backend.h"

T5_C_BEGIN

typedef struct {
    const char *device;       /* "auto", "cpu", "cuda", "cuda:N", and for tests "cpu-ref"; t5_devices_open: a list */
    const char *compute_type; /* "auto", "float32", "float16", "bfloat16", "int8", "int4" */
    int32_t n_threads;        /* CPU; 0: one per core */
} t5_device_options;

/* T5_ERR_ARG names an unknown device or type; T5_ERR_DEVICE a GPU that was asked for by name and cannot be used. "auto"
 * takes a GPU when one works, else the CPU, and logs which and why. Destroy with backend->ops->destroy(). */
t5_status t5_device_open(const t5_device_options *options, t5_backend **out, t5_error *err);
/* The same for names between commas, each on a device of its own: "cuda:0,cuda:1". out: [T5_DEVICES_MAX]. All or none;
 * T5_ERR_ARG besides for a list that has a device twice, or one that is no GPU. */
t5_status t5_devices_open(const t5_device_options *options, t5_backend **out, int32_t *out_n, t5_error *err);
/* For `t5 quantize`: the width of panels that this machine's CPU maps as they are: 16, 32 or 64. */
int32_t t5_device_panel(void);
/* T5_ERR_ARG when `device` cannot be the name or the list of anything. Opens nothing. */
t5_status t5_devices_check(const char *device, t5_error *err);

T5_C_END
