/* base/error.c: see error.h. No state: any thread, its own t5_error. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Most texts of T5_ERR_NOMEM say what was wanted and how much, which tells people nothing without the reason. */
static void tell_memory(t5_error *err)
{
    static const char reason[] = "out of memory: ";
    if (strstr(err->text, "out of memory") != NULL) return;
    memmove(err->text + strlen(reason), err->text, sizeof err->text - strlen(reason));
    memcpy(err->text, reason, strlen(reason));
    err->text[sizeof err->text - 1] = '\0';
}

t5_status t5_error_set(t5_error *err, t5_status status, const char *file, int line, const char *format, ...)
{
    if (err->status != T5_OK) return status;
    err->status = status;
    err->file = file;
    err->line = line;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (status == T5_ERR_NOMEM) tell_memory(err);
    return status;
}

t5_status t5_error_retry_after(t5_error *err, int seconds)
{
    if (err->retry_after_s == 0) err->retry_after_s = seconds;
    return err->status;
}

void t5_error_clear(t5_error *err)
{
    err->status = T5_OK;
    err->retry_after_s = 0;
    err->file = "";
    err->line = 0;
    err->text[0] = '\0';
}

const char *t5_status_name(t5_status status)
{
    switch (status) {
    case T5_OK:
        return "ok";
    case T5_ERR_ARG:
        return "bad argument";
    case T5_ERR_NOMEM:
        return "out of memory";
    case T5_ERR_IO:
        return "input/output error";
    case T5_ERR_FORMAT:
        return "bad format";
    case T5_ERR_DEVICE:
        return "device error";
    case T5_ERR_BUSY:
        return "busy";
    case T5_ERR_TIMEOUT:
        return "timeout";
    }
    return "unknown status";
}
