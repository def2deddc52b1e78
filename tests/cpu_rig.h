/* tests/cpu_rig.h: what the tests of the CPU backends share: the reference, the fast backend once for each instruction
 * set that this machine has and for one and three threads, random values, and comparison with a bound. */
#pragma once
#include "cpu/cpu.h"

#include <stddef.h>

#define RIG_FAST_MAX 16
#define RIG_ERROR_MAX 2e-5 /* relative to the largest absolute value */

extern t5_backend *rig_reference;
extern t5_backend *rig_fast[RIG_FAST_MAX];
extern int32_t rig_n_fast;

/* A random weight of `dtype` at an odd address, as in a mapped file. */
typedef struct {
    t5_tensor tensor;
    char *memory;
} rig_weight;

/* Set-up and tear-down of a test group. */
int rig_open(void **state);
int rig_close_backends(void **state);
/* NULL when this machine has no `isa`. */
t5_backend *rig_create(const char *isa, int32_t n_threads, t5_compute_type type);

/* About normal: mean 0, deviation `scale`. The same numbers in every run. */
float rig_random(float scale);
int32_t rig_random_below(int32_t n);
float *rig_random_floats(size_t n, float scale);                              /* the caller frees */
rig_weight rig_weight_random(int32_t n_rows, int32_t n_cols, t5_dtype dtype); /* free .memory */
void *rig_copy(const void *p, size_t n_bytes);                                /* the caller frees */
t5_matrix *rig_matrix(t5_backend *b, const rig_weight *parts, int32_t n_parts, float scale);

/* Fails unless each of n values is within RIG_ERROR_MAX. */
void rig_close(const float *got, const float *want, size_t n, const char *what);
