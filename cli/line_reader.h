/* cli/line_reader.h: lines of a file or pipe, one at a time, of at most 64 MB. A read that waits for a slow writer can
 * be ended from another thread, which stdio's getline() does not allow. A UTF-8 byte order mark at the start, which
 * some editors write, is no part of the first line. */
#pragma once
#include "base/error.h"
#include <stddef.h>

typedef struct t5_line_reader t5_line_reader;

/* `path` NULL or "-" is standard input. Close with t5_line_reader_close(). */
t5_status t5_line_reader_open(const char *path, t5_line_reader **out, t5_error *err);
void t5_line_reader_close(t5_line_reader *r); /* accepts NULL; nobody may be reading */
/* "stdin" or the path, for messages. */
const char *t5_line_reader_name(const t5_line_reader *r);
/* The next line without its newline, malloc'ed and NUL-terminated, which the caller frees; NULL at the end and after
 * t5_line_reader_stop(). One thread reads. */
t5_status t5_line_reader_next(t5_line_reader *r, char **out_text, size_t *out_bytes, t5_error *err);
/* Wakes the reading thread and ends its input. Any thread. */
void t5_line_reader_stop(t5_line_reader *r);
