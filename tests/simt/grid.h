/* tests/simt/grid.h: a launch as the runtime sees it: blocks of fibers, their warps, barriers and shared arrays.
 * Internal to tests/simt. */
#pragma once
#include "tests/simt/fiber.h"

#include <memory>

namespace simt
{

/* Lanes that meet for one collective. Several may be under way in a warp, with disjoint masks. */
struct meeting {
    unsigned mask;     /* who must come */
    unsigned arrived;  /* who came */
    unsigned to_leave; /* once complete: who has not read the result yet */
    simt_op op;
    simt_place place; /* of the first to arrive */
    bool is_complete;
    fiber *lanes[32];
    unsigned char values[32][16];
    void *const *pointers[32];
};

enum { WARP_MEETINGS = 8 };
struct warp {
    unsigned alive; /* lanes that have not returned */
    unsigned used;  /* bit i: meetings[i] is under way */
    meeting meetings[WARP_MEETINGS];
};

struct barrier {
    int n_arrived;
    int accumulated, result; /* of __syncthreads_or */
    unsigned generation;
    char
        tags[2]; /* for acquire and release; two, as a fast thread may reach the next barrier before a slow one wakes */
    simt_barrier_kind kind;
    simt_place place;
    std::vector<fiber *> waiting;
};

struct shared_array {
    const void *key;
    char *p;
    size_t n_bytes;
};

struct block {
    uint3 index;
    int n_threads, n_alive;
    bool is_live;
    std::vector<warp> warps;
    barrier bar;
    std::vector<shared_array> shared;
    char *dynamic_shared;
};

/* Called when a thread of the block returned: whoever waited for it fails or goes on. */
void on_thread_exit(block *b, fiber *f);

/* A kernel from its launch to its end. Several may be under way, one of which runs. */
struct grid;
struct kernel_call {
    simt_launch_config config;
    std::function<void()> body;
};
grid *grid_create(std::shared_ptr<const kernel_call> call);
/* Runs the first blocks as far as they come while the kernels before are not done. */
void grid_begin(grid *g);
/* The kernels before are done: runs the rest, and frees the grid. */
void grid_finish(grid *g);

/* Kernels that ran since the start. */
struct launch_totals {
    uint64_t n_all, n_overlapping;
};
launch_totals launch_counts();

/* The running kernel. */
const char *kernel_name();
size_t dynamic_shared_bytes();

enum class memory_space { global, shared, stack };
memory_space space_of(const void *p);

} // namespace simt

/* Counters (counters.cc), linked in only where they are wanted. */
extern "C" void simt_on_block_end(const char *kernel) __attribute__((weak));
