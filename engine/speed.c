/* engine/speed.c: see speed.h. */
#include "engine/speed.h"

#include "base/assert.h"

#include <math.h>

#define FADE_S 10.0 /* what was this long ago counts 1/e */

void t5_speed_add(t5_speed *r, int64_t cost, int64_t ns)
{
    T5_ASSERT(cost >= 0 && ns >= 0);
    const double seconds = (double)ns / 1e9;
    const double faded = exp(-seconds / FADE_S);
    r->cost = r->cost * faded + (double)cost;
    r->seconds = r->seconds * faded + seconds;
}

double t5_speed_per_s(const t5_speed *r)
{
    return r->seconds > 0 ? r->cost / r->seconds : 0;
}
