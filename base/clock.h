/* base/clock.h: monotonic time for deadlines and measurements. Never the wall clock, which may jump. Any thread. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline int64_t t5_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t t5_clock_ms(void)
{
    return t5_clock_ns() / 1000000;
}
