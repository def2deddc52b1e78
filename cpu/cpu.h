/* cpu/cpu.h: the two CPU backends. */
#pragma once
#include "model/backend.h"

T5_C_BEGIN

/* Plain C, one thread, readable: the definition of right. Other backends are compared with it. */
t5_status t5_cpu_ref_create(t5_backend **out, t5_error *err);

typedef enum {
    T5_COMPUTE_AUTO,
    T5_COMPUTE_F32,
    T5_COMPUTE_F16,
    T5_COMPUTE_BF16,
    T5_COMPUTE_INT8,
    T5_COMPUTE_INT4
} t5_compute_type;

typedef struct {
    int32_t n_threads;            /* 0: one per core */
    t5_compute_type compute_type; /* how weights are stored; activations are float32. Products round their rows to 8
                                   * bits for INT8 and INT4, to bfloat16 for BF16 where the processor has AMX */
    const char *isa;              /* NULL: the best this machine has; a name of cpu/tables.c: for tests */
} t5_cpu_options;

/* Width of the panels of the kernels that this machine would use: of weights that can be mapped (model/panels.h). */
int32_t t5_cpu_panel(void);
/* Vector code chosen at run time, weights packed once, several threads. */
t5_status t5_cpu_create(const t5_cpu_options *options, t5_backend **out, t5_error *err);

T5_C_END
