/* tests/simt/fiber.h: CUDA threads as fibers: a stack each, a switch of a few nanoseconds, a run queue. Internal to
 * tests/simt. One OS thread at a time runs fibers (grid.cc holds a lock).
 *
 * A fiber gives up the processor only inside a barrier or a collective, so which fiber runs next is ours to choose: the
 * order is a test parameter. Under ThreadSanitizer each fiber counts as a thread of its own and a switch makes no
 * happens-before edge; only what orders memory on a GPU does (acquire() and release()), hence every missing barrier is
 * a race with two places in the code. */
#pragma once
#include "tests/simt/simt.h"
#include <cuda_runtime.h>

#include <vector>

namespace simt
{

struct block;

struct pending_copy {
    void *dst;
    const void *src;
    unsigned src_bytes;
};

struct fiber {
    simt_thread self;
    void *saved_sp;
    char *stack;
    size_t stack_bytes;
    block *home;
    void *asan_fake_stack, *tsan_fiber;
    const char *waits_in; /* for the deadlock report; NULL when it does not wait */
    bool has_awaited;     /* the kernel before its own */
    simt_place place;
    std::vector<std::vector<pending_copy>> copies; /* cp.async groups; the last one is open */
};

/* Prepares to run a grid's fibers on the calling thread, when nobody is ready. `body` runs in each fiber that is
 * started, again and again. */
void fibers_begin(size_t n_fibers, void (*body)());
/* Fibers for a grid to start; they come from a pool that grows as needed and is never freed. */
std::vector<fiber *> take_fibers(size_t n);
void give_back_fibers(const std::vector<fiber *> &fibers);
fiber *current_fiber();
void make_ready(fiber *f);
bool nobody_is_ready();
/* The grid's own thread: runs fibers until none is ready. */
void run_ready_fibers();
/* The calling fiber waits for make_ready(). */
void wait_in(const char *what, simt_place place);
/* The calling fiber is done with this block; returns when it is started again. */
void leave_fiber();
unsigned random_below(unsigned n); /* of the configured seed */
void random_restart();

/* Happens-before edges for ThreadSanitizer; nothing elsewhere. */
void acquire(void *tag);
void release(void *tag);

/* memcpy and memset that a sanitizer does not take for accesses of the kernel. */
void quiet_copy(void *dst, const void *src, size_t n_bytes);
void quiet_fill(void *dst, size_t n_bytes); /* with 0xff */

extern simt_config config;

/* Prints what a kernel did wrong and ends the process with exit code 97. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace simt
