/* server/guard.h: refuses request heads that a proxy in front may read differently than libmicrohttpd does (request
 * smuggling, RFC 9112 6.3 and 11.2). libmicrohttpd 0.9.75 takes Transfer-Encoding together with Content-Length, several
 * Content-Lengths, and a space before the colon; each of these can hide a second request in the first. HTTP threads. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct MHD_Connection;

/* One header as received; names and values may contain NUL. */
typedef struct {
    const char *name, *value;
    size_t name_bytes, value_bytes;
} t5_header;

/* What a head has shown so far. Zero it at the start. */
typedef struct {
    int n_content_length, n_transfer_encoding, n_host;
    bool is_broken; /* a name or value that no client sends by mistake */
} t5_guard;

void t5_guard_add(t5_guard *g, const t5_header *header);
bool t5_guard_accepts(const t5_guard *g);
/* The two above over all headers of a connection. */
bool t5_guard_check(struct MHD_Connection *connection);
