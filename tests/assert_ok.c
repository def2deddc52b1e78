/* tests/assert_ok.c: see assert_ok.h. */
#include "tests/assert_ok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

void assert_ok(t5_status status, const t5_error *err)
{
    if (status != T5_OK) fail_msg("%s: %s (%s:%d)", t5_status_name(status), err->text, err->file, err->line);
}
