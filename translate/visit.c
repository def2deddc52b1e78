/* translate/visit.c: see visit.h. */
#include "translate/visit.h"

#include "base/assert.h"
#include "translate/catalog_internal.h"

#include <stdlib.h>

struct t5_visit {
    t5_translator *translator;
    t5_generation *generation;
};

t5_status t5_visit_start(t5_catalog *c, int32_t i_model, const t5_generation_request *request, t5_visit **out,
                         t5_error *err)
{
    T5_ASSERT(i_model >= 0 && i_model < c->n_models);
    t5_visit *v = calloc(1, sizeof *v);
    if (v == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "visit: %zu bytes", sizeof *v);
    v->translator = c->models[i_model].translator;
    *out = v; /* before on_done, which may come at once */
    const t5_status status = t5_generation_start(v->translator, request, &v->generation, err);
    if (status == T5_OK) return T5_OK; /* the visit may be gone */
    *out = NULL;
    free(v);
    return status;
}

t5_status t5_visit_read(t5_visit *v, t5_piece *out, t5_error *err)
{
    return t5_generation_read(v->generation, out, err);
}

t5_status t5_visit_finish(t5_visit *v, t5_error *err)
{
    return t5_generation_finish(v->generation, err);
}

const t5_generation *t5_visit_generation(const t5_visit *v)
{
    return v->generation;
}

const t5_tokenizer *t5_visit_tokenizer(const t5_visit *v)
{
    return t5_translator_tokenizer(v->translator);
}

void t5_visit_cancel(t5_visit *v)
{
    t5_generation_cancel(v->generation);
}

void t5_visit_destroy(t5_visit *v)
{
    if (v == NULL) return;
    t5_generation_destroy(v->generation);
    free(v);
}
