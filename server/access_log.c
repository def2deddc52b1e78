/* server/access_log.c: see access_log.h. */
#include "server/access_log.h"
#include "base/assert.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define FIELDS_BYTES 256

/* Adds " name=value" to `out`, which holds FIELDS_BYTES, unless it is not known. */
static void add_count(char *out, const char *name, int64_t value)
{
    size_t n = strlen(out);
    if (value < 0) return;
    int n_added = snprintf(out + n, FIELDS_BYTES - n, " %s=%" PRId64, name, value);
    T5_ASSERT(n_added > 0 && n + (size_t)n_added < FIELDS_BYTES);
}

/* An IPv4 client of an IPv6 socket is written as IPv4. "" when it has no address. */
static void format_client(const struct sockaddr *client, char out[INET6_ADDRSTRLEN])
{
    out[0] = '\0';
    if (client == NULL) return;
    if (client->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)client;
        inet_ntop(AF_INET, &in->sin_addr, out, INET6_ADDRSTRLEN);
    } else if (client->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)client;
        bool is_mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        const void *address = is_mapped ? in6->sin6_addr.s6_addr + 12 : (const void *)&in6->sin6_addr;
        inet_ntop(is_mapped ? AF_INET : AF_INET6, address, out, INET6_ADDRSTRLEN);
    }
}

void t5_access_log(const t5_http_summary *s, bool has_client)
{
    char fields[FIELDS_BYTES] = "", client[INET6_ADDRSTRLEN] = "";
    add_count(fields, "texts", s->n_texts);
    add_count(fields, "source_tokens", s->n_source_tokens);
    add_count(fields, "target_tokens", s->n_target_tokens);
    if (has_client) format_client(s->client, client);
    t5_log(T5_LOG_INFO,
           "request id=\"%s\" method=%s route=%s status=%u ms=%.3f bytes_in=%" PRId64 " bytes_out=%" PRId64 "%s%s%s",
           s->id, s->method, s->path != NULL ? s->path : "-", s->status, (double)s->ns / 1e6, s->bytes_in, s->bytes_out,
           fields, client[0] != '\0' ? " client=" : "", client);
}
