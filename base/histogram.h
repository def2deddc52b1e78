/* base/histogram.h: how often a whole number fell between fixed bounds, for durations in nanoseconds and for counts.
 * Memory is fixed and adding costs two atomic adds, so that hot paths can afford it. Any thread may add and look; a
 * look at a moment of many adds may miss some of them, but its own numbers agree. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#define T5_HISTOGRAM_BOUNDS_MAX 23

/* Bucket i counts the values v with bounds[i - 1] < v <= bounds[i]; the last bucket what is above every bound. */
typedef struct {
    const int64_t *bounds; /* [n_bounds] rising; borrowed for the life of the histogram */
    int32_t n_bounds;
    atomic_llong buckets[T5_HISTOGRAM_BOUNDS_MAX + 1];
    atomic_llong sum;
} t5_histogram;

/* A look at a histogram. */
typedef struct {
    const int64_t *bounds; /* [n_bounds] */
    int32_t n_bounds;
    int64_t buckets[T5_HISTOGRAM_BOUNDS_MAX + 1]; /* [n_bounds + 1] of their own, not added up */
    int64_t sum, count;
} t5_histogram_counts;

/* `n_bounds` is 1 to T5_HISTOGRAM_BOUNDS_MAX. */
void t5_histogram_init(t5_histogram *h, const int64_t *bounds, int32_t n_bounds);
void t5_histogram_add(t5_histogram *h, int64_t value);
void t5_histogram_read(const t5_histogram *h, t5_histogram_counts *out);
/* Adds a look to another one: at a histogram with the same bounds, or zeroed. */
void t5_histogram_counts_add(t5_histogram_counts *sum, const t5_histogram_counts *h);
