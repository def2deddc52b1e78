/* tests/simt/grid.cc: runs a grid: starts blocks, lets their fibers run, reports deadlocks, gives each block its shared
 * arrays. A launch runs on the calling thread, one launch at a time. */
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

struct launch {
    dim3 grid, block_dim;
    size_t shared_bytes;
    const char *name;
    const std::function<void()> *body;
    char *arena, *arena_end; /* ThreadSanitizer only: shared arrays at addresses that are never used twice */
};

static launch *running;
static std::recursive_mutex one_grid_at_a_time;
static uint64_t n_launches;
static char launch_tag, end_tag, fence_tag;

const char *kernel_name()
{
    return running != nullptr ? running->name : "-";
}

size_t dynamic_shared_bytes()
{
    return running->shared_bytes;
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
    acquire(&launch_tag);
    (*running->body)();
    fiber *f = current_fiber();
    if (!f->copies.empty()) fail("a thread ended with cp.async copies that it never waited for");
    release(&end_tag);
    on_thread_exit(f->home, f);
    leave_fiber();
}

static void start_block(block *b, size_t i_block, size_t first_fiber)
{
    dim3 grid = running->grid;
    dim3 dim = running->block_dim;
    unsigned index = (unsigned)i_block;
    b->index = uint3{index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    b->n_threads = b->n_alive = (int)(dim.x * dim.y * dim.z);
    b->is_live = true;
    b->warps.assign((size_t)(b->n_threads + 31) / 32, warp{});
    b->bar.n_arrived = 0;
    b->bar.waiting.clear();
    b->bar.waiting.reserve((size_t)b->n_threads);
    b->shared.reserve(64);
    b->dynamic_shared = running->shared_bytes > 0 ? allocate_shared(running->shared_bytes, 1024) : nullptr;
    for (unsigned i = 0; i < (unsigned)b->n_threads; i++) {
        fiber *f = fiber_at(first_fiber + i);
        f->home = b;
        f->waits_in = nullptr;
        f->self = simt_thread{{i % dim.x, i / dim.x % dim.y, i / dim.x / dim.y}, b->index, dim, grid, i & 31, i >> 5};
        b->warps[i >> 5].alive |= 1u << (i & 31);
        make_ready(f);
    }
}

static void end_block(block *b)
{
    if (simt_on_block_end != nullptr) simt_on_block_end(running->name);
#ifndef SIMT_TSAN
    for (shared_array &array : b->shared)
        free(array.p);
    free(b->dynamic_shared);
#endif
    b->shared.clear();
    b->dynamic_shared = nullptr;
    b->is_live = false;
}

[[noreturn]] static void report_deadlock(const std::vector<std::unique_ptr<block>> &blocks, size_t n_fibers)
{
    fprintf(stderr, "SIMT: deadlock in kernel %s:\n", kernel_name());
    std::map<std::string, int> waiting;
    for (size_t i = 0; i < n_fibers * blocks.size(); i++) {
        fiber *f = fiber_at(i);
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

static void run_blocks(size_t n_blocks, size_t n_threads, size_t n_resident)
{
    std::vector<size_t> order = order_of_blocks(n_blocks);
    std::vector<std::unique_ptr<block>> blocks;
    size_t next = 0;
    for (; next < n_resident; next++) {
        blocks.emplace_back(new block());
        start_block(blocks.back().get(), order[next], next * n_threads);
    }
    for (size_t n_done = 0; n_done < n_blocks;) {
        run_ready_fibers();
        size_t n_done_before = n_done;
        for (size_t i = 0; i < n_resident; i++) {
            block *b = blocks[i].get();
            if (!b->is_live || b->n_alive > 0) continue;
            end_block(b);
            n_done++;
            if (next < n_blocks) start_block(b, order[next++], i * n_threads);
        }
        if (n_done == n_done_before && nobody_is_ready()) report_deadlock(blocks, n_threads);
    }
}

static void run_grid(launch *l)
{
    std::lock_guard<std::recursive_mutex> lock(one_grid_at_a_time);
    if (running != nullptr) fail("launch of %s from inside a kernel", l->name);
    running = l;
    n_launches++;
    size_t n_blocks = (size_t)l->grid.x * l->grid.y * l->grid.z;
    size_t n_threads = (size_t)l->block_dim.x * l->block_dim.y * l->block_dim.z;
    size_t n_resident = std::min(n_blocks, (size_t)std::max(config.resident, 1));
    fibers_begin(n_resident * n_threads, run_thread);
#ifdef SIMT_TSAN
    size_t arena_bytes = n_blocks * (l->shared_bytes + (64 << 10)) + (1 << 20);
    char *arena =
        (char *)mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) fail("no arena of %zu bytes", arena_bytes);
    l->arena = arena;
    l->arena_end = arena + arena_bytes;
#endif
    release(&launch_tag);
    run_blocks(n_blocks, n_threads, n_resident);
    acquire(&end_tag);
#ifdef SIMT_TSAN
    munmap(arena, arena_bytes);
#endif
    running = nullptr;
    simt_self = nullptr;
}

memory_space space_of(const void *p)
{
    const char *at = (const char *)p;
    fiber *f = current_fiber();
    if (at >= f->stack && at < f->stack + f->stack_bytes) return memory_space::stack;
    block *b = f->home;
    if (b->dynamic_shared != nullptr && at >= b->dynamic_shared && at < b->dynamic_shared + running->shared_bytes)
        return memory_space::shared;
    for (shared_array &array : b->shared) {
        if (at >= array.p && at < array.p + array.n_bytes) return memory_space::shared;
    }
    return memory_space::global;
}

} // namespace simt

uint64_t simt_launch_count(void)
{
    return simt::n_launches;
}

cudaError_t simt_launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, const char *name,
                        std::function<void()> body)
{
    cudaError_t error = simt::count_call();
    if (error != cudaSuccess) return error;
    size_t n_threads = (size_t)block.x * block.y * block.z;
    bool is_grid_valid = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y <= 65535 && grid.z <= 65535;
    if (n_threads == 0 || n_threads > 1024 || !is_grid_valid) return cudaErrorInvalidConfiguration;
    if (shared_bytes > simt::SHARED_BYTES_OPT_IN) return cudaErrorInvalidConfiguration;
    simt::enqueue(stream, [grid, block, shared_bytes, name, body] {
        simt::launch l = {grid, block, shared_bytes, name, &body, nullptr, nullptr};
        simt::run_grid(&l);
    });
    return cudaSuccess;
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
