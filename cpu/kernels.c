/* cpu/kernels.c: the table of one instruction set, compiled once for each. */
#include "cpu/tile.h"

#define TEXT(name) #name
#define TEXT_OF(name) TEXT(name)

/* GCC and clang ask the operating system too. Every machine with AVX2 has F16C. */
static bool is_supported(void)
{
#if defined(__AVX512VNNI__)
    if (!__builtin_cpu_supports("avx512vnni")) return false;
#endif
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

const t5_kernels T5_ISA_NAME(t5_kernels) = {
    .name = TEXT_OF(T5_ISA),
    .panel = PANEL,
#if defined(__AVX2__)
    .has_f16 = true,
#endif
    .is_supported = is_supported,
    .gemm = kernel_gemm,
    .norm_row = kernel_norm_row,
    .quantize_row = kernel_quantize_row,
    .attend = kernel_attend,
    .attend_source = kernel_attend_source,
    .attend_source_scratch = kernel_attend_source_scratch,
    .vocab = {kernel_log_sum_exp, kernel_argmax, kernel_top_k},
};
