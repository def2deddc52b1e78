/* server/rate.h: how often each client may ask. An account fills up to its limit within a period (a token bucket);
 * accounts are kept in a table of fixed size, in which the one that is fullest gives way. Any thread. */
#pragma once
#include "base/error.h"
#include <stdint.h>

typedef struct t5_rate t5_rate;

/* Whose account: an address, or a key. All bytes count; zero it first. */
typedef struct {
    uint8_t bytes[20];
} t5_rate_account;

/* An account is full again after `period_ms`. `seed` keeps clients from choosing whom they share a place in the table
 * with: a random number. */
t5_status t5_rate_create(int32_t n_accounts, int64_t period_ms, uint64_t seed, t5_rate **out, t5_error *err);
void t5_rate_destroy(t5_rate *r); /* accepts NULL */
/* Takes `cost` from an account of `limit` per period: 0 when there was enough, else the seconds (1 to the period) until
 * there is, and nothing was taken. What costs more than a full account never passes. now_ms: t5_clock_ms(). */
int32_t t5_rate_take(t5_rate *r, const t5_rate_account *account, int64_t limit, int64_t cost, int64_t now_ms);
