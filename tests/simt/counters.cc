/* tests/simt/counters.cc: counts memory accesses by warp, with no GPU: the kernels are compiled with -fsanitize=thread
 * for its calls before each load and store, and linked with this file instead of the sanitizer's library. The n-th
 * execution of an instruction by the lanes of a warp is taken as one request of the warp. */
#include "tests/simt/counters.h"
#include "tests/simt/grid.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace
{

struct request {
    simt::memory_space space;
    bool is_store;
    unsigned n_bytes; /* of a lane */
    uintptr_t lanes[32];
};

/* Units: 32-byte sectors of global memory, wavefronts of shared memory. */
struct total {
    unsigned long long n_requests, n_bytes, n_units, n_units_ideal;
};

struct kernel_totals {
    total by[2][2]; /* [is_shared][is_store] */
};

/* warp, instruction, how many times before */
typedef std::map<std::pair<unsigned, std::pair<void *, unsigned>>, request> request_map;

std::map<std::string, kernel_totals> &totals = *new std::map<std::string, kernel_totals>;
request_map &open_requests = *new request_map;
std::map<std::pair<unsigned, void *>, unsigned> &n_before = *new std::map<std::pair<unsigned, void *>, unsigned>;

/* threadIdx and its kin are registers on a GPU, here memory behind a pointer. */
bool is_register(const void *p)
{
    const char *at = (const char *)p;
    bool is_pointer = at >= (const char *)&simt_self && at < (const char *)(&simt_self + 1);
    return is_pointer || (at >= (const char *)simt_self && at < (const char *)(simt_self + 1));
}

void note(void *instruction, const void *p, unsigned n_bytes, bool is_store)
{
    if (simt_self == nullptr) return;
    simt::memory_space space = simt::space_of(p);
    if (space == simt::memory_space::stack || is_register(p)) return;
    unsigned thread = simt_self->warp * 32 + simt_self->lane;
    unsigned n = n_before[{thread, instruction}]++;
    request &r = open_requests[{simt_self->warp, {instruction, n}}];
    if (r.n_bytes == 0) r = {space, is_store, n_bytes, {}};
    r.lanes[simt_self->lane] = (uintptr_t)p;
}

/* Different units of `unit_bytes` that the request touches. Valid until the next call. */
const std::vector<uintptr_t> &touched(const request &r, unsigned unit_bytes)
{
    static std::vector<uintptr_t> &units = *new std::vector<uintptr_t>;
    units.clear();
    for (uintptr_t p : r.lanes) {
        for (uintptr_t unit = p / unit_bytes; p != 0 && unit <= (p + r.n_bytes - 1) / unit_bytes; unit++)
            units.push_back(unit);
    }
    std::sort(units.begin(), units.end());
    units.erase(std::unique(units.begin(), units.end()), units.end());
    return units;
}

size_t divide_up(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

/* Different words that the busiest of the 32 banks has to give, one a wavefront. */
size_t count_wavefronts(const std::vector<uintptr_t> &words)
{
    size_t depth[32] = {}, deepest = 0;
    for (uintptr_t word : words) {
        size_t d = ++depth[word % 32];
        deepest = d > deepest ? d : deepest;
    }
    return deepest;
}

void add(total *t, const request &r, bool is_shared)
{
    size_t n_bytes = touched(r, 1).size();
    t->n_requests++;
    t->n_bytes += n_bytes;
    if (is_shared) {
        const std::vector<uintptr_t> &words = touched(r, 4);
        t->n_units += count_wavefronts(words);
        t->n_units_ideal += divide_up(words.size(), 32);
    } else {
        t->n_units += touched(r, 32).size();
        t->n_units_ideal += divide_up(n_bytes, 32);
    }
}

double share(const total &t)
{
    return (double)t.n_units_ideal / (double)t.n_units;
}

} // namespace

void simt_on_block_end(const char *kernel)
{
    kernel_totals &k = totals[kernel];
    for (const auto &entry : open_requests) {
        const request &r = entry.second;
        bool is_shared = r.space == simt::memory_space::shared;
        add(&k.by[is_shared][r.is_store], r, is_shared);
    }
    open_requests.clear();
    n_before.clear();
}

void simt_counters_print(void)
{
    printf("| kernel | memory | requests | bytes | of ideal |\n| --- | --- | --- | --- | --- |\n");
    for (const auto &entry : totals) {
        for (int is_shared = 0; is_shared < 2; is_shared++) {
            for (int is_store = 0; is_store < 2; is_store++) {
                const total &t = entry.second.by[is_shared][is_store];
                if (t.n_requests == 0) continue;
                printf("| `%s` | %s %s | %llu | %llu | %.0f %% |\n", entry.first.c_str(),
                       is_shared ? "shared" : "global", is_store ? "store" : "load", t.n_requests, t.n_bytes,
                       100.0 * share(t));
            }
        }
    }
}

double simt_counters_share(const char *prefix, int is_shared, int is_store)
{
    total sum = {};
    for (const auto &entry : totals) {
        if (entry.first.compare(0, strlen(prefix), prefix) != 0) continue;
        const total &t = entry.second.by[is_shared][is_store];
        sum.n_requests += t.n_requests;
        sum.n_bytes += t.n_bytes;
        sum.n_units += t.n_units;
        sum.n_units_ideal += t.n_units_ideal;
    }
    return sum.n_units > 0 ? share(sum) : -1.0;
}

uint4 simt_counted_load16(const void *p)
{
    note(__builtin_return_address(0), p, 16, false);
    return *(const uint4 *)p;
}

/* ---- what the instrumentation calls ---- */

#define DEFINE_ACCESS(n) \
    extern "C" void __tsan_read##n(void *p) \
    { \
        note(__builtin_return_address(0), p, n, false); \
    } \
    extern "C" void __tsan_write##n(void *p) \
    { \
        note(__builtin_return_address(0), p, n, true); \
    } \
    extern "C" void __tsan_unaligned_read##n(void *p) \
    { \
        note(__builtin_return_address(0), p, n, false); \
    } \
    extern "C" void __tsan_unaligned_write##n(void *p) \
    { \
        note(__builtin_return_address(0), p, n, true); \
    }
DEFINE_ACCESS(1)
DEFINE_ACCESS(2)
DEFINE_ACCESS(4)
DEFINE_ACCESS(8)
DEFINE_ACCESS(16)

extern "C" void __tsan_read_range(void *p, unsigned long n_bytes)
{
    note(__builtin_return_address(0), p, (unsigned)n_bytes, false);
}
extern "C" void __tsan_write_range(void *p, unsigned long n_bytes)
{
    note(__builtin_return_address(0), p, (unsigned)n_bytes, true);
}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_init(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
extern "C" unsigned char __tsan_atomic8_load(const volatile unsigned char *p, int)
{
    return *p;
}
extern "C" int __tsan_atomic32_exchange(volatile int *p, int value, int)
{
    int old = *p;
    *p = value;
    return old;
}
extern "C" void __tsan_atomic32_store(volatile int *p, int value,
                                      int) /* clang: an exchange whose result nobody wants */
{
    *p = value;
}
extern "C" int __tsan_atomic32_fetch_add(volatile int *p, int value, int)
{
    int old = *p;
    *p = old + value;
    return old;
}
