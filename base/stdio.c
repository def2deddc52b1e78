/* base/stdio.c: see stdio.h. */
#include "base/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void t5_stdio_reserve(void)
{
    static const int modes[] = {[STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDWR};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) != -1) continue;
        if (open("/dev/null", modes[fd]) != fd) return; /* the lowest number that is free, or there is no /dev/null */
    }
}

t5_status t5_stdio_flush(FILE *out, t5_error *err)
{
    errno = 0;
    if (fflush(out) == 0 && !ferror(out)) return T5_OK;
    return T5_FAIL(err, T5_ERR_IO, "stdout: %s", strerror(errno != 0 ? errno : EIO));
}
