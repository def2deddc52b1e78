/* bench/exp/fibers.h: what the experiments use of a GPU and the host runtime of tests/simt does not have: clusters,
 * distributed shared memory, waiting in a loop, a graph that repeats. Included by device.cuh in place of the hardware.
 *
 * Blocks of a cluster, and blocks that wait for each other's flags, must all be under way at once: exp_fibers_setup()
 * allows EXP_FIBERS_BLOCKS of them, in forward order. */
#pragma once
#include "tests/simt/simt.h"
#include <cuda_runtime.h>

#include <memory>

enum { EXP_FIBERS_BLOCKS = 16 };

struct exp_fibers_clusters; /* of one launch */

void exp_fibers_setup();
std::shared_ptr<exp_fibers_clusters> exp_fibers_create(unsigned cluster_blocks);
/* Each thread, before the kernel. */
void exp_fibers_enter(exp_fibers_clusters *clusters);
unsigned exp_fibers_rank();
void exp_fibers_sync(simt_place place);
/* The address that `p`, in shared memory of the calling block, has in block `rank` of the cluster. */
void *exp_fibers_map(const void *p, unsigned rank);
/* Lets every other thread run. */
void exp_fibers_yield(simt_place place);
