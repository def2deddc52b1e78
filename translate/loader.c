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
    c->is_opening = true;
    pthread_mutex_unlock(&c->mutex);
    const t5_status status = t5_catalog_open_translator(c, m->dir, &translator, &err);
    if (status != T5_OK) log_failure(m, &err);
    if (status == T5_OK) log_change(m, "model_opened", t5_clock_ms() - begin_ms);
    pthread_mutex_lock(&c->mutex);
    c->is_opening = false;
    m->translator = translator;
    m->idle_since_ms = t5_clock_ms();
    if (status == T5_OK) m->n_opened++;
    if (status != T5_OK) m->n_failed++;
    if (status != T5_OK) m->retry_ms = t5_clock_ms() + RETRY_MS;
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

/* A model that has been idle for long, or NULL and when the next one will have been; INT64_MAX: none. */
static t5_catalog_model *find_idle(t5_catalog *c, int64_t *out_next_ms)
{
    const int64_t now_ms = t5_clock_ms();
    *out_next_ms = INT64_MAX;
    for (int32_t i = 0; i < c->n_models && c->idle_unload_ms > 0; i++) {
        t5_catalog_model *m = &c->models[i];
        const int64_t due_ms = m->idle_since_ms + c->idle_unload_ms;
        if (m->translator == NULL || m->n_leases > 0) continue;
        if (due_ms <= now_ms) return m;
        if (due_ms < *out_next_ms) *out_next_ms = due_ms;
    }
    return NULL;
}

/* When there are too many, with the one that is opened next: the model that has been idle for longest, or NULL when all
 * are in use. Those are left alone, and who waits is not kept waiting for them: a request that holds one model may need
 * another. */
static t5_catalog_model *find_spare(t5_catalog *c, bool opens_one)
{
    int32_t n_open = opens_one ? 1 : 0;
    t5_catalog_model *spare = NULL;
    for (int32_t i = 0; i < c->n_models; i++) {
        t5_catalog_model *m = &c->models[i];
        if (m->translator == NULL) continue;
        n_open++;
        if (m->n_leases == 0 && (spare == NULL || m->idle_since_ms < spare->idle_since_ms)) spare = m;
    }
    return c->n_open_max > 0 && n_open > c->n_open_max ? spare : NULL;
}

static void *run(void *arg)
{
    t5_catalog *c = arg;
    pthread_mutex_lock(&c->mutex);
    while (!c->is_stopping) {
        int64_t next_ms = INT64_MAX;
        t5_catalog_model *wanted = find_wanted(c), *idle = find_idle(c, &next_ms);
        t5_catalog_model *spare = find_spare(c, wanted != NULL);
        if (spare != NULL)
            close_model(c, spare);
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
