/* tests/simt/fiber.cc: see fiber.h. This file and the rest of the runtime are never instrumented by a sanitizer: they
 * tell it about fibers instead (SIMT_ASAN, SIMT_TSAN). */
#include "tests/simt/fiber.h"

#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>
#include <utility>

#ifdef SIMT_ASAN
extern "C" void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom_old, size_t *size_old);
#endif
#ifdef SIMT_TSAN
extern "C" void *__tsan_get_current_fiber(void);
extern "C" void *__tsan_create_fiber(unsigned flags);
extern "C" void __tsan_switch_to_fiber(void *fiber, unsigned flags);
extern "C" void __tsan_acquire(void *tag);
extern "C" void __tsan_release(void *tag);
#endif

simt_thread *simt_self;

/* Saves the callee-saved registers on the stack and the stack pointer in *save, then continues on the stack `to`. */
extern "C" __attribute__((visibility("hidden"))) void simt_switch_stack(void **save, void *to);
#if defined(__x86_64__)
asm(".text\n"
    ".globl simt_switch_stack\n"
    "simt_switch_stack:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\n"
    "mov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\n"
    "ret\n");
#elif defined(__aarch64__)
asm(".text\n"
    ".globl simt_switch_stack\n"
    "simt_switch_stack:\n"
    "sub sp,sp,#160\n"
    "stp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\nstp x27,x28,[sp,#64]\n"
    "stp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
    "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\nldp x27,x28,[sp,#64]\n"
    "ldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
    "add sp,sp,#160\n"
    "ret\n");
#else
#error "tests/simt: no stack switch for this processor"
#endif

namespace simt
{

static int from_environment(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text != nullptr ? atoi(text) : otherwise;
}

simt_config config = {(simt_order)from_environment("SIMT_ORDER", SIMT_ORDER_FORWARD),
                      (uint32_t)from_environment("SIMT_SEED", 1),
                      from_environment("SIMT_RESIDENT", 1),
                      from_environment("SIMT_COPIES_LATE", 1) != 0,
                      from_environment("SIMT_LAZY", 0) != 0,
                      from_environment("SIMT_SERIAL", 0) != 0};

static const size_t STACK_BYTES = 128 << 10;
static const size_t GUARD_BYTES = 4096;

/* Fibers that no grid has. They are never freed: LeakSanitizer sees them as reachable at exit. */
static std::vector<fiber *> &pool = *new std::vector<fiber *>;
static size_t n_created;
static fiber grid_fiber; /* the thread that launched the grid */
static fiber *current;
static void (*fiber_body)();
static uint64_t random_state;

/* The run queue is a ring of fixed size: no allocation in a fiber, which a sanitizer would take for the kernel's. */
static std::vector<fiber *> &ring = *new std::vector<fiber *>;
static size_t ring_head, ring_tail, ring_mask;

void acquire([[maybe_unused]] void *tag)
{
#ifdef SIMT_TSAN
    __tsan_acquire(tag);
#endif
}

void release([[maybe_unused]] void *tag)
{
#ifdef SIMT_TSAN
    __tsan_release(tag);
#endif
}

#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
void quiet_copy(void *dst, const void *src, size_t n_bytes)
{
    volatile char *to = (volatile char *)dst;
    for (size_t i = 0; i < n_bytes; i++)
        to[i] = ((const volatile char *)src)[i];
}

void quiet_fill(void *dst, size_t n_bytes)
{
    volatile char *to = (volatile char *)dst;
    for (size_t i = 0; i < n_bytes; i++)
        to[i] = (char)0xff;
}
#else
void quiet_copy(void *dst, const void *src, size_t n_bytes)
{
    memcpy(dst, src, n_bytes);
}

void quiet_fill(void *dst, size_t n_bytes)
{
    memset(dst, 0xff, n_bytes);
}
#endif

void random_restart()
{
    random_state = 88172645463325252u * (uint64_t)config.seed + 12345u;
}

unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 32) % n;
}

fiber *current_fiber()
{
    return current;
}

static void switch_to(fiber *to)
{
    fiber *from = current;
    if (to == from) return;
    current = to;
    simt_self = &to->self;
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(&from->asan_fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef SIMT_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 1); /* 1: the switch itself orders nothing */
#endif
    simt_switch_stack(&from->saved_sp, to->saved_sp);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(from->asan_fake_stack, nullptr, nullptr);
#endif
}

void make_ready(fiber *f)
{
    ring[ring_tail++ & ring_mask] = f;
}

bool nobody_is_ready()
{
    return ring_head == ring_tail;
}

static fiber *pick_ready()
{
    if (nobody_is_ready()) return &grid_fiber;
    if (config.order == SIMT_ORDER_FORWARD) return ring[ring_head++ & ring_mask];
    if (config.order == SIMT_ORDER_RANDOM) {
        size_t chosen = ring_head + random_below((unsigned)(ring_tail - ring_head));
        std::swap(ring[chosen & ring_mask], ring[(ring_tail - 1) & ring_mask]);
    }
    return ring[--ring_tail & ring_mask];
}

void run_ready_fibers()
{
    switch_to(pick_ready());
}

void wait_in(const char *what, simt_place place)
{
    current->waits_in = what;
    current->place = place;
    switch_to(pick_ready());
    current->waits_in = nullptr;
}

void leave_fiber()
{
    switch_to(pick_ready());
}

static void fiber_main()
{
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    for (;;)
        fiber_body();
}

static fiber *create_fiber()
{
    fiber *f = new fiber();
    char *map = (char *)mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, GUARD_BYTES, PROT_NONE) != 0) {
        perror("tests/simt: fiber stack");
        abort();
    }
    f->stack = map + GUARD_BYTES;
    f->stack_bytes = STACK_BYTES;
    /* Stacks start at different offsets: else the tops of all of them would share a few cache sets. */
    void **top = (void **)(f->stack + STACK_BYTES - n_created++ % 32 * 128);
#if defined(__x86_64__)
    *--top = nullptr;
    *--top = (void *)fiber_main;
    top -= 6;
#else
    top -= 20;
    top[11] = (void *)fiber_main;
#endif
    f->saved_sp = top;
#ifdef SIMT_TSAN
    f->tsan_fiber = __tsan_create_fiber(0);
#endif
    return f;
}

std::vector<fiber *> take_fibers(size_t n)
{
    while (pool.size() < n)
        pool.push_back(create_fiber());
    std::vector<fiber *> taken(pool.end() - (ptrdiff_t)n, pool.end());
    pool.resize(pool.size() - n);
    return taken;
}

void give_back_fibers(const std::vector<fiber *> &fibers)
{
    pool.insert(pool.end(), fibers.begin(), fibers.end());
}

/* Where the launching thread's stack lies; AddressSanitizer wants to know when a fiber returns to it. */
static void find_own_stack()
{
    thread_local char *stack = nullptr;
    thread_local size_t stack_bytes = 0;
    if (stack == nullptr) {
        pthread_attr_t attributes;
        void *bottom = nullptr;
        pthread_getattr_np(pthread_self(), &attributes);
        pthread_attr_getstack(&attributes, &bottom, &stack_bytes);
        pthread_attr_destroy(&attributes);
        stack = (char *)bottom;
    }
    grid_fiber.stack = stack;
    grid_fiber.stack_bytes = stack_bytes;
}

void fibers_begin(size_t n_fibers, void (*body)())
{
    find_own_stack();
#ifdef SIMT_TSAN
    grid_fiber.tsan_fiber = __tsan_get_current_fiber();
#endif
    size_t n_ring = 1024;
    while (n_ring < n_fibers)
        n_ring *= 2;
    ring.resize(n_ring);
    ring_mask = n_ring - 1;
    ring_head = ring_tail = 0;
    current = &grid_fiber;
    fiber_body = body;
    random_restart();
}

} // namespace simt

simt_config simt_config_get(void)
{
    return simt::config;
}

void simt_config_set(const simt_config *config)
{
    simt::config = *config;
}
