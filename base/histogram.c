/* base/histogram.c: see histogram.h. */
#include "base/histogram.h"

#include "base/assert.h"

#include <string.h>

void t5_histogram_init(t5_histogram *h, const int64_t *bounds, int32_t n_bounds)
{
    T5_ASSERT(n_bounds >= 1 && n_bounds <= T5_HISTOGRAM_BOUNDS_MAX);
    for (int32_t i = 1; i < n_bounds; i++)
        T5_ASSERT(bounds[i - 1] < bounds[i]);
    memset(h, 0, sizeof *h);
    h->bounds = bounds;
    h->n_bounds = n_bounds;
}

void t5_histogram_add(t5_histogram *h, int64_t value)
{
    int32_t i = 0;
    while (i < h->n_bounds && value > h->bounds[i])
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

void t5_histogram_read(const t5_histogram *h, t5_histogram_counts *out)
{
    *out = (t5_histogram_counts){.bounds = h->bounds, .n_bounds = h->n_bounds};
    for (int32_t i = 0; i <= h->n_bounds; i++) {
        out->buckets[i] = atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        out->count += out->buckets[i];
    }
    out->sum = atomic_load_explicit(&h->sum, memory_order_relaxed);
}

void t5_histogram_counts_add(t5_histogram_counts *sum, const t5_histogram_counts *h)
{
    if (sum->n_bounds == 0) {
        *sum = *h;
        return;
    }
    if (h->n_bounds == 0) return;
    T5_ASSERT(sum->bounds == h->bounds);
    for (int32_t i = 0; i <= h->n_bounds; i++)
        sum->buckets[i] += h->buckets[i];
    sum->sum += h->sum;
    sum->count += h->count;
}
