/* tests/backend_pair.h: the reference and a backend under test side by side: the same values go to both, and what comes
 * back is compared. The device comes from the environment: T5_TEST_DEVICE (default "cuda") and T5_TEST_TYPE (default
 * "float16"), so that one program tests the fibers and a GPU. */
#pragma once
#include "model/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { REF, DUT, N_BACKENDS }; /* DUT: device under test */

typedef struct {
    t5_backend *b[N_BACKENDS];
    uint64_t random;
    void *owned[512]; /* backend memory and its backend, released by pair_forget() */
    int owners[512];
    int n_owned;
} backend_pair;

/* One value, twice: in each backend's memory. */
typedef struct {
    void *p[N_BACKENDS];
    size_t n;
} pair_array;

int pair_setup(void **state);
int pair_teardown(void **state);
void pair_forget(backend_pair *pair); /* releases all arrays */

float pair_uniform(backend_pair *pair, float low, float high);
int32_t pair_below(backend_pair *pair, int32_t n);
/* Random floats that the backend's type holds exactly; the caller frees them. */
float *pair_random(backend_pair *pair, size_t n, float magnitude);

pair_array pair_bytes(backend_pair *pair, const void *values, size_t n_bytes);
pair_array pair_f32(backend_pair *pair, const float *values, size_t n);
pair_array pair_act(backend_pair *pair, const float *values, size_t n); /* as activations */
pair_array pair_random_f32(backend_pair *pair, size_t n, float magnitude);
pair_array pair_random_act(backend_pair *pair, size_t n, float magnitude);
pair_array pair_zero_act(backend_pair *pair, size_t n);
void pair_matrix(backend_pair *pair, int32_t n_rows, int32_t n_cols, float magnitude, t5_matrix *out[N_BACKENDS]);
void pair_matrix_destroy(backend_pair *pair, t5_matrix *m[N_BACKENDS]);

float *pair_read_f32(backend_pair *pair, int which, const void *p, size_t n); /* the caller frees */
float *pair_read_act(backend_pair *pair, int which, const void *p, size_t n);
/* Fails unless the arrays agree to `tol` times the largest absolute value of the reference. */
void pair_expect(const char *what, const float *ref, const float *dut, size_t n, double tol);
void pair_expect_act(backend_pair *pair, const char *what, pair_array a);
void pair_expect_f32(backend_pair *pair, const char *what, pair_array a);
double pair_tolerance(const backend_pair *pair);
