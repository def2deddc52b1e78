/* base/file.h: whole files. Any thread. */
#pragma once
#include "base/error.h"
#include <limits.h>
#include <stddef.h>

T5_C_BEGIN

/* Maps `path` read-only. *out_data is NULL for an empty file. T5_ERR_IO names the path. Unmap with t5_file_unmap(). */
t5_status t5_file_map(const char *path, const void **out_data, size_t *out_bytes, t5_error *err);
void t5_file_unmap(const void *data, size_t n_bytes); /* accepts NULL */
/* A part of a map that will not be read soon: its pages leave memory, and come back from the file when they are. */
void t5_file_forget(const void *data, size_t n_bytes);
/* Reads a regular file of at most `bytes_max` into a malloc'ed, NUL-terminated buffer; the caller frees it. */
t5_status t5_file_read(const char *path, size_t bytes_max, char **out_text, size_t *out_bytes, t5_error *err);
/* True when something other than a folder has that name, if only a link to nothing or a file that others own: it is
 * meant to be read, and reading it says what is wrong with it. Where nothing has it, errno tells why. */
bool t5_file_exists(const char *path);
/* Which file to replace by a rename when `path` is to be written: the one that links lead to. T5_ERR_IO when that is a
 * device, a pipe or a folder, whose place a file must not take. */
t5_status t5_file_target(const char *path, char out[PATH_MAX], t5_error *err);
/* Writes "dir/name" into `out`. T5_ERR_ARG when it does not fit. */
t5_status t5_path_join(char *out, size_t out_bytes, const char *dir, const char *name, t5_error *err);

T5_C_END
