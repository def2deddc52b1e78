/* server/systemd.c: see systemd.h. */
#include "server/systemd.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FD_FIRST 3 /* SD_LISTEN_FDS_START */

void t5_systemd_notify(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[1024];
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') address.sun_path[0] = '\0'; /* an abstract name */
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    if (n > 0 && (size_t)n < sizeof text) {
        socklen_t n_address = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
        sendto(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, n_address);
    }
    close(fd);
}

/* A variable that holds a number, or -1. */
static long long number_of(const char *name)
{
    const char *value = getenv(name);
    char *end = NULL;
    long long number = value != NULL ? strtoll(value, &end, 10) : -1;
    return value != NULL && end != value && *end == '\0' ? number : -1;
}

int64_t t5_systemd_watchdog_ms(void)
{
    long long us = number_of("WATCHDOG_USEC"), pid = number_of("WATCHDOG_PID");
    bool is_ours = pid < 0 || pid == getpid();
    return is_ours && us > 0 ? us / 1000 : 0;
}

t5_status t5_systemd_take_socket(int *out_fd, t5_error *err)
{
    long long n_fds = number_of("LISTEN_FDS");
    *out_fd = -1;
    if (number_of("LISTEN_PID") != getpid() || n_fds < 1) return T5_OK;
    if (n_fds > 1)
        return T5_FAIL(err, T5_ERR_ARG, "LISTEN_FDS is %lld: one socket is enough, of one ListenStream= line", n_fds);
    *out_fd = FD_FIRST;
    return T5_OK;
}
