/* translate/visit.c: see visit.h. The request is copied where it may have to wait for its model. */
#include "translate/visit.h"

#include "base/assert.h"
#include "translate/catalog_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct t5_visit {
    t5_lease lease;
    t5_generation_request request; /* inputs and prefix point into what follows, when it was copied */
    t5_generation_input *inputs;
    char *bytes;
    t5_generation *generation; /* NULL until it starts */
    atomic_int n_left;         /* the generation, or the wait for it; and a thread that is starting it */
    pthread_mutex_t mutex;
    bool is_known, is_cancelled; /* under the mutex; is_known: others may look at `generation` */
    t5_error error;              /* why there is no generation */
};

/* ---- start ---- */

static void copy_bytes(char **next, const char **text, size_t n_bytes)
{
    if (*text == NULL) return;
    if (n_bytes > 0) memcpy(*next, *text, n_bytes);
    *text = *next;
    *next += n_bytes + 1;
}

static t5_status copy_request(t5_visit *v, t5_error *err)
{
    t5_generation_request *r = &v->request;
    size_t n_bytes = r->prefix_bytes + 1;
    T5_ASSERT(r->n_prompt_ids == 0);
    for (int32_t i = 0; i < r->n_inputs; i++)
        n_bytes += r->inputs[i].n_bytes + 1;
    v->inputs = calloc((size_t)r->n_inputs + 1, sizeof *v->inputs);
    v->bytes = calloc(n_bytes, 1);
    if (v->inputs == NULL || v->bytes == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d inputs", r->n_inputs);
    char *next = v->bytes;
    for (int32_t i = 0; i < r->n_inputs; i++) {
        T5_ASSERT(r->inputs[i].text != NULL);
        v->inputs[i] = r->inputs[i];
        copy_bytes(&next, &v->inputs[i].text, v->inputs[i].n_bytes);
    }
    copy_bytes(&next, &r->prefix, r->prefix_bytes);
    r->inputs = v->inputs;
    return T5_OK;
}

/* The last to let go tells the caller, who may free everything. */
static void let_go(t5_visit *v)
{
    if (atomic_fetch_sub(&v->n_left, 1) == 1) v->request.on_done(v->request.ctx);
}

static void on_progress(void *ctx)
{
    const t5_visit *v = ctx;
    v->request.on_progress(v->request.ctx);
}

static void on_done(void *ctx)
{
    let_go(ctx);
}

/* The caller holds the visit: it may be over before this returns. */
static t5_status start(t5_visit *v, t5_error *err)
{
    t5_generation_request request = v->request;
    request.on_progress = v->request.on_progress != NULL ? on_progress : NULL;
    request.on_done = on_done;
    request.ctx = v;
    const t5_status status = t5_generation_start(v->lease.translator, &request, &v->generation, err);
    if (status != T5_OK) return status;
    pthread_mutex_lock(&v->mutex);
    v->is_known = true;
    if (v->is_cancelled) t5_generation_cancel(v->generation);
    pthread_mutex_unlock(&v->mutex);
    if (v->request.on_progress != NULL) v->request.on_progress(v->request.ctx); /* what was told before it was known */
    return T5_OK;
}

/* On a thread of the catalog: the model is open, or will not be. */
static void go_ahead(void *ctx)
{
    t5_visit *v = ctx;
    atomic_fetch_add(&v->n_left, 1);
    t5_status status = t5_lease_check(&v->lease, &v->error);
    if (status == T5_OK) status = start(v, &v->error);
    if (status != T5_OK) let_go(v); /* nothing of it runs */
    let_go(v);
}

t5_status t5_visit_start(t5_catalog *c, int32_t i_model, const t5_generation_request *request, t5_visit **out,
                         t5_error *err)
{
    t5_status status = T5_OK;
    bool waits = false;
    T5_ASSERT(i_model >= 0 && i_model < c->n_models);
    t5_visit *v = calloc(1, sizeof *v);
    if (v == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "visit: %zu bytes", sizeof *v);
    pthread_mutex_init(&v->mutex, NULL);
    v->request = *request;
    atomic_store(&v->n_left, 2);
    if (c->has_loader) T5_TRY(copy_request(v, err));
    *out = v; /* before on_done, which may come at once */
    T5_TRY(t5_lease_take(c, i_model, request->deadline_ms, go_ahead, v, &v->lease, &waits, err));
    if (!waits) T5_TRY(start(v, err));
    let_go(v);
    v = NULL; /* handed to the caller, maybe gone */
out:
    if (v != NULL) *out = NULL;
    t5_visit_destroy(v);
    return status;
}

/* ---- the rest ---- */

t5_status t5_visit_read(t5_visit *v, t5_piece *out, t5_error *err)
{
    pthread_mutex_lock(&v->mutex);
    t5_generation *generation = v->is_known ? v->generation : NULL;
    pthread_mutex_unlock(&v->mutex);
    *out = (t5_piece){0};
    return generation != NULL ? t5_generation_read(generation, out, err) : T5_OK;
}

t5_status t5_visit_finish(t5_visit *v, t5_error *err)
{
    T5_ASSERT(atomic_load(&v->n_left) == 0);
    if (v->error.status == T5_OK) return t5_generation_finish(v->generation, err);
    *err = v->error;
    return err->status;
}

const t5_generation *t5_visit_generation(const t5_visit *v)
{
    return v->generation;
}

const t5_tokenizer *t5_visit_tokenizer(const t5_visit *v)
{
    return t5_translator_tokenizer(v->lease.translator);
}

void t5_visit_cancel(t5_visit *v)
{
    pthread_mutex_lock(&v->mutex);
    v->is_cancelled = true;
    if (v->is_known) t5_generation_cancel(v->generation);
    t5_lease_hurry(&v->lease);
    pthread_mutex_unlock(&v->mutex);
}

void t5_visit_destroy(t5_visit *v)
{
    if (v == NULL) return;
    t5_generation_destroy(v->generation);
    t5_lease_return(&v->lease);
    free(v->inputs);
    free(v->bytes);
    pthread_mutex_destroy(&v->mutex);
    free(v);
}
