/* cpu/matrix.h: weights of the fast CPU backend: packed once, or mapped from a file that has them packed, and read by
 * many products. Immutable after create. */
#pragma once
#include "cpu/arena.h"
#include "cpu/cpu.h"
#include "cpu/kernels.h"
#include "cpu/threads.h"

T5_C_BEGIN

struct t5_matrix {
    t5_tensor table; /* an embedding table borrows the mapped tensor; data NULL for a packed matrix */
    int32_t d_out, d_in;
    size_t n_bytes; /* of the elements, and of the scales of int8 */
    t5_panels panels;
    /* What `panels` points to; of a mapped matrix the elements are the file's, and `chunk` is NULL. */
    t5_chunk *chunk;
    float *column_scales;
    int32_t *column_sums;
    /* The same in int8, or NULL, and how far from each other they are: Euclidean norms, the largest of each panel and
     * never too small; NaN where a weight is not finite. */
    t5_matrix *rough;
    float *rough_norms;  /* [panels] of a column of `rough` */
    float *rough_errors; /* [panels] of what rounding took off a column */
};

/* What packing takes. */
typedef struct {
    const t5_kernels *kernels;
    t5_threads *threads;
    t5_compute_type type;
    t5_arena *arena; /* need not outlive the matrices */
} t5_packer;

/* Stacks `parts` and packs them. The type of the elements follows the packer's: T5_COMPUTE_AUTO keeps the type
 * of the file, which is exact. Quantised parts that lie in the file as the kernels want them are left there: the
 * tensors must outlive the matrix. T5_ERR_ARG when float16 was asked for and a weight does not fit. */
t5_status t5_matrix_pack(const t5_packer *packer, const t5_tensor *parts, int32_t n_parts, float scale, t5_matrix **out,
                         t5_error *err);
/* Gives `m`, packed from `w`, what tells where a row's largest value can be, see t5_matrix. It gets none when it has
 * few bits itself, when rows are rounded for it too, or when it is not exactly what the file has. */
t5_status t5_matrix_add_rough(const t5_packer *packer, const t5_tensor *w, float scale, t5_matrix *m, t5_error *err);
t5_status t5_matrix_borrow(const t5_tensor *table, t5_matrix **out, t5_error *err);
void t5_matrix_free(t5_matrix *m); /* accepts NULL */

T5_C_END
