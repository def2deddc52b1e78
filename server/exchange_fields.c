/* server/exchange_fields.c: the fields of a request from its query and its body. Multipart goes through libmicrohttpd's
 * post-processor, whole at once: the body is in memory and bounded already. */
#include "server/exchange.h"
#include "server/fields.h"

#include <stdlib.h>
#include <string.h>

#define POST_PROCESSOR_BYTES 4096 /* bounds a part's header lines */

typedef struct {
    json_t *fields;
    t5_status status;
    t5_error *err;
    /* The multipart field that is being collected. */
    char *name;
    char *value; /* as long as the body: no value is longer */
    size_t value_bytes;
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

/* The field in `c` is complete. */
static void flush(collector *c)
{
    if (c->name != NULL && c->status == T5_OK)
        c->status = t5_fields_add(c->fields, c->name, strlen(c->name), c->value, c->value_bytes, c->err);
    free(c->name);
    c->name = NULL;
    c->value_bytes = 0;
}

static enum MHD_Result add_part(void *ctx, enum MHD_ValueKind kind, const char *name, const char *filename,
                                const char *content_type, const char *encoding, const char *bytes, uint64_t offset,
                                size_t n_bytes)
{
    collector *c = ctx;
    (void)kind, (void)filename, (void)content_type, (void)encoding;
    if (offset == 0) {
        flush(c);
        c->name = name != NULL ? strdup(name) : NULL;
        /* libmicrohttpd also drops a name that it has no memory for. */
        if (name == NULL) c->status = T5_FAIL(c->err, T5_ERR_ARG, "Invalid request: a form field has no name");
        if (name != NULL && c->name == NULL)
            c->status = T5_FAIL(c->err, T5_ERR_NOMEM, "out of memory for a form field");
    }
    if (c->status != T5_OK) return MHD_NO;
    memcpy(c->value + c->value_bytes, bytes, n_bytes);
    c->value_bytes += n_bytes;
    return MHD_YES;
}

static t5_status add_multipart(t5_exchange *x, collector *c)
{
    struct MHD_PostProcessor *processor = NULL;
    bool is_whole = false;
    c->value = malloc(x->body_bytes + 1);
    if (c->value == NULL) return T5_FAIL(c->err, T5_ERR_NOMEM, "out of memory for a form of %zu bytes", x->body_bytes);
    processor = MHD_create_post_processor(x->connection, POST_PROCESSOR_BYTES, add_part, c);
    if (processor != NULL) {
        is_whole = MHD_post_process(processor, x->body != NULL ? x->body : "", x->body_bytes) == MHD_YES;
        is_whole = MHD_destroy_post_processor(processor) == MHD_YES && is_whole;
    }
    flush(c);
    free(c->value);
    if (c->status == T5_OK && !is_whole) c->status = T5_FAIL(c->err, T5_ERR_ARG, T5_TEXT_BAD_REQUEST);
    return c->status;
}

t5_status t5_exchange_fields(t5_exchange *x, const char *repeated, json_t **out, bool *out_is_form, t5_error *err)
{
    t5_status status = T5_OK;
    t5_content_kind kind = t5_content_kind_of(t5_exchange_header(x, MHD_HTTP_HEADER_CONTENT_TYPE));
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
    if (kind == T5_CONTENT_MULTIPART && n_bytes > 0) T5_TRY(add_multipart(x, &c));
    *out = c.fields;
    c.fields = NULL;
out:
    json_decref(c.fields);
    return status;
}
