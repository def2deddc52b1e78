/* server/guard.c: see guard.h. A POST with neither Content-Length nor Transfer-Encoding has an empty body and passes:
 * clients send everything in the query. */
#include "server/guard.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

static bool is_named(const t5_header *h, const char *name)
{
    return strlen(name) == h->name_bytes && strncasecmp(h->name, name, h->name_bytes) == 0;
}

/* A token of RFC 9110: no space, no control character, no separator that could end it early. */
static bool is_token(const char *name, size_t n_bytes)
{
    static const char separators[] = "()<>@,;:\\\"/[]?={}";
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= 0x20 || c >= 0x7f || strchr(separators, c) != NULL) return false;
    }
    return n_bytes > 0;
}

static bool has_control(const char *value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return true;
    }
    return false;
}

void t5_guard_add(t5_guard *g, const t5_header *h)
{
    if (!is_token(h->name, h->name_bytes) || has_control(h->value, h->value_bytes)) g->is_broken = true;
    if (is_named(h, "Host")) g->n_host++;
    if (is_named(h, "Content-Length")) {
        g->n_content_length++;
        bool is_number = h->value_bytes > 0 && strspn(h->value, "0123456789") == h->value_bytes;
        if (!is_number) g->is_broken = true;
    }
    if (is_named(h, "Transfer-Encoding")) {
        g->n_transfer_encoding++;
        bool is_chunked = h->value_bytes == 7 && strncasecmp(h->value, "chunked", 7) == 0;
        if (!is_chunked) g->is_broken = true;
    }
}

bool t5_guard_accepts(const t5_guard *g)
{
    return !g->is_broken && g->n_host <= 1 && g->n_content_length + g->n_transfer_encoding <= 1;
}

static enum MHD_Result add_header(void *ctx, enum MHD_ValueKind kind, const char *name, size_t name_bytes,
                                  const char *value, size_t value_bytes)
{
    (void)kind;
    const t5_header header = {name, value != NULL ? value : "", name_bytes, value != NULL ? value_bytes : 0};
    t5_guard_add(ctx, &header);
    return MHD_YES;
}

bool t5_guard_check(struct MHD_Connection *connection)
{
    t5_guard g = {0};
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, add_header, &g);
    return t5_guard_accepts(&g);
}
