/* server/systemd.h: what a service manager and its service tell each other (sd_notify(3), sd_listen_fds(3)): a few
 * lines of protocol, so that no library is needed. Nothing happens where no service manager is. One thread. */
#pragma once
#include "base/error.h"
#include <stdint.h>

/* Sends lines such as "READY=1\nSTATUS=text" to $NOTIFY_SOCKET. Failures are ignored: nobody can act on them. */
void t5_systemd_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Milliseconds between two "WATCHDOG=1" that are too long for the manager; 0: it does not watch us. */
int64_t t5_systemd_watchdog_ms(void);
/* The listening socket that the manager opened for us, or -1. T5_ERR_ARG: it opened several. */
t5_status t5_systemd_take_socket(int *out_fd, t5_error *err);
