/* base/assert.c: see assert.h. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void t5_assert_fail(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
