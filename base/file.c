/* base/file.c: see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static t5_status open_regular(const char *path, int *out_fd, size_t *out_bytes, t5_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
    if (fd < 0) return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0) {
        t5_status status = T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
        close(fd);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return T5_FAIL(err, T5_ERR_IO, "%s: not a regular file", path);
    }
    *out_fd = fd;
    *out_bytes = (size_t)st.st_size;
    return T5_OK;
}

t5_status t5_file_map(const char *path, const void **out_data, size_t *out_bytes, t5_error *err)
{
    int fd = -1;
    size_t n_bytes = 0;
    t5_status status = open_regular(path, &fd, &n_bytes, err);
    if (status != T5_OK) return status;
    void *map = NULL;
    if (n_bytes > 0) map = mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        status = T5_FAIL(err, T5_ERR_IO, "%s: cannot map %zu bytes: %s", path, n_bytes, strerror(errno));
    } else {
        *out_data = map;
        *out_bytes = n_bytes;
    }
    close(fd);
    return status;
}

void t5_file_unmap(const void *data, size_t n_bytes)
{
    if (data != NULL) munmap((void *)(size_t)data, n_bytes);
}

void t5_file_forget(const void *data, size_t n_bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + n_bytes) / page * page;
    if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* a hint: failing does no harm */
}

static t5_status read_all(int fd, const char *path, char *text, size_t n_bytes, t5_error *err)
{
    size_t n_read = 0;
    while (n_read < n_bytes) {
        ssize_t n = read(fd, text + n_read, n_bytes - n_read);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
        if (n == 0) return T5_FAIL(err, T5_ERR_IO, "%s: became shorter while it was read", path);
        n_read += (size_t)n;
    }
    return T5_OK;
}

t5_status t5_file_read(const char *path, size_t bytes_max, char **out_text, size_t *out_bytes, t5_error *err)
{
    int fd = -1;
    size_t n_bytes = 0;
    char *text = NULL;
    t5_status status = open_regular(path, &fd, &n_bytes, err);
    if (status != T5_OK) return status;
    if (n_bytes > bytes_max) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: %zu bytes, the limit is %zu", path, n_bytes, bytes_max);
        goto out;
    }
    text = malloc(n_bytes + 1);
    if (text == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu bytes", path, n_bytes);
        goto out;
    }
    T5_TRY(read_all(fd, path, text, n_bytes, err));
    text[n_bytes] = '\0';
    *out_text = text;
    *out_bytes = n_bytes;
    text = NULL;
out:
    free(text);
    close(fd);
    return status;
}

bool t5_file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

t5_status t5_file_target(const char *path, char out[PATH_MAX], t5_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode)) return T5_FAIL(err, T5_ERR_IO, "%s: not a regular file", path);
        if (realpath(path, out) == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(errno));
        return T5_OK;
    }
    const size_t n_bytes = strlen(path); /* nothing is there yet */
    if (n_bytes >= PATH_MAX) return T5_FAIL(err, T5_ERR_ARG, "path too long: %.100s...", path);
    memcpy(out, path, n_bytes + 1);
    return T5_OK;
}

t5_status t5_path_join(char *out, size_t out_bytes, const char *dir, const char *name, t5_error *err)
{
    int n = snprintf(out, out_bytes, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= out_bytes) return T5_FAIL(err, T5_ERR_ARG, "path too long: %.100s.../%.100s", dir, name);
    return T5_OK;
}
