/* server/exchange_fields.c: the fields of a request from its query and its body. */
#include "server/exchange.h"
#include "server/fields.h"
#include "server/multipart.h"

#include <string.h>

typedef struct {
    json_t *fields;
    t5_status status;
    t5_error *err;
} collector;

static enum MHD_Result add_query_field(void *ctx, enum MHD_ValueKind kind, const char *name, size_t name_bytes,
                                       const char *value, size_t value_bytes)
{
    collector *c = ctx;
    (void)kind;
    c->status =
        t5_fields_add(c->fields, name, name_bytes, value != NULL ? value : "", value != NULL ? value_bytes : 0, c->err);
    return c->status == T5_OK ? MHD_YES : MHD_NO;
}

t5_status t5_exchange_fields(t5_exchange *x, const char *repeated, json_t **out, bool *out_is_form, t5_error *err)
{
    t5_status status = T5_OK;
    const char *type = t5_exchange_header(x, MHD_HTTP_HEADER_CONTENT_TYPE);
    t5_content_kind kind = t5_content_kind_of(type);
    collector c = {.err = err};
    size_t n_bytes = 0;
    const char *body = t5_exchange_body(x, &n_bytes);
    /* A GET asks in its query, whatever type its client gives to a body that is not there. */
    if (n_bytes == 0 && strcmp(x->route->method, "GET") == 0) kind = T5_CONTENT_OTHER;

    *out_is_form = kind != T5_CONTENT_JSON;
    if (kind == T5_CONTENT_JSON) return t5_fields_from_json(body, n_bytes, out, err);
    c.fields = t5_fields_create(repeated);
    if (c.fields == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "out of memory for a request");
    MHD_get_connection_values_n(x->connection, MHD_GET_ARGUMENT_KIND, add_query_field, &c);
    T5_TRY(c.status);
    if (kind == T5_CONTENT_FORM) T5_TRY(t5_fields_add_form(c.fields, body, n_bytes, err));
    if (kind == T5_CONTENT_MULTIPART && n_bytes > 0)
        T5_TRY(t5_fields_add_multipart(c.fields, type, body, n_bytes, err));
    *out = c.fields;
    c.fields = NULL;
out:
    json_decref(c.fields);
    return status;
}
