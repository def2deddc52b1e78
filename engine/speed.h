/* engine/speed.h: how fast a device takes up work while work waits: cost per second, where a second counts less the
 * longer ago it was. It answers one question: how long will what waits now have to wait? No lock of its own. */
#pragma once
#include <stdint.h>

typedef struct {
    double cost, seconds; /* sums, faded */
} t5_speed;

/* `cost` was taken up in `ns`. */
void t5_speed_add(t5_speed *r, int64_t cost, int64_t ns);
/* Cost per second; 0 while nothing is known. */
double t5_speed_per_s(const t5_speed *r);
