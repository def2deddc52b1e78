/* server/rate.c: see rate.h. The table is cut in groups of eight places; an account's hash names its group. A group
 * without a free place drops its fullest account: it is the one for which forgetting changes least. */
#include "server/rate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define GROUP 8
#define MS_PER_S 1000

typedef struct {
    t5_rate_account account;
    double used;   /* of the limit, as of time_ms; falls by the limit in a period */
    int64_t limit; /* 0: a free place */
    int64_t time_ms;
} place;

struct t5_rate {
    pthread_mutex_t mutex;
    uint64_t seed;
    int64_t period_ms;
    int32_t n_groups;
    place *places; /* [n_groups][GROUP] */
};

t5_status t5_rate_create(int32_t n_accounts, int64_t period_ms, uint64_t seed, t5_rate **out, t5_error *err)
{
    t5_rate *r = calloc(1, sizeof *r);
    const int32_t n_groups = (n_accounts + GROUP - 1) / GROUP;
    if (r != NULL) r->places = calloc((size_t)n_groups * GROUP, sizeof *r->places);
    if (r == NULL || r->places == NULL) {
        free(r);
        return T5_FAIL(err, T5_ERR_NOMEM, "rate limits: %d accounts", n_accounts);
    }
    pthread_mutex_init(&r->mutex, NULL);
    r->period_ms = period_ms;
    r->seed = seed;
    r->n_groups = n_groups;
    *out = r;
    return T5_OK;
}

void t5_rate_destroy(t5_rate *r)
{
    if (r == NULL) return;
    pthread_mutex_destroy(&r->mutex);
    free(r->places);
    free(r);
}

/* FNV-1a over the seed and the account, mixed at the end (Steele et al., splitmix64). */
static uint64_t hash_of(uint64_t seed, const t5_rate_account *account)
{
    uint64_t h = 0xcbf29ce484222325u ^ seed;
    for (size_t i = 0; i < sizeof account->bytes; i++)
        h = (h ^ account->bytes[i]) * 0x100000001b3u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

static double used_now(const t5_rate *r, const place *p, int64_t now_ms)
{
    const double used = p->used - (double)(now_ms - p->time_ms) * (double)p->limit / (double)r->period_ms;
    return used > 0 ? used : 0;
}

/* The place of an account, its old one or a new one. */
static place *find_place(t5_rate *r, const t5_rate_account *account, int64_t now_ms)
{
    place *group = &r->places[hash_of(r->seed, account) % (uint64_t)r->n_groups * GROUP], *fullest = &group[0];
    double least = 2;
    for (int i = 0; i < GROUP; i++) {
        place *p = &group[i];
        if (p->limit > 0 && memcmp(&p->account, account, sizeof *account) == 0) return p;
        const double share = p->limit > 0 ? used_now(r, p, now_ms) / (double)p->limit : -1;
        if (share < least) fullest = p;
        if (share < least) least = share;
    }
    *fullest = (place){.account = *account, .time_ms = now_ms};
    return fullest;
}

int32_t t5_rate_take(t5_rate *r, const t5_rate_account *account, int64_t limit, int64_t cost, int64_t now_ms)
{
    const int32_t period_s = (int32_t)(r->period_ms / MS_PER_S);
    if (cost > limit || limit <= 0) return period_s;
    pthread_mutex_lock(&r->mutex);
    place *p = find_place(r, account, now_ms);
    const double used = used_now(r, p, now_ms), missing = used + (double)cost - (double)limit;
    p->limit = limit;
    p->time_ms = now_ms;
    p->used = missing <= 0 ? used + (double)cost : used;
    pthread_mutex_unlock(&r->mutex);
    if (missing <= 0) return 0;
    const int32_t wait_s = (int32_t)(missing * period_s / (double)limit) + 1;
    return wait_s < period_s ? wait_s : period_s;
}
