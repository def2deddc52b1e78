/* server/listen.h: the listening socket. We make it ourselves, so that errors say what to do and port 0 can be asked
 * which port it became. One thread, at start. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* `host`: an address or a name; "*" is every address, IPv6 and IPv4. Nobody can connect yet, but mistakes and a server
 * that listens there already show before a model is read. The caller closes *out_fd. T5_ERR_IO names address, port and
 * cause. */
t5_status t5_listen_bind(const char *host, int32_t port, int *out_fd, t5_error *err);
/* In place of that: a socket that listens already is made not to block and not to be inherited. T5_ERR_ARG: `fd` is no
 * listening TCP socket. */
t5_status t5_listen_take(int fd, t5_error *err);
/* From now on clients can connect. Writes "host:port" with the real port behind `scheme` ("http") and "://" into `url`.
 * `fd` stays the caller's. T5_ERR_IO: another began to listen there since. */
t5_status t5_listen_start(int fd, const char *scheme, char *url, size_t url_bytes, t5_error *err);
