/* tests/simt/simt.h: how a test steers the host runtime: thread order, blocks at once, faults, statistics. The test
 * program's own thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { SIMT_ORDER_FORWARD, SIMT_ORDER_REVERSE, SIMT_ORDER_RANDOM } simt_order;

typedef struct {
    simt_order order;  /* in which order threads and blocks run */
    uint32_t seed;     /* of SIMT_ORDER_RANDOM */
    int resident;      /* blocks that run at the same time; races between blocks need at least 2 */
    bool copies_late;  /* cp.async lands when it is waited for, else at once */
    bool streams_lazy; /* a stream runs nothing until something waits for it, else each call at once */
    bool is_serial;    /* a device of before 9.0: kernels never overlap; else they begin before the two before ended */
} simt_config;

/* The default: forward, seed 1, 1 block, late copies, eager streams, kernels overlap. The environment overrides it at
 * start: SIMT_ORDER (0, 1, 2), SIMT_SEED, SIMT_RESIDENT, SIMT_COPIES_LATE, SIMT_LAZY, SIMT_SERIAL. */
simt_config simt_config_get(void);
void simt_config_set(const simt_config *config);

/* Fault injection. Every call of the runtime or of cuBLAS counts; the n-th from now on (0: the next) fails with
 * `error`, a cudaError_t. With `is_sticky` every later call fails as well, as after the loss of a device. */
void simt_fault_arm(uint64_t n, int error, bool is_sticky);
void simt_fault_disarm(void);
uint64_t simt_call_count(void); /* calls since the start of the process */
/* cudaGraphInstantiate() finds no memory from now on. */
void simt_refuse_graphs(bool refuses);
/* Memory that the device has; UINT64_MAX is the default. */
void simt_memory_limit(uint64_t n_bytes);

typedef struct {
    uint64_t device_bytes, pinned_bytes; /* that are not freed yet */
    /* Since the start: */
    uint64_t n_allocations;  /* of device and pinned memory, and of recorded graphs */
    uint64_t n_launches;     /* kernels that ran */
    uint64_t n_overlapping;  /* of these, launched so that they may begin before the one before ended */
    uint64_t uploaded_bytes; /* from the host to the device */
    uint64_t pageable_bytes; /* of these, from memory that is not pinned */
} simt_totals;
simt_totals simt_totals_get(void);
/* How many algorithms cuBLASLt has for a product: 0, then it is not installed; 1, the default; 3, one that takes a
 * millisecond more, one that is right, and one that refuses. */
void simt_lt_propose(int n);

#ifdef __cplusplus
}
#endif
