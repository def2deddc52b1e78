/* cpu/kernels.c: the table of one instruction set, compiled once for each. */
#include "cpu/tile.h"

#define TEXT(name) #name
#define TEXT_OF(name) TEXT(name)

#if defined(__AVXVNNI__) || defined(__AMX_INT8__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What older compilers can't ask: bits of leaf 7 of cpuid. */
#define AVX_VNNI (1u << 4)                   /* subleaf 1, eax */
#define AMX (1u << 22 | 1u << 24 | 1u << 25) /* subleaf 0, edx: bfloat16, tiles, int8 */

/* Linux gives a process the tiles' state only when it asks; threads that start later have it too. */
T5_INLINE bool has_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & AMX) != AMX) return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

T5_INLINE bool has_avx_vnni(void)
{
    uint32_t a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & AVX_VNNI) != 0;
}
#endif

#if defined(T5_NEON)
#include <sys/auxv.h>
#define HAS_DOT_PRODUCTS (1ul << 20) /* HWCAP_ASIMDDP */
#endif

/* GCC and clang ask the operating system too. Every machine with AVX2 has F16C. */
static bool is_supported(void)
{
#if defined(__AVXVNNI__)
    if (!has_avx_vnni()) return false;
#endif
#if defined(__AMX_INT8__)
    if (!has_tiles()) return false;
#endif
#if defined(__AVX512VNNI__)
    if (!__builtin_cpu_supports("avx512vnni")) return false;
#endif
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(T5_NEON) && defined(__ARM_FEATURE_DOTPROD)
    return (getauxval(AT_HWCAP) & HAS_DOT_PRODUCTS) != 0;
#else
    return true;
#endif
}

/* With few rows memory sets the pace. With many it is instructions, and only dot products save any (measured in whole
 * decodes of T5-small's shape: AVX2 and AVX-512 without VNNI gain nothing at 32 rows, "generic" loses at 2). */
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || (defined(T5_NEON) && defined(__ARM_FEATURE_DOTPROD))
#define ROUGH_ROWS_MAX INT32_MAX
#elif defined(__AVX2__) || defined(T5_NEON)
#define ROUGH_ROWS_MAX 16
#else
#define ROUGH_ROWS_MAX 1
#endif

const t5_kernels T5_ISA_NAME(t5_kernels) = {
    .name = TEXT_OF(T5_ISA),
    .panel = PANEL,
#if defined(__AVX2__) || defined(T5_NEON)
    .has_f16 = true,
#endif
    .rough_rows_max = ROUGH_ROWS_MAX,
    .is_supported = is_supported,
    .gemm = kernel_gemm,
    .norm_row = kernel_norm_row,
    .quantize_row = kernel_quantize_row,
    .rounding = kernel_rounding,
    .center_row = kernel_center_row,
#if defined(__AMX_INT8__)
    .round_row = kernel_round_row,
#endif
    .attend = kernel_attend,
    .attend_source = kernel_attend_source,
    .attend_source_scratch = kernel_attend_source_scratch,
    .vocab = {kernel_log_sum_exp, kernel_argmax, kernel_top_k},
    .panel_max = kernel_panel_max,
};
