/* model/shortlist.c: heads that give the logits of a few words. The rows of the head that a list names are gathered
 * into a tensor, from which the backend makes a matrix as from any other: so a list costs its share of the head in
 * memory, a step reads one packed matrix from end to end, and each logit is the sum that the whole head gives. */
#include "model/shortlist.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

static t5_status check(const t5_model *m, const int32_t *ids, int32_t n, t5_error *err)
{
    bool has_eos = false;
    if (!m->backend->ops->has_shortlists) return T5_FAIL(err, T5_ERR_ARG, "%s has no shortlists", m->backend->device);
    if (m->n_shortlists == T5_SHORTLISTS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "more than %d shortlists", T5_SHORTLISTS_MAX);
    for (int32_t i = 0; i < n; i++) {
        const int32_t above = i > 0 ? ids[i - 1] : -1;
        if (ids[i] <= above || ids[i] >= m->hp.vocab_size)
            return T5_FAIL(err, T5_ERR_ARG, "id %d at index %d: must be above %d and below %d", ids[i], i, above,
                           m->hp.vocab_size);
        has_eos |= ids[i] == m->hp.eos_id;
    }
    return has_eos ? T5_OK : T5_FAIL(err, T5_ERR_ARG, "the end of sequence, id %d, is missing", m->hp.eos_id);
}

static t5_status create_head(t5_model *m, const t5_shortlist *list, t5_matrix **out, t5_error *err)
{
    const t5_tensor *whole = &m->head_tensor;
    const size_t n = (size_t)list->n, row_bytes = t5_tensor_row_bytes(whole);
    const size_t scales_bytes = t5_tensor_row_scales_bytes(whole);
    char *rows = malloc(n * (row_bytes + scales_bytes));
    if (rows == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "shortlist of %d words", list->n);
    char *scales = rows + n * row_bytes;
    /* Never in panels, which the backend may use where they are. */
    const t5_tensor part = {.data = rows,
                            .dtype = whole->dtype,
                            .n_rows = list->n,
                            .n_cols = whole->n_cols,
                            .scales = scales_bytes > 0 ? scales : NULL};
    for (size_t i = 0; i < n; i++)
        t5_tensor_copy_row(whole, list->ids[i], rows + i * row_bytes, scales + i * scales_bytes);
    if (whole->panel == 0) t5_file_forget(whole->data, (size_t)whole->n_rows * row_bytes);
    const t5_status status = m->backend->ops->matrix_create(m->backend, &part, 1, m->head_scale, out, err);
    free(rows);
    return status;
}

/* Room for one more list. */
static t5_status grow(t5_model *m, t5_error *err)
{
    const size_t n = (size_t)m->n_shortlists + 1;
    t5_shortlist *lists = realloc(m->shortlists, n * sizeof *lists);
    if (lists == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu shortlists", n);
    m->shortlists = lists;
    t5_matrix **heads = realloc(m->short_heads, n * sizeof(t5_matrix *));
    if (heads == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu shortlists", n);
    m->short_heads = heads;
    return T5_OK;
}

t5_status t5_model_add_shortlist(t5_model *m, const int32_t *ids, int32_t n, int32_t *out_number, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t *kept = NULL;
    T5_TRY(check(m, ids, n, err));
    T5_TRY(grow(m, err));
    kept = malloc((size_t)n * sizeof *kept);
    if (kept == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "shortlist of %d words", n);
    memcpy(kept, ids, (size_t)n * sizeof *kept);
    const t5_shortlist list = {.n = n, .ids = kept};
    T5_TRY(create_head(m, &list, &m->short_heads[m->n_shortlists], err));
    m->shortlists[m->n_shortlists++] = list;
    *out_number = m->n_shortlists;
    kept = NULL; /* the model's */
out:
    free(kept);
    return status;
}

void t5_model_close_shortlists(t5_model *m)
{
    for (int32_t i = 0; i < m->n_shortlists; i++) {
        m->backend->ops->matrix_destroy(m->backend, m->short_heads[i]);
        free((int32_t *)m->shortlists[i].ids);
    }
    free(m->shortlists);
    free(m->short_heads);
}
