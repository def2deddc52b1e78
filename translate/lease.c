/* translate/lease.c: see lease.h. The catalog's mutex is held while a waiting work is hurried (catalog, then workers),
 * so that a lease that is found among the waiting ones cannot end meanwhile. */
#include "translate/lease.h"

#include "base/assert.h"
#include "base/clock.h"
#include "translate/catalog_internal.h"

static void unlink_waiting(t5_catalog_model *m, t5_lease *l)
{
    if (l->previous != NULL) l->previous->next = l->next;
    if (l->previous == NULL) m->waiting = l->next;
    if (l->next != NULL) l->next->previous = l->previous;
    l->is_waiting = false;
}

static void link_waiting(t5_catalog_model *m, t5_lease *l)
{
    l->previous = NULL;
    l->next = m->waiting;
    if (m->waiting != NULL) m->waiting->previous = l;
    m->waiting = l;
    l->is_waiting = true;
}

void t5_leases_answer(t5_catalog *c, t5_catalog_model *m)
{
    while (m->waiting != NULL) {
        t5_lease *l = m->waiting;
        unlink_waiting(m, l);
        l->translator = m->translator;
        l->is_refused = m->translator == NULL;
        if (m->translator != NULL) m->n_leases++;
        t5_workers_hurry(c->workers, &l->work);
    }
}

/* Under the lock. */
static t5_status fail_closed(const t5_catalog_model *m, t5_error *err)
{
    const int64_t left_ms = m->retry_ms - t5_clock_ms();
    T5_FAIL(err, T5_ERR_BUSY, "the model %s could not be opened, try again later", m->profile.name);
    return t5_error_retry_after(err, left_ms > 1000 ? (int)((left_ms + 999) / 1000) : 1);
}

/* Under the lock. */
static t5_status take(t5_catalog *c, t5_catalog_model *m, int64_t deadline_ms, t5_lease *l, bool *out_waits,
                      t5_error *err)
{
    *out_waits = false;
    if (m->translator == NULL && t5_clock_ms() < m->retry_ms) return fail_closed(m, err);
    c->asked_last = m;
    if (m->translator != NULL) {
        l->translator = m->translator;
        m->n_leases++;
        return T5_OK;
    }
    *out_waits = true;
    link_waiting(m, l);
    t5_workers_push_at(c->workers, &l->work, deadline_ms != 0 ? deadline_ms : INT64_MAX);
    pthread_cond_signal(&c->wake);
    return T5_OK;
}

t5_status t5_lease_take(t5_catalog *c, int32_t i_model, int64_t deadline_ms, void (*on_ready)(void *ctx), void *ctx,
                        t5_lease *l, bool *out_waits, t5_error *err)
{
    T5_ASSERT(i_model >= 0 && i_model < c->n_models && l->translator == NULL && !l->is_waiting);
    *l = (t5_lease){.catalog = c, .i_model = i_model, .work = {.run = on_ready, .ctx = ctx}};
    pthread_mutex_lock(&c->mutex);
    const t5_status status = take(c, &c->models[i_model], deadline_ms, l, out_waits, err);
    pthread_mutex_unlock(&c->mutex);
    return status;
}

t5_status t5_lease_check(t5_lease *l, t5_error *err)
{
    t5_catalog_model *m = &l->catalog->models[l->i_model];
    t5_status status = T5_OK;
    pthread_mutex_lock(&l->catalog->mutex);
    if (l->is_waiting) unlink_waiting(m, l);
    if (l->is_refused) status = fail_closed(m, err);
    pthread_mutex_unlock(&l->catalog->mutex);
    if (status != T5_OK || l->translator != NULL) return status;
    return T5_FAIL(err, T5_ERR_TIMEOUT, "the model %s is still being opened, try again later", m->profile.name);
}

void t5_lease_hurry(t5_lease *l)
{
    if (l->catalog != NULL && l->catalog->workers != NULL) t5_workers_hurry(l->catalog->workers, &l->work);
}

void t5_lease_return(t5_lease *l)
{
    if (l->translator == NULL) return;
    t5_catalog *c = l->catalog;
    t5_catalog_model *m = &c->models[l->i_model];
    pthread_mutex_lock(&c->mutex);
    T5_ASSERT(m->n_leases > 0);
    m->n_leases--;
    m->idle_since_ms = t5_clock_ms();
    l->translator = NULL;
    if (m->n_leases == 0) pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->mutex);
}
