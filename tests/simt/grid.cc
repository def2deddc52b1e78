/* tests/simt/grid.cc: runs grids: starts blocks, lets their fibers run, reports deadlocks, gives each block its shared
 * arrays. A grid runs on the calling thread, one at a time; one that waits for those before it is set aside. */
#include "tests/simt/grid.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/simt/fake_runtime.h"

namespace simt
{

struct grid {
    std::shared_ptr<const kernel_call> call;
    const simt_launch_config &config;
    size_t n_blocks = 0, n_threads = 0, n_resident = 0, next = 0, n_done = 0;
    std::vector<size_t> order = {};
    std::vector<std::unique_ptr<block>> blocks = {}; /* [n_resident] those that run */
    std::vector<fiber *> fibers = {};                /* [n_resident][n_threads] */
    std::vector<fiber *> held = {};                  /* they wait for the kernels before */
    bool has_begun = false, may_pass = false;
    char launch_tag = 0, pass_tag = 0, end_tag = 0;
    /* ThreadSanitizer only: shared arrays at addresses never used twice; `arena` is the first that is free. */
    char *arena_map = nullptr, *arena = nullptr, *arena_end = nullptr;
    size_t arena_bytes = 0;
};

static grid *running;
static std::recursive_mutex one_grid_at_a_time;
static launch_totals n_launches;
static char fence_tag;

const char *kernel_name()
{
    return running != nullptr ? running->config.name : "-";
}

size_t dynamic_shared_bytes()
{
    return running->config.shared_bytes;
}

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "SIMT: kernel %s: ", kernel_name());
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(nullptr);
    _exit(97);
}

/* 0xff is NaN in half, bfloat16 and float: what is read before it is written shows in the result. Under
 * ThreadSanitizer a heap block that is used again would look like a race with its former owner, hence the arena. */
static char *allocate_shared(size_t n_bytes, size_t align)
{
#ifdef SIMT_TSAN
    uintptr_t p = ((uintptr_t)running->arena + align - 1) & ~(uintptr_t)(align - 1);
    running->arena = (char *)p + n_bytes;
    if (running->arena > running->arena_end) fail("shared memory arena is spent");
    quiet_fill((void *)p, n_bytes);
#else
    void *p = nullptr;
    if (posix_memalign(&p, align, n_bytes) != 0) abort();
    memset(p, 0xff, n_bytes);
#endif
    return (char *)p;
}

static void run_thread()
{
    acquire(&running->launch_tag);
    running->call->body();
    fiber *f = current_fiber();
    if (!f->copies.empty()) fail("a thread ended with cp.async copies that it never waited for");
    if (running->config.overlaps && !f->has_awaited)
        fail("thread %u of block (%u,%u,%u) ended without waiting for the kernel before", f->self.thread.x,
             f->home->index.x, f->home->index.y, f->home->index.z);
    release(&running->end_tag);
    on_thread_exit(f->home, f);
    leave_fiber();
}

static void start_block(block *b, size_t i_block, size_t first_fiber)
{
    dim3 grid = running->config.grid;
    dim3 dim = running->config.block;
    unsigned index = (unsigned)i_block;
    b->index = uint3{index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    b->n_threads = b->n_alive = (int)(dim.x * dim.y * dim.z);
    b->is_live = true;
    b->warps.resize((size_t)(b->n_threads + 31) / 32);
    for (warp &w : b->warps)
        w.alive = w.used = 0;
    b->bar.n_arrived = 0;
    b->bar.waiting.clear();
    b->bar.waiting.reserve((size_t)b->n_threads);
    b->shared.reserve(64);
    size_t shared_bytes = running->config.shared_bytes;
    b->dynamic_shared = shared_bytes > 0 ? allocate_shared(shared_bytes, 1024) : nullptr;
    for (unsigned i = 0; i < (unsigned)b->n_threads; i++) {
        fiber *f = running->fibers[first_fiber + i];
        f->home = b;
        f->waits_in = nullptr;
        f->has_awaited = false;
        f->self = simt_thread{{i % dim.x, i / dim.x % dim.y, i / dim.x / dim.y}, b->index, dim, grid, i & 31, i >> 5};
        b->warps[i >> 5].alive |= 1u << (i & 31);
        make_ready(f);
    }
}

static void end_block(block *b)
{
    if (simt_on_block_end != nullptr) simt_on_block_end(running->config.name);
#ifndef SIMT_TSAN
    for (shared_array &array : b->shared)
        free(array.p);
    free(b->dynamic_shared);
#endif
    b->shared.clear();
    b->dynamic_shared = nullptr;
    b->is_live = false;
}

[[noreturn]] static void report_deadlock()
{
    fprintf(stderr, "SIMT: deadlock in kernel %s:\n", kernel_name());
    std::map<std::string, int> waiting;
    for (const fiber *f : running->fibers) {
        if (f->waits_in == nullptr) continue;
        waiting[std::string(f->waits_in) + " at " + f->place.file + ":" + std::to_string(f->place.line)]++;
    }
    for (auto &entry : waiting)
        fprintf(stderr, "  %d thread(s) wait in %s\n", entry.second, entry.first.c_str());
    fail("deadlock");
}

static std::vector<size_t> order_of_blocks(size_t n_blocks)
{
    std::vector<size_t> order(n_blocks);
    for (size_t i = 0; i < n_blocks; i++)
        order[i] = config.order == SIMT_ORDER_REVERSE ? n_blocks - 1 - i : i;
    for (size_t i = n_blocks; config.order == SIMT_ORDER_RANDOM && i > 1; i--)
        std::swap(order[i - 1], order[random_below((unsigned)i)]);
    return order;
}

/* Runs blocks until all are done, the next as soon as one ends. */
static void run_blocks(grid *g)
{
    while (g->n_done < g->n_blocks) {
        run_ready_fibers();
        size_t n_done_before = g->n_done;
        for (size_t i = 0; i < g->n_resident; i++) {
            block *b = g->blocks[i].get();
            if (!b->is_live || b->n_alive > 0) continue;
            end_block(b);
            g->n_done++;
            if (g->next < g->n_blocks) start_block(b, g->order[g->next++], i * g->n_threads);
        }
        if (g->n_done == n_done_before && nobody_is_ready()) report_deadlock();
    }
}

grid *grid_create(std::shared_ptr<const kernel_call> call)
{
    grid *g = new grid{call, call->config};
    g->n_blocks = (size_t)g->config.grid.x * g->config.grid.y * g->config.grid.z;
    g->n_threads = (size_t)g->config.block.x * g->config.block.y * g->config.block.z;
    g->n_resident = std::min(g->n_blocks, (size_t)std::max(config.resident, 1));
    return g;
}

/* The calling thread runs the grid's fibers from here on, until leave(). */
static void enter(grid *g)
{
    one_grid_at_a_time.lock();
    if (running != nullptr) fail("launch of %s from inside a kernel", g->config.name);
    running = g;
    fibers_begin(g->n_resident * g->n_threads, run_thread);
}

static void leave()
{
    running = nullptr;
    simt_self = nullptr;
    one_grid_at_a_time.unlock();
}

/* Starts the first blocks. */
static void start(grid *g)
{
    g->has_begun = true;
    n_launches.n_all++;
    n_launches.n_overlapping += g->config.overlaps;
#ifdef SIMT_TSAN
    g->arena_bytes = g->n_blocks * (g->config.shared_bytes + (64 << 10)) + (1 << 20);
    g->arena_map = (char *)mmap(nullptr, g->arena_bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (g->arena_map == MAP_FAILED) fail("no arena of %zu bytes", g->arena_bytes);
    g->arena = g->arena_map;
    g->arena_end = g->arena + g->arena_bytes;
#endif
    g->fibers = take_fibers(g->n_resident * g->n_threads);
    g->held.reserve(g->fibers.size());
    g->order = order_of_blocks(g->n_blocks);
    release(&g->launch_tag);
    for (; g->next < g->n_resident; g->next++) {
        g->blocks.emplace_back(new block());
        start_block(g->blocks.back().get(), g->order[g->next], g->next * g->n_threads);
    }
}

void grid_begin(grid *g)
{
    if (g->has_begun || !g->config.overlaps) return;
    enter(g);
    start(g);
    run_ready_fibers();
    leave();
}

void grid_finish(grid *g)
{
    enter(g);
    g->may_pass = true;
    release(&g->pass_tag);
    if (!g->has_begun) start(g);
    for (fiber *f : g->held)
        make_ready(f);
    run_blocks(g);
    acquire(&g->end_tag);
    leave();
    give_back_fibers(g->fibers);
#ifdef SIMT_TSAN
    munmap(g->arena_map, g->arena_bytes);
#endif
    delete g;
}

launch_totals launch_counts()
{
    return n_launches;
}

memory_space space_of(const void *p)
{
    const char *at = (const char *)p;
    fiber *f = current_fiber();
    if (at >= f->stack && at < f->stack + f->stack_bytes) return memory_space::stack;
    block *b = f->home;
    if (b->dynamic_shared != nullptr && at >= b->dynamic_shared &&
        at < b->dynamic_shared + running->config.shared_bytes)
        return memory_space::shared;
    for (shared_array &array : b->shared) {
        if (at >= array.p && at < array.p + array.n_bytes) return memory_space::shared;
    }
    return memory_space::global;
}

} // namespace simt

cudaError_t simt_launch(const simt_launch_config &config, cudaStream_t stream, std::function<void()> body)
{
    cudaError_t error = simt::count_call();
    if (error != cudaSuccess) return error;
    dim3 grid = config.grid, block = config.block;
    size_t n_threads = (size_t)block.x * block.y * block.z;
    bool is_grid_valid = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y <= 65535 && grid.z <= 65535;
    if (n_threads == 0 || n_threads > 1024 || !is_grid_valid) return cudaErrorInvalidConfiguration;
    if (config.shared_bytes > simt::SHARED_BYTES_OPT_IN) return cudaErrorInvalidConfiguration;
    if (stream != nullptr && !simt::is_of_current_device(stream)) return cudaErrorInvalidResourceHandle;
    simt::enqueue_kernel(stream, std::make_shared<simt::kernel_call>(simt::kernel_call{config, std::move(body)}));
    return cudaSuccess;
}

void simt_await_previous(simt_place place)
{
    simt::fiber *f = simt::current_fiber();
    simt::grid *g = simt::running;
    if (f->has_awaited) simt::fail("a thread waits for the kernel before twice, at %s:%d", place.file, place.line);
    f->has_awaited = true;
    if (!g->may_pass) {
        g->held.push_back(f);
        simt::wait_in("t5_await_previous", place);
    }
    simt::acquire(&g->pass_tag);
}

void *simt_shared(const void *key, size_t n_bytes, size_t align)
{
    simt::block *b = simt::current_fiber()->home;
    for (simt::shared_array &array : b->shared) {
        if (array.key == key) return array.p;
    }
    b->shared.push_back({key, simt::allocate_shared(n_bytes, align), n_bytes});
    return b->shared.back().p;
}

void *simt_dynamic_shared(void)
{
    return simt::current_fiber()->home->dynamic_shared;
}

void simt_fence(void)
{
    simt::release(&simt::fence_tag);
    simt::acquire(&simt::fence_tag);
}
