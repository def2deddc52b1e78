/* cpu/tables.c: the kernel tables of this build (kernels.h). CMakeLists.txt says how each is compiled. */
#include "cpu/kernels.h"

#include <stddef.h>

extern const t5_kernels t5_kernels_generic;
#if defined(__x86_64__)
extern const t5_kernels t5_kernels_avx2, t5_kernels_avx2vnni;
extern const t5_kernels t5_kernels_avx512, t5_kernels_avx512vnni, t5_kernels_avx512amx;
#elif defined(__aarch64__)
extern const t5_kernels t5_kernels_neon, t5_kernels_neondot;
#endif

const t5_kernels *const t5_kernel_tables[] = {
#if defined(__x86_64__)
    &t5_kernels_avx512amx, &t5_kernels_avx512vnni,
    &t5_kernels_avx512,    &t5_kernels_avx2vnni,
    &t5_kernels_avx2,
#elif defined(__aarch64__)
    &t5_kernels_neondot,
    &t5_kernels_neon,
#endif
    &t5_kernels_generic,   NULL,
};
