/* tests/cpu_rig.c: see cpu_rig.h. */
#include "cpu_rig.h"

#include "cpu/kernels.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

t5_backend *rig_reference;
t5_backend *rig_fast[RIG_FAST_MAX];
int32_t rig_n_fast;

static uint64_t random_state = 1;

float rig_random(float scale)
{
    float sum = 0.0f;
    for (int32_t i = 0; i < 4; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(random_state >> 40) / (float)(1 << 24) - 0.5f;
    }
    return sum * 1.7f * scale;
}

int32_t rig_random_below(int32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((random_state >> 33) % (uint64_t)n);
}

float *rig_random_floats(size_t n, float scale)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = rig_random(scale);
    return x;
}

void *rig_copy(const void *p, size_t n_bytes)
{
    void *copy = malloc(n_bytes);
    assert_non_null(copy);
    memcpy(copy, p, n_bytes);
    return copy;
}

void rig_close(const float *got, const float *want, size_t n, const char *what)
{
    double largest = 0.0;
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        const double error = fabs((double)got[i] - (double)want[i]);
        worst = error > worst || isnan(error) ? error : worst;
    }
    if (!(worst <= RIG_ERROR_MAX * largest)) fail_msg("%s: error %g, largest value %g", what, worst, largest);
}

t5_backend *rig_create(const char *isa, int32_t n_threads, t5_compute_type type)
{
    t5_error err = {0};
    t5_backend *b = NULL;
    const t5_cpu_options options = {.n_threads = n_threads, .compute_type = type, .isa = isa};
    const t5_status status = t5_cpu_create(&options, &b, &err);
    if (status != T5_OK) assert_int_equal(status, T5_ERR_ARG); /* this machine has it not */
    return b;
}

int rig_open(void **state)
{
    (void)state;
    t5_error err = {0};
    if (t5_cpu_ref_create(&rig_reference, &err) != T5_OK) return -1;
    for (const t5_kernels *const *table = t5_kernel_tables; *table != NULL; table++) {
        for (int32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
            t5_backend *b = rig_create((*table)->name, n_threads, T5_COMPUTE_AUTO);
            if (b == NULL) continue;
            assert_true(rig_n_fast < RIG_FAST_MAX);
            rig_fast[rig_n_fast++] = b;
        }
    }
    return rig_n_fast >= 2 ? 0 : -1;
}

int rig_close_backends(void **state)
{
    (void)state;
    rig_reference->ops->destroy(rig_reference);
    for (int32_t i = 0; i < rig_n_fast; i++)
        rig_fast[i]->ops->destroy(rig_fast[i]);
    return 0;
}

rig_weight rig_weight_random(int32_t n_rows, int32_t n_cols, t5_dtype dtype)
{
    const size_t n = (size_t)n_rows * (size_t)n_cols;
    rig_weight w = {.memory = malloc(n * 4 + 1)};
    assert_non_null(w.memory);
    const float scale = 1.0f / sqrtf((float)n_cols);
    for (size_t i = 0; i < n; i++) {
        const float x = rig_random(scale);
        const uint16_t half = dtype == T5_F16 ? t5_f32_to_f16(x) : t5_f32_to_bf16(x);
        if (dtype == T5_F32) memcpy(w.memory + 1 + i * 4, &x, 4);
        if (dtype != T5_F32) memcpy(w.memory + 1 + i * 2, &half, 2);
    }
    w.tensor = (t5_tensor){.data = w.memory + 1, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols};
    return w;
}

t5_matrix *rig_matrix(t5_backend *b, const rig_weight *parts, int32_t n_parts, float scale)
{
    t5_error err = {0};
    t5_tensor tensors[4];
    for (int32_t i = 0; i < n_parts; i++)
        tensors[i] = parts[i].tensor;
    t5_matrix *m = NULL;
    assert_ok(b->ops->matrix_create(b, tensors, n_parts, scale, &m, &err), &err);
    return m;
}
