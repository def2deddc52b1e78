/* model/memory.c: see memory.h. The model and the batch are opened on a ledger: a backend that takes no memory and only
 * adds up what it is asked for. So the sum is that of the code that will ask, and no formula can go wrong. */
#include "model/memory.h"

#include "base/assert.h"

#include <stdio.h>

/* Allocations of a device begin at multiples of this. */
#define ALIGN_BYTES ((size_t)512)

typedef struct {
    t5_backend base;
    t5_backend_ops ops;
    const t5_backend *device; /* whose memory it is about */
    size_t n_bytes;
} ledger;

static void add(ledger *l, size_t n_bytes)
{
    l->n_bytes += (n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* What it gives out is never looked into: nothing runs on a ledger. */
static t5_status ledger_alloc(t5_backend *b, size_t n_bytes, void **out, t5_error *err)
{
    (void)err;
    add((ledger *)b, n_bytes);
    *out = b;
    return T5_OK;
}

static void ledger_release(t5_backend *b, void *p)
{
    (void)b;
    (void)p;
}

static t5_status ledger_upload(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    (void)b;
    (void)dst;
    (void)src;
    (void)n_bytes;
    (void)err;
    return T5_OK;
}

static t5_status ledger_matrix_create(t5_backend *b, const t5_tensor *parts, int32_t n_parts, float scale,
                                      t5_matrix **out, t5_error *err)
{
    (void)scale;
    (void)err;
    ledger *l = (ledger *)b;
    int32_t n_rows = 0;
    for (int32_t i = 0; i < n_parts; i++)
        n_rows += parts[i].n_rows;
    add(l, l->device->ops->matrix_bytes(l->device, n_rows, parts[0].n_cols));
    *out = (t5_matrix *)b;
    return T5_OK;
}

static t5_status ledger_table_create(t5_backend *b, const t5_tensor *table, t5_matrix **out, t5_error *err)
{
    return ledger_matrix_create(b, table, 1, 1.0f, out, err);
}

static void ledger_matrix_destroy(t5_backend *b, t5_matrix *m)
{
    (void)b;
    (void)m;
}

static t5_status ledger_sync(t5_backend *b, t5_error *err)
{
    (void)b;
    (void)err;
    return T5_OK;
}

static void ledger_init(ledger *l, const t5_backend *device)
{
    *l = (ledger){.base = *device, .device = device};
    l->ops = (t5_backend_ops){.name = "ledger",
                              .multiplies_tables = device->ops->multiplies_tables,
                              .check = device->ops->check,
                              .alloc = ledger_alloc,
                              .release = ledger_release,
                              .upload = ledger_upload,
                              .matrix_create = ledger_matrix_create,
                              .matrix_destroy = ledger_matrix_destroy,
                              .table_create = ledger_table_create,
                              .sync = ledger_sync};
    l->base.ops = &l->ops;
}

typedef struct {
    char text[32];
} size_text;

static size_text describe(size_t n_bytes)
{
    size_text out;
    bool is_large = n_bytes >= (size_t)1000000000;
    snprintf(out.text, sizeof out.text, "%.2f %s", (double)n_bytes / (is_large ? 1e9 : 1e6), is_large ? "GB" : "MB");
    return out;
}

t5_status t5_memory_check(const char *dir, t5_backend *backend, const t5_batch_limits *limits, t5_error *err)
{
    t5_status status = T5_OK;
    t5_model *model = NULL;
    t5_batch *batch = NULL;
    ledger l;
    size_t free_bytes = 0;
    if (backend->ops->memory_free == NULL) return T5_OK;
    T5_ASSERT(backend->ops->matrix_bytes != NULL);
    ledger_init(&l, backend);
    T5_TRY(t5_model_open(dir, &l.base, limits->src_len_max, limits->tgt_len_max, &model, err));
    T5_TRY(t5_batch_create(model, limits, &batch, err));
    T5_TRY(backend->ops->memory_free(backend, &free_bytes, err));
    if (l.n_bytes > free_bytes)
        status = T5_FAIL(err, T5_ERR_NOMEM, "%s: needs %s for weights and cache, %s has %s free", dir,
                         describe(l.n_bytes).text, backend->device, describe(free_bytes).text);
out:
    t5_batch_destroy(batch);
    t5_model_close(model);
    return status;
}
