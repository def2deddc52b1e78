/* tests/simt/counters.h: what the kernels' memory accesses would cost on a GPU. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

/* Prints a Markdown table: for each kernel, and global and shared memory, how many requests its warps made, how many
 * different bytes these asked for, and how near they come to the fewest 32-byte sectors (global memory) or wavefronts
 * of 32 banks (shared memory) that so many bytes need. */
void simt_counters_print(void);
/* The share for the kernels whose name begins with `prefix`, all of them together; -1 when there is none. */
double simt_counters_share(const char *prefix, int is_shared, int is_store);

#ifdef __cplusplus
}
#endif
