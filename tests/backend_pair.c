/* tests/backend_pair.c: see backend_pair.h. */
#include "tests/backend_pair.h"
#include "cpu/cpu.h"
#include "device/device.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *from_environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL ? value : otherwise;
}

int pair_setup(void **state)
{
    t5_error err = {0};
    backend_pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    pair->random = 88172645463325252u;
    t5_device_options options = {.device = from_environment("T5_TEST_DEVICE", "cuda"),
                                 .compute_type = from_environment("T5_TEST_TYPE", "float16")};
    assert_ok(t5_cpu_ref_create(&pair->b[REF], &err), &err);
    assert_ok(t5_device_open(&options, &pair->b[DUT], &err), &err);
    *state = pair;
    return 0;
}

int pair_teardown(void **state)
{
    backend_pair *pair = *state;
    pair_forget(pair);
    for (int i = 0; i < N_BACKENDS; i++)
        pair->b[i]->ops->destroy(pair->b[i]);
    free(pair);
    return 0;
}

void pair_forget(backend_pair *pair)
{
    for (int i = 0; i < pair->n_owned; i++) {
        t5_backend *b = pair->b[pair->owners[i]];
        b->ops->release(b, pair->owned[i]);
    }
    pair->n_owned = 0;
}

static uint32_t next_random(backend_pair *pair)
{
    pair->random ^= pair->random << 13;
    pair->random ^= pair->random >> 7;
    pair->random ^= pair->random << 17;
    return (uint32_t)(pair->random >> 32);
}

float pair_uniform(backend_pair *pair, float low, float high)
{
    return low + (high - low) * (float)(next_random(pair) >> 8) * 0x1p-24f;
}

int32_t pair_below(backend_pair *pair, int32_t n)
{
    return (int32_t)(next_random(pair) % (uint32_t)n);
}

/* The nearest value that `type` holds. */
static float round_to(t5_dtype type, float x)
{
    if (type == T5_F16) return t5_f16_to_f32(t5_f32_to_f16(x));
    return type == T5_BF16 ? t5_bf16_to_f32(t5_f32_to_bf16(x)) : x;
}

float *pair_random(backend_pair *pair, size_t n, float magnitude)
{
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = round_to(pair->b[DUT]->act_dtype, pair_uniform(pair, -magnitude, magnitude));
    return values;
}

static void *take(backend_pair *pair, int which, size_t n_bytes)
{
    t5_error err = {0};
    void *p = NULL;
    t5_backend *b = pair->b[which];
    assert_in_range(pair->n_owned, 0, T5_COUNT(pair->owned) - 1);
    assert_ok(b->ops->alloc(b, n_bytes, &p, &err), &err);
    pair->owned[pair->n_owned] = p;
    pair->owners[pair->n_owned++] = which;
    return p;
}

static void *put(backend_pair *pair, int which, const void *values, size_t n_bytes)
{
    t5_error err = {0};
    t5_backend *b = pair->b[which];
    void *p = take(pair, which, n_bytes);
    assert_ok(b->ops->upload(b, p, values, n_bytes, &err), &err);
    return p;
}

pair_array pair_bytes(backend_pair *pair, const void *values, size_t n_bytes)
{
    return (pair_array){{put(pair, REF, values, n_bytes), put(pair, DUT, values, n_bytes)}, n_bytes};
}

pair_array pair_f32(backend_pair *pair, const float *values, size_t n)
{
    pair_array a = pair_bytes(pair, values, n * sizeof *values);
    a.n = n;
    return a;
}

pair_array pair_act(backend_pair *pair, const float *values, size_t n)
{
    pair_array a = {.n = n};
    for (int which = 0; which < N_BACKENDS; which++) {
        t5_dtype type = pair->b[which]->act_dtype;
        if (type == T5_F32) {
            a.p[which] = put(pair, which, values, n * sizeof *values);
            continue;
        }
        uint16_t *narrow = malloc(n * sizeof *narrow);
        assert_non_null(narrow);
        for (size_t i = 0; i < n; i++)
            narrow[i] = type == T5_F16 ? t5_f32_to_f16(values[i]) : t5_f32_to_bf16(values[i]);
        a.p[which] = put(pair, which, narrow, n * sizeof *narrow);
        free(narrow);
    }
    return a;
}

pair_array pair_random_f32(backend_pair *pair, size_t n, float magnitude)
{
    float *values = pair_random(pair, n, magnitude);
    pair_array a = pair_f32(pair, values, n);
    free(values);
    return a;
}

pair_array pair_random_act(backend_pair *pair, size_t n, float magnitude)
{
    float *values = pair_random(pair, n, magnitude);
    pair_array a = pair_act(pair, values, n);
    free(values);
    return a;
}

pair_array pair_zero_act(backend_pair *pair, size_t n)
{
    return (pair_array){{take(pair, REF, n * t5_dtype_bytes(pair->b[REF]->act_dtype)),
                         take(pair, DUT, n * t5_dtype_bytes(pair->b[DUT]->act_dtype))},
                        n};
}

void pair_matrix(backend_pair *pair, int32_t n_rows, int32_t n_cols, float magnitude, t5_matrix *out[N_BACKENDS])
{
    t5_error err = {0};
    float *values = pair_random(pair, (size_t)n_rows * (size_t)n_cols, magnitude);
    t5_tensor tensor = {.data = values, .dtype = T5_F32, .n_rows = n_rows, .n_cols = n_cols};
    for (int which = 0; which < N_BACKENDS; which++) {
        t5_backend *b = pair->b[which];
        assert_ok(b->ops->matrix_create(b, &tensor, 1, 1.0f, &out[which], &err), &err);
    }
    free(values);
}

void pair_matrix_destroy(backend_pair *pair, t5_matrix *m[N_BACKENDS])
{
    for (int which = 0; which < N_BACKENDS; which++)
        pair->b[which]->ops->matrix_destroy(pair->b[which], m[which]);
}

float *pair_read_f32(backend_pair *pair, int which, const void *p, size_t n)
{
    t5_error err = {0};
    t5_backend *b = pair->b[which];
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    assert_ok(b->ops->download(b, values, p, n * sizeof *values, &err), &err);
    return values;
}

float *pair_read_act(backend_pair *pair, int which, const void *p, size_t n)
{
    t5_error err = {0};
    t5_backend *b = pair->b[which];
    if (b->act_dtype == T5_F32) return pair_read_f32(pair, which, p, n);
    float *values = malloc(n * sizeof *values);
    uint16_t *narrow = malloc(n * sizeof *narrow);
    assert_true(values != NULL && narrow != NULL);
    assert_ok(b->ops->download(b, narrow, p, n * sizeof *narrow, &err), &err);
    for (size_t i = 0; i < n; i++)
        values[i] = b->act_dtype == T5_F16 ? t5_f16_to_f32(narrow[i]) : t5_bf16_to_f32(narrow[i]);
    free(narrow);
    return values;
}

double pair_tolerance(const backend_pair *pair)
{
    switch (pair->b[DUT]->act_dtype) {
    case T5_F16:
        return 2e-3;
    case T5_BF16:
        return 1.6e-2;
    case T5_F32:
    case T5_I8:
    case T5_I4:
        break;
    }
    return 2e-5;
}

void pair_expect(const char *what, const float *ref, const float *dut, size_t n, double tol)
{
    double largest = 0.0, worst = 0.0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (fabs((double)ref[i]) > largest) largest = fabs((double)ref[i]);
    }
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)ref[i] - (double)dut[i]);
        if (difference <= worst) continue;
        worst = difference; /* NaN comes here too, and stays */
        at = i;
    }
    if (!(worst <= tol * largest))
        fail_msg("%s: element %zu is %g, expected %g; allowed difference %g", what, at, (double)dut[at],
                 (double)ref[at], tol * largest);
}

void pair_expect_act(backend_pair *pair, const char *what, pair_array a)
{
    float *ref = pair_read_act(pair, REF, a.p[REF], a.n), *dut = pair_read_act(pair, DUT, a.p[DUT], a.n);
    pair_expect(what, ref, dut, a.n, pair_tolerance(pair));
    free(ref);
    free(dut);
}

void pair_expect_f32(backend_pair *pair, const char *what, pair_array a)
{
    float *ref = pair_read_f32(pair, REF, a.p[REF], a.n), *dut = pair_read_f32(pair, DUT, a.p[DUT], a.n);
    pair_expect(what, ref, dut, a.n, pair_tolerance(pair));
    free(ref);
    free(dut);
}
