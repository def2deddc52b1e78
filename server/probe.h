/* server/probe.h: asks a t5serve on this machine whether it is well: a container's health check that needs no shell. */
#pragma once
#include "base/error.h"
#include <stdint.h>

/* GET /health of the server that listens on `host` ("*": any address) and `port`. T5_OK: it answered 200. Otherwise
 * T5_ERR_IO says what came, or did not come within three seconds. */
t5_status t5_probe(const char *host, int32_t port, t5_error *err);
