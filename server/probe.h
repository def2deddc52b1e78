/* server/probe.h: asks a t5serve on this machine whether it is well: a container's health check that needs no shell. */
#pragma once
#include "base/error.h"
#include <stdint.h>

typedef struct {
    const char *host; /* "*": any address */
    int32_t port;
    const char *path_prefix;
    bool is_tls; /* HTTPS; whose certificate it is does not matter, we ask ourselves */
} t5_probe_options;

/* GET /health of the server that listens there. T5_OK: it answered 200. Otherwise T5_ERR_IO says what came, or did not
 * come within three seconds. */
t5_status t5_probe(const t5_probe_options *options, t5_error *err);
