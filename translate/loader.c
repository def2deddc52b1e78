/* translate/loader.c: the thread of a catalog that opens models when somebody waits for them, and closes those that
 * nobody has used for a while. One thread, so that models are opened one after another, each by one opener; requests of
 * the models that are open go on meanwhile. What a model counted is kept over its closing, so that counters never fall.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timed_cond.h"
#include "translate/catalog_internal.h"

#include <malloc.h>
#include <signal.h>

#define RETRY_MS 5000 /* after a failure; until then who asks is refused at once */
#define GRACE_MS 1000 /* at least; see grace_ms() */

/* How long a model that is too much is left in peace first: one that is asked again and again is idle for a moment
 * after each request. And twice as long as it took to open, so that opening is not most of what is done. */
static int64_t grace_ms(const t5_catalog_model *m)
{
    return 2 * m->opening_ms > GRACE_MS ? 2 * m->opening_ms : GRACE_MS;
}

static int32_t count_open(const t5_catalog *c)
{
    int32_t n_open = 0;
    for (int32_t i = 0; i < c->n_models; i++)
        n_open += c->models[i].translator != NULL;
    return n_open;
}

/* ---- open ---- */

static void log_failure(const t5_catalog_model *m, const t5_error *err)
{
    char name[2 * sizeof m->profile.name], text[2 * T5_ERROR_TEXT_MAX];
    t5_log(T5_LOG_ERROR, "model_failed name=%s retry_s=%d error=%s", t5_log_quote(name, sizeof name, m->profile.name),
           RETRY_MS / 1000, t5_log_quote(text, sizeof text, err->text));
}

static void log_change(const t5_catalog_model *m, const char *event, int64_t ms)
{
    char name[2 * sizeof m->profile.name];
    t5_log(T5_LOG_INFO, "%s name=%s ms=%lld", event, t5_log_quote(name, sizeof name, m->profile.name), (long long)ms);
}

/* The lock is given up meanwhile. */
static void open_model(t5_catalog *c, t5_catalog_model *m)
{
    t5_error err = {0};
    t5_translator *translator = NULL;
    const int64_t begin_ms = t5_clock_ms();
    const bool has_room = count_open(c) < c->n_open_max;
    c->is_opening = true;
    pthread_mutex_unlock(&c->mutex);
    const t5_status status = t5_catalog_open_translator(c, m->dir, &translator, &err);
    if (status != T5_OK) log_failure(m, &err);
    if (status == T5_OK) log_change(m, "model_opened", t5_clock_ms() - begin_ms);
    pthread_mutex_lock(&c->mutex);
    c->is_opening = false;
    m->translator = translator;
    m->idle_since_ms = t5_clock_ms();
    if (status == T5_OK) {
        m->n_opened++;
        m->opening_ms = m->idle_since_ms - begin_ms;
        m->has_failed_with_room = false;
    } else {
        m->n_failed++;
        m->retry_ms = m->idle_since_ms + RETRY_MS;
        if (has_room) m->has_failed_with_room = true;
    }
    t5_leases_answer(c, m);
}

/* ---- close ---- */

/* What it counted; its queue, its batch and its memory are gone. */
static void keep_counters(t5_catalog_model *m)
{
    t5_model_stats last = {0};
    t5_engine_stats_get(t5_translator_engine(m->translator), &last.engine);
    t5_translator_stats_get(m->translator, &last.translator);
    last.engine.queue_depth = last.engine.n_running = last.engine.n_rows_running = last.engine.n_devices = 0;
    last.engine.kv = (t5_kv_usage){0};
    last.engine.memory = (t5_batch_memory){0};
    t5_model_stats_add(&m->past, &last);
}

/* The lock is given up meanwhile. */
static void close_model(t5_catalog *c, t5_catalog_model *m)
{
    t5_translator *translator = m->translator;
    const int64_t begin_ms = t5_clock_ms();
    T5_ASSERT(m->n_leases == 0 && m->waiting == NULL);
    keep_counters(m);
    m->translator = NULL;
    m->closed_ms = begin_ms;
    pthread_mutex_unlock(&c->mutex);
    t5_translator_close(translator);
    malloc_trim(0); /* else the C library keeps what a large model leaves behind */
    log_change(m, "model_closed", t5_clock_ms() - begin_ms);
    pthread_mutex_lock(&c->mutex);
}

/* ---- the thread ---- */

static t5_catalog_model *find_wanted(t5_catalog *c)
{
    for (int32_t i = 0; i < c->n_models; i++)
        if (c->models[i].translator == NULL && c->models[i].waiting != NULL) return &c->models[i];
    return NULL;
}

/* Of the open models that have no lease the one that was used least recently; never the one that was asked last. */
static t5_catalog_model *find_spare(t5_catalog *c)
{
    t5_catalog_model *spare = NULL;
    for (int32_t i = 0; i < c->n_models; i++) {
        t5_catalog_model *m = &c->models[i];
        if (m->translator == NULL || m->n_leases > 0 || m == c->asked_last) continue;
        if (spare == NULL || m->idle_since_ms < spare->idle_since_ms) spare = m;
    }
    return spare;
}

/* Who has to be closed before `wanted` is opened; NULL: nobody has to, or `wanted` is opened beyond the limit. So it is
 * when all are in use: nobody is kept waiting for them, since a request that holds one model may need another. So it is
 * for a model that could not be opened although there was room: it would only cost others. And, with one model too many
 * at most, for one that was closed a moment ago: else two that are asked in turn would close each other each time. */
static t5_catalog_model *find_in_the_way(t5_catalog *c, const t5_catalog_model *wanted)
{
    const int32_t n_open = count_open(c);
    if (c->n_open_max == 0 || n_open < c->n_open_max || wanted->has_failed_with_room) return NULL;
    const bool was_closed_too_early = t5_clock_ms() < wanted->closed_ms + grace_ms(wanted);
    return was_closed_too_early && n_open == c->n_open_max ? NULL : find_spare(c);
}

/* A model that has been idle for long, or for a while when there are too many, or NULL and when the next one will have
 * been; INT64_MAX: none. */
static t5_catalog_model *find_idle(t5_catalog *c, int64_t *out_next_ms)
{
    const int64_t now_ms = t5_clock_ms();
    const bool are_too_many = c->n_open_max > 0 && count_open(c) > c->n_open_max;
    t5_catalog_model *spare = are_too_many ? find_spare(c) : NULL;
    *out_next_ms = spare != NULL ? spare->idle_since_ms + grace_ms(spare) : INT64_MAX;
    if (*out_next_ms <= now_ms) return spare;
    for (int32_t i = 0; i < c->n_models && c->idle_unload_ms > 0; i++) {
        t5_catalog_model *m = &c->models[i];
        const int64_t due_ms = m->idle_since_ms + c->idle_unload_ms;
        if (m->translator == NULL || m->n_leases > 0) continue;
        if (due_ms <= now_ms) return m;
        if (due_ms < *out_next_ms) *out_next_ms = due_ms;
    }
    return NULL;
}

static void *run(void *arg)
{
    t5_catalog *c = arg;
    pthread_mutex_lock(&c->mutex);
    while (!c->is_stopping) {
        int64_t next_ms = INT64_MAX;
        t5_catalog_model *wanted = find_wanted(c), *idle = find_idle(c, &next_ms);
        t5_catalog_model *in_the_way = wanted != NULL ? find_in_the_way(c, wanted) : NULL;
        if (in_the_way != NULL)
            close_model(c, in_the_way);
        else if (wanted != NULL)
            open_model(c, wanted);
        else if (idle != NULL)
            close_model(c, idle);
        else
            t5_timed_cond_wait(&c->wake, &c->mutex, next_ms);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

/* Signals are the main thread's business. */
t5_status t5_loader_start(t5_catalog *c, t5_error *err)
{
    sigset_t all, before;
    for (int32_t i = 0; i < c->n_models; i++)
        c->models[i].idle_since_ms = t5_clock_ms(); /* the start does not count */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&c->loader, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) return T5_FAIL(err, T5_ERR_NOMEM, "catalog: cannot start a thread (error %d)", code);
    pthread_setname_np(c->loader, "t5-loader");
    c->has_loader = true;
    return T5_OK;
}

void t5_loader_stop(t5_catalog *c)
{
    if (!c->has_loader) return;
    pthread_mutex_lock(&c->mutex);
    c->is_stopping = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->loader, NULL);
    c->has_loader = false;
}
