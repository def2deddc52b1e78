/* bench/exp/lt.h: cuBLASLt, opened at run time, for y = x w^T in half with float sums. */
#pragma once
#include "bench/exp/exp.h"

T5_C_BEGIN

typedef struct exp_lt exp_lt;

/* NULL when *out is ready; else why there is none: no library, or host fibers. */
const char *exp_lt_open(exp_lt **out);
void exp_lt_close(exp_lt *lt); /* accepts NULL */
/* Asks for every algorithm that suits w [d_out, d_in], x [n_rows, d_in], y [n_rows, d_out]; at most 64. */
t5_status exp_lt_plan(exp_lt *lt, int d_out, int n_rows, int d_in, int *out_n_algos, t5_error *err);
t5_status exp_lt_run(exp_lt *lt, int i_algo, const void *w, const void *x, void *y, cudaStream_t stream, t5_error *err);

T5_C_END
